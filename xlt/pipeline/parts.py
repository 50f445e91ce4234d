"""What each part of a tier costs, run alone: a part may start from a model of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlt.data.source import Source
from xlt.errors import XltError
from xlt.pipeline.checkpoint import checkpoint_folder
from xlt.pipeline.estimate import Calibration, Estimate, estimate
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.spec import Backbone
from xlt.pipeline.tiers import SourcePlan, Tier

if TYPE_CHECKING:
    from xlt.train.engine import Precision


def may_be_larger(model: str, plan: SourcePlan) -> bool:
    """Whether a model may take more memory than the plan's own: unless it is here, and has no more parameters."""
    from xlt.model.backbone import outline

    with suppress(XltError):
        encoder = outline(checkpoint_folder(model))
        return bool(sum(parameter.numel() for parameter in encoder.parameters()) > plan.parameters)
    return True


def started_from(plan: SourcePlan, model: str) -> SourcePlan:
    """The plan with a model in the place of its own, if one is named."""
    return plan.model_copy(update={"backbone": Backbone(name=model), "parameters": 0}) if model else plan


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
    model: str = "",
    gpus: int = 0,
) -> Iterator[PartCost]:
    """The cost of each of the parts ``names``, from ``model`` in the place of the tier's if one is named; none of a
    tier without parts.

    Where no rate of a part's own model is recorded, hours follow from that of another model by the sizes of the two.
    """
    plan = tier.plan(source.name)
    for name, part in plan.parts.items():
        if name not in names:
            continue
        # Hashes are not asked for, so that neither model nor data need be here.
        grid = GridBuilder(
            tier, source, seed=seed, precision=precision, fingerprints=False, parts=[name], model=model
        ).grid()
        backbone = grid.runs[0].backbone if grid.runs else plan.backbone
        its = {"backbone": backbone, "parameters": plan.parameters if backbone.name == plan.backbone.name else 0}
        cost = estimate(grid, plan.model_copy(update=its), source, calibration, by_size=True, gpus=gpus)
        yield PartCost(name, part.about, part.on_request, backbone.name, cost)
