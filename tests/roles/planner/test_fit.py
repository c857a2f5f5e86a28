"""Whether the list fits the rack, and what an operator is told when it does not."""

from collections.abc import Sequence
from typing import Any

import pytest
import serve_app
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import alone, fit
from roles.planner.placement.place import Host, can_run
from roles.settings import Settings

LIST = Source("file", "models/lab.yaml")


def gpu_host(name: str, gpus: int, gpu_model: str | None = "H100") -> Host:
    return Host(name, num_cpus=None, gpus=gpus, gpu_model=gpu_model)


def cpu_host(name: str, num_cpus: int | None) -> Host:
    return Host(name, num_cpus=num_cpus, gpus=0, gpu_model=None)


def model(**fields: Any) -> Model:
    return Model.model_validate({"model_id": "m", "max_replicas": fields.get("min_replicas", 1), **fields})


def problems(models: Sequence[Model], hosts: Sequence[Host], source: Source = LIST) -> list[str]:
    """Of a list in which each model has a name of its own: m0, m1, ..."""
    named = [each.model_copy(update={"model_id": f"m{n}", "slug": f"m{n}"}) for n, each in enumerate(models)]
    return fit.problems(named, hosts, source, fit.placed(named, hosts))


RACK = [gpu_host("gpu-01", 2), gpu_host("gpu-03", 4)]


def test_a_tensor_parallel_group_must_fit_one_host() -> None:
    fits = model(tensor_parallel_size=4)
    assert problems([fits], RACK, LIST) == []
    assert problems([fits, fits, model(tensor_parallel_size=8)], RACK, LIST) == [
        "models/lab.yaml: models[2].tensor_parallel_size: 8 GPUs needed on one host, gpu-03 has 4"
    ]


def test_a_pipeline_may_span_hosts_but_not_split_a_group() -> None:
    assert problems([model(tensor_parallel_size=2, pipeline_parallel_size=3)], RACK, LIST) == []
    assert problems([model(tensor_parallel_size=3, pipeline_parallel_size=2)], RACK, LIST) == [
        "models/lab.yaml: models[0].pipeline_parallel_size: 2 groups of 3 GPUs needed, room for 1 on gpu-01, gpu-03"
    ]


def test_the_replicas_that_always_run_must_fit_the_rack() -> None:
    assert problems([model(min_replicas=6)], RACK, LIST) == []
    assert problems([model(min_replicas=1, max_replicas=9)], RACK, LIST) == []
    assert problems([model(min_replicas=2, tensor_parallel_size=3)], RACK, LIST) == [
        "models/lab.yaml: models[0].min_replicas: 2 replicas of 3 GPUs needed, room for 1 on gpu-01, gpu-03"
    ]


def test_models_that_fit_alone_must_fit_together() -> None:
    assert problems([model(tensor_parallel_size=4), model(min_replicas=2)], RACK, LIST) == []
    assert problems([model(tensor_parallel_size=4), model(min_replicas=3)], RACK, LIST) == [
        "models/lab.yaml: models: min_replicas of all models need 7 GPUs, there are 6 on gpu-01, gpu-03"
    ]


def test_shares_of_a_gpu_are_counted_as_shares() -> None:
    half = model(share_gpu=True, gpu_memory_utilization=0.475, min_replicas=2)
    box = [gpu_host("box", 1)]
    assert problems([half], box, LIST) == []
    assert problems([half, model(share_gpu=True, gpu_memory_utilization=0.1)], box, LIST) == [
        "models/lab.yaml: models: min_replicas of all models need 1.1052 GPUs, there are 1 on box"
    ]
    assert problems([model(share_gpu=True, gpu_memory_utilization=0.5, min_replicas=2)], box, LIST) == [
        "models/lab.yaml: models[0].min_replicas: 2 replicas of 0.5263 of a GPU needed, room for 1 on box"
    ]


def test_gpus_of_another_type_do_not_count() -> None:
    mixed = [gpu_host("gpu-01", 8, "L4"), gpu_host("gpu-02", 2, "H100")]
    assert problems([model(accelerator_type="A100")], mixed, LIST) == [
        "models/lab.yaml: models[0].accelerator_type: no host has A100; the rack has H100, L4"
    ]
    assert problems([model(accelerator_type="H100", tensor_parallel_size=4)], mixed, LIST) == [
        "models/lab.yaml: models[0].tensor_parallel_size: 4 GPUs needed on one host, gpu-02 has 2"
    ]
    assert problems([model(accelerator_type="H100", tensor_parallel_size=2)] * 2, mixed, LIST) == [
        "models/lab.yaml: models: min_replicas of all models need 4 H100 GPUs, there are 2 on gpu-02"
    ]


def test_a_host_that_does_not_tell_its_gpu_type_may_have_any() -> None:
    assert problems([model(accelerator_type="A100")], [gpu_host("box", 1, None)], LIST) == []


def test_a_rack_without_gpus_is_told_where_cpu_is_chosen() -> None:
    assert problems([model()], [cpu_host("box", 4)], Source("single", "MODEL_ID")) == [
        "MODEL_ID: accelerator_type: needs a GPU and there is none on box; `cpu` does without"
    ]


@pytest.mark.parametrize(
    ("fields", "cpus"),
    [
        ({"accelerator_type": "cpu"}, 2),
        ({"accelerator_type": "cpu", "tensor_parallel_size": 4}, 5),
        ({"tensor_parallel_size": 4}, 1),
    ],
)
def test_a_replica_asks_for_a_cpu_and_one_more_per_cpu_worker(fields: dict[str, Any], cpus: int) -> None:
    assert alone.cpus(model(**fields)) == cpus


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"accelerator_type": "H100", "tensor_parallel_size": 4},
        {"tensor_parallel_size": 2, "pipeline_parallel_size": 3},
        {"accelerator_type": "cpu", "tensor_parallel_size": 2},
        {"share_gpu": True, "gpu_memory_utilization": 0.35},
        {"share_gpu": True, "gpu_memory_utilization": 0.19},
    ],
)
def test_the_head_asks_ray_for_what_is_counted_here(fields: dict[str, Any]) -> None:
    counted = model(**fields)
    bundles = serve_app.needs(counted.model_dump()).bundles
    assert sum(bundle.get("GPU", 0) for bundle in bundles) == counted.gpus_per_replica
    assert sum(bundle.get("CPU", 0) for bundle in bundles) == alone.cpus(counted)


def test_a_cpu_model_must_fit_one_host() -> None:
    small = [cpu_host("h1", 1), cpu_host("h2", 1)]
    assert problems([model(accelerator_type="cpu")], small, LIST) == [
        "models/lab.yaml: models[0].accelerator_type: 2 CPUs needed on one host, h1 has 1 (num_cpus sets that)"
    ]
    assert problems([model(accelerator_type="cpu", tensor_parallel_size=4)], [cpu_host("h1", 4)], LIST) == [
        "models/lab.yaml: models[0].tensor_parallel_size: 5 CPUs needed on one host, h1 has 4 (num_cpus sets that)"
    ]


def test_cpu_models_must_fit_the_rack_together() -> None:
    hosts = [cpu_host("h1", 4), cpu_host("h2", 2)]
    assert problems([model(accelerator_type="cpu", min_replicas=3)], hosts, LIST) == []
    assert problems([model(accelerator_type="cpu", min_replicas=4)], hosts, LIST) == [
        "models/lab.yaml: models[0].min_replicas: 4 replicas of 2 CPUs needed, room for 3 on h1, h2"
    ]
    assert problems([model(accelerator_type="cpu", min_replicas=2)] * 2, hosts, LIST) == [
        "models/lab.yaml: models: min_replicas of all models need 8 CPUs, there are 6 on h1, h2"
    ]


def test_a_cpu_model_needs_a_host_with_the_cpu_runtime() -> None:
    cuda = [Host.of("gpu-01", Settings(gpus=8), 64), Host.of("gpu-02", Settings(gpus=8), None)]
    assert problems([model(accelerator_type="cpu")], cuda, LIST) == [
        "models/lab.yaml: models[0].accelerator_type: `cpu` needs a host with runtime `cpu`, and gpu-01, gpu-02 have "
        "`cuda`"
    ]
    assert not can_run(model(accelerator_type="cpu"), cuda[0])
    mixed = [*cuda, Host.of("cpu-01", Settings(runtime="cpu"), 4)]
    assert problems([model(accelerator_type="cpu", min_replicas=2)], mixed, LIST) == []
    assert problems([model(accelerator_type="cpu", min_replicas=3)], mixed, LIST) == [
        "models/lab.yaml: models[0].min_replicas: 3 replicas of 2 CPUs needed, room for 2 on cpu-01"
    ]


def test_gpus_of_a_host_with_the_cpu_runtime_do_not_count() -> None:
    host = Host.of("box", Settings(runtime="cpu", gpus=8, gpu_model="H100"), 64)
    assert problems([model(tensor_parallel_size=2)], [host], LIST) == [
        "models/lab.yaml: models[0].accelerator_type: needs a GPU and there is none on box; `cpu` does without"
    ]


def test_cpus_nobody_has_counted_are_not_checked() -> None:
    assert problems([model(accelerator_type="cpu", min_replicas=9)], [cpu_host("h1", None)], LIST) == []


def test_a_large_rack_is_told_by_its_size() -> None:
    hosts = [gpu_host(f"gpu-{number}", 1) for number in range(50)]
    assert problems([model(min_replicas=51)], hosts, LIST) == [
        "models/lab.yaml: models[0].min_replicas: 51 replicas of 1 GPU needed, room for 50 on 50 hosts"
    ]


@given(
    st.lists(
        st.builds(
            model,
            tensor_parallel_size=st.integers(1, 8),
            pipeline_parallel_size=st.integers(1, 3),
            min_replicas=st.integers(1, 4),
            accelerator_type=st.sampled_from([None, "H100", "L4", "cpu"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(
        st.builds(
            Host,
            name=st.just("h"),
            num_cpus=st.none() | st.integers(1, 64),
            gpus=st.integers(0, 8),
            gpu_model=st.sampled_from([None, "H100", "L4"]),
        ),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=50, deadline=None, database=None, derandomize=True)
def test_a_list_that_passes_asks_for_no_more_than_the_rack_has(models: list[Model], hosts: list[Host]) -> None:
    if problems(models, hosts, LIST) == []:
        assert sum(each.gpus_per_replica * each.min_replicas for each in models) <= sum(host.gpus for host in hosts)
        most = max(host.gpus for host in hosts)
        assert all(each.tensor_parallel_size <= most for each in models if each.uses_gpu)


TWO_OF_FOUR = [gpu_host("gpu-01", 4), gpu_host("gpu-02", 4)]


def test_a_list_that_ray_would_scatter_is_told_which_order_fits() -> None:
    """Ray puts each replica where most is left: two small ones land on two hosts, and no host has four GPUs then."""
    small, large = model(min_replicas=2), model(tensor_parallel_size=4)
    assert problems([large, small], TWO_OF_FOUR) == []
    assert problems([small, large], TWO_OF_FOUR) == [
        "models/lab.yaml: models[1].min_replicas: finds no room beside the models before it: 4 GPUs needed on one "
        "host; free: gpu-01 3 GPUs, gpu-02 3 GPUs; put it first in the list"
    ]


def test_a_model_that_is_one_too_many_is_told_and_the_free_gpus_that_do_not_help() -> None:
    three = model(tensor_parallel_size=3, min_replicas=2)
    assert problems([three, model(), model()], TWO_OF_FOUR) == []
    assert problems([three, model(tensor_parallel_size=2)], TWO_OF_FOUR) == [
        "models/lab.yaml: models[1].min_replicas: finds no room beside the models before it: 2 GPUs needed on one "
        "host; free: gpu-01 1 GPU, gpu-02 1 GPU; all others fit without it"
    ]


def test_a_replica_too_many_is_told_with_the_number_that_fits() -> None:
    hosts = [gpu_host("gpu-01", 3), gpu_host("gpu-02", 3), gpu_host("gpu-03", 3)]
    pairs = model(tensor_parallel_size=2, min_replicas=3)
    assert problems([pairs], hosts) == []
    assert problems([model(tensor_parallel_size=3), pairs], hosts) == [
        "models/lab.yaml: models[1].min_replicas: 1 of 3 replicas find no room beside the models before it: 2 GPUs "
        "needed on one host; free: gpu-02 1 GPU, gpu-03 1 GPU, gpu-01 0 GPUs; min_replicas 2 would fit"
    ]


def test_of_many_models_without_room_the_first_are_named_and_the_rest_counted() -> None:
    hosts = [gpu_host(f"gpu-{number}", 3) for number in range(14)]
    found = problems([model(tensor_parallel_size=2)] * 21, hosts)
    assert len(found) == 6
    assert found[0].startswith(
        "models/lab.yaml: models[14].min_replicas: finds no room beside the models before it: 2 GPUs needed on one "
        "host; free: gpu-0 1 GPU, gpu-1 1 GPU, gpu-2 1 GPU, gpu-3 1 GPU and as much or less on 10 more; "
    )
    assert found[-1] == "models/lab.yaml: models: 2 more models find no room"


def test_an_order_that_fits_is_told_when_moving_one_model_is_not_enough() -> None:
    hosts = [gpu_host("gpu-01", 4), gpu_host("gpu-02", 4), gpu_host("gpu-03", 2)]
    three = model(tensor_parallel_size=3)
    assert problems([model(), model(), model(), three, three], hosts) == [
        "models/lab.yaml: models[4].min_replicas: finds no room beside the models before it: 3 GPUs needed on one "
        "host; free: gpu-01 2 GPUs, gpu-03 2 GPUs, gpu-02 0 GPUs; in this order the list fits: m3, m4, m0, m1, m2"
    ]


def test_a_tensor_parallel_group_that_ray_would_split_over_hosts_is_refused() -> None:
    hosts = [gpu_host("gpu-01", 3), gpu_host("gpu-02", 3)]
    pipeline = model(tensor_parallel_size=2, pipeline_parallel_size=2)
    assert problems([pipeline], hosts) == [
        "models/lab.yaml: models[0].pipeline_parallel_size: Ray would split a tensor-parallel group of 2 GPUs over "
        "hosts (3 GPUs on gpu-01, 1 GPU on gpu-02): put it before models that leave hosts with a number of free GPUs "
        "that is no multiple of 2"
    ]
    assert problems([pipeline], [gpu_host("gpu-01", 2), gpu_host("gpu-02", 2)]) == []


def test_what_nobody_can_follow_to_the_end_is_a_warning_and_no_problem() -> None:
    """Hosts that Ray ranks equal and that are not, and many models that take either."""
    hosts = [Host(f"gpu-{number}", 128, 8, ("H100", "L4")[number % 2]) for number in range(25)]
    kinds: list[dict[str, Any]] = [
        *({"share_gpu": True, "gpu_memory_utilization": share} for share in (0.3, 0.19, 0.475)),
        {},
        {"accelerator_type": "L4"},
    ]
    models = [model(model_id=f"m{number}", min_replicas=10, **kinds[number % 5]) for number in range(25)]
    placement = fit.placed(models, hosts)
    assert not placement.followed
    assert fit.problems(models, hosts, LIST, placement) == []
    open_ones = list(dict.fromkeys(replica.slug for replica in placement.uncertain))
    assert [line.split(":")[1] for line in fit.warnings(models, LIST, placement)] == [
        f" models[{slug.removeprefix('m')}]" for slug in open_ones
    ]
    assert open_ones
