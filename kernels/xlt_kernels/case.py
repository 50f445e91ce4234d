"""A kernel's case: inputs, the same op in plain torch, and how far the two may be apart.

A kernel ``NAME`` is two modules of this package:

- ``NAME`` has the op, its reference in plain torch, and ``case()``, which puts both together with inputs of a given
  shape and a tolerance. ``LARGE`` and ``SMALL`` are the arguments of its standard cases, at the width of XLM-R Large
  and for Triton's interpreter; ``DTYPES`` are the types that it takes on a GPU.
- ``NAME_triton`` has all that needs Triton.

The tests, the self-test of a GPU, ahead-of-time compilation and the switch find it by its name: to add a kernel, add
the two modules, and call the op where the model needs it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import deterministic

import xlt_kernels

Op = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Case:
    """What a kernel has to give for some inputs."""

    op: Op
    """Takes ``inputs`` and gives one tensor, or several where there are no gradients."""
    reference: Op
    """The same in plain torch, and in double precision where the inputs are."""
    inputs: Sequence[Tensor]
    tolerance: float
    """The most that a result may be off by, as :func:`off_by` measures it."""
    gradients: bool = True

    def results(self) -> list[Tensor]:
        """What the kernel gives: results and, of a sum of them with random weights, the gradients of all inputs."""
        return self._run(self.op, self.inputs)

    def wanted(self) -> list[Tensor]:
        """What the reference gives in double precision, on inputs that are rounded to the type of the kernel's."""
        return self._run(self.reference, [tensor.double() for tensor in self.inputs])

    def off_by(self) -> float:
        """How far the results are from those that are wanted."""
        return off_by(self.results(), self.wanted())

    def _run(self, op: Op, inputs: Sequence[Tensor]) -> list[Tensor]:
        leaves = [tensor.detach().clone().requires_grad_(self.gradients) for tensor in inputs]
        with poisoned():
            out = op(*leaves)
            if not self.gradients:
                return [out] if isinstance(out, Tensor) else list(out)
            return [out.detach(), *torch.autograd.grad(out, leaves, output_gradient(out))]


def off_by(results: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest deviation, each relative to the wanted value, or to that tensor's root mean square if that is more.

    Not relative to the value alone: one near zero is a difference of larger ones, whose rounding it has. NaN where a
    result is NaN.
    """
    largest = torch.zeros((), dtype=torch.float64)
    for got, want in zip(results, wanted, strict=True):
        assert got.shape == want.shape, f"a result of shape {tuple(got.shape)} instead of {tuple(want.shape)}"
        if got.numel():
            want = want.double()
            error = (got.double() - want).abs() / want.abs().clamp(min=float(want.square().mean().sqrt()))
            # Where all is zero that should be, 0 / 0 is no error; anything else than zero is an infinite one.
            largest = torch.maximum(largest, error.masked_fill((got == 0) & (want == 0), 0.0).max().cpu())
    return float(largest)


def output_gradient(out: Tensor) -> Tensor:
    """Random weights of the elements of ``out``, rounded to bf16: the same numbers for every type."""
    return normal(*out.shape, seed=9, device=out.device).bfloat16().to(out.dtype)


def normal(*shape: int, seed: int, device: torch.device | str) -> Tensor:
    """Normally distributed numbers in double precision, the same at every call."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator(device).manual_seed(seed), device=device)


@contextmanager
def poisoned() -> Iterator[None]:
    """New tensors are full of NaN: what a kernel reads before anything is written, or does not write, shows."""
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def kernels() -> list[str]:
    """The names of all kernels: the modules of this package that have one of Triton's beside them."""
    names = [module.name for module in pkgutil.iter_modules(xlt_kernels.__path__)]
    return [name for name in names if f"{name}_triton" in names]


def cases(kernel: str, device: str) -> list[Case]:
    """The cases of ``kernel`` for a GPU, or for Triton's interpreter on a CPU."""
    module = importlib.import_module(f"xlt_kernels.{kernel}")
    # What runs on a GPU use; the interpreter cuts fp32 to bf16 instead of rounding it.
    dtype = module.DTYPES[0] if device == "cuda" or module.DTYPES[0] != torch.bfloat16 else torch.float16
    shapes = module.LARGE if device == "cuda" else module.SMALL
    return [module.case(**{"dtype": dtype, **shape}, device=device) for shape in shapes]
