"""What perturbed text costs a model: its score on clean rows minus that on the same rows perturbed.

Rows are resampled, each with its clean and its perturbed predictions together, by a Poisson bootstrap: every row
counts as often as a Poisson variable of mean 1 says, so that rows which add nothing to a score need not be drawn.
Languages with as many rows are resampled alike, for their rows are mostly translations of each other. The interval is
of the rows: other seeds of training would have other degradations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Literal, NamedTuple, cast

import numpy as np

from xlt.data.perturbed import PerturbedSource, predicted_rows
from xlt.data.predictions import Prediction, read_predictions
from xlt.data.rows import CandidateRow, MiningRow, Row, fingerprint, texts
from xlt.data.source import Source, needs_dev
from xlt.errors import DataFault, XltError
from xlt.evaluate.parts import Part, distinct_answers, score_parts
from xlt.frozen import Frozen
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import SPEC, RunStore, check_folder, prediction_name, read_spec
from xlt.tasks.record import Split
from xlt.verify.comparison import Matrix, mean

RESAMPLES = 1000
MEAN = "mean"
NOTHING: Part = (0.0, 0.0)
_AT_ONCE = 50  # so many resamples are in memory
INTERVAL = (2.5, 97.5)  # percentiles
Case = Literal["average", "worst"]
CASES: tuple[Case, ...] = ("average", "worst")
NoInterval = Literal["", "one answer", "no change", "all alike"]
# Rows that are all alike say nothing of rows that were not drawn: an interval from 0 to 0 would look like certainty.
NO_INTERVAL: Mapping[NoInterval, str] = {
    "one answer": "none: the model gives every row the same answer",
    "no change": "none: no row's score changed",
    "all alike": "none: all rows lost the same",
}


class Degradation(Frozen):
    """A score on clean rows minus that of the same model on the same rows perturbed."""

    run: str
    """The folder of the run on perturbed rows."""
    clean_run: str
    """The folder of the run on clean rows."""
    task: str
    """The task."""
    split: Split
    """The split of its data."""
    language: str
    """The language; ``mean`` for the mean over those in which a text changed."""
    perturbation: str
    """The kind of perturbation, its severity, and the number of draws where there are several."""
    case: Case
    """Over the draws of a row: all, or the one whose prediction is worst, which a random search finds by asking the
    model so many times. Of a guided search the one that it ended with."""
    changed: float
    """How many of the perturbed rows have another text, in percent."""
    clean: float
    """The score on clean rows, in percent."""
    perturbed: float
    """The score on perturbed rows, in percent."""
    value: float
    """The degradation, in points."""
    low: float
    """The lower end of its 95 % interval."""
    high: float
    """The upper end of its 95 % interval."""
    no_interval: NoInterval = ""
    """Why the interval has no width and says nothing: the model gives all rows, clean and perturbed, one answer; the
    perturbation changed no row's score; or it cost every row as much. Empty where rows differ."""


class _Measured(NamedTuple):
    language: str
    changed: float
    clean: float
    perturbed: float
    resampled: Matrix  # [RESAMPLES], degradations
    no_interval: NoInterval


class _Scored(NamedTuple):
    rows: Sequence[Row]
    parts: Mapping[str, Part]
    answers: AbstractSet[str]


def degradations(store: RunStore, source: Source, runs: Sequence[RunSpec]) -> list[Degradation]:
    """The degradations of runs on perturbed rows of ``source``, by task, split and language.

    None of a run whose clean rows the same model did not predict in a whole run of the store, or whose predictions do
    not fit its rows, which verification reports.
    """
    found: list[Degradation] = []
    if not isinstance(source, PerturbedSource):
        return found
    for run in runs:
        for clean in _clean_runs(store, source, run)[:1]:
            with suppress(XltError):
                found += _degradations(store, source, run, clean)
    return found


def models(found: Iterable[Degradation]) -> dict[str, str]:
    """By the folder of the clean run, what the model is called: without a hash where the name alone tells it."""
    names = {each.clean_run: each.clean_run.rpartition("/")[2] for each in found}
    times = Counter(name.rpartition("-")[0] for name in names.values())
    return {run: short if times[short := name.rpartition("-")[0]] == 1 else name for run, name in names.items()}


def _clean_runs(store: RunStore, source: PerturbedSource, run: RunSpec) -> list[RunSpec]:
    """The whole runs in which the same model was scored on the clean rows of the same cells, mere evaluations first."""
    found = []
    for path in sorted(store.root.glob(f"runs/*/*/{SPEC}")):
        with suppress(DataFault):
            spec = read_spec(path.parent)
            if (
                _model(spec) == _model(run)
                and (spec.source.name, spec.source.settings) == (source.name, source.clean.settings)
                and spec.max_lengths.items() >= run.max_lengths.items()
                and spec.data.keys() >= run.data.keys()
                and check_folder(path.parent, spec).state == "done"
            ):
                found.append(spec)
    return sorted(found, key=lambda spec: len(spec.train))


def _model(run: RunSpec) -> tuple[object, ...]:
    return (run.hash if run.train else run.parent), run.backbone, run.precision


def _degradations(store: RunStore, source: PerturbedSource, run: RunSpec, clean: RunSpec) -> Iterator[Degradation]:
    groups: dict[tuple[str, Split, Case], list[_Measured]] = {}
    for name in run.data:
        key, split, language = cast(tuple[str, Split, str], tuple(name.split("/")))
        scored = scored_rows(store, source.clean, clean, key, split, language)
        for case, measured in _measured(
            source, scored, scored_rows(store, source, run, key, split, language), language
        ):
            groups.setdefault((key, split, case), []).append(measured)
    for (key, split, case), cells in groups.items():
        changed = [cell for cell in cells if cell.changed]
        if len(changed) > 1:
            changes, before, after = (mean(each) for each in zip(*(cell[1:4] for cell in changed), strict=True))
            drawn = np.mean([cell.resampled for cell in changed], axis=0)
            reasons = {cell.no_interval for cell in changed}
            cells.append(_Measured(MEAN, changes, before, after, drawn, min(reasons)))
        for cell in cells:
            low, high = np.percentile(cell.resampled, INTERVAL)
            yield Degradation(
                run=run.folder,
                clean_run=clean.folder,
                task=key,
                split=split,
                language=cell.language,
                perturbation=str(source.perturbation),
                case=case,
                changed=cell.changed,
                clean=cell.clean,
                perturbed=cell.perturbed,
                value=cell.clean - cell.perturbed,
                low=float(low),
                high=float(high),
                no_interval=cell.no_interval,
            )


def scored_rows(store: RunStore, source: Source, run: RunSpec, key: str, split: Split, language: str) -> _Scored:
    """The rows of a cell, what each adds to its score, and what is answered.

    Raises:
        DataFault: they are not the rows that the run was scored on.
    """
    task, folder = run.task(key), store.path(run.folder)

    def scored(split: Split) -> tuple[list[Row], list[Prediction]]:
        return source.rows(task, split, language), read_predictions(folder / prediction_name(key, split, language))

    rows, predictions = scored(split)
    if fingerprint(rows) != run.data[f"{key}/{split}/{language}"]:
        raise DataFault("The gold data is not what the run was scored on.")
    rows = predicted_rows(source, task, split, language, rows, predictions)
    parts = score_parts(task, rows, predictions, language, scored("dev") if needs_dev(task, split) else None)
    return _Scored(rows, parts, distinct_answers(task, predictions))


def _measured(
    source: PerturbedSource, clean: _Scored, perturbed: _Scored, language: str
) -> Iterator[tuple[Case, _Measured]]:
    copies_of, named = source.perturbation.copies, source.perturbation.draws > 1
    changed = [
        texts(row) != texts(clean.rows[place // copies_of])
        for place, row in enumerate(perturbed.rows)
        # What is searched for the perturbed rows stays as it is.
        if not isinstance(row, CandidateRow) and not (isinstance(row, MiningRow) and row.english)
    ]
    copies: dict[str, list[Part]] = {}
    for id_, part in perturbed.parts.items():
        copies.setdefault(id_.rpartition("~")[0] if named else id_, []).append(part)
    cases = CASES[1:] if source.perturbation.search else CASES if named else CASES[:1]
    for case in cases:
        ids = dict.fromkeys((*clean.parts, *copies))
        pairs = ((clean.parts.get(id_, NOTHING), _over_draws(copies.get(id_, [NOTHING]), case)) for id_ in ids)
        sums = np.array([(*one, *other) for one, other in pairs], dtype=np.float64)
        (before, after), *drawn = two_scores(np.vstack([sums.sum(axis=0), resampled_sums(sums)]))
        lost = -np.diff(drawn)[:, 0]
        alike: NoInterval = "all alike" if lost.any() else "no change"
        if len(clean.answers | perturbed.answers) == 1:
            alike = "one answer"
        why: NoInterval = "" if np.ptp(lost) else alike
        yield case, _Measured(language, 100 * mean(changed), float(before), float(after), lost, why)


def _over_draws(parts: Sequence[Part], case: Case) -> Part:
    if case == "worst":
        return min(parts, key=lambda part: part[0] / part[1] if part[1] else 1.0)
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def resampled_sums(sums: Matrix) -> Matrix:
    """The sums ``[RESAMPLES, 4]`` of rows ``[N, 4]`` that are drawn again and again."""
    random = np.random.default_rng(0)
    counts = (random.poisson(1.0, (_AT_ONCE, len(sums))) for _ in range(RESAMPLES // _AT_ONCE))
    return np.concatenate([count @ sums for count in counts])


def two_scores(sums: Matrix) -> Matrix:
    """Clean and perturbed scores ``[K, 2]`` in percent of sums ``[K, 4]``; nothing of nothing is 0."""
    above, below = sums[:, ::2], sums[:, 1::2]
    return 100 * np.divide(above, below, out=np.zeros_like(above), where=below > 0)
