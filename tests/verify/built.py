"""Results without training: rows of any task with known gold, predictions of a chosen quality, the files of runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xlt.data.predictions import Prediction, write_predictions
from xlt.data.rows import Answer, BitextRow, ChoiceRow, PairRow, Row, SpanRow, TagRow
from xlt.data.source import Source, with_labels
from xlt.evaluate.metrics import score
from xlt.pipeline.grid import Grid
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split, Task

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
            with RunStore(root).writing(spec) as folder:
                _write_run(spec, folder, source, predict)
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
    steps = [
        {
            "step": n + 1,
            "task": spec.train[0],
            "loss": 2 - n / 40,
            "learning_rate": 1e-3,
            "tokens": 100,
            "examples": "aa",
        }
        for n in range(40 if spec.train else 0)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps), "utf-8")
