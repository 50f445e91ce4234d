"""``xlt verify``, and the end of ``xlt reproduce``.

xlt verify
xlt verify --results results-1 --results results-2 --claim C3
xlt verify --results results-Q2
xlt verify --results A --against B
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from xlt.cli import against, judged
from xlt.cli.lazy import lazily
from xlt.cli.options import DEFAULT_RESULTS, AgainOptions, DataRoot, Folders, one_of
from xlt.cli.output import Shown, emit, say
from xlt.errors import ExitCode, UsageFault
from xlt.numerics import request

with lazily():
    from xlt import artifact, files
    from xlt.data import source as rows
    from xlt.pipeline import store, study_folder, tiers
    from xlt.verify import (
        added,
        checks,
        claims,
        evidence,
        export,
        judge,
        report,
        selection,
        singles,
        sites,
        stored,
        study_seed,
    )
    from xlt.verify import against as comparing
    from xlt.verify import golden as golden_evidence

Golden = Annotated[
    bool | None,
    typer.Option("--golden/--no-golden", help="Compare this machine with golden evidence; else as the tier says."),
]
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
    every: Annotated[
        bool, typer.Option("--all", help="Show every mean, claim and check; else failures and a summary.")
    ] = False,
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
    other: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="DIR", help="Judge nothing: compare with these results, A minus B."),
    ] = None,
    again: AgainOptions,
    golden: Golden = None,
) -> None:
    """Recompute every number from stored predictions and gold labels, compare what the stored models say, and judge.

    Claims of the paper are judged over all seeds given. Exit code 0: something was judged and nothing fails; 1: a mean
    or a claim deviates or collapsed, or something was edited; 5: incomplete, or nothing was judged.
    """
    given_values = claims.read_given(expected) if expected else None
    folders = with_seeds(results or [DEFAULT_RESULTS])
    if other:
        judging = {"claim": claim, "table": table, "cell": cell, "expected": expected, "record": record, "with": others}
        against.refuse_judging([name for name, value in judging.items() if value])
        compared_folders(folders, with_seeds(other), data_root, every=every)
        return
    _refuse_in_time(folders, cell or (), others or (), data_root, record=record, of_paper=bool(claim or table))
    numerics = asked_numerics(folders, replay=bool(again.replay))
    given_runs = [run for path in others or () for run in added.read_added(path, data_root)]
    compared = golden_checks(numerics, golden)
    found, folders = recomputed(folders, data_root, again.again(), given_runs)
    verification = judge.join(found, given_values, compared)
    if claim or table or cell:
        verification = selection.select(verification, *(names or () for names in (claim, table, cell)))
    for each, folder in zip(found, folders, strict=True) if record else ():
        say(f"For others, with all predictions: {export.ship_one(each, folder)} (xlt verify --with FILE)")
    recorded = [export.record(each, artifact.artifact_root()) for each in found if record]
    whole = every or claim or table or cell
    show = partial(judged.everything, by_cell=bool(cell), printed=bool(table or cell)) if whole else judged.short
    emit(verification, placed(show(verification, str(verification.exit_code)), folders))
    for path in recorded:
        say(f"Recorded as artifact/{path.relative_to(artifact.artifact_root())}")
    raise typer.Exit(verification.exit_code)


def with_seeds(given: Sequence[Path]) -> list[Path]:
    """The folders with those of its seeds in the place of a study's."""
    return [seed for folder in given for seed in study_folder.kept_seeds(folder) or [folder]]


def _refuse_in_time(
    folders: Sequence[Path],
    cells: Sequence[str],
    others: Sequence[Path],
    data_root: Path | None,
    *,
    record: bool,
    of_paper: bool,
) -> None:
    """Refuse, before anything is computed, cells of tasks that are not here, claims of a tier that has none, files that
    no source reads, and to record what cannot be written."""
    _refuse_twice(folders)
    if data_root:
        grids = [grid for folder in folders for grid in singles.single_grids(folder)[1] or [stored.read_grid(folder)]]
        if {grid.source.name for grid in grids} == {"world"}:
            what = f"The results were made from the constructed world, which does not read --data-root {data_root}."
            raise UsageFault(what, fix="Leave --data-root out.")
    if of_paper:
        with_claims = {tier for each in claims.read_claims().claims for tier in each.tiers}
        of_folders = ["" if singles.single_grids(folder)[1] else stored.read_grid(folder).tier for folder in folders]
        if not with_claims & {*of_folders}:
            raise selection.without_claims(of_folders[0])
    for folder in folders if record else ():
        files.check_writable(artifact.artifact_root() / "measured", "", "the folder of recorded runs")
        files.check_writable(folder)
    if cells and not others:  # else what they have is known when they are read
        selection.check_tasks(cells, (task for folder in folders for task in singles.tasks_in(folder)))


def asked_numerics(folders: Sequence[Path], *, replay: bool) -> list[tiers.Tier]:
    """The project's tiers that the folders are of. Before torch is loaded, their numerics are asked for."""
    of_tiers = [folder for folder in folders if not singles.single_grids(folder)[1]]
    names = {stored.read_grid(folder).tier for folder in of_tiers} & {*tiers.tier_names()}
    known = [tiers.read_tier(name) for name in names]
    for tier in sorted(known, key=lambda tier: tier.numerics != "portable"):  # the first that is asked for counts
        request(tier.numerics)
    if replay:
        request(store.RunStore(folders[0]).numerics())
    return known


def compared_folders(here: Sequence[Path], there: Sequence[Path], data_root: Path | None, *, every: bool) -> None:
    """Show two sets of results beside each other; the exit code says whether either has a problem."""
    for given in (here, there):
        _refuse_twice(given)
    for folder in (*here, *there):
        singles.tasks_in(folder)  # an absent or damaged one is told before the others are read whole
    found = comparing.compare(here, there, data_root)
    emit(found, against.shown(found, here, there, every=every))
    raise typer.Exit(judge.exit_code(found.problems, (), ()))


def _refuse_twice(given: Sequence[Path]) -> None:
    if twice := [folder for folder, count in Counter(each.resolve() for each in given).items() if count > 1]:
        raise UsageFault(
            f"The results '{twice[0].name}' are given twice.",
            why="One seed would count as two.",
            fix="Name each folder once.",
        )


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
            verified = _with_perturbed(verified, folder, data_root, again)
            found.append((verified, folder))
    found = study_seed.with_studies(found, data_root)
    return [each for each, _ in found], [root for _, root in found]


def _with_perturbed(
    found: judge.Verification, folder: Path, data_root: Path | None, again: checks.Again
) -> judge.Verification:
    """What was ``found`` of a tier, with the evaluations on perturbed rows that lie in the same folder."""
    # They train nothing, and a model that is not here is no reason to refuse what was asked of the tier.
    again = replace(again, stretches=0, cells=0 if again.cells == 0 else None)
    for grid in singles.perturbed_grids(folder, stored.read_grid(folder)):
        source = stored.source_in(grid, data_root)
        found = judge.with_perturbed(found, judge.recompute(folder, source, again=again, grid=grid))
    return found


def placed(shown: Shown, folders: Sequence[Path]) -> Shown:
    """What is shown, with the results folder in the commands: the documents name none."""
    folder = folders[0] if len({*folders}) == 1 else None
    given = f" --results {shlex.quote(str(folder))}" if folder else judged.IN_RESULTS
    place = "" if folder == DEFAULT_RESULTS else given
    for each in shown:
        yield each.replace(judged.IN_RESULTS, place) if isinstance(each, str) else each


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
    shown = judged.short(verification, f"{code}; that of verify and report: 5" if made else str(code))
    emit(verification, placed(shown, [results]))
    say(f"Report: {page}")
    # Who makes results asks whether they could be made: that nothing is expected of them was said, and fails nothing.
    raise typer.Exit(code)
