from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.gateway.config import GatewayModel
from tests.roles.gateway.running import RunningGateway
from tests.roles.gateway.serve_side import ServeSide

# `private` has the id of a model of /v1, on a prefix of its own. `absent` is in the list and not in
# Serve, `later` in Serve and not in the list.
MODELS = (
    GatewayModel("/v1", "tiny-a", "tiny-a"),
    GatewayModel("/v1", "Qwen/Qwen2.5-0.5B:it", "qwen-qwen2.5-0.5b-it"),
    GatewayModel("/v1", "absent", "absent"),
    GatewayModel("/v1", "sick", "sick"),
    GatewayModel("/team-a", "tiny-a", "private"),
    GatewayModel("/v1/inner", "nested", "nested"),
)


@pytest.fixture(scope="session")
def serve() -> Iterator[ServeSide]:
    side = ServeSide({"tiny-a", "qwen-qwen2.5-0.5b-it", "sick", "private", "nested", "later"})
    side.healthy.discard("sick")
    yield side
    side.close()


@pytest.fixture(scope="session")
def gateway(serve: ServeSide, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = RunningGateway(Path(tmp_path_factory.mktemp("gateway")), MODELS, serve.port)
    yield running
    running.close()


@pytest.fixture
def own_gateway(serve: ServeSide, tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway that a test may change."""
    running = RunningGateway(tmp_path, MODELS, serve.port)
    yield running
    running.close()
