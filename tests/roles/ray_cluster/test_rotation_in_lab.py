"""Ray's token is rotated on a rack that serves: refused by halves, told beforehand, finished when it was cut short."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import INVENTORY, ROOT, program, wait_until
from tests.lab.test_deploy_again import changes

TOKEN = "/etc/rayrack/secrets/ray.token"
ROTATE = ("--data", "rotate_ray_token=true")
MODELS = ("tiny-a", "tiny-b", "tiny-embed")
DASHBOARD = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8265/api/v0/nodes"


class Tokens:
    """The cluster's token as its hosts have it."""

    def __init__(self, rack: DeployedRack) -> None:
        self.lab, self.head, self.hosts = rack.lab, rack.head, (rack.head, rack.worker)

    def digests(self) -> list[str]:
        return [self.lab.read(host, f"sha256sum <{TOKEN}") for host in self.hosts]

    def files(self) -> set[str]:
        return {self.lab.read(host, f"stat -c '%a %U:%G %s' {TOKEN}") for host in self.hosts}

    def keep_old(self) -> None:
        """A copy of today's token, of root alone and gone with the host's next boot."""
        self.lab.ssh(self.head, f"install -m 400 {TOKEN} /run/old.token")

    def answer(self, file: str) -> str:
        """The dashboard's answer to whoever shows the token in ``file``."""
        return self.lab.read(self.head, f'{DASHBOARD} -H "Authorization: Bearer $(cat {file})"')

    def outdated(self) -> str:
        roles = zip(self.hosts, ("head", "worker"), strict=True)
        return "".join(self.lab.read(host, f"/opt/rayrack/bin/ray_node outdated {role}") for host, role in roles)

    def model_starts(self) -> list[int]:
        """When each model, in the order of the list, was ready."""
        show = "systemctl show -P ActiveEnterTimestampMonotonic rayrack-model@{}"
        return [int(self.lab.read(self.head, show.format(model))) for model in MODELS]


@pytest.fixture
def tokens(rack: DeployedRack) -> Iterator[Tokens]:
    tokens = Tokens(rack)
    yield tokens
    for host in tokens.hosts:
        rack.lab.ssh(host, "rm -f /run/old.token")


@pytest.mark.parametrize("part", [("--limit", "h1"), ("--exclude", "h2")], ids=["limit", "exclude"])
def test_a_run_of_some_hosts_is_refused_and_changes_nothing(
    rack: DeployedRack, tokens: Tokens, part: tuple[str, ...]
) -> None:
    before = tokens.digests()
    result = rack.lab.deploy(*ROTATE, *part, check=False)
    assert result.returncode == 1
    assert "rotate_ray_token: all hosts must take part, and this run leaves h2 out" in result.stdout
    assert "the run stops here and no host was changed" in result.stdout
    assert tokens.digests() == before


def test_the_plan_tells_of_every_node_and_model_and_for_how_long(rack: DeployedRack, tokens: Tokens) -> None:
    before = tokens.digests()
    shown = rack.lab.pyinfra("deploy/", "--dry", *ROTATE).stdout
    assert len(re.findall(r"^ +node: restarts: Ray's token \(\d+ s\)$", shown, re.MULTILINE)) == 2
    told = " ".join(shown.split())
    for model in MODELS:
        assert re.search(rf" {model} restart: the head h1 goes down \(\d+ s without\)", told)
    assert re.search(r"Ray's token \| made +1 ", shown)
    assert re.search(r"Ray's token \| from the head +1 ", shown)
    assert tokens.digests() == before


@pytest.mark.destructive
def test_a_rotation_brings_a_new_token_everywhere_and_the_old_one_is_refused(
    rack: DeployedRack, tokens: Tokens
) -> None:
    tokens.keep_old()
    old = tokens.digests()
    rack.lab.deploy(*ROTATE)
    new = tokens.digests()
    assert len(set(new)) == 1
    assert new != old
    assert tokens.files() == {"400 root:root 64"}
    assert tokens.outdated() == ""
    assert tokens.answer("/run/old.token") in ("401", "403")
    assert tokens.answer(TOKEN) == "200"
    assert tokens.model_starts() == sorted(tokens.model_starts())
    assert rack.client().completions.create(model="tiny-b", prompt="x", max_tokens=2).choices[0].text
    assert changes(rack.lab.deploy()) == set()
    assert tokens.digests() == new


@pytest.mark.destructive
def test_an_ordinary_deploy_finishes_a_rotation_that_was_cut_short(
    rack: DeployedRack, tokens: Tokens, tmp_path: Path
) -> None:
    old = tokens.digests()
    with (tmp_path / "cut-short.log").open("w") as log:
        cut_short = subprocess.Popen(
            [program("pyinfra"), INVENTORY, "deploy/", "-y", *ROTATE],
            cwd=ROOT,
            env=os.environ | rack.lab.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: tokens.digests()[0] != old[0], "a new token on the head", 120, every_s=0.1)
        finally:
            cut_short.kill()
            cut_short.wait()
    made = tokens.digests()[0]
    assert "Ray's token" in tokens.outdated()
    rack.lab.deploy()
    assert tokens.digests() == [made, made]
    assert tokens.outdated() == ""
    assert changes(rack.lab.deploy()) == set()
