"""What determines the numbers of a run. Its hash names the run's folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any, Literal

from xlt.frozen import Frozen
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe, Task

Phase = Literal["pretrain", "intermediate", "target"]


class Backbone(Frozen):
    """The encoder: a public checkpoint by ``name``, or a fresh XLM-R of the ``config`` given.

    ``revision`` is the commit of a checkpoint on the hub, ``digest`` that of the bytes of its configuration, tokenizer
    and weights. ``vocabulary`` is the number of SentencePiece pieces trained for a fresh one. ``retrieval_layer`` is
    the block whose output is pooled for retrieval (14 of 24 in the paper's code).
    """

    name: str = ""
    revision: str = ""
    digest: str = ""
    config: dict[str, int | float] = {}
    vocabulary: int = 0
    retrieval_layer: int = 14


class SourceSpec(Frozen):
    """Which source of rows, with all its settings; never a path."""

    name: str
    settings: dict[str, int | str] = {}


class RunSpec(Frozen):
    """One training, one evaluation, or both.

    ``train`` lists the tasks whose English training sets are trained on, together if several, and ``recipe`` says
    how; ``evaluate`` lists the tasks scored afterwards, ``max_lengths`` has an entry for each of both. ``parent`` is
    the hash of the run whose model this one starts from, ``data`` the fingerprint of every set of rows it reads, as
    ``task/split/language``. The number of processes and the ZeRO stage are not here: they change how a run is
    computed, not what.

    ``translated`` are the languages of the machine-translated training sets that stand in for the English ones.
    ``collapse_after`` is the share of the training after which it is given up if it never was above chance on the
    English dev data (0: nobody looks); ``retry`` 1 is the second attempt after that, with a seed derived from ``seed``.
    """

    format: Literal[1] = 1
    phase: Phase
    name: str
    arm: str
    train: tuple[str, ...]
    evaluate: tuple[str, ...] = ()
    backbone: Backbone
    parent: str | None
    source: SourceSpec
    data: dict[str, str]
    recipe: dict[str, float | int]
    max_lengths: dict[str, int] = {}
    seed: int
    precision: Literal["fp32", "bf16"]
    engine: Literal["deepspeed", "graph"] = "deepspeed"
    translated: tuple[str, ...] = ()
    collapse_after: float = 0.0
    retry: Literal[0, 1] = 0

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
        """The fields that are not at their defaults, those of the recipe included.

        So a field that is added later renames no run, as long as its default says what was done before.
        """
        defaults = recipe_values(Recipe())
        recipe = {name: value for name, value in self.recipe.items() if value != defaults.get(name)}
        return {**self.model_dump(mode="json", exclude_defaults=True), "recipe": recipe}

    def canonical(self) -> str:
        """The JSON that is stored: every field."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, indent=1)

    def training_recipe(self) -> Recipe:
        """The recipe as the record that training uses."""
        values: dict[str, Any] = dict(self.recipe)
        return Recipe(**values)

    def task(self, key: str) -> Task:
        """The catalogue's record of a task that is trained on or scored, with the recipe of this run."""
        recipe = replace(self.training_recipe(), max_length=self.max_lengths[key])
        return replace(get_task(key), recipe=recipe)


def recipe_values(recipe: Recipe) -> dict[str, float | int]:
    """A recipe as JSON values."""
    return asdict(recipe)
