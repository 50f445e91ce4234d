"""Dropout, residual and LayerNorm in one kernel, against torch in double precision."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from xlt_kernels.layer_norm import EPS, case, layer_norm, layer_norm_reference


def _mask(rows: int, hidden: int, p: float, seed: Tensor) -> Tensor:
    from xlt_kernels.layer_norm_triton import layer_norm_mask

    return layer_norm_mask(rows, hidden, p, seed)


# 1 token; primes; one row more and less than tiles of four; more tiles than programs; XLM-R base's width; narrow.
SHAPES = [(1, 128), (3, 768), (4, 3), (5, 97), (31, 33), (16, 1024)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "hidden"), SHAPES)
def test_agrees_with_torch_in_double_precision(triton_device, rows, hidden, dtype):
    made = case(rows, hidden, dtype=dtype, device=triton_device)
    assert made.off_by() <= made.tolerance
    assert layer_norm(*made.inputs, eps=EPS).dtype == dtype


def test_rows_of_one_column_are_the_bias(triton_device):
    made = case(4, 1, dtype=torch.float32, device=triton_device)
    # Its gradient of x is a difference that is zero in exact arithmetic: no relative error.
    for got, want in zip(made.results(), made.wanted(), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-5)


def test_statistics_hold_far_from_zero(triton_device):
    # A one-pass variance, E[x²] - E[x]², has no digit left here, and the sum itself loses eight bits.
    made = case(6, 200, dtype=torch.float32, device=triton_device, mean=4096)
    assert made.off_by() <= 2**8 * made.tolerance


def test_no_tokens(triton_device):
    made = case(0, 8, 0.1, dtype=torch.float32, device=triton_device)
    out, dx, dresidual, dweight, dbias = made.results()
    assert out.shape == dx.shape == dresidual.shape == (0, 8)
    assert not dweight.any()
    assert not dbias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("p", [0.1, 0.75])
def test_dropout_has_one_mask_in_both_passes(triton_device, dtype, p):
    made = case(22, 96, p, dtype=dtype, device=triton_device, seed=2**62 + 5)
    assert made.off_by() <= made.tolerance
    dx = made.results()[1]
    assert torch.equal(dx != 0, _mask(22, 96, p, torch.tensor([2**62 + 5], device=triton_device)))


def test_dropout_rate_and_seeds(triton_device):
    p, rows, hidden = 0.1, 80, 1000
    first, second = (_mask(rows, hidden, p, torch.tensor([s], device=triton_device)) for s in (1, 2))
    spread = 4 * math.sqrt(p * (1 - p) / first.numel())
    assert abs(1 - float(first.double().mean()) - p) < spread
    # Neither another seed nor the next row or column repeats the mask: both dropped as often as by chance.
    for other in (second, first.roll(1, 0), first.roll(1, 1), first.roll(4, 0)):
        both = float((~first & ~other).double().mean())
        assert abs(both - p * p) < 4 * math.sqrt(p * p / first.numel())
    assert bool(_mask(5, 7, 0.0, torch.tensor([1], device=triton_device)).all())


def test_without_a_seed_the_mask_follows_the_devices_generator(triton_device):
    inputs = case(3, 40, dtype=torch.float32, device=triton_device).inputs
    outs = []
    for number in (7, 7, 8):
        torch.manual_seed(number)
        outs.append(layer_norm(*inputs, eps=EPS, dropout_p=0.5))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_input_in_two_types_and_any_shape(triton_device):
    x, residual, weight, bias = case(6, 64, dtype=torch.float32, device=triton_device).inputs
    out = layer_norm(
        x.half().view(3, 2, 64).transpose(0, 1), residual.float().view(2, 3, 64), weight.float(), bias.half(), eps=EPS
    )
    moved = x.half().double().view(3, 2, 64).transpose(0, 1)
    rest = residual.double().view(2, 3, 64), weight.double(), bias.half().double()
    want = layer_norm_reference(moved, *rest, eps=EPS)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-5)


def test_rows_too_wide_for_the_kernel_take_torch(triton_device):
    inputs = case(2, 2049, dtype=torch.float32, device=triton_device).inputs
    torch.testing.assert_close(layer_norm(*inputs, eps=EPS), layer_norm_reference(*inputs, eps=EPS), rtol=0, atol=0)


def test_the_reference_is_the_librarys_module_and_has_gradients():
    inputs = case(3, 5, dtype=torch.float32, device="cpu").inputs
    x, residual, weight, bias = (tensor.double().requires_grad_() for tensor in inputs)
    want = torch.nn.functional.layer_norm(x + residual, (5,), weight, bias, EPS)
    torch.testing.assert_close(layer_norm_reference(x, residual, weight, bias, eps=EPS), want, rtol=0, atol=0)
    assert torch.autograd.gradcheck(partial(layer_norm_reference, eps=EPS), (x, residual, weight, bias))


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "hidden"), [(1, 1024), (1283, 1024), (16411, 1024), (509, 768)])
def test_on_a_gpu_in_bf16(gpu, rows, hidden):
    made = case(rows, hidden, 0.1, dtype=torch.bfloat16, device=gpu)
    assert made.off_by() <= made.tolerance
