"""Which examples make up which optimiser step, of one task or several, and which process and micro-batch gets them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from xlt.data.packing import Encoded, PackedBatch, pack
from xlt.errors import UsageFault
from xlt.tasks.record import Recipe, Task
from xlt.train.masking import Vocabulary, choose_masks, with_masks, with_next_tokens
from xlt.train.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class StepShard:
    """The part of an optimiser step that one process computes."""

    rank: int = 0
    """The number of this process, from 0."""
    world: int = 1
    """How many processes share the step."""
    accumulation: int = 1
    """How many micro-batches each of them computes one after another."""


def epoch_end(recipe: Recipe, examples: int, epochs: int) -> int:
    """The steps that pass ``examples`` ``epochs`` times: a batch may hold the end of one epoch and begin the next."""
    return -(-epochs * examples // recipe.batch_size)


def scored_steps(recipe: Recipe, examples: int, steps: int, collapse_after: float) -> set[int]:
    """The steps (1-based) after which a training is scored on the English dev data, unless it stops early."""
    scored: set[int] = set()
    if every := recipe.evaluate_every:
        scored = {*range(every, steps, every), steps}
        scored |= {epoch_end(recipe, examples, epoch) for epoch in range(1, recipe.epochs + 1)}
    if collapse_after:
        scored |= {math.ceil(collapse_after * steps), steps}
    return {step for step in scored if step <= steps}


class BatchStream:
    """The training batches of a run, a pure function of the examples, the recipe, the seed and the step.

    Epochs are shuffled and joined end to end, so that every batch is full. The batch of a step does not depend on the
    number of processes and micro-batches; only which of them gets which example does. In masked LM ``vocabulary`` is
    what masking must know; without it, as of a decoder, every next token is predicted.
    """

    def __init__(
        self,
        sequences: Sequence[Encoded],
        task: Task,
        recipe: Recipe,
        *,
        seed: int,
        first_position: int,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.sequences = sequences
        self.task = task
        self.recipe = recipe
        self.seed = seed
        self.first_position = first_position
        self.vocabulary = vocabulary
        self._orders: dict[int, np.ndarray] = {}

    @property
    def examples(self) -> int:
        """The examples of an epoch."""
        return len(self.sequences)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.recipe.steps or epoch_end(self.recipe, self.examples, self.recipe.epochs)

    def indices(self, step: int) -> list[int]:
        """The examples of one step (0-based), as positions in ``sequences``."""
        size, count = self.recipe.batch_size, len(self.sequences)
        places = range(step * size, (step + 1) * size)
        return [int(self._order(place // count)[place % count]) for place in places]

    def part(self, step: int) -> tuple[BatchStream, int]:
        """The stream of the task of one step, and which of its steps that is: this one."""
        return self, step

    def task_of(self, step: int) -> str:
        """The key of the task of one step: the same in every step."""
        return self.task.key

    def digest(self, step: int) -> str:
        """A short hash of the example ids of one step, for the log."""
        ids = "\n".join(self.sequences[index].example_id for index in self.indices(step))
        return hashlib.sha256(ids.encode()).hexdigest()[:16]

    def micro_batches(self, step: int, shard: StepShard) -> list[PackedBatch]:
        """This process's share of one step.

        Each loss is a sum divided by a denominator, chosen so that the mean over processes and micro-batches is
        the mean over the whole step.

        Raises:
            UsageFault: the step has fewer examples than shares.
        """
        indices = self.indices(step)
        shares = shard.world * shard.accumulation
        if len(indices) < shares:
            raise UsageFault(
                f"A batch of {len(indices)} cannot be divided among {shard.world} processes "
                f"with {shard.accumulation} micro-batches each.",
                fix="Use fewer processes or a larger batch.",
            )
        whole = [self.sequences[index] for index in indices]
        # Example i goes to share i mod shares: epochs are shuffled, so that the shares are equally hard and long.
        mine = [range(part * shard.world + shard.rank, len(indices), shares) for part in range(shard.accumulation)]
        if self.task.kind == "masked_lm":
            return self._masked(step, whole, mine, shares) if self.vocabulary else self._next(step, whole, mine, shares)
        # Tagging is a mean over words: as many as its sequences have labels.
        counted = sum(len(each.label) for each in whole) if self.task.kind == "tagging" else len(whole)
        return [self._packed(step, whole, part, counted / shares) for part in mine]

    def _next(self, step: int, whole: Sequence[Encoded], mine: Sequence[range], shares: int) -> list[PackedBatch]:
        scored = sum(len(each.input_ids) - 1 for each in whole)
        return [with_next_tokens(self._packed(step, whole, part, 1.0), scored / shares) for part in mine]

    def _masked(self, step: int, whole: Sequence[Encoded], mine: Sequence[range], shares: int) -> list[PackedBatch]:
        assert self.vocabulary is not None
        # The masks of the whole step are drawn before it is divided: they do not depend on the number of processes.
        random = np.random.default_rng(derive_seed(self.seed, "masks", step))
        tokens = [sequence.input_ids for sequence in whole]
        masks = choose_masks(tokens, self.vocabulary, self.recipe.mask_probability, random)
        scored = sum(len(chosen) for chosen, _ in masks)
        return [
            with_masks(self._packed(step, whole, part, 1.0), [masks[i] for i in part], scored / shares) for part in mine
        ]

    def _packed(self, step: int, whole: Sequence[Encoded], part: range, denominator: float) -> PackedBatch:
        sequences = [whole[i] for i in part]
        batch = pack(
            sequences,
            task=self.task.key,
            kind=self.task.kind,
            first_position=self.first_position,
            denominator=denominator,
        )
        if self.recipe.adversarial is None:
            return batch
        # Those of the whole step are drawn before it is divided, like its masks; in multiple choice of every choice.
        random, most = np.random.default_rng(derive_seed(self.seed, "noise", step)), max(len(e.lengths) for e in whole)
        seeds = random.integers(2**32, size=(len(whole), max(1, most)))
        own = [seeds[i, : max(1, len(whole[i].lengths))] for i in part]
        return replace(batch, noise_seeds=torch.from_numpy(np.concatenate(own)))

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            random = np.random.default_rng(derive_seed(self.seed, "order", epoch))
            self._orders[epoch] = random.permutation(len(self.sequences))
        return self._orders[epoch]


class JointStream:
    """The training batches of several tasks, a pure function of their streams, the recipe, the seed and the step.

    Each step is a batch of one task. A task is drawn with a probability in proportion to its number of examples, of
    which at most ``recipe.examples_cap`` count (the examples-proportional mixing of T5); its own batches come in the
    order of its own stream. An epoch is one pass over the examples that count. Masked LM is a task like the others.
    """

    def __init__(self, streams: Sequence[BatchStream], recipe: Recipe, *, seed: int) -> None:
        self.streams = streams
        self.recipe = recipe
        self.sequences = [sequence for stream in streams for sequence in stream.sequences]
        counts = np.array([min(len(stream.sequences), recipe.examples_cap) for stream in streams])
        self.examples = int(counts.sum())
        self.steps = recipe.steps or epoch_end(recipe, self.examples, recipe.epochs)
        random = np.random.default_rng(derive_seed(seed, "tasks"))
        self._drawn = random.choice(len(streams), size=self.steps, p=counts / counts.sum())
        self._places = np.zeros(self.steps, dtype=np.int64)
        for index in range(len(streams)):
            its_steps = np.flatnonzero(self._drawn == index)
            self._places[its_steps] = np.arange(len(its_steps))

    def task_of(self, step: int) -> str:
        """The key of the task of one step (0-based)."""
        return self.part(step)[0].task.key

    def digest(self, step: int) -> str:
        """A short hash of the example ids of one step, for the log."""
        stream, its_step = self.part(step)
        return stream.digest(its_step)

    def micro_batches(self, step: int, shard: StepShard) -> list[PackedBatch]:
        """This process's share of one step; see ``BatchStream.micro_batches``."""
        stream, its_step = self.part(step)
        return stream.micro_batches(its_step, shard)

    def part(self, step: int) -> tuple[BatchStream, int]:
        """The stream of the task of one step (0-based), and which of its steps that is."""
        return self.streams[int(self._drawn[step])], int(self._places[step])
