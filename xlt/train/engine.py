"""Engines: what an optimiser step is computed with. DeepSpeed's: process group, engine, full-precision weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from xlt_kernels.adamw import AdamW

from xlt.artifact import read_json
from xlt.data.packing import PackedBatch
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.model.projection import lay_together
from xlt.runtime import device
from xlt.tasks.record import Recipe
from xlt.train.averaged import averaged_model
from xlt.train.batches import StepShard
from xlt.train.perturbation import losses
from xlt.train.state import TrainedParameter, load_optimizer, save_optimizer, stored_parameters

Precision = Literal["fp32", "bf16"]
EngineName = Literal["deepspeed", "graph"]
ZERO_STAGES = ("0", "1", "2", "3", "3_offload")
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What a training needs beside the recipe: how a step is computed, and when its state is written."""

    zero: str = "0"
    """The stage of ZeRO, which names a file of ``artifact/deepspeed``."""
    precision: Precision = "fp32"
    """The numeric type of the encoder, as in the run's spec."""
    accumulation: int = 1
    """The number of micro-batches per step."""
    engine: EngineName = "deepspeed"
    """Which engine computes, as in the run's spec."""
    checkpoint_seconds: float = 600.0
    """The time between two checkpoints of a training; at a dev score and at the end a tenth of it is enough."""
    keep_checkpoints: int = 0
    """How many checkpoints stay in the run's folder, spread over the training."""


class Engine(Protocol):
    """What the training loop asks of an engine."""

    block: int
    """How many steps' losses are read from the device at once: reading waits for all that it computes."""

    def step(self, batches: Sequence[PackedBatch]) -> tuple[Tensor, float]:
        """One optimiser step on this process's micro-batches: its loss, on the device, and the learning rate."""

    def synced_model(self) -> PackedModel:
        """The model, with every weight as it is after the last step: engines may put updates off."""

    def weights(self, where: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Copies on ``where`` of all weights in fp32, gathered from every process. All processes must call it."""

    def save(self, folder: Path) -> None:
        """Write weights, moments and counts into ``folder``. All processes must call it."""

    def load(self, folder: Path, step: int) -> None:
        """Go back to what ``save`` wrote after ``step`` steps, before any step was made. All processes must call it."""

    def close(self) -> None:
        """End it."""


def best_engine(settings: EngineSettings, processes: int) -> EngineName:
    """The engine for a run of that many ``processes`` whose user has named none: graphs where they can be captured."""
    return "graph" if torch.cuda.is_available() and _in_one_piece(settings, processes) else "deepspeed"


def _in_one_piece(settings: EngineSettings, processes: int) -> bool:
    return settings.zero == "0" and processes == 1 and settings.accumulation == 1


def check_settings(settings: EngineSettings, processes: int) -> None:
    """Raise ``UsageFault`` where the graph engine is asked for what it has not: ZeRO, sharing, micro-batches."""
    if settings.engine == "graph" and not _in_one_piece(settings, processes):
        asked = {
            "--zero": settings.zero != "0",
            "--shard (of train: --gpus and --processes)": processes > 1,
            "--accumulation": settings.accumulation > 1,
        }
        too_much = " and ".join(name for name, given in asked.items() if given)
        raise UsageFault(
            "The graph engine computes a run on one GPU, in whole batches, without ZeRO.",
            why=f"Asked for: ZeRO stage {settings.zero}, {processes} processes for one run, "
            f"{settings.accumulation} micro-batches.",
            fix=f"Use --engine deepspeed, or leave out {too_much}.",
        )


def own_shard(accumulation: int) -> StepShard:
    """The part of every step that this process computes."""
    return StepShard(torch.distributed.get_rank(), torch.distributed.get_world_size(), accumulation)


def our_optimizer(model: PackedModel, recipe: Recipe, precision: Precision) -> AdamW:
    """Our AdamW, which clips too, for ``model``, which computes in ``precision`` from then on.

    What it keeps in fp32 are the weights as they were before they were rounded.
    """
    originals = [parameter.detach() for parameter in model.parameters()]
    model.compute_in(device(), precision)
    if model.packed:
        lay_together(model.backbone)
    optimizer = AdamW(
        parameter_groups(model, recipe.weight_decay),
        lr=recipe.learning_rate,
        betas=(0.9, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        max_norm=recipe.gradient_clipping,
    )
    for parameter, original in zip(model.parameters(), originals, strict=True):
        if parameter.requires_grad:
            optimizer.full_precision(parameter).copy_(original)
    return optimizer


def build_engine(model: PackedModel, recipe: Recipe, steps: int, settings: EngineSettings) -> Any:
    """A DeepSpeed engine with AdamW; weight decay spares biases, LayerNorm and RMSNorm, as in the authors' code.

    At stage 0 in bf16 its optimiser is ours. DeepSpeed would wrap torch's in one that takes the parameters one by one:
    398 reads of the device in each step of a model of 24 layers (artifact/LOG.md). With ours it is told of fp32, which
    for it means a model whose numeric types it leaves alone. Elsewhere AdamW is torch's, with linear warm-up and linear
    decay to zero over ``steps``; under ZeRO in bf16 all weights are rounded, and the fp32 masters are the weights as
    they were.
    """
    import deepspeed

    ours = settings.zero == "0" and (settings.precision == "bf16" or settings.engine == "graph")
    rounded = settings.precision == "bf16" and not ours
    originals = [(parameter, parameter.detach()) for parameter in model.parameters()] if rounded else []
    world = torch.distributed.get_world_size()
    config = read_json("deepspeed", f"zero{settings.zero}.json")
    config |= {
        # DeepSpeed only checks that these three agree; the batches themselves come from BatchStream.
        "train_batch_size": world * settings.accumulation * recipe.passes,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": settings.accumulation * recipe.passes,
        "gradient_clipping": 0.0 if ours else recipe.gradient_clipping,
        "bf16": {"enabled": rounded},
        # It waits for the device twice in every step.
        "timers": {"throughput": {"enabled": False}},
    }
    own: dict[str, Any] = {}
    if ours:
        del config["optimizer"]
        own["optimizer"] = our_optimizer(model, recipe, settings.precision)
    else:
        config["optimizer"]["params"] |= {
            "lr": recipe.learning_rate,
            "betas": [0.9, recipe.adam_beta2],
            "eps": recipe.adam_epsilon,
            "weight_decay": recipe.weight_decay,
        }
        own["model_parameters"] = parameter_groups(model, recipe.weight_decay)
        own["lr_scheduler"] = lambda optimizer: LambdaLR(
            optimizer, lambda step: recipe.learning_rate_factor(step, steps)
        )
    engine, *_ = deepspeed.initialize(model=model, config=config, **own)
    if world == 1 and settings.zero == "0":
        # With nobody to exchange gradients with, DeepSpeed still copies all of them into buckets and back. What else it
        # does there, fill_missing_gradients does.
        engine.enable_backward_allreduce = False
    _set_masters(settings.zero, originals)
    if settings.zero != "0":
        _make_moments(engine.optimizer, settings.zero)
    return engine


def fill_missing_gradients(model: nn.Module) -> None:
    """Give a head that took no part in a step a zero gradient, as the exchange of gradients does: AdamW then moves it
    by its moments and its weight decay, on one process as on several."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


@torch.no_grad()
def _set_masters(zero: str, weights: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    """Make ``weights`` the fp32 masters: ZeRO makes its own from the parameters after it has rounded them."""
    for parameter, weight in weights:
        _set_divided(zero, parameter, weight)


def _make_moments(optimizer: Any, zero: str) -> None:
    """Make the moments of ZeRO's ``optimizer`` as torch's AdamW would at its first step.

    DeepSpeed looks for them after the first step of the first group of parameters, and misses those of the others.
    """
    whole = zero.startswith("3")
    for part in optimizer.fp32_partitioned_groups_flat if whole else optimizer.single_partition_of_fp32_groups:
        moments = {kind: torch.zeros_like(part, requires_grad=False) for kind in MOMENTS}
        optimizer.optimizer.state[part] = {"step": torch.zeros((), device=part.device), **moments}
    if not whole:
        optimizer._lazy_init_hp_params_optimizer_state()


def _set_divided(zero: str, parameter: nn.Parameter, value: Tensor, moment: str = "") -> None:
    """Set this process's part of the master weight of ``parameter``, or of a ``moment``, to its part of ``value``."""
    from deepspeed import utils

    if zero.startswith("3"):
        # The accessor for whole weights fails where the last process has fewer of them than the others.
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        size = -(-value.numel() // world)
        value = F.pad(value.flatten(), (0, size * world - value.numel()))[size * rank : size * (rank + 1)]
        to_weight, to_moment = utils.safe_set_local_fp32_param, utils.safe_set_local_optimizer_state
    else:
        to_weight, to_moment = utils.safe_set_full_fp32_param, utils.safe_set_full_optimizer_state
    if moment:
        to_moment(parameter, value, moment)
    else:
        to_weight(parameter, value)


class DeepSpeedEngine:
    """Training steps through DeepSpeed, for all ZeRO stages and any number of processes."""

    def __init__(self, model: PackedModel, recipe: Recipe, steps: int, settings: EngineSettings) -> None:
        self._average = averaged_model(model, recipe, settings.precision)
        self._engine = build_engine(model.to(device()), recipe, steps, settings)
        self._recipe, self._steps, self._settings, self._done = recipe, steps, settings, 0
        self.block = 32 if self._engine.device.type == "cuda" else 1

    def step(self, batches: Sequence[PackedBatch]) -> tuple[Tensor, float]:
        """See ``Engine``."""
        engine = self._engine
        engine.train()
        learning_rate = self._recipe.learning_rate * self._recipe.learning_rate_factor(self._done, self._steps)
        self._done += 1
        if isinstance(engine.optimizer, AdamW):
            engine.optimizer.set_rate(learning_rate)
        loss = torch.zeros((), device=engine.device)
        for batch in batches:
            for micro_loss in self._losses(batch.to(engine.device)):
                engine.backward(micro_loss)
                if not engine.enable_backward_allreduce:
                    fill_missing_gradients(engine.module)
                engine.step()
                loss += micro_loss.detach() / (self._settings.accumulation * self._recipe.passes)
        if self._average:
            self._average.follow(self.weights(engine.device))
        return loss, learning_rate

    def _losses(self, batch: PackedBatch) -> Iterator[Tensor]:
        """The losses of a micro-batch, each of which is a micro-batch for DeepSpeed."""
        model, average = self.synced_model(), self._average.model if self._average else None
        # DeepSpeed prepares for gradients of weights whatever goes through the engine itself.
        return losses(model, batch, self._recipe.adversarial, self._engine, model, average)

    def synced_model(self) -> PackedModel:
        """See ``Engine``."""
        model: PackedModel = self._engine.module
        return model

    def weights(self, where: torch.device | str = "cpu") -> dict[str, Tensor]:
        """See ``Engine``. With bf16 these are the master weights, not their rounded copies."""
        optimizer = self._engine.optimizer
        full: Callable[[nn.Parameter], Tensor] = partial(_full_weight, settings=self._settings)
        if isinstance(optimizer, AdamW):
            full = optimizer.full_precision
        parameters = self._engine.module.named_parameters()
        return {name: full(each).detach().to(where, torch.float32, copy=True) for name, each in parameters}

    def save(self, folder: Path) -> None:
        """See ``Engine``. The file is the same for every ZeRO stage and any number of processes.

        DeepSpeed's own files are pickles, which run what whoever wrote them likes.
        """
        model = self._engine.module
        if self._settings.zero == "0":
            parts = trained_parameters(model, self._engine.optimizer)
        else:
            parts = _gathered_parameters(model, self._done)
        if torch.distributed.get_rank() == 0:
            save_optimizer(folder, parts)
            if self._average:
                self._average.save(folder)
        else:
            for _ in parts:
                pass  # every process takes part in gathering

    def load(self, folder: Path, step: int) -> None:
        """See ``Engine``."""
        engine, self._done = self._engine, step
        if self._average:
            self._average.load(folder)
        if self._settings.zero == "0":
            load_optimizer(folder, trained_parameters(engine.module, engine.optimizer))
        else:
            _divide_stored(folder, engine, step, self._settings.zero)
        engine.global_steps = step
        engine.micro_steps = step * self._settings.accumulation * self._recipe.passes
        schedule = engine.lr_scheduler
        if schedule is None:
            return
        # As its step() leaves it: the rate of the next step is in the optimiser's groups.
        rates = [rate * schedule.lr_lambdas[0](step) for rate in schedule.base_lrs]
        schedule.load_state_dict(
            schedule.state_dict() | {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates}
        )
        for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def close(self) -> None:
        """See ``Engine``."""
        self._engine.destroy()


def _full_weight(parameter: nn.Parameter, settings: EngineSettings) -> Tensor:
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    if settings.precision == "bf16" or settings.zero == "3_offload":
        master: Tensor = safe_get_full_fp32_param(parameter)
        return master
    with deepspeed.zero.GatheredParameters([parameter], enabled=settings.zero.startswith("3")):
        return parameter.detach().clone()


def _gathered_parameters(model: nn.Module, step: int) -> Iterator[TrainedParameter]:
    """All parameters with ZeRO's states, put together one after another. All processes must go through it."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    for name, parameter in model.named_parameters():
        moments = {kind: safe_get_full_optimizer_state(parameter, kind) for kind in MOMENTS}
        moments["step"] = torch.tensor(float(step))
        yield TrainedParameter(name, safe_get_full_fp32_param(parameter), None, moments)


@torch.no_grad()
def _divide_stored(folder: Path, engine: Any, step: int, zero: str) -> None:
    """Read what ``save_optimizer`` wrote into ZeRO's states, each process its part."""
    import deepspeed

    for state in engine.optimizer.optimizer.state.values():
        state["step"].fill_(step)
    found = stored_parameters(folder)
    for name, parameter in engine.module.named_parameters():
        stored = {kind: value.to(engine.device) for kind, value in found[name].items()}
        _set_divided(zero, parameter, stored["weight"])
        for kind in MOMENTS:
            _set_divided(zero, parameter, stored[kind], kind)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=zero.startswith("3")):
            parameter.copy_(stored["weight"])


def trained_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[TrainedParameter]:
    """All parameters as ``optimizer`` sees them, ours or torch's."""
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        master = moments.get("master")
        if master is None:
            yield TrainedParameter(name, parameter, None, moments)
        else:
            moments = {kind: value for kind, value in moments.items() if kind != "master"}
            yield TrainedParameter(name, master, parameter, moments)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that are trained, those that weight decay spares in the second group."""
    spared = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        # RMSNorm is a class of its own in every family that has it.
        if name == "bias" or isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")
    }
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) in spared], "weight_decay": 0.0},
    ]
