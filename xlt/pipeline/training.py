"""The training part of a run, the same in every process that takes part: the model it starts from, and its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.packing import Encoded
from xlt.data.rows import Row
from xlt.data.source import Source, selection_rows, training_rows, with_labels
from xlt.data.tokenizer import load_tokenizer, makes_segments, train_tokenizer
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.chance import binomial_bound
from xlt.evaluate.metrics import (
    better_guess,
    binomial_metric,
    chance,
    majority,
    n_trials,
    score,
    task_score,
)
from xlt.evaluate.predict import RepeatedPrediction
from xlt.model.backbone import first_position, outline, positions
from xlt.model.encoder import PackedModel
from xlt.pipeline.checkpoint import checkpoint_folder
from xlt.pipeline.difficulty import chosen_rows
from xlt.pipeline.estimate import LARGE_CARD_TOKENS
from xlt.pipeline.memory import release
from xlt.pipeline.spec import Backbone, RunSpec
from xlt.runtime import device
from xlt.tasks.record import Recipe, Task
from xlt.train.batches import BatchStream, JointStream
from xlt.train.engine import EngineSettings
from xlt.train.loop import DevResult, DevScore, StepRecord, Trained, train
from xlt.train.masking import Vocabulary
from xlt.train.seeding import derive_seed, seed_everything
from xlt.train.state import Checkpoints
from xlt.train.used_rows import train_used_rows

# Tokens of one forward pass without gradients. On a CPU more is not faster, it only takes more memory.
EVALUATION_TOKENS = {"cpu": 4096, "cuda": 16384}
LARGE_CARD = 40e9  # bytes
DEFAULT_SETTINGS = EngineSettings()


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model after training, with its tokenizer and what the loop reports (None if the run does not train)."""

    model: PackedModel
    tokenizer: PreTrainedTokenizerBase
    trained: Trained | None


def evaluation_tokens() -> int:
    """How many tokens one forward pass without gradients may hold on this device."""
    where = device()
    if where.type == "cuda" and torch.cuda.get_device_properties(where).total_memory >= LARGE_CARD:
        return LARGE_CARD_TOKENS
    return EVALUATION_TOKENS[where.type]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training starts from: the model with its heads, its tokenizer, the tasks, and the batches of all steps."""

    model: PackedModel
    tokenizer: PreTrainedTokenizerBase
    tasks: list[Task]
    stream: BatchStream | JointStream


def train_run(
    spec: RunSpec,
    parent_model: Path | None,
    source: Source,
    tokenizer_folder: Path,
    settings: EngineSettings,
    on_step: Callable[[StepRecord, int], None],
    checkpoints: Checkpoints | None = None,
) -> TrainedModel:
    """Make the run's starting model and train it if the run trains, from the newest of its ``checkpoints`` on."""
    if not spec.train:
        return TrainedModel(*starting_point(spec, parent_model, source, tokenizer_folder), None)
    start = prepare(spec, parent_model, source, tokenizer_folder, settings)
    watched = start.stream.recipe.evaluate_every or spec.collapse_after
    dev = _dev_sets(start.tasks, source, start.tokenizer) if watched else []
    steps = start.stream.steps
    if checkpoints:
        checkpoints.keep(steps)
    read = chain(start.stream.sequences, *(each.sequences for each in dev))
    used = train_used_rows(start.model, read, start.tokenizer.all_special_ids)
    trained = train(
        start.model,
        start.stream,
        settings,
        on_step=lambda record: on_step(record, steps),
        dev_score=_dev_score(dev, watch=bool(spec.collapse_after)) if watched else None,
        collapse_after=spec.collapse_after,
        checkpoints=checkpoints,
    )
    if used:
        release()  # the engine's states, before all rows come back
        trained = used.restored(trained, start.stream.recipe, steps)
    return TrainedModel(start.model, start.tokenizer, trained)


def prepare(
    spec: RunSpec,
    parent_model: Path | None,
    source: Source,
    tokenizer_folder: Path,
    settings: EngineSettings = DEFAULT_SETTINGS,
) -> Prepared:
    """Everything that the training of a run is determined by, before its first step; seeds all global generators.

    ``settings`` are for a first pass over the rows, where the recipe has one.
    """
    seed = training_seed(spec)
    model, tokenizer = starting_point(spec, parent_model, source, tokenizer_folder)
    tasks = [with_labels(spec.task(key), source) for key in spec.train]
    fit_heads(model, tasks, seed)
    stream = _stream(spec, tasks, source, model, tokenizer, settings)
    seed_everything(derive_seed(seed, "dropout", *spec.train))
    return Prepared(model, tokenizer, tasks, stream)


def starting_point(
    spec: RunSpec, parent_model: Path | None, source: Source, tokenizer_folder: Path
) -> tuple[PackedModel, PreTrainedTokenizerBase]:
    """The parent's model, the public checkpoint that was fetched, or (phase 1 of the smoke tier) a fresh model.

    ``tokenizer_folder`` receives the tokenizer of a fresh model.
    """
    seed = training_seed(spec)
    # All global random state, so that a run gives the same bits alone and after others in one process.
    seed_everything(derive_seed(seed, spec.phase, *spec.train))
    if parent_model is not None or spec.backbone.name:
        model, tokenizer = load_model(parent_model or checkpoint_folder(spec.backbone.name))
    else:
        texts = (row.text for row in source.pretraining_text())
        train_tokenizer(texts, spec.backbone.vocabulary, tokenizer_folder)
        tokenizer = load_tokenizer(str(tokenizer_folder))
        model = fresh_model(spec.backbone, len(tokenizer))
    most = positions(model.backbone)
    for key, length in spec.max_lengths.items():
        if most is not None and length > most:
            raise UsageFault(
                f"'{key}' is read with up to {length} tokens, and the model has positions for {most}.",
                fix=f"Set max_length = {most} in the recipe of '{key}' in the tier's file, or use another model.",
            )
    return model, tokenizer


def fresh_model(backbone: Backbone, vocabulary: int) -> PackedModel:
    """A new model of the backbone's family and configuration, for a tokenizer of so many pieces."""
    return PackedModel.fresh({**backbone.config, "vocab_size": vocabulary}, backbone.family)


def load_model(folder: Path) -> tuple[PackedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a folder.

    Raises:
        DataFault: one of them is absent or damaged, or the two do not belong together.
    """
    tokenizer = load_tokenizer(str(folder))
    model = PackedModel.load(str(folder))
    _check_pair(folder, model.backbone, tokenizer)
    model.segments = model.segments and makes_segments(tokenizer)
    return model, tokenizer


def longest_sequence(folder: Path) -> int | None:
    """The most tokens that the model in a folder can read at once; None if there is no limit. No weights are read."""
    encoder = outline(folder)
    _check_pair(folder, encoder, load_tokenizer(str(folder)))
    return positions(encoder)


def block_count(folder: Path) -> int:
    """The transformer blocks of the model in a folder. No weights are read."""
    return int(outline(folder).config.num_hidden_layers)


def _check_pair(folder: Path, encoder: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    pieces, embeddings = len(tokenizer), encoder.get_input_embeddings().num_embeddings
    if pieces > embeddings:
        raise DataFault(
            f"The tokenizer in '{folder.name}' has {pieces} pieces, and the model {embeddings} embeddings.",
            why="The model cannot read a text with one of the other pieces: the two do not belong together.",
            fix="Use the tokenizer that the model was trained with.",
        )
    first = first_position(encoder)
    if first and tokenizer.pad_token_id != first - 1:
        raise DataFault(
            f"By the model in '{folder.name}' token {first - 1} is padding, by its tokenizer {tokenizer.pad_token_id}.",
            why="Models of this family count positions from the padding token on: every position would be wrong.",
            fix="Correct pad_token_id in its config.json, or use the tokenizer that the model was trained with.",
        )


def fit_heads(model: PackedModel, tasks: Sequence[Task], seed: int) -> None:
    """Phase 1's objective keeps its head; else only the backbone is carried over, and every task gets a fresh head."""
    own = [task for task in tasks if task.kind != "masked_lm"]
    if len(own) == len(tasks):
        model.drop_masked_lm_head()
    elif model.lm_head is None:
        raise UsageFault(
            "The model has no language-model head: it was left behind when a task was trained, or is not tied.",
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
    settings: EngineSettings,
) -> BatchStream | JointStream:
    examples = []
    for task in tasks:
        rows = training_rows(source, task, spec.translated)
        if task.recipe.first_pass:
            rows = _chosen_rows(spec, rows, task, model, tokenizer, settings)
        examples.append(encode(rows, task, tokenizer, training=True))
    return batch_stream(spec, tasks, examples, model.first_position, vocabulary_of(tokenizer, model))


def _chosen_rows(
    spec: RunSpec,
    rows: Sequence[Row],
    task: Task,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: EngineSettings,
) -> list[Row]:
    """The easiest or the hardest rows of a task, by a first pass of the run's own starting model."""

    def stream(recipe: Recipe, chosen: Sequence[Row]) -> BatchStream:
        sequences = encode(chosen, task, tokenizer, training=True)
        seed = derive_seed(training_seed(spec), "data", task.key)
        return BatchStream(sequences, task, recipe, seed=seed, first_position=model.first_position)

    given = {"seed": training_seed(spec), "max_tokens": evaluation_tokens(), "settings": settings}
    return chosen_rows(rows, task, model, tokenizer, stream, **given)  # type: ignore[arg-type]


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, model: PackedModel) -> Vocabulary | None:
    """What masked LM needs to know of a tokenizer; None for a decoder, which predicts next tokens instead."""
    if model.causal:
        return None
    return Vocabulary(len(tokenizer), tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))


def batch_stream(
    spec: RunSpec,
    tasks: Sequence[Task],
    examples: Sequence[Sequence[Encoded]],
    first_position: int = 0,
    vocabulary: Vocabulary | None = None,
) -> BatchStream | JointStream:
    """The batches of a run's training on the ``examples`` of each of its ``tasks``.

    Which examples make up which step follows from their number, the recipe and the seed alone.

    Raises:
        DataFault: a task has no examples.
    """
    seed, streams = training_seed(spec), []
    for task, sequences in zip(tasks, examples, strict=True):
        if not sequences:
            raise DataFault(f"There is nothing to train '{task.key}' on.", fix="xlt tasks check --data-root DIR")
        streams.append(
            BatchStream(
                sequences,
                task,
                task.recipe,
                seed=derive_seed(seed, "data", task.key),
                first_position=first_position,
                vocabulary=vocabulary if task.kind == "masked_lm" else None,
            )
        )
    if len(streams) == 1:
        return streams[0]
    return JointStream(streams, spec.training_recipe(), seed=derive_seed(seed, "tasks"))


def training_seed(spec: RunSpec) -> int:
    """The seed that all randomness of a training follows from: that of the run, or one derived for a second attempt."""
    return derive_seed(spec.seed, "retry") if spec.retry else spec.seed


def _dev_sets(tasks: Sequence[Task], source: Source, tokenizer: PreTrainedTokenizerBase) -> list[RepeatedPrediction]:
    """What is scored during the training of ``tasks``, masked LM aside."""
    return [
        RepeatedPrediction(selection_rows(source, task), task, tokenizer, max_tokens=evaluation_tokens())
        for task in tasks
        if task.kind != "masked_lm"
    ]


def _dev_score(sets: Sequence[RepeatedPrediction], *, watch: bool) -> DevScore:
    """The mean score of the tasks of ``sets``. With ``watch`` it also tells whether all of them are at chance."""
    bounds = [_chance_bound(each.task, each.rows) if watch else 0.0 for each in sets]

    def measure(model: PackedModel) -> DevResult:
        found = [(each.task, score(each.task, each.rows, each.predict(model, device()))) for each in sets]
        at_chance = [binomial_metric(task, its) <= bound for (task, its), bound in zip(found, bounds, strict=True)]
        return DevResult(fmean(task_score(task, its) for task, its in found), watch and all(at_chance))

    return measure


def _chance_bound(task: Task, rows: Sequence[Row]) -> float:
    """The score that guessing exceeds with a probability of at most 1 %."""
    guess = better_guess(task, chance(task, rows), majority(task, rows))
    return binomial_bound(n_trials(task, rows), binomial_metric(task, guess) / 100)
