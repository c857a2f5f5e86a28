"""Wrong input as an operator meets it: one clear line, exit code 1, no traceback, and no host changed."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.lab import ROOT, Lab, Result, program

STOPPED = "the run stops here and no host was changed:"


@dataclass(frozen=True)
class Refusal:
    """What pyinfra said when it stopped."""

    output: str

    @property
    def lines(self) -> list[str]:
        """The lines after the one that says that nothing was changed."""
        after = self.output.split(STOPPED, 1)[1].splitlines()[1:]
        return [line.strip() for line in after if line.startswith("    ")]


def refusal_of(result: Result) -> Refusal:
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stdout
    assert STOPPED in result.stdout, result.stdout
    assert "Beginning operation run" not in result.stdout
    return Refusal(result.stdout)


# The model list, against a host that does not exist: a wrong list stops the run before any host is looked at.


@pytest.fixture
def refuse(tmp_path: Path) -> "Refuser":
    return Refuser(tmp_path)


@dataclass(frozen=True)
class Refuser:
    """Runs the deploy with a wrong model list, or none, and gives back what it said."""

    directory: Path

    def list_of(self, text: str, *arguments: str) -> Refusal:
        models = self.directory / "models.yaml"
        models.write_text(text)
        return self.environment({}, "--data", f"models_file={models}", *arguments)

    def environment(self, environ: dict[str, str], *arguments: str, host_data: str = "") -> Refusal:
        inventory = self.directory / "inventory.py"
        inventory.write_text(f'head = [("@fake/gpu-01", {{"num_cpus": 4, "gpus": 2, "fake_delay": 0, {host_data}}})]')
        clean = {name: value for name, value in os.environ.items() if name not in ("MODELS_CONFIG", "MODEL_ID")}
        result = subprocess.run(
            [program("pyinfra"), str(inventory), "deploy/", "-y", *arguments],
            cwd=ROOT,
            env=clean | environ,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return refusal_of(result)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: [{model_id: a", "models.yaml: line 1, column 22"),
        (
            "models: [{model_id: a, tensor_paralel_size: 2}]",
            "models[0].tensor_paralel_size: unknown field; did you mean",
        ),
        ("models: [{dtype: auto}]", "models[0].model_id: missing"),
        ("models: [{model_id: a, max_model_len: -1}]", "models[0].max_model_len: must be at least 1, not -1"),
        ("models: [{model_id: a}, {model_id: a}]", "models[1].model_id: a is already served on /v1 by models[0]"),
        ("models: [{model_id: a}, {model_id: A}]", "models[1].slug: a is already the slug of models[0]"),
        ("models: []", "say so with --data remove_all=true"),
        (
            "models: [{model_id: a, tensor_parallel_size: 8}]",
            "models[0].tensor_parallel_size: 8 GPUs needed on one host",
        ),
        (
            "models: [{model_id: a, accelerator_type: cpu}]",
            "models[0].accelerator_type: `cpu` needs a host with runtime `cpu`",
        ),
    ],
    ids=lambda value: value.split("]")[0][-45:] if value.startswith("models: ") else "",
)
def test_a_wrong_list_is_refused_with_the_path_of_the_value(refuse: Refuser, text: str, expected: str) -> None:
    assert any(expected in line for line in refuse.list_of(text).lines)


def test_a_list_that_is_not_there_is_refused(refuse: Refuser) -> None:
    (line,) = refuse.environment({}, "--data", "models_file=missing.yaml").lines
    assert line.startswith("missing.yaml: cannot read the model list: No such file or directory")


def test_a_variable_beside_an_explicit_list_is_refused(refuse: Refuser) -> None:
    refusal = refuse.environment({"MODEL_ID": "a"}, host_data='"models_file": "inventories/models/lab.yaml"')
    assert refusal.lines[0].startswith("MODEL_ID: set in the environment while the inventory's models_file is")


def test_broken_json_in_the_variable_is_refused(refuse: Refuser) -> None:
    assert refuse.environment({"MODELS_CONFIG": '[{"model_id": '}).lines[0].startswith("MODELS_CONFIG: ")


def test_every_problem_of_the_variable_has_its_path(refuse: Refuser) -> None:
    config = json.dumps([{"model_id": "a", "dtype": "int3"}, {"model_id": "b", "max_replicas": 0}])
    lines = refuse.environment({"MODELS_CONFIG": config}).lines
    assert [line.split(": ")[1] for line in lines] == ["[0].dtype", "[1].max_replicas"]


@pytest.mark.parametrize("confirmed", [["-y"], []], ids=["confirmed", "nobody-to-ask"])
def test_a_host_that_refuses_the_connection_is_told_without_a_question(tmp_path: Path, confirmed: list[str]) -> None:
    inventory = tmp_path / "inventory.py"
    inventory.write_text(
        'head = [("@fake/gpu-01", {"fake_delay": 0})]\n'
        'workers = [("gpu-02", {"ssh_hostname": "127.0.0.1", "ssh_port": 9})]\n'
    )
    result = subprocess.run(
        [program("pyinfra"), str(inventory), "deploy/", "--dry", *confirmed],
        cwd=ROOT,
        env={**os.environ, "MODEL_ID": "a"},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    (line,) = refusal_of(result).lines
    assert line.startswith("gpu-02: cannot be reached by SSH")


# The hosts, in the lab: what is found on one of them stops the run for all.


@pytest.fixture
def unchanged(lab: Lab) -> Iterator[None]:
    """Whatever the test does: afterwards no file of either host is newer than before, but the test's own."""
    for host in lab.hosts():
        lab.ssh(host, "touch /run/before")
    yield
    for host in lab.hosts():
        # Python itself keeps compiled modules of its library, whoever imports them.
        changed = lab.read(host, "find /etc /opt /usr -xdev -newer /run/before ! -type d ! -name '*.pyc'")
        assert changed == "", f"{host}: changed: {changed}"


def deploy(lab: Lab, *arguments: str, env: dict[str, str] | None = None) -> Result:
    return lab.pyinfra("deploy/", "-y", *arguments, check=False, env=env)


@pytest.mark.usefixtures("unchanged")
def test_an_unreachable_host_stops_the_run_for_all(lab: Lab) -> None:
    lab.cut("h2")
    try:
        (line,) = refusal_of(deploy(lab)).lines
    finally:
        lab.heal("h2")
    assert line.startswith("h2: cannot be reached by SSH")


@pytest.mark.usefixtures("unchanged")
def test_a_wrong_ssh_key_stops_the_run(lab: Lab, tmp_path: Path) -> None:
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    result = deploy(lab, "--ssh-key", str(key))
    assert result.returncode == 1
    assert "Authentication" in result.stdout
    assert "Traceback" not in result.stdout
    assert "Beginning operation run" not in result.stdout


@pytest.mark.usefixtures("unchanged")
def test_a_distribution_we_do_not_support_stops_the_run(lab: Lab) -> None:
    jammy = r'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n'
    lab.ssh("h2", f"printf '{jammy}' > /run/jammy; mount --bind /run/jammy $(readlink -f /etc/os-release)")
    try:
        (line,) = refusal_of(deploy(lab)).lines
    finally:
        lab.ssh("h2", "umount $(readlink -f /etc/os-release)")
    assert line.startswith("h2: ")
    assert "Ubuntu 22.04" in line


@pytest.mark.usefixtures("unchanged")
def test_a_port_taken_by_another_program_on_the_head_stops_the_run(lab: Lab) -> None:
    lab.ssh("h1", "systemd-run -q --unit=squatter python3 -m http.server 8000")
    try:
        lab.ssh("h1", "timeout 10 sh -c 'until ss -Hltn sport = :8000 | grep -q .; do sleep 0.1; done'")
        lines = refusal_of(deploy(lab, "--data", "gateway_port=8000")).lines
    finally:
        lab.ssh("h1", "systemctl stop squatter")
    assert any(
        line.startswith("h1: port 8000 (gateway_port) is taken by python3") and "squatter" in line for line in lines
    )


@pytest.mark.usefixtures("unchanged")
def test_no_space_stops_the_run(lab: Lab) -> None:
    lines = refusal_of(deploy(lab, "--data", "min_free_gib_weights=100000")).lines
    assert [line.split(":")[0] for line in lines] == ["h1", "h2"]
    assert all("100000" in line and "min_free_gib_weights" in line for line in lines)
