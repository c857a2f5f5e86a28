"""What a plan's one command prints, read back."""

import hashlib
import json
import subprocess
from pathlib import Path

from roles.planner.changes.facts import HostState
from roles.planner.changes.hosts import HostFound
from roles.ray_cluster.activation import UNITS
from tests.roles.ray_cluster.test_facts import SHOWN

URL = "http://127.0.0.1:1/healthz"
GATEWAY = "ActiveState=active\nId=rayrack-gateway.service\nNeedDaemonReload=no\nUnitFileState=enabled\n\n"
DESCRIBED = {
    "tiny-a": {
        "active": "active",
        "enabled": True,
        "env_sha256": "ab",
        "env": {},
        "overrides": {},
        "applied": None,
        "load": None,
        "replicas": ["10.0.0.2"],
    }
}


def printed(**parts: str) -> list[str]:
    """As the command prints them: each after an empty line and its name."""
    whole = {"node": SHOWN, "programs": "", "runtime": "", "link": "", "token": "", "files": "", **parts}
    return "".join(f"\nrayrack-plan-part {name}\n{text}" for name, text in whole.items()).splitlines()


def test_each_part_is_read_by_the_fact_of_its_role() -> None:
    found = HostState().process(
        printed(
            node=SHOWN + 'applied {"a": "1"}\n',
            programs="file /opt/rayrack/lib/x.py root:root 644\nab12  /opt/rayrack/lib/x.py\n",
            runtime='{\n  "digest": "0123"\n}\n',
            link="/opt/rayrack/runtime/0123\n",
            token="cd34  -\n",
            files="ef56  /etc/rayrack/ray.env\n",
            gateway=GATEWAY + '{"status":"ok","config":"abc","unit":"def"}',
            models=json.dumps(DESCRIBED) + "\n",
        )
    )
    assert found.node.units[UNITS["head"]].active
    assert found.node.applied == {"a": "1"}
    assert found.programs == {"/opt/rayrack/lib/x.py": "root:root 644 ab12"}
    assert found.runtime_path == "/opt/rayrack/runtime/0123"
    assert (found.runtime, found.token, found.files) == ("0123", "cd34", {"/etc/rayrack/ray.env": "ef56"})
    assert found.gateway is not None
    assert found.gateway.loaded_config == "abc"
    assert found.models is not None
    assert found.models["tiny-a"].replicas == ("10.0.0.2",)


def test_a_worker_has_neither_gateway_nor_models() -> None:
    assert not {"gateway", "models"} & set(HostState().command("worker", None, ["/x"]).split())
    found = HostState().process(printed())
    assert (found.gateway, found.models) == (None, None)


def test_programs_that_are_too_old_to_describe_models_leave_them_unknown() -> None:
    assert HostState().process(printed(gateway=GATEWAY, models="")).models is None


def test_a_head_without_models_has_none_of_them() -> None:
    assert HostState().process(printed(gateway=GATEWAY, models="{}\n")).models == {}


def run(tmp_path: Path, *paths: Path) -> HostFound:
    """The command, as a head that has nothing installed runs it."""
    command = HostState().command("head", URL, list(map(str, paths)))
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False, env={"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == [path for path in paths if path.exists()]
    return HostState().process(done.stdout.splitlines())


def test_the_command_succeeds_where_nothing_is_installed(tmp_path: Path) -> None:
    found = run(tmp_path, tmp_path / "ray.env")
    assert (found.files, found.models, found.node.applied) == ({}, {}, None)


def test_the_digests_of_files_are_read_and_of_those_that_are_missing_none(tmp_path: Path) -> None:
    (tmp_path / "ray.env").write_text("")
    found = run(tmp_path, tmp_path / "ray.env")
    assert found.files == {str(tmp_path / "ray.env"): hashlib.sha256(b"").hexdigest()}
