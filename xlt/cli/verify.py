"""``xlt verify``, and the end of ``xlt reproduce``.

xlt verify
xlt verify --results results-1 --results results-2 --claim C3
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from xlt.cli.options import DEFAULT_RESULTS, DataRoot, one_of
from xlt.cli.output import emit, say

if TYPE_CHECKING:
    from rich.table import Table

    from xlt.data.source import Source
    from xlt.tasks.record import Split
    from xlt.verify.cells import Cell
    from xlt.verify.judge import Verification

MOST_PROBLEMS = 5
FAILURES = ("deviates", "collapsed", "not run")
Folders = Annotated[
    list[Path] | None, typer.Option("--results", metavar="DIR", help="The results folder; one for each seed.")
]


def _claims() -> Iterator[str]:
    from xlt.verify.literature import read_claims

    return (claim.id for claim in read_claims().claims)


def _tables() -> Iterator[str]:
    from xlt.verify.literature import read_literature

    return (table.name for table in read_literature().tables)


Record = Annotated[
    bool,
    typer.Option("--record", help="Keep these results as a reference run, in artifact/measured of the checkout."),
]


def verify(
    results: Folders = None,
    data_root: DataRoot = None,
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", help="Judge only this claim of the paper: C3.", callback=one_of("claim", _claims)),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Judge only this printed table: main.", callback=one_of("table", _tables)),
    ] = None,
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Judge only this task or cell: xnli.sw.")] = None,
    expected: Annotated[
        Path | None, typer.Option("--expected", metavar="FILE", help="Values that you read in the paper, with source.")
    ] = None,
    record: Record = False,
    recheck: Annotated[
        int, typer.Option("--recheck", min=0, help="Predict N cells again from the stored models and compare.")
    ] = 0,
) -> None:
    """Recompute every number from stored predictions and gold labels, and judge it.

    Claims of the paper are judged over all seeds given. Exit code 0: everything consistent or not verifiable; 1:
    something deviates or was edited; 5: incomplete.
    """
    from xlt.artifact import artifact_root
    from xlt.verify.judge import join, recompute
    from xlt.verify.literature import read_given
    from xlt.verify.recording import record as record_run
    from xlt.verify.selection import Selection, select
    from xlt.verify.stored import source_of

    given = read_given(expected) if expected else None
    folders = results or [DEFAULT_RESULTS]
    found = [recompute(folder, source_of(folder, data_root), again=recheck) for folder in folders]
    verification = join(found, given)
    if claim or table or cell:
        verification = select(verification, Selection(*(tuple(names or ()) for names in (claim, table, cell))))
    emit(verification, _shown(verification))
    for each in found if record else ():
        path = record_run(each, artifact_root())
        say(f"Recorded as artifact/{path.relative_to(artifact_root())}")
    raise typer.Exit(verification.exit_code)


def verify_and_report(results: Path, source: Source) -> None:
    """Verify, write the report, print the verdicts and leave with the exit code of the verdicts."""
    from xlt.verify.judge import verify as verify_results
    from xlt.verify.report import write_report

    verification = verify_results(results, source)
    page = write_report(verification, results)
    emit(verification, _shown(verification))
    say(f"Report: {page}")
    raise typer.Exit(verification.exit_code)


def _shown(verification: Verification) -> Iterator[str | Table]:
    from xlt.cli.claims import shown_paper

    for each in (verification, *verification.further):
        if verification.further:
            yield f"Seed {each.seed}"
        yield from _shown_seed(each)
    yield from shown_paper(verification.paper)


def _shown_seed(verification: Verification) -> Iterator[str | Table]:
    by_fix: dict[str, list[str]] = {}
    for problem in verification.problems:
        by_fix.setdefault(problem.fix, []).append(f"{problem.run} {problem.where}".strip() + f": {problem.what}")
    for fix, found in by_fix.items():
        more = [f"({len(found) - MOST_PROBLEMS} more like these: --json)"] if len(found) > MOST_PROBLEMS else []
        yield from (f"PROBLEM  {line}" for line in (*found[:MOST_PROBLEMS], *more))
        yield f"         → {fix}"
    if verification.verdicts:
        yield _scores(verification)
        yield _verdicts(verification)
        for fix in dict.fromkeys(verdict.fix for verdict in verification.verdicts if verdict.verdict == "not run"):
            yield f"What was not run: {fix}"
        yield from filter(None, (*verification.references, verification.unchecked))
        yield f"Verdicts: {verification.summary}.  result_hash {verification.result_hash}"


def _scores(verification: Verification) -> Table:
    """A line per task that is judged: mean over languages, English, and how many languages are above chance."""
    from rich.table import Table

    from xlt.evaluate.metrics import task_score
    from xlt.tasks.catalogue import get_task

    table = Table("task", "languages", "chance", "majority", title="Mean / English / languages above chance (99 %)")
    arms = list(dict.fromkeys(verdict.arm for verdict in verification.verdicts))
    for arm in arms:
        table.add_column(arm, justify="right")
    groups: dict[tuple[str, Split], dict[str, list[Cell]]] = {(v.task, v.split): {} for v in verification.verdicts}
    for cell in verification.cells:
        if (cell.task, cell.split) in groups:
            groups[cell.task, cell.split].setdefault(cell.arm, []).append(cell)
    for (key, split), by_arm in groups.items():
        if not by_arm:
            continue
        task, cells = get_task(key), next(iter(by_arm.values()))
        guess = fmean(task_score(task, cell.chance) for cell in cells)
        majorities = [task_score(task, cell.majority) for cell in cells if cell.majority]
        table.add_row(
            f"{key} {split}",
            str(len(cells)),
            f"{guess:.1f}",
            f"{fmean(majorities):.1f}" if majorities else "–",
            *(_summary(by_arm.get(arm, [])) for arm in arms),
        )
    return table


def _summary(cells: list[Cell]) -> str:
    if not cells:
        return "–"
    english = next((f"{cell.score:.1f}" for cell in cells if cell.language == "en"), "–")
    above = sum(cell.above_chance for cell in cells)
    return f"{fmean(cell.score for cell in cells):.1f} / {english} / {above}"


def _verdicts(verification: Verification) -> Table:
    """The verdict on every mean over languages, failures first."""
    from rich.table import Table

    table = Table("verdict", "arm", "task", "split", "mean", "expected", "why", title="Verdicts")
    ordered = sorted(verification.verdicts, key=lambda each: each.verdict not in FAILURES)
    for verdict in ordered:
        band = verdict.band
        table.add_row(
            verdict.verdict,
            verdict.arm,
            verdict.task,
            verdict.split,
            "–" if verdict.value is None else f"{verdict.value:.1f}",
            "–" if band is None else f"{band.low:.1f} to {band.high:.1f}",
            verdict.reason,
        )
    return table
