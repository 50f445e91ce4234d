"""The grid: all runs of a tier, in an order in which every run comes after the one it starts from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from xlt.data.rows import fingerprint
from xlt.data.source import Source
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.spec import Phase, RunSpec, SourceSpec, recipe_values
from xlt.pipeline.tiers import Tier
from xlt.tasks.catalogue import MASKED_LM
from xlt.tasks.record import Split, Task

if TYPE_CHECKING:
    from xlt.train.engine import Precision

EVALUATED_SPLITS: tuple[Split, ...] = ("dev", "test")


@dataclass(frozen=True, slots=True)
class Grid:
    """A tier on one source with one seed, as runs."""

    tier: str
    source: SourceSpec
    seed: int
    runs: tuple[RunSpec, ...]

    def find(self, run_hash: str) -> RunSpec:
        """The run with that hash."""
        return next(run for run in self.runs if run.hash == run_hash)

    def as_json(self) -> dict[str, Any]:
        """What ``RESULTS/grid.json`` holds."""
        return {
            "format": 1,
            "tier": self.tier,
            "source": self.source.model_dump(),
            "seed": self.seed,
            "runs": [
                {
                    "folder": run.folder,
                    "hash": run.hash,
                    "phase": run.phase,
                    "arm": run.arm,
                    "train": run.train,
                    "evaluate": list(run.evaluate),
                    "parent": run.parent,
                }
                for run in self.runs
            ],
        }

    def text(self) -> str:
        """The same as text."""
        return json.dumps(self.as_json(), indent=1, sort_keys=True) + "\n"


class GridBuilder:
    """Builds the specs of a tier; the fingerprints of the rows are computed once."""

    def __init__(self, tier: Tier, source: Source, *, seed: int, precision: Precision) -> None:
        self.tier = tier
        self.source = source
        self.seed = seed
        self.precision = precision
        self.plan = tier.plan(source.name)
        self._fingerprint = lru_cache(maxsize=None)(self._uncached_fingerprint)

    def grid(self) -> Grid:
        """All runs of the tier: phase 1 where the backbone is made on the spot, then every arm with its targets."""
        runs: list[RunSpec] = []
        pretrained = None
        if not self.plan.backbone.name:
            runs.append(self.spec("pretrain", "mlm", "", MASKED_LM.key, (), None))
            pretrained = runs[0].hash
        for arm, intermediate in self.tier.arms.items():
            parent = pretrained
            for key in intermediate:
                runs.append(self.spec("intermediate", key, arm, key, (key,), parent))
                parent = runs[-1].hash
            for target in self.tier.targets:
                trains = self.tier.task(target, self.source.name).trains_on
                runs.append(self.spec("target", f"{arm}.{target}", arm, target if trains else None, (target,), parent))
        return Grid(
            self.tier.name,
            SourceSpec(name=self.source.name, settings=self.source.settings),
            self.seed,
            tuple(runs),
        )

    def spec(
        self,
        phase: Phase,
        name: str,
        arm: str,
        train: str | None,
        evaluate: tuple[str, ...],
        parent: str | None,
        *,
        languages: Collection[str] = (),
        splits: Collection[str] = (),
    ) -> RunSpec:
        """The spec of one run; ``languages`` and ``splits``, where given, restrict what is evaluated."""
        recipe_task = self.tier.task(train or evaluate[0], self.source.name)
        return RunSpec(
            phase=phase,
            name=name,
            arm=arm,
            train=train,
            evaluate=evaluate,
            backbone=self.plan.backbone,
            parent=parent,
            source=SourceSpec(name=self.source.name, settings=self.source.settings),
            data=dict(self._data(train, evaluate, languages, splits)),
            recipe=recipe_values(recipe_task.recipe),
            seed=self.seed,
            precision=self.precision,
        )

    def _data(
        self,
        train: str | None,
        evaluate: tuple[str, ...],
        languages: Collection[str],
        splits: Collection[str],
    ) -> Iterator[tuple[str, str]]:
        if train == MASKED_LM.key:
            yield "mlm/train/all", self._fingerprint(MASKED_LM.key, "train", "all")
        elif train:
            task = self.tier.task(train, self.source.name)
            trained = self.tier.task(task.trains_on or task.key, self.source.name)
            read: tuple[Split, ...] = ("train", "dev") if task.recipe.evaluate_every else ("train",)
            for split in read:
                yield f"{trained.key}/{split}/en", self._fingerprint(trained.key, split, "en")
        for key in evaluate:
            task = self.tier.task(key, self.source.name)
            for split, language in evaluated(task, self.source, languages, splits):
                yield f"{key}/{split}/{language}", self._fingerprint(key, split, language)

    def _uncached_fingerprint(self, key: str, split: Split, language: str) -> str:
        if key == MASKED_LM.key:
            return fingerprint(self.source.pretraining_text())
        return fingerprint(self.source.rows(self.tier.task(key, self.source.name), split, language))


def evaluated(
    task: Task, source: Source, languages: Collection[str] = (), splits: Collection[str] = ()
) -> list[tuple[Split, str]]:
    """Every labelled split and language of ``task`` that the source has, among those asked for.

    Raises:
        UsageFault: a language or split asked for is not there.
        DataFault: there is none.
    """
    pairs = [(split, language) for split in EVALUATED_SPLITS for language in source.languages(task, split)]
    if not pairs:
        raise DataFault(
            f"The source '{source.name}' has no dev or test data for '{task.key}'.",
            mend=f"xlt tasks show {task.key}",
        )
    for asked, known, noun in (
        (languages, dict.fromkeys(language for _, language in pairs), "language"),
        (splits, dict.fromkeys(split for split, _ in pairs), "split"),
    ):
        if unknown := [value for value in asked if value not in known]:
            close = difflib.get_close_matches(unknown[0], list(known), n=1, cutoff=0.5)
            raise UsageFault(
                f"'{task.key}' has no {noun} '{unknown[0]}' in the source '{source.name}'.",
                why=f"It has: {', '.join(known)}.",
                mend=f"--{noun} {close[0] if close else next(iter(known))}",
            )
    return [
        (split, language)
        for split, language in pairs
        if (not languages or language in languages) and (not splits or split in splits)
    ]
