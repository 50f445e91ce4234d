"""Easy or hard training rows, by the dynamics of a first pass.

How sure a model becomes of a row's label while it is trained, and how soon, tells how easy the row is (S. Swayamdipta
et al., Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics, EMNLP 2020). Theirs is the mean
probability of the label over epochs; here it is the mean over the moments of a short training, of what the metric gives
for the row and, among rows with as much, of how sure the model was of what it said.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.predictions import Prediction
from xlt.data.rows import Row, is_trainable
from xlt.evaluate.parts import score_parts
from xlt.evaluate.predict import RepeatedPrediction
from xlt.model.encoder import PackedModel
from xlt.runtime import device
from xlt.tasks.record import Recipe, Task
from xlt.train.batches import BatchStream
from xlt.train.engine import EngineSettings
from xlt.train.loop import DevResult, train
from xlt.train.seeding import derive_seed, seed_everything
from xlt.train.used_rows import train_used_rows

MOMENTS = 3

Streams = Callable[[Recipe, Sequence[Row]], BatchStream]


def chosen_rows(
    rows: Sequence[Row],
    task: Task,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    stream: Streams,
    *,
    seed: int,
    max_tokens: int,
    settings: EngineSettings,
) -> list[Row]:
    """The easiest or the hardest of the trainable ``rows``, as the recipe of ``task`` says, in their order.

    A copy of ``model``, with its heads, makes the first pass over all of them, on the batches that ``stream`` makes; it
    starts as the training that follows does. Every process of the group calls this, and all get the same rows.
    """
    recipe, rows = task.recipe, [row for row in rows if is_trainable(row)]
    first = replace(
        recipe, steps=recipe.first_pass, epochs=0, evaluate_every=-(-recipe.first_pass // MOMENTS), adversarial=None
    )
    seed_everything(derive_seed(seed, "first pass", task.key))
    ease = torch.zeros(len(rows), 2, dtype=torch.float64)
    watched = RepeatedPrediction(rows, task, tokenizer, max_tokens=max_tokens)
    learner, batches = copy.deepcopy(model), stream(first, rows)
    train_used_rows(learner, [*batches.sequences, *watched.sequences], tokenizer.all_special_ids)

    def watch(trained: PackedModel) -> DevResult:
        ease.add_(_ease(task, rows, watched.predict(trained, device())))
        return DevResult(0.0)  # of no use: the weights are thrown away

    train(learner, batches, settings, on_step=lambda record: None, dev_score=watch)
    ease = ease.to(device())
    torch.distributed.broadcast(ease, 0)
    return [rows[place] for place in chosen_places([(share, sure) for share, sure in ease.tolist()], recipe)]


def chosen_places(ease: Sequence[tuple[float, float]], recipe: Recipe) -> list[int]:
    """The places of the easiest or hardest rows, in their order; of rows that are as easy, the first ones."""
    share, sign = (recipe.easiest, -1) if recipe.easiest else (recipe.hardest, 1)
    order = sorted(range(len(ease)), key=lambda place: [sign * value for value in ease[place]])
    return sorted(order[: max(1, round(share * len(ease)))])


def _ease(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> torch.Tensor:
    """By row ``[rows, 2]`` what the metric gives it, from 0 to 1, and how sure the model was of what it said, which
    counts against the row where that is wrong."""
    parts = score_parts(task, rows, predictions)
    found = []
    for row, said in zip(rows, predictions, strict=True):
        above, below = parts[row.id]
        share = above / below if below else 1.0
        found.append((share, said.score if share >= 0.5 else -said.score))
    return torch.tensor(found, dtype=torch.float64).reshape(len(rows), 2)
