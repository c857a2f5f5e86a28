"""What is known of the secret files on a host: whose they are, and whether they are the ones wanted."""

import hashlib
import secrets
import shlex
from collections.abc import Iterable, Sequence

from pyinfra.api.facts import FactBase

from roles.secrets.secret_file import SecretFile

# pyinfra shows what facts read. A plain digest would let whoever sees it try passwords; this is nobody's but this
# process's, and goes to hosts by stdin.
_SALT = secrets.token_hex(32)


class _Unshown(str):
    """pyinfra shows what a fact is called with."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "(the salt of this run)"


def salt() -> list[str]:
    """For ``host.get_fact(SecretFiles, ..., _stdin=salt())``."""
    return [_Unshown(_SALT)]


def line_of(file: SecretFile) -> str:
    """What ``SecretFiles`` finds of a file that is as it is to be."""
    digest = hashlib.sha256(_SALT.encode() + file.content.get_secret_value().encode()).hexdigest()
    return f"{file.user}:{file.group} {file.mode} {digest}"


class SecretFiles(FactBase[dict[str, str]]):
    """By path: "OWNER:GROUP MODE DIGEST" of each regular file that is there. Needs ``_stdin=salt()``."""

    def command(self, paths: Sequence[str]) -> str:
        return (
            "IFS= read -r salt; "
            f"for path in {shlex.join(paths)}; do "
            'if [ -f "$path" ] && [ ! -L "$path" ]; then '
            """echo "$(stat -c '%U:%G %a' "$path") $({ printf %s "$salt"; cat "$path"; } | sha256sum) $path"; """
            "fi; done"
        )

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: Iterable[str]) -> dict[str, str]:
        found = {}
        for line in output:
            owner, mode, digest, _, path = line.split(maxsplit=4)
            found[path] = f"{owner} {mode} {digest}"
        return found
