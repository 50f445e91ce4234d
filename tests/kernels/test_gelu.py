"""Bias and GELU in one kernel, against torch in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from xlt_kernels.case import Case
from xlt_kernels.gelu import bias_gelu, bias_gelu_reference, case

# 1 token; primes; one row and column more and less than a tile; more tiles than programs.
SHAPES = [(1, 16), (4, 1024), (5, 1025), (3, 1023), (29, 37)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_agrees_with_torch_in_double_precision(triton_device, rows, width, dtype):
    made = case(rows, width, dtype=dtype, device=triton_device)
    assert made.off_by() <= made.tolerance
    assert bias_gelu(*made.inputs).dtype == dtype


def test_is_exact_from_tail_to_tail(triton_device):
    z = torch.linspace(-13, 13, 4001, device=triton_device)[None]
    made = Case(bias_gelu, bias_gelu_reference, [z, torch.zeros_like(z[0])], 0)
    (out, slope, _), (want, want_slope, _) = made.results(), made.wanted()
    # The form with tanh is 5e-4 off.
    torch.testing.assert_close(out.double(), want, rtol=1e-7, atol=2e-7)
    torch.testing.assert_close(slope.double(), want_slope, rtol=1e-7, atol=2e-6)
    # Where 1 + erf has no digits left in fp32, those of the exponential remain.
    tail = z.double() * torch.erfc(-z.double() / 2**0.5) / 2
    torch.testing.assert_close(out[z < -1].double(), tail[z < -1], rtol=1e-5, atol=0)


def test_any_shape_and_no_tokens(triton_device):
    x, bias = case(6, 40, dtype=torch.float32, device=triton_device).inputs
    turned = x.view(3, 2, 40).transpose(0, 1)
    torch.testing.assert_close(bias_gelu(turned, bias), bias_gelu_reference(turned, bias), rtol=1e-5, atol=1e-6)
    out, dx, dbias = case(0, 40, dtype=torch.float32, device=triton_device).results()
    assert out.shape == dx.shape == (0, 40)
    assert not dbias.any()


def test_keeps_its_input_alone(triton_device):
    x, bias = (t.requires_grad_() for t in case(2, 8, dtype=torch.float32, device=triton_device).inputs)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        bias_gelu(x, bias)
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), bias.data_ptr()}


def test_the_reference_is_the_librarys_gelu_and_has_gradients():
    x, bias = (t.double().requires_grad_() for t in case(3, 5, dtype=torch.float32, device="cpu").inputs)
    torch.testing.assert_close(bias_gelu_reference(x, bias), torch.nn.functional.gelu(x + bias), rtol=0, atol=0)
    assert torch.autograd.gradcheck(bias_gelu_reference, (x, bias))


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "width"), [(1, 4096), (1283, 4096), (16411, 4096), (509, 3072)])
def test_on_a_gpu_in_bf16(gpu, rows, width):
    made = case(rows, width, dtype=torch.bfloat16, device=gpu)
    assert made.off_by() <= made.tolerance
