"""The graph engine: one GPU, batches in few shapes, and a whole optimiser step as one CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from xlt_kernels.adamw import AdamW
from xlt_kernels.switch import serves

from xlt.data.packing import PackedBatch
from xlt.model.encoder import PackedModel
from xlt.runtime import device, start_process_group
from xlt.tasks.record import Recipe
from xlt.train.averaged import averaged_model
from xlt.train.engine import (
    EngineSettings,
    build_engine,
    check_settings,
    fill_missing_gradients,
    our_optimizer,
    trained_parameters,
)
from xlt.train.perturbation import losses
from xlt.train.state import load_optimizer, save_optimizer

IGNORED = -100
# What ``max_seqlen`` is rounded up to: it decides how many programs the attention kernel starts, and which. Every value
# is a graph of its own; beyond the last one multiples of 128 serve.
LENGTHS = (64, 128, 256, 384, 512)
# The kernel of AdamW keeps the addresses of the gradients of as many graphs.
MAX_GRAPHS = 256


def in_bucket(batch: PackedBatch) -> PackedBatch:
    """``batch`` in one of few shapes: tokens, scored positions and ``max_seqlen`` rounded up; on the CPU.

    The added tokens are sequences of their own, a number of them that goes with the shape, so that every attention and
    head reads them like others; none is empty. They count for nothing, exactly: their labels are ``IGNORED``, and in
    multiple choice each is an example with one choice, whose loss and gradient are zero whatever its score. The labels
    of spans stay as they are (:func:`bucket_pass`). The denominator becomes a tensor.
    """
    longest = next((length for length in LENGTHS if length >= batch.max_seqlen), _round_up(batch.max_seqlen, 128))
    width = _width(batch.tokens, 128)
    fillers = -(-(width - 1) // (longest - 1))
    added = _round_up(batch.tokens + fillers, width) - batch.tokens
    ends = batch.tokens + torch.arange(1, fillers + 1) * added // fillers
    changes: dict[str, Any] = {
        "input_ids": F.pad(batch.input_ids, (0, added), value=int(batch.input_ids[0])),
        "position_ids": F.pad(batch.position_ids, (0, added), value=int(batch.position_ids[0])),
        "cu_seqlens": torch.cat([batch.cu_seqlens, ends.to(batch.cu_seqlens.dtype)]),
        "max_seqlen": longest,
        "denominator": torch.tensor(batch.denominator, dtype=torch.float32),
    }
    if batch.noise_seeds is not None:
        changes["noise_seeds"] = F.pad(batch.noise_seeds, (0, fillers))
    assert batch.labels is not None
    if batch.scored_positions is not None:
        count = len(batch.labels)
        more = _round_up(count, _width(count, 32)) - count
        changes["scored_positions"] = F.pad(batch.scored_positions, (0, more))
        changes["labels"] = F.pad(batch.labels, (0, more), value=IGNORED)
    elif batch.cu_groups is not None:
        groups = batch.cu_groups[-1] + torch.arange(1, fillers + 1, dtype=batch.cu_groups.dtype)
        changes["cu_groups"] = torch.cat([batch.cu_groups, groups])
        changes["labels"] = F.pad(batch.labels, (0, fillers))
    elif batch.kind == "span_qa":
        changes["labels"] = batch.labels.clone()
    else:
        changes["labels"] = F.pad(batch.labels, (0, fillers), value=IGNORED)
    return replace(batch, **changes)


def bucket_pass(model: PackedModel, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """The model's loss on what :func:`in_bucket` made, equal to that of the batch without the added sequences, and the
    scores."""
    if batch.kind != "span_qa":
        found: tuple[Tensor, Tensor] = model(batch)
        return found
    assert batch.labels is not None
    _, scores = model(replace(batch, labels=None))
    # Of the sequences with labels alone, a row of ``max_seqlen`` slots each.
    count, slots = len(batch.labels), torch.arange(batch.max_seqlen, device=scores.device)
    first, length = batch.cu_seqlens[:count, None], batch.cu_seqlens.diff()[:count, None]
    places = (first + slots).clamp(max=len(scores) - 1)
    rows = scores.index_select(0, places.flatten()).view(*places.shape, 2)
    rows = rows.masked_fill((slots >= length).unsqueeze(2), -torch.inf).transpose(1, 2).flatten(0, 1)
    return F.cross_entropy(rows, batch.labels.flatten(), reduction="sum") / 2 / batch.denominator, scores


@dataclass(slots=True)
class _Bucket:
    """The inputs of one shape, at fixed addresses, and the graph that reads them, once there is one."""

    batch: PackedBatch
    graph: Any = None
    loss: Tensor | None = None


class GraphEngine:
    """Training steps at fixed shapes and addresses; on a GPU each is one CUDA graph, everywhere else it just runs.

    A captured step is the one that DeepSpeed's engine at stage 0 would issue: forward and backward pass of the model,
    and a step of the optimiser that it was handed. bf16 computes on rounded copies of fp32 master weights; task heads
    have no copies. The learning rate, the step count and the state of the random generator lie on the device. A shape
    is run the first time it comes, which compiles its kernels, and captured the second time.

    Raises:
        UsageFault: ZeRO, several processes or micro-batches.
    """

    block = 32

    def __init__(self, model: PackedModel, recipe: Recipe, steps: int, settings: EngineSettings) -> None:
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        # Micro-batches come only from a device whose memory was short: nobody can ask for them.
        check_settings(replace(settings, accumulation=1), world)
        self._model, self._recipe, self._steps, self._done = model.train(), recipe, steps, 0
        self._average = averaged_model(model, recipe, settings.precision)
        self._engine: Any = None
        if find_spec("deepspeed"):
            start_process_group()
            self._engine = build_engine(model.to(device()), recipe, steps, replace(settings, engine="graph"))
            self._optimizer: AdamW = self._engine.optimizer
        else:  # an image for benchmarks alone: the two that a step needs are made without it
            self._optimizer = our_optimizer(model, recipe, settings.precision)
        self._buckets: dict[Hashable, _Bucket] = {}
        self.graphs = 0
        self._stream = torch.cuda.Stream() if model.device.type == "cuda" else None
        self._pool = torch.cuda.graph_pool_handle() if self._stream else None
        # Without these the host decides within a step: fp32 attention plans its blocks, AdamW reads its scalars.
        rounded, has_kernel = settings.precision == "bf16", serves("adamw", next(model.parameters()))
        self.captures = bool(self._stream) and rounded and model.packed and model.reads_whole and has_kernel
        if self._stream and not self.captures:
            lacks = "fp32, a padded model, a decoder or windows of attention, or no AdamW kernel"
            warnings.warn(f"The graph engine runs without graphs: {lacks}.", stacklevel=2)

    def step(self, batches: Sequence[PackedBatch]) -> tuple[Tensor, float]:
        """One optimiser step: its loss, still on the device, and the learning rate. Of several: without graphs."""
        rate = self._recipe.learning_rate * self._recipe.learning_rate_factor(self._done, self._steps)
        self._done += 1
        if self._stream is None:
            return self._followed(batches, rate), rate
        # All of it on one stream: autograd ties a gradient to the stream of its forward pass.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = self._followed(batches, rate)
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss, rate

    def synced_model(self) -> PackedModel:
        """See ``Engine``."""
        return self._model

    def weights(self, where: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Copies on ``where`` of all weights in fp32: of the masters, where there are rounded ones."""
        full = self._optimizer.full_precision
        return {name: full(each).to(where, copy=True) for name, each in self._model.named_parameters()}

    def save(self, folder: Path) -> None:
        """See ``Engine``."""
        save_optimizer(folder, trained_parameters(self._model, self._optimizer))
        if self._average:
            self._average.save(folder)

    def load(self, folder: Path, step: int) -> None:
        """See ``Engine``."""
        load_optimizer(folder, trained_parameters(self._model, self._optimizer))
        if self._average:
            self._average.load(folder)
        self._done = step

    def forget_shapes(self) -> None:
        """Give the graphs and their memory back; every shape counts as new."""
        self._buckets.clear()

    def close(self) -> None:
        """See ``Engine``."""
        self.forget_shapes()
        if self._engine:
            self._engine.destroy()

    def _followed(self, batches: Sequence[PackedBatch], rate: float) -> Tensor:
        loss = self._issue(batches, rate)
        if self._average:
            # Issued after the step's graph, on its stream.
            self._average.follow(self.weights(self._model.device))
        return loss

    def _issue(self, batches: Sequence[PackedBatch], rate: float) -> Tensor:
        if len(batches) == 1:
            return self._run(in_bucket(batches[0]), rate)
        self._optimizer.set_rate(rate)
        return self._compute(*(in_bucket(batch).to(self._model.device) for batch in batches))

    def _run(self, batch: PackedBatch, rate: float) -> Tensor:
        self._optimizer.set_rate(rate)
        key = (batch.task, batch.max_seqlen, batch.max_group, *(each.shape for _, each in _tensors(batch)))
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(batch.to(self._model.device))
            return self._compute(bucket.batch)
        for name, value in _tensors(batch):
            # From pinned memory a copy does not wait for the steps before it.
            source = value.pin_memory() if self._stream else value
            getattr(bucket.batch, name).copy_(source, non_blocking=True)
        if self.captures and bucket.graph is None and self.graphs < MAX_GRAPHS:
            self._capture(bucket)
        if bucket.graph is None:
            return self._compute(bucket.batch)
        bucket.graph.replay()
        assert bucket.loss is not None
        return bucket.loss.clone()

    def _capture(self, bucket: _Bucket) -> None:
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                bucket.loss = self._compute(bucket.batch)
            bucket.graph = graph
            self.graphs += 1
        except RuntimeError as error:
            self.captures = False
            # Nothing was computed, but the generators are left as they are within a capture.
            for generator in torch.cuda.default_generators:
                generator.graphsafe_set_state(generator.clone_state())
            what = str(error).split("\n")[0]
            warnings.warn(f"A step cannot be captured, so that further steps run without graphs: {what}", stacklevel=2)
        # The gradients are the graph's: other graphs use their memory for other things.
        self._optimizer.zero_grad()

    def _compute(self, *batches: PackedBatch) -> Tensor:
        self._optimizer.zero_grad()
        found, passes = [], len(batches) * self._recipe.passes
        own = partial(bucket_pass, self._model)
        average = partial(bucket_pass, self._average.model) if self._average else None
        for batch in batches:
            for loss in losses(self._model, batch, self._recipe.adversarial, own, own, average):
                part = loss / passes if passes > 1 else loss
                part.backward()
                found.append(part.detach())
        fill_missing_gradients(self._model)
        self._optimizer.step()
        return found[0] if passes == 1 else torch.stack(found).sum()


def _tensors(batch: PackedBatch) -> Iterator[tuple[str, Tensor]]:
    for field in fields(batch):
        if isinstance(value := getattr(batch, field.name), Tensor):
            yield field.name, value


def _width(count: int, least: int) -> int:
    """The distance between buckets near ``count``: at most a sixteenth of it, or ``least``."""
    return max(least, 1 << (count.bit_length() - 5) if count.bit_length() > 5 else 1)


def _round_up(count: int, width: int) -> int:
    return -(-count // width) * width
