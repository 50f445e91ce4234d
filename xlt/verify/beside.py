"""The run that is judged beside the recorded ones of its tier: all that is said of its means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlt.pipeline.store import RunStore
from xlt.tasks.record import Split
from xlt.verify import recorded
from xlt.verify.cells import MeanKey, Recomputed
from xlt.verify.comparison import FAILED, VerdictWord
from xlt.verify.gains import RecordedGain, recorded_gains
from xlt.verify.log import read_log
from xlt.verify.origin import Origin, origins, why_not_exact
from xlt.verify.overall import Overall, judge_together
from xlt.verify.recorded import RunMean, execution_of
from xlt.verify.scores import by_mean, table_of
from xlt.verify.sites import AddedFile, AddedRun, SiteCheck, leave_one_site_out, merge
from xlt.verify.stored import GridFile, Problem, StoredRun
from xlt.verify.verdicts import Statement, Verdict, judge_means, statement_of


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts and statements on the means, and on all of them ``overall``; what they were compared with, and how that
    differs from the run that is judged. The fields are those of ``Verification``, but ``runs``: all recorded runs of
    the tier, those that round as the judged one does first."""

    verdicts: tuple[Verdict, ...]
    overall: Overall | None
    statements: tuple[Statement, ...]
    references: tuple[str, ...]
    rule: str
    origins: tuple[Origin, ...]
    not_exact: str
    added: tuple[AddedFile, ...]
    sites: tuple[SiteCheck, ...]
    gains: tuple[RecordedGain, ...]
    runs: tuple[recorded.ReferenceRun, ...]
    deciding: set[VerdictWord]
    """The words that decide the exit code: those of the verdicts, and what fails by the recorded runs alone. Whoever
    adds runs can have made them up: they may fail a run, and never excuse one."""


def judge_beside(
    grid: GridFile,
    required: Sequence[tuple[MeanKey, StoredRun | None]],
    store: RunStore,
    recomputed: Recomputed,
    mismatches: dict[str, str],
    added: Sequence[AddedRun],
) -> Judgement:
    """A verdict on every mean that is required, by what is recorded of the tier and what was ``added``.

    Raises:
        DataFault: an added run is a copy of another one.
        UsageFault: an added run is of another tier or source.
    """
    references = recorded.read_references(grid.tier, grid.source.name)
    asked = _asked(grid, required, store, recomputed, mismatches)
    means, files, failing = list(asked.values()), tuple[AddedFile, ...](), set[VerdictWord]()
    platform = recorded.platform_of(recomputed.runs)
    if added:
        own = recorded.ReferenceRun(
            tier=grid.tier,
            source=grid.source.name,
            seed=grid.seed,
            date="",
            platform=platform,
            means={},
            cells=recorded.measured_cells(recomputed.cells),
        )
        alone, _ = judge_means(means, references)
        failing = words_of(alone, judge_together(means, references, alone)) & FAILED
        references, files = merge(references, added, means, own)
    judged, about = judge_means(means, references)
    given = dict(zip(asked, judged, strict=True))
    overall = judge_together(means, references, judged)
    verdicts = tuple(given.get(key) or _unjudged(key, run, recomputed.problems, grid) for key, run in required)
    compared = {id(run): run for each in means for run in references.fitting(each).runs}
    return Judgement(
        verdicts=verdicts,
        overall=overall,
        statements=tuple(statement_of(each) for each in means),
        references=about,
        rule=references.rule.reason.strip() if references.rule else "",
        origins=origins(platform, list(compared.values())),
        not_exact=why_not_exact(means, judged, references, platform),
        added=files,
        sites=leave_one_site_out(means, references, judged) if added else (),
        gains=tuple(recorded_gains(means, references)),
        runs=tuple(sorted(references.runs, key=lambda run: run.platform.get("numerics") != platform.get("numerics"))),
        deciding=words_of(verdicts, overall) | failing,
    )


def _asked(
    grid: GridFile,
    required: Sequence[tuple[MeanKey, StoredRun | None]],
    store: RunStore,
    recomputed: Recomputed,
    mismatches: dict[str, str],
) -> dict[MeanKey, RunMean]:
    """The means that could be recomputed, as they are judged."""
    whole, rows = {mean.key for mean in recomputed.means}, by_mean(table_of(recomputed.cells, grid.seed))
    known = recorded.lineages(recomputed.runs)
    asked: dict[MeanKey, RunMean] = {}
    for key, run in required:
        if run is not None and key in whole:
            folder, log = run.entry.folder, read_log(store.path(run.entry.folder))
            device, (recipe, data) = recorded.device_of(recorded.platform_of([run])), known.get(folder, ("", ""))
            numerics = run.provenance.numerics if run.provenance else None
            made = device, recipe, data, execution_of(run), numerics
            fell, why = log.loss_fell if log else None, mismatches.get(folder, "")
            asked[key] = RunMean(key, rows[key], grid.seed, *made, folder, fell, why)
    return asked


def words_of(verdicts: Sequence[Verdict], overall: Overall | None) -> set[VerdictWord]:
    """All verdicts that decide the exit code."""
    return {each.verdict for each in verdicts if not each.diagnostic} | ({overall.verdict} if overall else set())


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
        verdict="collapsed" if run.state == "diverged" else "not verifiable",
        reason=found[0].what.rstrip(".") if found else "it could not be recomputed",
        run=run.entry.folder,
        fix=found[0].fix if found else grid.command,
    )


def _explains(problem: Problem, run: StoredRun, task: str, split: Split) -> bool:
    """Whether the problem is why a mean of the run could not be recomputed."""
    if problem.run == run.entry.folder and run.spec is None:
        return True
    return problem.run in ("", run.entry.folder) and problem.where.startswith(f"{task}.{split}.")
