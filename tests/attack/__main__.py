"""Shows malformed requests: `python -m tests.attack SEED NUMBER...`."""

import sys

from tests.attack.attempt import Aim
from tests.attack.plan import attempt

if __name__ == "__main__":
    seed, *numbers = (int(word) for word in sys.argv[1:])
    aim = Aim("rr-" + "k" * 43, "rr-" + "l" * 43, ("tiny-a", "tiny-b"))
    for number in numbers:
        shown = attempt(aim, seed, number)
        print(shown, *shown.pieces, sep="\n  ")
