"""``xlt score`` and ``xlt submit``.

xlt score --predictions DIR --labels DIR
xlt score --predictions DIR --labels DIR --benchmark xtreme-r --json
xlt submit --arm baseline --output DIR
xlt submit --benchmark xtreme-r --arm baseline --arm siqa --arm squad --output DIR
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

from xlt.cli.lazy import lazily
from xlt.cli.options import DEFAULT_RESULTS, DataRoot, Results
from xlt.cli.output import Shown, emit, table

with lazily():
    from xlt.evaluate import submission as scoring
    from xlt.verify import stored
    from xlt.verify import submit as writing


def score(
    predictions: Annotated[Path, "The submission: TASK/test-LANGUAGE.tsv, .json or .jsonl."],
    labels: Annotated[Path, "The gold labels in the same form."],
    benchmark: Annotated[str, "Whose tasks and languages: xtreme or xtreme-r."] = "xtreme",
    seqeval: Annotated[
        Literal["0.0.12", "1.2.2"], "Count runs of tags by the rule of seqeval 0.0.12, as the paper's code, or 1.2.2."
    ] = "0.0.12",
) -> None:
    """Score a submission folder as XTREME's own evaluator does."""
    result = scoring.score_submission(predictions, labels, benchmark, seqeval)
    emit(result, _scored(result))


def _scored(result: scoring.SubmissionScore) -> Shown:
    yield table(("task", "languages", "means over languages", "score"), _rows(result))
    yield from (f"Note: {note}" for note in result.notes)
    yield "Total: none" if result.score is None else f"Total: {result.score:.2f}"


def _rows(result: scoring.SubmissionScore) -> Iterator[tuple[object, ...]]:
    for task, scored in result.tasks.items():
        each = list(scored.languages.values())
        means = ", ".join(f"{name} {fmean(metrics[name] for metrics in each):.2f}" for name in each[0])
        yield task, len(each), means, f"{scored.score:.2f}"


def submit(
    arm: Annotated[
        list[str], "The arm of the grid whose predictions are submitted. Repeat it: of each task the first that has it."
    ],
    output: Annotated[Path, "The folder to write, new or empty."],
    results: Results = DEFAULT_RESULTS,
    data_root: DataRoot = None,
    benchmark: Annotated[str, "Whose tasks and languages: xtreme or xtreme-r."] = "xtreme",
) -> None:
    """Write the test predictions of one arm, or of several, as a folder that can be submitted to XTREME."""
    submission = writing.write_submission(results, stored.source_of(results, data_root), arm, output, benchmark)
    emit(submission, _written(submission))


def _written(submission: writing.Submission) -> Shown:
    for task, languages in submission.written.items():
        yield f"{task:9} {len(languages)} files"
    for task, languages in submission.missing.items():
        whole = "" if task in submission.written else " (the whole task)"
        yield f"{task:9} no predictions: {' '.join(languages)}{whole}"
    if broken := [task for task in submission.missing if task in submission.written]:
        yield f"Note: such a folder is not scored until every task in it has all its languages: {', '.join(broken)}."
    yield from (f"Note: {note}" for note in submission.notes)
    yield f"Submission: {submission.output}"
