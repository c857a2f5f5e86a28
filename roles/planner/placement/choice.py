"""Where Ray 2.60 may put one placement group: every host it may pick, since among equals it picks any.

As BundleStrictPackSchedulingPolicy and BundlePackSchedulingPolicy decide
(src/ray/raylet/scheduling/policy/bundle_scheduling_policy.cc). Equal scores are decided by the order of a hash map of
random ids, another one at each try.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from roles.planner.placement.room import Bundle, Room, after, fill, score, total

# Ray adds floats in no fixed order: closer than this is equal.
_EQUAL = 1e-9
_MOST_WAYS = 200

Rooms = Mapping[Room, int]
"""How many hosts have each room left."""


@dataclass(frozen=True)
class Step:
    """Bundles, by their number in the group, that go onto one host with ``room``, which leaves ``left``."""

    room: Room
    left: Room
    bundles: tuple[int, ...]


Way = tuple[Step, ...]
"""One way to place a group: each step on another host."""


@dataclass(frozen=True)
class Choice:
    """All that Ray may do with a group. ``ways`` empty: it stays pending."""

    ways: tuple[Way, ...]
    certain: bool
    """Whether it surely is placed, in one of ``ways``."""
    refusing: tuple[Room, ...] = ()
    """Hosts that Ray tries first, or may, whose raylet refuses."""


def choice(rooms: Rooms, bundles: tuple[Bundle, ...], one_host: bool) -> Choice:
    """Where Ray may place a group with these bundles; ``one_host``: STRICT_PACK, else PACK."""
    return _strict_pack(rooms, bundles) if one_host else _pack(rooms, bundles)


def _strict_pack(rooms: Rooms, bundles: tuple[Bundle, ...]) -> Choice:
    """Ray tries the best host; when its raylet refuses, the next best, as the GCS counts the refused one as fuller."""
    need = total(bundles)
    scores = {room: found for room in rooms if (found := score(room, need)) >= 0}
    lefts = {room: left for room in scores if (left := after(room, bundles)) is not None}
    surest = max((scores[room] for room in lefts if not room.doubted), default=-1.0)
    tried = [room for room, found in scores.items() if found >= surest - _EQUAL]
    everything = tuple(range(len(bundles)))
    return Choice(
        ways=tuple((Step(room, lefts[room], everything),) for room in tried if room in lefts),
        certain=surest >= 0,
        refusing=tuple(room for room in tried if room not in lefts),
    )


def _pack(rooms: Rooms, bundles: tuple[Bundle, ...]) -> Choice:
    # Stable, with GPUs first: the first bundle, which has the replica's own CPU, stays first.
    order = sorted(range(len(bundles)), key=lambda number: _weight(bundles[number]), reverse=True)
    ways: list[Way] = []
    refusing: dict[Room, None] = {}
    certain = True
    packings = _packings(dict(rooms), [(number, bundles[number]) for number in order])
    for steps, complete in islice(packings, _MOST_WAYS):
        lefts = [after(room, tuple(bundles[number] for number in sorted(numbers))) for room, numbers in steps]
        refusing |= {room: None for (room, _), left in zip(steps, lefts, strict=True) if left is None}
        certain = certain and complete and not any(room.doubted for room, _ in steps) and None not in lefts
        way = tuple(
            Step(room, left, numbers) for (room, numbers), left in zip(steps, lefts, strict=True) if left is not None
        )
        if complete and len(way) == len(steps):
            ways.append(way)
    certain = certain and next(packings, None) is None
    return Choice(tuple(dict.fromkeys(ways)), certain and bool(ways), tuple(refusing))


def _weight(bundle: Bundle) -> tuple[int, int, int]:
    return bundle.gpu, bundle.accelerator, bundle.cpu


def _packings(
    rooms: dict[Room, int], wanted: list[tuple[int, Bundle]]
) -> Iterator[tuple[list[tuple[Room, tuple[int, ...]]], bool]]:
    """Each way to fill the best host for the first bundle, then the best of the others, and so on to the last bundle.

    Yields (hosts with the numbers of their bundles, whether all bundles are on one).
    """
    if not wanted:
        yield [], True
        return
    scores = {room: found for room in rooms if (found := score(room, wanted[0][1])) >= 0}
    if not scores:
        yield [], False
        return
    surest = max((found for room, found in scores.items() if not room.doubted), default=-1.0)
    for best in [room for room, found in scores.items() if found >= surest - _EQUAL]:
        taken = fill(best, (bundle for _, bundle in wanted))
        here = tuple(number for (number, _), fits in zip(wanted, taken, strict=True) if fits)
        left_over = [pair for pair, fits in zip(wanted, taken, strict=True) if not fits]
        others = {room: count - (room == best) for room, count in rooms.items() if count > (room == best)}
        for rest, complete in _packings(others, left_over):
            yield [(best, here), *rest], complete
