import dataclasses
import json

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
