"""The one rule by which scores are compared: n values here against k values there (recorded seeds, or one printed).

The model: the score of a seed in a language is a mean plus random effects of the seed, of the language and of both
together, all normal, with one spread between seeds on both sides. ``artifact/STATISTICS.md`` has the measured rates of
wrong verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # Student's t; scipy.stats is slow to import

VerdictWord = Literal["exact", "reproduced", "consistent", "deviates", "collapsed", "not run", "not verifiable"]
# Failures first: the order in which people want to read them.
VERDICT_WORDS: tuple[VerdictWord, ...] = (
    *("collapsed", "deviates", "not run", "not verifiable"),
    *("consistent", "reproduced", "exact"),
)
UNSETTLED = VERDICT_WORDS[:4]  # what failed, or was not judged
LEVEL = 0.05
Matrix = NDArray[np.float64]


def worst(words: Sequence[VerdictWord]) -> VerdictWord:
    """The most severe of several verdicts."""
    return min(words, key=VERDICT_WORDS.index)


def mean(values: Sequence[float] | Matrix) -> float:
    """The mean from an exact sum, which is the same in every order of the values."""
    return math.fsum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated difference in points, its standard error, and the degrees of freedom of that error."""

    value: float
    error: float = 0.0
    freedom: float = 1.0

    def p_at_most(self, bound: float) -> float:
        """The p of the hypothesis that the difference is at most ``bound``."""
        from scipy.stats import t  # slow to import, and needed only where something is compared

        # Without any spread the test has no scale: the estimate decides, and a bound belongs to what it bounds.
        return (
            float(t.sf((self.value - bound) / self.error, self.freedom)) if self.error else float(self.value <= bound)
        )

    def p_at_least(self, bound: float) -> float:
        """The p of the hypothesis that the difference is at least ``bound``."""
        return Estimate(-self.value, self.error, self.freedom).p_at_most(-bound)

    def half_width(self, level: float = LEVEL) -> float:
        """How far a one-sided bound at ``level`` lies from the estimate."""
        return -float(stdtrit(self.freedom, level)) * self.error


@dataclass(frozen=True, slots=True)
class Comparison:
    """The p values by which a difference is shown to lie where it should (``inside``) or elsewhere (``outside``).

    ``guess`` is the p by which the score of a guess would be shown to lie elsewhere: where it would not, a score that
    lies where it should is no evidence. ``plausible`` is whether the estimate lies where it should.
    """

    inside: float
    outside: float
    guess: float = 0.0
    plausible: bool = True

    def verdict(self, level: float = LEVEL) -> VerdictWord:
        """The ladder of verdicts; ``level`` is what the family of comparisons leaves to this one."""
        if self.inside < LEVEL:
            return "reproduced"
        if self.outside < level:
            return "deviates"
        return "consistent" if self.plausible and self.guess < level else "not verifiable"


def near(found: Estimate, margin: float, guess: float) -> Comparison:
    """A difference that should be none; ``guess`` is the difference that a guess would have.

    ``reproduced`` needs two one-sided tests that place it inside the margin (D. J. Schuirmann, A Comparison of the Two
    One-Sided Tests Procedure and the Power Approach, J. of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680).
    """

    def outside(value: float) -> float:
        there = Estimate(abs(value), found.error, found.freedom)
        return 1.0 if there.value <= margin else 2 * there.p_at_most(0.0)

    # Complements, not the opposite tests: without any spread the ends of the margin belong to it.
    inside = max(1 - found.p_at_most(margin), 1 - found.p_at_least(-margin))
    told_apart = guess < -margin
    return Comparison(inside if told_apart else 1.0, outside(found.value), outside(guess) if told_apart else 1.0)


def above(found: Estimate) -> Comparison:
    """A difference that should be above 0."""
    return Comparison(
        found.p_at_most(0.0), found.p_at_least(0.0) if found.value < 0 else 1.0, plausible=found.value > 0
    )


def at_most(found: Estimate, margin: float) -> Comparison:
    """A difference that should not be above ``margin``."""
    over = found.value > margin
    return Comparison(1 - found.p_at_most(margin), found.p_at_most(0.0) if over else 1.0, plausible=not over)


def most(found: Sequence[Comparison]) -> Comparison:
    """Whether more than half of several differences lie where they should."""
    majority = len(found) // 2 + 1
    return Comparison(
        p_several([each.inside for each in found], majority),
        p_several([each.outside for each in found], len(found) - majority + 1),
        plausible=sum(each.plausible for each in found) >= majority,
    )


def p_several(p: Sequence[float], least: int) -> float:
    """The p of the hypothesis that fewer than ``least`` of the hypotheses with these p are false.

    Y. Benjamini and R. Heller, Screening for Partial Conjunction Hypotheses, Biometrics 64 (2008), 1215-1222, in the
    form of Bonferroni, which asks for no independence.
    """
    return min(1.0, (len(p) - least + 1) * sorted(p)[least - 1])


def holm(p: Sequence[float], level: float = LEVEL) -> list[float]:
    """The level at which each of a family of tests is decided, so that any of them errs with ``level`` at most.

    S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. Journal of Statistics 6 (1979), 65-70.
    """
    levels, left = [level] * len(p), len(p)
    for place in sorted(range(len(p)), key=p.__getitem__):
        levels[place] = level / left
        left -= p[place] < levels[place]  # from the first that is not rejected on, all have its level
    return levels


def verdicts(found: Sequence[Comparison]) -> list[VerdictWord]:
    """The verdicts on a family of comparisons."""
    levels = holm([each.outside for each in found])
    return [each.verdict(level) for each, level in zip(found, levels, strict=True)]


def estimate(terms: Sequence[tuple[float, Matrix]], there: Sequence[float] = ()) -> Estimate:
    """The weighted sum of means here, minus the mean of the values ``there``, with its standard error in closed form.

    A term is a weight and a matrix [seeds, languages], with the same seeds in all. The variance has a component between
    seeds, pooled over both sides, and one between the languages of each term (two random effects without replication:
    S. R. Searle, G. Casella and C. E. McCulloch, Variance Components, Wiley 1992, chapter 4). Their degrees of freedom
    are joined as in F. E. Satterthwaite, An Approximate Distribution of Estimates of Variance Components, Biometrics
    Bulletin 2 (1946), 110-114. One value there, as one that was printed, is one more draw with the spread of those
    here; one value here is one more draw with the spread of those there.

    Where both sides are of the same languages their effects cancel: give one column, the mean over the languages.
    """
    seeds = [math.fsum(weight * mean(matrix[row]) for weight, matrix in terms) for row in range(len(terms[0][1]))]
    freedom = len(seeds) - 1 + max(len(there) - 1, 0)
    components: list[tuple[float, int]] = []
    if freedom:
        squares = math.fsum((value - mean(side)) ** 2 for side in (seeds, there) for value in side)
        components.append((squares / freedom * (1 / len(seeds) + (1 / len(there) if there else 0)), freedom))
    for weight, matrix in terms:
        components += _between_languages(weight * matrix)
    variance = math.fsum(part for part, _ in components)
    joint = variance**2 / math.fsum(part**2 / own for part, own in components) if variance else 1.0
    return Estimate(mean(seeds) - (mean(there) if there else 0.0), math.sqrt(variance), joint)


def _between_languages(matrix: Matrix) -> list[tuple[float, int]]:
    """What languages add to the variance of the mean of all values, in parts with their degrees of freedom."""
    seeds, languages = matrix.shape
    if languages < 2:
        return []
    by_language = matrix.mean(axis=0)
    parts = [(float(by_language.var(ddof=1)) / languages, languages - 1)]
    if seeds > 1:
        # The means of the languages differ by the rest too, which the seeds' component has already: taken off here.
        rest = matrix - by_language - matrix.mean(axis=1, keepdims=True) + matrix.mean()
        freedom = (seeds - 1) * (languages - 1)
        parts.append((-float((rest**2).sum()) / freedom / (seeds * languages), freedom))
    return parts if math.fsum(part for part, _ in parts) > 0 else []
