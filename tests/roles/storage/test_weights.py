"""How much is still to be downloaded to a host."""

from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving.model import Model
from roles.planner.placement.place import Host
from roles.storage.weights import GIB, cache_name, needed

HOST = Host("gpu-01", 64, 8, "H100")


def model(source: str, gib: float | None, **fields: object) -> Model:
    return Model.model_validate(
        {"model_id": source.replace("/", "-").strip("-"), "model_source": source, **fields} | {"weights_gib": gib}
    )


def test_the_cache_s_directory_is_named_as_the_hub_s_client_names_it() -> None:
    assert cache_name("Qwen/Qwen2.5-32B-Instruct") == "models--Qwen--Qwen2.5-32B-Instruct"
    assert cache_name("gpt2") == "models--gpt2"


def test_two_models_of_one_source_are_downloaded_once() -> None:
    found = needed([model("org/a", 10), model("org/a", 12, slug="b")], HOST, {})
    assert found.gib == {"org/a": 12}


def test_a_source_whose_size_one_entry_gives_is_known() -> None:
    assert needed([model("org/a", None), model("org/a", 12, slug="b")], HOST, {}).unknown == ()


def test_a_rounded_size_does_not_ask_for_room_for_ever() -> None:
    assert needed([model("org/a", 61)], HOST, {cache_name("org/a"): 60 * GIB}).gib == {}


def test_only_hub_ids_are_counted() -> None:
    for source in ("/srv/models/a", "s3://bucket/a", "gs://bucket/a"):
        found = needed([Model(model_id="a", model_source=source, weights_gib=9)], HOST, {})
        assert (found.gib, found.unknown) == ({}, ())


def test_a_model_without_gpus_is_counted_where_its_cpus_fit() -> None:
    small = Model(model_id="a", accelerator_type="cpu", weights_gib=2)
    assert needed([small], Host("cpu-01", 2, 0, None), {}).gib == {"a": 2}
    assert needed([small], Host("cpu-01", 1, 0, None), {}).gib == {}


@given(gib=st.floats(0.1, 2000), there=st.floats(0, 2000))
def test_what_is_there_and_what_is_asked_for_are_never_less_than_the_weights(gib: float, there: float) -> None:
    found = needed([model("org/a", gib)], HOST, {cache_name("org/a"): int(there * GIB)})
    assert 0 <= found.total_gib <= gib + 0.05
    assert found.total_gib + there >= 0.9 * gib - 0.06
