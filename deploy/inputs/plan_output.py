"""Where a plan goes: to stderr as a table, to a file as JSON."""

import json
import os
import sys
from pathlib import Path

from roles.errors import InputError
from roles.planner import report
from roles.planner.plan import Plan


def publish(plan: Plan, plan_file: str | None) -> None:
    """Show the plan, and write it to ``plan_file`` if there is one.

    Raises:
        InputError: the file cannot be written.
    """
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print("\n" + report.text(plan, colour=colour), file=sys.stderr, flush=True)
    if plan_file is None:
        return
    file = Path(plan_file)
    new = file.with_name(f".{file.name}.new")
    try:
        new.write_text(json.dumps(plan.document(), indent=1) + "\n")
        new.replace(file)
    except OSError as error:
        raise InputError(f"plan_file: {file}: cannot be written: {error.strerror}") from None
