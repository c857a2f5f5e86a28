"""The rack while replicas are placed on it: one way with names of hosts and GPUs, and the states of all other ways."""

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence

from roles.planner.placement.choice import Choice, Way
from roles.planner.placement.room import UNITS, Bundle, Room, take

State = frozenset[tuple[Room, int]]
"""How many hosts have each room left: all that Ray's further choices depend on."""

MOST_STATES = 200
"""So many are followed at once. Hosts that are alike keep it at one; unlike hosts that Ray ranks equal add to it."""

Gpus = tuple[tuple[int, float], ...]
"""Index and share of each GPU."""


def next_states(state: State, found: Choice) -> Iterator[State]:
    """The states that Ray's choices lead to; the present one too when the group may stay pending."""
    rooms = dict(state)
    for way in found.ways:
        yield _counted(rooms, way, found.refusing)
    if not (found.certain and found.ways):
        yield _counted(rooms, (), found.refusing)


def _counted(rooms: dict[Room, int], way: Way, refusing: tuple[Room, ...]) -> State:
    changed = Counter(rooms)
    for step in way:
        changed[step.room] -= 1
        changed[step.left] += 1
    for room in refusing:
        if not room.doubted:
            changed[room._replace(doubted=True)] += changed.pop(room)
    return frozenset((room, count) for room, count in changed.items() if count)


class Rack:
    """The hosts by name in one way that Ray may take: among equal hosts the first."""

    def __init__(self, hosts: Sequence[tuple[str, Room]]) -> None:
        self._names = [name for name, _ in hosts]
        self._rooms = [room for _, room in hosts]
        self._gpus = [list(room.gpus) for _, room in hosts]
        self._alike: dict[Room, list[int]] = {}
        for index, room in enumerate(self._rooms):
            self._alike.setdefault(room, []).append(index)

    @property
    def state(self) -> State:
        return frozenset((room, len(indexes)) for room, indexes in self._alike.items())

    @property
    def all_rooms(self) -> list[Room]:
        return list(self._rooms)

    def stand(self, bundles: Sequence[Bundle], names: Sequence[str]) -> None:
        """Take the room of a replica that stands on these hosts, a bundle on each.

        Which GPUs it has is not known. Each part is put where the most is left; when the largest come first, no other
        way leaves fewer GPUs whole. A host that has less than that, having lost a GPU, has nothing left.
        """
        for bundle, name in zip(bundles, names, strict=True):
            index = self._names.index(name)
            gpus, room = self._gpus[index], self._rooms[index]
            for amount in [UNITS] * (bundle.gpu // UNITS) + [bundle.gpu % UNITS]:
                while amount and any(gpus):
                    emptiest = max(range(len(gpus)), key=lambda gpu: gpus[gpu])
                    taken = min(amount, gpus[emptiest])
                    gpus[emptiest] -= taken
                    amount -= taken
            cpu = None if room.cpu is None else max(0, room.cpu - bundle.cpu)
            accelerator = max(0, room.accelerator - bundle.accelerator)
            self._change(index, room._replace(gpus=tuple(sorted(gpus)), cpu=cpu, accelerator=accelerator))

    def take(self, found: Choice, bundles: Sequence[Bundle]) -> list[tuple[str, Gpus]] | None:
        """Place a replica in one of the ways found: the host and the GPUs of each bundle; None: there is no way."""
        stands: dict[int, tuple[str, Gpus]] = {}
        if found.ways:
            for step in min(found.ways, key=self._preference):
                index = self._alike[step.room][0]
                for number in step.bundles:
                    stands[number] = self._names[index], self._give(index, bundles[number])
                self._change(index, step.left)
        for room in found.refusing:
            for index in list(self._alike.get(room, ())):
                self._change(index, room._replace(doubted=True))
        return [stands[number] for number in range(len(bundles))] if stands else None

    def free(self) -> Iterator[tuple[str, float | None, tuple[float, ...]]]:
        """Name, CPUs and the share of each GPU that is left, by host."""
        for name, room, gpus in zip(self._names, self._rooms, self._gpus, strict=True):
            yield name, None if room.cpu is None else room.cpu / UNITS, tuple(left / UNITS for left in gpus)

    def _preference(self, way: Way) -> list[tuple[bool, int]]:
        """Surest first, then as the hosts stand in the inventory."""
        return [(step.room.doubted, self._alike[step.room][0]) for step in way]

    def _give(self, index: int, bundle: Bundle) -> Gpus:
        gpus = self._gpus[index]
        taken = take(gpus, bundle.gpu) or {}
        for gpu, amount in taken.items():
            gpus[gpu] -= amount
        return tuple((gpu, amount / UNITS) for gpu, amount in taken.items())

    def _change(self, index: int, room: Room) -> None:
        before = self._rooms[index]
        self._alike[before].remove(index)
        if not self._alike[before]:
            del self._alike[before]
        bisect.insort(self._alike.setdefault(room, []), index)
        self._rooms[index] = room
