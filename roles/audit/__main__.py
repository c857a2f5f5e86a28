"""`make audit`: does a lock, or this environment, hold a version with a known vulnerability? Nothing is installed.

    python -m roles.audit [--osv-url URL]

Asks OSV (https://osv.dev) by PyPA's pip-audit. Exits with 0 when nothing is known, with 1 when something is, with 2
when that could not be found out.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from roles.audit import accepted
from roles.audit.findings import Version, findings, requirements, unanswered, verdict, versions
from roles.errors import InputError
from roles.serving_runtime.lock import LOCKS

# Host modules are imported by plain name, here as on a host.
sys.path.insert(0, str(Path(__file__).parents[1] / "serving_runtime/host"))
from lock_wheels import normal_name, read_lock

OSV = "https://api.osv.dev/v1/query"
ANSWER_LIMIT_S = 15
TIME_LIMIT_S = 900
OWN = "rayrack"  # not from an index


def sources(locks: Path = LOCKS) -> dict[str, list[Version]]:
    """What each lock pins, and what is installed beside this program: the operator's own side."""
    files = sorted(file for file in locks.glob("*.txt") if "--hash" in file.read_text())
    found = {file.stem: [(pin.name, pin.version) for pin in read_lock(file.read_text())] for file in files}
    here = {normal_name(each.name): each.version for each in importlib.metadata.distributions()}
    found["this environment"] = [(name, version) for name, version in here.items() if name != OWN]
    return found


def command(files: Sequence[Path], output: Path, osv_url: str) -> list[str | Path]:
    """pip-audit's command line. It reads pins: no pip, no resolving, no installing."""
    each_file = [argument for file in files for argument in ("--requirement", file)]
    return [
        *(sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", *each_file),
        *("--vulnerability-service", "osv", "--osv-url", osv_url, "--timeout", str(ANSWER_LIMIT_S)),
        *("--format", "json", "--aliases", "on", "--desc", "on", "--progress-spinner", "off", "--output", output),
    ]


def report(wanted: Iterable[Version], osv_url: str) -> dict[str, Any]:
    """What the service knows of these versions.

    Raises:
        InputError: it cannot be asked.
    """
    if importlib.util.find_spec("pip_audit") is None:
        raise InputError(f"audit: {sys.executable} has no pip-audit: install it with pip install -e '.[dev]'")
    with tempfile.TemporaryDirectory(prefix="rayrack-audit-") as directory:
        files = []
        for number, text in enumerate(requirements(wanted)):
            files.append(Path(directory) / f"{number}.txt")
            files[-1].write_text(text)
        output = Path(directory) / "report.json"
        try:
            run = subprocess.run(
                command(files, output, osv_url), capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
            )
            found: dict[str, Any] = json.loads(output.read_text())
        except subprocess.TimeoutExpired:
            raise InputError(f"audit: {osv_url} did not answer all questions within {TIME_LIMIT_S} s") from None
        except (OSError, ValueError):
            raise InputError(f"audit: nothing was checked: {osv_url} cannot be asked: {reason(run.stderr)}") from None
    return found


def reason(output: str) -> str:
    """Why pip-audit ended without a report, in some words of its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no reason given"]
    # As requests tells it: `...Pool(...): Max retries exceeded with url: ... (Caused by NewError("...: why"))`.
    cause = re.search(r"Caused by \w+\(.*?: ([^\"']+)", lines[-1])
    return (cause[1] if cause else lines[-1])[:200].rstrip(") ")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--osv-url", default=OSV, help="a mirror of OSV's query service (default: %(default)s)")
    osv_url = parser.parse_args(arguments).osv_url
    pinned = sources()
    wanted = versions(pinned)
    print(f"audit: asking {osv_url} about {len(wanted)} versions: {', '.join(pinned)}", flush=True)
    try:
        passing = accepted.read()
        found = report(wanted, osv_url)
        if left := unanswered(found, wanted):
            shown = ", ".join(" ".join(version) for version in left[:5])
            raise InputError(f"audit: no answer about {len(left)} versions, the first: {shown}")
    except InputError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    return tell(found, wanted, passing)


def tell(
    found: Mapping[str, Any], wanted: Mapping[Version, tuple[str, ...]], passing: Sequence[accepted.Accepted]
) -> int:
    """Show the result; the exit status."""
    result = verdict(list(findings(found, wanted)), passing, date.today())
    for finding in result.findings:
        print(f"  {finding}")
    for finding, why in result.accepted:
        print(f"  accepted until {why.until} ({why.reason}): {finding}")
    for note in result.notes:
        print(f"  {note}")
    count, packages = len(result.findings), len({finding.name for finding in result.findings})
    more = f", and {len(result.accepted)} accepted" if result.accepted else ""
    if count:
        print(f"audit: known vulnerabilities: {count}, in packages: {packages}{more}; see docs/audit.md")
    else:
        print(f"audit: no known vulnerability in {len(wanted)} versions{more}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
