"""Rows of steps of a real task: packed training beside the padded loop of a Hugging Face user, on the same examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

import torch

from xlt.bench.batches import POLICIES, Policy, Shape, same_batches
from xlt.bench.shapes import trained_tokenizer
from xlt.bench.trainers import TorchTrainer, check_parity, packed_trainer, padded_trainer, work_of
from xlt.bench.workload import Bench, Candidate, Workload, bench, compare
from xlt.data.features import encode
from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import Backbone
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH, Kind, Task
from xlt.train.seeding import seed_everything

# The Trainer sorts by length within 50 batches if it has four times as many; more examples change nothing.
MEGABATCHES = 4 * 50


def bench_train(source: Source, task_key: str, backbone: Backbone, shape: Shape) -> Bench:
    """Time a fresh XLM-R of ``backbone``'s sizes on pairs of the task, with a tokenizer trained on the spot.

    Raises:
        UsageFault: the task does not classify pairs, or there are too few examples.
        EnvironmentFault: packed and padded model do not compute the same.
    """
    task = _training_task(task_key, shape.max_length)
    rows = source.rows(task, "train", ENGLISH)
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
    settings = {
        "task": task.key,
        "source": source.name,
        "batch_size": shape.batch_size,
        "max_length": shape.max_length,
        "precision": "bf16 autocast" if device.type == "cuda" else "fp32",
        "layers": model.backbone.config.num_hidden_layers,
        "hidden": model.backbone.config.hidden_size,
        "vocabulary": len(tokenizer),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    return bench("train", settings, policy_rows(model, sequences, task.kind, shape, device))


def policy_rows(
    model: PackedModel, sequences: Sequence[Encoded], kind: Kind, shape: Shape, device: torch.device
) -> list[Workload]:
    """A row per way to pad, a round of which is one step. No clock runs before all of them have shown the same loss
    packed and padded."""
    packed, padded = packed_trainer(model, device), padded_trainer(model, kind, device)
    batches = {policy: same_batches(sequences, kind, policy, shape, model.first_position) for policy in POLICIES}
    for each in batches.values():
        check_parity(packed, padded, each[0])

    def steps(name: str, trainer: TorchTrainer, policy: Policy) -> Candidate:
        # Both go through the same batches: those of the warm-up first, and then every one of them once.
        upcoming = cycle(batches[policy])
        return Candidate(name, lambda: trainer.step(next(upcoming)))

    rows = []
    for policy, sampled in batches.items():
        total = work_of(sampled, model.backbone.config.to_dict())
        quantity = {name: amount / len(sampled) for name, amount in total.items()}
        about = f"{quantity['slots'] / quantity['tokens']:.2f} slots per token: the ratio to expect"
        if policy == "length grouping":
            about += "; it changes which examples share a batch, and both get its batches"
        candidates = [steps("packed", packed, policy), steps(f"Hugging Face, {policy}", padded, policy)]
        rows.append(compare(policy, about, candidates, rounds=shape.steps, quantity=quantity, ceiling="matmul"))
    return rows


def _training_task(key: str, max_length: int) -> Task:
    task = get_task(key)
    if task.kind != "pair_classification" or task.trains_on is None:
        raise UsageFault(
            f"'{key}' does not classify pairs.",
            why="The models that are compared have a head for pairs.",
            fix="--task mnli",
        )
    task = get_task(task.trains_on)
    return replace(task, recipe=replace(task.recipe, max_length=max_length))
