"""The one rule of comparison, against values computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy.stats import t

from xlt.verify.comparison import (
    Comparison,
    Estimate,
    above,
    at_least,
    at_most,
    beside,
    estimate,
    holm,
    most,
    near,
    p_several,
    verdicts,
)


def exact(value: float, margin: float, guess: float) -> Comparison:
    """Of seeds without any spread."""
    return near(Estimate(value), Estimate(value), margin, guess)


def test_a_printed_value_is_one_more_draw():
    found = estimate([8.0, 9.0, 10.0], [8.5])
    assert (found.value, found.freedom) == (pytest.approx(0.5), pytest.approx(2))
    assert found.error == pytest.approx(math.sqrt(1 + 1 / 3))
    assert found.half_width(0.025) == pytest.approx(t.ppf(0.975, 2) * math.sqrt(4 / 3))
    assert found.p_at_most(0.0) == pytest.approx(t.sf(0.5 / math.sqrt(4 / 3), 2))
    assert beside(found, 0.1, -99).outside == pytest.approx(2 * t.sf(0.5 / math.sqrt(4 / 3), 2))


def test_one_run_is_one_more_draw_of_the_recorded_seeds():
    found = estimate([70.0], [60, 62, 64, 66])
    assert (found.value, found.freedom) == (pytest.approx(7.0), pytest.approx(3))
    assert found.error == pytest.approx(math.sqrt(20 / 3) * math.sqrt(1.25))


def test_the_spread_is_pooled_where_both_sides_have_some():
    found = estimate([1.0, 3.0], [0.0, 1.0, 2.0])
    assert (found.value, found.freedom) == (pytest.approx(1.0), pytest.approx(3))
    assert found.error == pytest.approx(math.sqrt((2 + 2) / 3 * (1 / 2 + 1 / 3)))


def test_without_another_side_it_is_students_t_of_one_sample():
    found = estimate([1.0, 2.0, 3.0])
    assert (found.value, found.freedom) == (2.0, 2)
    assert found.half_width() == pytest.approx(t.ppf(0.95, 2) / math.sqrt(3))
    assert estimate([4.0]) == Estimate(4.0, 0.0, 1)


def test_equality_is_shown_where_the_interval_of_the_mean_fits_into_the_margin():
    values, reach = [8.4, 8.5, 8.6], t.ppf(0.95, 2) * 0.1 / math.sqrt(3)
    found, drawn = estimate([value - 8.2 for value in values]), estimate(values, [8.2])
    assert near(found, drawn, 0.3 + reach + 0.01, -8.0).verdict() == "reproduced"
    assert near(found, drawn, 0.3 + reach - 0.01, -8.0).verdict() == "consistent"
    below = replace(found, value=-found.value)
    assert near(below, drawn, 0.3 + reach + 0.01, -8.0).inside == pytest.approx(
        near(found, drawn, 0.3 + reach + 0.01, -8.0).inside
    )


def test_outside_is_tested_against_the_margin_and_grants_the_printed_value_the_spread_of_one_draw():
    """By hand: five values with a mean 3 above the printed one and a standard deviation of 1."""
    values = [11.2 + shift for shift in (-math.sqrt(2), -math.sqrt(0.5), 0.0, math.sqrt(0.5), math.sqrt(2))]
    error = math.sqrt(1.25) * math.sqrt(1 + 1 / 5)
    found, drawn = estimate([value - 8.2 for value in values]), estimate(values, [8.2])
    outside = near(found, drawn, 1.0, -8.0).outside
    assert outside == pytest.approx(t.sf(2 / error, 4) + t.sf(4 / error, 4))
    assert near(found, found, 1.0, -8.0).outside < outside < near(found, drawn, 1.5, -8.0).outside
    assert Estimate(3.0, error, 4).p_within(0.0) == pytest.approx(2 * t.sf(3 / error, 4))


@pytest.mark.parametrize("seeds", [3, 30, 3000])
def test_inside_the_margin_nothing_deviates_with_any_number_of_seeds(seeds: int):
    for share in (0.0, 0.5, 0.99):
        assert Estimate(share, 0.3 / seeds, seeds - 1).p_within(1.0) > 0.5
    assert above(Estimate(0.001, 0.3 / seeds, seeds - 1)).outside > 0.5
    assert at_most(Estimate(0.99, 0.3 / seeds, seeds - 1), 1.0).outside > 0.5


@pytest.mark.parametrize(
    ("difference", "error", "guess", "word"),
    [
        (0.2, 0.1, -8.0, "reproduced"),
        (-3.0, 0.5, -8.0, "deviates"),
        (3.0, 0.5, -8.0, "deviates"),
        (-0.9, 0.2, -8.0, "consistent"),  # a difference below the margin never deviates
        (-1.2, 0.2, -8.0, "consistent"),  # six errors from none, but not told from the margin
        (-3.0, 2.0, -8.0, "consistent"),
        (-3.0, 2.0, -2.0, "not verifiable"),  # a guess would not deviate either
        (0.2, 0.1, -0.9, "not verifiable"),  # a guess is inside the margin
        (0.2, 0.1, 3.0, "not verifiable"),  # a guess does better than what was expected
        (-3.0, 0.5, -0.9, "deviates"),
    ],
)
def test_the_ladder(difference: float, error: float, guess: float, word: str):
    found = Estimate(difference, error, 10)
    assert near(found, found, 1.0, guess).verdict() == word


def test_beside_recorded_seeds_no_margin_is_granted_but_a_least_half_width():
    assert beside(Estimate(-1.2, 0.2, 10), 1.0, -8.0).verdict() == "deviates"
    assert beside(Estimate(-0.9, 0.01, 10), 1.0, -8.0).outside == 1.0
    assert beside(Estimate(0.2, 0.1, 10), 1.0, -8.0).verdict() == "reproduced"
    assert beside(Estimate(0.2, 0.1, 10), 1.0, -0.9).verdict() == "not verifiable"


def test_seeds_without_any_spread_are_judged_by_the_margin():
    assert exact(0.0, 1.0, -8.0).verdict() == "reproduced"
    assert exact(-3.2, 1.0, -8.0).verdict() == "deviates"
    assert exact(1.0, 1.0, -8.0).verdict() == exact(-1.0, 1.0, -8.0).verdict() == "reproduced"
    assert exact(-1.001, 1.0, -8.0).verdict() == exact(1.001, 1.0, -8.0).verdict() == "deviates"
    assert exact(0.0, 1.0, -1.0) == Comparison(1.0, 1.0, 1.0)  # a guess there is no evidence
    assert exact(0.0, 1.0, -1.1).verdict() == "reproduced"
    assert Estimate(3.0).half_width() == 0.0


def test_what_lies_where_it_should_is_never_shown_to_lie_elsewhere():
    assert above(Estimate(0.0, 0.1, 9)) == Comparison(0.5, 0.5, plausible=False)
    assert above(Estimate(0.0)).outside == at_most(Estimate(1.0), 1.0).outside == 1.0
    assert above(Estimate(-0.5, 9.0, 9)).outside == pytest.approx(t.sf(0.5 / 9, 9))
    assert at_most(Estimate(1.0, 0.1, 9), 1.0) == Comparison(0.5, 0.5, plausible=True)


def test_a_word_needs_less_than_its_level():
    assert Comparison(0.05, 1.0).verdict() == "consistent"
    assert Comparison(1.0, 0.01).verdict(0.01) == "consistent"
    assert Comparison(1.0, 1.0, guess=0.01).verdict(0.01) == "not verifiable"
    assert Comparison(0.01, 1.0).unshown.verdict() == "consistent"
    assert holm([0.025, 0.5]) == [0.025, 0.025]


def test_signs():
    assert above(Estimate(1.0, 0.1, 9)).verdict() == "reproduced"
    assert above(Estimate(-1.0, 0.1, 9)).verdict() == "deviates"
    assert above(Estimate(0.1, 0.1, 9)).verdict() == "consistent"
    assert above(Estimate(-0.1, 0.1, 9)).verdict() == "not verifiable"
    assert at_most(Estimate(-1.0, 0.1, 9), 1.0).verdict() == "reproduced"
    assert at_most(Estimate(0.5, 0.1, 9), 1.0).verdict() == "reproduced"  # above 0, but not by more than the margin
    assert at_most(Estimate(0.9, 0.1, 9), 1.0).verdict() == "consistent"
    assert at_most(Estimate(1.1, 0.1, 9), 1.0).verdict() == "not verifiable"  # far above 0, but not above the margin
    assert at_most(Estimate(1.3, 0.1, 9), 1.0).verdict() == "deviates"


def test_most_needs_more_than_half():
    yes, no, open_ = (above(Estimate(value, 0.1, 30)) for value in (1.0, -1.0, 0.05))
    assert most([yes, yes, no]).verdict() == "reproduced"
    assert most([yes, yes, no, no]).verdict() == "deviates"  # half of them are shown to be below
    assert most([yes, open_, open_]).verdict() == "consistent"
    assert most([open_, open_, no]).plausible
    assert not most([open_, no, no]).plausible
    assert p_several([0.01, 0.02, 0.9], 2) == pytest.approx(0.04)
    assert p_several([0.5, 0.9, 0.9], 1) == 1.0


def test_of_two_readings_one_suffices_and_both_must_be_refuted():
    inside, outside, open_ = Comparison(0.01, 1.0, 0.001), Comparison(1.0, 0.01, 0.001), Comparison(0.5, 0.5, 0.001)
    assert at_least(1, [inside, outside]).verdict() == "reproduced"
    assert at_least(1, [outside, open_]).verdict() == "consistent"
    assert at_least(1, [outside, outside]).verdict() == "deviates"
    assert at_least(1, [inside, outside]).inside == pytest.approx(0.02)  # two were looked at
    assert at_least(1, [open_, replace(open_, guess=0.2)]).verdict() == "not verifiable"


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.05 / 3), pytest.approx(0.05 / 2), pytest.approx(0.05 / 2)]
    assert holm([0.01, 0.04, 0.02]) == [pytest.approx(0.05 / 3), pytest.approx(0.05), pytest.approx(0.05 / 2)]
    assert holm([0.9, 0.8], 0.01) == [0.005, 0.005]
    assert holm([]) == []
    # The second is below 5 %, but not in this company.
    assert verdicts([Comparison(1.0, 0.01), Comparison(1.0, 0.03), Comparison(1.0, 0.5)])[:2] == [
        "deviates",
        "consistent",
    ]
