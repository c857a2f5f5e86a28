"""The few numbers the tables are made of."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.load import Answer


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of all values do not exceed (the nearest-rank definition)."""
    if not values:
        raise ValueError("a percentile of no values")
    rank = max(1, math.ceil(share * len(values)))
    return sorted(values)[rank - 1]


def longest_gap_s(answers: Sequence[Answer], began_s: float, ended_s: float) -> float:
    """The longest time between ``began_s`` and ``ended_s`` in which no good answer was completed, in seconds."""
    moments = sorted(answer.ended_s for answer in answers if answer.good and began_s <= answer.ended_s <= ended_s)
    edges = [began_s, *moments, ended_s]
    return max(later - earlier for earlier, later in itertools.pairwise(edges))


@dataclass(frozen=True)
class Block:
    """What one endpoint did in one stretch of steady load."""

    requests_per_s: float
    latencies_s: tuple[float, ...]


def block(answers: Sequence[Answer]) -> Block:
    """Sum up a stretch of load, from its first request to its last answer.

    Raises:
        ValueError: when an answer was not good: a rate of failures says nothing about speed.
    """
    bad = [answer for answer in answers if not answer.good]
    if bad:
        raise ValueError(f"{len(bad)} of {len(answers)} requests failed, the first with: {bad[0].problem}")
    seconds = max(answer.ended_s for answer in answers) - min(answer.began_s for answer in answers)
    return Block(len(answers) / seconds, tuple(answer.ended_s - answer.began_s for answer in answers))


def median_of_ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours/theirs, pair by pair: both of a pair ran next to each other, so slow drift cancels out."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))
