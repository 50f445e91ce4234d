"""Dropout, residual and LayerNorm in one kernel, against torch in double precision."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from xlt_kernels.layer_norm import layer_norm, layer_norm_reference

from tests.kernels.oracle import assert_agrees, run

EPS = 1e-5
# Rounding of the result to the type, and for fp16 of the values it is compared with near zero.
TOLERANCE = {torch.float32: (2e-5, 2e-5), torch.float16: (2e-3, 2e-3), torch.bfloat16: (1e-2, 1e-2)}


def _inputs(rows: int, hidden: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(rows + hidden)
    shapes = [(rows, hidden), (rows, hidden), (hidden,), (hidden,)]
    x, residual, weight, bias = (torch.randn(shape, generator=chance, dtype=torch.float64) for shape in shapes)
    return [x, 3 * residual + 1, 1 + weight / 4, bias]


def _mask(rows: int, hidden: int, p: float, seed: Tensor) -> Tensor:
    from xlt_kernels.layer_norm_triton import layer_norm_mask

    return layer_norm_mask(rows, hidden, p, seed)


# 1 token; primes; one row more and less than tiles of four; more tiles than programs; XLM-R base's width; narrow.
SHAPES = [(1, 128), (3, 768), (4, 1), (5, 97), (31, 33), (16, 1024)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "hidden"), SHAPES)
def test_agrees_with_torch_in_double_precision(triton_device, rows, hidden, dtype):
    op, oracle = (partial(form, eps=EPS) for form in (layer_norm, layer_norm_reference))
    out = assert_agrees(op, oracle, _inputs(rows, hidden), triton_device, dtype, *TOLERANCE[dtype])
    assert out.dtype == dtype


def test_statistics_hold_far_from_zero(triton_device):
    # A one-pass variance, E[x²] - E[x]², has no digit left here.
    x, residual, weight, bias = _inputs(6, 200)
    op, oracle = (partial(form, eps=EPS) for form in (layer_norm, layer_norm_reference))
    inputs = [x, residual + 4096, weight, bias]
    assert_agrees(op, oracle, inputs, triton_device, torch.float32, 1e-3, 1e-3)


def test_no_tokens(triton_device):
    out, dx, dresidual, dweight, dbias = run(
        partial(layer_norm, eps=EPS, dropout_p=0.1), [t.float().to(triton_device) for t in _inputs(0, 8)]
    )
    assert out.shape == dx.shape == dresidual.shape == (0, 8)
    assert not dweight.any()
    assert not dbias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("p", [0.1, 0.75])
def test_dropout_has_one_mask_in_both_passes(triton_device, dtype, p):
    rows, hidden = 22, 96
    seed = torch.tensor([2**62 + 5], device=triton_device)
    keep = _mask(rows, hidden, p, seed)
    op = partial(layer_norm, eps=EPS, dropout_p=p, seed=seed)

    def oracle(x: Tensor, *rest: Tensor) -> Tensor:
        return layer_norm_reference(x * keep / (1 - p), *rest, eps=EPS)

    inputs = _inputs(rows, hidden)
    assert_agrees(op, oracle, inputs, triton_device, dtype, *(4 * t for t in TOLERANCE[dtype]))
    dx = run(op, [t.to(triton_device, dtype) for t in inputs])[1]
    assert torch.equal(dx != 0, keep)


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
    inputs = [t.float().to(triton_device) for t in _inputs(3, 40)]
    outs = []
    for number in (7, 7, 8):
        torch.manual_seed(number)
        outs.append(layer_norm(*inputs, eps=EPS, dropout_p=0.5))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_input_in_two_types_and_any_shape(triton_device):
    x, residual, weight, bias = (t.to(triton_device) for t in _inputs(6, 64))
    out = layer_norm(
        x.half().view(3, 2, 64).transpose(0, 1), residual.float().view(2, 3, 64), weight.float(), bias.half(), eps=EPS
    )
    moved = x.half().double().view(3, 2, 64).transpose(0, 1)
    want = layer_norm_reference(moved, residual.float().double().view(2, 3, 64), weight, bias.half().double(), eps=EPS)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-5)


def test_rows_too_wide_for_the_kernel_take_torch():
    inputs = _inputs(2, 2049)
    torch.testing.assert_close(layer_norm(*inputs, eps=EPS), layer_norm_reference(*inputs, eps=EPS), rtol=0, atol=0)


def test_the_reference_is_the_librarys_module_and_has_gradients():
    x, residual, weight, bias = (t.requires_grad_() for t in _inputs(3, 5))
    want = torch.nn.functional.layer_norm(x + residual, (5,), weight, bias, EPS)
    torch.testing.assert_close(layer_norm_reference(x, residual, weight, bias, eps=EPS), want, rtol=0, atol=0)
    assert torch.autograd.gradcheck(partial(layer_norm_reference, eps=EPS), (x, residual, weight, bias))


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "hidden"), [(1, 1024), (1283, 1024), (16411, 1024), (509, 768)])
def test_on_a_gpu_in_bf16_with_the_same_bits_each_time(triton_device, rows, hidden):
    if triton_device != "cuda":
        pytest.skip("needs an NVIDIA GPU")
    seed = torch.tensor([11], device="cuda")
    keep = _mask(rows, hidden, 0.1, seed)
    op = partial(layer_norm, eps=EPS, dropout_p=0.1, seed=seed)

    def oracle(x: Tensor, *rest: Tensor) -> Tensor:
        return layer_norm_reference(x * keep / 0.9, *rest, eps=EPS)

    inputs = _inputs(rows, hidden)
    assert_agrees(op, oracle, inputs, "cuda", torch.bfloat16, *TOLERANCE[torch.bfloat16])
    once, again = (run(op, [t.to("cuda", torch.bfloat16) for t in inputs]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
