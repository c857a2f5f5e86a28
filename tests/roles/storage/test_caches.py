"""Which models are still to compile on a host."""

from roles.model_serving.model import Model
from roles.planner.placement.place import Host
from roles.storage.caches import missing

HOST = Host("gpu-01", 64, 2, "L4")


def test_a_model_that_has_a_directory_needs_no_room_for_another() -> None:
    assert missing([Model(model_id="a"), Model(model_id="b")], HOST, ["b", "lost+found"]) == ["a"]


def test_a_model_that_cannot_run_on_the_host_compiles_nothing_there() -> None:
    assert missing([Model(model_id="a", tensor_parallel_size=4)], HOST, []) == []
    assert missing([Model(model_id="a", accelerator_type="H100")], HOST, []) == []
