"""A single box: the README's commands, typed on a blank host that is the whole rack."""

import json
import subprocess

import pytest

from tests.lab.lab import ROOT, Lab, LabError

HOST = "h1"
MODEL = {
    "model_id": "tiny-a",
    "model_source": "/srv/models/tiny-a",
    "accelerator_type": "cpu",
    "dtype": "bfloat16",
    "enforce_eager": True,
    "max_model_len": 1024,
    "engine_kwargs": {"kv_cache_memory_bytes": 134217728},
}
# What a box without GPUs, with a wheelhouse and a small disk, sets: num_cpus since replicas ask for more than it has.
DATA = {
    "runtime": "cpu",
    "gpus": 0,
    "num_cpus": 8,
    "runtime_wheelhouse": "/srv/wheelhouse",
    "object_store_memory_mib": 200,
    "min_free_gib_ray": 1,
    "min_free_gib_runtime": 5,
    "min_free_gib_weights": 0.5,
    "disk_used_max_percent": 97,
}
INSTALL = (
    "apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv && cd rayrack && "
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[verify]'"
)


def copy_checkout(lab: Lab) -> None:
    """What git knows of this checkout, to ~/rayrack on the host."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    tar = ["tar", "-c", "--null", "-T", "-"]
    archive = subprocess.run(tar, cwd=ROOT, input=files, capture_output=True, check=True).stdout
    ssh = ["ssh", "-F", str(lab.directory / "ssh_config"), HOST, "mkdir rayrack && tar -xC rayrack"]
    done = subprocess.run(ssh, input=archive, capture_output=True)
    if done.returncode:
        raise LabError(f"copying the checkout to {HOST}: {done.stderr.decode()}")


@pytest.mark.long
@pytest.mark.parametrize("blank_lab", [1], indirect=True)
def test_a_head_alone_serves_what_models_config_says(blank_lab: Lab) -> None:
    lab = blank_lab
    # A box with two addresses: Ray takes the one that is set, not the one that a packet would leave from.
    second = f"{lab.net}.99"
    lab.ssh(HOST, f"ip address add {second}/24 dev host0")
    copy_checkout(lab)
    lab.ssh(HOST, INSTALL, timeout_s=300)
    data = " ".join(f"--data {name}={value}" for name, value in {**DATA, "node_ip": second}.items())
    # $MODELS_CONFIG, as local.py sets no list.
    lab.ssh(HOST, f"echo MODELS_CONFIG=\\''{json.dumps([MODEL])}'\\' >rayrack/models.env")
    deploy = f"cd rayrack && set -a && . ./models.env && .venv/bin/pyinfra inventories/local.py deploy/ -y {data}"
    first = lab.ssh(HOST, deploy, timeout_s=900).stdout
    assert "no API key yet: sudo /opt/rayrack/bin/api_keys make NAME" in first
    # The box as its own client: the self-signed certificate names localhost, too.
    key = lab.read(HOST, "/opt/rayrack/bin/api_keys make me")
    ask = f"curl -s --cacert /etc/rayrack/gateway/tls.pem -H 'Authorization: Bearer {key}'"
    assert '"id":"tiny-a"' in lab.read(HOST, f"{ask} https://localhost:8000/v1/models")
    request = json.dumps({"model": "tiny-a", "prompt": "Hello", "max_tokens": 3})
    json_type = "-H 'content-type: application/json'"
    answer = lab.read(HOST, f"{ask} {json_type} -d '{request}' https://127.0.0.1:8000/v1/completions")
    assert json.loads(answer)["choices"][0]["text"]
    listening = lab.read(HOST, "ss -ltnH 'sport = :8100'")
    assert "127.0.0.1:8100" in listening, "a rack of one host keeps Serve's port to itself"
    agent = lab.read(HOST, "ss -ltnH 'sport = :6382' | awk '{ print $4 }'").split()
    assert f"{second}:6382" in agent, "Ray's agent listens on node_ip"
    assert f"{lab.address(HOST)}:6382" not in agent
    again = lab.ssh(HOST, deploy, timeout_s=300).stdout
    assert "no API key yet" not in again
    assert [line.split()[3] for line in again.splitlines() if "Grand total" in line] == ["-"]
