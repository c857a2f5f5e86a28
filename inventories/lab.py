"""The disposable hosts of `make lab-up` (docs/lab.md): a head and a worker, without GPUs.

LAB_DIR and LAB_NET say which lab, if it is not the default one.
"""

import os
from pathlib import Path

# Names with an underscore are no groups for pyinfra.
_lab = Path(os.environ.get("LAB_DIR", "/var/tmp/rayrack-lab"))  # noqa: S108 - made by root, for root
_net = os.environ.get("LAB_NET", "10.77.0")

head = [("h1", {"ssh_hostname": f"{_net}.11"})]
workers = [("h2", {"ssh_hostname": f"{_net}.12"})]

rack = (
    ["h1", "h2"],
    {
        "ssh_user": "root",
        "ssh_key": str(_lab / "id"),
        "ssh_known_hosts_file": str(_lab / "known_hosts"),
        "ssh_strict_host_key_checking": "yes",
        "models_file": "inventories/models/lab.yaml",
        "runtime": "cpu",
        # Bound into every host, read-only.
        "runtime_wheelhouse": "/srv/wheelhouse",
        # The hosts share the machine's cores. A replica asks Ray for two CPUs and waits for ever if they are not there.
        "num_cpus": 8,
        "object_store_memory_mib": 200,
        # Both hosts are on one disk of a machine that may be small.
        "min_free_gib_ray": 1,
        "min_free_gib_runtime": 5,
        "min_free_gib_weights": 0.5,
        "cache_gib_per_model": 0.1,
        "disk_used_max_percent": 97,
    },
)
