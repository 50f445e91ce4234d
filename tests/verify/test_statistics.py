"""The statistics behind the verdicts, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from xlt.verify.statistics import Comparison, bootstrap, compare, contrast, holm, ladder


def test_the_interval_counts_the_printed_value_as_one_more_draw():
    found = compare([8.0, 9.0, 10.0], 8.5, 1.0)
    half = t.ppf(0.975, 2) * math.sqrt(1 + 1 / 3)
    assert (found.low, found.high) == (pytest.approx(9 - half), pytest.approx(9 + half))
    assert found.difference == pytest.approx(0.5)
    assert found.p == pytest.approx(2 * t.sf(0.5 / math.sqrt(4 / 3), 2))
    assert not found.within


def test_equality_is_shown_only_where_the_interval_fits_into_the_margin():
    values = [8.4, 8.5, 8.6]
    reach = t.ppf(0.95, 2) * 0.1 * math.sqrt(4 / 3)
    assert compare(values, 8.2, 0.3 + reach + 0.01).within
    assert not compare(values, 8.2, 0.3 + reach - 0.01).within


def test_what_is_not_trained_is_inside_the_margin_or_not():
    assert compare([31.4], 31.0, 0.5, trained=False).within
    found = compare([31.1, 32.0], 31.0, 0.5, trained=False)
    assert (found.within, found.difference) == (False, 1.0)
    with pytest.raises(ValueError, match="no spread"):
        compare([31.4], 31.0, 0.5)


@pytest.mark.parametrize(
    ("difference", "within", "p", "low", "word"),
    [
        (0.2, True, 0.9, 8.0, "reproduced"),
        (-3.0, False, 0.01, 4.0, "deviates"),
        (-0.9, False, 0.01, 6.0, "consistent"),  # a difference below the margin never deviates
        (-3.0, False, 0.2, 4.0, "consistent"),
        (-3.0, False, 0.2, -1.0, "not verifiable"),  # reaches no gain at all
    ],
)
def test_the_ladder(difference: float, within: bool, p: float, low: float, word: str):
    estimate = 8.0 + difference
    found = Comparison(estimate, low, 2 * estimate - low, difference, 1.0, within, p)
    assert ladder(found, p, 0.0) == word


def test_seeds_without_any_spread_are_judged_by_the_margin():
    same = compare([8.2, 8.2, 8.2], 8.2, 1.0)
    assert (same.within, same.p) == (True, 1.0)
    assert ladder(compare([5.0, 5.0], 8.2, 1.0), 0.0, 0.0) == "deviates"


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_bootstrap_is_that_of_students_t_where_only_seeds_differ():
    deltas = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1)
    found = contrast("", [(1.0, deltas)], draws=40_000)
    half = t.ppf(0.95, 2) / math.sqrt(3)
    assert found.estimate == 2.0
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)


def test_languages_that_differ_widen_the_interval_and_a_second_call_gives_the_same():
    seeds = np.array([[4.9], [5.0], [5.1]])
    alike, apart = seeds + np.zeros((3, 4)), seeds + np.array([[-6.0, -2.0, 2.0, 6.0]])
    narrow, wide = contrast("", [(1.0, alike)]), contrast("", [(1.0, apart)])
    assert narrow.p_above < 0.01
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert (bootstrap([(1.0, apart)]) == bootstrap([(1.0, apart)])).all()


def test_seeds_are_resampled_together_so_that_what_two_tasks_share_cancels():
    shared = np.array([[-5.0], [0.0], [5.0]])
    first, second = 3.0 + shared + np.zeros((3, 4)), shared + np.zeros((3, 9))
    found = contrast("", [(1.0, first), (-1.0, second)])
    assert (found.low, found.high) == (pytest.approx(3.0), pytest.approx(3.0))
