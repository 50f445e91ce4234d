"""What the project's tier of a results folder's name says: backbone, recipes, and the means that it promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from xlt.data.source import Source, evaluated
from xlt.errors import XltError
from xlt.pipeline import studies
from xlt.pipeline.checkpoint import pinned
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.spec import Backbone, RunSpec
from xlt.pipeline.tiers import Tier, read_tier, tier_names
from xlt.printable import counted
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.cells import MeanKey
from xlt.verify.stored import GridFile, Problem, StoredRun


def backbone_of(grid: GridFile, runs: Sequence[StoredRun]) -> Backbone | None:
    """The backbone of all runs, of the tier where no run is whole; several are named together."""
    found = list({run.spec.backbone.model_dump_json(): run.spec.backbone for run in runs if run.spec}.values())
    if len(found) > 1:
        return Backbone(name=" and ".join(sorted(each.name or "one made on the spot" for each in found)))
    tier = None if found else _tier(grid)
    return tier.plan(grid.source.name).backbone if tier else (found[0] if found else None)


def tier_runs(grid: GridFile, source: Source) -> tuple[RunSpec, ...]:
    """The runs of the project's tier of that name; none if it has no such tier."""
    tier = _tier(grid)
    if tier is None:
        return ()
    chosen = [name for name in grid.parts if name in tier.plan(source.name).parts]
    builder = GridBuilder(
        *(tier, source), seed=grid.seed, precision="fp32", fingerprints=False, parts=chosen, model=grid.model
    )
    return builder.grid().runs


def tier_mismatches(name: str, wanted: Sequence[RunSpec], runs: Sequence[StoredRun]) -> dict[str, str]:
    """Runs with a spec that differs from the tier's, with the differing fields; also runs that start from such a run.

    Seed, data, numeric type and engine may differ, and so may everything of an arm that the tier does not have.
    """
    made = {(spec.phase, spec.name): _made(spec) for spec in wanted}
    arms = {spec.arm for spec in wanted}
    mismatches: dict[str, str] = {}
    by_hash = {run.entry.hash: run.entry.folder for run in runs}
    for run in runs:
        if run.spec is None:
            continue
        own, parent = _made(run.spec), by_hash.get(run.entry.parent or "", "")
        said = made.get((run.spec.phase, run.spec.name), {} if run.spec.arm in arms else own)
        if differing := sorted(name for name in {*own, *said} if own.get(name) != said.get(name)):
            what = f"in {', '.join(differing)}" if said else "it has no such run"
            mismatches[run.entry.folder] = f"not made as the tier '{name}' says: {what}"
        elif parent in mismatches:
            mismatches[run.entry.folder] = f"starts from {parent}, {mismatches[parent].removeprefix('starts from ')}"
    return mismatches


def mislabelled_runs(mismatches: dict[str, str], grid: GridFile) -> Iterator[Problem]:
    """Problems for runs that contradict the tier which they claim; runs that start from one are not listed again."""
    for folder, how in mismatches.items():
        if not how.startswith("starts from "):
            what = f"The run is {how}."
            yield Problem(kind="spec", run=folder, where="spec.json", what=what, fix=grid.command)


def smaller_runs(grid: GridFile, source: Source, runs: Sequence[StoredRun]) -> Iterator[Problem]:
    """Problems for runs that were not scored on all that the source has of their tasks: a mean over chosen languages
    is not the mean."""
    for run in runs if grid.tier else ():
        lacking: list[str] = []
        for task in run.spec.evaluate if run.spec else ():
            with suppress(XltError):  # the data that would say is not there
                cells = ((task, *pair) for pair in evaluated(get_task(task), source))
                lacking += [".".join(cell) for cell in cells if cell not in run.cells]
        if lacking:
            named = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
            what = f"The run was not scored on {counted(len(lacking), 'cell')} that the source has: {named}."
            yield Problem(kind="gold", run=run.entry.folder, where="spec.json", what=what, fix=grid.command)


def required_means(
    wanted: Sequence[RunSpec], source: Source, runs: Sequence[StoredRun]
) -> Iterator[tuple[MeanKey, StoredRun | None]]:
    """Every mean that the grid or the tier promises, with its run; None where the grid lacks one of the tier.

    A task is judged on its test split, or on the dev split where it has no other. Of those listed, target tasks come
    first.
    """
    listed: set[tuple[str, str]] = set()
    for run in sorted(runs, key=lambda run: run.entry.phase == "intermediate"):
        for task in run.entry.evaluate:
            listed.add((run.entry.arm, task))
            splits = [split for key, split, _ in run.cells if key == task]
            yield (run.entry.arm, task, _judged(splits) if splits else _split(task, source)), run
    for spec in wanted:
        for task in spec.evaluate:
            if (spec.arm, task) not in listed:
                yield (spec.arm, task, _split(task, source)), None


def _split(task: str, source: Source) -> Split:
    try:
        return _judged([split for split, _ in evaluated(get_task(task), source)])
    except XltError:
        # The data that would say is not there.
        return "test"


def _judged(splits: Sequence[Split]) -> Split:
    return "test" if "test" in splits else splits[0]


def _tier(grid: GridFile) -> Tier | None:
    tier = read_tier(grid.tier) if grid.tier in tier_names() else studies.study_tier(grid.tier)
    return tier if tier and grid.source.name in tier.sources else None


def _made(spec: RunSpec) -> dict[str, Any]:
    """What is compared: of a public checkpoint its name, and its revision where the project pins one."""
    left_out = {"seed", "retry", "precision", "engine", "data", "parent", "source"}
    pin = pinned(spec.backbone.model_copy(update={"revision": ""})).revision
    backbone = spec.backbone.model_copy(update={"digest": "", "revision": spec.backbone.revision if pin else ""})
    compared = spec.model_copy(update={"backbone": backbone})
    return {name: value for name, value in compared.identity().items() if name not in left_out}
