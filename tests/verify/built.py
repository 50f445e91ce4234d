"""Results without training: rows of any task with known gold, predictions of a chosen quality, the files of runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xlt.data.packing import Encoded
from xlt.data.predictions import Prediction, write_predictions
from xlt.data.rows import Answer, BitextRow, ChoiceRow, PairRow, Row, SpanRow, TagRow
from xlt.data.source import Source, training_rows, with_labels
from xlt.evaluate.metrics import score
from xlt.pipeline.grid import Grid
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.pipeline.training import batch_stream
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split, Task
from xlt.train.batches import scored_steps

ANSWER = "zeta"
SPANS = ((0, 3), (8, 17), (8, 12))  # nothing, the answer and a word more (F1 2/3), the answer
# What a run says on a task: given the run, the task, the split, the language and the rows.
Predict = Callable[[RunSpec, Task, Split, str, list[Row]], list[Prediction]]


def made_row(task: Task, id_: str, number: int, text: str) -> Row:
    """A row; labels, choices and tags go round."""
    if task.kind == "pair_classification":
        return PairRow(id_, text, text, task.labels[number % len(task.labels)])
    if task.kind == "multiple_choice":
        return ChoiceRow(id_, text, tuple("abcd"), number % 4)
    if task.kind == "tagging":
        return TagRow(id_, (text,), (_tags(task)[number % 3],))
    if task.kind == "span_qa":
        context = f"one two {ANSWER} four five six seven eight nine {text}"
        return SpanRow(id_, text, context, (Answer(ANSWER, 8),))
    return BitextRow(id_, text, text)


def _tags(task: Task) -> tuple[str, ...]:
    named = {"panx": ("B-PER", "B-LOC", "B-ORG"), "udpos": ("NOUN", "VERB", "ADJ")}
    return named.get(task.key, ("N", "N/N", "NP"))


def said(task: Task, rows: Sequence[Row], qualities: Sequence[int]) -> list[Prediction]:
    """A prediction for each row: 2 is right, 1 nearly so in span QA and right elsewhere, 0 wrong."""
    return [
        Prediction(row.id, _answer(task, rows, number, quality), 0.5)
        for number, (row, quality) in enumerate(zip(rows, qualities, strict=True))
    ]


def _answer(task: Task, rows: Sequence[Row], number: int, quality: int) -> str | tuple[int, int]:
    row = rows[number]
    if isinstance(row, PairRow):
        return row.label if quality else task.labels[(task.labels.index(row.label) + 1) % len(task.labels)]
    if isinstance(row, ChoiceRow):
        return str(row.label if quality else (row.label + 1) % 4)
    if isinstance(row, TagRow):
        return row.tags[0] if quality else next(tag for tag in _tags(task) if tag != row.tags[0])
    if isinstance(row, SpanRow):
        return SPANS[quality]
    return row.id if quality else rows[number - 1].id


def write_results(
    root: Path, grid: Grid, source: Source, predict: Predict, provenance: dict[str, Any], leave_out: Sequence[str] = ()
) -> Path:
    """Write the grid and its runs, but those whose names are left out."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "grid.json").write_text(grid.text(), "utf-8")
    for spec in grid.runs:
        if spec.name not in leave_out:
            shutil.rmtree(RunStore(root).path(spec.folder), ignore_errors=True)  # of a grid that was written before
            with RunStore(root).writing(spec) as folder:
                _write_run(spec, folder, source, partial(_marked, predict))
                (folder / "provenance.json").write_text(json.dumps(provenance), "utf-8")
    return root


def _write_run(spec: RunSpec, folder: Path, source: Source, predict: Predict) -> None:
    metrics: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for key in spec.data:
        name, split, language = key.split("/")
        if name not in spec.evaluate or split == "train":
            continue
        task = with_labels(get_task(name), source)
        rows = source.rows(task, split, language)  # type: ignore[arg-type]
        made = predict(spec, task, split, language, rows)  # type: ignore[arg-type]
        write_predictions(folder / "predictions" / f"{key.replace('/', '.')}.jsonl.gz", made)
        metrics.setdefault(name, {}).setdefault(split, {})[language] = score(task, rows, made, language, (rows, made))
    (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    log = "".join(json.dumps(step) + "\n" for step in steps(spec, source))
    (folder / "log.jsonl").write_text(log, "utf-8")


def steps(spec: RunSpec, source: Source) -> Iterator[dict[str, Any]]:
    """The lines of the log of a training, as if a row gave one example whatever its length."""
    if not spec.train:
        return
    tasks = [with_labels(spec.task(key), source) for key in spec.train]
    rows = [training_rows(source, task, spec.translated) for task in tasks]
    examples = [[Encoded(row.id, np.zeros(0, np.int32)) for row in its] for its in rows]
    stream = batch_stream(spec, tasks, examples)
    recipe, count = stream.recipe, stream.steps
    watched = recipe.evaluate_every or spec.collapse_after
    scored = scored_steps(recipe, stream.examples, count, spec.collapse_after) if watched else ()
    for step in range(count):
        dev = {"dev_score": 50.0 + step} if step + 1 in scored else {}
        yield {
            "step": step + 1,
            "task": stream.task_of(step),
            "loss": 2 - step / count,
            "learning_rate": recipe.learning_rate * recipe.learning_rate_factor(step, count),
            "tokens": 100,
            "examples": stream.digest(step),
            **dev,
        }


def _marked(
    predict: Predict, spec: RunSpec, task: Task, split: Split, language: str, rows: list[Row]
) -> list[Prediction]:
    """Predictions with scores as only this model gives them: what two models say is never all the same."""
    mark = (
        int(
            hashlib.sha256(
                f"{spec.arm} {spec.train} {spec.seed if spec.train or spec.parent else 0}".encode()
            ).hexdigest()[:4],
            16,
        )
        / 2**19
    )
    return [replace(each, score=each.score + mark) for each in predict(spec, task, split, language, rows)]
