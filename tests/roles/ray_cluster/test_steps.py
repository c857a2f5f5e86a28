from typing import Any

from roles.ray_cluster import steps
from roles.ray_cluster.token import MAKE
from tests.roles.fake_host import Change, changes
from tests.roles.ray_cluster.test_facts import SHOWN
from tests.roles.ray_cluster.test_node import config

BLANK = {"systemctl show": SHOWN.replace("=enabled", "=").replace("=active", "=inactive")}
RUNS = {"systemctl show": SHOWN.replace("disabled", "enabled").replace("NeedDaemonReload=yes", "NeedDaemonReload=no")}


def head(responses: dict[str, Any]) -> dict[str, Change]:
    return changes(steps.install_head, {"uname -s": "Linux", **responses}, node=config(runtime="cpu"))


def token_of_a_head(responses: dict[str, Any], instead_of: str | None = None) -> dict[str, Change]:
    return changes(steps.install_token, responses, head=None, instead_of=instead_of)


def test_a_blank_head_is_put_together_before_it_is_started() -> None:
    assert list(head(BLANK))[-1] == "rayrack-head.service runs with these"


def test_a_head_makes_its_token_once() -> None:
    assert token_of_a_head(BLANK)["made"].commands == (MAKE,)
    assert token_of_a_head({"ray.token | sha256sum": "ab12  -"}) == {}


def test_a_head_makes_a_new_token_in_place_of_the_one_that_was_looked_at_and_of_no_other() -> None:
    there = {"ray.token | sha256sum": "ab12  -"}
    assert token_of_a_head(there, instead_of="ab12")["made"].commands == (MAKE,)
    assert token_of_a_head(there, instead_of="cd34") == {}


def test_the_env_file_and_the_units_are_put_where_systemd_reads_them() -> None:
    files = {path for change in head(BLANK).values() for path in change.files}
    assert {
        "/etc/rayrack/ray.env",
        "/etc/systemd/system/rayrack-head.service",
        "/etc/systemd/system/rayrack.target",
    } <= files


def test_the_programs_of_the_node_are_installed() -> None:
    files = {path for change in head(BLANK).values() for path in change.files}
    assert {f"/opt/rayrack/lib/{name}.py" for name in ("ray_node", "node_config", "node_checks", "systemd")} <= files


def test_a_head_that_runs_with_all_that_is_not_restarted() -> None:
    assert "rayrack-head.service runs with these" not in head(RUNS)


def test_a_head_whose_inputs_have_changed_is_restarted() -> None:
    outdated = {"systemctl show": RUNS["systemctl show"] + "\noutdated /etc/rayrack/ray.env"}
    (restart,) = head(outdated)["rayrack-head.service runs with these"].commands
    assert restart.startswith("systemctl restart rayrack-head.service ||")
