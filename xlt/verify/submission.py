"""A folder in the form of an XTREME submission, from the stored predictions of one arm of a grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from xlt.data.labels import with_labels
from xlt.data.predictions import read_predictions
from xlt.data.rows import fingerprint
from xlt.data.source import Source, needs_dev
from xlt.errors import DataFault, IncompleteFault, UsageFault
from xlt.evaluate.cell import Scored, score_cell
from xlt.evaluate.submission import BENCHMARKS, FORMS
from xlt.evaluate.submission_text import submission_text
from xlt.files import writable
from xlt.frozen import Frozen
from xlt.pipeline.store import RunStore, prediction_name
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.stored import StoredRun, read_grid, read_runs


class Submission(Frozen):
    """What was written: the languages of each task, and those of XTREME that the arm has no predictions for."""

    format: Literal[1] = 1
    arm: str
    output: str
    written: dict[str, tuple[str, ...]]
    missing: dict[str, tuple[str, ...]]


def write_submission(results: Path, source: Source, arm: str, output: Path) -> Submission:
    """Write the arm's predictions for the test splits of XTREME's tasks below ``output``, a new or empty folder.

    Raises:
        UsageFault: the grid has no such arm, or ``output`` holds something.
        IncompleteFault: a run of the arm is missing or cannot be trusted.
        DataFault: the rows of ``source`` are not those that the runs were scored on, or a prediction is impossible.
    """
    grid, store = read_grid(results), RunStore(results)
    runs, problems = read_runs(store, grid)
    runs = [run for run in runs if run.entry.arm == arm]
    if not arm or not runs:
        arms = dict.fromkeys(entry.arm for entry in grid.runs if entry.arm)
        raise UsageFault(f"The grid has no arm '{arm}'.", fix=f"--arm, one of: {', '.join(arms)}")
    if fault := next((each for each in problems if each.run in {run.entry.folder for run in runs}), None):
        raise IncompleteFault(f"The arm '{arm}' is not complete.", why=f"{fault.run}: {fault.what}", fix=fault.fix)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageFault(f"'{output}' is not an empty folder.", fix="--output DIR, a new folder")
    texts = {(task, language): _text(store, run, source, task, language) for run, task, language in _cells(runs)}
    written: dict[str, tuple[str, ...]] = {}
    with writable(output):
        for (task, language), text in texts.items():
            path = output / task / FORMS[task].file_name(language)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            written[task] = (*written.get(task, ()), language)
    missing = {
        task: tuple(each for each in languages if each not in written.get(task, ()))
        for task, languages in BENCHMARKS["xtreme"].items()
    }
    missing = {task: languages for task, languages in missing.items() if languages}
    return Submission(arm=arm, output=str(output), written=written, missing=missing)


def _cells(runs: list[StoredRun]) -> Iterator[tuple[StoredRun, str, str]]:
    for run in runs:
        for task, split, language in run.cells:
            if split == "test" and task in BENCHMARKS["xtreme"]:
                yield run, task, language


def _text(store: RunStore, run: StoredRun, source: Source, key: str, language: str) -> str:
    def scored(split: Split) -> Scored:
        rows = source.rows(task, split, language)
        if run.spec is None or run.spec.data.get(f"{key}/{split}/{language}") != fingerprint(rows):
            raise DataFault(
                f"The rows of {key}.{split}.{language} are not what the run was scored on.",
                fix="Give the data that the run had: --data-root DIR",
            )
        return rows, read_predictions(store.path(run.entry.folder) / prediction_name(key, split, language))

    task = with_labels(get_task(key), source)
    rows, said = scored("test")
    dev = scored("dev") if needs_dev(task, "test") else None
    score_cell(task, rows, said, dev, language)  # refuses labels, ids and offsets that no row has
    return submission_text(task, rows, said, dev)
