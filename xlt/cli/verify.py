"""``xlt verify``, and the end of ``xlt reproduce``.

xlt verify
xlt verify --results results-1 --results results-2 --claim C3
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlt.cli.options import DEFAULT_RESULTS, DataRoot, one_of
from xlt.cli.output import emit, say, table

if TYPE_CHECKING:
    from rich.table import Table

    from xlt.data.source import Source
    from xlt.verify.cells import Cell
    from xlt.verify.judge import Verification
    from xlt.verify.paper import Paper
    from xlt.verify.rules import CellVerdict, Part

MOST_PROBLEMS = 5
FEW_CLAIMS = 2
NO_CLAIMS = "The paper's claims are about XLM-R Large and no part of this tier: xlt reproduce --tier core"
FAILURES = ("deviates", "collapsed", "not run")
Folders = Annotated[
    list[Path] | None, typer.Option("--results", metavar="DIR", help="The results folder; one for each seed.")
]


def _claims() -> Iterator[str]:
    from xlt.verify.claims import read_claims

    return (claim.id for claim in read_claims().claims)


def _tables() -> Iterator[str]:
    from xlt.verify.claims import read_literature

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
    from xlt.verify.claims import read_given
    from xlt.verify.export import record as record_run
    from xlt.verify.judge import join, recompute
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
    for each in verification.seeds:
        if verification.further:
            yield f"Seed {each.seed}"
        yield from _seed(each)
    yield from _paper(verification.paper)


def _seed(verification: Verification) -> Iterator[str | Table]:
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
        not_run = dict.fromkeys(verdict.fix for verdict in verification.verdicts if verdict.verdict == "not run")
        yield from (f"What was not run: {fix}" for fix in not_run)
        yield from filter(None, (*verification.references, verification.unchecked))
        yield f"Verdicts: {verification.summary}.  result_hash {verification.result_hash}"


def _scores(verification: Verification) -> Table:
    """A line per task that is judged: mean over languages, English, and how many languages are above chance."""
    from xlt.evaluate.metrics import task_score
    from xlt.tasks.catalogue import get_task
    from xlt.verify.comparison import mean

    arms, rows = list(dict.fromkeys(verdict.arm for verdict in verification.verdicts)), []
    for key, split in dict.fromkeys((verdict.task, verdict.split) for verdict in verification.verdicts):
        cells = [cell for cell in verification.cells if (cell.task, cell.split) == (key, split)]
        if not cells:
            continue
        task, its = get_task(key), [[cell for cell in cells if cell.arm == arm] for arm in arms]
        gold = next(filter(None, its))
        majorities = [task_score(task, cell.majority) for cell in gold if cell.majority]
        facts = (
            len(gold),
            mean([task_score(task, cell.chance) for cell in gold]),
            mean(majorities) if majorities else None,
        )
        rows.append((f"{key} {split}", *facts, *map(_summary, its)))
    columns = ("task", "languages", "chance", "majority", *arms)
    return table(columns, rows, "Mean / English / languages above chance (99 %)")


def _summary(cells: list[Cell]) -> str | None:
    from xlt.tasks.record import ENGLISH
    from xlt.verify.comparison import mean

    if not cells:
        return None
    english = next((f"{cell.score:.1f}" for cell in cells if cell.language == ENGLISH), "–")
    return f"{mean([cell.score for cell in cells]):.1f} / {english} / {sum(cell.above_chance for cell in cells)}"


def _verdicts(verification: Verification) -> Table:
    """The verdict on every mean over languages, failures first."""
    rows = []
    for each in sorted(verification.verdicts, key=lambda each: each.verdict not in FAILURES):
        expected = f"{each.band.low:.1f} to {each.band.high:.1f}" if each.band else None
        rows.append((each.verdict, each.arm, each.task, each.split, each.value, expected, each.reason))
    return table(("verdict", "arm", "task", "split", "mean", "expected", "why"), rows, "Verdicts")


def _paper(paper: Paper | None) -> Iterator[str | Table]:
    """The claims, with their parts where few are asked for, and the printed cells, failures first; then the counts."""
    if paper is None:
        yield NO_CLAIMS
        return
    if paper.claims:
        yield _claim_verdicts(paper)
    # A table has dozens of languages: where all are well, their mean says so.
    cells = [each for each in paper.cells if each.verdict == "deviates" or not each.cell.language or not paper.claims]
    if cells := [each for each in cells if each.cell.expected is not None or not paper.claims]:
        rows = [(each.verdict, each.key, _measured(each), each.cell.expected, each.reason) for each in cells]
        yield table(("verdict", "cell", "measured", "printed", "why"), rows, "Printed cells")
    commands: dict[str, list[str]] = {}
    for claim in paper.claims:
        if claim.fix:
            commands.setdefault(claim.fix, []).append(claim.claim.id)
    yield from (f"{', '.join(ids)}: {fix}" for fix, ids in commands.items())
    yield f"The paper: {paper.summary}."


def _claim_verdicts(paper: Paper) -> Table:
    rows: list[tuple[object, ...]] = []
    for each in paper.claims:
        rows.append((each.verdict, f"{each.claim.id}  {each.claim.statement}", "", "", each.reason))
        for part in each.parts if len(paper.claims) <= FEW_CLAIMS else ():
            verdict = part.verdict if part.decides else f"({part.verdict})"
            rows.append((verdict, f"    {part.name}", _measured(part), part.expected, part.reason))
    return table(("verdict", "claim", "measured", "expected", "why"), rows, "The paper's claims")


def _measured(found: Part | CellVerdict) -> str | None:
    if found.value is None or found.low is None or found.high is None:
        return None
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"
