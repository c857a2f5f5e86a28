"""The rendered files. ``python -m tests.roles.gateway.test_templates`` writes the golden ones after a wanted change."""

import subprocess
from pathlib import Path

import pytest

from roles.gateway.config import Gateway, GatewayConfig, GatewayModel
from tests.roles.gateway import running

GOLDEN = Path(__file__).parent / "golden"
CONFIG = GatewayConfig(bind="*", port=8000, serve_port=8100, maxconn=500, max_body_kib=4032, metrics_port=9102)
THREE = Gateway.of(
    [
        GatewayModel("/v1", "tinyllama", "tinyllama"),
        GatewayModel("/v1", "Qwen/Qwen2.5-32B-Instruct", "qwen-qwen2.5-32b-instruct"),
        GatewayModel("/team-a", "tinyllama", "tinyllama-team-a"),
    ],
    CONFIG,
)


def some(count: int) -> Gateway:
    prefixes = ("/v1", "/team-a")
    models = [GatewayModel(prefixes[i % 2], f"Org/Model-{i}.5:x", f"org-model-{i}.5-x") for i in range(count)]
    return Gateway.of(models, CONFIG)


def test_the_configuration_is_the_golden_file() -> None:
    assert running.rendered(THREE) == (GOLDEN / "haproxy.cfg").read_text()


def test_the_unit_is_the_golden_file() -> None:
    assert running.rendered_unit(THREE) == (GOLDEN / "rayrack-gateway.service").read_text()


def test_systemd_finds_the_unit_closed(tmp_path: Path) -> None:
    """Exposure in tenths: systemd-analyze fails above the threshold."""
    unit = tmp_path / "rayrack-gateway.service"
    unit.write_text(running.rendered_unit(THREE))
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=30", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_haproxy_accepts_the_configuration_without_a_warning(count: int, tmp_path: Path) -> None:
    checked = running.check(some(count), tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "::"])
def test_haproxy_accepts_every_form_of_address(bind: str, tmp_path: Path) -> None:
    config = GatewayConfig(bind=bind, port=80, serve_port=8100, maxconn=10, max_body_kib=64, metrics_port=9102)
    checked = running.check(Gateway.of(THREE.models, config), tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")


if __name__ == "__main__":
    (GOLDEN / "haproxy.cfg").write_text(running.rendered(THREE))
    (GOLDEN / "rayrack-gateway.service").write_text(running.rendered_unit(THREE))
