"""A plan from the inventory and the model list alone, for `make plan` when no host could be looked at."""

import os
import sys
from collections.abc import Sequence

from deploy.inputs import inventory_file, plan_output
from deploy.inputs.rack import Rack, load_rack
from roles.errors import InputError
from roles.planner import build
from roles.planner.memory.hub import Hub
from roles.planner.plan import EXIT_STATUS, Plan
from roles.storage.weights import is_hub_id


def show(inventory: str, data: Sequence[str]) -> int:
    """Show whether the list fits what the inventory declares; the exit status of `make plan`.

    Says nothing where not even that can be told: pyinfra has said by then what is wrong with the inputs.
    """
    try:
        rack = load_rack(inventory_file.read(inventory, data), os.environ)
    except InputError:
        return EXIT_STATUS["impossible"]
    print("\nno host could be looked at; from the inventory alone:", file=sys.stderr)
    plan = of(rack)
    lines = [*(f"warning: {line}" for line in plan.warnings), *plan.problems]
    try:
        plan_output.publish(plan, rack.head.settings.plan_file)
    except InputError as error:
        lines += error.problems
    for line in lines:
        print(f"    {line}", file=sys.stderr)
    return EXIT_STATUS[plan.outcome]


def of(rack: Rack) -> Plan:
    """The plan of a rack that nobody has looked at: what runs there, and its CPUs if not set, are unknown."""
    hub = Hub(os.environ)
    sources = dict.fromkeys(model.model_source for model in rack.models)
    hosts = [
        build.PlanHost.of(each.name, each.settings, is_head=each.is_head, cpus_found=None, left_out=None)
        for each in rack.hosts
    ]
    found = {source: hub.find(source) for source in sources if is_hub_id(source)}
    return build.plan(build.PlanInputs(hosts, rack.models, rack.models_source, found=found))
