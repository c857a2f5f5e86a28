"""The gateway's running processes and the keys that each holds, by HAProxy's master socket. Standard library only.

After a reload the old processes go on with the requests they have, for up to an hour, and take new ones on connections
that clients keep: a key must go from all of them.
"""

import socket
import time
from collections.abc import Mapping
from pathlib import Path

import gateway_keys
from gateway_keys import KeyProblem

ANSWERED_WITHIN_S = 10.0
# A reload may start a process while keys are being put into the others.
SETTLED_WITHIN_S = 30.0
# One command is to fit HAProxy's buffer, which is not below 128 KiB.
LINES_AT_ONCE = 100
_GONE = "Can't find the target PID"
Maps = Mapping[str, Mapping[str, str]]


class NotRunningError(Exception):
    """There is no gateway to talk to."""


class ProcessGoneError(Exception):
    """A process has ended since it was listed."""


class Processes:
    """The workers of one HAProxy master."""

    def __init__(self, master: Path) -> None:
        self._master = master

    def pids(self) -> list[int]:
        """Every worker, those of earlier loads included.

        Raises:
            NotRunningError: nobody listens on the master socket.
        """
        rows = (line.split() for line in self._ask("show proc").splitlines())
        return [int(row[0]) for row in rows if len(row) > 1 and row[1] == "worker"]

    def differences(self, wanted: Maps) -> list[str]:
        """What a process holds otherwise than ``wanted``."""
        found = []
        for pid in self.pids():
            try:
                for path, values in wanted.items():
                    told = gateway_keys.differences(values, self._held(pid, path))
                    found += [f"process {pid}: {what}" for what in told]
            except ProcessGoneError:
                continue
        return found

    def hold(self, wanted: Maps) -> int:
        """Bring every process to ``wanted``; how many there are. Nobody's request is cut off.

        Raises:
            KeyProblem: a process would not take it.
        """
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while True:
            pids = self.pids()
            for pid in pids:
                try:
                    for path, values in wanted.items():
                        if self._held(pid, path) != values:
                            self._replace(pid, path, values)
                except ProcessGoneError:
                    continue
            if not self.differences(wanted) and set(self.pids()) <= set(pids):
                return len(pids)
            if time.monotonic() > deadline:
                raise KeyProblem(
                    f"the gateway's processes do not hold the keys within {SETTLED_WITHIN_S:g} s: run "
                    "`api_keys apply` again, see journalctl -u rayrack-gateway"
                )
            time.sleep(0.1)

    def _held(self, pid: int, path: str) -> dict[str, str]:
        """The map of one process: lines of address, hash and value."""
        rows = [line.split(" ", 2) for line in self._ask(f"@!{pid} show map {path}").splitlines() if line]
        if any(len(row) != 3 or not row[0].startswith("0x") for row in rows):
            raise KeyProblem(f"process {pid} of the gateway does not show {path}: deploy again")
        return {digest: value for _, digest, value in rows}

    def _replace(self, pid: int, path: str, values: Mapping[str, str]) -> None:
        """All of a map at once: requests are answered by the old version until the new one is complete."""
        version = self._ask(f"@!{pid} prepare map {path}").strip().rpartition(" ")[2]
        if not version.isdigit():
            raise KeyProblem(f"process {pid} of the gateway makes no new version of {path}: deploy again")
        lines = [f"{digest} {value}" for digest, value in values.items()]
        for start in range(0, len(lines), LINES_AT_ONCE):
            some = "\n".join(lines[start : start + LINES_AT_ONCE])
            self._do(f"@!{pid} add map @{version} {path} <<\n{some}\n")
        self._do(f"@!{pid} commit map @{version} {path}")

    def _do(self, command: str) -> None:
        if self._ask(command).strip():
            raise KeyProblem(f"the gateway refuses `{command.splitlines()[0]}`: deploy again")

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWERED_WITHIN_S)
            try:
                connection.connect(str(self._master))
            except (FileNotFoundError, ConnectionRefusedError):
                raise NotRunningError from None
            connection.sendall(f"{command}\n".encode())
            answer = b""
            # An answer ends with an empty line; the connection stays.
            while not (answer == b"\n" or answer.endswith(b"\n\n")):
                try:
                    part = connection.recv(65536)
                except TimeoutError:
                    raise KeyProblem(
                        f"the gateway's master does not answer within {ANSWERED_WITHIN_S:g} s at {self._master}: "
                        "see journalctl -u rayrack-gateway"
                    ) from None
                if not part:
                    break
                answer += part
        text = answer.decode(errors="replace")
        if text.startswith(_GONE):
            raise ProcessGoneError
        return text
