"""The numbers of the figures, on values whose answer is known by hand."""

import pytest

from tests.bench.load import Answer
from tests.bench.measures import block, longest_gap_s, median_of_ratios, percentile


def answered_at(*moments: float) -> list[Answer]:
    return [Answer(moment - 0.1, moment) for moment in moments]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.95, 10), (0.9, 9), (0.0, 1), (1.0, 10)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], share) == expected


def test_a_percentile_of_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_longest_gap_lies_between_two_good_answers() -> None:
    assert longest_gap_s(answered_at(1, 2, 5, 6), 0, 7) == 3


def test_the_longest_gap_counts_the_time_before_the_first_and_after_the_last_answer() -> None:
    assert longest_gap_s(answered_at(4, 5), 0, 6) == 4
    assert longest_gap_s(answered_at(1, 2), 0, 9) == 7


def test_a_failed_request_does_not_end_a_gap() -> None:
    failed = Answer(2.9, 3, "HTTP 503")
    assert longest_gap_s([*answered_at(1, 5), failed], 0, 6) == 4


def test_answers_outside_the_span_do_not_count() -> None:
    assert longest_gap_s(answered_at(-1, 3, 99), 0, 10) == 7


def test_a_load_without_any_answer_is_one_gap() -> None:
    assert longest_gap_s([], 10, 40) == 30


def test_a_block_is_a_rate_and_its_latencies() -> None:
    summed = block([Answer(10, 10.5), Answer(10.5, 12)])
    assert summed.requests_per_s == 1
    assert summed.latencies_s == (0.5, 1.5)


def test_a_block_with_a_failure_is_refused_because_errors_are_fast() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 requests failed, the first with: HTTP 503"):
        block([Answer(0, 1), Answer(1, 1.001, "HTTP 503")])


def test_a_ratio_is_taken_pair_by_pair() -> None:
    # A machine that slows down by half between the rounds changes the medians of both sides, not their ratio.
    assert median_of_ratios([80, 40, 20], [100, 50, 25]) == pytest.approx(0.8)
