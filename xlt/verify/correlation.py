"""Correlations of ranks: Spearman's, and over several seeds from the ranks within each, with a test by permutation.

Four or five arms have few orders: a t test over the seeds' coefficients, many of which are then 1 or −1, errs more
often than it says. Under the hypothesis of no relation every order of a seed's arms is as likely: those are drawn.
Where the arms are a few of many things that could have been compared, such as tasks, each has traits of its own that
every seed sees again: then one order is drawn for all seeds, and ``by_arm`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # scipy.stats is slow to import

from xlt.verify.comparison import LEVEL, Matrix

Numbers = Sequence[float] | Matrix
DRAWS = 10_000
SEED = 2005
NOTHING = 1e-9  # a sum of squares of ranks that is rounding alone


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's correlation, ties by their mean rank; 0 where one of the two does not vary."""
    return float(_correlation(_ranks(np.array([x])), _ranks(np.array([y]))))


def within_seeds(x: Numbers, y: Matrix, given: Matrix | None = None) -> float:
    """The correlation of ranks within seeds: of ``x`` [arms] or [seeds, arms] with ``y`` [seeds, arms], pooled.

    With ``given`` [seeds, arms] it is the partial one: of what a line through the ranks of ``given`` leaves of both. 0
    where nothing is left of one.
    """
    return float(_correlation(*_residuals(x, y, given)))


def permuted_p(x: Numbers, y: Matrix, given: Matrix | None = None, *, by_arm: bool = False) -> float:
    """The two-sided p of ``within_seeds`` under the hypothesis that ``y`` has, within each seed, any order as likely;
    ``by_arm``: that of any order of its columns.

    With ``given`` what is permuted is what a line through its ranks leaves of those of ``y`` (D. Freedman and D. Lane,
    A Nonstochastic Interpretation of Reported Significance Levels, J. of Business and Economic Statistics 1 (1983),
    292-298). The draws are the same at every call.
    """
    left_x, left_y = _residuals(x, y, given)
    found = abs(float(_correlation(left_x, left_y)))
    draw = np.random.default_rng(SEED)
    if by_arm:
        orders = draw.permuted(np.tile(np.arange(left_y.shape[1]), (DRAWS, 1)), axis=1)
        drawn = np.moveaxis(left_y[:, orders], 1, 0)
    else:
        drawn = draw.permuted(np.broadcast_to(left_y, (DRAWS, *left_y.shape)), axis=2)
    if given is not None:
        drawn = _without(drawn, _ranks(given))
    as_far = np.abs(_correlation(left_x, drawn)) >= found - NOTHING
    return float((1 + as_far.sum()) / (1 + DRAWS))


def jackknifed(x: Numbers, y: Matrix, given: Matrix | None = None, *, by_arm: bool = False) -> tuple[float, float]:
    """The 95 % interval of ``within_seeds``, from what it is without each of the seeds, or ``by_arm`` of the arms; at
    least two."""
    x = np.broadcast_to(np.array(x, dtype=np.float64), y.shape)
    whole, axis = within_seeds(x, y, given), int(by_arm)
    units = y.shape[axis]
    kept = [np.delete(np.arange(units), left_out) for left_out in range(units)]
    rest = [[None if each is None else each.take(places, axis) for each in (x, y, given)] for places in kept]
    without = np.array([within_seeds(*each) for each in rest])  # type: ignore[arg-type]
    error = np.sqrt((units - 1) / units * np.square(without - without.mean()).sum())
    half = -float(stdtrit(units - 1, LEVEL / 2)) * float(error)
    return max(-1.0, whole - half), min(1.0, whole + half)


def _residuals(x: Numbers, y: Matrix, given: Matrix | None) -> tuple[Matrix, Matrix]:
    ranks = _ranks(np.broadcast_to(np.array(x, dtype=np.float64), y.shape)), _ranks(y)
    return ranks if given is None else (_without(ranks[0], _ranks(given)), _without(ranks[1], _ranks(given)))


def _ranks(values: Matrix) -> Matrix:
    """The ranks in each row, from their mean on."""
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    ties = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    ranks = below + (ties - 1) / 2
    return np.asarray(ranks - ranks.mean(axis=1, keepdims=True), dtype=np.float64)


def _without(values: Matrix, other: Matrix) -> Matrix:
    """What a line through ``other`` [seeds, arms] leaves of ``values`` [..., seeds, arms]."""
    size = float((other * other).sum())
    if size < NOTHING:
        return values
    slope = (values * other).sum(axis=(-2, -1), keepdims=True) / size
    return np.asarray(values - slope * other, dtype=np.float64)


def _correlation(x: Matrix, y: Matrix) -> Matrix:
    """The correlation of ``x`` [seeds, arms] with each of ``y`` [..., seeds, arms]."""
    sizes = (x * x).sum() * (y * y).sum(axis=(-2, -1))
    products = (x * y).sum(axis=(-2, -1))
    return np.asarray(np.divide(products, np.sqrt(sizes), out=np.zeros_like(products), where=sizes > NOTHING**2))
