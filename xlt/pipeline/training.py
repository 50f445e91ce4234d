"""The training part of a run, the same in every process that takes part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.metrics import score, task_score
from xlt.evaluate.predict import predict
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.starting_point import head_task, starting_point
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task
from xlt.train.batches import BatchStream
from xlt.train.engine import EngineSettings, device
from xlt.train.loop import DevScore, StepRecord, Trained, train
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


def spec_task(spec: RunSpec, key: str) -> Task:
    """The catalogue's record of ``key`` with the recipe of the run."""
    return dataclasses.replace(get_task(key), recipe=spec.task_recipe())


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
    seed_everything(derive_seed(spec.seed, spec.phase, spec.train or ""))
    model, tokenizer = starting_point(spec, parent_model, source, tokenizer_folder)
    if spec.train is None:
        return TrainedModel(model, tokenizer, None)
    task = spec_task(spec, spec.train)
    trained_on = spec_task(spec, task.trains_on or task.key)
    # The head's first weights follow from the seed and the task alone: every arm starts with the same head.
    seed_everything(derive_seed(spec.seed, "head", trained_on.key))
    if task.kind == "masked_lm":
        if model.lm_head is None:
            raise UsageFault(
                "The model has no masked-LM head: it was left behind when a task was trained.",
                mend="Give a model from phase 1 (--model).",
            )
        sequences = encode(source.pretraining_text(), task, tokenizer, training=True)
    else:
        # Only the encoder is carried over: every training starts with a head of its own.
        model.drop_masked_lm_head()
        model.heads.clear()
        model.add_head(trained_on.key, trained_on.kind, len(trained_on.labels))
        sequences = encode(source.rows(trained_on, "train", "en"), trained_on, tokenizer, training=True)
    stream = _stream(spec, trained_on, sequences, model, tokenizer)
    seed_everything(derive_seed(spec.seed, "dropout", trained_on.key))
    dev_score = _dev_score(trained_on, source, tokenizer) if trained_on.recipe.evaluate_every else None
    steps = stream.steps
    trained = train(model, stream, settings, on_step=lambda record: on_step(record, steps), dev_score=dev_score)
    return TrainedModel(model, tokenizer, trained)


def _stream(
    spec: RunSpec,
    task: Task,
    sequences: list[Encoded],
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> BatchStream:
    if not sequences:
        raise DataFault(f"There is nothing to train '{task.key}' on.", mend="xlt tasks check --data-root DIR")
    vocabulary = None
    if task.kind == "masked_lm":
        vocabulary = Vocabulary(len(tokenizer), tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))
    return BatchStream(
        sequences,
        task,
        task.recipe,
        seed=derive_seed(spec.seed, "data", task.key),
        first_position=model.first_position,
        vocabulary=vocabulary,
    )


def _dev_score(task: Task, source: Source, tokenizer: PreTrainedTokenizerBase) -> DevScore:
    rows = source.rows(task, "dev", "en")

    def dev_score(model: PackedModel) -> float:
        predictions = predict(
            model, rows, task, tokenizer, max_tokens=evaluation_tokens(), device=device(), head=head_task(task)
        )
        return task_score(score(task, rows, predictions))

    return dev_score
