"""Every task on the data at hand: rows, seconds to read them, and what the small model scores after a few steps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from xlt.bench.shapes import trained_tokenizer
from xlt.data.features import encode
from xlt.data.files.locate import locate
from xlt.data.source import EVALUATED_SPLITS, Source, with_labels
from xlt.evaluate.metrics import Metrics, chance, majority, task_score
from xlt.pipeline.executor import Executor, GridProgress
from xlt.pipeline.grid import Grid, GridBuilder
from xlt.pipeline.provenance import environment
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.spec import RunSpec, SourceSpec
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import Tier
from xlt.tasks.catalogue import INTERMEDIATE, MASKED_LM, TARGET, get_task
from xlt.tasks.record import ENGLISH, Split, Task
from xlt.train.engine import EngineSettings

EVERY = tuple(task.key for task in (*INTERMEDIATE, *TARGET))


class SplitScore(BaseModel):
    """The score of the small model on one split, in percent."""

    split: Split
    languages: list[str]
    """English, or (retrieval) all languages, over which the score is the mean."""
    rows: int
    """Number of rows that were scored."""
    chance: float
    """What guessing would score."""
    majority: float | None
    """What the most frequent answer, always given, would score."""
    score: float | None


class TaskRow(BaseModel):
    """One task."""

    task: str
    name: str
    kind: str
    metric: str
    trains_on: str | None
    """The task whose training set it uses; none for retrieval, which scores the encoder of phase 1."""
    folders: list[str] = []
    """Those of the data root with its files: one of another name may hold other data than the task's."""
    rows: dict[Split, dict[str, int]] = {}
    load_s: float | None = None
    """Seconds to read all rows."""
    tokenise_s: float | None = None
    """Seconds to tokenise all rows."""
    tokens: int = 0
    """Tokens of all rows by the catalogue's recipe."""
    scores: list[SplitScore] = []
    missing: str = ""
    """Why there are no rows or no scores."""


class TaskTable(BaseModel):
    """All tasks on one source. With 0 ``steps`` nothing was trained: the seconds alone were wanted."""

    format: Literal[1] = 1
    source: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    seed: int
    steps: int
    phase_1_steps: int
    vocabulary: int
    tasks: list[TaskRow]


def bench_tasks(
    tier: Tier,
    options: SourceOptions,
    store: RunStore,
    progress: GridProgress,
    *,
    steps: int,
    phase_1_steps: int,
    keys: Sequence[str] = (),
    seed: int = 0,
) -> TaskTable:
    """Read the tasks ``keys`` (all if none), and score each after ``steps`` steps on its own English training set.

    The small model and its recipes are those of ``tier`` on the source; phase 1 comes first and is shared, a training
    set that several tasks share is trained on once. Every score is that of a run in ``store``: the same call resumes.

    Raises:
        UsageFault: no task has that name.
        DataFault: a file is broken, or there is no text for phase 1.
    """
    tasks = [get_task(key) for key in keys or EVERY]
    source = open_source(options)
    tier = _short(tier, source.name, steps, phase_1_steps)
    tokenizer = trained_tokenizer(source, tier.plan(source.name).backbone.vocabulary)
    rows = [_read(task, options, tokenizer) for task in tasks]
    scores: dict[str, Any] = {}
    if steps:
        runs = _runs(tier, source, seed, [task for task, row in zip(tasks, rows, strict=True) if not row.missing])
        grid = Grid("tasks", SourceSpec(name=source.name, settings=source.settings), seed, tuple(runs))
        Executor(source, options, store, EngineSettings(), progress, tier.threads).run_grid(grid)
        for run in runs:
            scores |= json.loads((store.path(run.folder) / "metrics.json").read_text("utf-8"))
    for task, row in zip(tasks, rows, strict=True):
        row.scores = [] if row.missing else list(_scores(task, source, scores.get(task.key, {})))
    return TaskTable(
        source=source.name,
        settings=source.settings,
        environment=environment(),
        seed=seed,
        steps=steps,
        phase_1_steps=phase_1_steps if steps else 0,
        vocabulary=len(tokenizer),
        tasks=rows,
    )


def _short(tier: Tier, source: str, steps: int, phase_1_steps: int) -> Tier:
    """``tier`` with as many steps for every task, XQuAD's recipe for all of QA, and a quarter of the examples a step
    for multiple choice, whose examples are four or five sequences."""
    plan = tier.plan(source)
    recipes = {key: {**recipe, "steps": steps} for key, recipe in {"default": {}, **plan.recipes}.items()}
    for task in map(get_task, EVERY):
        if task.kind == "span_qa":
            recipes[task.key] = {**plan.recipes.get("xquad", {}), "steps": steps}
        elif task.kind == "multiple_choice":
            examples = max(1, tier.recipe(task.key, source).batch_size // 4)
            recipes[task.key] = {"batch_size": examples, "steps": steps}
    recipes[MASKED_LM.key] = {**plan.recipes.get(MASKED_LM.key, {}), "steps": phase_1_steps}
    return tier.model_copy(update={"sources": {source: plan.model_copy(update={"recipes": recipes})}})


def _runs(tier: Tier, source: Source, seed: int, tasks: Sequence[Task]) -> list[RunSpec]:
    """Phase 1, then one run per training set, which scores all tasks of it, and one for retrieval."""
    builder = GridBuilder(tier, source, seed=seed, precision="fp32")
    first = builder.spec("pretrain", "mlm", MASKED_LM.key, train=(MASKED_LM.key,))
    runs = [first]
    for train in dict.fromkeys(task.trains_on for task in tasks):
        group = tuple(task.key for task in tasks if task.trains_on == train)
        runs.append(
            builder.spec(
                *("target", "+".join(group), train or group[0]),
                arm="tasks",
                train=(train,) if train else (),
                evaluate=group,
                parent=first.hash,
                languages=(ENGLISH,) if train else (),
            )
        )
    return runs


def _read(task: Task, options: SourceOptions, tokenizer: PreTrainedTokenizerBase) -> TaskRow:
    """The task's rows and the seconds they take, from a source that has read nothing yet."""
    row = TaskRow(task=task.key, name=task.name, kind=task.kind, metric=task.metric, trains_on=task.trains_on)
    source = open_source(options)
    began = time.perf_counter()
    found = {
        (split, language): source.rows(task, split, language)
        for split in task.files
        for language in source.languages(task, split)
    }
    read = time.perf_counter()
    row.missing = _missing(task, source, {split for split, _ in found})
    if not found:
        return row
    labelled = with_labels(task, source)
    start = time.perf_counter()
    row.tokens = sum(
        len(sequence.input_ids)
        for (split, _), rows in found.items()
        for sequence in encode(rows, labelled, tokenizer, training=split == "train")
    )
    row.tokenise_s, row.load_s = time.perf_counter() - start, read - began
    for (split, language), rows in found.items():
        row.rows.setdefault(split, {})[language] = len(rows)
    if options.name == "files" and options.data_root:
        parts = (locate(options.data_root, task, split, language) for split, language in found)
        row.folders = sorted({Path(file.shown).parts[0] for part in parts for file in part.files})
    return row


def _missing(task: Task, source: Source, present: set[Split]) -> str:
    if not present:
        return f"there is no {', no '.join(task.files.values())}"
    if task.trains_on and not source.languages(get_task(task.trains_on), "train"):
        return f"there is no training data of {task.trains_on}"
    scored = (source.languages(task, split) for split in EVALUATED_SPLITS)
    if not any(ENGLISH in languages if task.trains_on else languages for languages in scored):
        return "there is no labelled data to score"
    return ""


def _scores(task: Task, source: Source, metrics: dict[str, dict[str, Metrics]]) -> Iterable[SplitScore]:
    """Every split of the task that has gold labels, English or (retrieval) in all its languages."""
    for split in EVALUATED_SPLITS:
        present = source.languages(task, split)
        languages = [language for language in present if language == ENGLISH or not task.trains_on]
        if not languages:
            continue
        rows = {language: source.rows(task, split, language) for language in languages}
        frequent = [found for each in rows.values() if (found := majority(task, each))]
        measured = metrics.get(split, {})
        yield SplitScore(
            split=split,
            languages=languages,
            rows=sum(map(len, rows.values())),
            chance=fmean(task_score(task, chance(task, each, language)) for language, each in rows.items()),
            majority=fmean(task_score(task, each) for each in frequent) if frequent else None,
            score=fmean(task_score(task, measured[language]) for language in languages) if measured else None,
        )
