"""Several tasks trained together: one task per optimiser step, drawn in proportion to its examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xlt.data.packing import PackedBatch
from xlt.tasks.record import Recipe
from xlt.train.batches import BatchStream, Division, epoch_end
from xlt.train.seeding import derive_seed


class JointStream:
    """The training batches of several tasks, a pure function of their streams, the recipe, the seed and the step.

    Each step is a batch of one task. A task is drawn with a probability in proportion to its number of examples, of
    which at most ``recipe.examples_cap`` count (the examples-proportional mixing of T5); its own batches come in the
    order of its own stream. An epoch is one pass over the examples that count. Masked LM is a task like the others.
    """

    def __init__(self, streams: Sequence[BatchStream], recipe: Recipe, *, seed: int) -> None:
        self.streams = streams
        self.recipe = recipe
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
        return self._stream(step).task.key

    def digest(self, step: int) -> str:
        """A short hash of the example ids of one step, for the log."""
        return self._stream(step).digest(int(self._places[step]))

    def micro_batches(self, step: int, division: Division) -> list[PackedBatch]:
        """This process's share of one step; see ``BatchStream.micro_batches``."""
        return self._stream(step).micro_batches(int(self._places[step]), division)

    def _stream(self, step: int) -> BatchStream:
        return self.streams[int(self._drawn[step])]
