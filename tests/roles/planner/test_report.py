"""The table: what a person reads in a terminal of 100 columns."""

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from roles.planner import report
from roles.planner.plan import GpuShare, HostPlan, ModelPlan, Plan
from tests.roles.planner.plans import HOST, MODEL, plan

WORKER = replace(HOST, name="gpu-02", is_head=False, gpus=((),) * 8)
QUICK = settings(max_examples=100, deadline=None, database=None, derandomize=True)


def lines(shown: Plan) -> list[str]:
    return report.text(shown).splitlines()


def test_a_whole_plan_reads_like_this() -> None:
    restarted = replace(MODEL, change="restart", why=("max_model_len", "dtype"), seconds_without=125.0)
    shown = plan([HOST, WORKER], [restarted])
    assert lines(shown) == [
        "plan: changes",
        "",
        "gpu-01                       4x H100 80G    |AAAA|AAAA|····|····|",
        "gpu-02                       8x H100 80G    |····|····|····|····|····|····|····|····|",
        "",
        " A  big                                         restart: max_model_len, dtype (125 s without)",
        "    1 x 2 GPUs on gpu-01",
        "    per GPU 30.6 GiB weights + 4.2 other + 36.8 KV cache = 71.6: 9 x 32768 tokens",
    ]


def test_shares_of_a_gpu_are_seen_in_proportion_and_what_is_free_too() -> None:
    shared = replace(HOST, gpus=((GpuShare("big", 0.5), GpuShare("b", 0.25)), (GpuShare("b", 0.05),)))
    assert lines(plan([shared], [MODEL, replace(MODEL, slug="b")]))[2].endswith("|AAB·|B···|")


def test_hosts_that_are_alike_share_a_line() -> None:
    shown = lines(plan([HOST, *[replace(WORKER, name=f"gpu-{number:02}") for number in range(2, 40)]]))
    assert shown[2:5] == [
        "gpu-01                       4x H100 80G    |AAAA|AAAA|····|····|",
        "gpu-02 +37 alike             8x H100 80G    |····|····|····|····|····|····|····|····|",
        "",
    ]


def test_more_gpus_than_a_line_holds_go_on_in_the_next() -> None:
    assert lines(plan([replace(WORKER, gpus=((),) * 10)]))[2:4] == [
        "gpu-02                       10x H100 80G   |····|····|····|····|····|····|····|····|",
        "                                            |····|····|",
    ]


def test_a_host_that_is_left_out_and_one_that_nobody_looked_at_say_so() -> None:
    shown = lines(
        plan([replace(HOST, gpus=((),), left_out="1 GPU, 2 declared", changes=None), replace(WORKER, changes=None)])
    )
    assert shown[2:6] == [
        "gpu-01                       1x H100 80G    |----|",
        "    left out: 1 GPU, 2 declared",
        "gpu-02                       8x H100 80G    |····|····|····|····|····|····|····|····|",
        "    unknown: not looked at in this run",
    ]


def test_a_rack_without_gpus_shows_cpus() -> None:
    host = replace(HOST, gpus=(), gpu_model=None, gpu_memory_gib=None, cpus=8.0, cpus_taken=6.0)
    assert lines(plan([host]))[2] == "gpu-01                       8 CPUs         6 CPUs taken"


def test_replicas_without_room_and_autoscaling_are_told() -> None:
    model = replace(MODEL, min_replicas=3, max_replicas=5, placed=2, reachable=2)
    assert "    2 of 3, up to 5 (room for 2) x 2 GPUs on gpu-01" in lines(plan(models=[model]))
    reached = replace(MODEL, max_replicas=5, reachable=5)
    assert "    1, up to 5 x 2 GPUs on gpu-01" in lines(plan(models=[reached]))


def test_a_start_tells_no_time_without_and_a_restart_of_unknown_length_says_so() -> None:
    assert " start" in lines(plan(models=[replace(MODEL, change="start", seconds_without=None)]))[4]
    assert lines(plan(models=[replace(MODEL, change="restart", why=("head",), seconds_without=None)]))[4].endswith(
        "restart: head (time not known)"
    )


def test_memory_that_is_not_known_says_why() -> None:
    model = replace(MODEL, memory=None, memory_unknown="no config.json; give weights_gib")
    assert "    memory not known: no config.json; give weights_gib" in lines(plan(models=[model]))


def test_the_27th_model_has_two_letters() -> None:
    models = [replace(MODEL, slug=f"m{number}") for number in range(28)]
    host = replace(HOST, gpus=((GpuShare("m26", 1.0),), (GpuShare("m27", 0.25),)))
    assert lines(plan([host], models))[2].endswith("|AAAA|AB··|")


def test_colours_are_for_terminals_only() -> None:
    restarted = plan(models=[replace(MODEL, change="restart", why=("dtype",))])
    assert "\x1b" not in report.text(restarted)
    coloured = report.text(restarted, colour=True)
    assert "\x1b[33mrestart: dtype (0 s without)\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == report.text(restarted)


names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=90)
hosts = st.builds(
    lambda name, gpus, changes: replace(HOST, name=name, gpus=((GpuShare("big", 1.0),),) * gpus, changes=changes),
    names,
    st.integers(0, 64),
    st.none() | st.lists(names).map(tuple),
)
models = st.builds(
    lambda slug, on, why: replace(MODEL, hosts=on, why=why, model_id=slug), names, st.lists(names), st.lists(names)
)


@QUICK
@given(st.lists(hosts), st.lists(models, max_size=1).map(lambda found: found or [MODEL]))
def test_no_line_is_wider_than_the_terminal(found: list[HostPlan], few: list[ModelPlan]) -> None:
    shown = plan(found, few)
    assert all(len(line) <= report.WIDTH for line in lines(shown))
