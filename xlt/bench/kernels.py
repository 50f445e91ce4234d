"""Each kernel alone beside its baselines, at the shapes of training; mutual top-k is in the benchmark of retrieval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from xlt_kernels.attention import packed_attention, packed_attention_reference, ragged_attention
from xlt_kernels.flash import flash_attention, flash_serves
from xlt_kernels.gelu import bias_gelu, bias_gelu_reference
from xlt_kernels.layer_norm import layer_norm, layer_norm_reference
from xlt_kernels.plan import plan_attention
from xlt_kernels.pooling import unit_means, unit_means_reference

from xlt.bench import trainers
from xlt.bench.batches import is_token, pad
from xlt.bench.shapes import CONFIGS, Size, fitting_lengths
from xlt.bench.workload import (
    NEEDS_GPU,
    NOT_ASKED,
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
from xlt.pipeline import selftest

TOKENS: dict[Size, int] = {"large": 16_384, "small": 2048}
DROPOUT = 0.1
EPS = 1e-5
# As often in a round: on a GPU as one CUDA graph, since one call from Python takes longer than what it starts.
REPEATS = {"cuda": 10, "cpu": 1}
TOLERANCE = {"cuda": selftest.TOLERANCE[torch.bfloat16], "cpu": trainers.TOLERANCE["cpu"]}


@dataclass(frozen=True, slots=True)
class Form:
    """One way to compute an op: ``op(dropout_p, *inputs)``.

    ``lay`` gives packed inputs and gradients the layout that it takes, ``pick`` takes results back. ``graph`` says
    whether a CUDA graph can hold it, ``late`` whether it is compiled, and waits for the others.
    """

    name: str
    op: Callable[..., Tensor]
    lay: Callable[[Tensor], Tensor] = lambda tensor: tensor
    pick: Callable[[Tensor], Tensor] = lambda tensor: tensor
    graph: bool = True
    late: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where and at which size the rows are timed."""

    size: Size
    rounds: int
    compile: bool
    device: str
    dtype: torch.dtype

    def random(self, *shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(shape, generator=generator, device=self.device).to(self.dtype)

    def bounds(self, lengths: Sequence[int]) -> Tensor:
        return torch.tensor([0, *lengths], device=self.device).cumsum(0).int()

    def ours(self, kernel: str, op: Callable[..., Tensor]) -> Form:
        return Form(our_name(kernel, self.device), op)

    def compiled(self, form: Form) -> Form | NotRun:
        name = f"torch.compile of {form.name}"
        if not self.compile:
            return NotRun(name, NOT_ASKED)
        return Form(name, torch.compile(form.op, dynamic=False), form.lay, form.pick, late=True)


def bench_kernels(size: Size, rounds: int, *, compile: bool | None = None) -> Bench:  # noqa: A002
    """Time attention, LayerNorm, GELU and pooling, each checked first against its oracle in double precision.

    ``compile`` asks for the baselines that torch compiles; by default they run where there is a GPU.
    """
    gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    place = _Place(size, rounds, gpu if compile is None else compile, device, dtype)
    rows = [_attention(place, "mnli"), _attention(place, "squad"), _layer_norm(place), _gelu(place), _pooling(place)]
    settings = {"size": size, "tokens": TOKENS[size], "dropout": DROPOUT, "repeats": REPEATS[device]}
    return bench("kernels", {**settings, "dtype": str(dtype).removeprefix("torch.")}, rows)


def _attention(place: _Place, task: str) -> Workload:
    heads = CONFIGS[place.size]["num_attention_heads"]
    dim = CONFIGS[place.size]["hidden_size"] // heads
    lengths = fitting_lengths(task, TOKENS[place.size])
    inputs = [place.random(sum(lengths), heads, dim, seed=part) for part in range(3)]
    bounds, scale = place.bounds(lengths), dim**-0.5
    packed: dict[str, Any] = {"cu_seqlens": bounds, "max_seqlen": max(lengths), "scale": scale}
    ragged = ragged_attention(inputs[0])
    plan = None if ragged else plan_attention(bounds)
    forms = [
        Form(
            f"ours ({ragged.__name__})" if ragged else our_name("varlen_attention", place.device),
            lambda p, *qkv: packed_attention(*qkv, **packed, dropout_p=p, plan=plan),
        ),
        Form("aten flash varlen", lambda p, *qkv: flash_attention(*qkv, **packed, dropout_p=p))
        if flash_serves(inputs[0])
        else NotRun("aten flash varlen", NEEDS_GPU),
        *_padded_attention(place, lengths, scale),
        Form("nested-jagged SDPA, without a CUDA graph", partial(_nested, lengths, bounds, scale), graph=False),
        _flex(place, lengths, scale),
    ]
    about = f"forward and backward, lengths of {task}: {len(lengths)} sequences, {heads} heads of {dim}"
    # Two products of 2 each forward, and twice that backward; what a backward pass computes again is not counted.
    flop = 12.0 * heads * dim * sum(length**2 for length in lengths)
    count = {"flop": flop, "bytes": 12.0 * inputs[0].nbytes, "tokens": float(sum(lengths))}
    oracle = Form("", lambda _, q, k, v: packed_attention_reference(q, k, v, bounds, scale))
    return _row(place, f"attention, {task}", about, inputs, forms, oracle, count)


def _padded_attention(place: _Place, lengths: Sequence[int], scale: float) -> list[Form | NotRun]:
    real = is_token(lengths, place.device)
    mask = real[:, None, None, :]

    def lay(tensor: Tensor) -> Tensor:
        return pad(tensor, lengths).transpose(1, 2).contiguous()

    def pick(tensor: Tensor) -> Tensor:
        return tensor.transpose(1, 2)[real]

    def sdpa(p: float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, scale=scale)

    def plain(p: float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(2, 3) * scale).masked_fill(~mask, -torch.inf)
        return F.dropout(scores.softmax(3), p) @ v

    eager = Form("eager torch, padded", plain, lay, pick)
    return [Form("SDPA, padded, with mask", sdpa, lay, pick), eager, place.compiled(eager)]


def _nested(lengths: Sequence[int], bounds: Tensor, scale: float, p: float, *qkv: Tensor) -> Tensor:
    ends: dict[str, Any] = {"min_seqlen": min(lengths), "max_seqlen": max(lengths)}
    q, k, v = (torch.nested.nested_tensor_from_jagged(each, bounds.long(), **ends).transpose(1, 2) for each in qkv)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p, scale=scale).transpose(1, 2).values()


def _flex(place: _Place, lengths: Sequence[int], scale: float) -> Form | NotRun:
    name = "FlexAttention, no dropout (it has none), document mask made before"
    if place.device == "cpu" or not place.compile:
        return NotRun(name, NOT_ASKED if place.device == "cuda" else NEEDS_GPU)
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    each = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(place.device)
    tokens = sum(lengths)
    mask = create_block_mask(lambda _, __, q, k: each[q] == each[k], None, None, tokens, tokens, device=place.device)
    attend: Any = torch.compile(flex_attention, dynamic=False)
    return Form(
        name,
        lambda _, *qkv: attend(*qkv, block_mask=mask, scale=scale),
        lambda tensor: tensor.transpose(0, 1).unsqueeze(0).contiguous(),
        lambda tensor: tensor[0].transpose(0, 1),
        late=True,
    )


def _layer_norm(place: _Place) -> Workload:
    rows, hidden = TOKENS[place.size], CONFIGS[place.size]["hidden_size"]
    inputs = [place.random(*shape, seed=part) for part, shape in enumerate([(rows, hidden)] * 2 + [(hidden,)] * 2)]

    def eager(p: float, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(F.dropout(x, p) + residual, (hidden,), weight, bias, EPS)

    def liger(p: float, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from liger_kernel.transformers.functional import liger_layer_norm  # type: ignore[import-not-found]

        return liger_layer_norm(F.dropout(x, p) + residual, weight, bias, EPS)  # type: ignore[no-any-return]

    forms = [
        place.ours("layer_norm", lambda p, *each: layer_norm(*each, eps=EPS, dropout_p=p)),
        Form("eager torch", eager),
        place.compiled(Form("eager torch", eager)),
        Form("Liger LayerNorm, eager dropout and residual", liger),
    ]
    about = f"dropout + residual + LayerNorm, forward and backward, {rows} x {hidden}"
    oracle = Form("", lambda _, *each: layer_norm_reference(*each, eps=EPS))
    return _row(place, "LayerNorm", about, inputs, forms, oracle, {"bytes": 8.0 * inputs[0].nbytes})


def _gelu(place: _Place) -> Workload:
    rows, width = TOKENS[place.size], CONFIGS[place.size]["intermediate_size"]
    inputs = [place.random(rows, width), place.random(width, seed=1)]
    eager = Form("eager torch", lambda _, x, bias: F.gelu(x + bias))
    forms = [place.ours("gelu", lambda _, *each: bias_gelu(*each)), eager, place.compiled(eager)]
    about = f"bias + exact GELU, forward and backward, {rows} x {width}"
    oracle = Form("", lambda _, *each: bias_gelu_reference(*each))
    return _row(place, "GELU", about, inputs, forms, oracle, {"bytes": 5.0 * inputs[0].nbytes})


def _pooling(place: _Place) -> Workload:
    hidden, lengths = CONFIGS[place.size]["hidden_size"], fitting_lengths("bucc2018", TOKENS[place.size])
    inputs, bounds = [place.random(sum(lengths), hidden)], place.bounds(lengths)
    real = is_token(lengths, place.device)

    def means(_: float, rows: Tensor) -> Tensor:
        total = (rows * real.unsqueeze(2)).sum(1, dtype=torch.float32)
        return F.normalize(total / real.sum(1, keepdim=True), dim=1)

    eager = Form("eager torch, padded", means, lambda tensor: pad(tensor, lengths))
    forms = [
        place.ours("pooling", lambda _, rows: unit_means(rows, bounds)),
        Form("eager torch, packed", lambda _, rows: unit_means_reference(rows, bounds)),
        eager,
        place.compiled(eager),
    ]
    about = f"mean + L2 norm of {len(lengths)} sentences, lengths of bucc2018, width {hidden}"
    count = {"bytes": 1.0 * inputs[0].nbytes + 4.0 * len(lengths) * hidden, "sentences": float(len(lengths))}
    oracle = Form("", lambda _, rows: unit_means_reference(rows, bounds, torch.float64))
    return _row(place, "pooling", about, inputs, forms, oracle, count, backward=False)


def _row(
    place: _Place,
    name: str,
    about: str,
    inputs: Sequence[Tensor],
    forms: Sequence[Form | NotRun],
    oracle: Form,
    count: dict[str, float],
    *,
    backward: bool = True,
) -> Workload:
    """The forms in turn; ``count`` is of one call, its bytes the fewest that the op and its backward pass can move."""
    times, gpu = REPEATS[place.device], place.device == "cuda"
    gradient = place.random(*inputs[0].shape, seed=9) if backward else None
    wanted = _call(oracle, [each.double() for each in inputs], gradient if gradient is None else gradient.double())(0.0)

    def make(form: Form) -> Candidate | NotRun:
        call = _call(form, inputs, gradient)
        run = _repeated(partial(call, DROPOUT), times, gpu and form.graph)
        return check_output(form.name, run, partial(call, 0.0, form.pick), wanted, TOLERANCE[place.device])

    candidates = [
        form if isinstance(form, NotRun) else Deferred(form.name, partial(make, form)) if form.late else make(form)
        for form in forms
    ]
    how = about + gpu * f"; {times} times a round as one CUDA graph, whose memory is not in the peaks"
    quantity = {unit: times * amount for unit, amount in count.items()}
    return compare(name, how, candidates, rounds=place.rounds, quantity=quantity, ceiling="copy")


def _call(form: Form, inputs: Sequence[Tensor], gradient: Tensor | None) -> Callable[..., list[Tensor]]:
    """The result at a rate of dropout, and with a ``gradient`` of it those of all inputs."""
    leaves = [form.lay(tensor).detach().requires_grad_(gradient is not None) for tensor in inputs]
    laid = None if gradient is None else form.lay(gradient)

    def call(dropout_p: float, pick: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> list[Tensor]:
        out = form.op(dropout_p, *leaves)
        gradients = () if laid is None else torch.autograd.grad(out, leaves, laid)
        return [pick(each) for each in (out.detach(), *gradients)]

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
