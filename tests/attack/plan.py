"""Which malformed request comes when: the same for the same seed."""

from random import Random

from tests.attack import bodies, framing, lines, wire
from tests.attack.attempt import Aim, Attempt, Craft

MAKERS = (*framing.MAKERS, *lines.MAKERS, *bodies.MAKERS, *wire.MAKERS)
WEIGHTS = tuple(weight for weight, _ in MAKERS)


def attempt(aim: Aim, seed: int, number: int) -> Attempt:
    """The ``number``-th malformed request of a seed. It depends on these alone, so one can be repeated by itself."""
    random = Random(f"{seed}:{number}")
    keyed = number % 2 == 0
    limited = keyed and random.random() < 0.25
    marker = f"a{number:06d}"
    _, maker = random.choices(MAKERS, WEIGHTS)[0]
    sent = maker(Craft(aim, random, marker, keyed=keyed, limited=limited))
    return Attempt(number, maker.__name__, marker, keyed, limited, sent.pieces, sent.pause_s, sent.wire, sent.ending)
