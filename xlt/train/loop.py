"""The one training loop: every phase and every kind of task passes through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from xlt.errors import DivergedFault, NotFiniteFault
from xlt.model.encoder import PackedModel
from xlt.runtime import device
from xlt.stopping import stop_request
from xlt.train.batches import BatchStream, JointStream, scored_steps
from xlt.train.engine import DeepSpeedEngine, Engine, EngineSettings, own_shard
from xlt.train.graph import GraphEngine
from xlt.train.state import Checkpoints


@dataclass(frozen=True, slots=True)
class DevResult:
    """What the model reaches on the English dev data."""

    score: float
    """The mean score of the tasks, in percent."""
    at_chance: bool = False
    """Whether guessing, or always giving the same answer, would reach as much in every task."""


DevScore = Callable[[PackedModel], DevResult]
# A GPU keeps the best weights itself where they take at most this share of its memory. To copy those of XLM-R Large,
# 2.2 GB, to the CPU at every better score would keep it waiting.
KEPT_SHARE = 1 / 16
EXPLODED = 1e6
"""A mean loss in nats that only weights without bounds give: a guess among 250,002 pieces costs 12.4."""
# A step (0-based), its loss on the device, the tokens of this process, the learning rate.
_Waiting = tuple[int, Tensor, int, float]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One line of a run's log."""

    step: int
    """The number of the step, from 1."""
    task: str
    """The task that its examples are of."""
    loss: float
    """The mean loss of the step over all processes."""
    learning_rate: float
    """The learning rate of the step."""
    tokens: int
    """The real tokens of the step, over all processes."""
    examples: str
    """A short hash of the ids of its examples."""
    dev_score: float | None = None
    """The score on the English dev data after the step, if it was measured."""
    at_chance: bool | None = None
    """Whether that score is at chance, where a run is watched for collapse."""

    def as_json(self) -> dict[str, Any]:
        """The record without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gives."""

    weights: dict[str, Tensor]
    """The weights that are kept, in fp32 on the CPU."""
    step: int
    """The step they are from, from 1."""
    dev_score: float | None
    """The best dev score, if any was measured."""
    collapsed: bool = False
    """Whether no dev score was above chance."""


def train(
    model: PackedModel,
    stream: BatchStream | JointStream,
    settings: EngineSettings,
    *,
    on_step: Callable[[StepRecord], None],
    dev_score: DevScore | None = None,
    collapse_after: float = 0.0,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train ``model`` on ``stream`` for all its steps through the engine that ``settings`` names.

    With ``dev_score`` and ``recipe.evaluate_every`` the model is scored on the English dev data at that interval, at
    the end of every epoch and at the end; the best weights are kept, and training stops after ``recipe.patience``
    scores without a better one. With ``collapse_after``, a share of all steps, it is scored then and at the end too,
    and training stops there if no score was above chance. With ``checkpoints`` it goes on from the newest one, and
    tells ``on_step`` of all steps before it first. Every process of the group calls this with the same arguments.

    Raises:
        DivergedFault: a loss, a score or a trained weight is no finite number, or a loss is above ``EXPLODED``.
    """
    recipe, steps, keep = stream.recipe, stream.steps, where_to_keep(model)
    engine: Engine = (GraphEngine if settings.engine == "graph" else DeepSpeedEngine)(model, recipe, steps, settings)
    shard, waiting = own_shard(settings.accumulation), list[_Waiting]()
    best = BestCheckpoint(recipe.patience if recipe.evaluate_every else None, collapse_step=collapse_after * steps)
    scored = scored_steps(recipe, stream.examples, steps, collapse_after) if dev_score else set()
    read_at = {*scored, steps, *(checkpoints.kept if checkpoints else ())}
    with closing(engine), ExitStack() as noted:
        records = checkpoints.resume(engine, best) if checkpoints else []
        for record in records:
            on_step(record)
        stopped, begin = best.stops(len(records)), len(records)
        for step in range(begin, 0 if stopped else steps):
            batches = stream.micro_batches(step, shard)
            loss, learning_rate = engine.step(batches)
            if checkpoints and step == begin:
                # Until here there is nothing to write: a request to stop ends what may compile for minutes at once.
                noted.enter_context(stop_request.heard())
            waiting.append((step, loss, sum(batch.tokens for batch in batches), learning_rate))
            # The loss stays on the device until the engine's block is full: reading it would wait for the step.
            if len(waiting) < engine.block and step + 1 not in read_at and not stop_request.asked:
                continue
            *earlier, record = _records(stream, waiting, shard.world)
            waiting.clear()
            for each in earlier:
                on_step(_sound(each))
            _sound(record)
            if dev_score and record.step in scored:
                result = _evaluate(dev_score, engine.synced_model(), settings, record.step)
                record = replace(record, dev_score=result.score, at_chance=result.at_chance if collapse_after else None)
                stopped = best.offer(result, record.step, partial(engine.weights, keep))
            on_step(record)
            records += [*earlier, record]
            ends = stopped or record.step in {*scored, steps}
            if checkpoints and checkpoints.offer(engine, best, records, milestone=ends):
                raise KeyboardInterrupt
            if stopped:
                break
        return _trained(engine, best, len(records), bool(scored and collapse_after) and best.at_chance)


class BestCheckpoint:
    """The weights with the best dev score so far, and when to stop.

    Training stops after ``patience`` scores without a better one; without ``patience`` no weights are kept. It also
    stops as collapsed if all scores up to ``collapse_step`` are at chance (0: never).
    """

    def __init__(self, patience: int | None, collapse_step: float) -> None:
        self.patience = patience
        self.collapse_step = collapse_step
        self.score = -math.inf
        self.step = 0
        self.weights: dict[str, Tensor] | None = None
        self.at_chance = True
        self._worse = 0

    def state(self) -> dict[str, Any]:
        """All but the weights, as JSON can hold it."""
        own = {"score": self.score, "step": self.step, "at_chance": self.at_chance, "worse": self._worse}
        return own if self.step else {}

    def restore(self, state: Mapping[str, Any], weights: dict[str, Tensor] | None) -> None:
        """Go back to an earlier ``state`` and the weights of then."""
        if state:
            self.score, self.step, self.at_chance = state["score"], state["step"], state["at_chance"]
            self._worse, self.weights = state["worse"], weights

    def offer(self, result: DevResult, step: int, weights: Callable[[], dict[str, Tensor]]) -> bool:
        """Take the weights of this step (1-based) if they are better; true when training is to stop."""
        self.at_chance = self.at_chance and result.at_chance
        if result.score > self.score:
            self.score, self.step, self._worse = result.score, step, 0
            self.weights = None  # its memory is free for the next
            self.weights = None if self.patience is None else weights()
        else:
            self._worse += 1
        return self.stops(step)

    def stops(self, step: int) -> bool:
        """Whether training is to stop at this step (1-based), by the scores so far."""
        impatient = self.patience is not None and self._worse >= self.patience
        return impatient or (self.at_chance and 0 < self.collapse_step <= step)


def where_to_keep(model: PackedModel) -> torch.device:
    """Where the best weights of ``model`` wait for the end: on its device if they fit there, else on the CPU."""
    where = device()
    if where.type == "cpu":
        return where
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    fits = size <= KEPT_SHARE * torch.cuda.get_device_properties(where).total_memory
    return where if fits else torch.device("cpu")


def _trained(engine: Engine, best: BestCheckpoint, step: int, collapsed: bool) -> Trained:
    """The best weights, or those after the last ``step``."""
    if best.weights is not None:
        return Trained({name: it.cpu() for name, it in best.weights.items()}, best.step, best.score, collapsed)
    weights = engine.weights()
    # What the last step made of them shows in no loss.
    if not all(torch.isfinite(each).all() for each in weights.values()):
        raise DivergedFault(f"The weights after step {step} are no finite numbers.")
    return Trained(weights, step, None, collapsed)


def _sound(record: StepRecord) -> StepRecord:
    if not record.loss <= EXPLODED:  # NaN is not, either
        raise DivergedFault(f"The loss of step {record.step} is {record.loss:g}.")
    return record


def _evaluate(dev_score: DevScore, model: PackedModel, settings: EngineSettings, step: int) -> DevResult:
    model.eval()
    result = DevResult(math.nan)
    # With ZeRO stage 3 every process holds a part of the weights, and a forward pass needs all of them.
    if own_shard(1).rank == 0 or settings.zero.startswith("3"):
        with suppress(NotFiniteFault):
            result = dev_score(model)
    model.train()
    # All processes take the result of process 0: scores that differ in one bit would make them stop at different steps.
    told = torch.tensor([result.score, result.at_chance], dtype=torch.float64, device=device())
    torch.distributed.broadcast(told, 0)
    score, at_chance = told.tolist()
    if not math.isfinite(score):
        raise DivergedFault(f"What the model computes after step {step} is no finite number.")
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
        yield StepRecord(step + 1, stream.task_of(step), value, rate, int(tokens), stream.digest(step))
