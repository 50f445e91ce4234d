"""Studies as data (``artifact/studies``): a question, the runs that answer it, and the analysis, fixed beforehand."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from xlt.artifact import artifact_root
from xlt.data.perturb import Perturbation
from xlt.data.source import Source
from xlt.errors import UsageFault, XltError
from xlt.frozen import Frozen
from xlt.pipeline.checkpoint import checkpoint_folder
from xlt.pipeline.grid import Grid
from xlt.pipeline.single import SingleOptions, StartingModel, single_spec
from xlt.pipeline.spec import Backbone, RunSpec, Setting
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import Arm, Part, SourcePlan, Tier, read_tier
from xlt.strict_json import read_bytes, reason
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH, Split, Task

if TYPE_CHECKING:
    from xlt.pipeline.estimate import Estimate  # which loads torch

PART = "study"


class Analysis(Frozen):
    """One test of a study, whose number is compared with zero: by a t test over seeds, or as said here.

    ``difference``: the mean of ``measure`` over tasks and languages of ``arm``, minus that of ``against``.
    ``arms``: Spearman's correlation, over the arms of ``by``, of their numbers there with the mean of ``measure``, from
    the ranks within each seed; with ``given = "score"`` the partial one, given the mean score on clean rows. The test
    permutes within seeds. The arms of ``by_difficulty`` have instead as their number how hard their intermediate tasks
    were for the model in this seed: the share of what there is above guessing that it lacks on their English dev rows.
    Arms that were trained on different tasks are a few of many tasks, so that the test permutes them alike in all
    seeds; it needs at least six (``Form.over_tasks``).
    ``languages``: Spearman's correlation, over languages, of the score of ``order`` with the difference between ``arm``
    and ``against``; the mean over tasks. With ``order``, ``arms`` looks at this number of each arm against ``order``.
    """

    about: str
    """What the number is, in words."""
    statistic: Literal["difference", "arms", "languages"]
    measure: Literal["score", "degradation"] = "score"
    """The score on clean rows, or what it loses on perturbed ones; both of languages other than English."""
    tasks: list[str] = []
    """The target tasks; unless given all that every arm of the test has, of degradations those that are perturbed."""
    arm: str = ""
    against: str = ""
    order: str = ""
    by: dict[str, float] = {}
    by_difficulty: list[str] = []
    given: Literal["", "score"] = ""
    expected: Literal["above 0", "below 0", ""] = ""
    """What the hypothesis says of the number; empty where the test only describes."""
    spread: float = Field(default=0.0, ge=0)
    """The standard deviation of the number between seeds that is expected before anything was run; 0: nobody knows."""
    spread_source: str = ""
    """Where that is from."""

    @property
    def arms(self) -> set[str]:
        """The arms that it needs."""
        return {*self.compared, *filter(None, (self.arm, self.against, self.order))}

    @property
    def compared(self) -> list[str]:
        """The arms that a correlation over arms is over."""
        return [*self.by, *self.by_difficulty]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        one_number = bool(self.by) != bool(self.by_difficulty) and not (self.order and self.given)
        needs = {"difference": (self.arm, self.against), "arms": (len({*self.compared}) > 3, one_number)}
        if not all(needs.get(self.statistic, (self.arm, self.against, self.order))):
            raise ValueError(f"a test of {self.statistic} lacks its arms")
        if bool(self.spread) != bool(self.spread_source):
            raise ValueError("a spread needs its source, and a source its spread")
        return self


class Form(Frozen):
    """A study in the size of a tier."""

    seeds: list[int] = Field(min_length=1)
    """Its seeds, each with a results folder of its own."""
    sources: list[str] = []
    """The sources that have all its tasks; unless given those of the tier."""
    arms: dict[str, Arm]
    """Phase-2 models by name, and their targets."""
    recipes: dict[str, dict[str, Setting]] = {}
    """Changes to the tier's recipes."""
    backbone: Backbone | None = None
    """Its encoder, where it is not the tier's."""
    memory: float = Field(default=0.0, ge=0)
    """The memory that one of its runs takes at most on a CPU, in GB; 0 where nobody measured it."""
    perturbations: list[str] = []
    """How test rows in other languages than English are perturbed, as in ``xlt evaluate --perturb``."""
    perturbed: list[str] = []
    """The target tasks whose rows are."""
    tests: dict[str, Analysis]
    """The tests, which share the level of 5 % (Holm)."""

    def over_tasks(self, test: Analysis) -> bool:
        """Whether the arms that a test compares were trained on different intermediate tasks."""
        return len({tuple(self.arms[arm].intermediate) for arm in test.compared}) > 1


class Study(Frozen):
    """A question beyond the paper."""

    name: str
    """Its name, such as Q3."""
    question: str
    """The question."""
    hypothesis: str
    """What is expected, so that it can be wrong."""
    decision: str
    """When the hypothesis counts as supported, as contradicted, and as open."""
    cannot_say: list[str] = Field(min_length=1)
    """What the answer does not say."""
    forms: dict[str, Form]
    """The study by the name of a tier, whose backbone, sources and recipes it takes."""

    def tasks(self, test: Analysis, form: Form) -> list[str]:
        """The tasks that ``test`` looks at."""
        shared = set[str].intersection(*({*form.arms[arm].targets} for arm in test.arms))
        shared &= {*form.perturbed} if test.measure == "degradation" else shared
        return test.tasks or sorted(shared)

    def form(self, tier: str) -> Form:
        """The study in the size of ``tier``; ``UsageFault`` if it has none."""
        if tier not in self.forms:
            raise UsageFault(
                f"The study {self.name} has no form for the tier '{tier}'.",
                why=f"It has forms for: {', '.join(self.forms)}.",
                fix=f"--study {self.name} --tier {next(iter(self.forms))}",
            )
        return self.forms[tier]

    def tier(self, name: str) -> Tier:
        """The tier ``name`` with the arms, recipes and seeds of this study."""
        form, base = self.form(name), read_tier(name)
        sources = {source: _plan(base.plan(source), form) for source in form.sources or base.sources}
        new = {"name": tier_name(self.name, name), "about": self.question, "seeds": form.seeds, "golden": False}
        return base.model_copy(update={**new, "sources": sources})


def _plan(plan: SourcePlan, form: Form) -> SourcePlan:
    """The plan with a study's own; a tier's parts become one, which says how much memory a run takes."""
    recipes = {
        key: {**plan.recipes.get(key, {}), **form.recipes.get(key, {})} for key in {**plan.recipes, **form.recipes}
    }
    parts = {PART: Part(about="all of the study", memory=form.memory)} if plan.parts else {}
    arms = {name: arm.model_copy(update={"part": PART if parts else ""}) for name, arm in form.arms.items()}
    encoder = {"backbone": form.backbone, "parameters": 0} if form.backbone else {}
    return plan.model_copy(update={"arms": arms, "recipes": recipes, "parts": parts, **encoder})


def tier_name(study: str, tier: str) -> str:
    """What a study in the size of a tier is called where the name of a tier is asked for."""
    return f"{study}-{tier}"


def study_names() -> list[str]:
    """The studies in ``artifact/studies``."""
    return sorted(path.stem for path in (artifact_root() / "studies").glob("*.toml"))


def study_tier(name: str) -> Tier | None:
    """The tier of a study that ``tier_name`` calls so; None if there is none."""
    study, _, tier = name.partition("-")
    with suppress(UsageFault):
        return read_study(study).tier(tier)
    return None


def read_study(name: str) -> Study:
    """The study of that name.

    Raises:
        UsageFault: there is none, or its file says what cannot be.
    """
    path = artifact_root() / "studies" / f"{name}.toml"
    if name not in study_names():
        raise UsageFault(f"There is no study '{name}'.", why=f"Studies: {', '.join(study_names())}.", fix="--study Q3")
    try:
        study = Study.model_validate(tomllib.loads(read_bytes(path).decode("utf-8")))
        for size, form in study.forms.items():
            _check(study, size, form)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        fix = "Compare it with artifact/studies/Q2.toml."
        raise UsageFault(f"'{name}' is not a study.", why=f"{reason(error)}.", fix=fix) from error
    return study


def _check(study: Study, size: str, form: Form) -> None:
    """Raise ``ValueError`` or ``UsageFault`` where parts of a form do not fit each other."""
    tier = study.tier(size)
    for source, plan in tier.sources.items():
        for name, arm in plan.arms.items():
            for key in (*arm.intermediate, *arm.targets):
                tier.recipe(key, source, arm)
            # The number of rows that a correlation is with must be what is trained on, where the recipe caps it.
            single = len(arm.intermediate) == 1
            capped = tier.recipe(arm.intermediate[0], source, arm).train_examples if single else 0
            for by in (test.by for test in form.tests.values() if capped):
                if by.get(name, capped) != capped:
                    raise ValueError(f"the arm {name} trains on {capped} rows, not on {by[name]:g}")
    for text in form.perturbations:
        for key in form.perturbed:
            Perturbation.parse(text).check(get_task(key))
    for name, test in form.tests.items():
        if unknown := test.arms - form.arms.keys():
            raise ValueError(f"the test {name} needs the arm {sorted(unknown)[0]}")
        if test.measure == "degradation" and not form.perturbations:
            raise ValueError(f"the test {name} needs perturbations")
        if not study.tasks(test, form):
            raise ValueError(f"the arms of the test {name} share no task")
        if lacking := [each for each in test.by_difficulty if not form.arms[each].intermediate]:
            raise ValueError(f"the arm {lacking[0]} of the test {name} has no intermediate task that is easy or hard")
        if form.over_tasks(test) and len({*test.compared}) < 6:
            raise ValueError(
                f"the test {name} compares fewer than six tasks, of which no order can be told from chance"
            )


class PerturbedRun(NamedTuple):
    """An evaluation on perturbed rows."""

    arm: str
    """The arm of its model."""
    spec: RunSpec
    """What determines its numbers."""
    start: StartingModel
    """The model."""


def scored_split(source: Source, task: Task) -> Split:
    """The split that a study looks at: test where the source has it in several languages, else dev."""
    return "test" if len(source.languages(task, "test")) > 1 else "dev"


def other_languages(source: Source, task: Task) -> list[str]:
    """The languages of that split without English."""
    return [language for language in source.languages(task, scored_split(source, task)) if language != ENGLISH]


def perturbed_runs(form: Form, tier: Tier, grid: Grid, source: Source, store: RunStore) -> Iterator[PerturbedRun]:
    """The evaluations on perturbed rows of all models of a ``grid`` that were trained to their end."""
    for key in form.perturbed:
        split, languages = scored_split(source, get_task(key)), other_languages(source, get_task(key))
        for run in grid.runs:
            if run.phase == "target" and key in run.evaluate:
                start = _scored_model(run, grid, store)
                if start is None:
                    continue
                options = SingleOptions(tier, run.seed, run.precision, languages=languages, splits=[split])
                spec = single_spec("target", key, source, start, options, train=False)
                # By their names alone, two arms' evaluations could not be told apart while they are made.
                named = spec.model_copy(update={"name": f"{run.arm}.{spec.name}"})
                yield PerturbedRun(run.arm, named, start)


@dataclass(frozen=True, slots=True)
class StudyCost:
    """What a study costs if nothing of it is done yet."""

    seeds: list[int]
    """Its seeds."""
    evaluations: int
    """How many evaluations on perturbed rows each seed makes."""
    rows: int | None
    """How many rows these are on; null where that is not known."""
    hours: dict[str, float | None]
    """How long a seed takes, these among it, by device and engine; empty where nobody timed it."""


def study_cost(form: Form, grid: Grid, source: Source, estimate: Callable[[Grid], Estimate]) -> StudyCost:
    """What a study costs whose seeds each make the runs of ``grid``, as ``estimate`` says of a grid."""
    evaluations = tuple(_evaluations(form, grid, source))
    found = estimate(replace(grid, runs=(*grid.runs, *evaluations)))
    sizes = [size.scored for size in found.runs[len(grid.runs) :]]
    return StudyCost(
        seeds=form.seeds,
        evaluations=len(evaluations),
        rows=sum(each.rows for size in sizes for each in size.values()) if all(sizes) else None,
        hours={on: took.total for on, took in found.hours.items()},
    )


def _evaluations(form: Form, grid: Grid, source: Source) -> Iterator[RunSpec]:
    """The evaluations on perturbed rows of a grid whose models are not there yet: all but their hashes."""
    for text, key in product(form.perturbations, form.perturbed):
        task = get_task(key)
        split, languages = "test" if "test" in task.files else "dev", task.benchmarks.get("xtreme", "").split()
        with suppress(XltError):  # data that is absent has, so far, the languages of the benchmark
            split, languages = scored_split(source, task), other_languages(source, task) or languages
        cells = {f"{key}/{split}/{language}": text for language in languages if language != ENGLISH}
        for run in grid.runs:
            if run.phase == "target" and key in run.evaluate:
                named = {"name": f"{run.arm}.evaluate.{key}.{text}", "train": (), "evaluate": (key,)}
                yield run.model_copy(update={**named, "data": cells})


def _scored_model(run: RunSpec, grid: Grid, store: RunStore) -> StartingModel | None:
    """The model whose predictions a run holds: what it trained or starts from; None if its training came to nothing."""
    if not run.train and run.parent is None:
        return StartingModel(checkpoint_folder(run.backbone.name), run.backbone)
    trained = run if run.train else grid.find(str(run.parent))
    if store.check(trained).state != "done":
        return None
    return StartingModel(store.path(trained.folder) / "model", run.backbone, trained.hash, run.source.name)
