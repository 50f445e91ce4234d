"""Tiers as data (``artifact/tiers``): which arms and targets, which backbone, which recipes."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from xlt.artifact import artifact_root
from xlt.errors import UsageFault
from xlt.frozen import Frozen
from xlt.numerics import Numerics
from xlt.pipeline.spec import Backbone
from xlt.strict_json import reason
from xlt.tasks.catalogue import MASKED_LM, TARGET, TASKS, get_task
from xlt.tasks.record import Recipe


class Arm(Frozen):
    """A phase-2 model and its targets."""

    intermediate: list[str] = []
    """The tasks that the model is trained on, together if there are several; none for the baseline."""
    targets: list[str] = [task.key for task in TARGET]
    """The target tasks; all unless given."""
    masked_lm: bool = False
    """Whether masked LM on multilingual text is trained along with the tasks."""
    translated: list[str] = []
    """The languages of the machine-translated training sets that are used instead of the English ones."""
    licensed: list[str] = []
    """Those of the tasks that are left out where their data is absent, because not everybody may have it."""
    label: str = ""
    """What the arm is called once licensed tasks were left out; else empty, and it is called as in the tier."""
    part: str = ""
    """The part of the tier that it belongs to; empty in a tier without parts."""
    backbone: Backbone | None = None
    """Its own encoder, where it is not the tier's."""
    recipes: dict[str, dict[str, float | int]] = {}
    """Its own changes to the tier's recipes, by task and ``default``."""

    @property
    def train(self) -> tuple[str, ...]:
        """All that phase 2 trains."""
        return (*self.intermediate, *((MASKED_LM.key,) if self.masked_lm else ()))


class Part(Frozen):
    """A part of a tier, which can be run alone."""

    about: str
    """What it is for, in a sentence without a full stop."""
    on_request: bool = False
    """Whether it runs only when it is named, because it takes long."""


class SourcePlan(Frozen):
    """What a tier does on one source."""

    backbone: Backbone
    """The encoder that every arm starts from."""
    arms: dict[str, Arm] = {}
    """The arms by name."""
    parts: dict[str, Part] = {}
    """The parts of the tier by name, where it has several."""
    recipes: dict[str, dict[str, float | int]] = {}
    """Changes to the catalogue's recipes: by task, by arm that trains several tasks (masked LM is one), and
    ``default`` for all."""
    parameters: int = 0
    """The number of the backbone's parameters, 0 if it is not known; only estimates of disk space use it."""
    collapse_after: float = Field(default=0.0, ge=0, le=1)
    """The share of a training after which it is given up, and tried once more, if no English dev score was above
    chance; 0 disables this."""


class Tier(Frozen):
    """What is run on each source."""

    name: str
    """The tier's name."""
    about: str
    """What the tier is for, in a sentence without a full stop."""
    threads: int = 0
    """The CPU threads of a run, whatever the machine has, because sums depend on them; 0 leaves them to torch."""
    numerics: Numerics = "native"
    """``portable``: a CPU is to round as every x86-64 processor with AVX2 does (``xlt.numerics``)."""
    golden: bool = False
    """Whether ``reproduce`` and ``verify`` compare this machine and this code with golden evidence."""
    processes: int = 1
    """How many runs are made in parallel, where the machine has as many cores."""
    seeds: list[int] = Field(default=[0], min_length=1)
    """The seeds of the tier's results; a grid has one of them."""
    sources: dict[str, SourcePlan]
    """What is done by source. In the file, the name of another source stands for the same plan."""

    @field_validator("sources", mode="before")
    @classmethod
    def _by_name(cls, sources: Any) -> Any:
        if not isinstance(sources, dict):
            return sources
        return {name: sources.get(plan, plan) if isinstance(plan, str) else plan for name, plan in sources.items()}

    def plan(self, source: str) -> SourcePlan:
        """What the tier does on ``source``; ``UsageFault`` if the tier does not run on it."""
        if source not in self.sources:
            raise UsageFault(
                f"The tier '{self.name}' does not run on the source '{source}'.",
                why=f"It runs on: {', '.join(self.sources)}.",
                fix=f"xlt reproduce --tier {self.name} --source {next(iter(self.sources))}",
            )
        return self.sources[source]

    def chosen_parts(self, source: str, asked: Collection[str]) -> set[str]:
        """The parts that are ``asked`` for, or all that need not be; ``UsageFault`` for one that is not there."""
        parts = self.plan(source).parts
        if unknown := [name for name in asked if name not in parts]:
            raise UsageFault(
                f"The tier '{self.name}' has no part '{unknown[0]}'.",
                why=f"Parts: {', '.join(parts)}." if parts else "It has no parts.",
                fix=f"--part {next(iter(parts))}" if parts else "Leave --part away.",
            )
        return {*asked} or {name for name, part in parts.items() if not part.on_request}

    def known_parts(self, source: str, names: Collection[str]) -> set[str]:
        """Those of ``names`` that are parts of this tier."""
        return {*names} & {*self.plan(source).parts}

    def recipe(self, key: str, source: str, arm: Arm | None = None) -> Recipe:
        """The recipe of a task, or of the joint training of an arm, on ``source``."""
        own, recipes = arm.recipes if arm else {}, self.plan(source).recipes
        changes: dict[str, Any] = {}
        for each in (recipes.get("default"), recipes.get(key), own.get("default"), own.get(key)):
            changes |= each or {}
        if changes.get("steps"):
            changes["epochs"] = 0  # a recipe ends by one of the two
        return dataclasses.replace(TASKS[key].recipe if key in TASKS else Recipe(), **changes)


def use_threads(count: int) -> None:
    """Compute with ``count`` CPU threads (0: as before), unless OMP_NUM_THREADS says otherwise."""
    import torch

    if count and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count)


def tier_names() -> list[str]:
    """The tiers in ``artifact/tiers``."""
    return sorted(path.stem for path in (artifact_root() / "tiers").glob("*.toml"))


def read_tier(name: str) -> Tier:
    """The tier of that name, or the one in a TOML file whose path is given.

    Raises:
        UsageFault: there is none, or the file is not a tier.
    """
    path = Path(name) if name.endswith(".toml") else artifact_root() / "tiers" / f"{name}.toml"
    if not path.is_file():
        raise UsageFault(
            f"There is no tier '{name}'.",
            why=f"Tiers: {', '.join(tier_names())}; or the path of a TOML file.",
            fix="xlt reproduce --tier smoke",
        )
    try:
        tier = Tier.model_validate(tomllib.loads(path.read_text("utf-8")))
        for source, plan in tier.sources.items():
            for key in (key for arm in plan.arms.values() for key in (*arm.intermediate, *arm.targets)):
                get_task(key)
            for key in plan.recipes:
                if key != "default" and key not in plan.arms:
                    get_task(key)
                tier.recipe(key, source)
            for name, arm in plan.arms.items():
                for key in arm.recipes:
                    tier.recipe(key, source, arm)
                if arm.part not in plan.parts and (arm.part or plan.parts):
                    raise ValueError(f"the arm {name} belongs to no part of the tier")
    except (ValueError, TypeError) as error:
        raise UsageFault(
            f"'{name}' is not a tier.",
            why=f"{reason(error)}.",
            fix="Compare it with artifact/tiers/smoke.toml.",
        ) from error
    return tier
