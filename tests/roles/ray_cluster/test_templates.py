"""The rendered files.

``python -m tests.roles.ray_cluster.test_templates`` writes the golden ones after a wanted change.
"""

from pathlib import Path

import pytest
from pyinfra.api.util import get_template

from roles.ray_cluster.node import NodeConfig
from roles.settings import Settings
from tests.roles.exposure import THRESHOLD, exposure

GOLDEN = Path(__file__).parent / "golden"
TEMPLATES = "templates/ray_cluster/etc"
ADDRESSES = {"node_ip": "10.0.0.12", "head_ip": "10.0.0.11"}
HEAD = NodeConfig.from_settings(
    Settings(runtime="cpu", num_cpus=8, object_store_memory_mib=200),
    role="head",
    node_ip="10.0.0.11",
    head_ip="10.0.0.11",
    alone=False,
)
WORKER = NodeConfig.from_settings(
    Settings(runtime="cuda", gpus=8, ray_temp_dir="/var/lib/rayrack/ray"),
    role="worker",
    alone=False,
    **ADDRESSES,  # type: ignore[arg-type]
)
FILES = {
    "head.ray.env": (f"{TEMPLATES}/rayrack/ray.env.j2", HEAD),
    "worker.ray.env": (f"{TEMPLATES}/rayrack/ray.env.j2", WORKER),
    "rayrack-head.service": (f"{TEMPLATES}/systemd/system/rayrack-head.service.j2", HEAD),
    "rayrack-worker.service": (f"{TEMPLATES}/systemd/system/rayrack-worker.service.j2", WORKER),
    "rayrack.target": (f"{TEMPLATES}/systemd/system/rayrack.target.j2", HEAD),
}


def rendered(name: str) -> str:
    template, node = FILES[name]
    return get_template(template).render(node=node)


@pytest.mark.parametrize("name", FILES)
def test_a_rendered_file_is_its_golden_file(name: str) -> None:
    assert rendered(name) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("unit", ["rayrack-head.service", "rayrack-worker.service"])
def test_every_node_authenticates_and_no_other_cluster_s_address_reaches_it(unit: str) -> None:
    lines = rendered(unit).splitlines()
    assert "LoadCredential=ray.token:/etc/rayrack/secrets/ray.token" in lines
    assert "Environment=RAY_AUTH_MODE=token" in lines
    assert "Environment=RAY_AUTH_TOKEN_PATH=%d/ray.token" in lines
    assert "UnsetEnvironment=RAY_ADDRESS" in lines
    assert "User=rayrack" in lines


@pytest.mark.parametrize("unit", ["rayrack-head.service", "rayrack-worker.service"])
def test_a_node_s_sandbox_is_as_tight_as_systemd_can_measure(unit: str, tmp_path: Path) -> None:
    assert exposure(unit, rendered(unit), tmp_path) <= THRESHOLD / 10


def test_only_engines_for_gpus_may_open_devices() -> None:
    head, worker = rendered("rayrack-head.service").splitlines(), rendered("rayrack-worker.service").splitlines()
    assert "DevicePolicy=closed" in head
    assert "DevicePolicy=closed" in worker
    assert not [line for line in head if line.startswith("DeviceAllow=")]
    assert "DeviceAllow=char-nvidia* rwm" in worker


def test_a_node_writes_where_its_files_are_wherever_that_is() -> None:
    (paths,) = [line for line in rendered("rayrack-worker.service").splitlines() if line.startswith("ReadWritePaths=")]
    assert {f"-{WORKER.ray_temp_dir}", WORKER.weights_dir, WORKER.cache_dir} < set(paths.partition("=")[2].split())


@pytest.mark.parametrize("name", ["head.ray.env", "worker.ray.env"])
def test_an_env_file_has_no_secret_and_no_line_systemd_would_drop(name: str) -> None:
    for line in rendered(name).splitlines():
        assert not line or line[0] == "#" or line.split("=")[0].isidentifier()
        assert "RAY_AUTH_TOKEN" not in line


def test_the_override_is_read_after_the_env_file_and_may_be_missing() -> None:
    read = [line for line in rendered("rayrack-head.service").splitlines() if line.startswith("EnvironmentFile=")]
    assert read == ["EnvironmentFile=/etc/rayrack/ray.env", "EnvironmentFile=-/etc/rayrack/ray.override.env"]


if __name__ == "__main__":
    for file in FILES:
        (GOLDEN / file).write_text(rendered(file))
