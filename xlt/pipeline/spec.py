"""What determines the numbers of a run. Its hash names the run's folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace
from typing import Any, Literal

from xlt.frozen import Frozen
from xlt.tasks import own
from xlt.tasks.adversarial import Adversarial
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Pooling, Recipe, Task

Phase = Literal["pretrain", "intermediate", "target"]
Setting = float | int | dict[str, float | int | str]
"""A field of a recipe; adversarial training has settings of its own."""


class Backbone(Frozen):
    """The encoder or decoder: a public checkpoint by its name, or a fresh XLM-R or BLOOM of a given configuration."""

    name: str = ""
    """The checkpoint's name on the hub; empty for a fresh model."""
    revision: str = ""
    """The commit of the checkpoint on the hub."""
    digest: str = ""
    """Sixteen hexadecimal digits of the SHA-256 of the checkpoint's configuration, tokenizer and weights."""
    family: Literal["xlm-roberta", "bloom"] = "xlm-roberta"
    """What a fresh model is: an encoder that masked LM trains, or a decoder that learns each next token."""
    config: dict[str, int | float] = {}
    """The configuration of a fresh model, where it differs from the library's defaults."""
    vocabulary: int = 0
    """The number of SentencePiece pieces that are trained for a fresh model."""
    retrieval_layer: int = 14
    """The block whose output is pooled for retrieval (14 of 24 in the paper's code)."""
    pooling: Pooling = "mean"
    """The sentence vector of retrieval: the mean over all tokens (as in the paper's code), or the first or the last
    token's."""
    prefix: str = ""
    """What retrieval puts before every sentence (``query: `` for E5)."""


class SourceSpec(Frozen):
    """The source of the rows."""

    name: str
    """``world``, ``files`` or ``hub``."""
    settings: dict[str, int | str] = {}
    """All that determines the rows beside the data itself; never a path."""


class RunSpec(Frozen):
    """One training, one evaluation, or both.

    The number of processes and the ZeRO stage are not here: they change how a run is computed, not what.
    """

    format: Literal[1] = 1
    """The version of this record."""
    phase: Phase
    """The phase of the paper that the run belongs to."""
    name: str
    """What people call the run."""
    arm: str
    """The arm that the run belongs to; empty for phase 1, from which all arms start."""
    train: tuple[str, ...]
    """The tasks whose training sets are trained on, together if there are several."""
    evaluate: tuple[str, ...] = ()
    """The tasks that are scored afterwards."""
    backbone: Backbone
    """The encoder that the grid starts from."""
    parent: str | None
    """The hash of the run whose model this one starts from."""
    source: SourceSpec
    """Where the rows come from."""
    data: dict[str, str]
    """The fingerprint of every set of rows that the run reads, by ``task/split/language``."""
    recipe: dict[str, Setting]
    """How the run trains (see ``Recipe``)."""
    max_lengths: dict[str, int] = {}
    """The longest sequence of every task that is trained on or scored, in tokens."""
    seed: int
    """The seed of all that is random."""
    precision: Literal["fp32", "bf16"]
    """The numeric type of the computation."""
    engine: Literal["deepspeed", "graph"] = "deepspeed"
    """What computes the optimiser steps."""
    translated: tuple[str, ...] = ()
    """The languages of the training sets, mostly translations, that are used instead of the English ones."""
    collapse_after: float = 0.0
    """The share of the training after which it is given up if no English dev score was above chance; 0 disables it."""
    retry: Literal[0, 1] = 0
    """1 for the second attempt at a run that collapsed; its seed is derived from ``seed``."""
    tasks: dict[str, dict[str, Any]] = {}
    """The records of the tasks that are not in the package (``xlt.tasks.own``), without what the other fields say."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of what identifies the run."""
        identity = json.dumps(self.identity(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """The run's folder below ``RESULTS/runs``."""
        return f"{self.phase}/{self.name}-{self.hash}"

    def identity(self) -> dict[str, Any]:
        """The fields that are not at their defaults, the recipe's fields included.

        So a field that is added later renames no run, as long as its default says what was done before.
        """
        defaults = asdict(Recipe())
        recipe = {name: value for name, value in self.recipe.items() if value != defaults.get(name)}
        if isinstance(adversarial := recipe.get("adversarial"), dict):
            neutral = {each.name: each.default for each in fields(Adversarial)}
            recipe["adversarial"] = {name: value for name, value in adversarial.items() if value != neutral.get(name)}
        tasks = {"tasks": own.deciding(self.tasks)} if self.tasks else {}
        return {**self.model_dump(mode="json", exclude_defaults=True), "recipe": recipe, **tasks}

    def canonical(self) -> str:
        """The JSON that is stored: every field."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, indent=1)

    def training_recipe(self) -> Recipe:
        """The recipe as the record that training uses."""
        values: dict[str, Any] = dict(self.recipe)
        return Recipe(**values)

    def number(self, setting: str) -> float:
        """A setting of the recipe that is a number; 0 where there is none of that name."""
        value = self.recipe.get(setting, 0)
        return 0 if isinstance(value, dict) else value

    def add_tasks(self) -> None:
        """Make the tasks known to this process that are not in the package.

        Raises:
            ValueError: a record is none.
            UsageFault: another task of that key is known.
        """
        own.add_tasks([own.task_of(key, record) for key, record in self.tasks.items()], "in spec.json of the run")

    @property
    def adversarial(self) -> str:
        """The method of adversarial training; empty where there is none."""
        settings = self.recipe.get("adversarial")
        return str(settings.get("method", "")) if isinstance(settings, dict) else ""

    @property
    def title(self) -> str:
        """The name that people are shown, with the method of adversarial training."""
        return self.name + (f" ({self.adversarial})" if self.adversarial else "")

    def task(self, key: str) -> Task:
        """The catalogue's record of a task that is trained on or scored, with the recipe of this run."""
        recipe = replace(self.training_recipe(), max_length=self.max_lengths[key])
        return replace(get_task(key), recipe=recipe)
