"""What a command of the operator's prints: its output is a secret, so it appears nowhere, in no error either."""

import os
import selectors
import subprocess
import time
from collections.abc import Sequence

from roles.errors import InputError

# Time to type a passphrase into the window that `pass` opens.
LIMIT_S = 60.0
_CHUNK = 64 * 1024


def of(words: Sequence[str], where: str, max_bytes: int, limit_s: float = LIMIT_S) -> bytes:
    """What the program prints on stdout, up to a little more than ``max_bytes``.

    Raises:
        InputError: it cannot be run, fails, or takes too long. The line has its name, and the last line of its stderr.
    """
    name = words[0]
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise InputError(f"{where}: {name}: cannot be run: {error.strerror}") from None
    with process:
        try:
            out, said = _read(process, max_bytes, time.monotonic() + limit_s)
        except TimeoutError:
            raise InputError(f"{where}: {name}: not done after {limit_s:g} s") from None
        finally:
            process.kill()  # nothing more of it is wanted; one that has ended is left alone
    if process.returncode and len(out) <= max_bytes:
        reason = _last_line(said, out)
        raise InputError(f"{where}: {name}: exit status {process.returncode}{f': {reason}' if reason else ''}")
    return out


def _read(process: subprocess.Popen[bytes], max_bytes: int, deadline: float) -> tuple[bytes, bytes]:
    """stdout and the end of stderr. Not ``communicate``, which would take all that a program prints without end."""
    out = said = b""
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and len(out) <= max_bytes:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    out += chunk
                else:
                    said = (said + chunk)[-_CHUNK:]
    if len(out) <= max_bytes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
    return out[: max_bytes + 1], said


def _last_line(said: bytes, out: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    line = "".join(character for character in lines[-1] if character.isprintable())[:200]
    printed = [part for part in out.decode(errors="replace").split() if len(part) >= 8]
    return "(what it says holds what it printed)" if any(part in line for part in printed) else line
