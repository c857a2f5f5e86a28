"""The real runtime on real hosts."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.serving_runtime.lock import lock_for
from tests.conftest import DeployedRack

LOCK = lock_for("cpu", "x86_64", "3.11")


def marker(rack: DeployedRack, host: str) -> dict[str, object]:
    """What the runtime in use says of itself."""
    found: dict[str, object] = json.loads(rack.lab.read(host, "cat /opt/rayrack/current/.complete"))
    return found


def test_every_host_has_the_runtime_of_the_lock_and_nothing_of_its_installation(rack: DeployedRack) -> None:
    for host in (rack.head, rack.worker):
        assert marker(rack, host)["digest"] == LOCK.digest
        found = rack.lab.read(host, "ls -A /opt/rayrack/runtime").split()
        assert {LOCK.digest, f"{LOCK.digest}.txt"} <= set(found)
        assert not [name for name in found if name.startswith(".work")], "uv's cache would take the space twice"


def test_the_service_user_runs_the_runtime_and_cannot_change_it(rack: DeployedRack) -> None:
    script = (
        "import os, ray, vllm; root = '/opt/rayrack/runtime/'; "
        "print([path for path, _, _ in os.walk(root) if os.access(path, os.W_OK)])"
    )
    command = f"cd / && runuser -u rayrack -- env HOME=/tmp /opt/rayrack/current/bin/python -c {shlex.quote(script)}"
    assert rack.lab.read(rack.worker, command).splitlines()[-1] == "[]"


def test_byte_code_is_there_for_processes_that_may_not_write_it(rack: DeployedRack) -> None:
    module = "/opt/rayrack/current/lib/python3.11/site-packages/vllm/v1/engine"
    compiled = rack.lab.read(rack.worker, f"ls {module}/__pycache__/core.cpython-311.pyc")
    assert compiled


@pytest.mark.long
@pytest.mark.destructive
def test_an_installation_killed_in_the_middle_is_finished_by_the_next_one_and_can_be_rolled_back(
    rack: DeployedRack,
) -> None:
    """Another lock with the same wheels: what runs goes on running from the runtime it was started with."""
    host, lab = rack.worker, rack.lab
    lock = "/root/another.txt"
    source = shlex.quote(json.dumps({"wheelhouse": "/srv/wheelhouse"}))
    program = f"/opt/rayrack/bin/install_runtime {lock}"
    install = f"echo {source} | {program}"
    lab.ssh(host, f"cp /opt/rayrack/runtime/{LOCK.digest}.txt {lock} && echo '# another' >> {lock}")
    another = lab.read(host, f"sha256sum {lock} | cut -c1-16")

    runtimes = "/opt/rayrack/runtime"
    unpacked = f"ls {runtimes}/.work-{another}/cache/archive-v0 2>/dev/null | wc -l"
    in_the_middle = f"timeout 120 sh -c 'until [ $({unpacked}) -gt 60 ]; do sleep 0.1; done'"
    lab.ssh(host, f"{program} <<<{source} & {in_the_middle}; kill -KILL $!; wait $! 2>/dev/null || true", timeout_s=180)
    assert lab.read(host, f"ls -d {runtimes}/{another} {runtimes}/.work-{another}")
    assert marker(rack, host)["digest"] == LOCK.digest

    finished = lab.ssh(host, install, timeout_s=900).stdout.splitlines()
    assert f"runtime {another} is in use" in finished
    assert marker(rack, host)["digest"] == another

    assert LOCK.digest in lab.read(host, "/opt/rayrack/bin/install_runtime --rollback")
    assert marker(rack, host)["digest"] == LOCK.digest
    assert lab.read(host, install) == f"runtime {another} is in use", "at once: it is still there"
    lab.ssh(host, "/opt/rayrack/bin/install_runtime --rollback")


@pytest.fixture
def index(rack: DeployedRack, tmp_path: Path) -> Iterator[str]:
    """A site's own package index (PEP 503), over plain HTTP."""
    for wheel in (rack.lab.cache or rack.lab.directory / "cache").joinpath("wheelhouse").glob("*.whl"):
        project = tmp_path / re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
        project.mkdir(exist_ok=True)
        (project / wheel.name).symlink_to(wheel)
    command = [sys.executable, "-m", "http.server", "--bind", rack.lab.machine, "--directory", str(tmp_path), "8999"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield f"http://{rack.lab.machine}:8999/"
        server.terminate()


@pytest.mark.long
@pytest.mark.destructive
def test_a_private_index_serves_as_well_as_a_wheelhouse(rack: DeployedRack, index: str) -> None:
    host, lab = rack.worker, rack.lab
    lock = "/root/from-index.txt"
    lab.ssh(host, "apt-get install -y -qq --no-install-recommends python3-venv ca-certificates", timeout_s=120)
    lab.ssh(host, f"cp /opt/rayrack/runtime/{LOCK.digest}.txt {lock} && echo '# from an index' >> {lock}")
    source = shlex.quote(json.dumps({"index_url": index, "cpu_torch_index_url": index, "no_proxy": lab.machine}))
    finished = lab.read(host, f"echo {source} | /opt/rayrack/bin/install_runtime {lock}", timeout_s=900)
    digest = lab.read(host, f"sha256sum {lock} | cut -c1-16")
    assert f"runtime {digest} is in use" in finished.splitlines()
    lab.ssh(host, "/opt/rayrack/bin/install_runtime --rollback")
    assert marker(rack, host)["digest"] == LOCK.digest
