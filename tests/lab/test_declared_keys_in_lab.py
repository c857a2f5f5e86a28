"""Declared keys and an own certificate, on a gateway alone: what clients see, and that the secrets are seen nowhere."""

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import Lab, Result
from tests.lab.test_deploy_again import changes
from tests.roles.secrets.test_certificate import Issued, issue

KEYS = {kind: f"c4na4y-{kind}-" + "5ec4e7" * 6 for kind in ("file", "environment", "command")}
HUB_TOKEN = "c4na4y-hub-" + "5ec4e7" * 6
GATEWAY = "/etc/rayrack/gateway"
# The gateway answers without Ray: what is asked for here it decides by itself.
DEPLOYS = tuple(f"deploy/{name}.py" for name in ("00_preflight", "05_verdict", "10_host", "40_gateway"))


@dataclass
class Door:
    """A gateway on h1 and the operator's side of it."""

    lab: Lab
    directory: Path
    authority: Issued
    said: str = field(default="", init=False)
    """All that pyinfra has shown so far."""

    def deploy(self, *arguments: str) -> Result:
        environ = {"RACK_KEY": KEYS["environment"], "RACK_OTHER": KEYS["command"], "HUB_TOKEN": HUB_TOKEN}
        result = self.lab.pyinfra(
            *DEPLOYS, "-y", *arguments, inventory=str(self.directory / "inventory.py"), env=environ, check=False
        )
        self.said += result.stdout
        assert result.returncode == 0, result.stdout[-4000:]
        return result

    def settings(self, **settings: Any) -> None:
        """The inventory: h1 alone, with what comes from the operator's side."""
        own = {
            "secrets": {"hub.token": {"environment": "HUB_TOKEN"}},
            "gateway_certificate": {"file": f"{self.directory}/chain.pem"},
            "gateway_certificate_key": {"command": f"cat {self.directory}/key.pem"},
        }
        (self.directory / "inventory.py").write_text(INVENTORY.format(own=own | settings))

    def declare(self, **sources: Any) -> None:
        """The list of keys, each by the kind of its source."""
        keys = [{"name": kind, "from": {kind: source}} for kind, source in sources.items()]
        (self.directory / "keys.yaml").write_text(json.dumps({"keys": keys}))

    def certify(self) -> Issued:
        """A new certificate for h1, where the settings look for it."""
        now = datetime.now(UTC)
        own = issue(
            "h1",
            self.authority,
            names=("h1", self.lab.address("h1")),
            begins=now - timedelta(days=1),
            ends=now + timedelta(days=90),
        )
        (self.directory / "chain.pem").write_text(own.pem)
        (self.directory / "key.pem").touch(0o600)
        (self.directory / "key.pem").write_text(own.key_pem())
        return own

    def connect(self) -> http.client.HTTPSConnection:
        """As a client that trusts the operator's authority and nobody else."""
        context = ssl.create_default_context(cadata=self.authority.pem)
        return http.client.HTTPSConnection(self.lab.address("h1"), 8000, context=context, timeout=10)

    def status(self, key: str) -> int:
        connection = self.connect()
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
        status = connection.getresponse().status
        connection.close()
        return status

    def serial(self) -> int:
        """Of the certificate that new connections see."""
        from cryptography import x509

        connection = self.connect()
        connection.connect()
        shown = connection.sock.getpeercert(binary_form=True)
        connection.close()
        return x509.load_der_x509_certificate(shown).serial_number


INVENTORY = """
import runpy

lab = runpy.run_path("inventories/lab.py")
head, workers = lab["head"], []
own = {own!r}
rack = (["h1"], {{**lab["rack"][1], **own}})
"""


@pytest.fixture
def door(blank_lab: Lab, tmp_path: Path) -> Door:
    now = datetime.now(UTC)
    authority = issue("Own root", authority=True, begins=now - timedelta(days=1), ends=now + timedelta(days=900))
    (tmp_path / "file.key").touch(0o600)
    (tmp_path / "file.key").write_text(KEYS["file"] + "\n")
    found = Door(blank_lab, tmp_path, authority)
    found.settings(keys_file=f"{tmp_path}/keys.yaml")
    return found


@pytest.mark.parametrize("blank_lab", [1], indirect=True)
def test_what_the_operator_declares_opens_the_door_and_is_seen_nowhere(door: Door) -> None:
    lab = door.lab
    first = door.certify()
    door.declare(file="file.key", environment="RACK_KEY", command="printenv RACK_OTHER")
    door.deploy("-vvv", "--diff")
    assert [door.status(key) for key in (*KEYS.values(), "c4na4y-none")] == [200, 200, 200, 401]
    assert door.serial() == first.certificate.serial_number
    assert lab.read("h1", "cat /etc/rayrack/secrets/hub.token") == HUB_TOKEN

    # A second deploy changes nothing, and a dry one tells of nothing.
    assert changes(door.deploy("-vvv", "--diff")) == set()

    # A key goes and a certificate is exchanged; who is connected does not notice.
    failures, stop = [], threading.Event()
    asking = threading.Thread(target=ask_all_the_time, args=(door, failures, stop))
    asking.start()
    second = door.certify()
    door.declare(file="file.key", command="printenv RACK_OTHER")
    planned = door.deploy("--dry", "-vvv", "--diff").stdout
    assert "keys: writes: declared.map, tls.pem.key, tls.pem" in planned
    assert door.status(KEYS["environment"]) == 200
    changed = changes(door.deploy("-vvv", "--diff"))
    stop.set()
    asking.join()
    assert changed == {
        "Declared keys, and a certificate of its own",
        "Gateway | The gateway runs this configuration",
    }
    assert failures == []
    assert [door.status(KEYS[kind]) for kind in ("file", "environment", "command")] == [200, 401, 200]
    assert door.serial() == second.certificate.serial_number

    # A list that is taken out of the settings takes its keys with it.
    door.settings()
    door.deploy("-vvv", "--diff")
    assert lab.read("h1", f"wc -c <{GATEWAY}/keys/declared.map") == "0"
    assert door.status(KEYS["file"]) == 401

    on_host = {HUB_TOKEN: "/etc/rayrack/secrets/hub.token", second.key_pem(): f"{GATEWAY}/tls.pem.key"}
    hidden = [form for secret in (*KEYS.values(), first.key_pem(), *on_host) for form in forms(secret)]
    assert [form for form in hidden if form in door.said] == []
    assert found_on(lab, hidden) == set(on_host.values())
    assert found_on(lab, [form for key in KEYS.values() for form in forms(key)]) == set()
    for path, state in {
        "/etc/rayrack/secrets/hub.token": "root:root 400",
        f"{GATEWAY}/keys/declared.map": "root:rayrack-gateway 640",
        f"{GATEWAY}/tls.pem.key": "root:rayrack-gateway 640",
        f"{GATEWAY}/tls.pem": "root:rayrack-gateway 644",
    }.items():
        assert lab.read("h1", f"stat -c '%U:%G %a' {path}") == state, path


def ask_all_the_time(door: Door, failures: list[str], stop: threading.Event) -> None:
    kept = door.connect()
    while not stop.wait(0.05):
        for connection in (kept, door.connect()):
            try:
                connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {KEYS['file']}"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failures.append(str(answer.status))
            except OSError as error:
                failures.append(repr(error))
            if connection is not kept:
                connection.close()
    kept.close()


def forms(secret: str) -> tuple[str, ...]:
    """A line of it as it is and as base64, each short enough to be found in the middle of something."""
    line = secret.splitlines()[len(secret.splitlines()) // 2]
    return line[2:42], base64.b64encode(secret.encode()).decode()[4:44]


def found_on(lab: Lab, texts: Sequence[str]) -> set[str]:
    """The files of h1 that hold one of ``texts``, and the journal if it does."""
    places = "/etc /home /opt /root /run /srv /tmp /var"
    wanted = " ".join(f"-e '{text}'" for text in texts)
    search = f"grep -rlaF --exclude-dir=wheelhouse --exclude-dir=models -D skip {wanted} {places} 2>/dev/null"
    journal = f"journalctl --no-pager -o cat | grep -qF {wanted} && echo journal"
    found = set(lab.ssh("h1", f"{search}; {journal}", timeout_s=180, check=False).stdout.split())
    return {path for path in found if not path.startswith(("/run/credentials/", "/run/log/journal/"))}
