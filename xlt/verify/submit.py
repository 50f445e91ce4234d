"""A folder in the form of an XTREME submission, from the stored predictions of one arm of a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from xlt.data.predictions import read_predictions
from xlt.data.rows import fingerprint
from xlt.data.source import Source, needs_dev, with_labels
from xlt.errors import DataFault, IncompleteFault, UsageFault
from xlt.evaluate.metrics import Scored
from xlt.evaluate.submission import BENCHMARKS, file_name, submission_text
from xlt.files import check_writable, writable
from xlt.frozen import Frozen
from xlt.pipeline.store import RunStore, prediction_name
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.stored import StoredRun, read_grid, read_runs

Languages = dict[str, tuple[str, ...]]


class Submission(Frozen):
    """What was written of a submission."""

    format: Literal[1] = 1
    """The version of this form."""
    arm: str
    """The arm whose predictions it holds."""
    output: str
    """The folder that was written."""
    written: Languages
    """The languages that were written, by task."""
    missing: Languages
    """The languages of XTREME that the arm has no predictions for, by task."""


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
    check_writable(output, "--output", "the folder of the submission")
    asked = BENCHMARKS["xtreme"]
    cells = [(run, key, language) for run in runs for key, split, language in run.cells if split == "test"]
    # All of it before anything is written: a fault leaves no half of a submission behind.
    texts = {(key, language): _text(store, run, source, key, language) for run, key, language in cells if key in asked}
    written: Languages = {}
    with writable(output, "--output", "the folder of the submission"):
        for (key, language), text in texts.items():
            path = output / key / file_name(key, language)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            written[key] = (*written.get(key, ()), language)
    missing = {key: tuple(each for each in asked[key] if each not in written.get(key, ())) for key in asked}
    missing = {key: languages for key, languages in missing.items() if languages}
    return Submission(arm=arm, output=str(output), written=written, missing=missing)


def _text(store: RunStore, run: StoredRun, source: Source, key: str, language: str) -> str:
    def scored(split: Split) -> Scored:
        rows = source.rows(task, split, language)
        if run.spec is None or run.spec.data.get(f"{key}/{split}/{language}") != fingerprint(rows):
            raise DataFault(
                f"The rows of {key}.{split}.{language} are not what the run was scored on.",
                fix="Give the data that the run had: --data-root DIR",
            )
        return rows, read_predictions(store.path(run.entry.folder) / prediction_name(key, split, language))

    task = with_labels(run.spec.task(key) if run.spec else get_task(key), source)
    return submission_text(task, *scored("test"), scored("dev") if needs_dev(task, "test") else None)
