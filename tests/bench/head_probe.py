"""Runs on the head, as root: what its models cost it, as one JSON object. Uses the programs of the models' units.

head_probe SECONDS: length of the quiet stretch over which processor time is counted.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, "/opt/rayrack/lib")
import model_units
import serve_api
from model_host import ModelHost

# By what stands in a process's command line; the first that fits.
KINDS = {
    "watchers": "bin/model_unit run",
    "replicas": "ray::ServeReplica",
    "controller": "ray::ServeController",
    "dashboard": "dashboard",
    "gateway": "/etc/rayrack/gateway/haproxy.cfg",
    "haproxy": "/bin/haproxy",
    "proxy manager": "ray::HAProxyManager",
    "agent": "ray::DashboardAgent",
    "gcs": "gcs_server",
    "raylet": "raylet",
}
TIMES = 5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def processes() -> dict[int, str]:
    """The kind of each process; `other` is Ray's remaining ones and the system's."""
    found = {}
    # Whose command lines hold this text.
    probe = (os.getpid(), os.getppid())
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if command and int(directory.name) not in probe:
            found[int(directory.name)] = next((kind for kind, part in KINDS.items() if part in command), "other")
    return found


def cpu_s(pid: int) -> float | None:
    """Processor time of a process so far (proc(5): utime and stime of stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def pss_mib(pid: int) -> float:
    """Memory of a process, with its share of what it has in common with others (proc(5): smaps_rollup)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0)


def machine_busy_s() -> float:
    """Processor time of all that runs on the machine, other hosts of the lab included."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def quiet(seconds: float) -> dict[str, Any]:
    """Cores in use by each kind, and by the whole machine, over a stretch in which nothing is asked."""
    began, busy = time.monotonic(), machine_busy_s()
    before = {pid: cpu_s(pid) for pid in processes()}
    time.sleep(seconds)
    cores: dict[str, float] = defaultdict(float)
    lasted = time.monotonic() - began
    for pid, kind in processes().items():
        used = cpu_s(pid)
        if used is not None:
            cores[kind] += (used - (before.get(pid) or 0)) / lasted
    return {"cores": cores, "machine_cores": (machine_busy_s() - busy) / lasted}


def memory() -> dict[str, Any]:
    number: dict[str, int] = defaultdict(int)
    mib: dict[str, float] = defaultdict(float)
    for pid, kind in processes().items():
        number[kind] += 1
        mib[kind] += pss_mib(pid)
    return {"processes": number, "mib": mib}


def rest() -> dict[str, float]:
    """Median seconds of a GET of the applications and of a PUT of the whole config, by the code of the units."""
    environ = {name: value for file in model_units.RAY_ENV_FILES for name, value in model_units.variables(file).items()}
    host = ModelHost.from_environ({**environ, "RAY_AUTH_TOKEN_PATH": model_units.RAY_TOKEN})
    api = serve_api.ServeApi(
        host.dashboard_url,
        host.token,
        lock=host.config_lock,
        serve_host=host.serve_host,
        serve_port=host.serve_port,
    )
    took: dict[str, list[float]] = defaultdict(list)
    sizes = []
    plain: Callable[..., bytes] = serve_api.request

    def timed(url: str, *, method: str = "GET", **options: Any) -> bytes:
        began = time.monotonic()
        answer = plain(url, method=method, **options)
        took[method].append(time.monotonic() - began)
        sizes.append(len(answer))
        return answer

    serve_api.request = timed
    for _ in range(TIMES):
        applications = api.applications()
    get_s = statistics.median(took["GET"])
    name, app = sorted(applications.items())[-1]
    for _ in range(TIMES):
        # The config as it is: what Serve has to do for one that changed comes with a start.
        api.change_application(name, app["deployed_app_config"])
    return {
        "get_s": get_s,
        "put_s": statistics.median(took["PUT"]),
        "get_kib": max(sizes) / 1024,
    }


def ready_at_s() -> list[float]:
    """When each model's unit became ready, in seconds since the boot, in that order."""
    command = ["systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "rayrack-model@*.service"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    return sorted(int(line.partition("=")[2]) / 1e6 for line in shown.splitlines() if line)


if __name__ == "__main__":
    found = quiet(float(sys.argv[1]))
    print(json.dumps({**found, **memory(), **rest(), "ready_at_s": ready_at_s()}))
