"""AdamW on fp32 master weights: one launch for all tensors, clipping included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xlt_kernels.case import Case, normal
from xlt_kernels.switch import serves

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Whole blocks, blocks of which the last is not whole, and less than one.
LARGE = ({"shapes": ((500, 256), (3, 701), (256,))},)
SMALL = ({"shapes": ((12, 16), (3, 701), (16,))},)
# fp32 throughout; sixteen times the 4e-6 that four steps may add up to.
TOLERANCE = 2**-14
_STEPS = 4
_ROUNDED = (torch.bfloat16, torch.float16)


class Entry(NamedTuple):
    """What an update of one parameter reads and writes."""

    weight: Tensor
    """fp32: the parameter, or its master where the parameter is rounded."""
    first: Tensor
    """The first moment, fp32."""
    second: Tensor
    """The second moment, fp32."""
    rounded: Tensor | None
    """The parameter, where it is bf16 or fp16."""


class AdamW(torch.optim.Optimizer):
    """``torch.optim.AdamW`` with its arithmetic, fp32 states, and clipping.

    A parameter in bf16 or fp16 gets an fp32 master weight, and each update writes its rounded copy. ``max_norm``
    clips the norm of all gradients as ``clip_grad_norm_`` does, inside the update; 0 does not clip. A parameter
    without a gradient is left alone, its step count too.

    ``group["lr"]`` is an fp64 tensor on the device, and so are the step counts: a CUDA graph may hold :meth:`step`.
    Set the learning rate by :meth:`set_rate`. Without the kernel the same logic runs in plain torch, which reads
    scalars on the host and cannot be captured.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        max_norm: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        owned = [(parameter, group) for group in self.param_groups for parameter in group["params"]]
        self._params = [parameter for parameter, _ in owned]
        device = self._params[0].device
        self._max_norm = max_norm
        self._rates = torch.tensor([group["lr"] for group in self.param_groups], dtype=torch.float64, device=device)
        for group, rate in zip(self.param_groups, self._rates, strict=True):
            group["lr"] = rate
        sizes = torch.tensor([len(group["params"]) for group in self.param_groups])
        self._group_of = torch.arange(len(sizes)).repeat_interleave(sizes).to(device)
        constants = [(*group["betas"], group["eps"], group["weight_decay"]) for _, group in owned]
        self._constants = torch.tensor(constants, dtype=torch.float64, device=device).unbind(1)
        self._counts = torch.zeros(len(owned), dtype=torch.float64, device=device)
        self._factor = torch.ones((), device=device)
        self._entries = [
            self._entry(parameter, count) for parameter, count in zip(self._params, self._counts, strict=True)
        ]
        self._launcher: Any = None

    def _entry(self, parameter: Tensor, count: Tensor) -> Entry:
        if parameter.dtype not in (torch.float32, *_ROUNDED) or not parameter.is_contiguous():
            layout = "contiguous" if parameter.is_contiguous() else "not contiguous"
            raise ValueError(
                f"AdamW takes contiguous parameters in fp32, bf16 or fp16, not {parameter.dtype}, {layout}."
            )
        value = parameter.detach()
        rounded = value if value.dtype in _ROUNDED else None
        state: dict[str, Tensor] = self.state[parameter]
        state["step"] = count
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.zeros_like(value, dtype=torch.float32)
        if rounded is not None:
            state["master"] = value.float()
        return Entry(self.full_precision(parameter), state["exp_avg"], state["exp_avg_sq"], rounded)

    @torch.no_grad()
    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all groups, by one operation on the device."""
        self._rates.fill_(rate)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        if not serves("adamw", self._params[0]):
            present = torch.tensor([p.grad is not None for p in self._params], device=self._counts.device)
            self._step_reference(self._advance(present).tolist())
            return
        if self._launcher is None:
            from xlt_kernels.adamw_triton import Launcher

            self._launcher = Launcher(self._entries)
        addresses = self._launcher.bind(self._params)
        if self._max_norm:
            self._factor = self._clipping(self._launcher.square_sums().sum(dtype=torch.float64).sqrt().float())
        self._launcher.update(self._advance(addresses != 0).float(), self._factor)

    def _advance(self, present: Tensor) -> Tensor:
        """Count the step; fp64 ``[n, 7]``: decay, step size, root of the second correction, 1 - b1, b2, 1 - b2, eps."""
        first, second, eps, weight_decay = self._constants
        rates = self._rates[self._group_of]
        decay = 1 - rates * weight_decay
        self._counts += present
        size = rates / (1 - first**self._counts)
        root = (1 - second**self._counts).sqrt()
        return torch.stack([decay, size, root, 1 - first, second, 1 - second, eps], dim=1)

    def _clipping(self, norm: Tensor) -> Tensor:
        return (self._max_norm / (norm + 1e-6)).clamp(max=1.0)

    def _step_reference(self, scalars: list[list[float]]) -> None:
        used = [index for index, parameter in enumerate(self._params) if parameter.grad is not None]
        if not used:
            return
        entries = [self._entries[index] for index in used]
        gradients = [torch.empty_like(entry.weight) for entry in entries]
        torch._foreach_copy_(gradients, [self._params[index].grad for index in used])
        if self._max_norm:
            norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
            torch._foreach_mul_(gradients, self._clipping(norm))
        weights, firsts, seconds, _ = map(list, zip(*entries, strict=True))
        adamw_reference(weights, firsts, seconds, gradients, [scalars[index] for index in used])
        rounded = [(entry.rounded, entry.weight) for entry in entries if entry.rounded is not None]
        if rounded:
            torch._foreach_copy_([copy for copy, _ in rounded], [weight for _, weight in rounded])

    def full_precision(self, parameter: Tensor) -> Tensor:
        """The fp32 weight of ``parameter``."""
        weight: Tensor = self.state[parameter].get("master", parameter.detach())
        return weight

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read states and learning rates into the tensors of this optimizer, which a CUDA graph may hold.

        The weights themselves are the model's affair (of rounded ones the masters are read).
        """
        for rate, group in zip(self._rates, state_dict["param_groups"], strict=True):
            rate.copy_(group["lr"])
        for index, parameter in enumerate(self._params):
            for name, value in state_dict["state"][index].items():
                self.state[parameter][name].copy_(value)


def adamw_reference(
    weights: list[Tensor],
    firsts: list[Tensor],
    seconds: list[Tensor],
    gradients: list[Tensor],
    scalars: Sequence[Sequence[float]],
) -> None:
    """One update of all in place, all fp32; ``scalars`` are rows of ``AdamW._advance``. The operations are torch's own,
    each for all tensors at once."""
    decay, size, root, one_minus_first, beta, one_minus_second, eps = map(list, zip(*scalars, strict=True))
    torch._foreach_mul_(weights, decay)
    torch._foreach_lerp_(firsts, gradients, one_minus_first)
    torch._foreach_mul_(seconds, beta)
    torch._foreach_addcmul_(seconds, gradients, gradients, one_minus_second)
    scales = torch._foreach_sqrt(seconds)
    torch._foreach_div_(scales, root)
    torch._foreach_add_(scales, eps)
    torch._foreach_addcdiv_(weights, firsts, scales, [-each for each in size])


def set_gradients(weights: Sequence[Tensor], seed: int) -> None:
    """Random gradients, the same at every call."""
    for index, weight in enumerate(weights):
        gradient = normal(*weight.shape, seed=100 * seed + index, device=weight.device)
        weight.grad = gradient.bfloat16().to(weight)  # the same numbers for every type


def case(
    shapes: Sequence[tuple[int, ...]], *, dtype: torch.dtype, device: str, lr: float = 1e-2,
    weight_decay: float = 0.1, max_norm: float = 1.0,
) -> Case:  # fmt: skip
    """A few steps against ``torch.optim.AdamW``.

    Results are fp32 weights, first moments, and how far rounded weights are from their masters when those are rounded.
    """

    def ours(*weights: Tensor) -> list[Tensor]:
        optimizer = AdamW(weights, lr, weight_decay=weight_decay, max_norm=max_norm)
        for step in range(_STEPS):
            set_gradients(weights, step)
            optimizer.step()
        masters = [optimizer.full_precision(weight) for weight in weights]
        moments = [optimizer.state[weight]["exp_avg"] for weight in weights]
        return [*masters, *moments, *(w - m.to(dtype) for w, m in zip(weights, masters, strict=True))]

    def theirs(*weights: Tensor) -> list[Tensor]:
        optimizer = torch.optim.AdamW(weights, lr, weight_decay=weight_decay)
        for step in range(_STEPS):
            set_gradients(weights, step)
            torch.nn.utils.clip_grad_norm_(weights, max_norm)
            optimizer.step()
        moments = [optimizer.state[weight]["exp_avg"] for weight in weights]
        return [*weights, *moments, *(torch.zeros_like(weight) for weight in weights)]

    inputs = [normal(*shape, seed=index, device=device).to(dtype) for index, shape in enumerate(shapes)]
    return Case(ours, theirs, inputs, TOLERANCE, gradients=False)
