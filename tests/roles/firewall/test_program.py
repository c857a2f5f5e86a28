"""The host program with a real kernel, in namespaces of its own: an /etc and a /run to write to, and no network.

What takes systemd, the trial with its timer, is tried in the lab.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roles.firewall.facts import HOST
from tests.roles.firewall.test_packets import rules_for

PROGRAM = HOST / "firewall.py"
# Each step of a test is a line of shell; `firewall` is the program, `$rules` the rendered rules.
SETUP = """
set -eu
mount -t tmpfs none /run
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay none -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mkdir -p /etc/rayrack
firewall() { "$python" "$program" "$@"; }
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return rules_for(tmp_path)


def told(rules: Path, script: str) -> tuple[int, str]:
    """The exit status of a script and what it said, both streams together."""
    unshare = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"])]
    environment = {**os.environ, "rules": str(rules), "program": str(PROGRAM), "python": sys.executable}
    done = subprocess.run(
        [*unshare, "bash", "-c", SETUP + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout


CONFIRMED = "cp $rules /etc/rayrack/firewall.nft\nfirewall load\n"


def test_what_was_confirmed_is_loaded_and_is_as_it_should_be(rules: Path) -> None:
    assert told(rules, f"{CONFIRMED} firewall status; nft list tables") == (0, "table inet rayrack\n")


def test_rules_that_name_a_user_that_is_missing_are_refused_in_one_line(rules: Path) -> None:
    code, said = told(rules, 'sed -i s/daemon/not-here/ "$rules"; firewall try "$rules"')
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"firewall: nft -c -f {rules}: exit status 1: {rules}:")
    assert said.endswith("Error: User does not exist\n")


def test_nothing_is_loaded_before_something_was_confirmed(rules: Path) -> None:
    assert told(rules, "firewall load") == (1, "firewall: no /etc/rayrack/firewall.nft: deploy first\n")
    assert told(rules, "firewall status") == (1, "firewall: no /etc/rayrack/firewall.nft: deploy\n")
    assert told(rules, "firewall keep; nft list tables") == (0, "")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("nft flush ruleset", "the table inet rayrack is gone"),
        ("nft delete table inet rayrack; nft -f $rules", ""),
        ("nft flush chain inet rayrack input", "the table inet rayrack was changed by somebody else"),
        ("rm -r /run/rayrack-firewall", "the table inet rayrack was loaded by somebody else"),
        ("sed -i s/20000-20999/20000-20998/ /etc/rayrack/firewall.nft", "the table inet rayrack is not that of /etc/"),
    ],
    ids=["flushed", "loaded by hand, the same", "emptied", "no record", "other rules on disk"],
)
def test_a_table_that_is_not_as_confirmed_is_told_and_put_back(rules: Path, harm: str, why: str) -> None:
    status, said = told(rules, f"{CONFIRMED} {harm}; firewall status")
    assert (status, bool(said)) == ((1, True) if why else (0, False)), said
    assert said.startswith(f"firewall: {why}" if why else "")
    status, said = told(rules, f"{CONFIRMED} {harm}; firewall keep; firewall status; nft list tables")
    assert status == 0
    assert said.endswith("table inet rayrack\n")
    assert ("it is loaded again as /etc/rayrack/firewall.nft has it" in said) == bool(why)


def test_counters_that_count_are_no_difference(rules: Path) -> None:
    # A local user who is none of the rack's is refused, and that is counted.
    as_nobody = "setpriv --reuid=nobody --clear-groups bash -c"
    refused = f"! {as_nobody} '(echo >/dev/tcp/127.0.0.1/6380) 2>/dev/null'"
    counted = "nft list chain inet rayrack output | grep -q 'counter packets [1-9]'"
    assert told(rules, f"ip link set lo up; {CONFIRMED} {refused}; {counted}; firewall status") == (0, "")


def test_a_rule_of_somebody_else_s_table_is_none_of_ours(rules: Path) -> None:
    theirs = "nft add table inet operators"
    shown = told(rules, f"{theirs}; {CONFIRMED} firewall keep; firewall status; nft list tables")
    assert shown == (0, "table inet operators\ntable inet rayrack\n")


def test_a_confirmation_without_a_trial_changes_nothing(rules: Path) -> None:
    status, said = told(rules, f"{CONFIRMED} firewall confirm 0123456789abcdef || firewall status")
    assert status == 0
    assert said.startswith("firewall: these rules are not being tried any more")


def test_a_trial_that_no_timer_ended_is_ended_by_the_one_that_looks_after_the_table(rules: Path) -> None:
    # As when systemd lost the timer: the record of a trial that is long over, with other rules loaded.
    over = (
        """echo '{"name": "x", "until": 0.5}' >/run/rayrack-firewall/trial.json; nft flush chain inet rayrack input"""
    )
    status, said = told(rules, f"{CONFIRMED} {over}; firewall keep; firewall status")
    assert status == 0, said
    assert "were not confirmed in time; the earlier ones are loaded again" in said


def test_a_first_trial_that_is_over_leaves_no_table(rules: Path) -> None:
    over = """mkdir /run/rayrack-firewall; echo '{"name": "x", "until": 0.5}' >/run/rayrack-firewall/trial.json"""
    status, said = told(rules, f"{over}; nft -f $rules; firewall rollback; nft list tables")
    assert status == 0
    assert "table" not in said.splitlines()[-1]


def test_rules_that_nft_does_not_take_are_one_line(rules: Path) -> None:
    status, said = told(rules, "echo 'table inet rayrack { nonsense }' >/run/wrong; firewall try /run/wrong")
    assert status == 1
    assert said.count("\n") == 1
    assert said.startswith("firewall: nft -c -f /run/wrong: exit status 1: /run/wrong:1:")
