"""Whether Ray's nodes could hold a model, and if not, what is missing. Pure: standard library, no I/O.

Ray itself never says: an application that fits nowhere stays DEPLOYING for ever (Ray 2.60).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serve_app import RUNTIME_CPU, Needs

Resources = Mapping[str, float]
_ACCELERATOR = "accelerator_type:"
# Ray's own unit of a resource is 1/10000; below that is the noise of adding floats.
_TINY = 1e-5


def missing(needs: Needs, replicas: int, nodes: Sequence[Mapping[str, Any]], *, free: bool = False) -> str | None:
    """What ``nodes`` lack to hold ``replicas`` at once, or None when they could.

    Counts what the nodes have in total, other models or not; with ``free`` only what nobody uses now. Placing is
    first fit, so in rare cases it says no where a cleverer packing exists.
    """
    room = [_free(node) if free else dict(node["resources_total"]) for node in nodes]
    wanted = _one_bundle(needs.bundles) if needs.one_node else needs.bundles
    for number in range(replicas):
        if not all(_place(bundle, room) for bundle in wanted):
            count = f"{replicas} replicas with " if replicas > 1 else ""
            placed = f" after {number} of them" if number else ""
            each = " + ".join(described(bundle) for bundle in wanted)
            have = "free" if free else "total"
            return f"needs {count}{each} on one node{placed}; {have}: {_inventory(nodes, wanted, free)}"
    return None


def described(bundle: Resources) -> str:
    """``2 CPU, 1 GPU of type H100``."""
    return _words([f"{bundle[name]:g} {name}" for name in _amounts(bundle)], bundle)


def _one_bundle(bundles: Iterable[Resources]) -> tuple[Resources, ...]:
    total: Counter[str] = Counter()
    for bundle in bundles:
        total.update(bundle)
    return (dict(total),)


def _place(bundle: Resources, room: list[dict[str, float]]) -> bool:
    for node in room:
        if all(node.get(name, 0) + _TINY >= amount for name, amount in bundle.items()):
            for name, amount in bundle.items():
                node[name] -= amount
            return True
    return False


def _free(node: Mapping[str, Any]) -> dict[str, float]:
    return {name: total - node["used"].get(name, 0) for name, total in node["resources_total"].items()}


def _inventory(nodes: Sequence[Mapping[str, Any]], wanted: Sequence[Resources], free: bool) -> str:
    """What each node has of the kinds that are asked for."""
    names = sorted({name for bundle in wanted for name in _amounts(bundle)})
    return "; ".join(_node(node, names, free) for node in nodes) or "no node is alive"


def _node(node: Mapping[str, Any], names: Sequence[str], free: bool) -> str:
    has = _free(node) if free else node["resources_total"]
    return f"{node['node_ip']} " + _words([f"{has.get(name, 0):g} {name}" for name in names], node["resources_total"])


def _amounts(resources: Resources) -> list[str]:
    """The resources that are counted; the others only say of what kind a node is."""
    return [name for name in sorted(resources) if not name.startswith(_ACCELERATOR) and name != RUNTIME_CPU]


def _words(amounts: Sequence[str], resources: Resources) -> str:
    types = [name.removeprefix(_ACCELERATOR) for name in resources if name.startswith(_ACCELERATOR)]
    of_type = f" of type {'/'.join(types)}" if types else ""
    return ", ".join(amounts) + of_type + (" with the runtime `cpu`" if RUNTIME_CPU in resources else "")
