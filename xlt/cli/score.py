"""``xlt score`` and ``xlt submit``."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xlt.cli.options import DEFAULT_RESULTS, DataRoot, Debug, Json, Results
from xlt.cli.output import emit

if TYPE_CHECKING:
    from rich.console import Console

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
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a submission folder as XTREME's own evaluator does."""
    from xlt.evaluate.submission import score_submission

    result = score_submission(predictions, labels, benchmark, seqeval)

    def render(console: Console) -> None:
        from rich.table import Table

        table = Table("task", "languages", "means over languages", "score")
        for task, scored in result.tasks.items():
            each = list(scored.languages.values())
            means = ", ".join(f"{name} {fmean(metrics[name] for metrics in each):.2f}" for name in each[0])
            table.add_row(task, str(len(each)), means, f"{scored.score:.2f}")
        console.print(table)
        for note in result.notes:
            console.print(f"Note: {note}", markup=False, soft_wrap=True)
        console.print("Total: none" if result.score is None else f"Total: {result.score:.2f}")

    emit(result, render)


def submit(
    arm: Arm,
    output: Output,
    results: Results = DEFAULT_RESULTS,
    data_root: DataRoot = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the test predictions of one arm as a folder that can be submitted to XTREME."""
    from xlt.verify.stored import source_of
    from xlt.verify.submission import write_submission

    submission = write_submission(results, source_of(results, data_root), arm, output)

    def render(console: Console) -> None:
        for task, languages in submission.written.items():
            console.print(f"{task:9} {len(languages)} files", markup=False)
        for task, languages in submission.missing.items():
            console.print(f"{task:9} no predictions: {' '.join(languages)}", markup=False, soft_wrap=True)
        console.print(f"Submission: {submission.output}", markup=False, soft_wrap=True)

    emit(submission, render)
