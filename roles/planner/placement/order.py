"""Another order of a list in which all of it fits, since Ray never moves what came before."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, permutations

from roles.planner.placement.place import Host, Replica, place
from roles.planner.placement.room import total

# All orders of five models. With more, the two that waste least are tried alone.
_MOST_ORDERS = 120


def order_that_fits(replicas: Sequence[Replica], hosts: Sequence[Host]) -> tuple[str, ...] | None:
    """Slugs in an order in which all replicas find room, whichever hosts Ray picks; None: none was found.

    Replicas of a model stand together in ``replicas``.
    """
    for order in _orders(replicas):
        if place([replica for own in order for replica in own], hosts).fits:
            return tuple(own[0].slug for own in order)
    return None


def _by_model(replicas: Iterable[Replica]) -> dict[str, list[Replica]]:
    models: dict[str, list[Replica]] = {}
    for replica in replicas:
        models.setdefault(replica.slug, []).append(replica)
    return models


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
