"""The training part of a run, the same in every process that takes part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.labels import with_labels
from xlt.data.rows import Row
from xlt.data.source import Source, training_rows
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.chance import binomial_bound
from xlt.evaluate.metrics import (
    Metrics,
    better_guess,
    binomial_metric,
    chance,
    majority,
    n_trials,
    score,
    task_score,
)
from xlt.evaluate.predict import predict
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.starting_point import starting_point
from xlt.runtime import device
from xlt.tasks.record import Task
from xlt.train.batches import BatchStream, JointStream
from xlt.train.engine import EngineSettings
from xlt.train.loop import DevResult, DevScore, StepRecord, Trained, train
from xlt.train.masking import Vocabulary
from xlt.train.seeding import derive_seed, seed_everything

# Tokens of one forward pass without gradients. On a CPU more is not faster, it only takes more memory.
EVALUATION_TOKENS = {"cpu": 4096, "cuda": 16384}


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model after training, with its tokenizer and what the loop reports."""

    model: PackedModel
    tokenizer: PreTrainedTokenizerBase
    trained: Trained | None


def evaluation_tokens() -> int:
    """How many tokens one forward pass without gradients may hold on this device."""
    return EVALUATION_TOKENS[device().type]


def train_run(
    spec: RunSpec,
    parent_model: Path | None,
    source: Source,
    tokenizer_folder: Path,
    settings: EngineSettings,
    on_step: Callable[[StepRecord, int], None],
) -> TrainedModel:
    """Make the run's starting model and train it if the run trains.

    All global random state is set from the spec first, so that a run gives the same bits alone and after others
    in one process.
    """
    seed = derive_seed(spec.seed, "retry") if spec.retry else spec.seed
    seed_everything(derive_seed(seed, spec.phase, *spec.train))
    model, tokenizer = starting_point(spec, parent_model, source, tokenizer_folder)
    if not spec.train:
        return TrainedModel(model, tokenizer, None)
    tasks = [with_labels(spec.task(key), source) for key in spec.train]
    _fit_heads(model, tasks, seed)
    stream = _stream(spec, tasks, source, model, tokenizer, seed)
    seed_everything(derive_seed(seed, "dropout", *spec.train))
    watched = stream.recipe.evaluate_every or spec.collapse_after
    steps = stream.steps
    trained = train(
        model,
        stream,
        settings,
        on_step=lambda record: on_step(record, steps),
        dev_score=_dev_score(tasks, source, tokenizer, watch=bool(spec.collapse_after)) if watched else None,
        collapse_after=spec.collapse_after,
    )
    return TrainedModel(model, tokenizer, trained)


def _fit_heads(model: PackedModel, tasks: Sequence[Task], seed: int) -> None:
    """Masked LM keeps the head of phase 1; else only the encoder is carried over, and every task gets a fresh head."""
    own = [task for task in tasks if task.kind != "masked_lm"]
    if len(own) == len(tasks):
        model.drop_masked_lm_head()
    elif model.lm_head is None:
        raise UsageFault(
            "The model has no masked-LM head: it was left behind when a task was trained.",
            fix="Give a model from phase 1 (--model).",
        )
    model.heads.clear()
    for task in own:
        # A head's first weights follow from the seed and the task alone: every arm starts with the same.
        seed_everything(derive_seed(seed, "head", task.key))
        model.add_head(task.key, task.kind, task.labels)


def _stream(
    spec: RunSpec,
    tasks: Sequence[Task],
    source: Source,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> BatchStream | JointStream:
    vocabulary = Vocabulary(len(tokenizer), tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))
    streams = []
    for task in tasks:
        is_masked = task.kind == "masked_lm"
        sequences = encode(training_rows(source, task, spec.translated), task, tokenizer, training=True)
        if not sequences:
            raise DataFault(f"There is nothing to train '{task.key}' on.", fix="xlt tasks check --data-root DIR")
        streams.append(
            BatchStream(
                sequences,
                task,
                task.recipe,
                seed=derive_seed(seed, "data", task.key),
                first_position=model.first_position,
                vocabulary=vocabulary if is_masked else None,
            )
        )
    if len(streams) == 1:
        return streams[0]
    return JointStream(streams, spec.training_recipe(), seed=derive_seed(seed, "tasks"))


def _dev_score(tasks: Sequence[Task], source: Source, tokenizer: PreTrainedTokenizerBase, *, watch: bool) -> DevScore:
    """The mean over ``tasks``, masked LM aside, of the score on the English dev split; at chance if all of them are,
    which only who watches is told."""
    sets = [(task, source.rows(task, "dev", "en")) for task in tasks if task.kind != "masked_lm"]
    bounds = [_bound(task, rows) if watch else 0.0 for task, rows in sets]

    def metrics_of(model: PackedModel, task: Task, rows: list[Row]) -> Metrics:
        return score(task, rows, predict(model, rows, task, tokenizer, max_tokens=evaluation_tokens(), device=device()))

    def measure(model: PackedModel) -> DevResult:
        found = [(task, metrics_of(model, task, rows)) for task, rows in sets]
        at_chance = [binomial_metric(task, its) <= bound for (task, its), bound in zip(found, bounds, strict=True)]
        return DevResult(fmean(task_score(task, its) for task, its in found), watch and all(at_chance))

    return measure


def _bound(task: Task, rows: Sequence[Row]) -> float:
    """What guessing exceeds in at most 1 % of cases."""
    guess = better_guess(task, chance(task, rows), majority(task, rows))
    return binomial_bound(n_trials(task, rows), binomial_metric(task, guess) / 100)
