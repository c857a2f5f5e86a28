"""What the base system reads from a host."""

import shlex
from collections.abc import Sequence

from pyinfra.api.facts import FactBase

# `ii`: wanted and installed, `hi`: held and installed. Anything else is half there or removed (dpkg-query(1)).
_INSTALLED = ("ii", "hi")


class InstalledPackages(FactBase[frozenset[str]]):
    """Names of the installed Debian packages, and of the virtual packages they provide."""

    def command(self) -> str:
        return r"dpkg-query -W -f '${db:Status-Abbrev}|${Package}|${Provides}\n'"

    @staticmethod
    def default() -> frozenset[str]:
        return frozenset()

    def process(self, output: Sequence[str]) -> frozenset[str]:
        names: set[str] = set()
        for line in output:
            state, package, provides = line.split("|", 2)
            if state.strip() in _INSTALLED:
                names.add(package)
                # "cron-daemon, editor (= 2:9.0)": the versions do not matter here
                names.update(entry.split()[0] for entry in provides.split(",") if entry.strip())
        return frozenset(names)


class TmpfilesDrift(FactBase[list[str]]):
    """Directories that a tmpfiles.d file declares (``d`` lines) and that are missing or have another owner or mode.

    The file itself, when it is missing.
    """

    def command(self, path: str) -> str:
        conf = shlex.quote(path)
        declared = 'awk \'$1 == "d" { print "wanted", $2, $3, $4, $5 }\''
        # stat fails for what is missing; that it is missing is what is wanted to be known.
        found = "xargs -r stat -Lc 'found %n %a %U %G' 2>/dev/null || true"
        return (
            f"if ! [ -e {conf} ]; then echo missing {conf}; else "
            f"{declared} {conf}; awk '$1 == \"d\" {{ print $2 }}' {conf} | {found}; fi"
        )

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: Sequence[str]) -> list[str]:
        wanted: dict[str, tuple[str, ...]] = {}
        found: dict[str, tuple[str, ...]] = {}
        for line in output:
            kind, path, *state = line.split()
            if kind == "missing":
                return [path]
            if kind == "wanted":
                mode, *owner = state
                wanted[path] = (mode.lstrip("0"), *owner)
            else:
                found[path] = tuple(state)
        return [path for path, state in wanted.items() if found.get(path) != state]


class DevShmMib(FactBase[int]):
    """The size of /dev/shm in MiB."""

    def command(self) -> str:
        return "stat -f -c '%S %b' /dev/shm"

    @staticmethod
    def default() -> int:
        return 0

    def process(self, output: Sequence[str]) -> int:
        block_bytes, blocks = map(int, output[0].split())
        return block_bytes * blocks // 2**20
