"""The one training loop: every phase and every kind of task passes through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xlt.errors import EnvironmentFault
from xlt.model.encoder import PackedModel
from xlt.runtime import device
from xlt.train.batches import BatchStream, scored_steps
from xlt.train.engine import DeepSpeedEngine, Engine, EngineSettings, division
from xlt.train.graph import GraphEngine
from xlt.train.joint import JointStream


@dataclass(frozen=True, slots=True)
class DevResult:
    """The score on the English dev data, and whether it is what guessing, or always the same answer, would reach."""

    score: float
    at_chance: bool = False


DevScore = Callable[[PackedModel], DevResult]
# A step (0-based), its loss on the device, the tokens of this process, the learning rate.
_Waiting = tuple[int, Tensor, int, float]


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
    at_chance: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """The record without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gives: the weights kept (fp32, CPU), the step they are from and the best dev score, if any.

    ``collapsed`` is whether no dev score was above chance.
    """

    weights: dict[str, Tensor]
    step: int
    dev_score: float | None
    collapsed: bool = False


def train(
    model: PackedModel,
    stream: BatchStream | JointStream,
    settings: EngineSettings,
    *,
    on_step: Callable[[StepRecord], None],
    dev_score: DevScore | None = None,
    collapse_after: float = 0.0,
) -> Trained:
    """Train ``model`` on ``stream`` for all its steps through the engine that ``settings`` names.

    With ``dev_score`` and ``recipe.evaluate_every`` the model is scored on the English dev data at that interval, at
    the end of every epoch and at the end; the best weights are kept, and training stops after ``recipe.patience``
    scores without a better one. With ``collapse_after``, a share of all steps, it is scored then and at the end too,
    and training stops there if no score was above chance. Needs a process group (``start_process_group``); every
    process calls this with the same arguments.

    Raises:
        EnvironmentFault: the loss is no longer a number.
    """
    recipe = stream.recipe
    steps = stream.steps
    engine: Engine = (GraphEngine if settings.engine == "graph" else DeepSpeedEngine)(model, recipe, steps, settings)
    share = division(settings.accumulation)
    keeper = _Best(recipe.patience if recipe.evaluate_every else None, collapse_after * steps)
    scored = scored_steps(recipe, stream.examples, steps, collapse_after) if dev_score else set()
    waiting: list[_Waiting] = []
    try:
        for step in range(steps):
            batches = stream.micro_batches(step, share)
            loss, learning_rate = engine.step(batches)
            waiting.append((step, loss, sum(batch.tokens for batch in batches), learning_rate))
            if len(waiting) < engine.block and step + 1 not in {*scored, steps}:
                continue
            *earlier, record = _records(stream, waiting, share.world)
            waiting.clear()
            for each in earlier:
                on_step(each)
            if dev_score is None or record.step not in scored:
                on_step(record)
                continue
            result = _evaluate(dev_score, engine.up_to_date(), settings)
            on_step(replace(record, dev_score=result.score, at_chance=result.at_chance if collapse_after else None))
            if keeper.offer(result, record.step, engine.weights):
                break
        collapsed = bool(scored and collapse_after) and keeper.at_chance
        if keeper.weights is not None:
            return Trained(keeper.weights, keeper.step, keeper.score, collapsed)
        return Trained(engine.weights(), record.step, None, collapsed)
    finally:
        engine.close()


class _Best:
    """The best weights so far, and when to stop looking for better ones; without ``patience`` no weights are kept.

    A training whose scores are all at chance is given up at the step ``hopeless`` (0: never).
    """

    def __init__(self, patience: int | None, hopeless: float) -> None:
        self.patience = patience
        self.hopeless = hopeless
        self.score = -math.inf
        self.step = 0
        self.weights: dict[str, Tensor] | None = None
        self.at_chance = True
        self._worse = 0

    def offer(self, result: DevResult, step: int, weights: Callable[[], dict[str, Tensor]]) -> bool:
        """Take the weights of this step (1-based) if they are better; true when training is to stop."""
        self.at_chance = self.at_chance and result.at_chance
        if result.score > self.score:
            self.score, self.step, self._worse = result.score, step, 0
            self.weights = None if self.patience is None else weights()
        else:
            self._worse += 1
        impatient = self.patience is not None and self._worse >= self.patience
        return impatient or (self.at_chance and 0 < self.hopeless <= step)


def _evaluate(dev_score: DevScore, model: PackedModel, settings: EngineSettings) -> DevResult:
    """What process 0 finds, told to all: scores that differ in a bit would have them stop at different steps."""
    model.eval()
    result = DevResult(0.0)
    # With stage 3 a forward pass needs the weights of every process.
    if division(1).rank == 0 or settings.zero.startswith("3"):
        result = dev_score(model)
    model.train()
    told = torch.tensor([result.score, result.at_chance], dtype=torch.float64, device=device())
    torch.distributed.broadcast(told, 0)
    score, at_chance = told.tolist()
    return DevResult(score, bool(at_chance))


def _records(stream: BatchStream | JointStream, waiting: Sequence[_Waiting], world: int) -> Iterator[StepRecord]:
    """The records of all these steps, over all processes. Waits for the device, once."""
    steps, losses, counts, rates = zip(*waiting, strict=True)
    means = torch.stack(losses)
    sums = torch.stack([means, torch.tensor(counts, dtype=means.dtype, device=means.device)])
    if world > 1:
        torch.distributed.all_reduce(sums)
        sums[0] /= world
    for step, value, tokens, rate in zip(steps, *sums.tolist(), rates, strict=True):
        if not math.isfinite(value):
            raise EnvironmentFault(
                f"The loss of step {step + 1} is {value}.",
                why="Training diverged; its weights are of no use.",
                fix="Lower the learning rate (--learning-rate) or try another seed (--seed).",
            )
        yield StepRecord(step + 1, stream.task_of(step), value, rate, int(tokens), stream.digest(step))
