"""A plan of one host and one model, to vary."""

from collections.abc import Sequence

from roles.planner.plan import GpuShare, HostPlan, MemoryPlan, ModelPlan, Plan

HOST = HostPlan(
    name="gpu-01",
    is_head=True,
    gpu_model="H100",
    gpu_memory_gib=79.6,
    gpus=((GpuShare("big", 1.0),), (GpuShare("big", 1.0),), (), ()),
    cpus=64,
    cpus_taken=1,
    left_out=None,
    changes=(),
)
MODEL = ModelPlan(
    slug="big",
    model_id="Org/Big",
    min_replicas=1,
    max_replicas=1,
    placed=1,
    reachable=1,
    hosts=("gpu-01",),
    resources="2 GPUs",
    memory=MemoryPlan(
        unit="GPU",
        weights_gib=30.6,
        other_gib=4.2,
        kv_cache_gib=36.8,
        limit_gib=71.6,
        max_model_len=32768,
        contexts=9,
    ),
    memory_unknown=None,
    change="unchanged",
    why=(),
    seconds_without=0.0,
)


def plan(
    hosts: Sequence[HostPlan] = (HOST,),
    models: Sequence[ModelPlan] = (MODEL,),
    problems: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> Plan:
    return Plan(tuple(hosts), tuple(models), tuple(problems), tuple(warnings))
