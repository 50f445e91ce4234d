"""The rules by which scores are compared: values here with a printed one, with recorded seeds, or with each other.

The model: the score of a seed, as the mean over the languages of its benchmark, is a true mean plus a normal effect of
the seed. The languages are the benchmark's, not a sample of languages: they are fixed. ``artifact/STATISTICS.md`` has
the measured rates of wrong verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats is slow to import

VerdictWord = Literal["exact", "reproduced", "consistent", "deviates", "collapsed", "not run", "not verifiable"]
# Failures first: the order in which people want to read them.
VERDICT_WORDS: tuple[VerdictWord, ...] = (
    *("collapsed", "deviates", "not run", "not verifiable"),
    *("consistent", "reproduced", "exact"),
)
UNSETTLED = VERDICT_WORDS[:4]  # what failed, or was not judged
FAILED: frozenset[VerdictWord] = frozenset({"deviates", "collapsed"})
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
        # Without any spread the test has no scale: the estimate decides, and a bound belongs to what it bounds.
        return self._above((self.value - bound) / self.error) if self.error else float(self.value <= bound)

    def p_at_least(self, bound: float) -> float:
        """The p of the hypothesis that the difference is at least ``bound``."""
        return Estimate(-self.value, self.error, self.freedom).p_at_most(-bound)

    def p_within(self, margin: float) -> float:
        """The p of the hypothesis that the difference is at most ``margin`` in either direction.

        Both tails at a true difference of the margin count. Where the error is small beside the margin, this is the
        one-sided test against the margin; without a margin it is the two-sided test of no difference.
        """
        far = abs(self.value)
        if not self.error:
            return float(far <= margin)
        return min(1.0, self._above((far - margin) / self.error) + self._above((far + margin) / self.error))

    def p_beyond(self, margin: float) -> float:
        """The p of the hypothesis that the difference is more than ``margin`` in either direction.

        It is that of two one-sided tests (D. J. Schuirmann, A Comparison of the Two One-Sided Tests Procedure and the
        Power Approach, J. of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680).
        """
        # Complements, not the opposite tests: without any spread the ends of the margin belong to it.
        return max(1 - self.p_at_most(margin), 1 - self.p_at_least(-margin))

    def _above(self, t: float) -> float:
        return float(stdtr(self.freedom, -t))

    def half_width(self, level: float = LEVEL) -> float:
        """How far a one-sided bound at ``level`` lies from the estimate."""
        return -float(stdtrit(self.freedom, level)) * self.error


@dataclass(frozen=True, slots=True)
class Comparison:
    """The p values by which a difference is shown to lie where it should (``inside``) or elsewhere (``outside``).

    ``inside`` is the p of the hypothesis that it lies elsewhere, ``outside`` that it lies where it should. ``guess`` is
    the p by which the score of a guess would be shown to lie elsewhere: where it would not, a score that lies where it
    should is no evidence. ``plausible`` is whether the estimate lies where it should.
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

    @property
    def unshown(self) -> Comparison:
        """The same, but never more than consistent."""
        return replace(self, inside=1.0)


def near(found: Estimate, drawn: Estimate, margin: float, guess: float) -> Comparison:
    """A difference to a printed value that should be none; ``guess`` is the difference that a guess would have.

    ``found`` takes the printed value as a fixed number, ``drawn`` as one draw with the spread of the seeds here. Inside
    is a statement on the printed number itself: the mean of the seeds is within the margin of it. Outside is one on the
    two recipes: they differ by more than the margin, and not only the draws that the paper and we had. Inside the
    margin nothing can be shown to be outside.
    """
    if guess >= -margin:  # a guess lies where it should, or does better: nothing there is evidence
        return Comparison(1.0, drawn.p_within(margin), 1.0)
    return Comparison(found.p_beyond(margin), drawn.p_within(margin), replace(drawn, value=guess).p_within(margin))


def beside(found: Estimate, floor: float, guess: float) -> Comparison:
    """One run that should be of one kind with recorded ones; ``guess`` is the difference that a guess would have.

    Outside is a test of no difference at all, with ``floor`` as the least half width of the band: a sound run is a draw
    like the recorded ones, which no margin need be granted.
    """

    def outside(value: float) -> float:
        return 1.0 if abs(value) <= floor else replace(found, value=value).p_within(0.0)

    told_apart = guess < -floor
    inside = found.p_beyond(floor) if told_apart else 1.0
    return Comparison(inside, outside(found.value), outside(guess) if told_apart else 1.0)


def above(found: Estimate) -> Comparison:
    """A difference that should be above 0."""
    return Comparison(found.p_at_most(0.0), found.p_at_least(0.0), plausible=found.value > 0)


def at_most(found: Estimate, margin: float) -> Comparison:
    """A difference that should not be above ``margin``."""
    over = found.p_at_most(margin)
    return Comparison(1 - over, over, plausible=found.value <= margin)


def at_least(count: int, found: Sequence[Comparison]) -> Comparison:
    """Whether at least ``count`` of several differences lie where they should."""
    return Comparison(
        p_several([each.inside for each in found], count),
        p_several([each.outside for each in found], len(found) - count + 1),
        p_several([each.guess for each in found], len(found) - count + 1),
        plausible=sum(each.plausible for each in found) >= count,
    )


def most(found: Sequence[Comparison]) -> Comparison:
    """Whether more than half of several differences lie where they should."""
    return at_least(len(found) // 2 + 1, found)


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


@dataclass(frozen=True, slots=True)
class Spread:
    """The standard deviation between seeds that somebody else measured, in points, and its degrees of freedom."""

    deviation: float = 0.0
    freedom: int = 0


NOT_KNOWN = Spread()


def estimate(here: Sequence[float], there: Sequence[float] = (), known: Spread = NOT_KNOWN) -> Estimate:
    """The mean of the values here, minus that of the values ``there``, with its standard error.

    The spread between seeds is one, pooled over both sides and with what is ``known`` of it. One value there, as one
    that was printed, is one more draw with the spread of those here; one value here is one more draw with the spread
    of those there.
    """
    middle, other = mean(here), mean(there) if there else 0.0
    freedom = max(1, len(here) - 1 + max(len(there) - 1, 0) + known.freedom)
    squares = [known.freedom * known.deviation**2, *((value - middle) ** 2 for value in here)]
    squares += [(value - other) ** 2 for value in there]
    variance = math.fsum(squares) / freedom * (1 / len(here) + (1 / len(there) if there else 0))
    return Estimate(middle - other, math.sqrt(variance), freedom)
