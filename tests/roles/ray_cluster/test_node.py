import dataclasses
import json
from pathlib import Path

import node_config
import pytest

from roles.ray_cluster.node import NodeConfig, Role
from roles.settings import Settings


def config(role: Role = "head", **settings: object) -> NodeConfig:
    return NodeConfig.from_settings(
        Settings.model_validate(settings), role=role, node_ip="10.0.0.11", head_ip="10.0.0.11", alone=False
    )


def test_serve_listens_on_loopback_where_no_other_host_needs_it() -> None:
    addresses = {"node_ip": "10.0.0.11", "head_ip": "10.0.0.11"}
    alone, one_of_many = (
        NodeConfig.from_settings(Settings(), role="head", **addresses, alone=each) for each in (True, False)
    )
    assert (alone.serve_host, one_of_many.serve_host) == ("127.0.0.1", "0.0.0.0")


def test_a_node_takes_its_values_from_the_settings() -> None:
    taken = config(gcs_port=6400, num_cpus=12, limit_memlock="64G")
    assert (taken.gcs_port, taken.num_cpus, taken.limit_memlock) == (6400, 12, "64G")


def test_a_node_s_address_is_the_one_given_and_not_the_setting() -> None:
    assert config(node_ip="192.0.2.1").node_ip == "10.0.0.11"


@pytest.mark.parametrize(("runtime", "gpus"), [("cuda", 8), ("cpu", 0)])
def test_gpus_of_a_cpu_runtime_are_not_offered(runtime: str, gpus: int) -> None:
    assert config(runtime=runtime, gpus=8).gpus == gpus


def test_what_the_host_reads_is_what_the_operator_s_side_writes() -> None:
    written = dict(config(role="worker", num_cpus=4, object_store_memory_mib=200).variables())
    read = node_config.from_environment(written)
    assert (read.role, read.num_cpus, read.object_store_memory_mib) == ("worker", 4, 200)
    assert {f"RAYRACK_{field.name.upper()}" for field in dataclasses.fields(read)} <= set(written)


def test_limits_are_the_unit_s_and_not_in_the_env_file() -> None:
    assert not [name for name, _ in config().variables() if "LIMIT" in name]


def test_no_value_can_end_its_quotes() -> None:
    for _, value in config().variables():
        assert "'" not in value
        json.loads(value)


def test_logs_are_rotated_at_100_mib_where_no_size_is_set() -> None:
    assert config().log_max_bytes == 100 * 2**20


@pytest.mark.parametrize("size_gib", [1, 2, 5, 9, 10, 100])
def test_a_file_system_of_ray_s_own_holds_sixteen_logs_at_their_largest(size_gib: int) -> None:
    node = config(ray_temp_size_gib=size_gib)
    assert 16 * node.log_max_bytes * (1 + node.log_backups) <= size_gib * 2**30
    assert 10 * 2**20 <= node.log_max_bytes <= 100 * 2**20


def test_spilled_objects_stay_in_their_session_where_the_clean_up_finds_them() -> None:
    command = node_config.ray_start_command(
        node_config.from_environment(dict(config(ray_temp_dir="/data/ray").variables())), Path("/runtime")
    )
    assert command[command.index("--temp-dir") + 1] == "/data/ray"
    assert "--object-spilling-directory" not in command
