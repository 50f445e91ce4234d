"""``xlt score`` and ``xlt submit``.

xlt score --predictions DIR --labels DIR
xlt score --predictions DIR --labels DIR --benchmark xtreme-r --json
xlt submit --arm baseline --output DIR
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xlt.cli.options import DEFAULT_RESULTS, DataRoot, Results
from xlt.cli.output import emit, table

if TYPE_CHECKING:
    from rich.table import Table

    from xlt.evaluate.submission import SubmissionScore
    from xlt.verify.submission import Submission

Predictions = Annotated[
    Path, typer.Option("--predictions", metavar="DIR", help="The submission: TASK/test-LANGUAGE.tsv, .json or .jsonl.")
]
Labels = Annotated[Path, typer.Option("--labels", metavar="DIR", help="The gold labels in the same form.")]
Arm = Annotated[str, typer.Option("--arm", help="The arm of the grid whose predictions are submitted.")]
Output = Annotated[Path, typer.Option("--output", metavar="DIR", help="The folder to write, new or empty.")]
Benchmark = Annotated[str, typer.Option("--benchmark", help="Whose tasks and languages: xtreme or xtreme-r.")]

Seqeval = Annotated[
    Literal["0.0.12", "1.2.2"],
    typer.Option(
        "--seqeval", help="Whose rule counts runs of tags: that of seqeval 0.0.12, as the paper's code, or 1.2.2."
    ),
]


def score(
    predictions: Predictions,
    labels: Labels,
    benchmark: Benchmark = "xtreme",
    seqeval: Seqeval = "0.0.12",
) -> None:
    """Score a submission folder as XTREME's own evaluator does."""
    from xlt.evaluate.submission import score_submission

    result = score_submission(predictions, labels, benchmark, seqeval)

    emit(result, _scored(result))


def _scored(result: SubmissionScore) -> Iterator[str | Table]:
    rows = []
    for task, scored in result.tasks.items():
        each = list(scored.languages.values())
        means = ", ".join(f"{name} {fmean(metrics[name] for metrics in each):.2f}" for name in each[0])
        rows.append((task, len(each), means, f"{scored.score:.2f}"))
    yield table(("task", "languages", "means over languages", "score"), rows)
    yield from (f"Note: {note}" for note in result.notes)
    yield "Total: none" if result.score is None else f"Total: {result.score:.2f}"


def submit(
    arm: Arm,
    output: Output,
    results: Results = DEFAULT_RESULTS,
    data_root: DataRoot = None,
) -> None:
    """Write the test predictions of one arm as a folder that can be submitted to XTREME."""
    from xlt.verify.stored import source_of
    from xlt.verify.submission import write_submission

    submission = write_submission(results, source_of(results, data_root), arm, output)

    emit(submission, _written(submission))


def _written(submission: Submission) -> Iterator[str]:
    for task, languages in submission.written.items():
        yield f"{task:9} {len(languages)} files"
    for task, languages in submission.missing.items():
        yield f"{task:9} no predictions: {' '.join(languages)}"
    yield f"Submission: {submission.output}"
