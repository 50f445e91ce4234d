"""The answer of a study: its tests over all seeds, from scores that are recomputed from stored predictions.

Every test is one that the study's file named before anything was run. A t test over the seeds' numbers compares their
mean with zero; correlations over arms are tested by permuting within seeds. The tests of a study share the level of
5 % (Holm).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from xlt.data.perturb import SEARCH
from xlt.data.source import Source
from xlt.evaluate.metrics import task_score
from xlt.files import write_text
from xlt.frozen import Frozen
from xlt.pipeline.spec import RunSpec, SourceSpec
from xlt.pipeline.store import RunStore
from xlt.pipeline.studies import Analysis, Form, Study, scored_split
from xlt.pipeline.study_folder import ANSWER
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH
from xlt.verify.cells import Recomputed, collapsed_cells, read_cells
from xlt.verify.comparison import LEVEL, estimate, holm, mean
from xlt.verify.correlation import jackknifed, permuted_p, within_seeds
from xlt.verify.detectable import smallest_shown
from xlt.verify.robustness import MEAN, degradations
from xlt.verify.stored import check_source, read_grid
from xlt.verify.study_numbers import Measured, Observed, Place, difficulties_of, mean_of, number_of, of_arms

# Perturbed rows, and the runs on them, each with its arm.
Perturbed = tuple[Source, Sequence[tuple[str, RunSpec]]]
Decision = Literal["above 0", "below 0", "not told from 0", "not verifiable"]


class ArmRow(Frozen):
    """An arm on a task, over languages other than English and over seeds."""

    arm: str
    """The phase-2 model."""
    task: str
    """The target task."""
    score: float
    """The mean score on clean rows, in percent."""
    english: float | None
    """The mean score in English; null where the task has none."""
    degradation: float | None
    """The mean of what scores lose on perturbed rows, in points; null where none were perturbed."""


class TestAnswer(Frozen):
    """What came of one test."""

    name: str
    """Its name in the study's file."""
    about: str
    """What the number is, in words."""
    unit: Literal["points", "correlation"]
    """What the number is counted in."""
    per_seed: dict[int, float]
    """The number of each seed, 0 for a correlation with what does not vary; a seed that lacks a run has none."""
    value: float | None
    """The number over seeds: their mean, for correlations over arms that of the ranks within seeds."""
    low: float | None
    """The lower end of its 95 % interval over seeds."""
    high: float | None
    """The upper end."""
    p: float | None
    """The p of the hypothesis that it is 0, two-sided."""
    level: float | None
    """The level that Holm's procedure leaves to this test."""
    decision: Decision
    """Where the number lies."""
    expected: str
    """What the hypothesis says of it."""
    beforehand: float | None
    """The smallest number that so many seeds show in 80 % of cases, by the spread that was expected; null where nobody
    knew it, and for correlations over arms, whose test has no such scale."""
    smallest: float | None
    """The same by the spread that was found."""


class StudyAnswer(Frozen):
    """``RESULTS/study.json``: a study's question and what its runs say."""

    format: Literal[1] = 1
    """The version of this file's form."""
    study: str
    """The name of the study."""
    tier: str
    """The tier whose size it has."""
    source: str
    """The source of its rows."""
    limit: int
    """How many rows of each split were used at most, first ones; 0 for all."""
    perturbations: list[str]
    """How rows were perturbed, each by its kind and severity."""
    question: str
    """The question."""
    hypothesis: str
    """What was expected."""
    decision_rule: str
    """When the hypothesis counts as supported."""
    answer: str
    """The answer in words."""
    tests: list[TestAnswer]
    """The tests."""
    arms: list[ArmRow]
    """The scores behind them."""
    difficulties: dict[str, dict[int, float]] = {}
    """By arm and seed how hard its intermediate tasks were, where a test goes by it: the share of what there is above
    guessing that the phase-2 model lacks on English dev rows."""
    seeds: list[int]
    """The seeds that were looked at."""
    problems: list[str]
    """What is missing or cannot be trusted; tests leave such seeds out."""
    left_out: list[str]
    """Models whose scores are no result, and why; tests that need one leave its seed out."""
    cannot_say: list[str]
    """What the answer does not say."""


def observe(results: Path, source: Source, perturbed: Sequence[Perturbed]) -> Observed:
    """The scores of a seed, recomputed from its predictions, and the degradations of its runs on ``perturbed`` rows."""
    store, grid = RunStore(results), read_grid(results)
    check_source(grid, source)
    found = read_cells(store, source, grid)
    scores: Measured = {}
    left_out = _no_results(found)
    targets = {run.entry.folder for run in found.runs if run.entry.phase == "target"}
    for cell in found.cells:
        scored = cell.run in targets and cell.split == scored_split(source, get_task(cell.task))
        if scored and (cell.arm, cell.task) not in left_out:
            scores[cell.arm, cell.task, cell.language] = cell.score
    lost: dict[Place, list[float]] = {}
    for rows, runs in perturbed:
        for arm, spec in runs:
            for each in degradations(store, rows, [spec]):
                case = "worst" if each.perturbation.endswith(f":{SEARCH}") else "average"
                measured = each.case == case and each.changed and each.language != MEAN
                if measured and (arm, each.task) not in left_out:
                    lost.setdefault((arm, each.task, each.language), []).append(each.value)
    return Observed(
        seed=grid.seed,
        scores=scores,
        degradations={place: mean(values) for place, values in lost.items()},
        problems=tuple(
            f"seed {grid.seed}: {' '.join(filter(None, (each.run, each.where)))}: {each.what}"
            for each in found.problems
        ),
        left_out=tuple(dict.fromkeys(f"Seed {grid.seed}, left out: {why}" for why in left_out.values())),
        difficulties=_difficulties(found),
    )


def _difficulties(found: Recomputed) -> dict[str, float]:
    """By arm the share of what there is above guessing that its phase-2 model lacks, the mean over its tasks."""
    trained = {run.entry.folder for run in found.runs if run.entry.phase == "intermediate"}
    lacking: dict[str, list[float]] = {}
    for cell in found.cells:
        room = 100 - task_score(get_task(cell.task), cell.guess)
        if cell.run in trained and (cell.split, cell.language) == ("dev", ENGLISH) and room:
            lacking.setdefault(cell.arm, []).append((100 - cell.score) / room)
    return {arm: mean(values) for arm, values in lacking.items()}


def _no_results(found: Recomputed) -> dict[tuple[str, str], str]:
    """Arms and tasks whose scores are no result, and why: of a phase-2 model that collapsed, all of its arm's."""
    runs = {run.entry.folder: run.entry for run in found.runs}
    reasons = [(cell.run, {cell.task}, cell.collapse) for cell in collapsed_cells(found.cells)]
    for run in found.runs:
        if run.provenance and run.provenance.collapsed:
            why = f"{run.entry.folder}: it collapsed: it is at chance on English dev."
            reasons.append((run.entry.folder, {*run.entry.evaluate}, why))
    left_out: dict[tuple[str, str], str] = {}
    for folder, tasks, why in reasons:
        of_arm = {(cell.arm, cell.task) for cell in found.cells if cell.arm == runs[folder].arm}
        of_run = {key for key in of_arm if key[1] in tasks}
        left_out |= dict.fromkeys(of_arm if runs[folder].phase == "intermediate" else of_run, why)
    return left_out


def answer(study: Study, tier: str, source: SourceSpec, seen: Sequence[Observed]) -> StudyAnswer:
    """What the tests of a study say of these seeds."""
    form = study.form(tier)
    numbers, found = dict[str, dict[int, float]](), dict[str, _Found]()
    for name, test in form.tests.items():
        tasks = study.tasks(test, form)
        numbers[name] = _numbers(test, tasks, seen)
        if len(numbers[name]) > 1:
            found[name] = _found(test, tasks, seen, numbers[name], by_arm=form.over_tasks(test))
    # A test without seeds stays in the family: what is missing must not make the others easier.
    levels = dict(zip(form.tests, holm([found[name].p if name in found else 1.0 for name in form.tests]), strict=True))
    tests = [
        _answered(name, test, numbers[name], found.get(name), levels[name], form) for name, test in form.tests.items()
    ]
    return StudyAnswer(
        study=study.name,
        tier=tier,
        source=source.name,
        limit=int(source.settings.get("limit", 0)),
        perturbations=form.perturbations,
        question=study.question,
        hypothesis=study.hypothesis,
        decision_rule=study.decision,
        answer=_in_words(tests, len(seen)),
        tests=tests,
        arms=list(_arm_rows(form, seen)),
        difficulties=_by_arm({each.seed: difficulties_of(form, each) for each in seen}),
        seeds=[each.seed for each in seen],
        problems=[problem for each in seen for problem in each.problems],
        left_out=[why for each in seen for why in each.left_out],
        cannot_say=study.cannot_say,
    )


def beforehand(form: Form) -> Iterator[tuple[str, float | None]]:
    """By test, the smallest number that the seeds of a form show in 80 % of cases; None where no spread is known."""
    for name, test in form.tests.items():
        yield name, _smallest(test.spread, len(form.seeds), LEVEL / len(form.tests))


def write_answer(found: StudyAnswer, results: Path) -> None:
    """Write ``RESULTS/study.json``."""
    write_text(results / ANSWER, json.dumps(found.model_dump(mode="json"), indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class _Found:
    """A test's number, its 95 % interval and p, and the standard deviation between seeds where that is its scale."""

    value: float
    low: float
    high: float
    p: float
    spread: float = 0.0


def _numbers(test: Analysis, tasks: Sequence[str], seen: Sequence[Observed]) -> dict[int, float]:
    """The number of each seed that has all that the test needs."""
    found = {each.seed: number_of(test, tasks, each) for each in seen}
    return {seed: value for seed, value in found.items() if value is not None}


def _found(
    test: Analysis, tasks: Sequence[str], seen: Sequence[Observed], numbers: Mapping[int, float], *, by_arm: bool
) -> _Found:
    """The number of the test over the seeds that have one, at least two."""
    if test.statistic == "arms":
        by_seed = [each for each in (of_arms(test, tasks, each) for each in seen) if each is not None]
        x, y, given = zip(*by_seed, strict=True)
        data = np.concatenate(x), np.concatenate(y), np.concatenate(given) if test.given else None
        return _Found(within_seeds(*data), *jackknifed(*data, by_arm=by_arm), permuted_p(*data, by_arm=by_arm))
    found = estimate([*numbers.values()])
    half, spread = found.half_width(LEVEL / 2), found.error * math.sqrt(len(numbers))
    # Numbers that are all the same have no scale to be held against.
    return _Found(found.value, found.value - half, found.value + half, found.p_within(0.0) if spread else 1.0, spread)


def _answered(
    name: str, test: Analysis, numbers: Mapping[int, float], found: _Found | None, level: float, form: Form
) -> TestAnswer:
    decision: Decision = "not verifiable"
    if found:
        decision = "not told from 0" if found.p >= level else "above 0" if found.value > 0 else "below 0"
    share = LEVEL / len(form.tests)
    return TestAnswer(
        name=name,
        about=test.about,
        unit="points" if test.statistic == "difference" else "correlation",
        per_seed=dict(numbers),
        expected=test.expected,
        value=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        p=found.p if found else None,
        level=level if found else None,
        decision=decision,
        beforehand=_smallest(test.spread, len(form.seeds), share),
        smallest=_smallest(found.spread, len(numbers), share) if found else None,
    )


def _smallest(spread: float, seeds: int, level: float) -> float | None:
    return smallest_shown(spread, seeds, level=level / 2) if spread else None


def _in_words(tests: Sequence[TestAnswer], seeds: int) -> str:
    """The hypothesis by the tests that say something of it, in a sentence, and another where ``seeds`` lack what these
    need: a model that collapsed is missing because of what it was trained with, not by chance."""
    asked = [test for test in tests if test.expected]
    against = [test for test in asked if test.decision not in (test.expected, "not told from 0", "not verifiable")]
    fewest = min((len(test.per_seed) for test in against or asked), default=seeds)
    lacking = f" By {fewest} of {seeds} seeds: what the others lack may itself be an effect." * (fewest < seeds)
    if against:
        return f"Contradicted: {'; '.join(f'{test.about} is {test.decision}' for test in against)}.{lacking}"
    if any(test.decision == "not verifiable" for test in asked):
        return "Not answered: fewer than two seeds have all that a test needs."
    if all(test.decision == test.expected for test in asked):
        return f"Supported: {'; '.join(f'{test.about} is {test.decision}' for test in asked)}.{lacking}"
    open_ = [test for test in asked if test.decision != test.expected]
    return f"Open: {'; '.join(f'{test.about} is not told from 0 by these seeds' for test in open_)}.{lacking}"


def _arm_rows(form: Form, seen: Sequence[Observed]) -> Iterator[ArmRow]:
    for arm in form.arms:
        for task in sorted({task for each in seen for of, task, _ in each.scores if of == arm}):
            scores = _present(mean_of(each.scores, arm, [task]) for each in seen)
            english = _present(each.scores.get((arm, task, ENGLISH)) for each in seen)
            lost = _present(mean_of(each.degradations, arm, [task]) for each in seen)
            if scores:
                yield ArmRow(
                    arm=arm,
                    task=task,
                    score=mean(scores),
                    english=mean(english) if english else None,
                    degradation=mean(lost) if lost else None,
                )


def _by_arm(difficulties: Mapping[int, Mapping[str, float]]) -> dict[str, dict[int, float]]:
    arms = dict.fromkeys(arm for found in difficulties.values() for arm in found)
    return {arm: {seed: found[arm] for seed, found in difficulties.items() if arm in found} for arm in arms}


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
