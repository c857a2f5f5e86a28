"""A rotation of Ray's token, which ``--data rotate_ray_token=true`` asks for in one run."""

from collections.abc import Mapping

from deploy.inputs.rack import Rack
from roles.planner.changes.hosts import TOKEN, HostFound
from roles.ray_cluster.rotation import HostToken, unfinished


def token_to_replace(rack: Rack, found: Mapping[str, HostFound]) -> str | None:
    """The digest of the token that a new one takes the place of; None: this run makes no new one for an old one."""
    head = found.get(rack.head.name)
    if head is None or not rack.head.settings.rotate_ray_token or is_unfinished(rack, found):
        return None
    return head.token


def is_unfinished(rack: Rack, found: Mapping[str, HostFound]) -> bool:
    """Whether an earlier rotation was cut short, as far as this run's hosts show it."""
    tokens = {name: HostToken(each.token, (each.node.applied or {}).get(TOKEN)) for name, each in found.items()}
    head = tokens.pop(rack.head.name, None)
    return head is not None and unfinished(head, tokens.values())
