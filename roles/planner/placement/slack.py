"""A proof that a replica finds room whatever Ray has picked before, for racks with too many ways to follow each.

It counts how many hosts those before could have made useless if they had been out to do so. While that is fewer than
there are, one is left. Needs room to spare: near the end of a full rack it proves nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from roles.planner.placement.room import UNITS, Bundle, Room, total

_NEVER = 10**18


class Slack:
    """The hosts as they are before the first replica, and what all replicas so far ask for together."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self._rooms = Counter(rooms)
        self._by_type: dict[str | None, Counter[str]] = {}
        self._shares_stand = any(0 < left < UNITS for room in self._rooms for left in room.gpus)
        self._largest_share = 0
        self._most_whole = 0

    def add(self, bundles: Sequence[Bundle]) -> None:
        """A replica that may stand anywhere by now."""
        whole = [bundle for bundle in bundles if bundle.gpu >= UNITS]
        self._most_whole = max(self._most_whole, sum(bundle.gpu for bundle in whole) // UNITS)
        for bundle in bundles:
            if bundle.gpu < UNITS:
                self._largest_share = max(self._largest_share, bundle.gpu)
                self._shares_stand |= bundle.gpu > 0
            used = self._by_type.setdefault(bundle.kind, Counter())
            used["gpu"] += bundle.gpu
            used["touched"] += max(bundle.gpu // UNITS, int(bundle.gpu > 0))
            used["cpu"] += bundle.cpu
            used["accelerator"] += bundle.accelerator

    def proves(self, bundles: Sequence[Bundle], one_host: bool) -> bool:
        """Whether this replica surely finds room."""
        need = total(bundles)
        rooms = {room: count for room, count in self._rooms.items() if _is_of_type(room, need.kind)}
        used = self._used(need.kind, rooms)
        if one_host:
            return self._useless(rooms, need, used) < sum(rooms.values())
        if self._shares_stand or not all(bundle.gpu == UNITS for bundle in bundles):
            return False
        # Whole GPUs alone: a worker takes any that is left, and the first worker's host needs the replica's CPU too.
        left = sum(_untouched(room) * count for room, count in rooms.items()) - used["touched"]
        return left >= len(bundles) and self._useless(rooms, bundles[0], used) < sum(rooms.values())

    def _used(self, kind: str | None, rooms: Iterable[Room]) -> Counter[str]:
        """What could stand on these hosts: what asks for another type cannot, when all types are known."""
        known = kind is not None and all(room.kind is not None for room in rooms)
        counted = [used for other, used in self._by_type.items() if not known or other in (None, kind)]
        return sum(counted, Counter[str]())

    def _useless(self, rooms: dict[Room, int], need: Bundle, used: Counter[str]) -> int:
        """So many hosts at most have no room for ``need``, or are in doubt since their raylet has refused something."""

        def most(cost: Callable[[Room], int], budget: int) -> int:
            return _most_bought(((max(0, cost(room)), count) for room, count in rooms.items()), budget)

        useless = most(
            lambda room: _NEVER if room.cpu is None or not need.cpu else room.cpu - need.cpu + 1, used["cpu"]
        )
        if need.accelerator:
            useless += most(lambda room: room.accelerator - need.accelerator + 1, used["accelerator"])
        share = need.gpu if need.gpu < UNITS else 0
        # A raylet refuses whole GPUs where shares stand on too many; one that refuses a share has none left whole.
        whole = max(need.gpu // UNITS, self._most_whole if self._shares_stand or share else 0)
        if share:
            largest = max(share, self._largest_share)
            useless += most(lambda room: sum(max(0, left - largest + 1) for left in room.gpus), used["gpu"])
        if whole:
            useless += min(
                most(lambda room: _untouched(room) - whole + 1, used["touched"]),
                most(lambda room: self._least_for(_untouched(room) - whole + 1), used["gpu"]),
            )
        return useless

    def _least_for(self, touched: int) -> int:
        """The least units that keep so many GPUs of a host from being whole.

        A raylet starts a GPU only for a share that fits on none it has started: any two hold more than one GPU's worth,
        and all but the last are too full for the largest share.
        """
        if not self._largest_share:
            return touched * UNITS
        if touched <= 1:
            return max(0, touched)
        return max(touched * UNITS // 2, (touched - 1) * (UNITS - self._largest_share))


def _most_bought(costs: Iterable[tuple[int, int]], budget: int) -> int:
    """How many hosts at most, of (cost, number of hosts at that cost) each, the budget pays for."""
    bought = 0
    for cost, count in sorted(costs):
        paid = count if not cost else min(count, budget // cost)
        bought += paid
        budget -= paid * cost
        if paid < count:
            break
    return bought


def _untouched(room: Room) -> int:
    return sum(left == UNITS for left in room.gpus)


def _is_of_type(room: Room, kind: str | None) -> bool:
    return kind is None or room.offers(kind)
