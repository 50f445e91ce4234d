"""The one rule of comparison, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from xlt.verify.comparison import (
    Comparison,
    Estimate,
    above,
    at_most,
    estimate,
    holm,
    most,
    near,
    p_several,
    verdicts,
)


def column(*values: float) -> list[tuple[float, np.ndarray]]:
    return [(1.0, np.array(values)[:, None])]


def test_a_printed_value_is_one_more_draw():
    found = estimate(column(8.0, 9.0, 10.0), [8.5])
    assert (found.value, found.freedom) == (pytest.approx(0.5), pytest.approx(2))
    assert found.error == pytest.approx(math.sqrt(1 + 1 / 3))
    assert found.half_width(0.025) == pytest.approx(t.ppf(0.975, 2) * math.sqrt(4 / 3))
    assert found.p_at_most(0.0) == pytest.approx(t.sf(0.5 / math.sqrt(4 / 3), 2))
    assert near(found, 0.1, -99).outside == pytest.approx(2 * t.sf(0.5 / math.sqrt(4 / 3), 2))


def test_one_run_is_one_more_draw_of_the_recorded_seeds():
    found = estimate(column(70.0), [60, 62, 64, 66])
    assert (found.value, found.freedom) == (pytest.approx(7.0), pytest.approx(3))
    assert found.error == pytest.approx(math.sqrt(20 / 3) * math.sqrt(1.25))


def test_the_spread_is_pooled_where_both_sides_have_some():
    found = estimate(column(1.0, 3.0), [0.0, 1.0, 2.0])
    assert (found.value, found.freedom) == (pytest.approx(1.0), pytest.approx(3))
    assert found.error == pytest.approx(math.sqrt((2 + 2) / 3 * (1 / 2 + 1 / 3)))


def test_equality_is_shown_only_where_the_interval_fits_into_the_margin():
    found, reach = estimate(column(8.4, 8.5, 8.6), [8.2]), t.ppf(0.95, 2) * 0.1 * math.sqrt(4 / 3)
    assert near(found, 0.3 + reach + 0.01, -8.0).verdict() == "reproduced"
    assert near(found, 0.3 + reach - 0.01, -8.0).verdict() != "reproduced"
    below = Estimate(-found.value, found.error, found.freedom)
    assert near(below, 0.3 + reach + 0.01, -8.0).inside == pytest.approx(near(found, 0.3 + reach + 0.01, -8.0).inside)


@pytest.mark.parametrize(
    ("difference", "error", "guess", "word"),
    [
        (0.2, 0.1, -8.0, "reproduced"),
        (-3.0, 0.5, -8.0, "deviates"),
        (3.0, 0.5, -8.0, "deviates"),
        (-0.9, 0.2, -8.0, "consistent"),  # a difference below the margin never deviates
        (-3.0, 2.0, -8.0, "consistent"),
        (-3.0, 2.0, -2.0, "not verifiable"),  # a guess would not deviate either
        (0.2, 0.1, -0.9, "not verifiable"),  # a guess is inside the margin
        (0.2, 0.1, 3.0, "not verifiable"),  # a guess does better than what was expected
        (-3.0, 0.5, -0.9, "deviates"),
    ],
)
def test_the_ladder(difference: float, error: float, guess: float, word: str):
    assert near(Estimate(difference, error, 10), 1.0, guess).verdict() == word


def test_seeds_without_any_spread_are_judged_by_the_margin():
    assert near(estimate(column(8.2, 8.2, 8.2), [8.2]), 1.0, -8.0).verdict() == "reproduced"
    assert near(estimate(column(5.0, 5.0), [8.2]), 1.0, -8.0).verdict() == "deviates"
    assert near(Estimate(1.0), 1.0, -8.0).verdict() == near(Estimate(-1.0), 1.0, -8.0).verdict() == "reproduced"
    assert near(Estimate(-1.001), 1.0, -8.0).verdict() == near(Estimate(1.001), 1.0, -8.0).verdict() == "deviates"


def test_the_ends_of_the_margin_belong_to_it():
    assert near(Estimate(1.0, 0.001, 9), 1.0, -8.0).outside == near(Estimate(-1.0, 0.001, 9), 1.0, -8.0).outside == 1.0
    assert near(Estimate(0.0, 0.001, 9), 1.0, -1.0) == Comparison(1.0, 1.0, 1.0)  # a guess there is no evidence
    assert near(Estimate(0.0, 0.001, 9), 1.0, -1.1).verdict() == "reproduced"
    assert Estimate(3.0).half_width() == 0.0


def test_what_lies_where_it_should_is_never_shown_to_lie_elsewhere():
    assert above(Estimate(0.0, 0.1, 9)) == Comparison(0.5, 1.0, plausible=False)
    assert above(Estimate(0.5, 9.0, 9)).outside == 1.0
    assert above(Estimate(-0.5, 9.0, 9)).outside == pytest.approx(t.sf(0.5 / 9, 9))
    assert at_most(Estimate(1.0, 0.1, 9), 1.0) == Comparison(0.5, 1.0, plausible=True)


def test_a_word_needs_less_than_its_level():
    assert Comparison(0.05, 1.0).verdict() == "consistent"
    assert Comparison(1.0, 0.01).verdict(0.01) == "consistent"
    assert Comparison(1.0, 1.0, guess=0.01).verdict(0.01) == "not verifiable"
    assert holm([0.025, 0.5]) == [0.025, 0.025]


def test_signs():
    assert above(Estimate(1.0, 0.1, 9)).verdict() == "reproduced"
    assert above(Estimate(-1.0, 0.1, 9)).verdict() == "deviates"
    assert above(Estimate(0.1, 0.1, 9)).verdict() == "consistent"
    assert above(Estimate(-0.1, 0.1, 9)).verdict() == "not verifiable"
    assert at_most(Estimate(-1.0, 0.1, 9), 1.0).verdict() == "reproduced"
    assert at_most(Estimate(0.5, 0.1, 9), 1.0).verdict() == "reproduced"  # above 0, but not by more than the margin
    assert at_most(Estimate(0.9, 0.1, 9), 1.0).verdict() == "consistent"
    assert at_most(Estimate(1.1, 0.1, 9), 1.0).verdict() == "deviates"
    assert at_most(Estimate(1.1, 1.0, 9), 1.0).verdict() == "not verifiable"


def test_most_needs_more_than_half():
    yes, no, open_ = (above(Estimate(value, 0.1, 30)) for value in (1.0, -1.0, 0.05))
    assert most([yes, yes, no]).verdict() == "reproduced"
    assert most([yes, yes, no, no]).verdict() == "deviates"  # half of them are shown to be below
    assert most([yes, open_, open_]).verdict() == "consistent"
    assert most([open_, open_, no]).plausible
    assert not most([open_, no, no]).plausible
    assert p_several([0.01, 0.02, 0.9], 2) == pytest.approx(0.04)
    assert p_several([0.5, 0.9, 0.9], 1) == 1.0


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


def test_the_estimate_is_students_t_where_only_seeds_differ():
    gains = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1)
    found = estimate([(1.0, gains)])
    assert (found.value, found.freedom) == (2.0, pytest.approx(2))
    assert found.half_width() == pytest.approx(t.ppf(0.95, 2) / math.sqrt(3))


def test_seeds_and_languages_are_two_random_effects():
    """By hand: a table of two seeds and three languages, its mean squares, and their degrees of freedom joined."""
    gains = np.array([[1.0, 4.0, 10.0], [2.0, 7.0, 9.0]])
    mean, seeds, languages = gains.mean(), gains.mean(axis=1), gains.mean(axis=0)
    ms_seeds = 3 * ((seeds - mean) ** 2).sum() / 1
    ms_languages = 2 * ((languages - mean) ** 2).sum() / 2
    ms_rest = ((gains - seeds[:, None] - languages + mean) ** 2).sum() / 2
    total = ms_seeds + ms_languages - ms_rest
    found = estimate([(1.0, gains)])
    assert found.error == pytest.approx(math.sqrt(total / 6))
    assert found.freedom == pytest.approx(total**2 / (ms_seeds**2 / 1 + ms_languages**2 / 2 + ms_rest**2 / 2))


def test_languages_that_differ_widen_the_interval_with_one_seed_too():
    seeds, far = np.array([[4.9], [5.0], [5.1]]), np.array([[-6.0, -2.0, 2.0, 6.0]])
    narrow, wide = estimate([(1.0, seeds + np.zeros((3, 4)))]), estimate([(1.0, seeds + far)])
    assert narrow.p_at_most(0.0) < 0.01
    assert wide.error > 5 * narrow.error
    alone = estimate([(1.0, 5.0 + far)])
    assert (alone.error, alone.freedom) == (pytest.approx(np.std(far, ddof=1) / 2), pytest.approx(3))


def test_two_languages_are_languages_too_and_small_differences_count():
    gains = np.array([[0.1, 0.2], [0.3, 0.6]])
    apart = np.array([0.2, 0.4]).var(ddof=1) / 2
    rest = 4 * 0.05**2 / 4
    assert estimate([(1.0, gains)]).error == pytest.approx(
        math.sqrt(np.array([0.15, 0.45]).var(ddof=1) / 2 + apart - rest)
    )


def test_languages_that_differ_less_than_the_rest_add_nothing():
    gains = np.array([[1.0, -1.0], [-1.0, 1.0], [0.5, -0.5]]) + np.array([[1.0], [2.0], [3.0]])
    found = estimate([(1.0, gains)])
    assert (found.error, found.freedom) == (pytest.approx(1 / math.sqrt(3)), pytest.approx(2))


def test_seeds_are_paired_so_that_what_two_tasks_share_cancels():
    shared = np.array([[-5.0], [0.0], [5.0]])
    first, second = 3.0 + shared + np.zeros((3, 4)), shared + np.zeros((3, 9))
    found = estimate([(1.0, first), (-1.0, second)])
    assert (found.value, found.error) == (pytest.approx(3.0), pytest.approx(0.0))
