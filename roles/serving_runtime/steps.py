"""Installs the serving runtime on a host, and switches to it."""

import json
from collections.abc import Generator
from pathlib import Path

from pyinfra.api.command import FileUploadCommand, PyinfraCommand, StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles import host_programs
from roles.base_system import packages
from roles.serving_runtime.facts import CurrentRuntime
from roles.serving_runtime.lock import Lock, Runtime
from roles.shown_command import ShownCommand

HOST_PROGRAMS = Path(__file__).parent / "host"
RUNTIMES = "/opt/rayrack/runtime"

# A compiler, since engines compile kernels at their first request: without g++ a model is up and dies there. What
# torch (on CPUs) and Triton (on GPUs) compile includes Python.h.
PACKAGES = ("g++", "libgomp1", "libnuma1", "python3-dev")
# The pip that brings uv from an index; a wheelhouse brings uv itself.
PACKAGES_FOR_INDEX = ("ca-certificates", "python3-venv")


@deploy("Serving runtime")
def install(
    *,
    runtime: Runtime,
    lock: Lock,
    wheelhouse: str | None,
    index_url: str | None,
    cpu_torch_index_url: str,
    http_proxy: str | None,
    no_proxy: str,
) -> None:
    """The runtime of ``lock`` is the current one at the end, made from the wheels in ``wheelhouse`` or from an index.

    An interrupted installation is finished by the next run. Nothing is restarted: what runs keeps its runtime.
    """
    packages.present(
        name=f"Packages the {runtime} runtime needs",
        packages=PACKAGES if wheelhouse else (*PACKAGES, *PACKAGES_FOR_INDEX),
    )
    host_programs.install(
        name="Programs that install the runtime",
        programs=[HOST_PROGRAMS / "install_runtime.py"],
        modules=[HOST_PROGRAMS / f"{name}.py" for name in ("lock_wheels", "package_tools", "runtimes")],
    )
    current(
        name=f"Runtime {lock.digest} ({lock.path.stem})",
        lock=lock,
        source={
            "wheelhouse": wheelhouse,
            "index_url": index_url,
            "cpu_torch_index_url": cpu_torch_index_url,
            "http_proxy": http_proxy,
            "no_proxy": no_proxy,
        },
    )


@operation()
def current(lock: Lock, source: dict[str, str | None]) -> Generator[PyinfraCommand, None, None]:
    """
    Make a lock's runtime the current one.

    + lock: the lock
    + source: where wheels come from, as the host program install_runtime reads it
    """
    if host.get_fact(CurrentRuntime) == lock.digest:
        host.noop(f"runtime {lock.digest} is in use")
        return
    uploaded = f"{RUNTIMES}/{lock.digest}.txt"
    yield StringCommand("mkdir", "-p", RUNTIMES)
    yield FileUploadCommand(str(lock.path), uploaded, remote_temp_filename=host.get_temp_filename(uploaded))
    # On standard input, since an index or a proxy may have its password in its URL.
    yield ShownCommand(f"{host_programs.BIN}/install_runtime", uploaded, _stdin=json.dumps(source))
