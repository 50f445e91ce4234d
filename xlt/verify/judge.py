"""Verification of a results folder: recompute, compare, say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from xlt.data.source import Source
from xlt.errors import ExitCode, UsageFault
from xlt.frozen import Frozen
from xlt.pipeline.differences import KnownDifference, known_differences
from xlt.pipeline.spec import Backbone, SourceSpec
from xlt.pipeline.store import RunStore, State
from xlt.verify import recorded
from xlt.verify.anchors import judge_anchors
from xlt.verify.beside import judge_beside, words_of
from xlt.verify.cells import Cell, Mean, read_cells
from xlt.verify.checks import NOTHING_AGAIN, Again, Checks, check_deeper
from xlt.verify.claims import Claims, Given, read_claims, read_literature
from xlt.verify.comparison import FAILED, VerdictWord
from xlt.verify.evidence import GoldenCheck, golden_code
from xlt.verify.gains import RecordedGain
from xlt.verify.origin import Origin
from xlt.verify.original import Original, beside_paper, beside_recorded
from xlt.verify.overall import Overall
from xlt.verify.paper import Paper, judge_paper, not_judged
from xlt.verify.recorded import execution_of
from xlt.verify.robustness import Degradation, degradations
from xlt.verify.scores import BASELINE, Scores, table_of
from xlt.verify.siblings import check_siblings
from xlt.verify.sites import AddedFile, AddedRun, SiteCheck
from xlt.verify.stored import GridFile, GridRun, Problem, StoredRun, check_source, read_grid
from xlt.verify.tier import backbone_of, mislabelled_runs, required_means, tier_mismatches, tier_runs
from xlt.verify.verdicts import Statement, Verdict, count_verdicts

SEVERITY = (ExitCode.DEVIATES, ExitCode.DATA, ExitCode.INCOMPLETE, ExitCode.OK)


class RunState(GridRun):
    """A run of the grid, as it was found."""

    state: State
    """Whether it is whole."""
    recipe: str
    """The hash of all that it and the runs that it starts from were made with, but seed and data; empty if unknown."""
    data: str
    """The hash of the fingerprints of all data that they read; empty if unknown."""
    execution: str
    """The hash of its provenance, times included, which tells it from a repetition; empty if unknown."""
    adversarial: str = ""
    """The method of its adversarial training; empty where there was none, or its spec cannot be read."""


class Verification(Frozen):
    """Everything that ``verify`` found in a results folder."""

    format: Literal[1] = 1
    """The version of this document's form."""
    tier: str
    """The tier that was run."""
    source: SourceSpec
    """The source of its data."""
    seed: int
    """Its seed."""
    command: str
    """The command that made the results and that resumes them."""
    exit_code: int
    """The exit code of ``verify``, by the worst finding; claims and further seeds are included."""
    result_hash: str
    """The SHA-256 of tier, source, seed, predictions, metrics and verdicts; nothing in it depends on times."""
    counts: dict[VerdictWord, int]
    """How many of the means got each verdict, without those that are shown only."""
    references: tuple[str, ...]
    """What the means were compared with, in words."""
    origins: tuple[Origin, ...] = ()
    """In what the runs that they were compared with differ from this one."""
    not_exact: str = ""
    """Why means are not exact, in words; empty where all are, or nothing is recorded."""
    added: tuple[AddedFile, ...] = ()
    """The reference runs that were given with --with, those included that do not count."""
    sites: tuple[SiteCheck, ...] = ()
    """What the verdicts would be without the reference runs of each site, where some were given."""
    gains: tuple[RecordedGain, ...] = ()
    """What the arms have over the first one in the recorded seeds."""
    rule: str
    """How they were compared, and why so; empty where nothing is recorded for the tier."""
    problems: tuple[Problem, ...]
    """What cannot be trusted or is missing."""
    verdicts: tuple[Verdict, ...]
    """A verdict on each mean that grid or tier promise."""
    overall: Overall | None = None
    """The verdict on all of them together; null where nothing is expected, or only a part was asked for."""
    statements: tuple[Statement, ...]
    """What holds for each mean that was recomputed, whatever was expected."""
    means: tuple[Mean, ...]
    """The means over languages, recomputed."""
    cells: tuple[Cell, ...]
    """The scores of each model, task, split and language, recomputed."""
    robustness: tuple[Degradation, ...] = ()
    """What perturbed rows cost the scores, where the rows are perturbed and the clean ones were scored too."""
    runs: tuple[RunState, ...]
    """The runs of the grid."""
    collapsed: tuple[GridRun, ...] = ()
    """First attempts that collapsed; ``runs`` has the second attempts."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """By arm of the tier, what is not there because its data is absent."""
    deviations: dict[str, KnownDifference] = Field(default_factory=dict)
    """Where the runs are not what the paper did, or not what a reader expects."""
    platform: dict[str, Any]
    """Where the runs were made: processor, device, versions, commit; a list where they differ."""
    fingerprints: dict[str, str]
    """The SHA-256 of all sets of rows that were read, by task, split and language."""
    backbone: Backbone | None = None
    """The pretrained model of all runs."""
    backbones: dict[str, Backbone] = Field(default_factory=dict)
    """That of the runs of each arm."""
    tier_mismatches: dict[str, str] = Field(default_factory=dict)
    """Runs that are not made as the project's tier of that name says, and how; their scores are not judged."""
    original: Original | None = None
    """What was found beside the original: the paper, or the recorded run of this seed; null where there is neither."""
    checks: Checks | None = None
    """What was checked beside the scores, and what was not."""
    paper: Paper | None = None
    """The verdicts on the paper, over all seeds; null where the backbone is one made on the spot."""
    golden: tuple[GoldenCheck, ...] = ()
    """What this machine and this code compute beside what must come out; empty if it was not compared."""
    study_answer: str = ""
    """The answer of the study whose seeds these all are, where its tests were made anew and study.json says the same;
    else empty."""
    study_left_out: tuple[str, ...] = ()
    """Models whose scores are no result, which that answer leaves out, and why."""
    further: tuple[Verification, ...] = ()
    """The verifications of other seeds."""

    @property
    def seeds(self) -> tuple[Verification, ...]:
        """The verifications of all seeds, this one first."""
        return self, *self.further

    @property
    def nothing_judged(self) -> str:
        """Why nothing was judged, in words; empty where something was, or nothing is expected of single runs."""
        words = self.paper.words if self.paper else set[VerdictWord]()
        cited = (
            self.paper.cells if self.paper and not self.paper.claims else ()
        )  # printed cells, where those are asked for
        words |= {each.verdict for each in cited}
        for each in self.seeds:
            words |= words_of(each.verdicts, each.overall)
        if not self.tier or self.study_answer or words - {"not verifiable"}:
            return ""
        claims = self.paper.claims if self.paper else ()
        return next((each.reason for each in (*self.verdicts, *claims, *cited)), "nothing was scored")

    @property
    def table(self) -> pd.DataFrame:
        """The table of scores of all seeds."""
        layers = {arm: backbone.retrieval_layer for arm, backbone in self.backbones.items()}  # all seeds have the same
        return pd.concat([table_of(each.cells, each.seed, layers) for each in self.seeds])

    @property
    def summary(self) -> str:
        """The counts in words, failures first, and what is said of all means together."""
        total = sum(self.counts.values())
        words = [", ".join(f"{count} of {total} {word}" for word, count in self.counts.items())]
        words += [f"{len(self.verdicts) - total} shown only"] if len(self.verdicts) > total else []
        words += [f"all means together {self.overall.verdict}"] if self.overall and self.overall.seeds else []
        return "; ".join(filter(None, words))


def verify(
    results: Path, source: Source, *, again: Again = NOTHING_AGAIN, golden: Sequence[GoldenCheck] = ()
) -> Verification:
    """Recompute and judge everything in a results folder, the paper's claims included; see ``recompute``."""
    return join([recompute(results, source, again=again)], golden=golden)


def recompute(
    results: Path,
    source: Source,
    *,
    again: Again = NOTHING_AGAIN,
    added: Sequence[AddedRun] = (),
    grid: GridFile | None = None,
) -> Verification:
    """Recompute everything in a results folder, or the single runs of ``grid``, and judge it by what was recorded and
    ``added``; ``again`` says which cells the stored models predict again. Problems are collected, not raised.

    Raises:
        IncompleteFault: the folder holds no grid.
        DataFault: its grid file cannot be read.
        UsageFault: the results, or an added run, are of another source, or of the same with other settings.
    """
    store, grid = RunStore(results), grid or read_grid(results)
    check_source(grid, source)
    recomputed = read_cells(store, source, grid)
    checks, found = check_deeper(store, source, grid, recomputed, again)
    wanted = tier_runs(grid, source)
    mismatches = tier_mismatches(grid.tier, wanted, recomputed.runs)
    recomputed = replace(recomputed, problems=(*recomputed.problems, *found, *mislabelled_runs(mismatches, grid)))
    required = required_means(wanted, source, recomputed.runs)
    judged = judge_beside(grid, list(required), store, recomputed, mismatches, added)
    states, platform = _states(recomputed.runs), recorded.platform_of(recomputed.runs)
    return Verification(
        tier=grid.tier,
        source=grid.source,
        seed=grid.seed,
        command=grid.command,
        exit_code=exit_code(recomputed.problems, states, judged.deciding),
        result_hash=_result_hash(grid, recomputed.cells, judged.verdicts),
        counts=count_verdicts(judged.verdicts),
        references=judged.references,
        origins=judged.origins,
        not_exact=judged.not_exact,
        added=judged.added,
        sites=judged.sites,
        gains=judged.gains,
        rule=judged.rule,
        problems=recomputed.problems,
        verdicts=judged.verdicts,
        overall=judged.overall,
        statements=judged.statements,
        means=recomputed.means,
        cells=recomputed.cells,
        robustness=tuple(degradations(store, source, [run.spec for run in recomputed.runs if run.spec])),
        runs=tuple(states),
        collapsed=grid.collapsed,
        left_out=grid.left_out,
        deviations=known_differences([run.spec for run in recomputed.runs if run.spec]),
        platform=platform,
        fingerprints=dict(sorted(item for run in recomputed.runs if run.spec for item in run.spec.data.items())),
        backbone=backbone_of(grid, recomputed.runs),
        backbones={run.entry.arm: run.spec.backbone for run in recomputed.runs if run.spec and run.entry.arm},
        tier_mismatches=mismatches,
        original=beside_recorded(judged.verdicts, _made(states), judged.runs, grid.seed, platform),
        checks=checks,
    )


def with_perturbed(found: Verification, perturbed: Verification) -> Verification:
    """What was ``found`` in a tier's results, with what the evaluations on ``perturbed`` rows beside them say, and
    what is wrong with these. They are no results of the tier: neither its verdicts nor its hash know them."""
    problems = (*found.problems, *perturbed.problems)
    return found.model_copy(
        update={
            "robustness": (*found.robustness, *perturbed.robustness),
            "problems": problems,
            "exit_code": worst_code({found.exit_code, exit_code(perturbed.problems, (), ())}),
        }
    )


def _made(states: Sequence[RunState]) -> dict[str, tuple[str, str, str]]:
    return {state.folder: (state.recipe, state.data, state.execution) for state in states}


def join(
    verifications: Sequence[Verification], given: Given | None = None, golden: Sequence[GoldenCheck] = ()
) -> Verification:
    """The first of the verifications with the others in ``further``, and the paper's claims judged over all of them.

    ``given`` are values that an evaluator has read.

    Raises:
        UsageFault: they are not different seeds of one tier, source, recipe and data; or values are given for results
            of a backbone made on the spot.
    """
    first, *further = verifications
    if any(each.tier for each in verifications):
        check_siblings(verifications)
    joined = first.model_copy(update={"further": tuple(further), "golden": tuple(golden)})
    words, original = set[VerdictWord](), first.original
    if first.backbone is None or not first.backbone.name or not first.tier:
        if given:
            raise UsageFault(
                f"The paper's values are not compared with the tier '{first.tier}'.", fix="xlt reproduce --tier core"
            )
        paper = None
    else:
        paper = _judge_paper(joined, first.backbone, given)
        words = paper.words
        if not paper.of_anchors:
            original = beside_paper(paper, scores_of(joined), first.backbone.name, first.platform, first.deviations)
    code = worst_code([exit_code((), (), words), golden_code(golden), *(each.exit_code for each in verifications)])
    return with_code(joined.model_copy(update={"paper": paper, "original": original}), code)


def with_code(verification: Verification, code: int) -> Verification:
    """The verification with its exit code; success is none where nothing was judged, or a study left models out."""
    code = worst_code({code, ExitCode.DEVIATES}) if verification.study_left_out else code
    verification = verification.model_copy(update={"exit_code": code})
    if code == ExitCode.OK and verification.nothing_judged:
        return verification.model_copy(update={"exit_code": int(ExitCode.INCOMPLETE)})
    return verification


def _judge_paper(joined: Verification, backbone: Backbone, given: Given | None) -> Paper:
    claims = read_claims()
    asked = claims.of(joined.tier)
    cells, why = read_literature().cells(given), ""
    if limit := joined.source.settings.get("limit"):
        why = f"the results are of the first {limit} rows of each split (--limit)"
    if claims.only_anchors(joined.tier):
        of = joined.backbones
        return judge_anchors(asked, scores_of(joined), cells, of, joined.tier, joined.command, but=why)
    cells = [cell for cell in cells if cell.backbone in ("", claims.backbone)]
    if backbone.name != claims.backbone:
        why = f"the claims are about {claims.backbone}; the results are of {backbone.name}"
    elif not why and (backbone.pooling, backbone.prefix) != ("mean", ""):
        why = (
            f"retrieval read pooling {backbone.pooling}, prefix {backbone.prefix!r}; what is printed was the plain mean"
        )
    if why:
        return not_judged(tuple(each.seed for each in joined.seeds), asked, cells, why)
    return judge_paper(scores_of(joined), asked, cells, backbone.retrieval_layer, joined.command)


def scores_of(joined: Verification) -> Scores:
    """The recomputed scores of all seeds, without runs that are not what their name says."""
    seeds = tuple(each.seed for each in joined.seeds)
    return Scores(joined.table, seeds, read_literature().languages, dict(_excluded_arms(joined, read_claims())))


def _excluded_arms(joined: Verification, claims: Claims) -> Iterator[tuple[tuple[str, str], str]]:
    """Arms that are named in the claims and were trained on something else, and what mislabelled runs scored."""
    for each in joined.seeds:
        for run in each.runs:
            if how := each.tier_mismatches.get(run.folder):
                yield from (((run.arm, task), f"{run.folder}: {how}") for task in run.evaluate)
        if claims.only_anchors(joined.tier):
            continue  # the names of its arms are its own
        trained = {run.arm: run.train for run in each.runs if run.phase == "intermediate"}
        for arm, tasks in claims.arms.items():
            found = trained.get(arm, ())
            if set(found) != set(tasks) and (arm in trained or arm == BASELINE):
                yield (arm, ""), f"'{arm}' was trained on {', '.join(found) or 'nothing'} here"


def exit_code(
    problems: Sequence[Problem], runs: Sequence[RunState], words: Collection[VerdictWord], *, whole: bool = True
) -> int:
    """1 for a failed verdict or damaged or edited files, 4 for other gold, 5 for missing runs (unless only a part is
    asked for) or verdicts, else 0."""
    missing = {run.folder for run in runs if run.state in ("absent", "unfinished")}
    kinds = {problem.kind for problem in problems if problem.run not in missing}
    if FAILED & {*words} or kinds - {"gold"}:
        return ExitCode.DEVIATES
    if kinds:
        return ExitCode.DATA
    return ExitCode.INCOMPLETE if (missing and whole) or "not run" in words else ExitCode.OK


def worst_code(codes: Collection[int]) -> int:
    """The exit code of several parts."""
    return next(int(code) for code in SEVERITY if code in codes)


def _states(runs: Sequence[StoredRun]) -> list[RunState]:
    known = recorded.lineages(runs)
    states = []
    for run in runs:
        recipe, data = known.get(run.entry.folder, ("", ""))
        entry = run.entry.model_dump()
        method, execution = run.spec.adversarial if run.spec else "", execution_of(run)
        states.append(
            RunState(**entry, state=run.state, recipe=recipe, data=data, execution=execution, adversarial=method)
        )
    return states


def _result_hash(grid: GridFile, cells: Sequence[Cell], verdicts: Sequence[Verdict]) -> str:
    return recorded.digest(
        {
            "tier": grid.tier,
            "source": grid.source.model_dump(),
            "seed": grid.seed,
            "cells": [[*cell.key, cell.language, cell.predictions, cell.metrics] for cell in cells],
            "verdicts": [[*each.key, each.verdict] for each in verdicts],
        }
    )
