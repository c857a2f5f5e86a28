"""`make plan`: what a run would do, and one exit status for scripts; nothing is changed.

    python -m deploy.inputs.make_plan INVENTORY [options of pyinfra]

Exits with 0 when there is nothing to do, with 2 when something would change, with 1 when the plan is impossible or
could not be made.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from roles.planner.plan import EXIT_STATUS


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print("usage: make plan INVENTORY=inventories/prod.py", file=sys.stderr)
        return EXIT_STATUS["impossible"]
    inventory, *options = arguments
    pyinfra = Path(sys.executable).with_name("pyinfra")
    if not pyinfra.exists():
        print(f"make plan: {sys.executable} has no pyinfra: install it as README.md says", file=sys.stderr)
        return EXIT_STATUS["impossible"]
    with tempfile.TemporaryDirectory(prefix="rayrack-plan-") as directory:
        own = [option.partition("=")[2] for option in options if option.startswith("plan_file=")]
        file = Path(own[-1] if own else f"{directory}/plan.json")
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            print(f"make plan: plan_file: {file}: cannot be written: {error.strerror}", file=sys.stderr)
            return EXIT_STATUS["impossible"]
        command = [str(pyinfra), inventory, "deploy/", "--dry", "--json"]
        command += [*options, "--data", f"plan_file={file}"]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
        if not file.exists():  # and pyinfra has said why
            from deploy.inputs import plan_offline

            return plan_offline.show(inventory, [value for option, value in pairwise(options) if option == "--data"])
        plan = json.loads(file.read_text())
    operations = changing(run.stdout)
    for name, hosts in operations:
        print(f"would change: {name} ({', '.join(hosts)})", file=sys.stderr)
    return status(plan, run.returncode, operations)


def changing(output: str) -> list[tuple[str, list[str]]]:
    """The operations that would change hosts, from what ``pyinfra --dry --json`` prints. Those that depend on another
    one's change are not among them."""
    for line in output.splitlines():
        if line.startswith('{"plan": '):
            found = json.loads(line)["plan"]
            return [(entry["name"], entry["hosts_with_change"]) for entry in found if entry["hosts_with_change"]]
    return []


def status(plan: dict[str, Any], returncode: int, operations: Sequence[object]) -> int:
    """The exit status of `make plan`. A host that is left out makes pyinfra fail, and the plan goes on without it."""
    left_out = any(host["left_out"] for host in plan["hosts"])
    if plan["outcome"] == "impossible" or (returncode != 0 and not left_out):
        return EXIT_STATUS["impossible"]
    return EXIT_STATUS["changes"] if operations else EXIT_STATUS[plan["outcome"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
