"""The one training loop: every phase and every kind of task passes through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xlt.errors import EnvironmentFault
from xlt.model.encoder import PackedModel
from xlt.train.batches import BatchStream
from xlt.train.engine import EngineSettings, build_engine, device, division, full_weights
from xlt.train.joint import JointStream

DevScore = Callable[[PackedModel], float]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One line of a run's log. ``tokens`` counts the real tokens of the whole step over all processes."""

    step: int
    task: str
    loss: float
    learning_rate: float
    tokens: int
    examples: str
    dev_score: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The record without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gives: the weights kept (fp32, CPU), the step they are from and the best dev score, if any."""

    weights: dict[str, Tensor]
    step: int
    dev_score: float | None


def train(
    model: PackedModel,
    stream: BatchStream | JointStream,
    settings: EngineSettings,
    *,
    on_step: Callable[[StepRecord], None],
    dev_score: DevScore | None = None,
) -> Trained:
    """Train ``model`` on ``stream`` for all its steps through DeepSpeed.

    With ``dev_score`` and ``recipe.evaluate_every`` the model is scored on the English dev data at that interval
    and at the end; the best weights are kept, and training stops after ``recipe.patience`` scores without a better
    one. Needs a process group (``start_process_group``); every process calls this with the same arguments.

    Raises:
        EnvironmentFault: the loss is no longer a number.
    """
    recipe = stream.recipe
    steps = stream.steps
    model.to(device())
    engine = build_engine(model, recipe, steps, settings)
    share = division(settings.accumulation)
    keeper = _Best(recipe.patience) if dev_score and recipe.evaluate_every else None
    try:
        for step in range(steps):
            engine.train()
            learning_rate = engine.get_lr()[0]
            loss = torch.zeros((), device=engine.device)
            tokens = torch.zeros((), device=engine.device)
            for batch in stream.micro_batches(step, share):
                micro_loss, _ = engine(batch.to(engine.device))
                engine.backward(micro_loss)
                engine.step()
                loss += micro_loss.detach() / settings.accumulation
                tokens += batch.tokens
            record = _record(stream, step, loss, tokens, learning_rate, share.world)
            if keeper and dev_score and ((step + 1) % recipe.evaluate_every == 0 or step + 1 == steps):
                score = _evaluate(dev_score, engine.module)
                on_step(replace(record, dev_score=score))
                if keeper.offer(score, step, lambda: full_weights(engine, settings)):
                    break
            else:
                on_step(record)
        if keeper and keeper.weights is not None:
            return Trained(keeper.weights, keeper.step + 1, keeper.score)
        return Trained(full_weights(engine, settings), steps, None)
    finally:
        engine.destroy()


class _Best:
    """The best weights so far, and when to stop looking for better ones."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.score = -math.inf
        self.step = -1
        self.weights: dict[str, Tensor] | None = None
        self._worse = 0

    def offer(self, score: float, step: int, weights: Callable[[], dict[str, Tensor]]) -> bool:
        """Take the weights if they are better; true when patience has run out."""
        if score > self.score:
            self.score, self.step, self.weights, self._worse = score, step, weights(), 0
        else:
            self._worse += 1
        return self._worse >= self.patience


def _evaluate(dev_score: DevScore, model: PackedModel) -> float:
    model.eval()
    score = dev_score(model)
    model.train()
    return score


def _record(
    stream: BatchStream | JointStream, step: int, loss: Tensor, tokens: Tensor, learning_rate: float, world: int
) -> StepRecord:
    if world > 1:
        both = torch.stack([loss, tokens])
        torch.distributed.all_reduce(both)
        loss, tokens = both[0] / world, both[1]
    value = float(loss)
    if not math.isfinite(value):
        raise EnvironmentFault(
            f"The loss of step {step + 1} is {value}.",
            why="Training diverged; its weights are of no use.",
            mend="Lower the learning rate (--learning-rate) or try another seed (--seed).",
        )
    return StepRecord(step + 1, stream.task_of(step), value, learning_rate, int(tokens), stream.digest(step))
