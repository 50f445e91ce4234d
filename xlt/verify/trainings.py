"""Training logs: what a log says of each step must follow from spec, seed and data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.packing import Encoded
from xlt.data.rows import Row, fingerprint, is_trainable
from xlt.data.source import Source, training_rows, with_labels
from xlt.data.tokenizer import load_tokenizer
from xlt.errors import DataFault, XltError
from xlt.model.encoder import PackedModel
from xlt.pipeline.checkpoint import checkpoint_folder
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.pipeline.training import batch_stream, vocabulary_of
from xlt.tasks.record import ENGLISH, Kind, Task
from xlt.train.batches import BatchStream, JointStream, scored_steps
from xlt.train.loop import BestCheckpoint, DevResult
from xlt.verify.log import Log, Step, read_log
from xlt.verify.stored import GridFile, Problem, StoredRun

# A row of these kinds gives one example, whatever its length.
ONE_EXAMPLE: tuple[Kind, ...] = ("pair_classification", "multiple_choice", "masked_lm")
# Long rows of other kinds give several: they must be tokenised, which takes minutes for many.
MOST_TOKENISED = 20_000
_NO_TOKENS = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class LogsChecked:
    """How many logs were compared with what spec, seed and data say, what is wrong, and why others were not."""

    count: int
    problems: tuple[Problem, ...]
    left_out: tuple[str, ...]


def check_logs(store: RunStore, grid: GridFile, runs: Sequence[StoredRun], examples: Examples) -> LogsChecked:
    """Compare every training log with the tasks, the batches and the learning rates that its spec gives each step.

    The batches are drawn again from the seed: a log of another seed or of other data contradicts them.
    """
    problems: list[Problem] = []
    left_out: dict[str, None] = {}
    count = 0
    for run in runs:
        if run.spec is None or not run.spec.train or (log := read_log(store.path(run.entry.folder))) is None:
            continue
        try:
            stream = examples.stream(run.spec)
        except OtherData as fault:
            fix = f"Verify with the data that the run had: {grid.verify_command}"
            problems.append(Problem(kind="gold", run=run.entry.folder, where=str(fault), what=OTHER_DATA, fix=fix))
            continue
        except XltError as fault:
            left_out[fault.what] = None
            continue
        count += 1
        if what := next(_contradictions(run.spec, log, stream), ""):
            problems.append(Problem(kind="log", run=run.entry.folder, where="log.jsonl", what=what, fix=grid.command))
    return LogsChecked(count, tuple(problems), tuple(left_out))


OTHER_DATA = "The training data is not what the run was trained on."


class OtherData(Exception):
    """The rows that a run was trained on are not those of the source."""


@dataclass
class Examples:
    """The rows of all training sets, and the ids of their examples in their order, read once for each set."""

    store: RunStore
    source: Source
    runs: Sequence[StoredRun]
    _rows: dict[tuple[object, ...], tuple[str, list[Row]]] = field(default_factory=dict)
    _examples: dict[tuple[object, ...], list[Encoded]] = field(default_factory=dict)

    def stream(self, spec: RunSpec) -> BatchStream | JointStream:
        """The batches of a training.

        Raises:
            OtherData: the rows are not those that the run had.
            XltError: data or tokenizer is not here, or a first pass of the model chose the rows.
        """
        tasks = self.tasks(spec)
        if any(task.recipe.first_pass for task in tasks):
            self.check(spec)
            raise DataFault("a first pass of the model chose the rows: only --replay makes such a training again")
        return batch_stream(spec, tasks, [self._of(task, spec)[0] for task in tasks])

    def tasks(self, spec: RunSpec) -> list[Task]:
        """The tasks that a run trains, with their labels."""
        return [with_labels(spec.task(key), self.source) for key in spec.train]

    def check(self, spec: RunSpec) -> None:
        """Raise ``OtherData`` if a run was trained on other rows than the source has, ``XltError`` if it has none."""
        for task in self.tasks(spec):
            self._taught(task, spec)

    def filled(
        self, spec: RunSpec, steps: Sequence[int], tokenizer: PreTrainedTokenizerBase, model: PackedModel
    ) -> BatchStream | JointStream:
        """The same for ``model``, with the tokens of the examples of some ``steps`` (1-based). Raises as ``stream``."""
        tasks = self.tasks(spec)
        found = [self._of(task, spec) for task in tasks]
        examples = [list(encoded) for encoded, _ in found]
        for step in steps:
            stream, its_step = self.stream(spec).part(step - 1)
            place = next(place for place, task in enumerate(tasks) if task.key == stream.task.key)
            if tasks[place].kind in ONE_EXAMPLE:
                indices = stream.indices(its_step)
                rows = [found[place][1][index] for index in indices]
                for index, each in zip(indices, encode(rows, tasks[place], tokenizer, training=True), strict=True):
                    examples[place][index] = each
        return batch_stream(spec, tasks, examples, model.first_position, vocabulary_of(tokenizer, model))

    def _of(self, task: Task, spec: RunSpec) -> tuple[list[Encoded], list[Row]]:
        length = () if task.kind in ONE_EXAMPLE else (task.recipe.max_length, task.recipe.stride)
        key = (task.key, tuple(spec.translated), task.recipe.rows, *length)
        taught = self._taught(task, spec)
        if key not in self._examples:
            self._examples[key] = self._encoded(taught, task, spec)
        return self._examples[key], taught

    def _taught(self, task: Task, spec: RunSpec) -> list[Row]:
        """The rows that a training takes its examples from; ``OtherData`` if they are not those that the run had."""
        key = (task.key, tuple(spec.translated), task.recipe.rows)
        if key not in self._rows:
            rows = training_rows(self.source, task, spec.translated)
            self._rows[key] = fingerprint(rows), [row for row in rows if is_trainable(row)]
        found, taught = self._rows[key]
        language = "all" if task.kind == "masked_lm" else "+".join(spec.translated) or ENGLISH
        if spec.data.get(f"{task.key}/train/{language}") != found:
            raise OtherData(f"{task.key}.train.{language}")
        return taught

    def _encoded(self, rows: Sequence[Row], task: Task, spec: RunSpec) -> list[Encoded]:
        if task.kind in ONE_EXAMPLE:
            return [Encoded(row.id, _NO_TOKENS) for row in rows]
        if len(rows) > MOST_TOKENISED:
            raise DataFault(f"the training set of '{task.key}' would take minutes to tokenise")
        return encode(rows, task, load_tokenizer(str(self._tokenizer(spec))), training=True)

    def _tokenizer(self, spec: RunSpec) -> Path:
        # Training never changes it: that of any run of the backbone will do.
        for run in self.runs:
            folder = self.store.path(run.entry.folder) / "model"
            if run.spec and run.spec.backbone == spec.backbone and (folder / "tokenizer.json").is_file():
                return folder
        if not spec.backbone.name:
            raise DataFault("the tokenizer is not here")
        return checkpoint_folder(spec.backbone.name)


def _contradictions(spec: RunSpec, log: Log, stream: BatchStream | JointStream) -> Iterator[str]:
    """What a log says otherwise than its spec, the first step first."""
    recipe, steps = stream.recipe, stream.steps
    if len(log.lines) > steps:
        yield f"log.jsonl has {len(log.lines)} steps; the recipe has {steps}."
        return
    for line in log.lines:
        yield from _of_step(line, recipe.learning_rate * recipe.learning_rate_factor(line.step - 1, steps), stream)
    watched = recipe.evaluate_every or spec.collapse_after
    scored = scored_steps(recipe, stream.examples, steps, spec.collapse_after) if watched else set()
    best = BestCheckpoint(recipe.patience if recipe.evaluate_every else None, spec.collapse_after * steps)
    for line in log.lines:
        if (line.dev_score is not None) != (line.step in scored):
            yield f"Step {line.step} of log.jsonl {'lacks its' if line.step in scored else 'has a'} dev score."
        elif line.dev_score is not None:
            result = DevResult(line.dev_score, bool(line.at_chance))
            stops = best.offer(result, line.step, dict)
            if stops and line.step < len(log.lines):
                yield f"log.jsonl goes on after step {line.step}, where its dev scores end the training."
            if not stops and line.step == len(log.lines) < steps:
                yield f"log.jsonl ends with step {line.step} of {steps}, and its dev scores do not end the training."
    if len(log.lines) < steps and len(log.lines) not in scored:
        yield f"log.jsonl ends with step {len(log.lines)} of {steps}, where no training ends."


def _of_step(line: Step, learning_rate: float, stream: BatchStream | JointStream) -> Iterator[str]:
    task = stream.task_of(line.step - 1)
    if line.task != task:
        yield f"By log.jsonl step {line.step} is of '{line.task}'; by spec and seed it is of '{task}'."
    if line.examples != stream.digest(line.step - 1):
        yield f"By log.jsonl step {line.step} has other examples than spec, seed and data give it."
    if not math.isclose(line.learning_rate, learning_rate, rel_tol=1e-6, abs_tol=1e-15):
        yield f"By log.jsonl step {line.step} has the learning rate {line.learning_rate:g}, not {learning_rate:g}."
