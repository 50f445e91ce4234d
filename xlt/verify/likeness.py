"""Whether stored runs are what their tier's name says: its backbone, its recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlt.data.source import Source
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


def unlike_tier(grid: GridFile, source: Source, runs: Sequence[StoredRun]) -> str:
    """Which run differs from the project's tier of that name in more than seed, numeric type and data; empty if none.

    Runs that the tier does not have may be anything.
    """
    tier = _tier(grid)
    if tier is None:
        return ""
    builder = GridBuilder(tier, source, seed=grid.seed, precision="fp32", fingerprints=False)
    made = {(spec.phase, spec.name): _made(spec) for spec in builder.grid().runs}
    for run in runs:
        if run.spec and _made(run.spec) != made.get((run.spec.phase, run.spec.name), _made(run.spec)):
            return f"the run {run.entry.folder} is not made as the tier '{grid.tier}' says"
    return ""


def _tier(grid: GridFile) -> Tier | None:
    tier = read_tier(grid.tier) if grid.tier in tier_names() else None
    return tier if tier and grid.source.name in tier.sources else None


def _made(spec: RunSpec) -> dict[str, Any]:
    left_out = {"seed", "retry", "precision", "data", "parent", "source"}
    return {name: value for name, value in spec.identity().items() if name not in left_out}
