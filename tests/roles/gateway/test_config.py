import pytest

from roles.gateway.config import Gateway, GatewayConfig, GatewayModel

A = GatewayModel("/v1", "a", "a")
B = GatewayModel("/v1", "b", "b")


def config(bind: str = "*", port: int = 8000) -> GatewayConfig:
    return GatewayConfig(bind=bind, port=port, serve_port=8100, maxconn=500, max_body_kib=4032, metrics_port=9102)


def test_the_order_of_the_list_is_no_change() -> None:
    assert Gateway.of([A, B], config()).config_digest == Gateway.of([B, A], config()).config_digest


@pytest.mark.parametrize(
    "other",
    [
        Gateway.of([A, B], config()),
        Gateway.of([A], config(port=8001)),
        Gateway.of([GatewayModel("/v1", "a", "another")], config()),
    ],
    ids=["a model more", "a setting", "a slug"],
)
def test_whatever_changes_the_configuration_changes_its_digest(other: Gateway) -> None:
    gateway = Gateway.of([A], config())
    assert other.config_digest != gateway.config_digest
    assert other.unit_digest == gateway.unit_digest


def test_a_prefix_within_another_comes_after_it() -> None:
    models = [GatewayModel(prefix, "a", "a") for prefix in ("/v1/inner", "/team-a", "/v1", "/v1")]
    assert Gateway.of(models, config()).prefixes == ("/v1", "/team-a", "/v1/inner")


@pytest.mark.parametrize(
    ("bind", "listens", "url"),
    [
        ("*", "*:8000", "https://127.0.0.1:8000/healthz"),
        ("0.0.0.0", "0.0.0.0:8000", "https://127.0.0.1:8000/healthz"),
        ("10.1.2.3", "10.1.2.3:8000", "https://10.1.2.3:8000/healthz"),
        ("::", "[::]:8000", "https://[::1]:8000/healthz"),
        ("fd00::7", "[fd00::7]:8000", "https://[fd00::7]:8000/healthz"),
    ],
)
def test_the_host_asks_the_gateway_where_it_listens(bind: str, listens: str, url: str) -> None:
    gateway = Gateway.of([A], config(bind))
    assert (gateway.bind_address, gateway.health_url) == (listens, url)


@pytest.mark.parametrize(
    ("prefix", "model_id", "slug"),
    [
        ("/v1", "a' }\n    stats enable", "a"),
        ("/v1", 'a"', "a"),
        ("/v1", "two words", "a"),
        ("/v1", "100%", "a"),
        ("/v1", "", "a"),
        ("/v1)", "a", "a"),
        ("v1", "a", "a"),
        ("/v1", "a", "a b"),
    ],
)
def test_a_name_that_could_write_configuration_is_refused(prefix: str, model_id: str, slug: str) -> None:
    with pytest.raises(ValueError, match="the gateway cannot serve"):
        GatewayModel(prefix, model_id, slug)


def test_only_an_address_can_be_bound() -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        config(bind="eth0")
