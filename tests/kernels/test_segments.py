"""Reductions per sequence against loops."""

from __future__ import annotations

import torch
from xlt_kernels.segments import mean_pool, segment_logsumexp, unit_means

LENGTHS = [3, 1, 0, 17, 2]
CU = torch.tensor([0, *LENGTHS]).cumsum(0).int()


def test_mean_pool_is_the_mean_of_each_sequence():
    hidden = torch.randn(sum(LENGTHS), 6, dtype=torch.float64, requires_grad=True)
    pooled = mean_pool(hidden, CU)
    for row, part in zip(pooled, hidden.split(LENGTHS), strict=True):
        expected = part.mean(0) if len(part) else torch.zeros(6, dtype=torch.float64)
        torch.testing.assert_close(row, expected, rtol=1e-14, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: mean_pool(x, CU), hidden)


def test_mean_pool_of_bf16_is_summed_in_fp32():
    hidden = torch.full((1000, 1), 1.0, dtype=torch.bfloat16)
    # In bf16, 256 + 1 is 256: a sum of a thousand ones would stop there.
    assert mean_pool(hidden, torch.tensor([0, 1000], dtype=torch.int32)).tolist() == [[1.0]]
    assert mean_pool(hidden, torch.tensor([0, 1000], dtype=torch.int32)).dtype == torch.float32


def test_logsumexp_is_over_each_sequence_alone():
    logits = (30 * torch.randn(sum(LENGTHS), 2, dtype=torch.float64)).requires_grad_()
    got = segment_logsumexp(logits, CU, 17)
    for row, part in zip(got, logits.split(LENGTHS), strict=True):
        torch.testing.assert_close(row, part.logsumexp(0), rtol=1e-14, atol=1e-14)
    full = torch.tensor([True, True, False, True, True])
    assert torch.autograd.gradcheck(lambda x: segment_logsumexp(x, CU, 20)[full], logits)


def test_unit_means_have_length_one_whatever_the_type():
    hidden = (2 + torch.randn(sum(LENGTHS), 97)).half()
    means = torch.stack([part.double().sum(0) / max(len(part), 1) for part in hidden.split(LENGTHS)])
    wanted = means / means.norm(dim=1, keepdim=True).clamp(min=1e-12)
    for dtype, atol in ((torch.float32, 1e-6), (torch.float16, 2**-11)):
        got = unit_means(hidden, CU, dtype)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=atol)
        assert not got[2].any()
    assert unit_means(hidden[:0], CU[:1]).shape == (0, 97)


def test_sums_of_unit_means_are_fp32():
    # In fp16, 2048 + 1 is 2048.
    hidden = torch.ones(65, 2, dtype=torch.float16)
    hidden[0, 0] = 2048
    wanted = torch.tensor([[2112.0, 65.0]])
    torch.testing.assert_close(unit_means(hidden, torch.tensor([0, 65]).int()), wanted / wanted.norm())


def test_the_unit_mean_of_zeros_is_zero():
    assert not unit_means(torch.tensor([[1.0, -2.0], [-1.0, 2.0]]), torch.tensor([0, 2]).int()).any()
