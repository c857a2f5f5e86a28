"""What systemd itself says of a unit's sandbox, by `systemd-analyze security` on the file alone."""

import re
import shutil
import subprocess
from pathlib import Path

# The same as the hosts are checked with: 4.0, in tenths (tests/hosts/test_units.py).
THRESHOLD = 40


def exposure(unit: str, text: str, directory: Path) -> float:
    """The overall exposure level of a rendered unit, 0 (closed) to 10; ``directory`` is for its file alone."""
    assert shutil.which("systemd-analyze"), "this machine has no systemd-analyze"
    (directory / unit).write_text(text)
    if "@" in unit:  # an instance is read from the template's file beside it
        (directory / f"{unit.partition('@')[0]}@.service").write_text(text)
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(directory / unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+) ", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])
