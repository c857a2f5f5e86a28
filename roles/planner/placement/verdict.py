"""Does a list fit a rack, and if not, what would help: another order, another list, or more hosts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from typing import Literal

from roles.planner.placement.place import Host, Placed, Placement, Replica, place
from roles.planner.placement.room import UNITS, Room, total

Kind = Literal["fits", "too large", "order", "short", "no room"]

# All orders of five models. With more, the two that waste least are tried alone.
_MOST_ORDERS = 120


@dataclass(frozen=True)
class Verdict:
    """What to tell about a list.

    ``fits``; ``too large``: models of ``models`` fit nowhere, even alone; ``order``: all fit in the order of
    ``models``, and not in that of the list; ``short``: the rack has less than they ask for together; ``no room``: it
    has as much, and in no order that was tried do they fit.
    """

    kind: Kind
    placement: Placement
    models: tuple[str, ...] = ()
    """Slugs."""

    @property
    def fits(self) -> bool:
        return self.kind == "fits"


def judge(replicas: Sequence[Replica], hosts: Sequence[Host], running: Sequence[Placed] = ()) -> Verdict:
    """Place ``replicas`` in their order beside those that are ``running``; find out what is wrong if one does not fit.

    Replicas of a model stand together in ``replicas``.
    """
    placement = place(replicas, hosts, running)
    if placement.fits:
        return Verdict("fits", placement)
    too_large = tuple(slug for slug, own in _by_model(replicas).items() if place(own[:1], hosts).unplaced)
    if too_large:
        return Verdict("too large", placement, too_large)
    if _short([*(one.replica for one in running), *replicas], hosts):
        return Verdict("short", placement)
    for order in _orders(replicas):
        if place([replica for own in order for replica in own], hosts, running).fits:
            return Verdict("order", placement, tuple(own[0].slug for own in order))
    return Verdict("no room", placement)


def _by_model(replicas: Iterable[Replica]) -> dict[str, list[Replica]]:
    models: dict[str, list[Replica]] = {}
    for replica in replicas:
        models.setdefault(replica.slug, []).append(replica)
    return models


def _short(replicas: Sequence[Replica], hosts: Sequence[Host]) -> bool:
    """Whether no packing can exist: the sums of what is asked for are above what there is."""
    rooms = [host.room for host in hosts]
    types = {bundle.kind for replica in replicas for bundle in replica.bundles}
    for kind in types:
        wanted = [total(replica.bundles).gpu for replica in replicas if _asks_for(replica, kind)]
        if sum(wanted) > sum(sum(room.gpus) for room in rooms if kind is None or room.offers(kind)):
            return True
    return _short_of_gpus(replicas, rooms) or _short_of_cpus(replicas, rooms)


def _asks_for(replica: Replica, kind: str | None) -> bool:
    return kind is None or any(bundle.kind == kind for bundle in replica.bundles)


def _short_of_gpus(replicas: Sequence[Replica], rooms: Sequence[Room]) -> bool:
    """Two shares of more than half a GPU never stand on one."""
    amounts = [bundle.gpu for replica in replicas for bundle in replica.bundles]
    return sum(max(1, amount // UNITS) for amount in amounts if amount * 2 > UNITS) > sum(len(r.gpus) for r in rooms)


def _short_of_cpus(replicas: Sequence[Replica], rooms: Sequence[Room]) -> bool:
    known = [room.cpu for room in rooms if room.cpu is not None]
    return len(known) == len(rooms) and sum(total(replica.bundles).cpu for replica in replicas) > sum(known)


def _orders(replicas: Sequence[Replica]) -> Iterator[tuple[list[Replica], ...]]:
    """Those worth trying: what has fewest places to go first, then the largest; then every order of a short list."""
    models = list(_by_model(replicas).values())

    def size(own: list[Replica]) -> tuple[int, int]:
        together = total(own[0].bundles)
        return together.gpu, together.cpu

    def typed(own: list[Replica]) -> bool:
        return own[0].bundles[0].kind is not None

    yield tuple(sorted(models, key=lambda own: (typed(own), size(own)), reverse=True))
    yield tuple(sorted(models, key=lambda own: (size(own), typed(own)), reverse=True))
    if len(models) <= 5:
        yield from islice(permutations(models), _MOST_ORDERS)
