"""The flash path: its wiring on fake tensors anywhere, its numbers on a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import xlt_kernels.attention
from torch._subclasses.fake_tensor import FakeTensorMode
from xlt_kernels.attention import Reach, packed_attention
from xlt_kernels.flash import _FlashAttention, flash_attention, flash_serves
from xlt_kernels.varlen_attention import varlen_attention_reference

FORWARD = torch.ops.aten._flash_attention_forward.default._schema
BACKWARD = torch.ops.aten._flash_attention_backward.default._schema

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: flash kernels have no CPU form"),
]


def test_the_private_operators_still_have_the_arguments_we_pass_by_position():
    lengths = ["cum_seq_q", "cum_seq_k", "max_q", "max_k"]
    forward = ["query", "key", "value", *lengths, "dropout_p", "is_causal", "return_debug_mask"]
    assert [argument.name for argument in FORWARD.arguments if not argument.kwarg_only] == forward
    results = ["output", "softmax_logsumexp", "rng_state", "unused", "debug_attn_mask"]
    assert [result.name for result in FORWARD.returns] == results
    saved = ["out", "logsumexp", *lengths, "dropout_p", "is_causal", "rng_state", "unused"]
    backward = ["grad_out", "query", "key", "value", *saved]
    assert [argument.name for argument in BACKWARD.arguments if not argument.kwarg_only] == backward
    assert len(BACKWARD.returns) == 3
    for schema in (FORWARD, BACKWARD):
        named = {argument.name for argument in schema.arguments if argument.kwarg_only}
        assert {"scale", "window_size_left", "window_size_right"} <= named


class _Context:
    """What autograd hands to a function; the engine itself cannot run on fake CUDA tensors without CUDA."""

    saved_tensors = ()

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_on_cuda_fit_the_operators_forward_and_backward(monkeypatch, dtype):
    taken = []

    def spy(*arguments, scale, dropout_p):
        context = _Context()
        out = _FlashAttention.forward(context, *arguments, scale, dropout_p)
        taken.append((out, _FlashAttention.backward(context, torch.empty_like(out))))
        return out

    monkeypatch.setattr(xlt_kernels.attention, "flash_attention", spy)
    with FakeTensorMode():
        query, key, value = (torch.empty(11, 4, 64, device="cuda", dtype=dtype) for _ in range(3))
        cu = torch.empty(4, device="cuda", dtype=torch.int32)
        packed_attention(query, key, value, cu, 7, scale=0.125, dropout_p=0.1)
    ((out, grads),) = taken
    for tensor in (out, *grads[:3]):
        assert (tensor.shape, tensor.dtype, tensor.device.type) == (query.shape, dtype, "cuda")
    assert grads[3:] == (None,) * 6


def test_the_backward_gets_what_the_forward_saved(monkeypatch):
    calls = {}

    query, key, value = (torch.full((2, 1, 8), float(n), requires_grad=True) for n in (1, 2, 3))
    cu = torch.tensor([0, 2], dtype=torch.int32)

    def forward(*arguments, scale):
        calls["forward"] = (arguments, scale)
        return arguments[0] + 1, torch.tensor([4.0]), torch.tensor([5]), torch.tensor([6]), None

    def backward(*arguments, scale):
        calls["backward"] = (arguments, scale)
        return arguments[1] * 2, arguments[2] * 3, arguments[3] * 4

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", backward)
    out = flash_attention(query, key, value, cu, 2, scale=0.5, dropout_p=0.25)
    grads = torch.autograd.grad(out.sum(), (query, key, value))
    assert [float(grad.mean()) for grad in grads] == [2.0, 6.0, 12.0]
    assert calls["forward"][0][5:] == (2, 2, 0.25, False, False)
    passed, scale = calls["backward"]
    assert scale == 0.5
    assert [float(tensor.detach().mean()) for tensor in passed[:6]] == [1, 1, 2, 3, 2, 4]
    assert passed[6].tolist() == passed[7].tolist() == [0, 2]
    assert passed[8:12] == (2, 2, 0.25, False)
    assert [int(tensor) for tensor in passed[12:]] == [5, 6]


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        (Reach(causal=True), {}),
        (Reach(window=5), {"window_size_left": 4, "window_size_right": 4}),
        (Reach(causal=True, window=5), {"window_size_left": 4, "window_size_right": 0}),
    ],
    ids=str,
)
def test_both_passes_are_told_how_far_a_query_reaches(monkeypatch, reach, expected):
    calls = []

    def forward(*arguments, scale, **named):
        calls.append((arguments[8], named))
        return arguments[0] + 1, *(torch.zeros(1) for _ in range(3)), None

    def backward(*arguments, scale, **named):
        calls.append((arguments[11], named))
        return arguments[1:4]

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", backward)
    monkeypatch.setattr(xlt_kernels.attention, "flash_serves", lambda _: True)
    query = torch.ones(2, 1, 8, requires_grad=True)
    served = xlt_kernels.attention.ragged_attention(SimpleNamespace(device=torch.device("cuda")), reach)
    out = served(query, query, query, torch.tensor([0, 2]), 2, scale=1.0, dropout_p=0.0)
    torch.autograd.grad(out.sum(), query)
    assert calls == [(reach.causal, expected)] * 2


def test_what_no_kernel_knows_takes_the_padded_blocks(monkeypatch):
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    for name in ("flash_serves", "varlen_serves"):
        monkeypatch.setattr(xlt_kernels.attention, name, lambda _: True)
    ragged = xlt_kernels.attention.ragged_attention
    assert ragged(on_gpu) is xlt_kernels.attention.varlen_attention
    assert ragged(on_gpu, Reach(causal=True)) is not None
    assert ragged(on_gpu, Reach(causal=True, slopes=torch.ones(2))) is None


@pytest.mark.parametrize(("enabled", "only_warns"), [(True, True), (True, False), (False, False)])
def test_the_backward_is_repeatable_also_where_deterministic_mode_only_warns(monkeypatch, enabled, only_warns):
    def mode():
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def backward(*arguments, **_):
        seen.append(mode())
        return arguments[1:4]

    seen = []
    monkeypatch.setattr(
        torch.ops.aten, "_flash_attention_forward", lambda *given, **_: (given[0] + 1, *given[:3], None)
    )
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", backward)
    query, key, value = (torch.ones(2, 1, 8, requires_grad=True) for _ in range(3))
    torch.use_deterministic_algorithms(enabled, warn_only=only_warns)
    try:
        out = flash_attention(query, key, value, torch.tensor([0, 2]), 2, scale=1.0, dropout_p=0.0)
        torch.autograd.grad(out.sum(), query)
        assert (seen, mode()) == ([(enabled, False)], (enabled, only_warns))
    finally:
        torch.use_deterministic_algorithms(False)


def test_everything_else_takes_the_padded_blocks():
    assert not flash_serves(torch.empty(3, 2, 64, dtype=torch.bfloat16))
    with FakeTensorMode():
        assert not flash_serves(torch.empty(3, 2, 64, device="cuda"))
        assert not flash_serves(torch.empty(3, 2, 12, device="cuda", dtype=torch.bfloat16))
        assert not flash_serves(torch.empty(3, 2, 264, device="cuda", dtype=torch.bfloat16))


class TestOnGpu:
    pytestmark = gpu

    LENGTHS = (1, 128, 7, 40, 257, 64)

    @pytest.fixture(autouse=True)
    def _torchs_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XLT_KERNELS", "-varlen_attention")

    def test_bf16_flash_is_close_to_the_reference_in_double_precision(self, ragged):
        query, key, value, cu = ragged(self.LENGTHS, 16, 64, torch.bfloat16, "cuda")
        exact = [tensor.detach().double().requires_grad_() for tensor in (query, key, value)]
        weight = torch.randn(query.shape, device="cuda", dtype=torch.bfloat16)
        expected = varlen_attention_reference(*exact, cu, 0.125)
        wanted = torch.autograd.grad((expected * weight.double()).sum(), exact)
        got = packed_attention(query, key, value, cu, 257, scale=0.125, dropout_p=0.0)
        grads = torch.autograd.grad(got, (query, key, value), weight)
        for left, right in zip((got, *grads), (expected, *wanted), strict=True):
            # bf16 keeps 8 bits (2**-9 relative); a few roundings in a row stay under 1 % of the tensor's
            # norm.
            assert float((left.double() - right).norm() / right.norm()) < 1e-2

    def test_fp32_runs_the_padded_form(self, ragged):
        query, key, value, cu = ragged(self.LENGTHS, 4, 64, torch.float32, "cuda")
        got = packed_attention(query, key, value, cu, 257, scale=0.125, dropout_p=0.0)
        expected = varlen_attention_reference(*(t.double() for t in (query, key, value)), cu, 0.125)
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-5)

    def test_dropout_keeps_at_its_rate_and_backward_uses_the_same_mask(self):
        torch.manual_seed(0)
        length, heads, sequences, rate = 64, 8, 16, 0.1
        tokens = length * sequences
        cu = torch.arange(0, tokens + 1, length, device="cuda", dtype=torch.int32)
        zeros = torch.zeros(tokens, heads, length, device="cuda", dtype=torch.bfloat16)
        shown = torch.eye(length, device="cuda", dtype=torch.bfloat16).repeat(sequences, 1)
        value = shown[:, None, :].expand(-1, heads, -1).contiguous().requires_grad_()
        out = packed_attention(zeros, zeros, value, cu, length, scale=0.125, dropout_p=rate)
        weights = out.detach().float()
        kept = weights > 0
        spread = (rate * (1 - rate) / kept.numel()) ** 0.5
        # The kernel compares 8-bit draws with the rate: its own rate may be off by 1/256.
        assert abs(float(kept.float().mean()) - (1 - rate)) < 4 * spread + 1 / 256
        scaled = weights[kept] * length * (1 - rate)
        # bf16 keeps 8 bits.
        torch.testing.assert_close(scaled, torch.ones_like(scaled), rtol=1e-2, atol=0)
        grad_out = torch.randn_like(out)
        (grad,) = torch.autograd.grad(out, value, grad_out)
        mask = weights.view(sequences, length, heads, length)
        wanted = torch.einsum("sihj,sihd->sjhd", mask, grad_out.float().view(mask.shape))
        assert float((grad.float() - wanted.reshape(grad.shape)).norm() / wanted.norm()) < 1e-2
