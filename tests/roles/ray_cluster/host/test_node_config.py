import json
from pathlib import Path

import node_config
import pytest
from node_config import ConfigError, Node

from roles.model_serving.model import Model

RUNTIME = Path("/opt/rayrack/runtime/abc")
FIELDS = {
    "role": "head",
    "node_ip": "10.0.0.11",
    "head_ip": "10.0.0.11",
    "runtime": "cuda",
    "ray_temp_dir": "/var/lib/rayrack/ray",
    "num_cpus": None,
    "gpus": 8,
    "object_store_memory_mib": None,
    "gcs_port": 6379,
    "dashboard_port": 8265,
    "serve_port": 8100,
    "node_manager_port": 6380,
    "object_manager_port": 6381,
    "ray_client_port": 10001,
    "dashboard_agent_port": 6382,
    "dashboard_agent_grpc_port": 6383,
    "runtime_env_agent_port": 6384,
    "metrics_port": 6385,
    "serve_metrics_port": 9101,
    "serve_stats_port": 8404,
    "worker_ports": "20000-20999",
}


def node(**changed: object) -> Node:
    return node_config.from_environment(environment(**changed))


def environment(**changed: object) -> dict[str, str]:
    return {f"RAYRACK_{name.upper()}": json.dumps(value) for name, value in {**FIELDS, **changed}.items()}


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_environment_gives_the_node() -> None:
    assert node(num_cpus=12) == Node(**{**FIELDS, "num_cpus": 12})  # type: ignore[arg-type]


def test_a_missing_variable_is_named_with_the_file_it_belongs_in() -> None:
    incomplete = environment()
    del incomplete["RAYRACK_GCS_PORT"]
    with pytest.raises(ConfigError, match=r"^RAYRACK_GCS_PORT is not set: it belongs in /etc/rayrack/ray.env$"):
        node_config.from_environment(incomplete)


def test_a_value_that_is_not_json_is_shown() -> None:
    with pytest.raises(ConfigError, match="RAYRACK_NUM_CPUS is not JSON: 'eight'"):
        node_config.from_environment({**environment(), "RAYRACK_NUM_CPUS": "eight"})


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="RAYRACK_ROLE is 'spare', not head or worker"):
        node(role="spare")


def test_ray_comes_from_the_resolved_runtime_and_stays_in_the_foreground() -> None:
    assert node_config.ray_start_command(node(), RUNTIME)[:3] == [
        "/opt/rayrack/runtime/abc/bin/ray",
        "start",
        "--block",
    ]


def test_a_head_serves_its_dashboard_on_loopback_only() -> None:
    command = node_config.ray_start_command(node(), RUNTIME)
    assert "--head" in command
    assert option(command, "--dashboard-host") == "127.0.0.1"
    assert option(command, "--dashboard-port") == "8265"
    assert option(command, "--port") == "6379"


def test_a_worker_joins_the_head_and_has_no_ports_of_a_head() -> None:
    command = node_config.ray_start_command(node(role="worker", node_ip="10.0.0.12"), RUNTIME)
    assert option(command, "--address") == "10.0.0.11:6379"
    assert option(command, "--node-ip-address") == "10.0.0.12"
    assert not {"--head", "--port", "--dashboard-port", "--ray-client-server-port"} & set(command)


def test_an_ipv6_head_is_written_with_brackets() -> None:
    command = node_config.ray_start_command(node(role="worker", head_ip="fd00::11"), RUNTIME)
    assert option(command, "--address") == "[fd00::11]:6379"


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_port_of_a_node_is_on_its_command_line_or_served_by_serve(role: str) -> None:
    each = node(role=role)
    of_serve = {each.serve_port, each.serve_metrics_port, each.serve_stats_port}
    assert {str(port) for port in set(node_config.own_ports(each)) - of_serve} <= set(
        node_config.ray_start_command(each, RUNTIME)
    )


def test_workers_get_the_range_of_ports() -> None:
    command = node_config.ray_start_command(node(worker_ports="21000-21099"), RUNTIME)
    assert (option(command, "--min-worker-port"), option(command, "--max-worker-port")) == ("21000", "21099")


def test_cpus_and_object_store_are_ray_s_own_choice_unless_set() -> None:
    assert not {"--num-cpus", "--object-store-memory"} & set(node_config.ray_start_command(node(), RUNTIME))
    command = node_config.ray_start_command(node(num_cpus=4, object_store_memory_mib=200), RUNTIME)
    assert option(command, "--num-cpus") == "4"
    assert option(command, "--object-store-memory") == str(200 * 1024 * 1024)


def test_only_nodes_with_the_runtime_cpu_offer_what_models_without_a_gpu_ask_for() -> None:
    import serve_app

    command = node_config.ray_start_command(node(runtime="cpu"), RUNTIME)
    (offered,) = json.loads(option(command, "--resources"))
    bundle = serve_app.application(
        Model(model_id="m", accelerator_type="cpu").model_dump(mode="json"), generation="", cache_dir=""
    )
    config = bundle["args"]["llm_configs"][0]["placement_group_config"]
    assert offered in config["bundle_per_worker"]
    assert "--resources" not in node_config.ray_start_command(node(runtime="cuda"), RUNTIME)


def test_gpus_are_always_said_since_ray_would_take_all_it_finds() -> None:
    assert option(node_config.ray_start_command(node(gpus=0), RUNTIME), "--num-gpus") == "0"


def test_ray_gets_no_other_cluster_s_address_and_no_line_to_systemd() -> None:
    given = {"RAY_ADDRESS": "10.9.9.9:6379", "NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "RAY_AUTH_MODE": "token"}
    kept = node_config.ray_environment(given, RUNTIME)
    assert "RAY_AUTH_MODE" in kept
    assert not {"RAY_ADDRESS", "NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(kept)


def test_the_runtime_s_programs_come_first_in_the_path() -> None:
    kept = node_config.ray_environment({"PATH": "/usr/bin"}, RUNTIME)
    assert kept["PATH"] == "/opt/rayrack/runtime/abc/bin:/usr/bin"


def test_a_worker_needs_no_port_of_the_head() -> None:
    assert "gcs_port" not in node_config.own_ports(node(role="worker")).values()
    assert "gcs_port" in node_config.own_ports(node()).values()


def test_the_token_must_be_there(tmp_path: Path) -> None:
    token = tmp_path / "ray.token"
    with pytest.raises(ConfigError, match="RAY_AUTH_TOKEN_PATH names no file"):
        node_config.token_path({"RAY_AUTH_TOKEN_PATH": str(token)})
    token.touch()
    assert node_config.token_path({"RAY_AUTH_TOKEN_PATH": str(token)}) == token


def test_a_changed_token_is_a_difference(tmp_path: Path) -> None:
    token = tmp_path / "ray.token"
    token.write_text("one")
    before = node_config.fingerprint("head", token)
    assert node_config.differences(before, before) == []
    token.write_text("two")
    assert node_config.differences(before, node_config.fingerprint("head", token)) == ["Ray's token"]


def test_the_fingerprint_does_not_tell_the_token(tmp_path: Path) -> None:
    token = tmp_path / "ray.token"
    token.write_text("do-not-tell")
    assert "do-not-tell" not in json.dumps(node_config.fingerprint("head", token))


def test_what_was_added_since_the_start_is_a_difference() -> None:
    assert node_config.differences({"a": "1"}, {"a": "1", "b": "2"}) == ["b"]


def test_a_node_nobody_has_recorded_is_outdated() -> None:
    assert node_config.differences(None, {"a": "1"}) == ["no record of a start"]


def test_every_program_of_the_node_is_in_its_fingerprint(tmp_path: Path) -> None:
    host = Path(node_config.__file__).parent
    inputs = node_config.fingerprint("head", tmp_path / "none")
    assert {f"/opt/rayrack/lib/{program.name}" for program in host.glob("*.py")} <= set(inputs)
