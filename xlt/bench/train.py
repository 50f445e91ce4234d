"""Packed training against the padded loop of a Hugging Face user, on the same examples, interleaved."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel

from xlt.bench.batches import POLICIES, Policy, SameBatch, Shape, same_batches
from xlt.bench.shapes import trained_tokenizer
from xlt.bench.trainers import TorchTrainer, check_parity, packed_trainer, padded_trainer
from xlt.bench.workload import synchronize
from xlt.data.features import encode
from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.provenance import cpu_name, device_name, versions
from xlt.pipeline.spec import Backbone
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Kind, Task
from xlt.train.seeding import seed_everything

WARM_UP = 3
# The Trainer sorts by length within 50 batches if it has four times as many; more examples change nothing.
MEGABATCHES = 4 * 50


class TrainRow(BaseModel):
    """One way to pad. ``ratio`` is the median over steps of peer over ours, with its 10 and 90 % quantiles."""

    name: Policy
    ours_s: float
    peer_s: float
    ratio: float
    ratio_p10: float
    ratio_p90: float
    slots_per_token: float
    tokens_per_step: float
    steps: int


class TrainBench(BaseModel):
    """A benchmark of training steps. Seconds are medians per step."""

    format: Literal[1] = 1
    task: str
    source: str
    device: str
    cpu: str
    precision: str
    threads: int
    versions: dict[str, str]
    model: dict[str, int]
    batch_size: int
    max_length: int
    rows: list[TrainRow]


def bench_train(source: Source, task_key: str, backbone: Backbone, shape: Shape) -> TrainBench:
    """Time a fresh XLM-R of ``backbone``'s sizes on pairs of the task, with a tokenizer trained on the spot.

    Raises:
        UsageFault: the task does not classify pairs, or there are too few examples.
        EnvironmentFault: the two sides do not compute the same.
    """
    task = _training_task(task_key, shape.max_length)
    rows = source.rows(task, "train", "en")
    # In random order, as many as change anything.
    rows = random.Random(0).sample(rows, min(len(rows), max(MEGABATCHES, shape.steps) * shape.batch_size))
    seed_everything(0)
    tokenizer = trained_tokenizer(source, backbone.vocabulary)
    positions = max(int(backbone.config["max_position_embeddings"]), shape.max_length + 2)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = PackedModel.fresh(
        {**backbone.config, **no_dropout, "vocab_size": len(tokenizer), "max_position_embeddings": positions}
    )
    model.drop_masked_lm_head()
    model.add_head(task.kind, task.kind, len(task.labels))
    sequences = encode(rows, task, tokenizer, training=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainBench(
        task=task.key,
        source=source.name,
        device=device_name(),
        cpu=cpu_name(),
        precision="bf16 autocast" if device.type == "cuda" else "fp32",
        threads=torch.get_num_threads(),
        versions=versions(),
        model={
            "layers": model.backbone.config.num_hidden_layers,
            "hidden": model.backbone.config.hidden_size,
            "vocabulary": len(tokenizer),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        batch_size=shape.batch_size,
        max_length=shape.max_length,
        rows=compare(model, sequences, task.kind, shape, device),
    )


def compare(
    model: PackedModel, sequences: Sequence[Encoded], kind: Kind, shape: Shape, device: torch.device
) -> list[TrainRow]:
    """A row per way to pad. No clock runs before all of them have shown the same loss on both sides."""
    sides = packed_trainer(model, device), padded_trainer(model, kind, device)
    batches = {policy: same_batches(sequences, kind, policy, shape, model.first_position) for policy in POLICIES}
    for policy in POLICIES:
        check_parity(*sides, batches[policy][0])
    return [_time(policy, *sides, batches[policy]) for policy in POLICIES]


def _seconds(side: TorchTrainer, batch: SameBatch) -> float:
    """Of one training step, until the device has finished."""
    synchronize()
    start = time.perf_counter()
    side.step(batch)
    synchronize()
    return time.perf_counter() - start


def _time(name: Policy, left: TorchTrainer, right: TorchTrainer, batches: Sequence[SameBatch]) -> TrainRow:
    for batch in batches[:WARM_UP]:
        left.step(batch)
        right.step(batch)
    seconds = np.array([(_seconds(left, batch), _seconds(right, batch)) for batch in batches])
    low, middle, high = np.quantile(seconds[:, 1] / seconds[:, 0], [0.1, 0.5, 0.9])
    tokens = sum(batch.packed.tokens for batch in batches)
    ours_s, peer_s = np.median(seconds, axis=0)
    return TrainRow(
        name=name,
        ours_s=ours_s,
        peer_s=peer_s,
        ratio=middle,
        ratio_p10=low,
        ratio_p90=high,
        slots_per_token=sum(batch.padded["input_ids"].numel() for batch in batches) / tokens,
        tokens_per_step=tokens / len(batches),
        steps=len(batches),
    )


def _training_task(key: str, max_length: int) -> Task:
    task = get_task(key)
    if task.kind != "pair_classification" or task.trains_on is None:
        raise UsageFault(f"'{key}' does not classify pairs.", why="Both sides train a pair head.", fix="--task mnli")
    task = get_task(task.trains_on)
    return replace(task, recipe=replace(task.recipe, max_length=max_length))
