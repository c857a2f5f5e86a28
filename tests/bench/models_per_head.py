"""``python -m tests.bench.models_per_head``: what one head costs as its models become more, on a blank host of a lab.

Everything is real but the engines (``stand_in_application``): vLLM takes 2 GB for each, so fifty cannot be had. Writes
its table to docs/figures.md. LAB_DIR, LAB_NET and LAB_BRIDGE name the lab, which is made anew and removed at the end;
with RAYRACK_KEEP_LAB=1 it is taken as it is and left up.
"""

import argparse
import itertools
import json
import math
import os
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.bench import report
from tests.bench.deploys import DeployError, changes_in
from tests.lab.entrance import open_gateway
from tests.lab.lab import Lab, LabError, Result, run

HOST = "h1"
SIZES = (1, 10, 25, 50, 100)
# Growth is fitted from here on: below, what is there without any model is most of each figure.
FIT_FROM = 10
CPUS = 2 * SIZES[-1]
QUIET_S = 60.0
SETTLE_S = 10.0
LAST_STARTS = 5
MEMORY_LIMIT_MIB = 9 * 1024
ENGINE_ENVIRONMENT = "/opt/rayrack/lib/engine_environment"
START_LIMIT_S = 60
PART = "models-per-head"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """What was measured with ``models`` models: times in seconds, ``cores`` and ``mib`` by kind of process."""

    models: int
    start_s: float
    """From one model's ready to the next one's, median of the last few."""
    unchanged_s: float
    unchanged_cpu_s: float
    """Processor time of that deploy on the operator's machine: what is left of its seconds when nothing else runs."""
    plan_s: float
    list_s: float
    """The gateway's /v1/models."""
    get_s: float
    get_kib: float
    put_s: float
    cores: Mapping[str, float]
    machine_cores: float
    mib: Mapping[str, float]
    processes: Mapping[str, int]

    @property
    def watcher_mib(self) -> float:
        return self.mib["watchers"] / self.models

    @property
    def replica_mib(self) -> float:
        return self.mib["replicas"] / self.models


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The power of x with which y grows: the slope of the least-squares line through the logarithms.

    Raises:
        ValueError: there are fewer than two different x.
    """
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    if len(set(xs)) < 2:
        raise ValueError("growth needs two sizes")
    return statistics.linear_regression(xs, ys).slope


def start_s(ready_at_s: Sequence[float], started: int) -> float:
    """Median seconds between the last models that became ready, of the ``started`` that this deploy has started.

    With one alone there is nothing to tell the time from: nan.
    """
    last = ready_at_s[-min(started, LAST_STARTS + 1) :]
    gaps = [later - earlier for earlier, later in itertools.pairwise(last)]
    return statistics.median(gaps) if gaps else math.nan


ROWS: tuple[tuple[str, Callable[[Size], float], str], ...] = (
    ("start of one more model, s", lambda size: size.start_s, ".1f"),
    ("GET of the applications, s", lambda size: size.get_s, ".3f"),
    ("its answer, KiB", lambda size: size.get_kib, ".0f"),
    ("PUT of the whole config, s", lambda size: size.put_s, ".3f"),
    ("watchers, % of a core", lambda size: 100 * size.cores["watchers"], ".1f"),
    ("dashboard, % of a core", lambda size: 100 * size.cores["dashboard"], ".1f"),
    ("Serve's controller, % of a core", lambda size: 100 * size.cores["controller"], ".1f"),
    ("replicas without an engine, % of a core", lambda size: 100 * size.cores["replicas"], ".1f"),
    ("all of the head, % of a core", lambda size: 100 * sum(size.cores.values()), ".0f"),
    ("memory of one watcher, MiB", lambda size: size.watcher_mib, ".1f"),
    ("memory of one replica without an engine, MiB", lambda size: size.replica_mib, ".0f"),
    ("memory of the head without replicas, MiB", lambda size: sum(size.mib.values()) - size.mib["replicas"], ".0f"),
    ("deploy that changes nothing, s", lambda size: size.unchanged_s, ".1f"),
    ("its processor time on the operator's machine, s", lambda size: size.unchanged_cpu_s, ".1f"),
    ("plan alone, s", lambda size: size.plan_s, ".1f"),
    ("gateway's `/v1/models`, ms", lambda size: 1000 * size.list_s, ".1f"),
)


def table(sizes: Sequence[Size]) -> str:
    """One column for each number of models, and the power of that number with which a figure grows."""
    fitted = [size for size in sizes if size.models >= FIT_FROM]
    rows = []
    for name, value, shown in ROWS:
        cells = ["" if math.isnan(value(size)) else format(value(size), shown) for size in sizes]
        growth = f"{exponent([(size.models, value(size)) for size in fitted]):.2f}" if len(fitted) > 1 else ""
        rows.append([name, *cells, growth])
    rows.append(["the whole machine meanwhile, of its cores", *(f"{size.machine_cores:.1f}" for size in sizes), ""])
    return report.table(["models", *(str(size.models) for size in sizes), "power"], rows)


def inventory(lab: Lab) -> str:
    """A head alone. Ray is told of more CPUs than there are, as the plan counts two for each model."""
    data = {
        "ssh_hostname": lab.address(HOST),
        "ssh_user": "root",
        "ssh_key": str(lab.directory / "id"),
        "ssh_known_hosts_file": str(lab.directory / "known_hosts"),
        "ssh_strict_host_key_checking": "yes",
        "runtime": "cpu",
        "runtime_wheelhouse": "/srv/wheelhouse",
        "gpus": 0,
        "num_cpus": CPUS,
        "object_store_memory_mib": 200,
        "min_free_gib_ray": 1,
        "min_free_gib_runtime": 5,
        "min_free_gib_weights": 0.5,
        "disk_used_max_percent": 97,
    }
    return f"head = [({HOST!r}, {data!r})]\n"


def model_list(models: int) -> str:
    """YAML, as JSON is."""
    defaults = {
        "accelerator_type": "cpu",
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "engine_kwargs": {"kv_cache_memory_bytes": 2**27},
    }
    entries = [{"model_id": f"m{number:03}", "model_source": "/srv/models/tiny-a"} for number in range(models)]
    return json.dumps({"defaults": defaults, "models": entries})


@dataclass(frozen=True)
class Bench:
    """One lab with its inventory and list in ``directory``."""

    lab: Lab
    directory: Path
    tell: Tell

    @property
    def _inventory(self) -> str:
        return str(self.directory / "inventory.py")

    @property
    def _models(self) -> tuple[str, str]:
        return "--data", f"models_file={self.directory / 'models.yaml'}"

    def prepare(self) -> None:
        """A blank host that has the stand-in before the models' own module comes."""
        self.lab.up(1, self.tell)
        (self.directory / "inventory.py").write_text(inventory(self.lab))
        package = f"{ENGINE_ENVIRONMENT}/rayrack_application"
        text = (Path(__file__).parent / "stand_in_application.py").read_text()
        self.lab.ssh(HOST, f"mkdir -p -m 755 {package} && printf %s {shlex.quote(text)} >{package}/__init__.py")

    def measure(self, models: int, started: int) -> Size:
        """Deploy a list of ``models``, ``started`` more than before, and look at the head while nothing is asked."""
        (self.directory / "models.yaml").write_text(model_list(models))
        self.tell(f"{models} models: deploying {started} more")
        limit_s = 900 + START_LIMIT_S * started
        self.lab.deploy(*self._models, inventory=self._inventory, timeout_s=limit_s)
        time.sleep(SETTLE_S)
        self.tell(f"{models} models: looking at a quiet head for {QUIET_S:.0f} s")
        found = self._probe()
        self.tell(f"{models} models: a deploy that changes nothing, and the plan alone")
        before_s = children_cpu_s()
        unchanged_s, deploy = timed(lambda: self.lab.deploy(*self._models, inventory=self._inventory))
        unchanged_cpu_s = children_cpu_s() - before_s
        if changes_in(deploy.stdout):
            raise DeployError(f"a deploy that should change nothing did:\n{deploy.stdout[-4000:]}")
        plan_s, _ = timed(self._plan)
        ready_at_s = found.pop("ready_at_s")
        return Size(
            models=models,
            start_s=start_s(ready_at_s, started),
            unchanged_s=unchanged_s,
            unchanged_cpu_s=unchanged_cpu_s,
            plan_s=plan_s,
            list_s=self._list_s(models),
            **found,
        )

    def _probe(self) -> dict[str, Any]:
        text = (Path(__file__).parent / "head_probe.py").read_text()
        said = self.lab.read(HOST, f"python3 -c {shlex.quote(text)} {QUIET_S}", timeout_s=QUIET_S + 300)
        found: dict[str, Any] = json.loads(said)
        return found

    def _plan(self) -> Result:
        """`make plan`, which ends with 0 as there is nothing to do."""
        command = [sys.executable, "-m", "deploy.inputs.make_plan", self._inventory, *self._models]
        return run(command, env=self.lab.environment, timeout_s=300, check=True)

    def _list_s(self, models: int) -> float:
        """Median seconds of the gateway's list of models, which has all of them, each over a new TLS connection."""
        entrance, took = open_gateway(self.lab, HOST, key_name="bench", again=True), []
        for _ in range(10):
            seconds, answer = timed(lambda: entrance.ask("/v1/models"))
            if len(answer.json()["data"]) != models:
                raise LabError(f"/v1/models lists {len(answer.json()['data'])} of {models} models")
            took.append(seconds)
        return statistics.median(took)


T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.monotonic()
    result = work()
    return time.monotonic() - began, result


def children_cpu_s() -> float:
    """Processor time of the commands that this process has run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def expected_mib(size: Size, models: int) -> float:
    """The head's memory with ``models``, if each more takes what the ones that are there take."""
    return sum(size.mib.values()) + (models - size.models) * (size.replica_mib + size.watcher_mib)


def measure(bench: Bench, wanted: Sequence[int]) -> list[Size]:
    """From the smallest on, as far as the memory and the head go."""
    sizes: list[Size] = []
    for models in sorted(wanted):
        if sizes and (mib := expected_mib(sizes[-1], models)) > MEMORY_LIMIT_MIB:
            bench.tell(f"{models} models would take {mib:.0f} MiB: the last size was {sizes[-1].models}")
            break
        try:
            sizes.append(bench.measure(models, models - (sizes[-1].models if sizes else 0)))
        except LabError as error:
            if not sizes:
                raise
            bench.tell(f"{models} models: {error}")
            break
        bench.tell(f"\n{table(sizes)}")
    return sizes


def tell(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.models_per_head", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of models (default: %(default)s)")
    chosen = parser.parse_args()
    lab, keep = Lab.from_environment(), os.environ.get("RAYRACK_KEEP_LAB") == "1"
    if not keep:
        lab.down(keep_cache=True)
    try:
        with tempfile.TemporaryDirectory(prefix="rayrack-heads-") as directory:
            bench = Bench(lab, Path(directory), tell)
            bench.prepare()
            sizes = measure(bench, chosen.sizes)
    except (LabError, DeployError) as error:
        sys.exit(f"bench: {error}")
    finally:
        if not keep:
            lab.down(keep_cache=True)
    versions = {"ray": "2.60.0"}
    text = f"{report.conditions(versions)} Load of the machine at the end {os.getloadavg()[2]:.1f}.\n\n{table(sizes)}"
    report.write({PART: text})
    print(text)


if __name__ == "__main__":
    main()
