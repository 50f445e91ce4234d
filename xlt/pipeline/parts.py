"""What each part of a tier costs, run alone: a part may start from a model of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlt.data.source import Source
from xlt.pipeline.estimate import Calibration, Estimate, estimate
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.tiers import Tier

if TYPE_CHECKING:
    from xlt.train.engine import Precision


@dataclass(frozen=True, slots=True)
class PartCost:
    """A part of a tier and its cost if nothing of it is done yet."""

    name: str
    """Its name."""
    about: str
    """What it is for, in a sentence without a full stop."""
    on_request: bool
    """Whether it runs only when it is named."""
    backbone: str
    """The model that it starts from."""
    estimate: Estimate
    """What it costs with one seed."""


def part_costs(
    tier: Tier,
    source: Source,
    names: Collection[str],
    *,
    seed: int,
    precision: Precision,
    calibration: Calibration | None = None,
) -> Iterator[PartCost]:
    """The cost of each of the parts ``names``; none of a tier without parts.

    Where no rate of a part's own model is recorded, hours follow from that of another model by the sizes of the two.
    """
    plan = tier.plan(source.name)
    for name, part in plan.parts.items():
        if name not in names:
            continue
        # Hashes are not asked for, so that neither model nor data need be here.
        grid = GridBuilder(tier, source, seed=seed, precision=precision, fingerprints=False, parts=[name]).grid()
        backbone = grid.runs[0].backbone if grid.runs else plan.backbone
        its = {"backbone": backbone, "parameters": plan.parameters if backbone.name == plan.backbone.name else 0}
        cost = estimate(grid, plan.model_copy(update=its), source, calibration, by_size=True)
        yield PartCost(name, part.about, part.on_request, backbone.name, cost)
