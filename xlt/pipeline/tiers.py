"""Tiers as data: which arms, which targets, which backbone and recipes."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from xlt.artifact import artifact_root
from xlt.errors import UsageFault
from xlt.pipeline.spec import Backbone, Phase
from xlt.tasks.catalogue import MASKED_LM, TARGET, TASKS, get_task
from xlt.tasks.record import Recipe, Task


class Arm(BaseModel):
    """A phase-2 model: the tasks it is trained on, together (none for the baseline), and its targets (else all).

    ``masked_lm`` trains masked LM on multilingual text along with them. ``translated`` are the languages of
    machine-translated training sets that stand in for the English ones. ``licensed`` are those of its tasks that it
    does without where their data is absent; ``label`` is then what it is called instead of its name in the tier.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    intermediate: list[str] = []
    targets: list[str] = [task.key for task in TARGET]
    masked_lm: bool = False
    translated: list[str] = []
    licensed: list[str] = []
    label: str = ""

    @property
    def train(self) -> tuple[str, ...]:
        """All that phase 2 trains."""
        return (*self.intermediate, *((MASKED_LM.key,) if self.masked_lm else ()))


class SourcePlan(BaseModel):
    """What a tier does on one source: its backbone, its arms by name, and its changes to the catalogue's recipes.

    ``recipes`` has keys of tasks, names of arms that train several tasks (masked LM is one), and ``default`` for all.
    ``parameters`` is how many the backbone has, 0 if not known: estimates of disk rest on it, nothing else.
    ``collapse_after`` is the share of a training after which it is given up, and tried once more, if on the English
    dev data it never was above chance; 0: nobody looks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Backbone
    arms: dict[str, Arm] = {}
    recipes: dict[str, dict[str, float | int]] = {}
    parameters: int = 0
    collapse_after: float = Field(default=0.0, ge=0, le=1)


class Tier(BaseModel):
    """A tier: what is done on each source, or the name of another source on which the same is done.

    ``seeds`` are those that its results are of; a grid has one of them.
    ``threads`` is the number of CPU threads of a run (0: as many as torch likes), whatever the machine has: sums
    depend on it. ``processes`` is how many runs are made side by side, where there are as many cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    threads: int = 0
    processes: int = 1
    seeds: list[int] = Field(default=[0], min_length=1)
    sources: dict[str, SourcePlan]

    @field_validator("sources", mode="before")
    @classmethod
    def _by_name(cls, sources: Any) -> Any:
        if not isinstance(sources, dict):
            return sources
        return {name: sources.get(plan, plan) if isinstance(plan, str) else plan for name, plan in sources.items()}

    def run_threads(self, phase: Phase) -> int:
        """The CPU threads of one run. All others wait for phase 1: it has the threads of all processes."""
        return self.threads * (self.processes if phase == "pretrain" else 1)

    def plan(self, source: str) -> SourcePlan:
        """What the tier does on ``source``.

        Raises:
            UsageFault: the tier does not run on that source.
        """
        if source not in self.sources:
            raise UsageFault(
                f"The tier '{self.name}' does not run on the source '{source}'.",
                why=f"It runs on: {', '.join(self.sources)}.",
                fix=f"xlt reproduce --tier {self.name} --source {next(iter(self.sources))}",
            )
        return self.sources[source]

    def task(self, key: str, source: str) -> Task:
        """The catalogue's record with this tier's recipe for ``source``."""
        return dataclasses.replace(get_task(key), recipe=self.recipe(key, source))

    def recipe(self, key: str, source: str) -> Recipe:
        """The recipe of a task, or of the joint training of an arm, on ``source``."""
        recipes = self.plan(source).recipes
        changes: dict[str, Any] = {**recipes.get("default", {}), **recipes.get(key, {})}
        if changes.get("steps"):
            changes["epochs"] = 0
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
    """The tier of that name, or the tier in a TOML file whose path is given.

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
            for key in {key for arm in plan.arms.values() for key in (*arm.intermediate, *arm.targets)}:
                get_task(key)
            for key in plan.recipes:
                if key != "default" and key not in plan.arms:
                    get_task(key)
                tier.recipe(key, source)
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise UsageFault(
            f"'{name}' is not a tier.",
            why=str(error),
            fix="Compare it with artifact/tiers/smoke.toml.",
        ) from error
    return tier
