"""The grid: all runs of a tier, in an order in which every run comes after the one it starts from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from xlt.data.rows import fingerprint
from xlt.data.source import Source
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.spec import Phase, RunSpec, SourceSpec, recipe_values
from xlt.pipeline.tiers import Tier
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import Recipe, Split, Task

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
                    "train": list(run.train),
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
    """Builds the specs of a tier; the fingerprints of the rows are computed once.

    Without ``fingerprints`` no data is read: the specs show what there is to do, and their hashes name no run.
    """

    def __init__(
        self, tier: Tier, source: Source, *, seed: int, precision: Precision, fingerprints: bool = True
    ) -> None:
        self.tier = tier
        self.source = source
        self.seed = seed
        self.precision = precision
        self.fingerprints = fingerprints
        self.plan = tier.plan(source.name)
        self._fingerprint = lru_cache(maxsize=None)(self._uncached_fingerprint)

    def grid(self) -> Grid:
        """All runs of the tier: phase 1 where the backbone is made on the spot, phase 2 of all arms, then the targets.

        A target whose training is that of a phase-2 model (NLI's, of MNLI's) is scored with that model: the same
        training is never done twice.
        """
        runs: list[RunSpec] = []
        pretrained = None
        if not self.plan.backbone.name:
            runs.append(self.spec("pretrain", "mlm", "", (MASKED_LM.key,), (), None, recipe_of=MASKED_LM.key))
            pretrained = runs[0].hash
        parents = dict.fromkeys(self.plan.arms, pretrained)
        trained: dict[str, str] = {}
        for name, arm in self.plan.arms.items():
            if train := tuple(arm.intermediate):
                joint = name if len(train) > 1 else train[0]
                runs.append(self.spec("intermediate", name, name, train, train, pretrained, recipe_of=joint))
                parents[name] = trained[_training(runs[-1])] = runs[-1].hash
        for name, arm in self.plan.arms.items():
            for train, targets in self._groups(arm.targets):
                title = f"{name}.{'+'.join(targets)}"
                run = self.spec("target", title, name, train, targets, parents[name], recipe_of=targets[0])
                if train and (same := trained.get(_training(run))):
                    run = self.spec("target", title, name, (), targets, same, recipe_of=targets[0])
                runs.append(run)
        return Grid(
            self.tier.name,
            SourceSpec(name=self.source.name, settings=self.source.settings),
            self.seed,
            tuple(runs),
        )

    def _groups(self, targets: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Targets that share a training set (or need none) share a run: the set and they."""
        groups: dict[str | None, list[str]] = {}
        for key in targets:
            groups.setdefault(get_task(key).trains_on, []).append(key)
        return (((train,) if train else (), tuple(keys)) for train, keys in groups.items())

    def spec(
        self,
        phase: Phase,
        name: str,
        arm: str,
        train: tuple[str, ...],
        evaluate: tuple[str, ...],
        parent: str | None,
        *,
        recipe_of: str,
        languages: Collection[str] = (),
        splits: Collection[str] = (),
    ) -> RunSpec:
        """The spec of one run by the recipe of ``recipe_of``; ``languages`` and ``splits``, where given, restrict what
        is evaluated."""
        recipe = self.tier.recipe(recipe_of, self.source.name)
        return RunSpec(
            phase=phase,
            name=name,
            arm=arm,
            train=train,
            evaluate=evaluate,
            backbone=self.plan.backbone,
            parent=parent,
            source=SourceSpec(name=self.source.name, settings=self.source.settings),
            data=dict(self._data(train, recipe, evaluate, languages, splits)),
            recipe=recipe_values(recipe),
            max_lengths={key: self._task(key).recipe.max_length for key in dict.fromkeys((*train, *evaluate))},
            seed=self.seed,
            precision=self.precision,
        )

    def _data(
        self,
        train: tuple[str, ...],
        recipe: Recipe,
        evaluate: tuple[str, ...],
        languages: Collection[str],
        splits: Collection[str],
    ) -> Iterator[tuple[str, str]]:
        if not self.fingerprints:
            return
        for key in train:
            if key == MASKED_LM.key:
                yield "mlm/train/all", self._fingerprint(key, "train", "all")
                continue
            read: tuple[Split, ...] = ("train", "dev") if recipe.evaluate_every else ("train",)
            for split in read:
                yield f"{key}/{split}/en", self._fingerprint(key, split, "en")
        for key in evaluate:
            for split, language in evaluated(self._task(key), self.source, languages, splits):
                yield f"{key}/{split}/{language}", self._fingerprint(key, split, language)

    def _task(self, key: str) -> Task:
        return self.tier.task(key, self.source.name)

    def _uncached_fingerprint(self, key: str, split: Split, language: str) -> str:
        if key == MASKED_LM.key:
            return fingerprint(self.source.pretraining_text())
        return fingerprint(self.source.rows(self._task(key), split, language))


def _training(run: RunSpec) -> str:
    """What decides the weights that a run ends with."""
    lengths = {key: run.max_lengths[key] for key in run.train}
    return json.dumps([run.parent, run.train, run.recipe, lengths], sort_keys=True)


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
