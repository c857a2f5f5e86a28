"""The lab for Python: `lab.sh` and the commands an operator would type, run as processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LAB_SH = ROOT / "tests/lab/lab.sh"
INVENTORY = "inventories/lab.py"
DEFAULT_DIRECTORY = Path("/var/tmp/rayrack-lab")
TELL_EVERY_S = 10
LOG_LINES_SHOWN = 80

Tell = Callable[[str], None]
Result = subprocess.CompletedProcess[str]


class LabError(Exception):
    """A command of the lab failed or took too long; the text ends with what it said."""


@dataclass(frozen=True)
class Lab:
    """One lab. Two labs need different directories, networks and bridges; they may share a cache."""

    directory: Path = DEFAULT_DIRECTORY
    net: str = "10.77.0"
    bridge: str = "lab0"
    cache: Path | None = None
    loops: bool = False
    """The hosts have this machine's loop devices, to mount image files with."""

    @classmethod
    def from_environment(cls) -> "Lab":
        """The lab that lab.sh would speak of in this environment."""
        directory = Path(os.environ.get("LAB_DIR", cls.directory))
        cache = Path(os.environ["LAB_CACHE"]) if "LAB_CACHE" in os.environ else None
        net, bridge = os.environ.get("LAB_NET", cls.net), os.environ.get("LAB_BRIDGE", cls.bridge)
        return cls(directory, net, bridge, cache, loops=bool(os.environ.get("LAB_LOOP")))

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which lab.sh and inventories/lab.py speak of this lab."""
        return os.environ | {
            "LAB_DIR": str(self.directory),
            "LAB_CACHE": str(self.cache or self.directory / "cache"),
            "LAB_NET": self.net,
            "LAB_BRIDGE": self.bridge,
            "LAB_LOOP": "1" if self.loops else "",
        }

    def address(self, host: str) -> str:
        return f"{self.net}.{10 + int(host.removeprefix('h'))}"

    @property
    def machine(self) -> str:
        """The address of this machine for the hosts."""
        return f"{self.net}.1"

    @property
    def proxy(self) -> str:
        """The hosts' way to package indexes."""
        return f"http://{self.machine}:3128"

    def hosts(self) -> tuple[str, ...]:
        return tuple(line.split()[0] for line in self.command("status").stdout.splitlines())

    def state(self, host: str) -> str:
        """`up`, `no-ssh` or `down`."""
        states = {line.split()[0]: line.split()[2] for line in self.command("status").stdout.splitlines()}
        return states[host]

    def command(self, *arguments: str, timeout_s: float = 120, check: bool = True, **environment: str) -> Result:
        """`lab.sh ARGUMENTS`, quietly."""
        return run([str(LAB_SH), *arguments], env=self.environment | environment, timeout_s=timeout_s, check=check)

    def up(self, hosts: int, tell: Tell) -> None:
        """Bring up h1..h`hosts`; building the base system takes minutes, once."""
        log = self.directory.with_suffix(".up.log")
        run_and_tell([str(LAB_SH), "up", str(hosts)], "hosts", log, tell, env=self.environment, timeout_s=900)
        log.unlink()

    def down(self, *, keep_cache: bool) -> None:
        """Remove the hosts and every trace of them."""
        self.command("down", KEEP_CACHE="1" if keep_cache else "")

    def ssh(self, host: str, command: str, *, user: str = "root", timeout_s: float = 60, check: bool = True) -> Result:
        """A shell command on a host."""
        ssh = ["ssh", "-F", str(self.directory / "ssh_config"), "-l", user, host, command]
        return run(ssh, env=self.environment, timeout_s=timeout_s, check=check)

    def read(self, host: str, command: str, *, timeout_s: float = 60) -> str:
        """What a shell command on a host prints, stripped."""
        return self.ssh(host, command, timeout_s=timeout_s).stdout.strip()

    def cut(self, host: str) -> None:
        self.command("cut", host)

    def heal(self, host: str) -> None:
        self.command("heal", host)

    def crash(self, host: str) -> None:
        """A power cut."""
        self.command("crash", host)

    def remove(self, host: str) -> None:
        """A host and all that is on it."""
        self.command("remove", host)

    def stop(self, host: str) -> None:
        """An orderly power-off."""
        self.command("stop", host)

    def start(self, host: str) -> None:
        self.command("start", host)

    def full(self, host: str, directory: str, mib: int) -> None:
        """Put a full file system over a directory."""
        self.command("full", host, directory, str(mib))

    def unfull(self, host: str, directory: str) -> None:
        self.command("unfull", host, directory)

    def reboot(self, host: str, *, timeout_s: float = 120) -> None:
        """Reboot a host from inside and wait until SSH answers again."""
        before = self._boot_id(host)
        self.ssh(host, "systemctl reboot", check=False)
        wait_until(lambda: self._boot_id(host) not in ("", before), f"{host} has booted again", timeout_s)

    def _boot_id(self, host: str) -> str:
        """Empty while the host does not answer: what ssh then says of that is no boot of it."""
        answer = self.ssh(host, "cat /proc/sys/kernel/random/boot_id", timeout_s=30, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    def pyinfra(
        self,
        *arguments: str,
        inventory: str = INVENTORY,
        check: bool = True,
        timeout_s: float = 900,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """`pyinfra INVENTORY ARGUMENTS` as an operator types it, stdout and stderr together in stdout."""
        command = [program("pyinfra"), inventory, *arguments]
        return run(command, env=self.environment | dict(env or {}), timeout_s=timeout_s, check=check)

    def deploy(self, *arguments: str, inventory: str = INVENTORY, check: bool = True, timeout_s: float = 900) -> Result:
        """`pyinfra INVENTORY deploy/ -y ARGUMENTS`."""
        return self.pyinfra("deploy/", "-y", *arguments, inventory=inventory, check=check, timeout_s=timeout_s)

    def deploy_and_tell(self, tell: Tell, *arguments: str, timeout_s: float = 1500) -> None:
        """A deploy that shows that it lives; it raises with the end of its log when it fails."""
        command = [program("pyinfra"), INVENTORY, "deploy/", "-y", *arguments]
        log = self.directory / "deploy.log"
        run_and_tell(command, "deploy", log, tell, env=self.environment, timeout_s=timeout_s)


def program(name: str) -> str:
    """A program of the virtual environment this Python runs in."""
    return str(Path(sys.executable).parent / name)


def run(command: Sequence[str], *, env: Mapping[str, str], timeout_s: float, check: bool) -> Result:
    """Run a command in the checkout; stdout and stderr come together."""
    try:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            timeout=timeout_s,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        said = expired.stdout.decode(errors="replace") if isinstance(expired.stdout, bytes) else expired.stdout or ""
        raise LabError(f"{_shown(command)}: not done after {timeout_s:.0f} s; it said:\n{_end(said)}") from None
    if check and result.returncode:
        raise LabError(f"{_shown(command)}: exit code {result.returncode}; it said:\n{_end(result.stdout)}")
    return result


def run_and_tell(
    command: Sequence[str], what: str, log: Path, tell: Tell, *, env: Mapping[str, str], timeout_s: float
) -> None:
    """Run a long command with its output in `log`, and tell every few seconds how far it is."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while process.poll() is None:
            elapsed = time.monotonic() - started
            if elapsed > timeout_s:
                raise LabError(f"{_shown(command)}: not done after {timeout_s} s; it said:\n{_end(log.read_text())}")
            try:
                process.wait(TELL_EVERY_S)
            except subprocess.TimeoutExpired:
                tell(f"{what}: {time.monotonic() - started:4.0f} s  {_last_line(log.read_text(errors='replace'))}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise LabError(f"{_shown(command)}: exit code {process.returncode}; it said:\n{_end(log.read_text())}")
    tell(f"{what}: done in {time.monotonic() - started:.0f} s")


def wait_until(true: Callable[[], object], what: str, timeout_s: float, every_s: float = 0.5) -> None:
    """Wait for something to come true.

    Raises:
        LabError: it did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s:.0f} s and this did not come true: {what}")
        time.sleep(every_s)


def _shown(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])


def _end(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES_SHOWN:])


def _last_line(text: str) -> str:
    return next((line.strip()[:100] for line in reversed(text.splitlines()) if line.strip()), "")
