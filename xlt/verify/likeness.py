"""Whether stored runs are what their tier's name says: its backbone, its recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlt.data.source import Source
from xlt.pipeline.checkpoint import pinned
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.spec import Backbone, RunSpec
from xlt.pipeline.tiers import Tier, read_tier, tier_names
from xlt.verify.stored import GridFile, StoredRun


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
    builder = tier and GridBuilder(tier, source, seed=grid.seed, precision="fp32", fingerprints=False)
    return builder.grid().runs if builder else ()


def unlike_tier(name: str, wanted: Sequence[RunSpec], runs: Sequence[StoredRun]) -> dict[str, str]:
    """By folder, the runs that are not made as the project's tier of that name says, and how, or that start from one.

    Seed, data, numeric type and engine may be others. So may all of an arm that the tier does not have.
    """
    made = {(spec.phase, spec.name): _made(spec) for spec in wanted}
    arms = {spec.arm for spec in wanted}
    unlike: dict[str, str] = {}
    by_hash = {run.entry.hash: run.entry.folder for run in runs}
    for run in runs:
        if run.spec is None:
            continue
        own, parent = _made(run.spec), by_hash.get(run.entry.parent or "", "")
        said = made.get((run.spec.phase, run.spec.name), {} if run.spec.arm in arms else own)
        if differing := sorted(name for name in {*own, *said} if own.get(name) != said.get(name)):
            what = f"in {', '.join(differing)}" if said else "it has no such run"
            unlike[run.entry.folder] = f"not made as the tier '{name}' says: {what}"
        elif parent in unlike:
            unlike[run.entry.folder] = f"starts from {parent}, {unlike[parent].removeprefix('starts from ')}"
    return unlike


def _tier(grid: GridFile) -> Tier | None:
    tier = read_tier(grid.tier) if grid.tier in tier_names() else None
    return tier if tier and grid.source.name in tier.sources else None


def _made(spec: RunSpec) -> dict[str, Any]:
    """What is compared: of a public checkpoint its name, and its revision where the project pins one."""
    left_out = {"seed", "retry", "precision", "engine", "data", "parent", "source"}
    pin = pinned(spec.backbone.model_copy(update={"revision": ""})).revision
    backbone = spec.backbone.model_copy(update={"digest": "", "revision": spec.backbone.revision if pin else ""})
    compared = spec.model_copy(update={"backbone": backbone})
    return {name: value for name, value in compared.identity().items() if name not in left_out}
