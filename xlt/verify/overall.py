"""The verdict on all means of a results folder together, by the recorded seeds of the same tier.

A band sees what happens to one mean. A machine on which every mean is a little worse lies in every band; the average of
all means in units of their spread shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats is slow to import

from xlt.verify.comparison import Matrix, VerdictWord, mean
from xlt.verify.recorded import BandRule, ReferenceRun, ReferenceSet, RunMean
from xlt.verify.verdicts import Judged, Verdict

MOST = 4.0  # standard deviations that one mean can add: what is wrong with one alone is a matter of its band


class Overall(Judged):
    """The verdict on all means together; its reason says so in words."""

    value: float | None = None
    """How many standard deviations of the recorded seeds the means lie above them, on average over the means."""
    reach: float | None = None
    """How far from 0 a sound run lies, but for the error of the rule."""
    half_lost: float | None = None
    """Where a run would lie that lost half of what lies above a guess in every mean."""
    p: float | None = None
    """The chance that a sound run lies at least as far from 0."""
    means: int = 0
    """How many means took part, those included whose own bands tell nothing."""
    seeds: tuple[int, ...] = ()
    """The recorded seeds."""


def judge_together(asked: Sequence[RunMean], references: ReferenceSet, verdicts: Sequence[Verdict]) -> Overall | None:
    """The verdict on the means together; None where nothing is expected of them."""
    rule = references.rule
    if rule is None or not asked:
        return None
    if all(each.verdict == "exact" for each in verdicts):
        return Overall(verdict="exact", reason="every mean is exact", means=len(asked))
    compared, runs = _compared(asked, references)
    seeds = tuple(run.seed for run in runs)
    if len(runs) < rule.minimum_seeds:
        why = f"{len(runs)} of at least {rule.minimum_seeds} reference runs have the means that were scored here"
        return Overall(verdict="not verifiable", reason=why, means=len(compared), seeds=seeds)
    there = np.array([[run.means[each.name].value for each in compared] for run in runs])
    here = np.array([mean(each.rows["value"]) for each in compared])
    guesses = np.array([mean(each.rows["chance"]) for each in compared])
    return _overall(here, there, guesses, rule).model_copy(update={"seeds": seeds})


def _compared(asked: Sequence[RunMean], references: ReferenceSet) -> tuple[list[RunMean], list[ReferenceRun]]:
    """The means with reference runs, and the runs that fit all of these."""
    fitting = {each.name: references.fitting(each).runs for each in asked if not each.why_incomparable}
    compared = [each for each in asked if fitting.get(each.name)]
    runs = [run for run in references.runs if compared and all(run in fitting[each.name] for each in compared)]
    return compared, runs


def _overall(here: Matrix, there: Matrix, guesses: Matrix, rule: BandRule) -> Overall:
    value, half_lost = (float(distance(each, there, rule.floor)) for each in (here, (guesses + there.mean(axis=0)) / 2))
    scale, freedom = spread(there, rule.floor), len(there) - 1
    reach = -float(stdtrit(freedom, rule.overall_error / 2)) * scale
    p = 2 * float(stdtr(freedom, -abs(value) / scale)) if scale else float(value == 0)
    side = "above" if value > 0 else "below"
    reason = (
        f"on average the {len(here)} means lie {abs(value):.2f} standard deviations {side} the {len(there)} recorded "
        f"seeds; sound runs lie within {reach:.2f}, half of what they learnt lost would be {abs(half_lost):.2f} below"
    )
    word: VerdictWord = "deviates" if abs(value) > reach else "consistent" if half_lost < -reach else "not verifiable"
    return Overall(verdict=word, reason=reason, value=value, reach=reach, half_lost=half_lost, p=p, means=len(here))


def distance(here: Matrix, there: Matrix, floor: float) -> Matrix:
    """The average over the means of their distance from those of the recorded seeds ``there`` [seeds, means], in
    standard deviations; ``here`` is [means] or [runs, means].

    A standard deviation counts as at least ``floor`` / ``MOST``: a difference up to ``floor`` adds no more than any
    other may.
    """
    deviations = np.maximum(there.std(axis=0, ddof=1), floor / MOST)
    away = here - there.mean(axis=0)
    limits = MOST * np.sign(away)
    scaled = np.divide(away, deviations, out=limits, where=deviations > 0)
    average: Matrix = np.clip(scaled, -MOST, MOST).mean(axis=-1)
    return average


def spread(there: Matrix, floor: float) -> float:
    """The standard deviation of ``distance`` of sound runs: of each recorded seed, by all others.

    A distance by others holds the error of their mean as well, so that nothing is added for it.
    """
    left_out = [float(distance(row, np.delete(there, seed, axis=0), floor)) for seed, row in enumerate(there)]
    return math.sqrt(math.fsum(each**2 for each in left_out) / (len(there) - 1))
