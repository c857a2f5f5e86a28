"""Which host each replica will stand on, decided as Ray 2.60 decides, since Ray never moves a placement group.

Replicas are placed in the order given, one after the other, as Serve makes their placement groups. Where Ray picks any
of several hosts, all of them are followed: a replica counts as placed only when it is, whichever host Ray picks.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from roles.model_serving.model import Model
from roles.planner.host_rules import serve_app
from roles.planner.placement.choice import Choice, choice
from roles.planner.placement.rack import MOST_STATES, Rack, State, next_states
from roles.planner.placement.room import UNITS, Bundle, Room, after
from roles.planner.placement.slack import Slack
from roles.settings import Settings


@dataclass(frozen=True)
class Host:
    """What a host offers Ray. ``num_cpus`` and ``gpu_model`` None: not known, and taken as enough and as any."""

    name: str
    num_cpus: float | None
    gpus: int
    gpu_model: str | None
    runs_cpu_models: bool = True
    """It has the runtime `cpu`, if it offers no GPU. That of `cuda` finds no device to run on without one."""

    @classmethod
    def of(cls, name: str, settings: Settings, cpus_found: int | None) -> "Host":
        """A host as its settings say; ``cpus_found`` is what it has, if anybody has looked."""
        cpus = settings.num_cpus or cpus_found
        return cls(name, cpus, settings.ray_gpus, settings.gpu_model, runs_cpu_models=settings.runtime == "cpu")

    @property
    def room(self) -> Room:
        """What it offers when it is empty."""
        cpu = None if self.num_cpus is None else int(self.num_cpus * UNITS)
        kind = serve_app.RUNTIME_CPU if self.runs_cpu_models and not self.gpus else self.gpu_model
        return Room((UNITS,) * self.gpus, cpu, kind)

    def left(self, free: "Free") -> Room:
        """What it offers when this is left of it."""
        gpus = tuple(sorted(round(share * UNITS) for share in free.gpus))
        return self.room._replace(gpus=gpus, cpu=None if free.cpus is None else round(free.cpus * UNITS))


@dataclass(frozen=True)
class Replica:
    """One replica of a model: one placement group. ``one_host``: STRICT_PACK, else PACK."""

    slug: str
    number: int
    """From 0."""
    bundles: tuple[Bundle, ...]
    one_host: bool


@dataclass(frozen=True)
class PlacedBundle:
    """A bundle's host, and what it has of that host's GPUs: (index, share up to 1) each."""

    host: str
    gpus: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Placed:
    """A replica and the host of each of its bundles."""

    replica: Replica
    bundles: tuple[PlacedBundle, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(bundle.host for bundle in self.bundles))


@dataclass(frozen=True)
class Free:
    """What is left on a host: CPUs (None: not known) and, by index, the share of each GPU."""

    cpus: float | None
    gpus: tuple[float, ...]


@dataclass(frozen=True)
class Placement:
    """Where the replicas stand, and what may come otherwise."""

    placed: tuple[Placed, ...]
    """One of the ways it may come; among equal hosts the first of the inventory."""
    unplaced: tuple[Replica, ...]
    """Those that find no room in that way."""
    uncertain: tuple[Replica, ...]
    """Those that may find no room in another, which Ray may take as well."""
    followed: bool
    """Whether all ways were followed. If not, a replica may be uncertain since nothing proves that it has room."""
    free: Mapping[str, Free] = field(hash=False)
    """By host, in that one way."""

    @property
    def fits(self) -> bool:
        """Whether every replica is placed, whichever hosts Ray picks among equals."""
        return not (self.unplaced or self.uncertain)


def bundles_of(model: Model) -> tuple[Bundle, ...]:
    """What one replica asks of Ray; routers, proxies and the controller ask for nothing (Ray 2.60)."""
    return tuple(map(Bundle.of, serve_app.needs(model.model_dump()).bundles))


def replicas_of(model: Model, count: int | None = None) -> tuple[Replica, ...]:
    """``count`` replicas of a model, or those that always run."""
    needs = serve_app.needs(model.model_dump())
    bundles = tuple(map(Bundle.of, needs.bundles))
    wanted = model.min_replicas if count is None else count
    return tuple(Replica(model.slug, number, bundles, needs.one_node) for number in range(wanted))


def can_run(model: Model, host: Host) -> bool:
    """Whether Ray could place a replica, or a worker of its pipeline, on this host when it is empty."""
    (replica,) = replicas_of(model, 1)
    return stands_on(replica, host.room)


def stands_on(replica: Replica, room: Room) -> bool:
    """Whether there is room for a replica, or a worker of its pipeline."""
    alone = [replica.bundles] if replica.one_host else [(bundle,) for bundle in set(replica.bundles)]
    return any(after(room, together) is not None for together in alone)


def most_of(replica: Replica, rooms: Iterable[Room], wanted: int) -> int:
    """How many replicas like this one, of one host each, find room in ``rooms``: up to ``wanted``."""
    found = 0
    for room, count in Counter(rooms).items():
        if found >= wanted:
            break
        on_one = 0
        left: Room | None = room
        while found + on_one < wanted and (left := after(left, replica.bundles)) is not None:
            on_one += 1
        found += on_one * count
    return min(found, wanted)


def place(replicas: Sequence[Replica], hosts: Sequence[Host], running: Sequence[Placed] = ()) -> Placement:
    """Place ``replicas`` in their order on ``hosts``, whose names are unique.

    Args:
        running: replicas that stand on some of ``hosts`` and stay. Which GPUs they have is not asked: Rack.stand
            assumes the worst.
    """
    rack = Rack(list(zip([host.name for host in hosts], _rooms_as_asked(hosts, replicas), strict=True)))
    for one in sorted(running, key=lambda one: max(bundle.gpu for bundle in one.replica.bundles), reverse=True):
        rack.stand(one.replica.bundles, [bundle.host for bundle in one.bundles])
    ways = _Ways(rack)
    placed: list[Placed] = []
    unplaced: dict[Replica, None] = {}
    uncertain: list[Replica] = []
    for replica in replicas:
        choices = ways.choices(replica)
        certain = ways.have_room_for(replica, choices)
        stands = rack.take(choices[rack.state], replica.bundles)
        if stands is None:
            unplaced[replica] = None
        else:
            placed.append(Placed(replica, tuple(PlacedBundle(name, gpus) for name, gpus in stands)))
            uncertain += [] if certain else [replica]
        ways.go_on(choices)
    free = {name: Free(cpus, gpus) for name, cpus, gpus in rack.free()}
    return Placement(tuple(placed), tuple(unplaced), tuple(uncertain), ways.followed, free)


class _Ways:
    """All the ways Ray may take: followed one by one, and when they get too many, what room to spare proves."""

    def __init__(self, rack: Rack) -> None:
        self.followed = True
        self._rack = rack
        self._states: set[State] = {rack.state}
        self._slack = Slack(rack.all_rooms)

    def choices(self, replica: Replica) -> dict[State, Choice]:
        """What Ray may do next in each."""
        return {state: choice(dict(state), replica.bundles, replica.one_host) for state in self._states}

    def have_room_for(self, replica: Replica, choices: Mapping[State, Choice]) -> bool:
        """Whether the replica is surely placed, after all those that were asked about before."""
        certain = self.followed and all(found.certain for found in choices.values())
        certain = certain or self._slack.proves(replica.bundles, replica.one_host)
        self._slack.add(replica.bundles)
        return certain

    def go_on(self, choices: Mapping[State, Choice]) -> None:
        """To the next replica; the rack has taken this one."""
        if self.followed:
            self._states = {following for state, found in choices.items() for following in next_states(state, found)}
            self.followed = len(self._states) <= MOST_STATES
        if not self.followed:
            self._states = {self._rack.state}


def _rooms_as_asked(hosts: Sequence[Host], replicas: Sequence[Replica]) -> Iterator[Room]:
    """Rooms without what nobody asks about, so that hosts are alike that are alike to these replicas."""
    types = {bundle.kind for replica in replicas for bundle in replica.bundles} - {None}
    for host in hosts:
        known = host.room.kind in types or (host.room.kind is None and types)
        yield host.room._replace(kind=host.room.kind if known else "")
