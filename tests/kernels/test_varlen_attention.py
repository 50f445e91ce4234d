"""The Triton attention against the reference: fp32 and fp16 interpreted on a CPU, fp16 and bf16 on a GPU."""

from __future__ import annotations

import pytest
import torch
import xlt_kernels.attention
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from xlt_kernels.attention import ragged_attention
from xlt_kernels.flash import flash_attention
from xlt_kernels.varlen_attention import attention_mask, case, varlen_attention, varlen_serves

# A tile is 64 tokens: one tile at most, tile borders, several tiles beside sequences of one.
ONE_TILE = [[1], [0, 0], [5, 0, 1, 64, 13]]
TILES = [[65], [2, 127, 0, 64], [129, 3]]


def seed_of(number: int, device: str) -> Tensor:
    return torch.tensor([number], device=device)


@pytest.mark.parametrize(
    ("lengths", "dim", "dtype"),
    [(lengths, 16, torch.float32) for lengths in (*ONE_TILE, *TILES)]
    + [([5, 0, 64], dim, torch.float16) for dim in (32, 64)]
    + [([66, 3], dim, torch.float16) for dim in (64, 128)],
    ids=str,
)
def test_forward_and_gradients_equal_the_reference(triton_device, lengths, dim, dtype):
    if triton_device == "cuda" and dtype == torch.float32:
        pytest.skip("fp32 is for the interpreter")
    made = case(lengths, 2, dim, dtype=dtype, device=triton_device)
    assert made.off_by() <= made.tolerance


@pytest.mark.parametrize("lengths", [[40, 0, 7], [70, 5], [7, 130]], ids=str)
def test_dropout_uses_one_mask_forward_and_backward(triton_device, lengths):
    dtype = torch.float16 if triton_device == "cuda" else torch.float32
    made = case(lengths, 2, 16, 0.25, dtype=dtype, device=triton_device, seed=2**40 + 3)
    assert made.off_by() <= made.tolerance


def test_dropout_has_its_rate_and_no_pattern(triton_device):
    cu = torch.tensor([0, 64, 128], dtype=torch.int32, device=triton_device)
    # [seed and sequence, head, query, key]
    kept = torch.cat([
        attention_mask(cu, 2, 64, 0.1, seed_of(number, triton_device))[..., :64].unflatten(0, (2, 64)).transpose(1, 2)
        for number in (1, 2)
    ])  # fmt: skip
    # Four standard deviations of a binomial share: a false alarm in 16,000 seeds, and the seeds are fixed.
    spread = 4 * (0.1 * 0.9 / kept.numel()) ** 0.5
    assert abs(float(kept.double().mean()) - 0.9) < spread
    # Independent draws agree as often as 0.9**2 + 0.1**2: other seeds, sequences, heads, rows, and keys as far apart
    # as those that share a draw.
    pairs = [(kept[0], kept[2]), (kept[0], kept[1]), (kept[:, 0], kept[:, 1]), (kept[:, :, 1:], kept[:, :, :-1])]
    pairs += [(kept[..., step:], kept[..., :-step]) for step in (1, 2, 4, 8, 16, 32)]
    for left, right in pairs:
        agree = (left == right).double()
        assert abs(float(agree.mean()) - 0.82) < 4 * (0.82 * 0.18 / agree.numel()) ** 0.5


def test_the_seed_alone_decides_the_mask(triton_device, ragged):
    query, key, value, cu = ragged([9, 30], 2, 16, torch.float16, triton_device)

    def run(**options):
        options = {"max_seqlen": 30, "dropout_p": 0.5} | options
        return varlen_attention(query, key, value, cu, scale=0.3, **options)

    five = run(seed=seed_of(5, triton_device))
    assert torch.equal(five, run(seed=seed_of(5, triton_device)))
    assert torch.equal(five, run(seed=seed_of(5, triton_device), max_seqlen=200))
    assert not torch.equal(five, run(seed=seed_of(5 + 2**32, triton_device)))
    torch.manual_seed(0)
    drawn = [run(), run()]
    torch.manual_seed(0)
    assert torch.equal(drawn[0], run())
    assert not torch.equal(*drawn)
    state = torch.get_rng_state()
    assert torch.equal(run(dropout_p=0.0), run(dropout_p=0.0, seed=seed_of(5, triton_device)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("max_seqlen", [20, 100])
def test_tokens_of_no_sequence_give_zeros(triton_device, ragged, max_seqlen):
    *inputs, _ = ragged([200], 2, 16, torch.float16, triton_device)
    cu = torch.tensor([0, 20, 20, 30, 30], dtype=torch.int32, device=triton_device)
    out = varlen_attention(*inputs, cu, max_seqlen, scale=0.3)
    for tensor in (out, *torch.autograd.grad(out, inputs, torch.ones_like(out))):
        assert torch.isfinite(tensor[:30]).all()
        assert not tensor[30:].any()


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_another_sequence_changes_no_bit(triton_device, ragged):
    inputs = [tensor.detach() for tensor in ragged([5, 70, 4], 2, 16, torch.float16, triton_device)]
    *tensors, cu = inputs
    before = varlen_attention(*tensors, cu, 70, scale=0.3)
    for tensor in tensors:
        tensor[5:75] = torch.nan
    after = varlen_attention(*tensors, cu, 70, scale=0.3)
    assert torch.equal(before[:5], after[:5])
    assert torch.equal(before[75:], after[75:])


def test_parts_of_one_projection_and_transposed_inputs_are_read_where_they_lie(triton_device, ragged):
    query, key, value, cu = (tensor.detach() for tensor in ragged([20, 66], 2, 16, torch.float16, triton_device))
    expected = varlen_attention(query, key, value, cu, 66, scale=0.3)
    fused = torch.stack([query, key, value], 1).unbind(1)
    assert torch.equal(varlen_attention(*fused, cu, 66, scale=0.3), expected)
    turned = query.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(varlen_attention(turned, key, value, cu, 66, scale=0.3), expected)


def test_what_the_kernels_serve(triton_device):
    assert varlen_serves(torch.empty(1, 1, 64, device=triton_device, dtype=torch.float16))
    for dim, dtype in ((64, torch.float64), (24, torch.float16), (256, torch.float16)):
        assert not varlen_serves(torch.empty(1, 1, dim, device=triton_device, dtype=dtype))


def test_packed_attention_prefers_the_kernel_on_cuda_and_takes_blocks_on_a_cpu(monkeypatch):
    with FakeTensorMode():
        query = torch.empty(1, 1, 64, device="cuda", dtype=torch.bfloat16)
        for serves, operator in ((True, varlen_attention), (False, flash_attention)):
            monkeypatch.setattr(xlt_kernels.attention, "varlen_serves", lambda _, serves=serves: serves)
            assert ragged_attention(query) is operator
        assert ragged_attention(query.float()) is None
    monkeypatch.undo()
    assert ragged_attention(torch.empty(1, 1, 64, dtype=torch.float16)) is None


@pytest.mark.gpu
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
@pytest.mark.parametrize("longest", [64, 384])
def test_on_a_gpu_in_bf16(gpu, longest, dropout_p):
    lengths = [length for length in (1, 128, 7, 40, 257, 64, 0, 384, 65) if length <= longest]
    made = case(lengths, 16, 64, dropout_p, dtype=torch.bfloat16, device=gpu)
    assert made.off_by() <= made.tolerance


@pytest.mark.gpu
def test_a_captured_graph_takes_other_lengths_and_another_seed(gpu, ragged):
    *inputs, cu = ragged([50, 30, 100, 12], 4, 64, torch.bfloat16, gpu)
    weight, seed = torch.randn_like(inputs[0]), seed_of(1, gpu)

    def step():
        out = varlen_attention(*inputs, cu, 128, scale=0.125, dropout_p=0.1, seed=seed)
        return (out, *torch.autograd.grad(out, inputs, weight))

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    cu.copy_(torch.tensor([0, 128, 128, 150, 170]))
    seed.fill_(2)
    graph.replay()
    for left, right in zip(captured, step(), strict=True):
        assert torch.equal(left, right)
