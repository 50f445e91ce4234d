"""Bias and GELU in one kernel, against torch in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from xlt_kernels.gelu import bias_gelu, bias_gelu_reference

from tests.kernels.oracle import assert_agrees, run

# Rounding of the result to the type, and for fp16 of the values it is compared with near zero.
TOLERANCE = {torch.float32: (1e-5, 1e-6), torch.float16: (2e-3, 1e-3), torch.bfloat16: (1e-2, 1e-2)}


def _inputs(rows: int, width: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(rows + width)
    return [3 * torch.randn(shape, generator=chance, dtype=torch.float64) for shape in ((rows, width), (width,))]


# 1 token; primes; one row and column more and less than a tile; more tiles than programs.
SHAPES = [(1, 16), (4, 1024), (5, 1025), (3, 1023), (29, 37)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_agrees_with_torch_in_double_precision(triton_device, rows, width, dtype):
    inputs = _inputs(rows, width)
    out = assert_agrees(bias_gelu, bias_gelu_reference, inputs, triton_device, dtype, *TOLERANCE[dtype])
    assert out.dtype == dtype


def test_is_exact_from_tail_to_tail(triton_device):
    z = torch.linspace(-13, 13, 4001)[None]
    bias = torch.zeros(4001)
    out, slope, _ = (t.double().cpu() for t in run(bias_gelu, [z.to(triton_device), bias.to(triton_device)]))
    want, want_slope, _ = run(bias_gelu_reference, [z.double(), bias.double()])
    # The form with tanh is 5e-4 off.
    torch.testing.assert_close(out, want, rtol=1e-7, atol=2e-7)
    torch.testing.assert_close(slope, want_slope, rtol=1e-7, atol=1e-6)
    # Where 1 + erf has no digits left in fp32, those of the exponential remain.
    tail = z.double() * torch.erfc(-z.double() / 2**0.5) / 2
    torch.testing.assert_close(out[z < -1], tail[z < -1], rtol=1e-5, atol=0)


def test_any_shape_and_no_tokens(triton_device):
    x, bias = (t.float().to(triton_device) for t in _inputs(6, 40))
    turned = x.view(3, 2, 40).transpose(0, 1)
    torch.testing.assert_close(bias_gelu(turned, bias), bias_gelu_reference(turned, bias), rtol=1e-5, atol=1e-6)
    out, dx, dbias = run(bias_gelu, [x[:0], bias])
    assert out.shape == dx.shape == (0, 40)
    assert not dbias.any()


def test_keeps_its_input_alone(triton_device):
    x, bias = (t.float().to(triton_device).requires_grad_() for t in _inputs(2, 8))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        bias_gelu(x, bias)
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), bias.data_ptr()}


def test_the_reference_is_the_librarys_gelu_and_has_gradients():
    x, bias = (t.requires_grad_() for t in _inputs(3, 5))
    torch.testing.assert_close(bias_gelu_reference(x, bias), torch.nn.functional.gelu(x + bias), rtol=0, atol=0)
    assert torch.autograd.gradcheck(bias_gelu_reference, (x, bias))


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "width"), [(1, 4096), (1283, 4096), (16411, 4096), (509, 3072)])
def test_on_a_gpu_in_bf16_with_the_same_bits_each_time(triton_device, rows, width):
    if triton_device != "cuda":
        pytest.skip("needs an NVIDIA GPU")
    inputs = _inputs(rows, width)
    assert_agrees(bias_gelu, bias_gelu_reference, inputs, "cuda", torch.bfloat16, *TOLERANCE[torch.bfloat16])
    once, again = (run(bias_gelu, [t.to("cuda", torch.bfloat16) for t in inputs]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
