"""Sentence vectors of packed rows against loops in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from xlt_kernels.pooling import unit_means, unit_means_reference

from tests.kernels.oracle import poisoned

# 1 token, empty ones (first, in between, last), and lengths around the kernel's eight rows.
LENGTHS = [0, 1, 8, 0, 7, 9, 40, 3, 0]


def _inputs(lengths: list[int], width: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(width)
    hidden = 2 + torch.randn(sum(lengths), width, generator=chance, dtype=torch.float64)
    return hidden.to(device, dtype), torch.tensor([0, *lengths]).cumsum(0).int().to(device)


def _oracle(hidden: Tensor, lengths: list[int]) -> Tensor:
    means = [part.mean(0) if len(part) else part.sum(0) for part in hidden.double().split(lengths)]
    return torch.stack([mean / mean.norm().clamp(min=1e-12) for mean in means])


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("width", [128, 768, 97])
@pytest.mark.parametrize("form", [unit_means, unit_means_reference])
def test_is_the_mean_at_unit_length(triton_device, form, width, dtype, out_dtype):
    hidden, cu_seqlens = _inputs(LENGTHS, width, dtype, triton_device)
    with poisoned():
        got = form(hidden, cu_seqlens, out_dtype)
    assert got.dtype == out_dtype
    # Numbers below 0.5 in fp16 lie at most 2**-12 from where they belong.
    atol = 1e-6 if out_dtype == torch.float32 else 2**-11
    torch.testing.assert_close(got.double(), _oracle(hidden, LENGTHS), rtol=0, atol=atol)
    assert not got[[0, 3, 8]].any()


def test_sums_are_fp32(triton_device):
    # In fp16, 2048 + 1 is 2048.
    hidden = torch.ones(65, 2, dtype=torch.float16, device=triton_device)
    hidden[0, 0] = 2048
    got = unit_means(hidden, torch.tensor([0, 65], dtype=torch.int32, device=triton_device))
    torch.testing.assert_close(got.double(), _oracle(hidden, [65]), rtol=1e-6, atol=0)


def test_a_mean_of_zero_gives_zeros(triton_device):
    hidden = torch.tensor([[1.0, -2.0], [-1.0, 2.0]], device=triton_device)
    assert not unit_means(hidden, torch.tensor([0, 2], dtype=torch.int32, device=triton_device)).any()


def test_no_sequences(triton_device):
    hidden, cu_seqlens = _inputs([], 16, torch.float32, triton_device)
    assert unit_means(hidden, cu_seqlens).shape == (0, 16)


def test_refuses_to_lose_a_gradient():
    hidden, cu_seqlens = _inputs([2], 4, torch.float32, "cpu")
    with pytest.raises(ValueError, match="no gradient"):
        unit_means(hidden.requires_grad_(), cu_seqlens)
    with torch.no_grad():
        assert unit_means(hidden, cu_seqlens).shape == (1, 4)


@pytest.mark.gpu
@pytest.mark.parametrize("out_dtype", [torch.float32, torch.float16])
def test_on_a_gpu_in_bf16_with_the_same_bits_each_time(triton_device, out_dtype):
    if triton_device != "cuda":
        pytest.skip("needs an NVIDIA GPU")
    lengths = [length % 131 for length in range(0, 40000, 37)]
    hidden, cu_seqlens = _inputs(lengths, 1024, torch.bfloat16, "cuda")
    with poisoned():
        once, again = (unit_means(hidden, cu_seqlens, out_dtype) for _ in range(2))
    assert torch.equal(once, again)
    atol = 1e-6 if out_dtype == torch.float32 else 2**-11
    torch.testing.assert_close(once.double(), _oracle(hidden, lengths), rtol=0, atol=atol)
