"""Verification of a results folder: recompute, compare, say; and record it as a reference run."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from xlt.data.source import Source
from xlt.errors import ExitCode, IncompleteFault, UsageFault, XltError
from xlt.evaluate.metrics import task_score
from xlt.pipeline.grid import evaluated
from xlt.pipeline.spec import Phase, SourceSpec
from xlt.pipeline.store import RunStore, State, writable, write_text
from xlt.pipeline.tiers import read_tier, tier_names
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.bands import References, Setting, read_references
from xlt.verify.cells import Cell, Mean, MeanKey, Recomputed, read_cells
from xlt.verify.log import read_log
from xlt.verify.measured import (
    Record,
    data_of,
    digest,
    hash_of_data,
    hash_of_recipes,
    means_of,
    measured_cells,
    platform_of,
    record_path,
)
from xlt.verify.stored import Frozen, GridFile, Problem, StoredRun, read_grid
from xlt.verify.verdicts import Evidence, Statement, Verdict, VerdictWord, count_verdicts, judge_mean, state


class RunState(Frozen):
    """A run of the grid and whether it is whole."""

    folder: str
    hash: str
    phase: Phase
    arm: str
    train: str | None
    evaluate: tuple[str, ...]
    parent: str | None
    state: State


class Verification(Frozen):
    """Everything that ``verify`` found.

    ``result_hash`` covers predictions, metrics and verdicts, and nothing that holds a time. ``references`` says
    in words what was compared with; ``data`` and ``recipes`` are the hashes that a reference run must share;
    ``counts`` is how many of the means got each verdict.
    """

    format: Literal[1] = 1
    tier: str
    source: SourceSpec
    seed: int
    command: str
    platform: dict[str, Any]
    references: str
    rule: str
    fingerprints: dict[str, str]
    data: str
    recipes: str
    counts: dict[VerdictWord, int]
    problems: tuple[Problem, ...]
    verdicts: tuple[Verdict, ...]
    statements: tuple[Statement, ...]
    means: tuple[Mean, ...]
    cells: tuple[Cell, ...]
    runs: tuple[RunState, ...]
    exit_code: int
    result_hash: str

    @property
    def summary(self) -> str:
        """The counts in words, failures first."""
        total = len(self.verdicts)
        return ", ".join(f"{count} of {total} {word}" for word, count in self.counts.items())


def verify(results: Path, source: Source) -> Verification:
    """Recompute and judge everything in a results folder.

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
    specs = [run.spec for run in recomputed.runs if run.spec is not None]
    platform = platform_of(recomputed.runs)
    setting = Setting(grid.seed, hash_of_data(specs), hash_of_recipes(specs), _device(platform))
    references = read_references(grid.tier, grid.source.name, setting)
    verdicts, statements = _judge(grid, source, store, recomputed, references)
    return Verification(
        tier=grid.tier,
        source=grid.source,
        seed=grid.seed,
        command=grid.command,
        platform=platform,
        references=references.about,
        rule=references.rule.reason.strip() if references.rule else "",
        fingerprints=data_of(specs),
        data=setting.data,
        recipes=setting.recipes,
        counts=count_verdicts(verdicts),
        problems=recomputed.problems,
        verdicts=tuple(verdicts),
        statements=tuple(statements),
        means=recomputed.means,
        cells=recomputed.cells,
        runs=tuple(RunState(**run.entry.model_dump(), state=run.state) for run in recomputed.runs),
        exit_code=_exit_code(recomputed.problems, recomputed.runs, verdicts),
        result_hash=_result_hash(grid, recomputed.cells, verdicts),
    )


def record(verification: Verification, artifact: Path, *, today: datetime.date | None = None) -> Path:
    """Write a verification as a reference run below ``artifact/measured`` and return the file.

    Whatever the verdicts are: a series without its outliers would make the bands too narrow.

    Raises:
        IncompleteFault: runs are missing, damaged or edited, or nothing was scored.
    """
    if verification.problems or "not run" in verification.counts or not verification.cells:
        raise IncompleteFault(
            "Only complete results without problems can be recorded as a reference run.",
            why=f"{len(verification.problems)} problems; {verification.summary}.",
            mend=verification.command,
        )
    cells = measured_cells(verification.cells)
    entry = Record(
        tier=verification.tier,
        source=verification.source.name,
        seed=verification.seed,
        date=(today or datetime.datetime.now(datetime.UTC).date()).isoformat(),
        platform={**verification.platform, "device": _device(verification.platform)},
        data=verification.data,
        recipes=verification.recipes,
        means=means_of({key: task_score(cell.metrics) for key, cell in cells.items()}),
        cells=cells,
    )
    path = record_path(entry, artifact)
    with writable(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, entry.text())
    return path


def _check_source(grid: GridFile, source: Source) -> None:
    if (source.name, source.settings) != (grid.source.name, grid.source.settings):
        raise UsageFault(
            f"The results were made from the source '{grid.source.name}' {_settings(grid.source.settings)}.",
            why=f"The source given is '{source.name}' {_settings(source.settings)}.",
            mend=grid.command.replace("reproduce", "verify").replace(f" --tier {grid.tier}", ""),
        )


def _settings(settings: dict[str, int | str]) -> str:
    return "(" + (", ".join(f"{key} {value}" for key, value in sorted(settings.items())) or "all rows") + ")"


def _device(platform: dict[str, Any]) -> str:
    device = platform.get("device", "unknown")
    return " and ".join(device) if isinstance(device, list) else str(device)


def _judge(
    grid: GridFile, source: Source, store: RunStore, recomputed: Recomputed, references: References
) -> tuple[list[Verdict], list[Statement]]:
    means = {mean.key: mean for mean in recomputed.means}
    verdicts: list[Verdict] = []
    statements: list[Statement] = []
    for key, run in _expected(grid, source, recomputed.runs):
        if run is None or key not in means:
            verdicts.append(_unjudged(key, run, recomputed.problems, grid))
            continue
        cells = [cell for cell in recomputed.cells if (cell.arm, cell.task, cell.split) == key]
        evidence = Evidence(cells, read_log(store.path(run.entry.folder)))
        verdicts.append(judge_mean(means[key], run.entry.folder, evidence, references))
        statements.append(state(key, evidence))
    return verdicts, statements


def _expected(
    grid: GridFile, source: Source, runs: Sequence[StoredRun]
) -> Iterator[tuple[MeanKey, StoredRun | None]]:
    """Every mean that the grid and the project's own tier of that name promise, with its run."""
    listed: set[tuple[str, str]] = set()
    for run in runs:
        scored = dict.fromkeys((task, split) for task, split, _ in run.cells)
        for task in run.entry.evaluate:
            listed.add((run.entry.arm, task))
            for split in [s for t, s in scored if t == task] or _splits(task, source):
                yield (run.entry.arm, task, split), run
    for arm, task in _promised(grid):
        if (arm, task) not in listed:
            for split in _splits(task, source):
                yield (arm, task, split), None


def _promised(grid: GridFile) -> Iterator[tuple[str, str]]:
    if grid.tier not in tier_names():
        return
    tier = read_tier(grid.tier)
    for arm, intermediate in tier.arms.items():
        for task in (*intermediate, *tier.targets):
            yield arm, task


def _splits(task: str, source: Source) -> list[Split]:
    try:
        return list(dict.fromkeys(split for split, _ in evaluated(get_task(task), source)))
    except XltError:
        # The data that would say is not there: the mean is named once, under the split of the paper's tables.
        return ["test"]


def _unjudged(key: MeanKey, run: StoredRun | None, problems: Sequence[Problem], grid: GridFile) -> Verdict:
    arm, task, split = key
    if run is None or run.state in ("absent", "unfinished"):
        reason = (
            f"the run is {run.state}" if run else f"grid.json lists no such run of the tier '{grid.tier}'"
        )
        return Verdict(arm=arm, task=task, split=split, verdict="not run", reason=reason, mend=grid.command)
    found = [problem for problem in problems if _explains(problem, run, task, split)]
    reason = found[0].what.rstrip(".") if found else "it could not be recomputed"
    return Verdict(
        arm=arm,
        task=task,
        split=split,
        verdict="not verifiable",
        reason=reason,
        run=run.entry.folder,
        mend=found[0].mend if found else grid.command,
    )


def _explains(problem: Problem, run: StoredRun, task: str, split: Split) -> bool:
    """Whether the problem is why a mean of the run could not be recomputed."""
    if problem.run == run.entry.folder and run.spec is None:
        return True
    return problem.run in ("", run.entry.folder) and problem.where.startswith(f"{task}.{split}.")


def _exit_code(problems: Sequence[Problem], runs: Sequence[StoredRun], verdicts: Sequence[Verdict]) -> int:
    """1 for a failed verdict or damaged or edited files, 4 for other gold, 5 for missing runs, else 0."""
    words = {verdict.verdict for verdict in verdicts}
    missing = {run.entry.folder for run in runs if run.state in ("absent", "unfinished")}
    kinds = {problem.kind for problem in problems if problem.run not in missing}
    if words & {"deviates", "collapsed"} or kinds - {"gold"}:
        return ExitCode.DEVIATES
    if kinds:
        return ExitCode.DATA
    return ExitCode.INCOMPLETE if missing or "not run" in words else ExitCode.OK


def _result_hash(grid: GridFile, cells: Sequence[Cell], verdicts: Sequence[Verdict]) -> str:
    return digest(
        {
            "tier": grid.tier,
            "source": grid.source.model_dump(),
            "seed": grid.seed,
            "cells": [
                [cell.arm, cell.task, cell.split, cell.language, cell.predictions, cell.metrics]
                for cell in cells
            ],
            "verdicts": [[each.arm, each.task, each.split, each.verdict] for each in verdicts],
        }
    )
