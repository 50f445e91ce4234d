"""Tiers as data (``artifact/tiers``): which arms and targets, which backbone, which recipes."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from xlt.artifact import artifact_root
from xlt.errors import UsageFault
from xlt.frozen import Frozen
from xlt.numerics import Numerics
from xlt.pipeline.spec import Backbone, Setting
from xlt.strict_json import read_bytes, reason
from xlt.tasks.adversarial import Adversarial
from xlt.tasks.catalogue import MASKED_LM, TARGET, TASKS, get_task
from xlt.tasks.record import Recipe

GIGABYTE = 10**9


def _check_adversarial(recipes: Any) -> Any:
    """The ``recipes``, once what they say of adversarial training was understood; of several types pydantic would name
    the first one only."""
    for key, recipe in recipes.items() if isinstance(recipes, dict) else ():
        if isinstance(recipe, dict) and (given := recipe.get("adversarial")):
            try:
                Adversarial.of(given)
            except ValueError as error:
                raise ValueError(f"the recipe '{key}': {error}") from error
    return recipes


Recipes = Annotated[dict[str, dict[str, Setting]], BeforeValidator(_check_adversarial)]


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
    source_language: str = ""
    """The language that the targets are trained in, instead of English (I. Turc et al., Revisiting the Primacy of
    English in Zero-shot Cross-lingual Transfer, 2021); their training sets lie where translations do."""
    licensed: list[str] = []
    """Those of the tasks that are left out where their data is absent, because not everybody may have it."""
    label: str = ""
    """What the arm is called once licensed tasks were left out; else empty, and it is called as in the tier."""
    part: str = ""
    """The part of the tier that it belongs to; empty in a tier without parts."""
    backbone: Backbone | None = None
    """Its own encoder, where it is not the tier's."""
    recipes: Recipes = {}
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
    memory: float = Field(default=0.0, ge=0)
    """The memory that one of its runs takes at most on a CPU, in GB; 0 where nobody measured it."""


class SourcePlan(Frozen):
    """What a tier does on one source."""

    backbone: Backbone
    """The encoder that every arm starts from."""
    arms: dict[str, Arm] = {}
    """The arms by name."""
    parts: dict[str, Part] = {}
    """The parts of the tier by name, where it has several."""
    recipes: Recipes = {}
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
    """How many runs are made in parallel, where the machine has the cores and the memory for as many."""
    accumulation: int = Field(default=1, ge=1)
    """The micro-batches that a CPU computes each step in, to need less memory; a GPU computes whole batches."""
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
                fix=f"--source {next(iter(self.sources))}",
            )
        return self.sources[source]

    def chosen_parts(self, source: str, asked: Collection[str]) -> set[str]:
        """The parts that are ``asked`` for, or all that need not be; ``UsageFault`` for one that is not there."""
        parts = self.plan(source).parts
        if unknown := [name for name in asked if name not in parts]:
            raise UsageFault(
                f"The tier '{self.name}' has no part '{unknown[0]}'.",
                why="\n".join(f"{name}: {each.about}." for name, each in parts.items()) or "It has no parts.",
                fix=_which_part(unknown[0], parts) if parts else "Leave --part away.",
            )
        return {*asked} or {name for name, part in parts.items() if not part.on_request}

    def known_parts(self, source: str, names: Collection[str]) -> set[str]:
        """Those of ``names`` that are parts of this tier."""
        return {*names} & {*self.plan(source).parts}

    def runs_at_once(
        self, source: str, parts: Collection[str], *, cores: int, free: int | None, larger: bool = False
    ) -> tuple[int, str]:
        """How many runs of the ``parts`` a machine makes in parallel on its CPU, and in words why not more.

        ``free`` are the bytes of memory that it has left (None: not known), and ``larger`` says that a model stands in
        the place of the tier's that may need more of it.
        """
        plan = self.plan(source)
        if cores < self.processes:
            most, why = max(1, cores), f"the machine has {cores} core{'s' if cores > 1 else ''}"
        else:
            most, why = self.processes, "as the tier says"
        own = {arm.part for arm in plan.arms.values() if arm.backbone}
        sizes = {name: 0.0 if larger and name not in own else plan.parts[name].memory for name in parts}
        if unknown := [name for name, size in sizes.items() if not size]:
            if most > 1:
                why = f"nobody measured how much memory one takes with this model (part {', '.join(sorted(unknown))})"
            return 1, why
        if sizes and free is not None and free < most * (needed := max(sizes.values())) * GIGABYTE:
            why = f"one takes up to {needed:g} GB of memory, and {free / GIGABYTE:.1f} GB are free"
            return max(1, int(free / GIGABYTE / needed)), why
        return most, why

    def recipe(self, key: str, source: str, arm: Arm | None = None) -> Recipe:
        """The recipe of a task, or of the joint training of an arm, on ``source``."""
        own, recipes = arm.recipes if arm else {}, self.plan(source).recipes
        changes: dict[str, Any] = {}
        for each in (recipes.get("default"), recipes.get(key), own.get("default"), own.get(key)):
            changes |= each or {}
        if changes.get("steps"):
            changes["epochs"] = 0  # a recipe ends by one of the two
        return dataclasses.replace(TASKS[key].recipe if key in TASKS else Recipe(), **changes)


def _which_part(name: str, parts: Collection[str]) -> str:
    close = get_close_matches(name, parts, n=1)
    return f"--part {close[0]}" if close else "Name one of these parts."


def use_threads(count: int) -> None:
    """Compute with ``count`` CPU threads (0: as before), unless OMP_NUM_THREADS says otherwise."""
    import torch

    if count and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count)


def tier_names() -> list[str]:
    """The tiers in ``artifact/tiers``."""
    return sorted(path.stem for path in (artifact_root() / "tiers").glob("*.toml"))


def read_tier(name: str) -> Tier:
    """The tier of that name, or in a TOML file whose path is given, or a study in the size of a tier (``Q3-smoke``).

    Raises:
        UsageFault: there is none, or the file is not a tier.
    """
    path = Path(name) if name.endswith(".toml") else artifact_root() / "tiers" / f"{name}.toml"
    if not path.is_file():
        from xlt.pipeline.studies import study_tier  # a study is made of a tier

        if study := study_tier(name):
            return study
        raise UsageFault(
            f"There is no tier '{name}'.",
            why=f"Tiers: {', '.join(tier_names())}; a study's in the size of one, as Q1-core; or a TOML file's path.",
            fix="--tier smoke",
        )
    try:
        tier = Tier.model_validate(tomllib.loads(read_bytes(path).decode("utf-8")))
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
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageFault(
            f"'{name}' is not a tier.",
            why=f"{reason(error)}.",
            fix="Compare it with artifact/tiers/smoke.toml.",
        ) from error
    return tier
