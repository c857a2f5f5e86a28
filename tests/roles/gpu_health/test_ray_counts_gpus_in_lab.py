"""Ray on a lab host with the fake NVML: it finds the GPUs that the health gate finds, by its own ways."""

import base64
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DeployedRack
from tests.lab import fake_nvml

DIRECTORY = "/srv/fake-nvml"
PROGRAM = """
import json
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as gpus
print(json.dumps([gpus.get_current_node_num_accelerators(), gpus.get_current_node_accelerator_type()]))
"""


@pytest.fixture
def with_two_gpus(rack: DeployedRack, tmp_path: Path) -> Iterator[DeployedRack]:
    """The worker with a driver's library that tells of two H100s."""
    library = base64.b64encode(fake_nvml.build(tmp_path).read_bytes()).decode()
    write = f"mkdir -p {DIRECTORY} && cd {DIRECTORY} && echo {library} | base64 -d >{fake_nvml.LIBRARY}"
    rack.lab.ssh(rack.worker, f"{write} && echo {shlex.quote(fake_nvml.answers(2))} >answers")
    yield rack
    rack.lab.ssh(rack.worker, f"rm -rf {DIRECTORY}")


def test_ray_counts_the_gpus_of_a_host_and_knows_their_type(with_two_gpus: DeployedRack) -> None:
    rack = with_two_gpus
    environment = f"LD_LIBRARY_PATH={DIRECTORY} FAKE_NVML={DIRECTORY}/answers"
    python = f"{environment} /opt/rayrack/current/bin/python -c {shlex.quote(PROGRAM)}"
    assert json.loads(rack.lab.read(rack.worker, python, timeout_s=120).splitlines()[-1]) == [2, "H100"]
