"""Every metric, recomputed from stored predictions and gold; a number in a file is never believed."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from xlt.data.perturbed import predicted_rows
from xlt.data.predictions import Prediction, read_predictions
from xlt.data.rows import Row, fingerprint, labels_of, only_label
from xlt.data.source import Source, needs_dev
from xlt.errors import DataFault, XltError
from xlt.evaluate import metrics as measures
from xlt.evaluate.chance import binomial_bound
from xlt.evaluate.metrics import Metrics
from xlt.evaluate.parts import distinct_answers
from xlt.frozen import Frozen
from xlt.pipeline.store import METRICS, RunStore, prediction_name, read_metrics
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH, Split, Task
from xlt.verify.comparison import mean
from xlt.verify.stored import CellKey, GridFile, Problem, StoredRun, read_runs

MeanKey = tuple[str, str, Split]
MetricKey = tuple[str, str, str, str]  # task, split, language, metric


class MeanId(Frozen):
    """Which mean over languages something is about."""

    arm: str
    """The phase-2 model."""
    task: str
    """The task."""
    split: Split
    """The split of its data."""

    @property
    def key(self) -> MeanKey:
        """The same as a tuple."""
        return self.arm, self.task, self.split


class Cell(MeanId):
    """One phase-2 model on one task, split and language."""

    language: str
    """The language."""
    metrics: Metrics
    """The metrics in percent, recomputed from predictions and gold."""
    chance: Metrics
    """What a random guess scores on average; in tagging, what the most frequent tag everywhere scores."""
    majority: Metrics | None
    """What always giving the most frequent label scores; null where no label repeats."""
    examples: int
    """The number of examples."""
    n_trials: int
    """How many things can each be right or wrong: examples, words, or pairs to be found."""
    predictions: str
    """The SHA-256 of what the model said."""
    run: str
    """The folder of the run that said it."""
    only_answer: str | None = None
    """What the model says of every example, or of every word, where the labels differ: it collapsed to one class. Null
    where its answers differ too."""

    @property
    def score(self) -> float:
        """The one number of the paper's tables."""
        return measures.task_score(get_task(self.task), self.metrics)

    @property
    def guess(self) -> Metrics:
        """What a model without knowledge scores: the better of ``chance`` and ``majority``."""
        return measures.better_guess(get_task(self.task), self.chance, self.majority)

    @property
    def chance_p99(self) -> float:
        """The score that guessing exceeds with probability at most 1 % (binomial).

        It is of accuracy, for span QA of exact match, for mining of recall.
        """
        return binomial_bound(self.n_trials, measures.binomial_metric(get_task(self.task), self.guess) / 100)

    @property
    def above_chance(self) -> bool:
        """Whether the model knows more than a guess, by the binomial bound."""
        return measures.binomial_metric(get_task(self.task), self.metrics) > self.chance_p99

    @property
    def collapse(self) -> str:
        """That the model gives one answer for all examples, in words."""
        what = "words" if get_task(self.task).kind == "tagging" else "examples"
        where = f"{self.run}: {self.task}.{self.split}.{self.language}"
        return f"{where}: '{self.only_answer}' for all {what}, where the labels differ; its scores are no result."

    @property
    def standing(self) -> str:
        """Where the score lies if it is not above chance: at chance, or below what a guess scores; else empty."""
        if self.above_chance:
            return ""
        return "below chance" if self.score < measures.task_score(get_task(self.task), self.guess) else "at chance"


class Mean(MeanId):
    """The unweighted mean of the scores of all languages, English included, as in XTREME's evaluation."""

    value: float
    """The mean, in percent."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """All that could be recomputed, and everything that stood in the way."""

    runs: tuple[StoredRun, ...]
    cells: tuple[Cell, ...]
    means: tuple[Mean, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Gold:
    task: Task
    rows: list[Row]
    dev: list[Row] | None
    fingerprint: str
    chance: Metrics
    majority: Metrics | None


def read_cells(store: RunStore, source: Source, grid: GridFile) -> Recomputed:
    """Recompute every cell of every run that is whole.

    Gold is loaded once per task, split and language, compared with the fingerprint in each run's spec and
    dropped again. No problem stops the rest.
    """
    runs, problems = read_runs(store, grid)
    cells: dict[tuple[str, CellKey], Cell] = {}
    # Two parts of a tier may score different numbers of a language's rows.
    by_gold: dict[tuple[CellKey, int], list[StoredRun]] = {}
    for run in runs:
        for key in run.cells:
            by_gold.setdefault((key, _scored_rows(run)), []).append(run)
    for (key, _), scored in by_gold.items():
        gold = _gold(source, key, scored[0], grid)
        if isinstance(gold, Problem):
            problems.append(gold)
            continue
        for run in scored:
            cell = _cell(store, source, run, key, gold, grid)
            if isinstance(cell, Problem):
                problems.append(cell)
            else:
                cells[run.entry.folder, key] = cell
    ordered = [cells[run.entry.folder, key] for run in runs for key in run.cells if (run.entry.folder, key) in cells]
    for run in runs:
        problems += _disagreements(store, run, ordered, grid)
    return Recomputed(tuple(runs), tuple(ordered), tuple(_means(runs, ordered)), tuple(problems))


def _scored_rows(run: StoredRun) -> int:
    return int(run.spec.number("test_examples")) if run.spec else 0


def _gold(source: Source, key: CellKey, run: StoredRun, grid: GridFile) -> _Gold | Problem:
    task_key, split, language = key
    try:
        recipe = replace(get_task(task_key).recipe, test_examples=_scored_rows(run))
        task = replace(get_task(task_key), recipe=recipe)
        rows = source.rows(task, split, language)
        dev = source.rows(task, "dev", language) if needs_dev(task, split) else None
        if only_label(rows) is not None:
            raise DataFault(
                f"All {len(rows)} gold labels of {_name(key)} are the same: placeholders, not labels.",
                fix=f"Give the labelled files: xlt tasks show {task_key}",
            )
        guesses = measures.chance(task, rows, language), measures.majority(task, rows)
        return _Gold(task, rows, dev, fingerprint(rows), *guesses)
    except XltError as error:
        what = " ".join(str(error).split("\n")[:2])
        return Problem(kind="gold", run="", where=_name(key), what=what, fix=error.fix or grid.command)


def _cell(store: RunStore, source: Source, run: StoredRun, key: CellKey, gold: _Gold, grid: GridFile) -> Cell | Problem:
    assert run.spec is not None
    task, split, language = key
    folder = run.entry.folder
    if run.spec.data["/".join(key)] != gold.fingerprint:
        return Problem(
            kind="gold",
            run=folder,
            where=_name(key),
            what="The gold data is not what the run was scored on.",
            fix=f"Verify against the data that the run had: {grid.verify_command}",
        )
    try:
        # A small file may hold millions of lines; a few too many are told one by one.
        predictions = read_predictions(store.path(folder) / prediction_name(*key), 2 * len(gold.rows) + 1000)
        dev = None
        if gold.dev is not None:  # the metrics rest on it
            dev = gold.dev, read_predictions(store.path(folder) / prediction_name(task, "dev", language))
        rows = predicted_rows(source, gold.task, split, language, gold.rows, predictions)
        metrics = measures.score(gold.task, rows, predictions, language, dev)
    except XltError as error:
        what = " ".join(str(error).split("\n")[:2])
        return Problem(kind="predictions", run=folder, where=_name(key), what=what, fix=grid.command)
    return Cell(
        arm=run.entry.arm,
        task=task,
        split=split,
        language=language,
        metrics=metrics,
        chance=gold.chance,
        majority=gold.majority,
        examples=len(gold.rows),
        n_trials=measures.n_trials(gold.task, gold.rows),
        predictions=_digest(predictions),
        run=folder,
        only_answer=_only_answer(gold, predictions),
    )


def _only_answer(gold: _Gold, predictions: Sequence[Prediction]) -> str | None:
    """The one answer that all of several predictions give, where the labels differ."""
    if gold.task.kind in ("retrieval", "masked_lm"):
        return None  # their answers are sentences of the other side, each right at most once
    answers = distinct_answers(gold.task, predictions)
    labels = {label for row in gold.rows for label in labels_of(row)}
    if len(predictions) < 2 or len(answers) != 1 or len(labels) == 1:
        return None
    return answers.pop()


def collapsed_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Where a model gives one answer for all of English: on the dev split of a task, without it on the test split."""
    english = {(cell.run, cell.task, cell.split): cell for cell in cells if cell.language == ENGLISH}
    first = {(run, task): cell for (run, task, split), cell in english.items() if split == "test"}
    first |= {(run, task): cell for (run, task, split), cell in english.items() if split == "dev"}
    return [cell for cell in first.values() if cell.only_answer is not None]


def _digest(predictions: Sequence[Prediction]) -> str:
    # Of the predictions, not of the file: another zlib compresses the same lines to other bytes.
    digest = hashlib.sha256()
    for each in predictions:
        digest.update(json.dumps([each.id, each.prediction, each.score]).encode() + b"\n")
    return digest.hexdigest()


def _disagreements(store: RunStore, run: StoredRun, cells: Sequence[Cell], grid: GridFile) -> Iterator[Problem]:
    """Numbers of a run's ``metrics.json`` that are not the recomputed ones, or that it cannot be read."""
    if run.spec is None:
        return
    try:
        metrics = read_metrics(store.path(run.entry.folder))
    except DataFault as fault:
        what = f"{fault.what} {fault.why}"
        yield Problem(kind="disagreement", run=run.entry.folder, where=METRICS, what=what, fix=grid.command)
        return
    stored: dict[MetricKey, float] = {
        (task, split, language, metric): value
        for task, splits in metrics.items()
        for split, languages in splits.items()
        for language, values in languages.items()
        for metric, value in values.items()
    }
    recomputed: dict[MetricKey, float] = {
        (cell.task, cell.split, cell.language, metric): value
        for cell in cells
        if cell.run == run.entry.folder
        for metric, value in cell.metrics.items()
    }
    unreadable = {*run.cells} - {key[:3] for key in recomputed}
    for key in sorted({*stored, *recomputed}):
        if key[:3] in unreadable or _same(stored.get(key), recomputed.get(key)):
            continue
        what = f"metrics.json says {stored.get(key)}; from the predictions it is {recomputed.get(key)}."
        # Another language or split of the task, to the split first, that has the number which is stored here.
        others = [each for each in recomputed if each != key and (each[0], each[3]) == (key[0], key[3])]
        others = [each for each in others if _same(stored.get(key), recomputed[each])]
        if others:
            nearest = min(others, key=lambda other: other[1] != key[1])
            what += f" That is what {'.'.join(nearest[:3])} has: files were swapped or copied."
        yield Problem(kind="disagreement", run=run.entry.folder, where=".".join(key), what=what, fix=grid.command)


def _same(stored: float | None, recomputed: float | None) -> bool:
    return stored is not None and recomputed is not None and math.isclose(stored, recomputed, abs_tol=1e-9)


def copied_predictions(grid: GridFile, recomputed: Recomputed) -> Iterator[Problem]:
    """Problems for runs that say on a task and split, scores included, what another model says."""
    models = {run.entry.folder: run.entry.hash if run.entry.train else run.entry.parent for run in recomputed.runs}
    said: dict[tuple[str, Split, str], list[str]] = {}
    for cell in recomputed.cells:
        said.setdefault((cell.task, cell.split, cell.run), []).append(f"{cell.language} {cell.predictions}")
    first: dict[tuple[str, Split, str], str] = {}
    for (task, split, run), predictions in said.items():
        other = first.setdefault((task, split, "\n".join(sorted(predictions))), run)
        # Where every prediction is right and sure, two models may well agree.
        if models[other] != models[run] and not all(cell.score == 100 for cell in recomputed.cells if cell.run == run):
            what = f"Its predictions are those of {other}, which is another model: they were copied."
            yield Problem(kind="predictions", run=run, where=f"{task}.{split}", what=what, fix=grid.command)


def _means(runs: Iterable[StoredRun], cells: Sequence[Cell]) -> Iterator[Mean]:
    """The mean of each task and split, if all its languages could be recomputed."""
    scores: dict[tuple[str, str, Split], list[float]] = {}
    for cell in cells:
        scores.setdefault((cell.run, cell.task, cell.split), []).append(cell.score)
    for run in runs:
        for (task, split), languages in Counter((task, split) for task, split, _ in run.cells).items():
            found = scores.get((run.entry.folder, task, split), [])
            if len(found) == languages:
                yield Mean(arm=run.entry.arm, task=task, split=split, value=mean(found))


def _name(key: CellKey) -> str:
    return ".".join(key)


def same_predictions(
    here: Sequence[Cell], there: Sequence[Cell], trained: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The pairs of ``trained`` runs, of two results folders, that predict the same in every cell of theirs."""
    others = {(*cell.key, cell.language): cell for cell in there}
    pairs: dict[tuple[str, str], list[tuple[Cell, Cell]]] = {}
    for cell in here:
        twin = others.get((*cell.key, cell.language))
        if twin and {cell.run, twin.run} <= {*trained}:
            pairs.setdefault((cell.run, twin.run), []).append((cell, twin))
    for runs, cells in pairs.items():
        # Where every prediction is right, or all are one answer, two seeds may well agree.
        telling = any(a.score < 100 and a.only_answer is None for a, _ in cells)
        if telling and all(a.predictions == b.predictions for a, b in cells):
            yield runs
