"""``xlt verify``, and the end of ``xlt reproduce``.

xlt verify
xlt verify --results results-1 --results results-2 --claim C3
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from xlt.cli.evaluate import degradation_table
from xlt.cli.lazy import lazily
from xlt.cli.options import DEFAULT_RESULTS, AgainOptions, DataRoot, Folders, one_of
from xlt.cli.output import Shown, emit, say
from xlt.cli.output import table as table_of
from xlt.errors import ExitCode
from xlt.numerics import request
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH

with lazily():
    from rich import table as rich_table

    from xlt import artifact, files
    from xlt.data import source as rows
    from xlt.evaluate import metrics
    from xlt.pipeline import store, tiers
    from xlt.verify import (
        added,
        cells,
        checks,
        claims,
        comparison,
        evidence,
        export,
        judge,
        looks,
        paper,
        report,
        selection,
        singles,
        sites,
        stored,
        tables,
    )
    from xlt.verify import golden as golden_evidence

MOST_PROBLEMS = 5
FEW_CLAIMS = 2
Golden = Annotated[
    bool | None,
    typer.Option("--golden/--no-golden", help="Compare this machine with golden evidence; else as the tier says."),
]
FAILURES = ("deviates", "collapsed", "not run")
NO_CLAIMS = "The paper's claims are about XLM-R Large and no part of this tier: xlt reproduce --tier core"
SINGLE = "Nothing is expected of single runs: their scores stand beside those of a guess, and decide no exit code."
IN_RESULTS = " --results DIR"
_known_claim = one_of("claim", lambda: (claim.id for claim in claims.read_claims().claims))
_known_table = one_of("table", lambda: (table.name for table in claims.read_literature().tables))


def verify(
    *,
    results: Folders = None,
    data_root: DataRoot = None,
    claim: Annotated[list[str] | None, "Judge only this claim of the paper or anchor: C3, A1.", _known_claim] = None,
    table: Annotated[list[str] | None, "Judge only this printed table: main.", _known_table] = None,
    cell: Annotated[
        list[str] | None,
        "Show the score of this task or cell, xnli.sw, and the verdict on the mean that it is part of.",
    ] = None,
    expected: Annotated[
        Path | None, typer.Option("--expected", metavar="FILE", help="Values that you read in the paper, with source.")
    ] = None,
    record: Annotated[
        bool, "Keep these results as a reference run in artifact/measured, and as an archive that others can add."
    ] = False,
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="FILE", help="Add a reference run of others: what their --record wrote."),
    ] = None,
    again: AgainOptions,
    golden: Golden = None,
) -> None:
    """Recompute every number from stored predictions and gold labels, compare what the stored models say, and judge.

    Claims of the paper are judged over all seeds given. Exit code 0: something was judged and nothing
    fails; 1: a mean or a claim deviates or collapsed, or something was edited; 5: incomplete, or nothing
    was judged. A printed cell counts where --table or --cell asks for it: a claim has those that it rests on.
    """
    given = claims.read_given(expected) if expected else None
    folders = results or [DEFAULT_RESULTS]
    for folder in folders if record else ():
        files.check_writable(artifact.artifact_root() / "measured", "", "the folder of recorded runs")
        files.check_writable(folder)
    of_tiers = [folder for folder in folders if not singles.single_grids(folder)[1]]
    names = {stored.read_grid(folder).tier for folder in of_tiers} & {*tiers.tier_names()}
    known = [tiers.read_tier(name) for name in names]
    for tier in sorted(known, key=lambda tier: tier.numerics != "portable"):  # the first that is asked for counts
        request(tier.numerics)  # before torch is loaded
    if again.replay:
        request(store.RunStore(folders[0]).numerics())
    compared = golden_checks(known, golden)
    runs = [run for path in others or () for run in added.read_added(path, data_root)]
    found, folders = recomputed(folders, data_root, again.again(), runs)
    verification = judge.join(found, given, compared)
    if claim or table or cell:
        verification = selection.select(verification, *(names or () for names in (claim, table, cell)))
    for each, folder in zip(found, folders, strict=True):
        if record:
            say(f"For others, with all predictions: {export.ship_one(each, folder)} (xlt verify --with FILE)")
    recorded = [export.record(each, artifact.artifact_root()) for each in found if record]
    shown = _shown(verification, str(verification.exit_code), by_cell=bool(cell))
    emit(verification, placed(shown, folders))
    for path in recorded:
        say(f"Recorded as artifact/{path.relative_to(artifact.artifact_root())}")
    raise typer.Exit(verification.exit_code)


def recomputed(
    folders: Sequence[Path],
    data_root: Path | None,
    again: checks.Again,
    runs: Sequence[sites.AddedRun] = (),
) -> tuple[list[judge.Verification], list[Path]]:
    """The verifications of all folders beside ``runs`` of others, and the folder of each; of each is made ``again``
    what that says.

    Single runs give one for each source and seed.
    """
    if again.cells != 0:
        say("Where models are stored, they predict again; --recheck 0 leaves that out.")
    found: list[tuple[judge.Verification, Path]] = []
    for folder in folders:
        root, grids = singles.single_grids(folder)
        for grid in grids:
            source = stored.source_in(grid, data_root)
            found.append((judge.recompute(root, source, again=again, grid=grid), root))
        if not grids:
            source = stored.source_of(folder, data_root)
            verified = judge.recompute(folder, source, again=again, added=runs)
            found.append((_with_perturbed(verified, folder, data_root, again), folder))
    return [each for each, _ in found], [root for _, root in found]


def _with_perturbed(
    found: judge.Verification, folder: Path, data_root: Path | None, again: checks.Again
) -> judge.Verification:
    """What was ``found`` of a tier, with the evaluations on perturbed rows that lie in the same folder."""
    for grid in singles.perturbed_grids(folder, stored.read_grid(folder)):
        source, again = stored.source_in(grid, data_root), replace(again, stretches=0)
        found = judge.with_perturbed(found, judge.recompute(folder, source, again=again, grid=grid))
    return found


def placed(shown: Shown, folders: Sequence[Path]) -> Shown:
    """What is shown, with the results folder in the commands: the documents name none."""
    folder = folders[0] if len({*folders}) == 1 else None
    place = "" if folder == DEFAULT_RESULTS else f" --results {shlex.quote(str(folder))}" if folder else IN_RESULTS
    for each in shown:
        yield each.replace(IN_RESULTS, place) if isinstance(each, str) else each


def golden_checks(known: Collection[tiers.Tier], asked: bool | None) -> list[evidence.GoldenCheck]:
    """What golden evidence says of this machine, where it was asked for or one of the tiers asks for it."""
    if not (any(tier.golden for tier in known) if asked is None else asked):
        return []
    say("Computing the golden evidence on this machine, about 20 seconds ...")
    return golden_evidence.check_golden()


def verify_and_report(
    results: Path, source: rows.Source, data_root: Path | None, golden: Sequence[evidence.GoldenCheck] = ()
) -> None:
    """Verify, write the report, print the verdicts and leave with the exit code of the verdicts: 0 too where nothing is
    expected of the tier, for which ``xlt verify`` has 5."""
    again = checks.Again(None)
    found = _with_perturbed(judge.recompute(results, source, again=again), results, data_root, again)
    verification = judge.join([found], golden=golden)
    page = report.write_report(verification, results)
    made = verification.nothing_judged and verification.exit_code == ExitCode.INCOMPLETE
    code = 0 if made else verification.exit_code
    shown = _shown(verification, f"{code}; that of verify and report: 5" if made else str(code))
    emit(verification, placed(shown, [results]))
    say(f"Report: {page}")
    # Who makes results asks whether they could be made: that nothing is expected of them was said, and fails nothing.
    raise typer.Exit(code)


def _shown(verification: judge.Verification, code: str, *, by_cell: bool = False) -> Shown:
    for check in verification.golden:
        if not check.holds:
            yield f"GOLDEN   {check.name}: {check.what}"
    for each in verification.seeds:
        if verification.further:
            yield f"Seed {each.seed}"
        yield from _seed(each, by_cell=by_cell)
    yield from _paper(verification.paper)
    yield from _original(verification) if verification.paper else ()
    if verification.golden:
        yield evidence.summary(verification.golden)
    if verification.paper is None:
        yield NO_CLAIMS if verification.tier else SINGLE
    if verification.nothing_judged:
        yield f"Nothing was judged (exit code {code}): {verification.nothing_judged}."


def _original(verification: judge.Verification) -> Shown:
    yield from [f"{verification.original.summary}."] if verification.original else []


def _seed(verification: judge.Verification, *, by_cell: bool) -> Shown:
    by_fix: dict[str, list[str]] = {}
    for problem in verification.problems:
        by_fix.setdefault(problem.fix, []).append(f"{problem.run} {problem.where}".strip() + f": {problem.what}")
    for fix, found in by_fix.items():
        more = [f"({len(found) - MOST_PROBLEMS} more like these: --json)"] if len(found) > MOST_PROBLEMS else []
        yield from (f"PROBLEM  {line}" for line in (*found[:MOST_PROBLEMS], *more))
        yield f"         → {fix}"
    for each in cells.collapsed_cells(verification.cells):
        yield f"COLLAPSED  {each.collapse}"
    if verification.verdicts:
        yield _scores(verification, by_cell=by_cell)
        title = "Verdicts on the means over all languages, of which these cells are part" if by_cell else "Verdicts"
        columns = ("verdict", "arm", "task", "split", "mean", "expected", "why")
        yield table_of(columns, _verdicts(verification, by_cell=by_cell), title)
        not_run = dict.fromkeys(verdict.fix for verdict in verification.verdicts if verdict.verdict == "not run")
        yield from (f"What was not run: {fix}" for fix in not_run)
        if verification.overall and verification.overall.verdict != "exact":
            yield f"All means together: {verification.overall.verdict}: {verification.overall.reason}."
        yield from verification.references
        yield from _references(verification)
        yield from _original(verification) if verification.paper is None else ()
        yield f"Verdicts: {verification.summary}.  result_hash {verification.result_hash}"
    if verification.robustness:
        yield degradation_table(verification.robustness)
    if verification.checks:
        yield from (f"Checked: {each}." for each in verification.checks.checked)
        yield from (f"Not checked: {each}." for each in verification.checks.not_checked)


def _references(verification: judge.Verification) -> Shown:
    """Where the reference runs are from, and what was added to them."""
    if verification.not_exact:
        yield verification.not_exact
    if verification.origins:
        yield f"The reference runs differ from this run: {'; '.join(map(str, verification.origins))}."
    for each in verification.added:
        counted = f"not counted: {each.why}" if each.why else "counted"
        yield f"Added: {each.file}, seed {each.seed}, {each.site}, {each.evidence}, {counted}. SHA-256 {each.sha256}"
    yield from (f"{site.summary}." for site in verification.sites)


def _scores(verification: judge.Verification, *, by_cell: bool) -> rich_table.Table:
    """The scores of the cells that were asked for, each by itself, or those of all tasks in short."""
    if by_cell:
        shown = ("arm", "task", "split", "language", "score", "guess", "above chance", "examples")
        return table_of(shown, map(_cell, verification.cells), "Scores; guess: the better of chance and majority")
    arms = tables.arms(verification)
    columns = ("task", "languages", "chance", "majority", *arms)
    return table_of(columns, _means(verification, arms), "Mean / English / languages above chance (99 %)")


def _cell(cell: cells.Cell) -> tuple[object, ...]:
    guess = metrics.task_score(get_task(cell.task), cell.guess)
    place = (cell.arm, cell.task, cell.split, cell.language)
    return *place, cell.score, guess, "yes" if cell.above_chance else "no", cell.examples


def _means(verification: judge.Verification, arms: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """A row per task that is judged: mean over languages, English, and how many languages are above chance."""
    for table in tables.language_tables(verification):
        task, gold = get_task(table.task), [table.gold(code) for code in table.languages]
        chance = comparison.mean([metrics.task_score(task, cell.chance) for cell in gold])
        majorities = [metrics.task_score(task, cell.majority) for cell in gold if cell.majority]
        majority = comparison.mean(majorities) if majorities else None
        by_arm = ([cell for cell in table.cells.values() if cell.arm == arm] for arm in arms)
        yield f"{table.task} {table.split}", len(gold), chance, majority, *map(_summary, by_arm)


def _summary(found: list[cells.Cell]) -> str | None:
    if not found:
        return None
    english = next((f"{cell.score:.1f}" for cell in found if cell.language == ENGLISH), "–")
    above = sum(cell.above_chance for cell in found)
    return f"{comparison.mean([cell.score for cell in found]):.1f} / {english} / {above}"


def _verdicts(verification: judge.Verification, *, by_cell: bool) -> Iterator[tuple[object, ...]]:
    """A row per mean over languages that counts, failures first; those that are exact for the same reason in one row,
    unless cells were asked for, and those that do not count in another."""
    exact = Counter(each.reason for each in verification.verdicts if each.verdict == "exact" and not by_cell)
    for each in sorted(verification.verdicts, key=lambda verdict: verdict.verdict not in FAILURES):
        if each.diagnostic or (each.verdict == "exact" and not by_cell):
            continue
        expected = each.band and f"{each.band.low:.1f} to {each.band.high:.1f}"
        yield each.verdict, *each.key, each.value, expected, each.reason
    for reason, count in exact.items():
        yield "exact", f"{count} means", "", "", None, None, f"{reason} (their values are in the table above)"
    for reason, shown in tables.diagnostics(verification).items():
        yield "–", f"{len(shown)} more", "", "", None, None, f"{reason} (their values are in the table above)"


def _paper(found: paper.Paper | None) -> Shown:
    """The claims, with their parts where few are asked for, and the printed cells, failures first; then the counts."""
    if found is None:
        return
    # Parts of a tier that were not run: few of them were asked for by name.
    absent = [each for each in found.claims if each.optional and each.verdict == "not run"]
    if shown := [each for each in found.claims if each not in absent or len(found.claims) <= FEW_CLAIMS]:
        columns = ("verdict", "claim", "measured", "expected", "why")
        title = "Published anchors" if found.of_anchors else "The paper's claims, and published anchors"
        yield table_of(columns, _claims(shown), title)
        yield from (f"{each.claim.id}: {each.beside}." for each in shown if each.beside)
    # A table has dozens of languages: where all are well, their mean says so.
    printed = [each for each in found.cells if each.verdict == "deviates" or not each.cell.language or not found.claims]
    if printed := [each for each in printed if each.cell.expected is not None or not found.claims]:
        columns = ("verdict", "cell", "measured", "printed", "why")
        cited = ((each.verdict, each.key, _measured(each), each.cell.expected, each.reason) for each in printed)
        yield table_of(columns, cited, "Printed cells")
    for fix in dict.fromkeys(each.fix for each in shown if each.fix):
        yield f"{', '.join(each.claim.id for each in shown if each.fix == fix)}: {fix}"
    if rest := [each for each in absent if each not in shown]:
        names = ", ".join(sorted(each.claim.id for each in rest))
        yield f"Not run, each a part of the tier by itself: {names}. For example: {rest[0].fix}"
    yield f"{'Published anchors' if found.of_anchors else 'The paper'}: {found.summary}."


def _claims(found: Sequence[paper.ClaimVerdict]) -> Iterator[tuple[object, ...]]:
    for each in found:
        yield each.verdict, f"{each.claim.id}  {each.claim.statement}", "", "", each.reason
        for part in each.parts if len(found) <= FEW_CLAIMS else ():
            verdict = part.verdict if part.decides else f"({part.verdict})"
            yield verdict, f"    {part.name}", _measured(part), part.expected, part.reason


def _measured(found: looks.Part | looks.CellVerdict) -> str | None:
    if found.value is None or found.low is None or found.high is None:
        return None
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"
