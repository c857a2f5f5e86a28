"""What is left on one host, and how Ray 2.60 judges and takes it. Amounts are Ray's units of 1/10000, as whole numbers.

Two parts of Ray decide. The GCS ranks hosts by the sums of what they have left (LeastResourceScorer in
src/ray/raylet/scheduling/policy/scorer.cc); the raylet of the host it picks gives out single GPUs and may refuse
(NodeResourceInstanceSet in src/ray/common/scheduling/resource_instance_set.cc).
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from roles.planner.host_rules import serve_app

UNITS = 10_000
"""Ray's units in one GPU, one CPU, or one of any resource."""
_ACCELERATOR = "accelerator_type:"
_REFUSED = -1.0


def units(amount: float) -> int:
    """Ray's FixedPoint cuts off what is below 1/10000, and does so after multiplying: 0.0029 is 28 units."""
    return int(amount * UNITS)


class Bundle(NamedTuple):
    """One bundle of a placement group, in units. ``accelerator`` units are of the resource that ``kind`` names."""

    gpu: int = 0
    cpu: int = 0
    kind: str | None = None
    """The kind of host that is asked for: a type of GPU, or the runtime `cpu` (RUNTIME_CPU); None: any."""
    accelerator: int = 0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> "Bundle":
        """From a bundle as Ray takes it: ``{"CPU": 1, "GPU": 0.5, "accelerator_type:L4": 0.001}``.

        Raises:
            ValueError: a resource that is none of these, or two kinds of host.
        """
        kinds = [name for name in resources if name.startswith(_ACCELERATOR) or name == serve_app.RUNTIME_CPU]
        unknown = sorted(set(resources) - {"CPU", "GPU", *kinds})
        if unknown or len(kinds) > 1:
            raise ValueError(f"the planner knows CPU, GPU and one kind of host, not {', '.join(unknown or kinds)}")
        kind = kinds[0] if kinds else None
        return cls(
            gpu=units(resources.get("GPU", 0)),
            cpu=units(resources.get("CPU", 0)),
            kind=kind.removeprefix(_ACCELERATOR) if kind else None,
            accelerator=units(resources[kind]) if kind else 0,
        )


def total(bundles: Iterable[Bundle]) -> Bundle:
    """Their sum, which is what STRICT_PACK looks for on one host."""
    bundles = tuple(bundles)
    return Bundle(
        gpu=sum(bundle.gpu for bundle in bundles),
        cpu=sum(bundle.cpu for bundle in bundles),
        kind=next((bundle.kind for bundle in bundles if bundle.kind), None),
        accelerator=sum(bundle.accelerator for bundle in bundles),
    )


class Room(NamedTuple):
    """What is left on a host. Hosts with equal rooms are the same to Ray."""

    gpus: tuple[int, ...]
    """Left on each GPU, least first: which GPU is which makes no difference to what can still be placed."""
    cpu: int | None
    """None: not known, and taken as more than enough."""
    kind: str | None
    """The type of its GPUs, or RUNTIME_CPU; None: a type that is not known, and taken as whatever is asked for."""
    accelerator: int = UNITS
    """Left of the resource that stands for the kind."""
    doubted: bool = False
    """The raylet has refused something here. Ray 2.60 then goes on counting that as taken, until something else changes
    on the host: it may see less room than there is."""

    def offers(self, kind: str) -> bool:
        """Whether the host is of this kind."""
        if kind == serve_app.RUNTIME_CPU:
            return self.kind == kind
        return bool(self.gpus) and self.kind in (None, kind)


@lru_cache(maxsize=2**16)
def score(room: Room, need: Bundle) -> float:
    """How Ray ranks a host for ``need``: the more is left in proportion, the better; below 0: it does not fit."""
    terms = 0.0
    for requested, available in _pairs(room, need):
        if requested > available:
            return _REFUSED
        terms += (available - requested) / available
    return terms


def _pairs(room: Room, need: Bundle) -> Iterable[tuple[int, int]]:
    if need.gpu:
        yield need.gpu, sum(room.gpus)
    if need.cpu:
        # What is not known counts as untouched in the ranking too.
        yield (need.cpu, room.cpu) if room.cpu is not None else (0, UNITS)
    if need.kind is not None and need.accelerator:
        yield need.accelerator, room.accelerator if room.offers(need.kind) else 0


@lru_cache(maxsize=2**16)
def after(room: Room, bundles: tuple[Bundle, ...]) -> Room | None:
    """What is left when the host's raylet has given out these bundles in this order; None: it refuses."""
    gpus: list[int] | None = list(room.gpus)
    for bundle in bundles:
        taken = take(gpus or [], bundle.gpu)
        if taken is None:
            return None
        gpus = [left - taken.get(index, 0) for index, left in enumerate(gpus or [])]
    need = total(bundles)
    if score(room, need) < 0:
        return None
    return room._replace(
        gpus=tuple(sorted(gpus or [])),
        cpu=None if room.cpu is None else room.cpu - need.cpu,
        accelerator=room.accelerator - need.accelerator,
        doubted=False,  # the raylet has told the GCS what is left
    )


def take(gpus: list[int], amount: int) -> dict[int, int] | None:
    """Units by index of the GPUs that the raylet gives for ``amount``; None: it refuses.

    Whole GPUs are ones nobody has touched; a share goes where it leaves the least.
    """
    if amount >= UNITS:
        whole = [index for index, left in enumerate(gpus) if left == UNITS][: amount // UNITS]
        return dict.fromkeys(whole, UNITS) if len(whole) * UNITS == amount else None
    if not amount:
        return {}
    fitting = [index for index, left in enumerate(gpus) if left >= amount]
    return {min(fitting, key=lambda index: gpus[index]): amount} if fitting else None


def fill(room: Room, wanted: Iterable[Bundle]) -> list[bool]:
    """Which of ``wanted`` PACK puts here: one after the other, each that the GCS still counts as fitting."""
    filled = Bundle()
    taken = []
    for bundle in wanted:
        more = total((filled, bundle))
        taken.append(score(room, more) >= 0)
        filled = more if taken[-1] else filled
    return taken
