"""The grid: all runs of a tier, in an order in which every run comes after the one it starts from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xlt.data.rows import fingerprint
from xlt.data.source import Source, evaluated, training_rows
from xlt.pipeline.checkpoint import identified, pinned
from xlt.pipeline.spec import Backbone, Phase, RunSpec, SourceSpec
from xlt.pipeline.tiers import Arm, Tier
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.own import records_of
from xlt.tasks.record import ENGLISH, Recipe, Split

if TYPE_CHECKING:
    from xlt.train.engine import EngineName, Precision

# What grid.json says of a run beside its folder and its hash.
_LISTED = {"phase", "arm", "train", "evaluate", "parent"}
# Options of ``xlt reproduce`` that decide how its runs are computed and what is kept of them.
REPEATED = (
    *("engine", "zero", "gpus", "processes", "accumulation", "checkpoint-seconds", "keep-checkpoints", "shard"),
    *("search", "executor", "nodes"),
)


@dataclass(frozen=True, slots=True)
class Grid:
    """A tier on one source with one seed, as runs.

    ``collapsed`` are first attempts that a retry has replaced in ``runs``; ``left_out`` says by arm what of the tier is
    not in the grid because its data is absent. ``parts`` are those of the tier that it has, and ``model`` is the name
    of the backbone that was put in the place of the tier's. ``options`` are those of ``REPEATED`` that were given, with
    their values, so that whoever is to repeat the command is told all of it.
    """

    tier: str
    source: SourceSpec
    seed: int
    runs: tuple[RunSpec, ...]
    collapsed: tuple[RunSpec, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    model: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def find(self, run_hash: str) -> RunSpec:
        """The run with that hash."""
        return next(run for run in self.runs if run.hash == run_hash)

    def below(self, run_hash: str) -> set[str]:
        """The hashes of all runs that start from that run, directly or through others."""
        found: set[str] = set()
        for run in self.runs:
            if run.parent in {run_hash, *found}:
                found.add(run.hash)
        return found

    def retry(self, collapsed: RunSpec) -> Grid:
        """The grid with a second attempt in the place of a run; what started from the first starts from that."""
        renamed = {collapsed.hash: collapsed.model_copy(update={"retry": 1})}
        for run in self.runs:
            if run.parent in renamed:
                renamed[run.hash] = run.model_copy(update={"parent": renamed[run.parent].hash})
        runs = tuple(renamed.get(run.hash, run) for run in self.runs)
        return replace(self, runs=runs, collapsed=(*self.collapsed, collapsed))

    def as_json(self) -> dict[str, Any]:
        """What ``RESULTS/grid.json`` holds: ``collapsed`` and ``left_out`` only where there is something."""
        document: dict[str, Any] = {
            "format": 1,
            "tier": self.tier,
            "source": self.source.model_dump(),
            "seed": self.seed,
            "left_out": self.left_out,
            "parts": list(self.parts),
            "model": self.model,
            "options": self.options,
        }
        for name, runs in (("runs", self.runs), ("collapsed", self.collapsed)):
            document[name] = [
                {"folder": run.folder, "hash": run.hash, **run.model_dump(mode="json", include=_LISTED)} for run in runs
            ]
        optional = ("collapsed", "left_out", "parts", "model", "options")
        return {name: value for name, value in document.items() if value or name not in optional}

    def text(self) -> str:
        """The same as text."""
        return json.dumps(self.as_json(), indent=1, sort_keys=True) + "\n"


def present_arms(arms: Mapping[str, Arm], source: Source) -> tuple[dict[str, Arm], dict[str, str]]:
    """The arms that ``source`` has the data of, by their names in the tier, and what is left out, by the same names.

    A licensed task whose training data is absent is left out of its arm, which is then labelled with the number of
    tasks that are left (``multi8``). An arm is left out itself if no task is left, or if translated data is absent.
    """
    present: dict[str, Arm] = {}
    left_out: dict[str, str] = {}
    for name, arm in arms.items():
        absent = [key for key in arm.licensed if not source.languages(get_task(key), "train")]
        kept = [key for key in arm.intermediate if key not in absent]
        wanted = {(key, language): None for key in arm.intermediate for language in arm.translated}
        if language := arm.source_language:
            wanted |= {(trained, language): None for key in arm.targets if (trained := get_task(key).trains_on)}
        untranslated = [
            f"{key} in {language}"
            for key, language in wanted
            if language not in source.languages(get_task(key), "train")
        ]
        if untranslated:
            left_out[name] = f"no training data is given for {', '.join(untranslated)}"
        elif absent:
            left_out[name] = f"no training data for {', '.join(absent)}, which is licensed"
            if kept:
                label = f"{name}{len(kept)}"
                left_out[name] += f"; trained on the other {len(kept)} tasks as {label}"
                present[name] = arm.model_copy(update={"intermediate": kept, "label": label})
        else:
            present[name] = arm
    return present, left_out


@dataclass
class GridBuilder:
    """Builds the specs of a tier on a source.

    Without ``fingerprints`` no data and no model is read: the specs show what there is to do, and their hashes name no
    run. Of a tier with parts, ``parts`` are built, and ``model`` stands in the place of the tier's backbone.
    """

    tier: Tier
    source: Source
    _: KW_ONLY
    seed: int
    precision: Precision
    fingerprints: bool = True
    engine: EngineName = "deepspeed"
    parts: Collection[str] = ()
    model: str = ""

    def __post_init__(self) -> None:
        self.plan = self.tier.plan(self.source.name)
        self.parts = self.tier.chosen_parts(self.source.name, self.parts)
        backbone = self.plan.backbone
        if self.model:
            backbone = Backbone(name=self.model, retrieval_layer=backbone.retrieval_layer)
        # A part whose arms all have models of their own needs no other.
        asked = [arm for arm in self.plan.arms.values() if arm.part in self.parts]
        self.backbone = backbone if asked and all(arm.backbone for arm in asked) else self._identified(backbone)
        self.source_spec = SourceSpec(name=self.source.name, settings=self.source.settings)
        # Many runs read the same rows, and to read and hash them takes seconds.
        self._known: dict[tuple[object, ...], str] = {}

    def _identified(self, backbone: Backbone) -> Backbone:
        if backbone.name and not backbone.digest:
            return identified(backbone) if self.fingerprints else pinned(backbone)
        return backbone

    def grid(self) -> Grid:
        """All runs of the tier: phase 1 where the backbone is made on the spot, phase 2 of all arms, then the targets.

        A target that would train as a phase-2 model did (NLI trains on MNLI) is scored with that model: no training is
        done twice.
        """
        runs: list[RunSpec] = []
        pretrained = None
        if not self.backbone.name:
            runs.append(self.spec("pretrain", "mlm", MASKED_LM.key, train=(MASKED_LM.key,)))
            pretrained = runs[0].hash
        asked = {name: arm for name, arm in self.plan.arms.items() if arm.part in self.parts or not arm.part}
        arms, left_out = present_arms(asked, self.source)
        parents = dict.fromkeys(arms, pretrained)
        trained: dict[str, str] = {}
        for name, arm in arms.items():
            if train := arm.train:
                label = arm.label or name
                run = self.spec(
                    *("intermediate", label, name if len(train) > 1 else train[0]),
                    arm=label,
                    train=train,
                    evaluate=tuple(arm.intermediate),
                    parent=pretrained,
                    translated=arm.translated,
                    settings=arm,
                )
                runs.append(run)
                parents[name] = trained[_training(run)] = run.hash
        for name, arm in arms.items():
            # Targets that share a training set, or need none, share a run.
            groups: dict[str | None, list[str]] = {}
            for key in arm.targets:
                groups.setdefault(get_task(key).trains_on, []).append(key)
            for train_key, targets in groups.items():
                run = self._target(name, arm, train_key, tuple(targets), parents[name])
                same = trained.get(_training(run)) if train_key else None
                runs.append(self._target(name, arm, None, tuple(targets), same) if same else run)
        parts = tuple(name for name in self.plan.parts if name in self.parts)
        return Grid(
            *(self.tier.name, self.source_spec, self.seed, tuple(runs)),
            left_out=left_out,
            parts=parts,
            model=self.model,
        )

    def _target(
        self, name: str, settings: Arm, train: str | None, targets: tuple[str, ...], parent: str | None
    ) -> RunSpec:
        arm = settings.label or name
        return self.spec(
            *("target", f"{arm}.{'+'.join(targets)}", targets[0]),
            arm=arm,
            settings=settings,
            train=(train,) if train else (),
            evaluate=targets,
            parent=parent,
            translated=[settings.source_language] if train and settings.source_language else [],
        )

    def spec(
        self,
        phase: Phase,
        name: str,
        recipe_of: str,
        *,
        arm: str = "",
        train: tuple[str, ...] = (),
        evaluate: tuple[str, ...] = (),
        parent: str | None = None,
        languages: Collection[str] = (),
        splits: Collection[str] = (),
        translated: Sequence[str] = (),
        settings: Arm | None = None,
    ) -> RunSpec:
        """The spec of one run by the recipe of a task or arm; ``languages`` and ``splits``, where given, restrict what
        is evaluated, and ``settings`` is the arm whose backbone and recipes count."""
        recipe = self.tier.recipe(recipe_of, self.source.name, settings)
        backbone = self._identified(settings.backbone) if settings and settings.backbone else self.backbone
        own = [get_task(key) for key in train if key != MASKED_LM.key]
        # A collapse shows in dev scores: all that is trained must have dev data.
        collapse_after = self.plan.collapse_after if own and all("dev" in task.files for task in own) else 0.0
        selects = bool(own) and bool(recipe.evaluate_every or collapse_after)
        if not selects:
            recipe = replace(recipe, dev_examples=0)  # what a run does not use must not name it
        read: list[tuple[str, Split, str]] = []
        for key in train if self.fingerprints else ():
            masked = key == MASKED_LM.key
            read.append((key, "train", "all" if masked else "+".join(translated) or ENGLISH))
            if not masked and selects:
                read.append((key, "dev", ENGLISH))
        for key in evaluate if self.fingerprints else ():
            read += ((key, *pair) for pair in evaluated(get_task(key), self.source, languages, splits))
        tasks = dict.fromkeys((*train, *evaluate))
        return RunSpec(
            phase=phase,
            name=name,
            arm=arm,
            train=train,
            evaluate=evaluate,
            backbone=backbone,
            parent=parent,
            source=self.source_spec,
            data={"/".join(each): self._fingerprint(*each, recipe) for each in read},
            recipe={name: value for name, value in asdict(recipe).items() if value is not None},
            max_lengths={key: self.tier.recipe(key, self.source.name, settings).max_length for key in tasks},
            seed=self.seed,
            precision=self.precision,
            engine=self.engine if train else "deepspeed",
            translated=tuple(translated),
            collapse_after=collapse_after,
            tasks=records_of(tasks),
        )

    def _fingerprint(self, key: str, split: Split, language: str, recipe: Recipe) -> str:
        known = key, split, language, recipe.rows if split == "train" else recipe.test_examples
        if known not in self._known:
            task = replace(get_task(key), recipe=recipe)
            rows = (
                training_rows(self.source, task, language.split("+"))
                if split == "train"
                else self.source.rows(task, split, language)
            )
            self._known[known] = fingerprint(rows)
        return self._known[known]


def _training(run: RunSpec) -> str:
    """What decides the weights that a run ends with."""
    lengths = {key: run.max_lengths[key] for key in run.train}
    return json.dumps([run.parent, run.train, run.recipe, lengths, run.translated], sort_keys=True)
