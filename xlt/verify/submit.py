"""A folder in the form of an XTREME or XTREME-R submission, from the stored predictions of arms of a grid."""

from __future__ import annotations

from collections.abc import Sequence
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
    benchmark: str
    """``xtreme`` or ``xtreme-r``."""
    arm: str
    """The arm whose predictions it holds; several, joined by commas."""
    output: str
    """The folder that was written."""
    written: Languages
    """The languages that were written, by task."""
    missing: Languages
    """The languages of the benchmark that no arm has predictions for, by task."""
    notes: list[str]
    """What the benchmark has beside that."""


def write_submission(
    results: Path, source: Source, arms: Sequence[str], output: Path, benchmark: str = "xtreme"
) -> Submission:
    """Write predictions for the test splits of the benchmark's tasks below ``output``, a new or empty folder: of each
    task those of the first of ``arms`` that has some.

    Raises:
        UsageFault: the grid has no such arm, there is no such benchmark, or ``output`` holds something.
        IncompleteFault: a run of the arm is missing or cannot be trusted.
        DataFault: the rows of ``source`` are not those that the runs were scored on, or a prediction is impossible.
    """
    grid, store = read_grid(results), RunStore(results)
    runs, problems = read_runs(store, grid)
    known = dict.fromkeys(entry.arm for entry in grid.runs if entry.arm)
    if unknown := [arm for arm in arms if arm not in known]:
        raise UsageFault(f"The grid has no arm '{unknown[0]}'.", fix=f"--arm, one of: {', '.join(known)}")
    if benchmark not in BENCHMARKS:
        raise UsageFault(f"There is no benchmark '{benchmark}'.", fix=f"--benchmark, one of: {', '.join(BENCHMARKS)}")
    runs = sorted((run for run in runs if run.entry.arm in arms), key=lambda run: arms.index(run.entry.arm))
    arm_of = {run.entry.folder: run.entry.arm for run in runs}
    if fault := next((each for each in problems if each.run in arm_of), None):
        what = f"The arm '{arm_of[fault.run]}' is not complete."
        raise IncompleteFault(what, why=f"{fault.run}: {fault.what}", fix=fault.fix)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageFault(f"'{output}' is not an empty folder.", fix="--output DIR, a new folder")
    check_writable(output, "--output", "the folder of the submission")
    asked = BENCHMARKS[benchmark]
    cells = [(run, key, language) for run in runs for key, split, language in run.cells if split == "test"]
    chosen = {key: run.entry.arm for run, key, _ in reversed(cells)}
    cells = [(run, key, language) for run, key, language in cells if run.entry.arm == chosen[key]]
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
    return Submission(
        benchmark=benchmark,
        arm=", ".join(arms),
        output=str(output),
        written=written,
        missing=missing,
        notes=["lareqa: no form of a submission is published for it."] if benchmark == "xtreme-r" else [],
    )


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
