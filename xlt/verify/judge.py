"""Verification of a results folder: recompute, compare, say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from xlt.data.source import Source
from xlt.errors import ExitCode, UsageFault
from xlt.frozen import Frozen
from xlt.pipeline.deviations import Deviation, deviations
from xlt.pipeline.spec import Backbone, SourceSpec
from xlt.pipeline.store import RunStore, State
from xlt.tasks.record import Split
from xlt.verify.bands import References, Setting, Shelf, read_shelf
from xlt.verify.cells import Cell, Mean, MeanKey, Recomputed, read_cells
from xlt.verify.likeness import backbone_of, tier_runs, unlike_tier
from xlt.verify.literature import Given, read_claims, read_literature
from xlt.verify.log import read_log
from xlt.verify.measured import Lineage, device_of, digest, lineages, platform_of
from xlt.verify.paper import Paper, judge_paper
from xlt.verify.promise import promised_means
from xlt.verify.stored import GridFile, GridRun, Problem, StoredRun, read_grid
from xlt.verify.verdicts import Evidence, Statement, Verdict, VerdictWord, count_verdicts, judge_mean, state

SEVERITY = (ExitCode.DEVIATES, ExitCode.DATA, ExitCode.INCOMPLETE, ExitCode.OK)


class RunState(GridRun):
    """A run of the grid, whether it is whole, and its lineage (empty where it cannot be known)."""

    state: State
    recipe: str
    data: str


class Verification(Frozen):
    """Everything that ``verify`` found.

    ``result_hash`` covers predictions, metrics and verdicts, nothing that holds a time. ``references`` says
    in words what was compared with and ``rule`` why so, ``fingerprints`` are those of all data read,
    ``counts`` is how many of the means got each verdict. ``unlike_tier`` has, by folder, the runs that are not made as
    the project's tier of that name says: what they scored is shown and not judged. ``unchecked`` says what cannot be
    checked because models are not kept. ``paper`` is None where the backbone is one made on the spot: the paper's
    claims are no part of such a tier. ``further`` are the verifications of other seeds, which ``paper`` and
    ``exit_code`` cover too.
    """

    format: Literal[1] = 1
    tier: str
    source: SourceSpec
    seed: int
    command: str
    exit_code: int
    result_hash: str
    counts: dict[VerdictWord, int]
    references: tuple[str, ...]
    rule: str
    problems: tuple[Problem, ...]
    verdicts: tuple[Verdict, ...]
    statements: tuple[Statement, ...]
    means: tuple[Mean, ...]
    cells: tuple[Cell, ...]
    runs: tuple[RunState, ...]
    collapsed: tuple[GridRun, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
    deviations: dict[str, Deviation] = Field(default_factory=dict)
    platform: dict[str, Any]
    fingerprints: dict[str, str]
    backbone: Backbone | None = None
    unlike_tier: dict[str, str] = Field(default_factory=dict)
    unchecked: str = ""
    paper: Paper | None = None
    further: tuple[Verification, ...] = ()

    @property
    def summary(self) -> str:
        """The counts in words, failures first."""
        total = len(self.verdicts)
        return ", ".join(f"{count} of {total} {word}" for word, count in self.counts.items())


def verify(results: Path, source: Source, *, again: int = 0) -> Verification:
    """Recompute and judge everything in a results folder, the paper's claims included; see ``recompute``."""
    return join([recompute(results, source, again=again)])


def recompute(results: Path, source: Source, *, again: int = 0) -> Verification:
    """Recompute everything in a results folder and judge it by what was recorded; predict ``again`` of its cells from
    the stored models.

    Problems are collected, not raised: damaged, edited and missing runs, other gold data, broken predictions.

    Raises:
        IncompleteFault: the folder holds no grid.
        DataFault: its grid file cannot be read.
        UsageFault: the results are of another source, or of the same with other settings.
    """
    grid = read_grid(results)
    _check_source(grid, source)
    store = RunStore(results)
    recomputed = read_cells(store, source, grid)
    if again:
        from xlt.verify.recheck import recheck  # loads the libraries that verifying needs no more than reading does

        found = recheck(store, source, grid, recomputed.runs, again)
        recomputed = replace(recomputed, problems=(*recomputed.problems, *found))
    wanted = tier_runs(grid, source)
    unlike = unlike_tier(grid.tier, wanted, recomputed.runs)
    recomputed = replace(recomputed, problems=(*recomputed.problems, *_passed_off(unlike, grid)))
    known = lineages(recomputed.runs)
    shelf = read_shelf(grid.tier, grid.source.name)
    promised = list(promised_means(wanted, source, recomputed.runs))
    verdicts, statements, about = _judge(grid, promised, store, recomputed, shelf, known, unlike)
    states = tuple(_state(run, known.get(run.entry.folder)) for run in recomputed.runs)
    return Verification(
        tier=grid.tier,
        source=grid.source,
        seed=grid.seed,
        command=grid.command,
        exit_code=exit_code(recomputed.problems, states, {each.verdict for each in verdicts}),
        result_hash=_result_hash(grid, recomputed.cells, verdicts),
        counts=count_verdicts(verdicts),
        references=about,
        rule=shelf.rule.reason.strip() if shelf.rule else "",
        problems=recomputed.problems,
        verdicts=tuple(verdicts),
        statements=tuple(statements),
        means=recomputed.means,
        cells=recomputed.cells,
        runs=states,
        collapsed=grid.collapsed,
        left_out=grid.left_out,
        deviations=deviations([run.spec for run in recomputed.runs if run.spec]),
        platform=platform_of(recomputed.runs),
        fingerprints=dict(sorted(item for run in recomputed.runs if run.spec for item in run.spec.data.items())),
        backbone=backbone_of(grid, recomputed.runs),
        unlike_tier=unlike,
        unchecked=_unchecked(store, recomputed.runs),
    )


def join(verifications: Sequence[Verification], given: Given | None = None) -> Verification:
    """The first of the verifications with the others in ``further``, and the paper's claims judged over all of them.

    ``given`` are values that an evaluator has read.

    Raises:
        UsageFault: they are not different seeds of one tier, source, recipe and data; or values are given for results
            of a backbone made on the spot.
    """
    first, *further = verifications
    for other in further:
        _check_sibling(first, other)
    if len({each.seed for each in verifications}) < len(verifications):
        raise UsageFault("Two of the results folders are of one seed.", fix="Give each seed once.")
    backbone, words = first.backbone, set[VerdictWord]()
    if backbone is None or not backbone.name:
        if given:
            raise UsageFault(
                f"The paper's values are not compared with the tier '{first.tier}'.", fix="xlt reproduce --tier core"
            )
        paper = None
    else:
        literature = read_literature()
        paper = judge_paper(verifications, backbone, read_claims(), literature, literature.cells(given))
        words = {each.verdict for each in paper.claims}
    code = worst_code([exit_code((), (), words), *(each.exit_code for each in verifications)])
    return first.model_copy(update={"further": tuple(further), "paper": paper, "exit_code": code})


def _check_sibling(first: Verification, other: Verification) -> None:
    ours, theirs = (
        {(run.arm, run.evaluate): (run.recipe, run.data) for run in each.runs if run.recipe} for each in (first, other)
    )
    same = (first.tier, first.source, first.backbone) == (other.tier, other.source, other.backbone)
    if not same or any(ours[key] != theirs[key] for key in ours.keys() & theirs.keys()):
        raise UsageFault(
            f"The results of seed {other.seed} are not another seed of those of seed {first.seed}.",
            why="Tier, source, backbone, recipe or data differ.",
            fix="Give folders that differ in nothing but the seed.",
        )


def _check_source(grid: GridFile, source: Source) -> None:
    if (source.name, source.settings) != (grid.source.name, grid.source.settings):
        raise UsageFault(
            f"The results were made from the source '{grid.source.name}' {_settings(grid.source.settings)}.",
            why=f"The source given is '{source.name}' {_settings(source.settings)}.",
            fix=grid.verify_command,
        )


def _settings(settings: dict[str, int | str]) -> str:
    return "(" + (", ".join(f"{key} {value}" for key, value in sorted(settings.items())) or "all rows") + ")"


def _judge(
    grid: GridFile,
    promised: Sequence[tuple[MeanKey, StoredRun | None]],
    store: RunStore,
    recomputed: Recomputed,
    shelf: Shelf,
    known: dict[str, Lineage],
    unlike: dict[str, str],
) -> tuple[list[Verdict], list[Statement], tuple[str, ...]]:
    """A verdict on every promised mean, statements on the recomputed ones, and what was compared with."""
    means = {mean.key: mean for mean in recomputed.means}
    verdicts: list[Verdict] = []
    statements: list[Statement] = []
    about: list[str] = []
    for key, run in promised:
        if run is None or key not in means:
            verdicts.append(_unjudged(key, run, recomputed.problems, grid))
            continue
        folder = run.entry.folder
        setting = Setting(grid.seed, device_of(platform_of([run])), known.get(folder))
        references = shelf.references("/".join(key), setting)
        if folder in unlike:
            references = References((), None, unlike[folder])
        cells = [cell for cell in recomputed.cells if (cell.arm, cell.task, cell.split) == key]
        evidence = Evidence(cells, read_log(store.path(folder)))
        verdicts.append(judge_mean(means[key], folder, evidence, references))
        statements.append(state(key, evidence))
        about.append(references.about)
    return verdicts, statements, tuple(dict.fromkeys(about))


def _unchecked(store: RunStore, runs: Sequence[StoredRun]) -> str:
    trained = [run.entry.folder for run in runs if run.spec and run.spec.train]
    lacking = sum(not (store.path(folder) / "model" / "config.json").is_file() for folder in trained)
    what = f"The models of {lacking} of {len(trained)} trained runs are not here: they cannot predict again (--recheck)"
    return f"{what}, and how large they were cannot be seen." if lacking else ""


def _passed_off(unlike: dict[str, str], grid: GridFile) -> Iterator[Problem]:
    """A run of another tier under this one's name is no better than one with another seed than it says."""
    for folder, how in unlike.items():
        if not how.startswith("starts from "):
            what = f"The run is {how}."
            yield Problem(kind="spec", run=folder, where="spec.json", what=what, fix=grid.command)


def _unjudged(key: MeanKey, run: StoredRun | None, problems: Sequence[Problem], grid: GridFile) -> Verdict:
    """The verdict on a mean that could not be recomputed."""
    arm, task, split = key
    if run is None or run.state in ("absent", "unfinished"):
        reason = f"the run is {run.state}" if run else f"grid.json lists no such run of the tier '{grid.tier}'"
        return Verdict(arm=arm, task=task, split=split, verdict="not run", reason=reason, fix=grid.command)
    found = [problem for problem in problems if _explains(problem, run, task, split)]
    return Verdict(
        arm=arm,
        task=task,
        split=split,
        verdict="not verifiable",
        reason=found[0].what.rstrip(".") if found else "it could not be recomputed",
        run=run.entry.folder,
        fix=found[0].fix if found else grid.command,
    )


def _explains(problem: Problem, run: StoredRun, task: str, split: Split) -> bool:
    """Whether the problem is why a mean of the run could not be recomputed."""
    if problem.run == run.entry.folder and run.spec is None:
        return True
    return problem.run in ("", run.entry.folder) and problem.where.startswith(f"{task}.{split}.")


def _state(run: StoredRun, lineage: Lineage | None) -> RunState:
    recipe, data = (lineage.recipe, lineage.data) if lineage else ("", "")
    return RunState(**run.entry.model_dump(), state=run.state, recipe=recipe, data=data)


def exit_code(
    problems: Sequence[Problem], runs: Sequence[RunState], words: Collection[VerdictWord], *, whole: bool = True
) -> int:
    """1 for a failed verdict or damaged or edited files, 4 for other gold, 5 for missing runs (unless only a part is
    asked for) or verdicts, else 0."""
    missing = {run.folder for run in runs if run.state in ("absent", "unfinished")}
    kinds = {problem.kind for problem in problems if problem.run not in missing}
    if {"deviates", "collapsed"} & {*words} or kinds - {"gold"}:
        return ExitCode.DEVIATES
    if kinds:
        return ExitCode.DATA
    return ExitCode.INCOMPLETE if (missing and whole) or "not run" in words else ExitCode.OK


def worst_code(codes: Collection[int]) -> int:
    """The exit code of several parts."""
    return next(int(code) for code in SEVERITY if code in codes)


def _result_hash(grid: GridFile, cells: Sequence[Cell], verdicts: Sequence[Verdict]) -> str:
    return digest(
        {
            "tier": grid.tier,
            "source": grid.source.model_dump(),
            "seed": grid.seed,
            "cells": [
                [cell.arm, cell.task, cell.split, cell.language, cell.predictions, cell.metrics] for cell in cells
            ],
            "verdicts": [[each.arm, each.task, each.split, each.verdict] for each in verdicts],
        }
    )
