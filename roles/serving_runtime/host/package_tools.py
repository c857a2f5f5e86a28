"""Runs uv and pip for an installation: settings, progress, a time limit, and their errors in one line.

Standard library only.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from runtimes import RuntimeProblem

PROGRESS_EVERY_S = 10
PR_SET_PDEATHSIG = 1  # prctl(2), linux/prctl.h
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
REASON_MAX_CHARACTERS = 500
# How uv and pip say that a URL gives no answer or not the wanted one. uv then adds the cause in lines of its own.
_NO_ANSWER = re.compile(r"Failed to fetch: (\S+)|connection broken by (.+)")
_CAUSE_IN_PIP = re.compile(r"\[Errno -?\d+\] [^'\")]+|connection failed: [^'\")]+|timed out")


@dataclass(frozen=True)
class Source:
    """Where wheels come from. ``index_url`` and ``http_proxy`` may hold a password: keep them off command lines."""

    wheelhouse: str | None = None
    index_url: str | None = None
    cpu_torch_index_url: str | None = None
    http_proxy: str | None = None
    no_proxy: str | None = None


def environment(source: Source) -> dict[str, str]:
    """The environment of uv and pip: this installation's settings and nobody else's."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "PYTHON"))}
    variables |= {
        "LC_ALL": "C.UTF-8",
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_HTTP_TIMEOUT": "60",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_DEFAULT_TIMEOUT": "60",
    }
    if SYSTEM_CERTIFICATES.is_file():  # so that a site's own certificate authority counts
        variables |= {"SSL_CERT_FILE": str(SYSTEM_CERTIFICATES), "PIP_CERT": str(SYSTEM_CERTIFICATES)}
    if source.index_url:
        variables |= {"UV_DEFAULT_INDEX": source.index_url, "PIP_INDEX_URL": source.index_url}
    # Every file is checked against its hash, so a site's own index may be plain HTTP, which pip refuses unless told.
    urls = [urlsplit(url) for url in (source.index_url, source.cpu_torch_index_url) if url]
    variables["PIP_TRUSTED_HOST"] = " ".join(url.netloc.rpartition("@")[2] for url in urls if url.scheme == "http")
    if source.http_proxy:
        variables |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), source.http_proxy)
    if source.no_proxy:
        variables |= {"no_proxy": source.no_proxy, "NO_PROXY": source.no_proxy}
    return variables


@dataclass
class Runner:
    """Runs the commands of one installation, which all together may take until ``deadline`` (``time.monotonic``)."""

    variables: Mapping[str, str]
    log: Path
    deadline: float
    lock_descriptor: int | None = None

    def run(self, what: str, command: Sequence[str | Path], progress: Callable[[], str] = lambda: "") -> str:
        """Run ``command`` and return what it printed; a failure is one line that starts with ``what``."""
        start = time.monotonic()
        with self.log.open("wb") as log:
            child = subprocess.Popen(
                command,
                env=dict(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
                pass_fds=() if self.lock_descriptor is None else (self.lock_descriptor,),
            )
            try:
                while True:
                    try:
                        code = child.wait(timeout=max(0.1, min(PROGRESS_EVERY_S, self.deadline - time.monotonic())))
                        break
                    except subprocess.TimeoutExpired:
                        if time.monotonic() >= self.deadline:
                            raise RuntimeProblem(f"{what}: not done within the time limit of an installation") from None
                        say(f"{what}: {time.monotonic() - start:.0f} s {progress()}".rstrip())
            finally:
                child.kill()
                child.wait()
        output = self.log.read_text(errors="replace")
        if code != 0:
            raise RuntimeProblem(f"{what}: {reason(output, self.log.parent)}")
        return output


def _end_with_parent() -> None:
    """Runs in the child: when this program is killed, what it started must not go on changing the runtime."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def say(line: str) -> None:
    print(line, flush=True)


def reason(output: str, directory: Path) -> str:
    """Why uv or pip failed, in one line without passwords."""
    text = re.sub(r"//[^/@\s]+@", "//", re.sub(r"\x1b\[[0-9;]*m", "", output))
    if re.search(r"No space left on device|os error 28", text):
        free = shutil.disk_usage(directory).free / 2**30
        return f"disk full: {free:.1f} GiB free for {directory}; make room there, then deploy again"
    if match := re.search(r"Hash mismatch for `([^`]+)`|THESE PACKAGES DO NOT MATCH THE HASHES[^\n]*\n\s+(\S+)", text):
        return f"hash mismatch: the file served for {match[1] or match[2]} is not the one that the lock pins"
    causes = re.findall(r"^\s+cause: (.+)", text, re.MULTILINE)
    if no_answer := _NO_ANSWER.search(text):
        url, said = no_answer.groups()
        cause = ": ".join([url, *causes[-1:]]) if url else "; ".join(_CAUSE_IN_PIP.findall(said)[-1:]) or said
        return f"cannot read the package index ({cause}); check runtime_index_url and http_proxy"
    errors = [line for line in text.splitlines() if line.lower().startswith("error: ")]
    lines = [*errors, *causes] if errors else [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines)[:REASON_MAX_CHARACTERS] or "no reason given"


def main_with_one_line(main: Callable[[], None]) -> None:
    """Run a host program: a problem is one line on stderr and exit 1."""
    try:
        main()
    except RuntimeProblem as problem:
        sys.exit(f"{Path(sys.argv[0]).name}: {problem}")
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        sys.exit(f"{Path(sys.argv[0]).name}: {error.strerror or error}{place}")
