"""The steps against pyinfra's @fake connector: which commands a host is given. The lab runs them for real."""

import hashlib
import re
from typing import Any

from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.deploy import add_deploy
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import State, StateStage

from roles.gateway import steps
from roles.gateway.config import Gateway, GatewayConfig, GatewayModel
from tests.roles.gateway.running import rendered, rendered_unit

CONFIG = GatewayConfig(bind="*", port=8000, serve_port=8100, maxconn=500, max_body_kib=4032, metrics_port=9102)
MODELS = [GatewayModel("/v1", "a", "a"), GatewayModel("/team-a", "b", "b")]
WANTED = Gateway.of(MODELS, CONFIG)

PLACES_ASKED = "stat -c '%n %U:%G %a'"


def stat(path: str, kind: str, mode: str, group: str, extra: str = "") -> dict[str, str]:
    line = f"user=root group={group} mode={kind}{mode} atime=1 mtime=1 ctime=1 size=1 '{path}'{extra}"
    return {rf"stat -c .* {re.escape(path)} ": line}


def sha1(path: str, text: str) -> dict[str, str]:
    return {rf"sha1sum {re.escape(path)} ": f"{hashlib.sha1(text.encode()).hexdigest()}  {path}"}


def installed_programs() -> str:
    """What ``InstalledPrograms`` finds after a deploy."""
    lines = []
    for source in steps.HOST.glob("*.py"):
        path, runs = f"/opt/rayrack/lib/{source.name}", source.stem in ("api_keys", "gateway_certificate")
        lines.append(f"file {path} root:root {755 if runs else 644}")
        lines.append(f"{hashlib.sha256(source.read_bytes()).hexdigest()}  {path}")
        lines += [f"link /opt/rayrack/bin/{source.stem} {path}"] if runs else []
    return "\n".join(lines)


def deployed(**health: str) -> dict[str, str]:
    """The answers of a host to which this gateway was deployed before."""
    said = {"config": WANTED.config_digest, "unit": WANTED.unit_digest} | health
    units = "ActiveState=active\nId=rayrack-gateway.service\nNeedDaemonReload=no\nUnitFileState=enabled\n"
    units += "\nActiveState=inactive\nId=haproxy.service\nNeedDaemonReload=no\nUnitFileState=masked\n"
    candidate, unit = "/etc/rayrack/gateway/candidate.cfg", "/etc/systemd/system/rayrack-gateway.service"
    return {
        **stat("/etc/systemd/system/haproxy.service", "l", "rwxrwxrwx", "root", " -> '/dev/null'"),
        "dpkg-query": "ii |haproxy|\nii |curl|\nii |openssl|",
        "find /opt/rayrack/lib": installed_programs(),
        PLACES_ASKED: "\n".join(f"{path} {at}" for path, at in steps.PLACES.items()),
        "gateway_certificate check": "well",
        **stat(candidate, "-", "rw-r-----", "rayrack-gateway"),
        **sha1(candidate, rendered(WANTED)),
        **stat(unit, "-", "rw-r--r--", "root"),
        **sha1(unit, rendered_unit(WANTED)),
        "systemctl show": units + f'{{"status":"ok","config":"{said["config"]}","unit":"{said["unit"]}"}}',
    }


def blank() -> dict[str, str]:
    return {
        "systemctl show": "ActiveState=inactive\nId=rayrack-gateway.service\nUnitFileState=\n\nCandidateDiffers=yes"
    }


def run(responses: dict[str, str]) -> tuple[list[str], list[str]]:
    """Everything asked of the host, and the names of the operations that changed it."""
    fake: dict[Any, str] = {re.compile(pattern): answer for pattern, answer in responses.items()}
    data = {"fake_responses": fake, "fake_delay": 0, "fake_delay_jitter": 0}
    state = State(Inventory((["@fake/head"], data)), Config())
    state.current_stage = StateStage.Prepare
    connect_all(state)
    add_deploy(state, steps.install, models=MODELS, gateway=CONFIG)
    add_deploy(state, steps.start, models=MODELS, gateway=CONFIG, names=["gpu-01"])
    run_ops(state)
    [host] = state.inventory
    changed = [
        next(iter(state.op_meta[op].names))
        for op in state.get_op_order()
        if state.ops[host][op].operation_meta.did_change()
    ]
    commands = list(host.connector.executed_commands)
    disconnect_all(state)
    return commands, changed


def test_a_second_run_changes_nothing() -> None:
    commands, changed = run(deployed())
    assert changed == []
    assert not [command for command in commands if re.search(r"systemctl (?!show)|apt-get|mv |rm ", command)]


def test_a_second_run_asks_the_host_ten_questions() -> None:
    """Each is a round trip over SSH."""
    commands, _ = run(deployed())
    assert len(set(commands)) == 10


def test_the_distributions_service_is_masked_before_its_package_is_installed() -> None:
    commands, _ = run(blank())
    mask = next(i for i, command in enumerate(commands) if "ln -s" in command and "haproxy.service" in command)
    package = next(i for i, command in enumerate(commands) if "apt-get" in command and "install" in command)
    assert mask < package


def test_a_blank_host_ends_with_a_gateway_that_is_enabled_and_has_loaded() -> None:
    commands, _ = run(blank())
    text = "\n".join(commands)
    order = ["haproxy -c -f", "systemctl enable rayrack-gateway", "systemctl restart rayrack-gateway", "timeout 20"]
    assert sorted(order, key=text.index) == order


def test_what_belongs_to_the_user_comes_before_the_certificate_and_that_before_the_start() -> None:
    commands, _ = run(blank())
    text = "\n".join(commands)
    order = [
        "chown root:rayrack-gateway /etc/rayrack/gateway ",
        "chown root:rayrack-gateway /etc/rayrack/gateway/keys/made.map ",
        "gateway_certificate ensure gpu-01",
        "haproxy -c -f",
    ]
    assert sorted(order, key=text.index) == order


def test_a_key_file_that_others_could_read_is_closed_and_keeps_its_keys() -> None:
    responses = deployed()
    responses[PLACES_ASKED] = responses[PLACES_ASKED].replace("640", "644", 1)
    commands, changed = run(responses)
    assert changed == ["Gateway | Directories and key files of the gateway"]
    [mended] = [command for command in commands if "chmod" in command]
    assert "[ -f /etc/rayrack/gateway/keys/declared.map ] || : >" in mended
    assert "chmod 640 /etc/rayrack/gateway/keys/declared.map" in mended


def test_a_configuration_on_disk_that_was_never_loaded_is_loaded() -> None:
    commands, changed = run(deployed(config="old"))
    assert changed == ["Gateway | The gateway runs this configuration"]
    assert [command for command in commands if "systemctl reload rayrack-gateway.service" in command]
