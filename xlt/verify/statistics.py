"""The statistics of the verdicts against printed values and of claims about differences; rates in STATISTICS.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from xlt.verify.verdicts import VerdictWord

LEVEL = 0.05
DRAWS = 10_000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The values of n seeds against one printed value, in points.

    ``low`` to ``high`` is the 95 % interval of the mean of the seeds, ``within`` is whether two one-sided tests place
    the difference inside the margin, ``p`` is of the two-sided test that there is no difference. All count the printed
    value as one more draw with the same spread, unless nothing was trained.
    """

    estimate: float
    low: float
    high: float
    difference: float
    margin: float
    within: bool
    p: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """A paired difference, in points: its bootstrap 90 % interval, and the one-sided p of it being above and below 0.

    ``low`` and ``high`` are each a one-sided 95 % bound.
    """

    name: str
    estimate: float
    low: float
    high: float
    p_above: float
    p_below: float


def compare(values: Sequence[float], expected: float, margin: float, *, trained: bool = True) -> Comparison:
    """The values of the seeds against what was printed. Values that no training is behind have no spread to count.

    Raises:
        ValueError: fewer than two values of trained models.
    """
    n, estimate = len(values), statistics.fmean(values)
    difference = estimate - expected
    if not trained:
        farthest = max((value - expected for value in values), key=abs)
        inside = abs(farthest) <= margin
        return Comparison(estimate, min(values), max(values), farthest, margin, inside, float(inside))
    if n < 2:
        raise ValueError("one seed shows no spread")
    error = statistics.stdev(values) * math.sqrt(1 + 1 / n)
    half = _quantile(1 - LEVEL / 2, n) * error
    within = abs(difference) + _quantile(1 - LEVEL, n) * error <= margin
    # Without any spread the test has no scale: every difference is one.
    p = 2 * float(t.sf(abs(difference) / error, n - 1)) if error else float(difference == 0)
    return Comparison(estimate, estimate - half, estimate + half, difference, margin, within, p)


@lru_cache(maxsize=256)
def _quantile(level: float, n: int) -> float:
    return float(t.ppf(level, n - 1))


def ladder(found: Comparison, p: float, nothing: float) -> VerdictWord:
    """The verdict on a comparison; ``p`` is corrected for its family, ``nothing`` what a guess or no effect gives.

    An interval that reaches ``nothing`` is no evidence. A difference below the margin never deviates.
    """
    if found.within:
        return "reproduced"
    if p < LEVEL and abs(found.difference) > found.margin:
        return "deviates"
    return "not verifiable" if found.low <= nothing <= found.high else "consistent"


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p of each of a family of tests, in their order."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = highest
    return adjusted


def bootstrap(parts: Sequence[tuple[float, Floats]], draws: int = DRAWS) -> Floats:
    """Draws of a weighted sum of means over seeds and languages; always the same ones.

    ``parts`` are weights and paired differences ``[seeds, languages]``, the same seeds in all: seeds are resampled
    together, the languages of each part by themselves.
    """
    random = np.random.default_rng(2005)
    by_seed = np.sum([weight * deltas.mean(axis=1) for weight, deltas in parts], axis=0)
    total = by_seed.mean() + _resampled(by_seed, draws, random)
    for weight, deltas in parts:
        total += weight * _resampled(deltas.mean(axis=0), draws, random)
    return np.asarray(total, np.float64)


def contrast(name: str, parts: Sequence[tuple[float, Floats]], draws: int = DRAWS) -> Contrast:
    """The weighted sum of means with its bootstrap interval."""
    made = bootstrap(parts, draws)
    low, high = np.quantile(made, [LEVEL, 1 - LEVEL])
    return Contrast(
        name=name,
        estimate=math.fsum(weight * float(deltas.mean()) for weight, deltas in parts),
        low=float(low),
        high=float(high),
        p_above=(1 + int((made <= 0).sum())) / (draws + 1),
        p_below=(1 + int((made >= 0).sum())) / (draws + 1),
    )


def _resampled(values: Floats, draws: int, random: np.random.Generator) -> Floats:
    """How far the mean of n resampled values lies from theirs.

    Resampled with continuous weights (Bayesian bootstrap): three values have but ten plain resamples. Each draw is
    stretched by √((n + 1) / χ²(n - 1)), for a few values know too little of their own spread; of normal values the
    interval is then near that of Student's t.
    """
    n = len(values)
    if n < 2:
        return np.zeros(draws)
    weights = random.standard_exponential((draws, n))
    weights /= weights.sum(axis=1, keepdims=True)
    stretch = np.sqrt((n + 1) / random.chisquare(n - 1, draws))
    return np.asarray(stretch * (weights @ (values - values.mean())), np.float64)
