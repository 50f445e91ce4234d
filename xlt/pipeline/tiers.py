"""Tiers as data: which arms, which targets, which backbone and recipes."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from xlt.artifact import artifact_root
from xlt.errors import UsageFault
from xlt.pipeline.spec import Backbone
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task


class SourcePlan(BaseModel):
    """What a tier does on one source: its backbone and its changes to the catalogue's recipes, per task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Backbone
    recipes: dict[str, dict[str, float | int]] = {}


class Tier(BaseModel):
    """A tier. ``arms`` maps the name of a phase-2 model to its intermediate tasks (none for the baseline).

    ``threads`` is the number of CPU threads (0: as many as torch likes): sums depend on it, and a small model
    gets no faster with more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    threads: int = 0
    arms: dict[str, list[str]]
    targets: list[str]
    sources: dict[str, SourcePlan]

    def plan(self, source: str) -> SourcePlan:
        """What the tier does on ``source``.

        Raises:
            UsageFault: the tier does not run on that source.
        """
        if source not in self.sources:
            raise UsageFault(
                f"The tier '{self.name}' does not run on the source '{source}'.",
                why=f"It runs on: {', '.join(self.sources)}.",
                mend=f"xlt reproduce --tier {self.name} --source {next(iter(self.sources))}",
            )
        return self.sources[source]

    def task(self, key: str, source: str) -> Task:
        """The catalogue's record with this tier's recipe for ``source``."""
        task = get_task(key)
        changes: dict[str, Any] = dict(self.plan(source).recipes.get(key, {}))
        if changes.get("steps"):
            changes.setdefault("epochs", 0)
        return dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, **changes))


def use_threads(tier: Tier) -> None:
    """Compute with the tier's number of CPU threads, unless OMP_NUM_THREADS says otherwise."""
    import torch

    if tier.threads and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(tier.threads, os.cpu_count() or 1))


def tier_names() -> list[str]:
    """The tiers in ``artifact/tiers``."""
    return sorted(path.stem for path in (artifact_root() / "tiers").glob("*.toml"))


def read_tier(name: str) -> Tier:
    """The tier of that name, or the tier in a TOML file whose path is given.

    Raises:
        UsageFault: there is none, or the file is not a tier.
    """
    path = Path(name) if name.endswith(".toml") else artifact_root() / "tiers" / f"{name}.toml"
    if not path.is_file():
        raise UsageFault(
            f"There is no tier '{name}'.",
            why=f"Tiers: {', '.join(tier_names())}; or the path of a TOML file.",
            mend="xlt reproduce --tier smoke",
        )
    try:
        tier = Tier.model_validate(tomllib.loads(path.read_text("utf-8")))
        for key in (*tier.targets, *(task for tasks in tier.arms.values() for task in tasks)):
            get_task(key)
        for source in tier.sources:
            for key in tier.sources[source].recipes:
                tier.task(key, source)
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise UsageFault(
            f"'{name}' is not a tier.",
            why=str(error),
            mend="Compare it with artifact/tiers/smoke.toml.",
        ) from error
    return tier
