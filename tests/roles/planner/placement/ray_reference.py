"""Ray's own answer: where a real cluster puts placement groups. Runs where Ray 2.60 is; imports nothing of ours.

    python ray_reference.py NODES SEED <cases.jsonl >answers.jsonl

A case is ``{"hosts": [[cpus, gpus, type], ...], "groups": [[[bundle, ...], strategy], ...]}``; its answer has for each
group the host of each bundle, or null where Ray leaves it pending.

One cluster of large nodes serves all cases: each case gives every host a node of its own, at random, and fills that
node up to what the host is to have left. Ray's scorer and its raylets look at what is available alone, so that a large
node filled up to a host's size is that host.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from typing import Any

REPORT_S = 0.01
# Not /tmp/ray, which may be another cluster's; short, as it is part of a socket's path.
DIRECTORY = tempfile.mkdtemp(prefix="rrr", dir="/tmp")
os.environ.update(
    {
        "RAY_TMPDIR": DIRECTORY,
        # Cores may be shared.
        "RAY_agent_register_timeout_ms": "120000",
        "RAY_gcs_create_placement_group_retry_min_interval_ms": "2",
        "RAY_gcs_create_placement_group_retry_max_interval_ms": "4",
        "RAY_raylet_report_resources_period_milliseconds": str(int(REPORT_S * 1000)),
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
        "RAY_health_check_timeout_ms": "600000",
    }
)

import ray  # noqa: E402
from ray._private import state  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from ray.util.placement_group import (  # noqa: E402
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

Host = tuple[float, int, str | None]
NODE_CPUS, NODE_GPUS, TYPES = 64, 8, ("H100", "L4")
# What hosts without GPUs have, in the cases: their runtime is the one that needs none.
RUNTIME_CPU = "rayrack_runtime_cpu"
# Each attempt of Ray's that a raylet refuses makes the GCS count that host as fuller; after these none is left to try.
ATTEMPTS = 12
LIMIT_S = 20


def start(nodes: int) -> Cluster:
    """A cluster: a head with nothing to offer, and the nodes, each with a resource of its own to name it by."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "num_gpus": 0,
            "resources": {"poke": 1},
            "object_store_memory": 80 * 2**20,
            "include_dashboard": False,
            "include_log_monitor": False,
        },
    )

    types = {f"accelerator_type:{kind}": 1 for kind in TYPES}
    for number in range(nodes):
        cluster.add_node(
            wait=False,
            include_log_monitor=False,
            num_cpus=NODE_CPUS,
            num_gpus=NODE_GPUS,
            object_store_memory=80 * 2**20,
            resources={f"node{number}": 1, RUNTIME_CPU: 1, **types},
        )
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    return cluster


def settle() -> None:
    """Let reports of the raylets that are under way arrive."""
    time.sleep(3 * REPORT_S)


def poke() -> None:
    """Make Ray look at what is pending now and not at its next tick; on the head, whose resources nobody wants."""
    group = placement_group([{"poke": 0.01}])
    group.wait(LIMIT_S)
    remove_placement_group(group)


def filler(number: int, host: Host | None) -> PlacementGroup:
    cpus, gpus, kind = host or (0, 0, None)
    taken = {"CPU": NODE_CPUS - cpus, "GPU": NODE_GPUS - gpus, f"node{number}": 0.01}
    taken[RUNTIME_CPU] = 0 if host and not gpus else 1
    taken |= {f"accelerator_type:{other}": 1 for other in TYPES if other != kind or not gpus}
    return placement_group([{name: amount for name, amount in taken.items() if amount}], strategy="STRICT_PACK")


def placed(group: PlacementGroup, numbers: dict[str, int]) -> list[int] | None:
    """The node of each bundle, or None when Ray has tried often enough."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        table = placement_group_table(group)
        if table["state"] == "CREATED":
            return [numbers[table["bundles_to_node_id"][index]] for index in range(len(table["bundles"]))]
        stats = table["stats"]
        if stats["scheduling_state"] == "INFEASIBLE" or stats["scheduling_attempt"] >= ATTEMPTS:
            return None
        if time.monotonic() > deadline:
            raise TimeoutError(f"Ray has neither placed a group nor tried often enough: {table}")
        poke()


def answer(case: dict[str, Any], nodes: int, numbers: dict[str, int], chosen: random.Random) -> list[list[int] | None]:
    """Where Ray puts the groups of a case. One that stays pending is taken away, like a model that did not start."""
    hosts = dict(zip(chosen.sample(range(nodes), len(case["hosts"])), range(len(case["hosts"])), strict=True))
    fillers = [filler(number, case["hosts"][hosts[number]] if number in hosts else None) for number in range(nodes)]
    groups: list[PlacementGroup] = []
    answers: list[list[int] | None] = []
    for each in fillers:
        if not each.wait(LIMIT_S):
            raise TimeoutError("a node could not be filled")
    settle()
    for bundles, strategy in case["groups"]:
        group = placement_group(bundles, strategy=strategy)
        group.wait(0.01)
        where = placed(group, numbers)
        answers.append(None if where is None else [hosts[number] for number in where])
        if where is None:
            remove_placement_group(group)
        else:
            groups.append(group)
        settle()
    for each in (*groups, *fillers):
        remove_placement_group(each)
    wait_until_empty()
    return answers


def wait_until_empty() -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        settle()
        nodes = state.available_resources_per_node().values()
        full = [each for each in nodes if each.get("CPU") == NODE_CPUS and each.get("GPU") == NODE_GPUS]
        if len(full) == len(nodes) - 1:
            return
    raise TimeoutError("the groups of a case were not given back")


def main() -> None:
    nodes, chosen = int(sys.argv[1]), random.Random(int(sys.argv[2]))
    cluster = start(nodes)
    try:
        numbers: dict[str, int] = {}
        for node in ray.nodes():
            for name in node["Resources"]:
                if name.removeprefix("node").isdigit():
                    numbers[node["NodeID"]] = int(name.removeprefix("node"))
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), nodes, numbers, chosen)), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(DIRECTORY, ignore_errors=True)


if __name__ == "__main__":
    main()
