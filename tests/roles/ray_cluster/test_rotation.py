import pytest

from roles.ray_cluster.rotation import HostToken, refusals, unfinished

NEW, OLD = "aaaa", "bbbb"
DONE, BLANK = HostToken(NEW, NEW), HostToken(None, None)


@pytest.mark.parametrize(
    ("head", "worker"),
    [
        (HostToken(NEW, OLD), HostToken(OLD, OLD)),
        (HostToken(NEW, OLD), HostToken(NEW, OLD)),
        (HostToken(NEW, NEW), HostToken(NEW, OLD)),
        (HostToken(NEW, NEW), HostToken(OLD, OLD)),
        (HostToken(NEW, NEW), HostToken(OLD, None)),
    ],
    ids=["made", "brought-to-the-worker", "head-restarted", "worker-missed-it", "worker-missed-it-and-does-not-run"],
)
def test_a_rotation_that_was_cut_short_anywhere_is_seen(head: HostToken, worker: HostToken) -> None:
    assert unfinished(head, [DONE, worker])


@pytest.mark.parametrize("worker", [DONE, BLANK, HostToken(NEW, None)], ids=["runs", "blank", "does-not-run"])
def test_a_rack_with_one_token_has_nothing_to_finish(worker: HostToken) -> None:
    assert not unfinished(DONE, [DONE, worker])


def test_a_head_without_a_token_gets_its_first_and_nothing_is_unfinished() -> None:
    assert not unfinished(BLANK, [BLANK])


def test_a_run_of_all_hosts_may_rotate() -> None:
    assert list(refusals(["gpu-01", "gpu-02"], {"gpu-01", "gpu-02"})) == []


def test_a_run_that_leaves_hosts_out_is_told_of_each() -> None:
    lines = list(refusals(["gpu-01", "gpu-02", "gpu-03"], {"gpu-01"}))
    assert [line.startswith("rotate_ray_token: all hosts must take part, ") for line in lines] == [True, True]
    assert ["gpu-02" in lines[0], "gpu-03" in lines[1]] == [True, True]
