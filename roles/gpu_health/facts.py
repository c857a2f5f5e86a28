"""What the health gate reads from a host: one round trip, before anything is installed there."""

import base64
import importlib.util
import io
import shlex
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.errors import InputError
from roles.gpu_health.document import Health, parse
from roles.preflight.facts import PROGRAM as HOST_INFO
from roles.storage.facts import PYTHON

HOST = Path(__file__).parent / "host"
PROGRAM = HOST / "gpu_health.py"
# host_info knows how a process' unit is found.
MODULES = (*(HOST / f"{name}.py" for name in ("gpu_nvml", "gpu_kernel_log", "gpu_metrics")), HOST_INFO)
_MAIN = "import sys, gpu_health\nsys.exit(gpu_health.main())\n"
# The journal, dpkg and systemctl have limits of their own, 40 s together.
BESIDES_NVML_S = 60
_SOME_DAY = (2026, 1, 1, 0, 0, 0)


def pynvml() -> Path:
    """NVIDIA's pynvml.py in this environment, one file under the BSD licence that stands in it.

    Raises:
        InputError: when it is not installed, or is another package of that name.
    """
    found = importlib.util.find_spec("pynvml")
    if found is None or found.origin is None:
        raise InputError("nvidia-ml-py is not installed here, which GPU hosts get pynvml.py from: pip install -e .")
    path = Path(found.origin)
    if path.name != "pynvml.py" or "NVIDIA Corporation" not in path.read_text(encoding="utf-8")[:500]:
        raise InputError(f"{path} is not NVIDIA's pynvml.py: pip uninstall pynvml, then pip install -e .")
    return path


@cache
def archive() -> str:
    """The program with all it needs as a zip file that Python can run, in base64."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr(zipfile.ZipInfo("__main__.py", _SOME_DAY), _MAIN)
        for path in (PROGRAM, *MODULES, pynvml()):
            entry = zipfile.ZipInfo(path.name, _SOME_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, path.read_text(encoding="utf-8"))
    return base64.b64encode(packed.getvalue()).decode()


class GpuHealth(FactBase[Health | str]):
    """What gpu_health says of the host's GPUs, or why it cannot be had. NVML may take ``limit_s`` seconds."""

    def command(self, limit_s: int) -> str:
        program = '"$place/gpu_health.pyz"'
        return (
            "place=$(mktemp -d) && trap 'rm -rf \"$place\"' EXIT && trap 'exit 1' HUP INT TERM && "
            f"echo {shlex.quote(archive())} | base64 -d >{program} && "
            f"timeout -k 5 {limit_s + BESIDES_NVML_S} {PYTHON} -EsB {program} --limit {limit_s}"
        )

    @staticmethod
    def default() -> Health | str:
        return "could not be run (the reason stands above)"

    def process(self, output: Sequence[str]) -> Health | str:
        return parse(output[-1])
