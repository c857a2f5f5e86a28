"""`make demo` on hosts that are deployed already, which is what typing it again does."""

import json
import re
import subprocess
import sys
import time

from tests.conftest import DeployedRack
from tests.lab.lab import ROOT
from tests.lab.test_deploy_again import unit_starts

LONGEST_SILENCE_S = 60
QUICK_S = 120


def test_the_demo_again_is_quick_and_harmless_and_shows_everything(rack: DeployedRack) -> None:
    before = unit_starts(rack)
    began = said_at = time.monotonic()
    silences, lines = [], []
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lab.demo"],
        cwd=ROOT,
        env=rack.lab.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            silences.append(time.monotonic() - said_at)
            said_at = time.monotonic()
            lines.append(line)
    shown = "".join(lines)
    assert demo.returncode == 0, shown
    assert unit_starts(rack) == before
    assert time.monotonic() - began < QUICK_S
    assert max(silences) < LONGEST_SILENCE_S
    for heading in ("Hosts", "Units", "Models", "Go on"):
        assert f"\n{heading}\n{'-' * len(heading)}\n" in shown
    assert "GET /v1/models -> tiny-a, tiny-b, tiny-embed\n" in shown
    answers = re.findall(r"^  (tiny-[ab]): (.+)  \([\d.]+ s\)$", shown, re.MULTILINE)
    assert [name for name, _ in answers] == ["tiny-a", "tiny-b"]
    assert re.search(r"^  tiny-a:(.+ \|){3,}", shown, re.MULTILINE), f"the streamed one, in pieces: {shown}"
    assert re.search(r"from tiny-embed, \d+ numbers:\n  \[-?\d", shown)
    for command in ("tests/lab/lab.sh ssh h1 systemctl status", "pyinfra inventories/lab.py deploy/", "make lab-down"):
        assert command in shown
    curl = re.search(r"^ +(curl (?:.*\\\n)*.*)$", shown, re.MULTILINE)
    assert curl, shown
    pasted = subprocess.run(["bash", "-c", curl[1]], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(pasted.stdout)["choices"][0]["text"]
