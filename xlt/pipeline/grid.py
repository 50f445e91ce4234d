"""The grid: all runs of a tier, in an order in which every run comes after the one it starts from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from xlt.data.rows import fingerprint
from xlt.data.source import Source, evaluated, training_rows
from xlt.pipeline.checkpoint import identified, pinned
from xlt.pipeline.spec import Phase, RunSpec, SourceSpec, recipe_values
from xlt.pipeline.tiers import Arm, Tier
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import ENGLISH, Split, Task

if TYPE_CHECKING:
    from xlt.train.engine import EngineName, Precision


@dataclass(frozen=True, slots=True)
class Grid:
    """A tier on one source with one seed, as runs.

    ``collapsed`` are first attempts whose place in ``runs`` a second one has taken; ``left_out`` says by arm what of
    the tier is not in the grid because its data is absent.
    """

    tier: str
    source: SourceSpec
    seed: int
    runs: tuple[RunSpec, ...]
    collapsed: tuple[RunSpec, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)

    def find(self, run_hash: str) -> RunSpec:
        """The run with that hash."""
        return next(run for run in self.runs if run.hash == run_hash)

    def below(self, run_hash: str) -> set[str]:
        """The hashes of all runs that start from that run, or from one that does."""
        found: set[str] = set()
        for run in self.runs:
            if run.parent in {run_hash, *found}:
                found.add(run.hash)
        return found

    def retry(self, collapsed: RunSpec) -> Grid:
        """The grid with a second attempt in the place of a run, which all that started from the first start from."""
        renamed = {collapsed.hash: collapsed.model_copy(update={"retry": 1})}
        for run in self.runs:
            if run.parent in renamed:
                renamed[run.hash] = run.model_copy(update={"parent": renamed[run.parent].hash})
        runs = tuple(renamed.get(run.hash, run) for run in self.runs)
        return replace(self, runs=runs, collapsed=(*self.collapsed, collapsed))

    def as_json(self) -> dict[str, Any]:
        """What ``RESULTS/grid.json`` holds: ``collapsed`` and ``left_out`` where there is any."""
        document = {
            "format": 1,
            "tier": self.tier,
            "source": self.source.model_dump(),
            "seed": self.seed,
            "runs": [_listed(run) for run in self.runs],
        }
        rest = {"collapsed": [_listed(run) for run in self.collapsed], "left_out": self.left_out}
        return document | {name: value for name, value in rest.items() if value}

    def text(self) -> str:
        """The same as text."""
        return json.dumps(self.as_json(), indent=1, sort_keys=True) + "\n"


def _listed(run: RunSpec) -> dict[str, Any]:
    return {
        "folder": run.folder,
        "hash": run.hash,
        "phase": run.phase,
        "arm": run.arm,
        "train": list(run.train),
        "evaluate": list(run.evaluate),
        "parent": run.parent,
    }


def present_arms(arms: Mapping[str, Arm], source: Source) -> tuple[dict[str, Arm], dict[str, str]]:
    """The arms whose optional data ``source`` has, by their names in the tier, and what falls away, by the same.

    A licensed task whose training data is absent is left out of its arm, which is then labelled with the number of
    those that are left (``multi8``); an arm with nothing left, or without its translated data, is left out itself.
    """
    present: dict[str, Arm] = {}
    left_out: dict[str, str] = {}
    for name, arm in arms.items():
        absent = [key for key in arm.licensed if not source.languages(get_task(key), "train")]
        untranslated = [
            f"{key} in {language}"
            for key in arm.intermediate
            for language in arm.translated
            if language not in source.languages(get_task(key), "train")
        ]
        kept = [key for key in arm.intermediate if key not in absent]
        if untranslated:
            left_out[name] = f"no machine-translated training data is given for {', '.join(untranslated)}"
        elif absent:
            left_out[name] = f"no training data for {', '.join(absent)}, which is licensed"
        if kept and absent and not untranslated:
            label = f"{name}{len(kept)}"
            left_out[name] += f"; trained on the other {len(kept)} tasks as {label}"
            present[name] = arm.model_copy(update={"intermediate": kept, "label": label})
        elif name not in left_out:
            present[name] = arm
    return present, left_out


class GridBuilder:
    """Builds the specs of a tier; the fingerprints of the rows are computed once.

    Without ``fingerprints`` no data and no model is read: the specs show what there is to do, and their hashes name no
    run.
    """

    def __init__(
        self,
        tier: Tier,
        source: Source,
        *,
        seed: int,
        precision: Precision,
        fingerprints: bool = True,
        engine: EngineName = "deepspeed",
    ) -> None:
        self.tier = tier
        self.source = source
        self.seed = seed
        self.precision = precision
        self.engine = engine
        self.fingerprints = fingerprints
        self.plan = tier.plan(source.name)
        self.backbone = self.plan.backbone
        if self.backbone.name and not self.backbone.digest:
            self.backbone = identified(self.backbone) if fingerprints else pinned(self.backbone)
        self._fingerprint = lru_cache(maxsize=None)(self._uncached_fingerprint)

    def grid(self) -> Grid:
        """All runs of the tier: phase 1 where the backbone is made on the spot, phase 2 of all arms, then the targets.

        A target whose training is that of a phase-2 model (NLI's, of MNLI's) is scored with that model: the same
        training is never done twice.
        """
        runs: list[RunSpec] = []
        pretrained = None
        if not self.backbone.name:
            runs.append(self.spec("pretrain", "mlm", "", (MASKED_LM.key,), (), None, recipe_of=MASKED_LM.key))
            pretrained = runs[0].hash
        arms, left_out = present_arms(self.plan.arms, self.source)
        parents = dict.fromkeys(arms, pretrained)
        trained: dict[str, str] = {}
        for name, arm in arms.items():
            if train := arm.train:
                label = arm.label or name
                joint = name if len(train) > 1 else train[0]
                run = self.spec(
                    *("intermediate", label, label, train, tuple(arm.intermediate), pretrained),
                    recipe_of=joint,
                    translated=arm.translated,
                )
                runs.append(run)
                parents[name] = trained[_training(run)] = run.hash
        for name, arm in arms.items():
            label = arm.label or name
            for train, targets in self._groups(arm.targets):
                title = f"{label}.{'+'.join(targets)}"
                run = self.spec("target", title, label, train, targets, parents[name], recipe_of=targets[0])
                if train and (same := trained.get(_training(run))):
                    run = self.spec("target", title, label, (), targets, same, recipe_of=targets[0])
                runs.append(run)
        return Grid(
            self.tier.name,
            SourceSpec(name=self.source.name, settings=self.source.settings),
            self.seed,
            tuple(runs),
            left_out=left_out,
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
        translated: Sequence[str] = (),
    ) -> RunSpec:
        """The spec of one run by the recipe of ``recipe_of``; ``languages`` and ``splits``, where given, restrict what
        is evaluated. Whether it collapses can be seen where all that it trains has dev data."""
        recipe = self.tier.recipe(recipe_of, self.source.name)
        own = [get_task(key) for key in train if key != MASKED_LM.key]
        collapse_after = self.plan.collapse_after if own and all("dev" in task.files for task in own) else 0.0
        return RunSpec(
            phase=phase,
            name=name,
            arm=arm,
            train=train,
            evaluate=evaluate,
            backbone=self.backbone,
            parent=parent,
            source=SourceSpec(name=self.source.name, settings=self.source.settings),
            data={
                **self._training_data(train, translated, dev=bool(recipe.evaluate_every or collapse_after)),
                **self._evaluation_data(evaluate, languages, splits),
            },
            recipe=recipe_values(recipe),
            max_lengths={key: self._task(key).recipe.max_length for key in dict.fromkeys((*train, *evaluate))},
            seed=self.seed,
            precision=self.precision,
            engine=self.engine if train else "deepspeed",
            translated=tuple(translated),
            collapse_after=collapse_after,
        )

    def _training_data(self, train: Sequence[str], translated: Sequence[str], *, dev: bool) -> dict[str, str]:
        read: list[tuple[str, Split, str]] = []
        for key in train:
            masked = key == MASKED_LM.key
            read.append((key, "train", "all" if masked else "+".join(translated) or ENGLISH))
            if dev and not masked:
                read.append((key, "dev", ENGLISH))
        return self._fingerprints(read)

    def _evaluation_data(
        self, evaluate: Sequence[str], languages: Collection[str], splits: Collection[str]
    ) -> dict[str, str]:
        tasks = [self._task(key) for key in evaluate] if self.fingerprints else []
        return self._fingerprints(
            (task.key, *pair) for task in tasks for pair in evaluated(task, self.source, languages, splits)
        )

    def _fingerprints(self, read: Iterable[tuple[str, Split, str]]) -> dict[str, str]:
        return {"/".join(each): self._fingerprint(*each) for each in read} if self.fingerprints else {}

    def _task(self, key: str) -> Task:
        return self.tier.task(key, self.source.name)

    def _uncached_fingerprint(self, key: str, split: Split, language: str) -> str:
        if split == "train":
            return fingerprint(training_rows(self.source, self._task(key), language.split("+")))
        return fingerprint(self.source.rows(self._task(key), split, language))


def _training(run: RunSpec) -> str:
    """What decides the weights that a run ends with."""
    lengths = {key: run.max_lengths[key] for key in run.train}
    return json.dumps([run.parent, run.train, run.recipe, lengths, run.translated], sort_keys=True)
