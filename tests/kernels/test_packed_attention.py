"""Packed attention against its reference, and the reference against a masked product over the whole row."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from xlt_kernels.attention import Reach, packed_attention
from xlt_kernels.plan import plan_attention
from xlt_kernels.varlen_attention import varlen_attention_reference

AWKWARD = [
    [1],
    [1, 1, 1],
    [13],
    [7, 7, 7],
    [2, 3, 5, 7, 11, 13, 17, 19, 23],
    [0, 5, 0, 0, 3, 0],
    [64, 1, 63, 2, 62],
    [128, *[3] * 40],
]
# Both sides do the same sums in another order; rounding grows with the number of terms (at most 128 keys of
# size 1).
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-5}


def assert_close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=TOLERANCE[left.dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lengths", AWKWARD, ids=str)
def test_fast_form_equals_the_reference_forward_and_backward(ragged, lengths, dtype):
    query, key, value, cu = ragged(lengths, dtype=dtype)
    weight = torch.randn(query.shape, dtype=dtype)
    expected = varlen_attention_reference(query, key, value, cu, 0.3)
    wanted = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    for plan in (None, plan_attention(cu)):
        got = packed_attention(query, key, value, cu, max(lengths), scale=0.3, dropout_p=0.0, plan=plan)
        assert_close(got, expected)
        grads = torch.autograd.grad((got * weight).sum(), (query, key, value))
        for left, right in zip(grads, wanted, strict=True):
            assert_close(left, right)


REACHES = {
    "causal": Reach(causal=True),
    "window": Reach(window=3),
    "causal window": Reach(causal=True, window=5),
    "causal slopes": Reach(causal=True, slopes=torch.tensor([0.5, 0.25])),
    "slopes in a window": Reach(causal=True, window=4, slopes=torch.tensor([0.5, 0.25])),
}


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
@pytest.mark.parametrize("lengths", AWKWARD, ids=str)
def test_a_query_reads_as_far_as_it_reaches(ragged, lengths, reach):
    """One masked product over the whole row, written with the distance of each key and query."""
    query, key, value, cu = ragged(lengths, heads=2)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), cu.diff().long())
    places = torch.cat([torch.arange(length) for length in lengths])
    behind = places[:, None] - places
    read = owner[:, None] == owner
    if reach.causal:
        read = read & (behind >= 0)
    if reach.window is not None:
        read = read & (behind.abs() < reach.window)
    scores = torch.einsum("qhd,khd->hqk", query, key) * 0.3
    if reach.slopes is not None:
        scores = scores - reach.slopes[:, None, None] * behind
    expected = torch.einsum("hqk,khd->qhd", scores.masked_fill(~read, -torch.inf).softmax(-1), value)
    got = packed_attention(query, key, value, cu, max(lengths), scale=0.3, dropout_p=0.0, reach=reach)
    assert_close(got, expected)
    weight = torch.randn(query.shape, dtype=query.dtype)
    wanted, grads = (torch.autograd.grad((each * weight).sum(), (query, key, value)) for each in (expected, got))
    for left, right in zip(grads, wanted, strict=True):
        assert_close(left, right)


def test_random_shapes_equal_the_reference(ragged):
    chance = random.Random(5)
    for _ in range(25):
        lengths = [chance.choice((0, 1, chance.randint(2, 70))) for _ in range(chance.randint(1, 30))]
        heads, dim = chance.randint(1, 3), chance.choice((1, 5, 16))
        query, key, value, cu = ragged([*lengths, 1], heads, dim)
        got = packed_attention(query, key, value, cu, max(lengths), scale=0.5, dropout_p=0.0)
        assert_close(got, varlen_attention_reference(query, key, value, cu, 0.5))


@pytest.mark.parametrize("lengths", AWKWARD, ids=str)
def test_the_reference_equals_one_masked_product(ragged, lengths):
    query, key, value, cu = ragged(lengths)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), cu.diff().long())
    whole = F.scaled_dot_product_attention(
        *(tensor.transpose(0, 1) for tensor in (query, key, value)),
        attn_mask=owner[:, None] == owner[None, :],
        scale=0.3,
    ).transpose(0, 1)
    assert_close(varlen_attention_reference(query, key, value, cu, 0.3), whole)


def test_gradients_equal_finite_differences(ragged):
    query, key, value, cu = ragged([3, 0, 1, 5], heads=2, dim=2)
    assert torch.autograd.gradcheck(
        lambda q, k, v: packed_attention(q, k, v, cu, 5, scale=0.7, dropout_p=0.0), (query, key, value)
    )


def test_a_batch_without_tokens_gives_none(ragged):
    query, key, value, cu = ragged([0, 0])
    out = packed_attention(query, key, value, cu, 0, scale=1.0, dropout_p=0.0)
    assert out.shape == query.shape
    assert varlen_attention_reference(query, key, value, cu, 1.0).shape == query.shape


def test_another_sequence_changes_no_bit(ragged):
    lengths = [5, 9, 4, 30]
    query, key, value, cu = (tensor.detach() for tensor in ragged(lengths, dtype=torch.float32))
    before = packed_attention(query, key, value, cu, 30, scale=0.3, dropout_p=0.0)
    for tensor in (query, key, value):
        tensor[5:14] = torch.nan
    after = packed_attention(query, key, value, cu, 30, scale=0.3, dropout_p=0.0)
    assert torch.equal(before[:5], after[:5])
    assert torch.equal(before[14:], after[14:])


def test_bf16_stays_within_its_rounding(ragged):
    lengths = [1, 17, 40, 40, 3]
    query, key, value, cu = ragged(lengths, dtype=torch.bfloat16)
    exact = varlen_attention_reference(*(t.double() for t in (query, key, value)), cu, 0.3)
    for out in (
        packed_attention(query, key, value, cu, 40, scale=0.3, dropout_p=0.0),
        varlen_attention_reference(query, key, value, cu, 0.3),
    ):
        assert out.dtype == torch.bfloat16
        # bf16 keeps 8 bits: half a unit in the last place of a value below 4 is 2**-7; the weights are
        # rounded too.
        torch.testing.assert_close(out.double(), exact, rtol=0, atol=2**-6)


def _uniform(lengths: list[int], heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys that give equal weights, and values that show them: ``out[i, :, j]`` is i's for j."""
    longest = max(lengths)
    zeros = torch.zeros(sum(lengths), heads, longest)
    shown = torch.cat([torch.eye(length, longest) for length in lengths])
    value = shown[:, None, :].expand(-1, heads, -1).contiguous().requires_grad_()
    return zeros, value, torch.tensor([0, *lengths]).cumsum(0).int()


def test_dropout_zeroes_weights_at_its_rate_and_rescales():
    torch.manual_seed(3)
    lengths, heads, rate = [40, 33, 40, 8] * 8, 4, 0.1
    zeros, value, cu = _uniform(lengths, heads)
    out = packed_attention(zeros, zeros, value, cu, 40, scale=1.0, dropout_p=rate)
    weights = torch.cat(
        [part[:, :, :length].flatten() for part, length in zip(out.split(lengths), lengths, strict=True)]
    )
    sizes = torch.cat([torch.full((length * heads * length,), float(length)) for length in lengths])
    kept = weights > 0
    torch.testing.assert_close(weights[kept] * sizes[kept], torch.full((int(kept.sum()),), 1 / (1 - rate)))
    # Four standard deviations of a binomial share: a false alarm in 16,000 seeds, and the seed is fixed.
    spread = (rate * (1 - rate) / kept.numel()) ** 0.5
    assert abs(float(kept.float().mean()) - (1 - rate)) < 4 * spread


def test_dropout_backward_uses_the_forward_mask():
    torch.manual_seed(4)
    lengths = [12, 5, 12]
    zeros, value, cu = _uniform(lengths, heads=2)
    out = packed_attention(zeros, zeros, value, cu, 12, scale=1.0, dropout_p=0.5)
    weight = torch.randn(out.shape)
    (grad,) = torch.autograd.grad((out * weight).sum(), value)
    start = 0
    for length in lengths:
        shown = out[start : start + length, :, :length].transpose(0, 1)
        expected = shown.transpose(1, 2) @ weight[start : start + length].transpose(0, 1)
        torch.testing.assert_close(grad[start : start + length].transpose(0, 1), expected)
        start += length


def test_the_reference_multiplies_its_weights_by_the_factors_of_dropout():
    lengths = [3, 0, 2]
    zeros, value, cu = _uniform(lengths, heads=2)
    factors = torch.rand(5, 2, 3)
    out = varlen_attention_reference(zeros, zeros, value, cu, 1.0, factors)
    for part, factor in zip(out.split(lengths), factors.split(lengths), strict=True):
        length = len(part)
        torch.testing.assert_close(part[..., :length], factor[..., :length] / max(length, 1))
