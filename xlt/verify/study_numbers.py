"""What one seed of a study gives: scores by arm, task and language, and from them a number for each test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from xlt.pipeline.studies import Analysis, Form, Study
from xlt.tasks.record import ENGLISH
from xlt.verify.comparison import Matrix, mean
from xlt.verify.correlation import spearman, within_seeds

Place = tuple[str, str, str]  # arm, task, language
Measured = dict[Place, float]


@dataclass(frozen=True, slots=True)
class Observed:
    """What one seed gave."""

    seed: int
    """The seed."""
    scores: Measured
    """The scores on clean rows by arm, task and language, in percent."""
    degradations: Measured
    """What they lose on perturbed rows, the mean over the perturbations, in points."""
    problems: tuple[str, ...]
    """What is missing or cannot be trusted."""
    left_out: tuple[str, ...] = ()
    """Models whose scores are no result, and why."""
    difficulties: Mapping[str, float] = field(default_factory=dict)
    """How hard the intermediate tasks of an arm were, by English dev rows: from 0, all right, to 1, as by guessing."""


def numbers_of(study: Study, form: Form, seen: Observed) -> dict[str, float | None]:
    """By test the number of a seed; None where it lacks something that the test needs."""
    return {name: number_of(test, study.tasks(test, form), seen) for name, test in form.tests.items()}


def difficulties_of(form: Form, seen: Observed) -> dict[str, float]:
    """How hard the intermediate tasks of a seed were, of the arms that a test compares by it."""
    asked = {arm for test in form.tests.values() for arm in test.by_difficulty}
    return {arm: value for arm, value in seen.difficulties.items() if arm in asked}


def number_of(test: Analysis, tasks: Sequence[str], seen: Observed) -> float | None:
    """The number of a seed for one test; None where it lacks something that the test needs."""
    if test.statistic == "languages":
        return _over_languages(test, tasks, seen)
    if test.statistic == "difference":
        gains = [_gains(test, task, seen) for task in tasks]
        return mean([mean([*each.values()]) for each in gains]) if all(gains) else None
    values = of_arms(test, tasks, seen)
    return None if values is None else within_seeds(*values)


def of_arms(test: Analysis, tasks: Sequence[str], seen: Observed) -> tuple[Matrix, Matrix, Matrix | None] | None:
    """By arm [1, arms] its number in the test, what that is compared with, and the mean score on clean rows if that is
    given."""
    measured = seen.scores if test.measure == "score" else seen.degradations
    numbers = [test.by.get(arm, seen.difficulties.get(arm)) for arm in test.compared]
    values = [mean_of(measured, arm, tasks) for arm in test.compared]
    clean = [mean_of(seen.scores, arm, tasks) for arm in test.compared]
    if test.order:
        against = [test.model_copy(update={"arm": arm, "against": test.order}) for arm in test.compared]
        values = [_over_languages(each, tasks, seen) for each in against]
    if None in (*numbers, *values, *clean):
        return None
    number, value, score = (np.array([each], dtype=np.float64) for each in (numbers, values, clean))
    return number, value, score if test.given else None


def _over_languages(test: Analysis, tasks: Sequence[str], seen: Observed) -> float | None:
    found = []
    for task in tasks:
        gains = _gains(test, task, seen)
        order = [seen.scores.get((test.order, task, at)) for at in gains]
        if len(gains) < 4 or None in order:
            return None
        found.append(spearman(order, [*gains.values()]))  # type: ignore[arg-type]
    return mean(found)


def _gains(test: Analysis, task: str, seen: Observed) -> dict[str, float]:
    """By language, what ``arm`` has more than ``against``; none where one of them lacks a language of the other."""
    measured = seen.scores if test.measure == "score" else seen.degradations
    arm, against = (
        {at: value for (of, its, at), value in measured.items() if (of, its) == (name, task) and at != ENGLISH}
        for name in (test.arm, test.against)
    )
    return {at: arm[at] - against[at] for at in arm} if arm.keys() == against.keys() else {}


def mean_of(measured: Measured, arm: str, tasks: Sequence[str]) -> float | None:
    """The mean over tasks of the mean over languages other than English; None where a task is missing."""
    by_task = [
        [value for (of, task, at), value in measured.items() if (of, task) == (arm, wanted) and at != ENGLISH]
        for wanted in tasks
    ]
    return mean([mean(values) for values in by_task]) if by_task and all(by_task) else None
