"""Planted secrets: everything is run, as loud as it can be, and then hosts and outputs are searched for them.

Where each secret may be stands in ALLOWED; anywhere else it is a leak. The search itself is shown to find leaks, at the
end on the hosts, and in every shape in test_canary_search.py.
"""

import http.client
import json
import re
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import canary_search
from tests.lab.canary_search import Canaries, Hit
from tests.lab.lab import ROOT, Lab, Result, Tell, run
from tests.roles.secrets.test_certificate import issue

PROGRAM = Path(canary_search.__file__)
ON_HOST = "/run/canary_search.py"
SECRETS = "/etc/rayrack/secrets"
LOUD = ("-vvv", "--diff")
HEAD, WORKER = "h1", "h2"
REST = "curl -s http://127.0.0.1:8265/api/serve/applications/"
WITH_TOKEN = f'{REST} -H "Authorization: Bearer $(cat {SECRETS}/ray.token)"'
# Wheels as they were unpacked, each checked against its hash, and the lab's own read-only directories.
NOT_SEARCHED = ["/srv", "/opt/rayrack/runtime", ON_HOST]

# systemd's copies, for the unit's user while it runs. A node has what its engines may need, a model's unit Ray's token.
OF_NODES = r"/run/credentials/rayrack-(head|worker)\.service"
OF_MODELS = r"/run/credentials/rayrack-model@[^/]+\.service"
# By canary: kind, where, how (for a file its mode and owner). Patterns, for the whole text.
ALLOWED: Mapping[str, list[tuple[str, str, str]]] = {
    "ray token": [
        ("file", rf"{SECRETS}/ray\.token", "400 root:root"),
        ("file", rf"({OF_NODES}|{OF_MODELS})/ray\.token", "400 rayrack:root"),
        ("file", rf"{OF_NODES}/secrets_ray\.token", "400 rayrack:root"),
    ],
    "hub token": [
        ("file", rf"{SECRETS}/hub\.token", "400 root:root"),
        ("file", rf"{OF_NODES}/secrets_hub\.token", "400 rayrack:root"),
        # The engine of the model whose list entry names it, and what that engine starts.
        ("environ", ".*", r'secrets \{"HF_TOKEN": ?"hub\.token"\}'),
    ],
    # API keys are on no host: a declared one is where the operator keeps it, a made one with its user.
    "TLS key": [("file", r"/etc/rayrack/gateway/tls\.pem\.key", "640 root:rayrack-gateway")],
}


def is_allowed(hit: Hit) -> bool:
    return any(
        hit["kind"] == kind and re.fullmatch(where, hit["where"]) and re.fullmatch(how, hit["how"])
        for kind, where, how in ALLOWED.get(hit["canary"], ())
    )


@dataclass
class Planted:
    """A lab with secrets in it, and all that anybody was shown meanwhile."""

    lab: Lab
    directory: Path
    canaries: dict[str, str]
    environ: dict[str, str]
    """What the operator's shell has: some secrets come from there."""
    began: float = field(default_factory=lambda: time.time() - 1)
    shown: dict[str, str] = field(default_factory=dict)

    @property
    def inventory(self) -> str:
        return str(self.directory / "inventory.py")

    def feed(self, host: str, command: str, text: str) -> str:
        """Run a command with this on its standard input, which is in no command line."""
        ssh = ["ssh", "-F", str(self.lab.directory / "ssh_config"), "-l", "root", host, command]
        result = subprocess.run(ssh, input=text, text=True, capture_output=True, check=True, timeout=600)
        return result.stdout

    def put(self, host: str, name: str, text: str) -> None:
        self.feed(host, f"install -d -m 700 {SECRETS}; umask 277; cat >{SECRETS}/{name}", text)

    def models(self, **of_tiny_a: object) -> str:
        """The lab's list with two models, the first of them with a secret."""
        document = yaml.safe_load((ROOT / "inventories/models/lab.yaml").read_text())
        document["models"] = document["models"][:2]
        document["models"][0] |= {"secrets": {"HF_TOKEN": "hub.token"}, **of_tiny_a}
        file = self.directory / "models.yaml"
        file.write_text(yaml.safe_dump(document))
        return f"models_file={file}"

    def deploy(self, what: str, *arguments: str, check: bool = True, models: str | None = None) -> Result:
        data = ["--data", models or self.models(), "--data", f"plan_file={self.directory / 'plan.json'}"]
        command = ("deploy/", "-y", *LOUD, *data, *arguments)
        result = self.lab.pyinfra(*command, inventory=self.inventory, env=self.environ, check=check, timeout_s=1500)
        self.shown[what] = result.stdout
        self.shown[f"{what}: plan_file"] = (self.directory / "plan.json").read_text()
        return result

    def command(self, what: str, *command: str, check: bool = True) -> str:
        """A command on the operator's machine."""
        environ = self.lab.environment | self.environ
        self.shown[what] = run(command, env=environ, timeout_s=600, check=check).stdout
        return self.shown[what]

    def on_head(self, command: str, *, check: bool = True) -> str:
        self.shown[f"h1: {command}"] = self.lab.ssh(HEAD, command, timeout_s=600, check=check).stdout
        return self.shown[f"h1: {command}"]

    def question(self, roots: list[str], skip: list[str], *, journal: bool) -> str:
        asked = {"canaries": self.canaries, "roots": roots, "skip": skip, "since": self.began, "journal": journal}
        return json.dumps(asked) + "\n"

    def search_host(self, host: str) -> list[Hit]:
        self.feed(host, f"cat >{ON_HOST}", PROGRAM.read_text())
        asked = self.question(["/"], NOT_SEARCHED, journal=True)
        hits: list[Hit] = json.loads(self.feed(host, f"python3 {ON_HOST} search", asked))
        return [{**hit, "host": host} for hit in hits]

    def search_here(self) -> list[Hit]:
        """What stays on the operator's machine: temporary files, the checkout, the files at the top of the home."""
        kept = (self.directory, self.lab.directory, ROOT / ".git", ROOT / ".venv", *map(Path, Path.home().glob("*/")))
        asked = self.question(["/tmp", str(ROOT), str(Path.home())], [str(path) for path in kept], journal=False)
        hits: list[Hit] = json.loads(run_here("search", asked, timeout_s=300))
        return [{**hit, "host": "here"} for hit in hits if hit["kind"] == "file"]

    def search_outputs(self) -> list[Hit]:
        canaries = Canaries(self.canaries)
        return [
            {"canary": name, "kind": "output", "where": what, "how": "", "host": "here"}
            for what, text in self.shown.items()
            for name in canaries.found_in(text.encode())
        ]

    def leaks(self) -> list[Hit]:
        found = [*self.search_outputs(), *self.search_here(), *self.search_host(HEAD), *self.search_host(WORKER)]
        return [hit for hit in found if not is_allowed(hit)]


def run_here(mode: str, asked: str, timeout_s: float) -> str:
    result = subprocess.run(
        [sys.executable, PROGRAM, mode], input=asked, text=True, capture_output=True, check=True, timeout=timeout_s
    )
    return result.stdout


class Watcher:
    """Looks at all command lines of this machine, those in its hosts included, until it is asked."""

    def __init__(self, canaries: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, "watch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"canaries": dict(canaries)}) + "\n")
        self.process.stdin.flush()

    def end(self) -> list[Hit]:
        shown, _ = self.process.communicate()
        hits: list[Hit] = json.loads(shown)
        return hits


@pytest.fixture
def planted(blank_lab: Lab, tmp_path: Path) -> Planted:
    return plant(blank_lab, tmp_path)


def plant(lab: Lab, directory: Path) -> Planted:
    """Secrets in every place that a secret can come from: two hosts, and the operator's files, shell and commands."""
    own, key = certificate_of(lab)
    canaries = {
        "ray token": secrets.token_hex(32),
        # Characters that change when they are URL-encoded.
        "hub token": f"hf_Canary+/={secrets.token_hex(16)}",
        **{f"key from {kind}": secrets.token_urlsafe(40) for kind in ("file", "environment", "command")},
        # Characters of the private number alone: a P-256 key's first line is nearly the same in all, its end is public.
        "TLS key": key.splitlines()[2][:24],
    }
    environ = {
        "RACK_KEY": canaries["key from environment"],
        "RACK_OTHER": canaries["key from command"],
        "HUB_TOKEN": canaries["hub token"],
    }
    planted = Planted(lab, directory, canaries, environ)
    for name, text in {"file.key": canaries["key from file"], "key.pem": key, "chain.pem": own}.items():
        (directory / name).touch(0o600)
        (directory / name).write_text(text)
    sources = {"file": "file.key", "environment": "RACK_KEY", "command": "printenv RACK_OTHER"}
    keys = [{"name": kind, "from": {kind: source}} for kind, source in sources.items()]
    (directory / "keys.yaml").write_text(json.dumps({"keys": keys}))
    settings = {
        "keys_file": f"{directory}/keys.yaml",
        "secrets": {"hub.token": {"environment": "HUB_TOKEN"}},
        "gateway_certificate": {"file": f"{directory}/chain.pem"},
        "gateway_certificate_key": {"command": f"cat {directory}/key.pem"},
    }
    Path(planted.inventory).write_text(
        "import runpy\n"
        "lab = runpy.run_path('inventories/lab.py')\n"
        "head, workers = lab['head'], lab['workers']\n"
        f"rack = (lab['rack'][0], {{**lab['rack'][1], **{settings!r}}})\n"
    )
    planted.put(HEAD, "ray.token", canaries["ray token"])
    return planted


def certificate_of(lab: Lab) -> tuple[str, str]:
    """A certificate of the operator's own for the head, and its key: PEM."""
    now = datetime.now(UTC)
    begins, ends = now - timedelta(days=1), now + timedelta(days=90)
    authority = issue("Own root", authority=True, begins=begins, ends=ends)
    issued = issue(HEAD, authority, names=(HEAD, lab.address(HEAD)), begins=begins, ends=ends)
    return issued.pem + authority.pem, issued.key_pem()


def deployed_and_used(planted: Planted, tell: Tell) -> None:
    """All that an operator does with a rack."""
    tell("deploy, again, --dry, plan, verify")
    planted.deploy("first deploy")
    assert planted.feed(HEAD, f"cat {SECRETS}/ray.token", "") == planted.canaries["ray token"]
    planted.deploy("second deploy")
    planted.deploy("dry", "--dry")
    plan = ("--data", planted.models(), "-vvv", "--diff")
    planted.command("plan", sys.executable, "-m", "deploy.inputs.make_plan", planted.inventory, *plan)
    planted.command("verify", "tests/hosts/verify.sh", planted.inventory, check=False)
    tell("units by hand, REST")
    for verb in ("reload", "restart", "status", "stop", "start"):
        planted.on_head(f"systemctl {verb} rayrack-model@tiny-a 2>&1", check=False)
    planted.on_head(
        "systemctl show 'rayrack-*' 2>&1; systemctl cat 'rayrack-*' 2>&1; /opt/rayrack/bin/model_units describe"
    )
    assert "Unauthorized" in planted.on_head(f"{REST}; {REST} -H 'Authorization: Bearer wrong'")
    # Whoever has Ray's token sees what Serve was told: names of secrets, no values.
    assert '"HF_TOKEN' in planted.on_head(WITH_TOKEN).replace("\\", "")


def asked_with_keys(planted: Planted, tell: Tell) -> None:
    """A key is made, shown to whoever made it, used, listed and revoked; declared ones are used."""
    tell("keys")
    made = planted.feed(HEAD, "/opt/rayrack/bin/api_keys make someone --expires-in 1d", "").strip()
    planted.canaries["made key"] = made
    keys = [text for name, text in planted.canaries.items() if "key from" in name] + [made, f"wrong-{made}"]
    assert [answer(planted, key) for key in keys] == [200, 200, 200, 200, 401]
    planted.on_head("/opt/rayrack/bin/api_keys list 2>&1; /opt/rayrack/bin/api_keys check 2>&1")
    planted.on_head("/opt/rayrack/bin/api_keys revoke someone 2>&1")
    assert answer(planted, made) == 401


def answer(planted: Planted, key: str) -> int:
    """The status of a question about the models, asked over TLS with this key."""
    context = ssl.create_default_context(cadata=(planted.directory / "chain.pem").read_text())
    connection = http.client.HTTPSConnection(planted.lab.address(HEAD), 8000, context=context, timeout=30)
    connection.request("GET", f"/v1/models?key={key}", headers={"Authorization": f"Bearer {key}"})
    status = connection.getresponse().status
    connection.close()
    return status


def rotated(planted: Planted, tell: Tell) -> None:
    """A rotation that fails on the worker, and the deploy that finishes it."""
    tell("rotation that fails, and is finished")
    planted.lab.ssh(WORKER, f"mkdir -p {SECRETS}/ray.token.new/x")
    failed = planted.deploy("failed rotation", "--data", "rotate_ray_token=true", check=False)
    assert failed.returncode == 1
    assert f"cannot write {SECRETS}/ray.token" in failed.stdout
    planted.lab.ssh(WORKER, f"rm -r {SECRETS}/ray.token.new")
    planted.deploy("rotation finished")
    new = planted.feed(WORKER, f"cat {SECRETS}/ray.token", "")
    assert new != planted.canaries["ray token"]
    # For the old one there is no place left.
    planted.canaries |= {"old ray token": planted.canaries["ray token"], "ray token": new}


def failed(planted: Planted, tell: Tell) -> None:
    """Starts that fail, each with a traceback somewhere."""
    tell("starts that fail")
    changes: dict[str, dict[str, object]] = {
        "engine fails": {"quantization": "awq", "start_timeout_s": 60},
        "no such secret": {"secrets": {"HF_TOKEN": "hub.token", "OTHER": "missing.token"}},
    }
    for what, change in changes.items():
        assert planted.deploy(what, check=False, models=planted.models(**change)).returncode == 1
        planted.on_head("systemctl status 'rayrack-*' 2>&1", check=False)
        planted.on_head(WITH_TOKEN)


def plant_leaks(planted: Planted) -> set[tuple[str, str, str]]:
    """One leak of each kind; what the search has to say of them."""
    token, hub = planted.canaries["ray token"], planted.canaries["hub token"]
    planted.feed(HEAD, "base64 >/var/backups/leak", f"a copy: {token}\n")
    planted.feed(HEAD, "logger -t leak", hub)
    variable = "systemd-run -q --unit=leak-variable -E LEAK=$x sleep 300"
    argument = "systemd-run -q --unit=leak-argument sh -c 'sleep 300; :' $x"
    planted.feed(WORKER, f"read -r x; {variable}; {argument}", f"{token}\n")
    planted.shown["leak"] = f"--> {hub}"
    return {
        ("ray token", "file", "h1"),
        ("hub token", "journal", "h1"),
        ("ray token", "environ", "h2"),
        ("ray token", "cmdline", "h2"),
        ("hub token", "output", "here"),
    }


@pytest.mark.long
@pytest.mark.parametrize("blank_lab", [2], indirect=True)
def test_no_secret_leaves_its_places(planted: Planted, tell: Tell) -> None:
    watcher = Watcher(planted.canaries)
    try:
        deployed_and_used(planted, tell)
        asked_with_keys(planted, tell)
        rotated(planted, tell)
        leaks = planted.leaks()
        failed(planted, tell)
        tell("search")
        leaks += planted.leaks()
    finally:
        leaks_of_commands = watcher.end()
    assert leaks_of_commands == []
    assert leaks == []
    expected = plant_leaks(planted)
    assert {(hit["canary"], hit["kind"], hit["host"]) for hit in planted.leaks()} >= expected


def test_what_is_looked_for_of_a_tls_key_is_no_other_key_s_and_not_in_its_certificate() -> None:
    ours, other = (issue("h1") for _ in range(2))
    piece = Canaries({"TLS key": ours.key_pem().splitlines()[2][:24]})
    assert piece.found_in(ours.key_pem().encode()) == ["TLS key"]
    assert piece.found_in((ours.pem + other.pem + other.key_pem()).encode()) == []


def test_a_place_is_allowed_for_one_secret_with_one_mode() -> None:
    hit = {"canary": "ray token", "kind": "file", "where": f"{SECRETS}/ray.token", "how": "400 root:root"}
    assert is_allowed(hit)
    wrong: list[dict[str, Any]] = [
        {"how": "444 root:root"},
        {"canary": "hub token"},
        {"where": "/etc/other"},
        {"kind": "journal"},
    ]
    assert not any(is_allowed({**hit, **each}) for each in wrong)
