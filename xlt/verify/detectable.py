"""The smallest effect that the rules of ``xlt.verify.comparison`` show, and how often they show what is true.

The model is that of the rules: a score is a true mean plus a normal effect of the seed, of known spread here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import nctdtrinc, ndtri, stdtrit  # scipy.stats is slow to import

from xlt.verify.comparison import LEVEL, Matrix

POWER = 0.8
DRAWS = 4000
SEED = 2005


def smallest_shown(
    spread: float, seeds: int, examples: float = 0.0, *, level: float = LEVEL, printed: int = 0, known: int = 0
) -> float:
    """The true difference that a one-sided t over seeds shows to be above 0 in 80 % of cases.

    Args:
        spread: the standard deviation of the difference between seeds.
        seeds: how many there are; with one, the spread is taken as known and the normal distribution is used.
        examples: a standard error that all seeds share; the degrees of freedom are then Welch and Satterthwaite's.
        level: the level of the test.
        printed: how many more draws with that spread the other side of the difference is the mean of.
        known: the degrees of freedom of a spread that was measured elsewhere and is pooled with the one here.
    """
    variance = spread**2 * (1 / seeds + (1 / printed if printed else 0))
    error = math.hypot(math.sqrt(variance), examples)
    freedom = (seeds - 1 + known) * (error**2 / variance) ** 2
    if not freedom:
        return error * float(ndtri(1 - level) + ndtri(POWER))
    # The noncentral t: the effect, in standard errors, whose statistic exceeds the critical value so often.
    return error * float(nctdtrinc(freedom, 1 - POWER, stdtrit(freedom, 1 - level)))


def bounds(terms: Matrix, least: int, examples: float = 0.0) -> Matrix:
    """By draw, the common effect from which on at least so many of several terms are shown to be above 0.

    ``terms`` [draws, seeds, terms] have no effect. The more of it there is, the more is shown: no search is needed. The
    level of a term is that of a partial conjunction in Bonferroni's form (``comparison.p_several``).
    """
    _, seeds, count = terms.shape
    level = LEVEL / (count - least + 1)
    middle = terms.mean(axis=1)
    if seeds == 1:  # no spread is seen: that of the draws is taken as known
        error, critical = np.broadcast_to(terms.std(axis=(0, 1)), middle.shape), -ndtri(level)
        error = np.hypot(error, examples)
    else:
        own = terms.std(axis=1, ddof=1) / math.sqrt(seeds)
        error = np.hypot(own, examples)
        critical = -stdtrit((seeds - 1) * (error / own) ** 4, level)
    shared = np.random.default_rng(SEED).normal(0, examples, (len(terms), 1))
    found: Matrix = np.sort(critical * error - middle - shared, axis=1)[:, least - 1]
    return found


def reproduced(
    readings: Sequence[int],
    margin: float,
    spread: float,
    seeds: int,
    *,
    base: bool = False,
    printed: int = 1,
    known: int = 0,
) -> float:
    """How often all of several scores are shown to be inside the margin of what is printed, where the recipes are one.

    Args:
        readings: by score, how many readings it has, of which one suffices (each at its share of the level).
        margin: the margin, in points.
        spread: the standard deviation between seeds of each score.
        seeds: how many there are here.
        base: whether the scores are differences to one baseline.
        printed: of how many draws what is printed is the mean; of more than one, it counts as an estimate.
        known: the degrees of freedom of a spread that was measured elsewhere and is pooled with the one here.
    """
    freedom = seeds - 1 + known
    if not freedom:
        return 0.0
    random = np.random.default_rng(SEED)
    every = np.ones(DRAWS, dtype=bool)
    ours = base * random.normal(0, spread, (DRAWS, seeds, 1))
    theirs = base * random.normal(0, spread, (DRAWS, 1, 1))
    for count in readings:
        expected = random.normal(0, spread / math.sqrt(printed), (DRAWS, 1, 1)) - theirs
        found = random.normal(0, spread, (DRAWS, seeds, count)) - ours - expected
        squares = seeds * found.var(axis=1) + spread**2 * random.chisquare(known or 1, (DRAWS, 1)) * bool(known)
        error = np.sqrt(squares / freedom * (1 / seeds + (1 / printed if printed > 1 else 0)))
        every &= (np.abs(found.mean(axis=1)) - stdtrit(freedom, LEVEL / count) * error < margin).any(axis=1)
    return float(every.mean())
