"""``xlt bench kernels``: each kernel alone beside its baselines, at the shapes of training.

Inputs, reference and tolerance of a row are those of the kernel's ``case()``. Mutual top-k is timed by
``xlt bench retrieval``, AdamW by ``xlt bench optimizer``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from xlt_kernels import embedding, gelu, layer_norm, varlen_attention
from xlt_kernels.attention import packed_attention, ragged_attention
from xlt_kernels.case import Case, normal
from xlt_kernels.flash import flash_attention, flash_serves
from xlt_kernels.plan import plan_attention

from xlt.bench.batches import is_token, pad
from xlt.bench.shapes import CONFIGS, Size, fitting_lengths
from xlt.bench.workload import (
    NEEDS_GPU,
    NOT_COMPILED,
    Bench,
    Candidate,
    Deferred,
    NotRun,
    Workload,
    bench,
    check_output,
    compare,
    our_name,
)

TOKENS: dict[Size, int] = {"large": 16_384, "small": 2048}
# Of embeddings a row is timed at the tokens of one step: torch adds up more of them than 3,072 in another way.
STEP_TOKENS: dict[Size, int] = {"large": 1490, "small": 726}
READ_ROWS = 11_242  # of a vocabulary, by a training on real text, as in the optimiser's benchmark
DROPOUT = 0.1
# Calls of a round. On a GPU they are one CUDA graph, since a call from Python takes longer than the kernels it starts.
REPEATS = {"cuda": 10, "cpu": 1}
# Baselines may be off by as many times the tolerance of ours: what they hand from one kernel to the next is rounded.
ROUNDINGS = 4


@dataclass(frozen=True, slots=True)
class Form:
    """One way to compute an op: ``op(dropout_p, *inputs)``."""

    name: str
    op: Callable[..., Tensor]
    pad: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """Gives packed inputs and gradients the layout that ``op`` takes."""
    unpad: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """Takes results back to the packed layout."""
    graph: bool = True
    """Whether a CUDA graph can hold it."""
    late: bool = False
    """Whether it is compiled, and waits until the others are timed."""


@dataclass(frozen=True, slots=True)
class _Setup:
    """Where and at which size the rows are timed."""

    size: Size
    rounds: int
    device: str
    dtype: torch.dtype

    def compiled(self, form: Form) -> Form | NotRun:
        name = f"torch.compile of {form.name}"
        if self.device == "cpu":
            return NotRun(name, NOT_COMPILED)
        return Form(name, torch.compile(form.op, dynamic=False), form.pad, form.unpad, late=True)


def bench_kernels(size: Size, rounds: int) -> Bench:
    """Time attention, LayerNorm, GELU and embeddings, each checked first against its reference in double precision."""
    gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    setup = _Setup(size, rounds, device, dtype)
    attention = [_attention(setup, task) for task in ("mnli", "squad")]
    rows = [*attention, _layer_norm(setup), _gelu(setup), _embedding(setup)]
    settings = {"size": size, "tokens": TOKENS[size], "dropout": DROPOUT, "repeats": REPEATS[device]}
    return bench("kernels", {**settings, "dtype": str(dtype).removeprefix("torch.")}, rows)


def _attention(setup: _Setup, task: str) -> Workload:
    heads = CONFIGS[setup.size]["num_attention_heads"]
    dim = CONFIGS[setup.size]["hidden_size"] // heads
    lengths = fitting_lengths(task, TOKENS[setup.size])
    case = varlen_attention.case(lengths, heads, dim, dtype=setup.dtype, device=setup.device)
    bounds, scale = torch.tensor([0, *lengths], device=setup.device).cumsum(0).int(), dim**-0.5
    packed: dict[str, Any] = {"cu_seqlens": bounds, "max_seqlen": max(lengths), "scale": scale}
    ragged = ragged_attention(case.inputs[0])
    plan = None if ragged else plan_attention(bounds)
    forms = [
        Form(
            f"ours ({ragged.__name__})" if ragged else our_name("varlen_attention", setup.device),
            lambda p, *qkv: packed_attention(*qkv, **packed, dropout_p=p, plan=plan),
        ),
        Form("aten flash varlen", lambda p, *qkv: flash_attention(*qkv, **packed, dropout_p=p))
        if flash_serves(case.inputs[0])
        else NotRun("aten flash varlen", NEEDS_GPU),
        *_padded_attention(setup, lengths, scale),
        Form("nested-jagged SDPA, without a CUDA graph", partial(_nested, lengths, bounds, scale), graph=False),
        _flex(setup, lengths, scale),
    ]
    about = f"forward and backward, lengths of {task}: {len(lengths)} sequences, {heads} heads of {dim}"
    # Two products of 2 each forward, and twice that backward; what a backward pass computes again is not counted.
    flop = 12.0 * heads * dim * sum(length**2 for length in lengths)
    count = {"flop": flop, "bytes": 12.0 * case.inputs[0].nbytes, "tokens": float(sum(lengths))}
    return _row(setup, f"attention, {task}", about, case, forms, count)


def _padded_attention(setup: _Setup, lengths: Sequence[int], scale: float) -> list[Form | NotRun]:
    real = is_token(lengths, setup.device)
    mask = real[:, None, None, :]

    def lay_out(tensor: Tensor) -> Tensor:
        return pad(tensor, lengths).transpose(1, 2).contiguous()

    def unpad(tensor: Tensor) -> Tensor:
        return tensor.transpose(1, 2)[real]

    def sdpa(p: float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, scale=scale)

    def plain(p: float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(2, 3) * scale).masked_fill(~mask, -torch.inf)
        return F.dropout(scores.softmax(3), p) @ v

    eager = Form("eager torch, padded", plain, lay_out, unpad)
    return [Form("SDPA, padded, with mask", sdpa, lay_out, unpad), eager, setup.compiled(eager)]


def _nested(lengths: Sequence[int], bounds: Tensor, scale: float, p: float, *qkv: Tensor) -> Tensor:
    ends: dict[str, Any] = {"min_seqlen": min(lengths), "max_seqlen": max(lengths)}
    q, k, v = (torch.nested.nested_tensor_from_jagged(each, bounds.long(), **ends).transpose(1, 2) for each in qkv)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p, scale=scale).transpose(1, 2).values()


def _flex(setup: _Setup, lengths: Sequence[int], scale: float) -> Form | NotRun:
    name = "FlexAttention, no dropout (it has none), document mask made before"
    if setup.device == "cpu":
        return NotRun(name, NEEDS_GPU)
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    each = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(setup.device)
    tokens = sum(lengths)
    mask = create_block_mask(lambda _, __, q, k: each[q] == each[k], None, None, tokens, tokens, device=setup.device)
    attend: Any = torch.compile(flex_attention, dynamic=False)
    return Form(
        name,
        lambda _, *qkv: attend(*qkv, block_mask=mask, scale=scale),
        lambda tensor: tensor.transpose(0, 1).unsqueeze(0).contiguous(),
        lambda tensor: tensor[0].transpose(0, 1),
        late=True,
    )


def _layer_norm(setup: _Setup) -> Workload:
    rows, hidden = TOKENS[setup.size], CONFIGS[setup.size]["hidden_size"]
    case = layer_norm.case(rows, hidden, dtype=setup.dtype, device=setup.device)
    eps = layer_norm.EPS

    def eager(p: float, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(F.dropout(x, p) + residual, (hidden,), weight, bias, eps)

    def liger(p: float, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from liger_kernel.transformers.functional import liger_layer_norm  # type: ignore[import-not-found]

        return liger_layer_norm(F.dropout(x, p) + residual, weight, bias, eps)  # type: ignore[no-any-return]

    forms = [
        Form(our_name("layer_norm", setup.device), lambda p, *each: layer_norm.layer_norm(*each, eps=eps, dropout_p=p)),
        Form("eager torch", eager),
        setup.compiled(Form("eager torch", eager)),
        Form("Liger LayerNorm, eager dropout and residual", liger),
    ]
    about = f"dropout + residual + LayerNorm, forward and backward, {rows} x {hidden}"
    return _row(setup, "LayerNorm", about, case, forms, {"bytes": 8.0 * case.inputs[0].nbytes})


def _gelu(setup: _Setup) -> Workload:
    """The row that decides whether our kernel stays: torch.compile makes one kernel of two lines as well."""
    rows, width = TOKENS[setup.size], CONFIGS[setup.size]["intermediate_size"]
    case = gelu.case(rows, width, dtype=setup.dtype, device=setup.device)
    ours = Form(our_name("gelu", setup.device), lambda _, *each: gelu.bias_gelu(*each))
    eager = Form("eager torch", lambda _, x, bias: F.gelu(x + bias))
    about = f"bias + exact GELU, forward and backward, {rows} x {width}"
    forms = [ours, eager, setup.compiled(eager)]
    return _row(setup, "GELU", about, case, forms, {"bytes": 5.0 * case.inputs[0].nbytes})


def _embedding(setup: _Setup) -> Workload:
    tokens, width = STEP_TOKENS[setup.size], CONFIGS[setup.size]["hidden_size"]
    case = embedding.case(READ_ROWS, tokens, width, dtype=setup.dtype, device=setup.device)
    eager = Form("eager torch", lambda _, weight: case.reference(weight))
    forms = [
        Form(our_name("embedding", setup.device), lambda _, weight: case.op(weight)),
        eager,
        setup.compiled(eager),
    ]
    about = f"forward and backward, {tokens} tokens of {READ_ROWS} rows of {width}"
    # The gradient is as large as all rows; of the rest only what is read and written of it.
    size = case.inputs[0].nbytes + 4.0 * tokens * width * case.inputs[0].element_size()
    return _row(setup, "embeddings", about, case, forms, {"bytes": size})


def _row(
    setup: _Setup, name: str, about: str, case: Case, forms: Sequence[Form | NotRun], count: dict[str, float]
) -> Workload:
    """The forms in turn; ``count`` is of one call, its bytes the fewest that the op and its backward pass can move."""
    times, gpu = REPEATS[setup.device], setup.device == "cuda"
    gradient = normal(*case.reference(*case.inputs).shape, seed=9, device=setup.device).to(setup.dtype)
    reference = Form("", lambda _, *each: case.reference(*each))
    wanted = _call(reference, [each.double() for each in case.inputs], gradient.double())(0.0)

    def make(form: Form) -> Candidate | NotRun:
        call = _call(form, case.inputs, gradient)
        run = _repeated(partial(call, DROPOUT), times, gpu and form.graph)
        tolerance = case.tolerance * (1 if form is forms[0] else ROUNDINGS)
        return check_output(form.name, run, partial(call, 0.0, form.unpad), wanted, tolerance)

    candidates = [
        form if isinstance(form, NotRun) else Deferred(form.name, partial(make, form)) if form.late else make(form)
        for form in forms
    ]
    how = about + gpu * f"; {times} times a round as one CUDA graph, whose memory is not in the peaks"
    quantity = {unit: times * amount for unit, amount in count.items()}
    return compare(name, how, candidates, rounds=setup.rounds, quantity=quantity, ceiling="copy")


def _call(form: Form, inputs: Sequence[Tensor], gradient: Tensor) -> Callable[..., list[Tensor]]:
    """The result at a rate of dropout, and with ``gradient`` of it those of all inputs."""
    leaves = [form.pad(tensor).detach().requires_grad_() for tensor in inputs]
    padded_gradient = form.pad(gradient)

    def call(dropout_p: float, unpad: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> list[Tensor]:
        out = form.op(dropout_p, *leaves)
        return [unpad(each) for each in (out.detach(), *torch.autograd.grad(out, leaves, padded_gradient))]

    return call


def _repeated(run: Callable[[], object], times: int, graph: bool) -> Callable[[], None]:
    """``run``, so many times; as a CUDA graph it is captured at the first call."""
    held: list[Any] = []

    def loop() -> None:
        for _ in range(times):
            run()

    def replay() -> None:
        if not held:
            loop()  # what a first call sets up cannot be captured
            torch.cuda.synchronize()
            held.append(torch.cuda.CUDAGraph())
            with torch.cuda.graph(held[0]):
                loop()
        held[0].replay()

    return replay if graph else loop
