"""AdamW on fp32 master weights: one launch for all tensors, and an embedding of which only used rows are touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xlt_kernels.case import Case, normal
from xlt_kernels.switch import serves

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# An embedding of which half the rows are used, a third of them at a step; blocks that end within a row; and one row.
LARGE = ({"shapes": ((500, 256), (3, 701), (256,)), "rows": [range(step, 250, 3) for step in range(4)]},)
SMALL = ({"shapes": ((12, 16), (3, 701), (16,)), "rows": [range(step, 6, 3) for step in range(4)]},)
# fp32 throughout; sixteen times the 4e-6 that four steps may add up to.
TOLERANCE = 2**-14
_ROWS = 512  # rows whose decay is made up for at a time: they stay in a CPU's cache for all the steps
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
    touched: Tensor | None
    """int32 ``[V]``, 1 at the rows that were used, for the parameter whose rows wait for their first use."""


class AdamW(torch.optim.Optimizer):
    """``torch.optim.AdamW`` with its arithmetic, fp32 states, clipping, and lazy rows.

    A parameter in bf16 or fp16 gets an fp32 master weight, and each update writes its rounded copy. ``max_norm``
    clips the norm of all gradients as ``clip_grad_norm_`` does, inside the update; 0 does not clip. A parameter
    without a gradient is left alone, its step count too.

    ``lazy`` is a word embedding ``[V, d]`` of which a run uses few rows. Before a row's first use its moments and its
    gradient are 0, and dense AdamW only multiplies it by ``1 - lr * weight_decay``, once a step, in fp32. Those
    factors are written down, for up to ``steps`` steps, and applied one after the other, so the row has the same bits
    as under dense AdamW: by :meth:`touch`, **before every forward pass** in training, for the rows that it reads
    (from then on their updates are made at every step, with or without a gradient, since their moments move them), and
    by :meth:`flush`, **before every evaluation, save and export**, for all others. Where other rows get gradients as
    well (masked-LM training with tied weights) the embedding must not be lazy.

    ``group["lr"]`` is an fp64 tensor on the device, and so are the step counts: a CUDA graph may hold :meth:`touch`
    and :meth:`step`. Set a learning rate by ``fill_``, as torch's schedulers do. Without the kernel the same logic
    runs in plain torch, which reads scalars on the host and cannot be captured.
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
        lazy: Tensor | None = None,
        steps: int = 0,
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
            self._entry(parameter, count, parameter is lazy)
            for parameter, count in zip(self._params, self._counts, strict=True)
        ]
        self._lazy = next((i for i, entry in enumerate(self._entries) if entry.touched is not None), None)
        if lazy is not None and (self._lazy is None or lazy.ndim != 2 or steps < 1):
            raise ValueError("lazy must be one of the parameters and a matrix, and needs the number of steps.")
        # The factor of each step so far, and the step up to which all rows that were never used have been decayed.
        self._decays = torch.ones(max(steps, 1), device=device)
        self._flushed = torch.zeros((), dtype=torch.float64, device=device)
        self._launcher: Any = None

    def _entry(self, parameter: Tensor, count: Tensor, lazy: bool) -> Entry:
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
        if lazy:
            state["touched"] = torch.zeros(len(value), dtype=torch.int32, device=value.device)
        weight = state.get("master", value)
        return Entry(weight, state["exp_avg"], state["exp_avg_sq"], rounded, state.get("touched"))

    @torch.no_grad()
    def touch(self, ids: Tensor) -> None:
        """Bring the rows ``ids`` (int64, any shape, repeats allowed) of the lazy parameter to the present.

        To be called before the forward pass that reads them; from now on their updates are made at every step.
        """
        if self._lazy is None:
            return
        entry, step = self._entries[self._lazy], self._counts[self._lazy]
        assert entry.touched is not None
        if serves("adamw", entry.weight):
            from xlt_kernels.adamw_triton import catch_up

            catch_up(entry, self._decays, self._flushed, step, ids.reshape(-1))
            return
        rows = ids.unique()
        rows = rows[entry.touched[rows] == 0]
        self._catch_up_reference(entry, rows)
        entry.touched[rows] = 1

    @torch.no_grad()
    def flush(self) -> None:
        """Bring all rows to the present: before anything but training reads the weights. Waits for the device.

        Raises:
            RuntimeError: a row that was not touched had a gradient, or there were more steps than announced: the
                weights are not those of AdamW.
        """
        if self._lazy is None:
            return
        entry, step, parameter = self._entries[self._lazy], self._counts[self._lazy], self._params[self._lazy]
        assert entry.touched is not None
        if step > len(self._decays):
            raise RuntimeError(f"{int(step)} steps of an optimizer that was made for {len(self._decays)}.")
        waiting = entry.touched == 0
        if parameter.grad is not None and bool(((parameter.grad != 0).any(dim=1) & waiting).any()):
            raise RuntimeError("Rows of the lazy embedding had a gradient although touch() was not told of them.")
        if self._flushed == step:
            return
        if serves("adamw", entry.weight):
            from xlt_kernels.adamw_triton import catch_up

            catch_up(entry, self._decays, self._flushed, step, None)
        else:
            self._catch_up_reference(entry, waiting.nonzero()[:, 0])
        self._flushed.copy_(step)

    def _catch_up_reference(self, entry: Entry, rows: Tensor) -> None:
        assert self._lazy is not None
        decays = self._decays[int(self._flushed) : int(self._counts[self._lazy])].tolist()
        for part in rows.split(_ROWS):
            weight = entry.weight[part]
            # Not the product of all decays: dense AdamW rounds after each.
            for decay in decays:
                weight *= decay
            entry.weight[part] = weight
            if entry.rounded is not None:
                entry.rounded[part] = weight.to(entry.rounded.dtype)

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
        if self._lazy is not None:
            # Without a gradient the step is not counted, and the next one writes to the same place.
            place = self._counts[self._lazy].long().clamp(max=len(self._decays) - 1)
            self._decays.index_copy_(0, place.view(1), decay[self._lazy].float().view(1))
        self._counts += present
        size = rates / (1 - first**self._counts)
        root = (1 - second**self._counts).sqrt()
        return torch.stack([decay, size, root, 1 - first, second, 1 - second, eps], dim=1)

    def _clipping(self, norm: Tensor) -> Tensor:
        return (self._max_norm / (norm + 1e-6)).clamp(max=1.0)

    def _step_reference(self, scalars: list[list[float]]) -> None:
        gradients = [p.grad if p.grad is None else p.grad.float() for p in self._params]
        if self._max_norm:
            norm = torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
            factor = self._clipping(norm)
            gradients = [gradient if gradient is None else gradient * factor for gradient in gradients]
        for entry, gradient, values in zip(self._entries, gradients, scalars, strict=True):
            if gradient is None:
                continue
            weight, first, second, rounded, touched = entry
            if touched is None:
                adamw_reference(weight, first, second, gradient, values)
                if rounded is not None:
                    rounded.copy_(weight)
                continue
            rows = touched.nonzero()[:, 0]
            used, one, two, own = (part[rows] for part in (weight, first, second, gradient))
            adamw_reference(used, one, two, own, values)
            weight[rows], first[rows], second[rows] = used, one, two
            if rounded is not None:
                rounded[rows] = used.to(rounded.dtype)

    def full_precision(self, parameter: Tensor) -> Tensor:
        """The fp32 weight of ``parameter``, with all its rows brought to the present."""
        self.flush()
        weight: Tensor = self.state[parameter].get("master", parameter.detach())
        return weight

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with ``master`` and ``touched`` in the states, after :meth:`flush`."""
        self.flush()
        return super().state_dict()

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
        self.mark_flushed()

    def mark_flushed(self) -> None:
        """Take all rows as brought to the present: states and weights were read in that were saved after a flush."""
        if self._lazy is not None:
            self._flushed.copy_(self._counts[self._lazy])


def adamw_reference(weight: Tensor, first: Tensor, second: Tensor, gradient: Tensor, scalars: Sequence[float]) -> None:
    """One update in place, all fp32; ``scalars`` is a row of ``AdamW._advance``. The operations are torch's own."""
    decay, size, root, one_minus_first, beta, one_minus_second, eps = scalars
    weight.mul_(decay)
    first.lerp_(gradient, one_minus_first)
    second.mul_(beta).addcmul_(gradient, gradient, value=one_minus_second)
    weight.addcdiv_(first, (second.sqrt() / root).add_(eps), value=-size)


def set_gradients(weights: Sequence[Tensor], rows: Tensor, seed: int) -> None:
    """Random gradients, the same at every call; those of the first weight are zero but in ``rows``."""
    for index, weight in enumerate(weights):
        gradient = normal(*weight.shape, seed=100 * seed + index, device=weight.device)
        weight.grad = gradient.bfloat16().to(weight)  # the same numbers for every type
    used = torch.zeros_like(weights[0][:, :1]).index_fill_(0, rows, 1.0)
    weights[0].grad = weights[0].grad * used  # type: ignore[operator]


def case(
    shapes: Sequence[tuple[int, ...]], rows: Sequence[Sequence[int]], *, dtype: torch.dtype, device: str,
    lr: float = 1e-2, weight_decay: float = 0.1, max_norm: float = 1.0,
) -> Case:  # fmt: skip
    """A step for each of ``rows``, which the gradient of the first weight has, against ``torch.optim.AdamW``.

    Results are fp32 weights, first moments, and how far rounded weights are from their masters when those are rounded.
    """
    used = [torch.as_tensor(part, device=device) for part in rows]

    def trained(weights: Sequence[Tensor], optimizer: torch.optim.Optimizer, prepare: Callable[[Tensor], Any]) -> None:
        for step, part in enumerate(used):
            set_gradients(weights, part, step)
            prepare(part)
            optimizer.step()

    def ours(*weights: Tensor) -> list[Tensor]:
        optimizer = AdamW(weights, lr, weight_decay=weight_decay, max_norm=max_norm, lazy=weights[0], steps=len(rows))
        trained(weights, optimizer, optimizer.touch)
        optimizer.zero_grad()  # the last gradients are not the flush's affair, which reads them
        masters = [optimizer.full_precision(weight) for weight in weights]
        moments = [optimizer.state[weight]["exp_avg"] for weight in weights]
        return [*masters, *moments, *(w - m.to(dtype) for w, m in zip(weights, masters, strict=True))]

    def theirs(*weights: Tensor) -> list[Tensor]:
        optimizer = torch.optim.AdamW(weights, lr, weight_decay=weight_decay)
        trained(weights, optimizer, lambda _: torch.nn.utils.clip_grad_norm_(weights, max_norm))
        moments = [optimizer.state[weight]["exp_avg"] for weight in weights]
        return [*weights, *moments, *(torch.zeros_like(weight) for weight in weights)]

    inputs = [normal(*shape, seed=index, device=device).to(dtype) for index, shape in enumerate(shapes)]
    return Case(ours, theirs, inputs, TOLERANCE, gradients=False)
