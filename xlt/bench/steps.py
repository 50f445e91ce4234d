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
from torch import nn

from xlt.bench.batches import Policy, SameBatch, Shape, draw, together
from xlt.bench.embed import forward_flop
from xlt.bench.shapes import CONFIGS, Size, fresh_model, random_sequences
from xlt.bench.sides import DeepSpeedSide, GraphSide, Side, Trainee, check_parity, library_modules, ours, peer
from xlt.bench.workload import (
    PATIENCE,
    Bench,
    Contestant,
    Later,
    NotRun,
    Timing,
    Workload,
    bench,
    compete,
    synchronize,
    time_limit,
)
from xlt.data.packing import Encoded
from xlt.errors import XltError
from xlt.model.encoder import PackedModel
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task

ROWS = {
    "issue": "mnli",
    "B1": "mnli",
    "B4": "mnli",
    "B2": "squad",
    "B3": "hellaswag",
}
OURS, PEER = "packed, graph engine", "Hugging Face, padded"
# The others of ours, and the peers, in the order in which they are made.
UNCAPTURED, DEEPSPEED = "packed, graph engine without graphs", "packed, DeepSpeed"
TORCH, COMPILED = "packed, torch AdamW", "packed, torch AdamW, torch.compile"
NESTED, PEER_COMPILED = "packed, torch's nested tensors", "Hugging Face, padded, torch.compile"
NO_COMPILE = NotRun("", "torch.compile was not asked for; on a CPU it gains little and compiles for minutes")
BATCHES = {"cpu": 2, "cuda": 8}  # of various shapes; a round makes a step on each
POOL = 4 * 50  # batches: length grouping sorts within 50 of them where there are four times as many
PARTS = 8  # micro-batches of a step in the authors' own code
DROPOUT = 0.1

Steps = Sequence[tuple[SameBatch, ...]]  # of a round: each step's micro-batches


@dataclass(slots=True)
class _Field:
    """All that can take part with one kind of head, and the bytes that each keeps on the GPU between steps."""

    sides: dict[str, Trainee | NotRun]
    kept: dict[str, int]
    sequences: list[Encoded]
    task: Task


def bench_steps(
    size: Size,
    rounds: int,
    *,
    compile: bool | None = None,  # noqa: A002
    rows: Sequence[str] = tuple(ROWS),
) -> Bench:
    """Time the ``rows`` (of ``ROWS``) on a fresh XLM-R of ``size`` with dropout, a round being a pass over a few
    batches of different shapes, all of them on the host when the clock starts.

    Before a clock runs every contestant that is not a compiled form of another shows the loss and gradient norm of
    the library's padded model without dropout. ``peak_bytes`` of a row are what the contestant needs alone, in a step
    that is not replayed from a graph. ``compile`` asks for the contestants that torch compiles; by default they run
    where there is a GPU.
    """
    compiles = torch.cuda.is_available() if compile is None else compile
    workloads: list[Workload] = []
    field: _Field | None = None
    for name in rows:
        if field is None or field.task.key != ROWS[name]:
            field = None
            torch.compiler.reset()  # what it has compiled holds the models
            gc.collect()
            field = _field(ROWS[name], size, compiles)
        workloads += _ROW[name](field, size, rounds)
    return bench("steps", {"size": size, "compile": compiles, "dropout": DROPOUT}, workloads)


def _policy_rows(field: _Field, size: Size, rounds: int, name: str) -> list[Workload]:
    policies: tuple[Policy, ...] = "dynamic padding", "length grouping"
    made = []
    for policy in policies:
        batches = [(together(each, field.task.kind, 2),) for each in _drawn(field, policy)]
        entries = [(label, side, batches) for label, side in field.sides.items()]
        about = f"{field.task.key}, {len(batches[0][0].packed.example_ids)} examples a step; batches of {policy}"
        made.append(_race(f"{name}, {policy}", about, field, entries, size, rounds))
    return made


def _jiant(field: _Field, size: Size, rounds: int) -> list[Workload]:
    drawn = _drawn(field, "dynamic padding")
    whole = [(together(each, field.task.kind, 2),) for each in drawn]
    width = len(drawn[0]) // PARTS
    parts = [
        tuple(together(each[start : start + width], field.task.kind, 2) for start in range(0, len(each), width))
        for each in drawn
    ]
    entries: list[tuple[str, Trainee | NotRun, Steps]] = [
        (OURS, field.sides[OURS], whole),
        *((f"{label}, {PARTS} x {width}", field.sides[label], parts) for label in (TORCH, PEER, PEER_COMPILED)),
    ]
    about = f"the authors' recipe: {PARTS} micro-batches of {width} a step against one packed batch of {width * PARTS}"
    return [_race("B4", about, field, entries, size, rounds)]


def _issue(field: _Field, size: Size, rounds: int) -> list[Workload]:
    """Host seconds from the call of a step until it returns, the device idle at the start."""
    about = "from the call of a step until it returns, without waiting for the device; summed over the steps of a round"
    if not torch.cuda.is_available():
        reason = "on a CPU a call returns when the step is done"
        return [
            Workload(
                name="issue",
                about=about,
                rounds=0,
                quantity={},
                timings=[Timing(name=each, not_run=reason) for each in field.sides],
            )
        ]
    steps = [(together(each, field.task.kind, 2).pinned(),) for each in _drawn(field, "dynamic padding")]

    def run(side: Trainee) -> float:
        seconds = 0.0
        for step in steps:
            synchronize()
            start = time.perf_counter()
            side.step(*step)
            seconds += time.perf_counter() - start
        return seconds

    contestants = [
        _entry(label, partial(_ready, label, side, run, own_clock=True)) for label, side in field.sides.items()
    ]
    return [compete("issue", about, contestants, rounds=rounds, quantity={"steps": float(len(steps))}, warm_up=2)]


_ROW: dict[str, Callable[[_Field, Size, int], list[Workload]]] = {
    "issue": _issue,
    "B1": partial(_policy_rows, name="B1"),
    "B4": _jiant,
    "B2": partial(_policy_rows, name="B2"),
    "B3": partial(_policy_rows, name="B3"),
}


def _race(
    name: str,
    about: str,
    field: _Field,
    entries: Sequence[tuple[str, Trainee | NotRun, Steps]],
    size: Size,
    rounds: int,
) -> Workload:
    if torch.cuda.is_available():
        entries = [(label, side, [tuple(b.pinned() for b in step) for step in steps]) for label, side, steps in entries]
    peaks: dict[str, int] = {}

    def make(label: str, side: Trainee | NotRun, steps: Steps) -> Contestant | NotRun:
        before = _allocated()
        made = _ready(label, side, partial(_round, steps=steps))
        if torch.cuda.is_available():
            own = next(value for key, value in field.kept.items() if label.startswith(key))
            peaks[label] = torch.cuda.max_memory_allocated() - before + own
        return made

    contestants = [_entry(label, partial(make, label, side, steps)) for label, side, steps in entries]
    batches = [batch for step in entries[0][2] for batch in step]
    tokens, layers = sum(batch.packed.tokens for batch in batches), CONFIGS[size]["num_hidden_layers"]
    quantity = {
        "steps": float(len(batches)),
        "tokens": float(tokens),
        "slots": float(sum(batch.padded["input_ids"].numel() for batch in batches)),
        # The backward pass has twice the products of the forward one.
        "flop": sum(3 * forward_flop(size, layers, batch.packed.cu_seqlens.diff().tolist()) for batch in batches),
    }
    row = compete(name, about, contestants, rounds=rounds, quantity=quantity, ceiling="matmul", warm_up=2)
    for timing in row.timings:
        if timing.seconds is not None:
            timing.peak_bytes = peaks.get(timing.name)
    if isinstance(mine := entries[0][1], GraphSide):
        row.quantity["optimizer_bytes"] = len(batches) * mine.optimizer_bytes()
    return row


def _round(side: Trainee, steps: Steps) -> None:
    for step in steps:
        side.step(*step)


def _entry(label: str, make: Callable[[], Contestant | NotRun]) -> Contestant | NotRun | Later:
    if label.startswith((COMPILED, PEER_COMPILED)):
        return Later(label, make)
    with time_limit(PATIENCE):
        return make()


def _ready(
    label: str, side: Trainee | NotRun, run: Callable[[Trainee], Any], *, own_clock: bool = False
) -> Contestant | NotRun:
    """The contestant after its first round, or why it has none."""
    if isinstance(side, NotRun):
        return replace(side, name=label)
    try:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        run(side)
        synchronize()
    except Exception as error:
        return NotRun(label, _reason(error))
    return Contestant(label, partial(run, side), own_clock)


def _field(task: str, size: Size, compiles: bool) -> _Field:
    """Make all sides, and see that they compute the same without dropout."""
    described, device = get_task(task), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe, kind = described.recipe, described.kind
    sequences = random_sequences(task, POOL * recipe.batch_size * described.choices, size, longest=recipe.max_length)
    field = _Field({}, {}, _labelled(sequences, described), described)
    model = partial(_model, described, size, device)
    with library_modules():
        plain = model()
    mine, reference = ours(plain, device), peer(plain, kind, device)
    makers: dict[str, Callable[[], Trainee]] = {
        OURS: lambda: GraphSide(model(), device),
        UNCAPTURED: lambda: GraphSide(model(), device, graphs=False),
        DEEPSPEED: lambda: DeepSpeedSide(model(), device),
        TORCH: lambda: mine,
        NESTED: lambda: mine.nested(plain.backbone),
        PEER: lambda: reference,
    }
    if device.type == "cpu":
        del makers[UNCAPTURED]  # it is what the graph engine does there
    batch = together(field.sequences[: recipe.batch_size], kind, 2)
    for label, make in makers.items():
        before = _allocated()
        side = field.sides[label] = _checked(label, make, reference, batch)
        # Torch's optimiser makes its moments in its first step.
        torchs = 12 * sum(each.numel() for each in plain.parameters())
        field.kept[label] = torchs if isinstance(side, Side) else _allocated() - before
    base: Any = reference.model
    options = {"mode": "reduce-overhead"} if device.type == "cuda" else {}
    field.sides[COMPILED] = mine.compiled(plain.backbone.encoder.layer) if compiles else NO_COMPILE
    field.sides[PEER_COMPILED] = (
        reference.compiled(base.base_model.encoder.layer, **options) if compiles else NO_COMPILE
    )
    return field


def _checked(label: str, make: Callable[[], Trainee], reference: Trainee, batch: SameBatch) -> Trainee | NotRun:
    try:
        side = make()
        for each in (side, reference):
            _set_dropout(each.model, 0.0)
        if side is not reference:
            check_parity(side, reference, batch)
        for each in (side, reference):
            _set_dropout(each.model, DROPOUT)
    except Exception as error:
        return NotRun(label, _reason(error))
    return side


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, XltError | TimeoutError) else f"{type(error).__name__}: {text}"


def _set_dropout(model: nn.Module, share: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def _allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def _model(task: Task, size: Size, device: torch.device) -> PackedModel:
    """The same weights at every call."""
    with device:
        model = fresh_model(size, dropout=DROPOUT)
        model.drop_masked_lm_head()
        model.add_head(task.kind, task.kind, len(task.labels))
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


def _drawn(field: _Field, policy: Policy) -> list[list[Encoded]]:
    steps = BATCHES["cuda" if torch.cuda.is_available() else "cpu"] // (2 if field.task.choices > 1 else 1)
    recipe = field.task.recipe
    return draw(field.sequences, policy, Shape(steps, recipe.batch_size, recipe.max_length))
