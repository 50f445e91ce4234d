"""Writes artifact/APPENDIX.md, the artifact appendix of an evaluation committee: ``make expected``."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from xlt import __version__
from xlt.artifact import artifact_root
from xlt.pipeline.estimate import Estimate, estimate
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.parts import part_costs
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.tiers import Tier, read_tier

from .anchors import anchors
from .expected import SOURCE, TIER, bands, claims, pages, read_series

# The row of artifact/measured/times.toml that says how long the two commands of the smoke tier take.
KICK_THE_TIRES = "`make reproduce` on a clean clone"


@contextmanager
def _nothing_fetched() -> Iterator[None]:
    """A block in which no data and no model counts as fetched: sizes follow from what is recorded, on every machine."""
    kept = os.environ.get("XLT_DATA_LOCK")
    os.environ["XLT_DATA_LOCK"] = str(artifact_root() / "none.lock")
    try:
        yield
    finally:
        del os.environ["XLT_DATA_LOCK"]
        if kept is not None:
            os.environ["XLT_DATA_LOCK"] = kept


def costs(name: str) -> dict[str, Any]:
    """What one seed of a tier costs that starts from a public model, by part if it has parts."""
    with _nothing_fetched():
        tier, source = read_tier(name), open_source(SourceOptions(name="hub"))
        if tier.plan("hub").parts:
            found = part_costs(tier, source, tier.plan("hub").parts, seed=0, precision="fp32")
            return {part.name: _cost(tier, part.estimate) | {"about": part.about} for part in found}
        grid = GridBuilder(tier, source, seed=0, precision="bf16", engine="graph", fingerprints=False).grid()
        return _cost(tier, estimate(grid, tier.plan("hub"), source, gpus=8))


def _cost(tier: Tier, found: Estimate) -> dict[str, Any]:
    """Runs, seeds, tokens, disk, and hours on each device with a rate or assumptions, and on eight; all of one seed."""
    return {
        "runs": len(found.runs),
        "seeds": len(tier.seeds),
        "tokens": found.training_tokens,
        "unknown": found.unknown_runs,
        "disk": (found.disk_bytes or 0) / 1e9,
        "hours": {device: its.total for device, its in found.hours.items() if its.total is not None},
        "eight": {device: its.on_gpus for device, its in found.hours.items() if its.on_gpus is not None},
    }


def kick_the_tires() -> dict[str, Any]:
    """The smoke tier: the row of its measured time and the mean of that in hours, runs and seeds."""
    rows = tomllib.loads((artifact_root() / "measured" / "times.toml").read_text("utf-8"))["rows"]
    row: dict[str, Any]
    (row,) = (each for each in rows if each["what"].startswith(KICK_THE_TIRES))
    minutes = [int(m) + int(s) / 60 for m, s in re.findall(r"\b(\d+):(\d\d)\b", row["time"])]
    tier, source = read_tier(TIER), open_source(SourceOptions(name=SOURCE))
    grid = GridBuilder(tier, source, seed=0, precision="fp32", engine="deepspeed", fingerprints=False).grid()
    return row | {"hours": fmean(minutes) / 60, "runs": len(grid.runs), "seeds": len(tier.seeds)}


def render() -> str:
    """The text of artifact/APPENDIX.md."""
    series = read_series()
    means = bands(series)
    return (
        pages()
        .get_template("appendix.md.j2")
        .render(
            version=__version__,
            records=series.records,
            bands=[each for each in means if each["judged"]],
            means=len(means),
            smoke=kick_the_tires(),
            tiers={name: costs(name) for name in ("core", "paper")},
            parts=costs("pocket"),
            claims=claims(),
            anchors=anchors(),
        )
    )


if __name__ == "__main__":
    sys.stdout.write(render())
