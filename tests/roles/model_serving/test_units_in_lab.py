"""The models' units on a real rack: systemd, Ray Serve and vLLM, with the tools an operator has."""

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import Result, wait_until

A, B = "tiny-a", "tiny-b"
START_S = 600
ENV = "/etc/rayrack/models"
# Prints what Serve's REST API has; then each application's replicas of engines and its settings applied in place.
SERVE = """
import json, sys, urllib.request
token = open("/etc/rayrack/secrets/ray.token").read().strip()
url = "http://127.0.0.1:8265/api/serve/applications/"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
text = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).read().decode()
if sys.argv[1:] == ["whole"]:
    sys.exit(print(text))
answer = json.loads(text)
found = {}
for name, app in answer["applications"].items():
    server = app["deployments"].get("LLMServer:" + name[2:], {"replicas": []})
    found[name[2:]] = {
        "status": app["status"],
        "replicas": [r["replica_id"] for r in server["replicas"] if r["state"] == "RUNNING"],
        "scaling": server.get("deployment_config", {}).get("autoscaling_config"),
    }
print(json.dumps(found))
"""


class Head:
    """The head's systemd and Serve, over SSH."""

    def __init__(self, rack: DeployedRack) -> None:
        self.rack = rack

    def systemctl(self, verb: str, slug: str, *, check: bool = True) -> Result:
        command = f"systemctl {verb} rayrack-model@{slug}"
        return self.rack.lab.ssh(self.rack.head, command, timeout_s=START_S, check=check)

    def show(self, slug: str, name: str) -> str:
        return self.rack.lab.read(self.rack.head, f"systemctl show -P {name} rayrack-model@{slug}")

    def serve(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.rack.lab.read(self.rack.head, f"python3 -c '{SERVE}'"))
        return found

    def serve_json(self) -> str:
        return self.rack.lab.read(self.rack.head, f"python3 -c '{SERVE}' whole")

    def replicas(self, slug: str) -> list[str]:
        ids: list[str] = self.serve()[slug]["replicas"]
        return ids

    def override(self, slug: str, text: str) -> None:
        self.rack.lab.ssh(self.rack.head, f"cat > {ENV}/{slug}.override.env <<'X'\n{text}\nX")

    def journal(self, invocation: str) -> list[str]:
        """What a unit's own program said in one run of it."""
        match = f"_SYSTEMD_INVOCATION_ID={invocation} SYSLOG_IDENTIFIER=model_unit"
        return self.rack.lab.read(self.rack.head, f"journalctl -o cat --no-pager {match}").splitlines()

    def answers(self, model: str) -> bool:
        self.rack.client().completions.create(model=model, prompt="Hello", max_tokens=2)
        return True


@pytest.fixture
def head(rack: DeployedRack) -> Iterator[Head]:
    """The head, with every model running; what a test has changed of tiny-b is taken back after it."""
    head = Head(rack)
    yield head
    rack.lab.ssh(rack.head, f"rm -f {ENV}/{B}.override.env")
    head.systemctl("reload" if head.show(B, "ActiveState") == "active" else "restart", B)
    wait_until(lambda: as_listed(head.serve()[B]), "Serve has applied the list's numbers", 60)


def as_listed(application: dict[str, Any]) -> bool:
    """Whether Serve runs a model with the numbers of the list and has nothing left to do for it."""
    return application["status"] == "RUNNING" and application["scaling"]["target_ongoing_requests"] == 8


def test_status_tells_state_replicas_and_requests_in_progress(head: Head) -> None:
    wait_until(lambda: head.show(A, "StatusText") == "RUNNING, 1/1 replicas, 0 ongoing", "the model is idle", 60)
    seen = threading.Event()

    def ask() -> None:
        while not seen.is_set():
            head.rack.client().completions.create(model=A, prompt="Hello", max_tokens=400)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_until(
            lambda: head.show(A, "StatusText") == "RUNNING, 1/1 replicas, 1 ongoing", "the request shows", 60, 0.2
        )
    finally:
        seen.set()
        thread.join()
    wait_until(lambda: head.show(A, "StatusText").endswith("0 ongoing"), "the request is over", 60)


def test_the_units_are_verified_and_watched(head: Head) -> None:
    verify = f"systemd-analyze verify /etc/systemd/system/rayrack-model@.service rayrack-model@{A}.service"
    assert head.rack.lab.ssh(head.rack.head, verify).stdout == ""
    assert head.show(A, "WatchdogUSec") == "1min"
    assert head.show(A, "UnitFileState") == "enabled"


def test_a_unit_is_given_ray_s_token_and_the_names_of_the_secrets_alone(head: Head) -> None:
    credentials = head.rack.lab.read(head.rack.head, f"ls /run/credentials/rayrack-model@{A}.service")
    assert credentials.splitlines() == ["ray.token"]
    names = head.rack.lab.read(
        head.rack.head, f"stat -c '%a %U %G' /run/rayrack-secrets.{A}; cat /run/rayrack-secrets.{A}"
    )
    assert names.splitlines()[0] == "640 root rayrack"
    assert "ray.token" in names.splitlines()[1:]


def test_a_killed_unit_takes_its_running_application_over(head: Head) -> None:
    replicas, pid = head.replicas(B), head.show(B, "MainPID")
    head.rack.lab.ssh(head.rack.head, f"kill -KILL {pid}")
    wait_until(
        lambda: head.show(B, "MainPID") not in ("0", pid) and head.show(B, "ActiveState") == "active",
        "systemd has started the program again",
        90,
    )
    assert head.replicas(B) == replicas


def test_reload_applies_numbers_in_place(head: Head) -> None:
    before = head.replicas(B)
    head.override(B, "RAYRACK_TARGET_ONGOING_REQUESTS='5'")
    head.systemctl("reload", B)
    wait_until(lambda: head.serve()[B]["scaling"]["target_ongoing_requests"] == 5, "Serve has the new number", 30)
    assert head.replicas(B) == before


def test_reload_refuses_what_needs_a_restart_and_changes_nothing(head: Head) -> None:
    before = head.serve()[B]
    invocation = head.show(B, "InvocationID")
    head.override(B, "RAYRACK_MAX_MODEL_LEN='768'\nRAYRACK_MAX_REPLICAS='2'")
    assert head.systemctl("reload", B, check=False).returncode != 0
    assert head.journal(invocation)[-1] == f"{B}: reload: needs restart: max_model_len"
    assert head.serve()[B] == before
    assert head.show(B, "ActiveState") == "active"


def test_stop_removes_that_model_only_and_start_waits_for_its_answer(head: Head) -> None:
    other = head.replicas(A)
    head.systemctl("stop", B)
    assert B not in head.serve()
    assert head.show(B, "ActiveState") == "inactive"
    assert head.replicas(A) == other
    with pytest.raises(openai.APIStatusError) as caught:
        head.answers(B)
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"]
    assert caught.value.response.json()["error"]["message"]
    head.systemctl("start", B)
    assert head.answers(B)
    assert head.replicas(A) == other


@pytest.mark.long
def test_restart_replaces_the_replicas_of_that_model_only(head: Head) -> None:
    other, old = head.replicas(A), head.replicas(B)
    head.systemctl("restart", B)
    new = head.replicas(B)
    assert new
    assert not set(new) & set(old)
    assert head.replicas(A) == other


@pytest.mark.long
def test_a_surging_restart_answers_all_the_time(head: Head) -> None:
    old = head.replicas(B)
    head.override(B, "RAYRACK_UPDATE='\"surge\"'")
    head.systemctl("reload", B)
    done = threading.Event()
    answers: list[bool] = []

    def ask() -> None:
        while not done.is_set():
            answers.append(head.answers(B))
            done.wait(0.5)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        head.systemctl("restart", B)
    finally:
        done.set()
        thread.join()
    assert len(answers) > 10
    assert all(answers)
    assert not set(head.replicas(B)) & set(old)


@pytest.fixture
def secret(rack: DeployedRack) -> Iterator[str]:
    """The name of a secret on both hosts, whose node units have read it; it holds `canary`."""
    name, hosts = "logging.prefix", {rack.head: "rayrack-head", rack.worker: "rayrack-worker"}
    try:
        for host, unit in hosts.items():
            rack.lab.ssh(host, f"install -m 0400 /dev/stdin /etc/rayrack/secrets/{name} <<<canary")
            rack.lab.ssh(host, f"systemctl restart {unit}", timeout_s=START_S)
        wait = f"timeout {START_S} /opt/rayrack/bin/model_units wait {A} {B} tiny-embed"
        rack.lab.ssh(rack.head, wait, timeout_s=START_S + 30)
        yield name
    finally:
        for host in hosts:
            rack.lab.ssh(host, f"rm -f /etc/rayrack/secrets/{name}")


@pytest.mark.long
def test_a_secret_reaches_the_engine_where_it_runs_and_not_serves_config(secret: str, head: Head) -> None:
    # vLLM begins its log lines with the value of this variable: it shows what the engine's own process has.
    head.override(B, f"RAYRACK_SECRETS='{json.dumps({'VLLM_LOGGING_PREFIX': secret})}'")
    head.systemctl("restart", B)
    logs = "grep -l '^.*canary' /tmp/ray/session_latest/logs/worker-*"
    assert any(head.rack.lab.ssh(host, logs, check=False).stdout for host in (head.rack.head, head.rack.worker))
    config = f"grep -c canary {ENV}/{B}.override.env /run/rayrack/models/{B}.json"
    assert head.rack.lab.ssh(head.rack.head, config, check=False).stdout.split() == [
        f"{ENV}/{B}.override.env:0",
        f"/run/rayrack/models/{B}.json:0",
    ]
    assert "canary" not in head.serve_json()
    # In the environment of this model's processes, and of no others: not the other models', nor Ray's own.
    whose = (
        "for process in /proc/[0-9]*; do variables=$(tr '\\0' '\\n' <$process/environ 2>/dev/null); "
        "case $variables in *canary*) case $variables in "
        f"*VLLM_CACHE_ROOT=/var/cache/rayrack/{B}/*) echo its own;; *) echo $process;; esac;; esac; done"
    )
    found = [
        line for host in (head.rack.head, head.rack.worker) for line in head.rack.lab.read(host, whose).splitlines()
    ]
    assert set(found) == {"its own"}
    head.override(B, "")
    head.systemctl("restart", B)


def test_a_model_that_is_not_there_fails_in_one_line_and_touches_no_other(head: Head) -> None:
    other = head.replicas(A)
    head.systemctl("stop", B)
    head.override(B, "RAYRACK_MODEL_SOURCE='\"/srv/models/nothing-here\"'")
    assert head.systemctl("start", B, check=False).returncode != 0
    assert head.show(B, "ActiveState") == "failed"
    reason = "model_source /srv/models/nothing-here: no such directory with a model on the host that should load it"
    assert head.show(B, "StatusText") == reason
    assert head.journal(head.show(B, "InvocationID")) == [f"{B}: {reason}"]
    assert B not in head.serve()
    assert head.replicas(A) == other
    wait = head.rack.lab.ssh(head.rack.head, f"/opt/rayrack/bin/model_units wait {A} {B}", check=False)
    assert wait.returncode == 1
    assert re.search(rf"1 of 2 models failed:\n +{B}: {re.escape(reason)}", wait.stdout)


def test_what_no_host_could_hold_is_refused_with_what_is_missing(head: Head) -> None:
    head.systemctl("stop", B)
    head.override(B, "RAYRACK_TENSOR_PARALLEL_SIZE='40'\nRAYRACK_START_TIMEOUT_S='10'")
    assert head.systemctl("start", B, check=False).returncode != 0
    on_cpu = "with the runtime `cpu`"
    lacking = rf"needs 41 CPU {on_cpu} on one node; total: \S+ \d+ CPU {on_cpu}; \S+ \d+ CPU {on_cpu}"
    assert re.match(lacking, head.show(B, "StatusText"))
    assert B not in head.serve()
