"""Rows B1 to B4: whole optimiser steps of random XLM-R, and how long Python takes merely to issue one."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from xlt.bench.batches import Policy, SameBatch, Shape, same_batch, sample_batches
from xlt.bench.operations import Operations
from xlt.bench.shapes import CONFIGS, RESERVED, Size, fresh_model, random_sequences
from xlt.bench.trainers import (
    DeepSpeedTrainer,
    GraphTrainer,
    TorchTrainer,
    Trainer,
    check_parity,
    library_modules,
    packed_trainer,
    padded_trainer,
    set_dropout,
    work_of,
)
from xlt.bench.workload import (
    NOT_COMPILED,
    Bench,
    Candidate,
    Deferred,
    NotRun,
    Workload,
    bench,
    compare,
    reason,
    synchronize,
    time_limit,
)
from xlt.data.packing import Encoded
from xlt.model.encoder import PackedModel
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task
from xlt.train.used_rows import train_used_rows

ROWS = {"issue": "mnli", "B1": "mnli", "B4": "mnli", "B2": "squad", "B3": "hellaswag"}
OURS, BASELINE = "packed, graph engine", "Hugging Face, padded"
# The others of ours, and the baselines, in the order in which they are made.
UNCAPTURED, DEEPSPEED = "packed, graph engine without graphs", "packed, DeepSpeed"
TORCH, COMPILED = "packed, torch AdamW", "packed, torch AdamW, torch.compile"
NESTED, BASELINE_COMPILED = "packed, torch's nested tensors", "Hugging Face, padded, torch.compile"
BATCHES = {"cpu": 2, "cuda": 8}  # of various shapes; a round makes a step on each
POOL = 4 * 50  # batches: length grouping sorts within 50 of them where there are four times as many
PARTS = 8  # micro-batches of a step in the authors' own code
DROPOUT = 0.1

Steps = Sequence[tuple[SameBatch, ...]]  # of a round: each step's micro-batches


@dataclass(slots=True)
class Candidates:
    """All that can take part with one kind of head, the examples, and the bytes that each keeps on the GPU between
    steps."""

    size: Size
    rounds: int
    task: Task
    sequences: list[Encoded]
    trainers: dict[str, Trainer | NotRun]
    kept: dict[str, int]

    def sample(self, policy: Policy) -> list[list[Encoded]]:
        """The examples of each batch of a round."""
        steps = BATCHES["cuda" if torch.cuda.is_available() else "cpu"] // (2 if self.task.choices > 1 else 1)
        recipe = self.task.recipe
        return sample_batches(self.sequences, policy, Shape(steps, recipe.batch_size, recipe.max_length))

    def batch(self, members: Sequence[Encoded]) -> SameBatch:
        """``members`` as one batch."""
        return same_batch(members, self.task.kind, 2)


def bench_steps(size: Size, rounds: int, *, rows: Sequence[str] = tuple(ROWS)) -> Bench:
    """Time the ``rows`` (of ``ROWS``) on a fresh XLM-R of ``size`` with dropout, a round being a pass over a few
    batches of different shapes, all of them on the host when the clock starts.

    Before a clock runs every candidate that is not a compiled form of another shows the loss and gradient norm of
    the library's padded model without dropout. ``peak_bytes`` of a row are what the candidate needs alone, in a step
    that is not replayed from a graph.
    """
    workloads: list[Workload] = []
    found: Candidates | None = None
    for name in rows:
        if found is None or found.task.key != ROWS[name]:
            found = None
            torch.compiler.reset()  # what it has compiled holds the models
            gc.collect()
            found = _candidates(ROWS[name], size, rounds)
        workloads += _ROW[name](found)
    return bench("steps", {"size": size, "compile": torch.cuda.is_available(), "dropout": DROPOUT}, workloads)


def _policy_rows(found: Candidates, name: str) -> list[Workload]:
    policies: tuple[Policy, ...] = "dynamic padding", "length grouping"
    made = []
    for policy in policies:
        batches = [(found.batch(each),) for each in found.sample(policy)]
        entries = [(label, trainer, batches) for label, trainer in found.trainers.items()]
        about = f"{found.task.key}, {len(batches[0][0].packed.example_ids)} examples a step; batches of {policy}"
        made.append(_measure(f"{name}, {policy}", about, found, entries))
    return made


def _authors_recipe(found: Candidates) -> list[Workload]:
    sampled = found.sample("dynamic padding")
    whole = [(found.batch(each),) for each in sampled]
    width = len(sampled[0]) // PARTS
    parts = [
        tuple(found.batch(each[start : start + width]) for start in range(0, len(each), width)) for each in sampled
    ]
    entries: list[tuple[str, Trainer | NotRun, Steps]] = [
        (OURS, found.trainers[OURS], whole),
        *(
            (f"{label}, {PARTS} x {width}", found.trainers[label], parts)
            for label in (TORCH, BASELINE, BASELINE_COMPILED)
        ),
    ]
    about = f"the authors' recipe: {PARTS} micro-batches of {width} a step against one packed batch of {width * PARTS}"
    return [_measure("B4", about, found, entries)]


def _issue(found: Candidates) -> list[Workload]:
    """Host seconds from the call of a step until it returns, the device idle at the start."""
    about = "from the call of a step until it returns, without waiting for the device; summed over the steps of a round"
    if not torch.cuda.is_available():
        idle = [NotRun(label, "on a CPU a call returns when the step is done") for label in found.trainers]
        return [compare("issue", about, idle, rounds=0, quantity={})]
    steps = [found.batch(each).pinned() for each in found.sample("dynamic padding")]

    def run(trainer: Trainer) -> float:
        seconds = 0.0
        for step in steps:
            synchronize()
            start = time.perf_counter()
            trainer.step(step)
            seconds += time.perf_counter() - start
        return seconds

    candidates = [_candidate(label, trainer, run, own_clock=True) for label, trainer in found.trainers.items()]
    return [compare("issue", about, candidates, rounds=found.rounds, quantity={"steps": float(len(steps))}, warm_up=2)]


_ROW: dict[str, Callable[[Candidates], list[Workload]]] = {
    "issue": _issue,
    "B1": partial(_policy_rows, name="B1"),
    "B4": _authors_recipe,
    "B2": partial(_policy_rows, name="B2"),
    "B3": partial(_policy_rows, name="B3"),
}


def _measure(
    name: str, about: str, found: Candidates, entries: Sequence[tuple[str, Trainer | NotRun, Steps]]
) -> Workload:
    if torch.cuda.is_available():
        entries = [(label, who, [tuple(b.pinned() for b in step) for step in steps]) for label, who, steps in entries]
    peaks: dict[str, int] = {}
    issued: dict[str, Operations] = {}
    candidates = [_candidate(label, who, partial(_round, steps=steps), peaks, issued) for label, who, steps in entries]
    batches = [batch for step in entries[0][2] for batch in step]
    quantity = {"steps": float(len(batches)), **work_of(batches, CONFIGS[found.size])}
    row = compare(name, about, candidates, rounds=found.rounds, quantity=quantity, ceiling="matmul", warm_up=2)
    for timing in row.timings:
        if timing.seconds is not None:
            own = next((kept for label, kept in found.kept.items() if timing.name.startswith(label)), 0)
            timing.peak_bytes = peaks[timing.name] + own if timing.name in peaks else None
        if timing.name in issued:
            timing.operations = issued[timing.name].operations / len(entries[0][2])
            timing.reads = issued[timing.name].reads / len(entries[0][2])
    if isinstance(mine := entries[0][1], GraphTrainer):
        row.quantity["optimizer_bytes"] = len(batches) * mine.optimizer_bytes()
    return row


def _round(trainer: Trainer, steps: Steps) -> None:
    for step in steps:
        trainer.step(*step)


def _candidate(
    label: str,
    trainer: Trainer | NotRun,
    run: Callable[[Trainer], Any],
    peaks: dict[str, int] | None = None,
    issued: dict[str, Operations] | None = None,
    *,
    own_clock: bool = False,
) -> Candidate | NotRun | Deferred:
    """The candidate after its first round, whose peak of memory beyond what lay there goes to ``peaks``, and after one
    in which every shape is known, where it is not compiled; what that issues goes to ``issued``."""
    if isinstance(trainer, NotRun):
        return NotRun(label, trainer.why)

    def make() -> Candidate | NotRun:
        before = _allocated()
        try:
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            run(trainer)
            synchronize()
        except Exception as error:
            return NotRun(label, reason(error))
        if peaks is not None and torch.cuda.is_available():
            peaks[label] = torch.cuda.max_memory_allocated() - before
        if issued is not None and not label.startswith((COMPILED, BASELINE_COMPILED)):
            run(trainer)
            with Operations() as issued[label]:
                run(trainer)
        return Candidate(label, partial(run, trainer), own_clock)

    if label.startswith((COMPILED, BASELINE_COMPILED)):
        return Deferred(label, make)
    with time_limit():
        return make()


def _candidates(key: str, size: Size, rounds: int) -> Candidates:
    """Make all trainers, and check that they compute the same without dropout."""
    task, device = get_task(key), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = task.recipe
    sequences = random_sequences(key, POOL * recipe.batch_size * task.choices, size, longest=recipe.max_length)
    found = Candidates(size, rounds, task, _labelled(sequences, task), {}, {})
    model = partial(_model, task, size, device, sequences)
    with library_modules():
        plain = _model(task, size, device)
    mine, baseline = packed_trainer(plain, device), padded_trainer(plain, task.kind, device)
    makers: dict[str, Callable[[], Trainer]] = {
        OURS: lambda: GraphTrainer(model(), device),
        UNCAPTURED: lambda: GraphTrainer(model(), device, graphs=False),
        DEEPSPEED: lambda: DeepSpeedTrainer(model(), device),
        TORCH: lambda: mine,
        NESTED: lambda: mine.nested(plain.backbone),
        BASELINE: lambda: baseline,
    }
    if device.type == "cpu":
        del makers[UNCAPTURED]  # it is what the graph engine does there
    batch = found.batch(found.sequences[: recipe.batch_size])
    for label, make in makers.items():
        before = _allocated()
        trainer = found.trainers[label] = _checked(label, make, baseline, batch)
        # Torch's optimiser makes its moments in its first step.
        torchs = 12 * sum(each.numel() for each in plain.parameters())
        found.kept[label] = torchs if isinstance(trainer, TorchTrainer) else _allocated() - before
    if device.type == "cpu":
        found.trainers |= {name: NotRun(name, NOT_COMPILED) for name in (COMPILED, BASELINE_COMPILED)}
        return found
    library: Any = baseline.model
    found.trainers[COMPILED] = mine.compiled(plain.backbone.encoder.layer)
    blocks = library.base_model.encoder.layer
    found.trainers[BASELINE_COMPILED] = baseline.compiled(blocks, mode="reduce-overhead")
    return found


def _checked(label: str, make: Callable[[], Trainer], baseline: Trainer, batch: SameBatch) -> Trainer | NotRun:
    try:
        trainer = make()
        for each in (trainer, baseline):
            set_dropout(each.model, 0.0)
        if trainer is not baseline:
            check_parity(trainer, baseline, batch)
        for each in (trainer, baseline):
            set_dropout(each.model, DROPOUT)
    except Exception as error:
        return NotRun(label, reason(error))
    return trainer


def _allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def _model(task: Task, size: Size, device: torch.device, read: Sequence[Encoded] = ()) -> PackedModel:
    """The same weights at every call; of the word embeddings, as in a run, those that stand in ``read``, if any do."""
    with device:
        model = fresh_model(size, dropout=DROPOUT)
        model.drop_masked_lm_head()
        model.add_head(task.kind, task.kind, len(task.labels))
    if read:
        train_used_rows(model, read, range(RESERVED))
    return model


def _labelled(sequences: Sequence[Encoded], task: Task) -> list[Encoded]:
    """Random pairs as examples of ``task``: as many of them as it has choices end to end, spans with a first and a
    last token."""
    if task.kind == "span_qa":
        return [replace(each, label=(1, len(each.input_ids) - 2)) for each in sequences]
    if task.choices == 1:
        return list(sequences)
    return [
        Encoded(
            example_id=str(start),
            input_ids=np.concatenate([each.input_ids for each in sequences[start : start + task.choices]]),
            label=(start // task.choices % task.choices,),
            lengths=tuple(len(each.input_ids) for each in sequences[start : start + task.choices]),
        )
        for start in range(0, len(sequences), task.choices)
    ]
