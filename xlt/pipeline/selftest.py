"""What this machine computes against a reference: FAISS, every kernel, and a few steps of training.

``python -m xlt.pipeline.selftest NAME...`` makes the named checks and ends at the first that fails: an error on a GPU
may leave its process unable to compute. ``xlt.pipeline.doctor`` starts it, and again for the others; before, with
``--compile``, to have the kernels compiled that the checks use (of all checks where none is named).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils import deterministic as torch_deterministic
from xlt_kernels.adamw import AdamW
from xlt_kernels.gelu import bias_gelu, bias_gelu_reference
from xlt_kernels.layer_norm import layer_norm, layer_norm_reference
from xlt_kernels.mlm_loss import mlm_loss, mlm_loss_reference
from xlt_kernels.mutual_top_k import mutual_top_k, mutual_top_k_reference
from xlt_kernels.pooling import unit_means, unit_means_reference
from xlt_kernels.switch import serves
from xlt_kernels.varlen_attention import varlen_attention

from xlt.data.packing import PackedBatch
from xlt.model.encoder import PackedModel
from xlt.retrieval.search import nearest, search_report
from xlt.runtime import device, start_process_group
from xlt.tasks.record import Recipe
from xlt.train.engine import EngineSettings, Precision, build_engine
from xlt.train.graph import GraphEngine
from xlt.train.seeding import deterministic

Op = Callable[..., Tensor]

FOUND = "xlt-found "  # before what a check found, in the output that libraries write to as well

# The largest deviation over the largest value, of results and of every gradient. One rounding to 8 bits (bf16) is
# 2**-9 of a value, to 11 bits (fp16) 2**-12; inputs, factors and results are rounded in turn, sums are fp32. Sixteen
# roundings are far more than a sound kernel needs, and far less than a wrong one shows.
TOLERANCE = {torch.bfloat16: 2**-5, torch.float16: 2**-8}
# fp32 throughout; sixteen times the 4e-6 that four steps of AdamW may add up to.
ADAMW_TOLERANCE = 2**-14
_DROPOUT = 0.1


class Deviation(Exception):
    """A result is not that of the reference."""


def _kind(where: str) -> torch.dtype:
    # What runs on a GPU use; on a CPU, where only tests come, Triton's interpreter gets bf16 wrong.
    return torch.bfloat16 if where == "cuda" else torch.float16


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@contextmanager
def _poisoned() -> Iterator[None]:
    """New tensors are full of NaN: what a kernel does not write shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch_deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch_deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=torch.cuda.is_available())
        torch_deterministic.fill_uninitialized_memory = before[1]  # type: ignore[attr-defined]


def _with_gradients(op: Op, inputs: Sequence[Tensor]) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    with _poisoned():
        out = op(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, _random(*out.shape, seed=9).bfloat16().to(out))]


def _values(op: Op, inputs: Sequence[Tensor]) -> list[Tensor]:
    with torch.inference_mode(), _poisoned():
        return [op(*inputs)]


def _off_by(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """NaN where there is one."""
    pairs = zip(got, wanted, strict=True)
    return float(torch.stack([(mine.double() - want).abs().max() / want.abs().max() for mine, want in pairs]).max())


def _within(name: str, error: float, tolerance: float) -> str:
    text = f"{name} off by {error:.1e} of at most {tolerance:.1e}"
    if not error <= tolerance:
        raise Deviation(text)
    return text


def _compare(
    op: Op, oracle: Op, inputs: Sequence[Tensor], where: str, run: Callable[..., list[Tensor]] = _with_gradients
) -> str:
    """``op`` in 16 bits against ``oracle`` in double precision, on the same rounded ``inputs``."""
    dtype = _kind(where)
    rounded = [tensor.to(where, dtype) for tensor in inputs]
    error = _off_by(run(op, rounded), run(oracle, [tensor.double() for tensor in rounded]))
    return _within(str(dtype).removeprefix("torch."), error, TOLERANCE[dtype])


def _lengths(where: str) -> list[int]:
    return [1, 37, 64, 0, 50, 128, 300] if where == "cuda" else [1, 5, 0, 16]


def _check_attention(where: str) -> str:
    heads, dim = (8, 64) if where == "cuda" else (1, 16)
    found = []
    # Dropout where one head is as wide as the longest sequence: see _attention_mask.
    for dropout_p, longest in ((0.0, max(_lengths(where))), (_DROPOUT, dim)):
        lengths = [length for length in _lengths(where) if length <= longest]
        bounds = torch.tensor([0, *lengths]).cumsum(0).int().to(where)
        seed = torch.tensor([11], device=where)
        op = partial(
            varlen_attention, cu_seqlens=bounds, max_seqlen=longest, scale=dim**-0.5, dropout_p=dropout_p, seed=seed
        )
        kept = _attention_mask(op, lengths, heads, dim, where) if dropout_p else None
        oracle = partial(_attention, bounds=bounds.tolist(), scale=dim**-0.5, kept=kept)
        inputs = [_random(sum(lengths), heads, dim, seed=part) for part in range(3)]
        found.append(f"dropout {dropout_p}: {_compare(op, oracle, inputs, where)}")
    return "; ".join(found)


def _attention_mask(op: Op, lengths: Sequence[int], heads: int, dim: int, where: str) -> Tensor:
    """The kernel's own factors ``[T, heads, dim]``: equal weights (of zeros) times values that show their place."""
    place = torch.cat([torch.arange(length) for length in lengths])
    value = one_hot(place, dim).to(where, torch.float16)[:, None].expand(-1, heads, -1).contiguous()
    blank = torch.zeros_like(value)
    return (op(blank, blank, value) > 0).double() / (1 - _DROPOUT)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, *, bounds: Sequence[int], scale: float, kept: Tensor | None
) -> Tensor:
    parts = []
    for start, end in pairwise(bounds):
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        weights = (q @ k.transpose(1, 2) * scale).softmax(-1)
        if kept is not None:
            weights = weights * kept[start:end, :, : end - start].transpose(0, 1)
        parts.append((weights @ v).transpose(0, 1))
    return torch.cat(parts)


def _check_layer_norm(where: str) -> str:
    from xlt_kernels.layer_norm_triton import layer_norm_mask

    rows, hidden = (517, 1024) if where == "cuda" else (5, 40)
    seed = torch.tensor([11], device=where)
    kept = layer_norm_mask(rows, hidden, _DROPOUT, seed) / (1 - _DROPOUT)

    def oracle(x: Tensor, *rest: Tensor) -> Tensor:
        return layer_norm_reference(x * kept, *rest, eps=1e-5)

    inputs = [
        _random(rows, hidden),
        3 * _random(rows, hidden, seed=1) + 1,
        1 + _random(hidden) / 4,
        _random(hidden, seed=2),
    ]
    return _compare(partial(layer_norm, eps=1e-5, dropout_p=_DROPOUT, seed=seed), oracle, inputs, where)


def _check_gelu(where: str) -> str:
    rows, width = (517, 4096) if where == "cuda" else (5, 40)
    return _compare(bias_gelu, bias_gelu_reference, [3 * _random(rows, width), _random(width, seed=1)], where)


def _check_mlm_loss(where: str) -> str:
    rows, hidden, words = (300, 512, 20_003) if where == "cuda" else (5, 16, 101)
    labels = (torch.arange(rows) * 67 % words).to(where)
    op = partial(mlm_loss, labels=labels, chunk=rows // 2)
    inputs = [_random(rows, hidden), _random(words, hidden, seed=1) / hidden**0.5, _random(words)]
    return _compare(op, partial(mlm_loss_reference, labels=labels), inputs, where)


def _check_pooling(where: str) -> str:
    bounds = torch.tensor([0, *_lengths(where)]).cumsum(0).int().to(where)
    width = 1024 if where == "cuda" else 40
    op, oracle = (partial(form, cu_seqlens=bounds) for form in (unit_means, unit_means_reference))
    return _compare(op, oracle, [_random(int(bounds[-1]), width)], where, _values)


def _check_mutual_top_k(where: str) -> str:
    rows, columns, width = (3000, 2501, 1024) if where == "cuda" else (70, 65, 24)
    x, y = (torch.nn.functional.normalize(_random(n, width, seed=n)).float().to(where) for n in (rows, columns))
    scores = x.double() @ y.double().T
    errors: list[Tensor] = []
    found, wanted = mutual_top_k(x, y, 4, chunk=1024), mutual_top_k_reference(x, y, 4)
    for mine, want, matrix in zip(found, wanted, (scores, scores.T), strict=True):
        # Ids by what they score: two that differ in the last bit may stand in either order.
        given = torch.stack([mine.scores.double(), matrix.gather(1, mine.ids)])
        errors.append((given - want.scores.double()).abs().max())
    return _within("scores", float(torch.stack(errors).max()), 2**-22)


def _check_adamw(where: str) -> str:
    """Four steps with clipping and an embedding of which few rows are used, against torch's AdamW in fp32."""
    words, width = (500, 256) if where == "cuda" else (12, 16)
    shapes = [(words, width), (3, 701), (width,)]
    ours = [_random(*shape).to(where, _kind(where)).requires_grad_() for shape in shapes]
    theirs = [weight.detach().float().requires_grad_() for weight in ours]
    mine = AdamW(ours, lr=1e-2, weight_decay=0.1, max_norm=1.0, lazy=ours[0], steps=4)
    peer = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1)
    for step in range(4):
        used = torch.arange(step, words // 2, 3, device=where)
        mine.touch(used)
        for weight, other in zip(ours, theirs, strict=True):
            weight.grad = _random(*weight.shape, seed=step).to(weight)
            if weight is ours[0]:
                weight.grad *= torch.zeros_like(weight[:, :1]).index_fill_(0, used, 1.0)
            other.grad = weight.grad.float()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        mine.step()
        peer.step()
    masters = [mine.full_precision(weight) for weight in ours]
    if not all(torch.equal(weight, master.to(weight.dtype)) for weight, master in zip(ours, masters, strict=True)):
        raise Deviation("The rounded weights are not those of the masters.")
    return _within("masters", _off_by(masters, [other.detach().double() for other in theirs]), ADAMW_TOLERANCE)


def _check_faiss(where: str) -> str:
    queries, keys = (_random(n, 64, seed=n).float().numpy() for n in (500, 700))
    (scores, ids), (wanted, places) = (nearest(queries, keys, 4, engine=engine) for engine in ("faiss", "torch"))
    if not np.array_equal(ids, places) or not np.array_equal(scores, wanted):
        raise Deviation("FAISS finds other neighbours than torch.")
    report = search_report()
    return f"{report['index']} on {report['device']} finds the neighbours that torch finds"


def _tiny_model(dropout: float) -> PackedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = PackedModel.fresh({"vocab_size": 101, "max_position_embeddings": 40, **sizes, **rates})
    model.drop_masked_lm_head()
    model.add_head("pairs", "pair_classification", 3)
    return model.to(device())


def _pairs(count: int, seed: int = 0) -> PackedBatch:
    return PackedBatch(
        task="pairs",
        kind="pair_classification",
        example_ids=tuple(map(str, range(count))),
        input_ids=torch.randint(5, 101, (20 * count,), generator=torch.Generator().manual_seed(seed)),
        position_ids=torch.arange(20 * count) % 20 + 2,
        cu_seqlens=torch.arange(0, 20 * count + 1, 20, dtype=torch.int32),
        max_seqlen=20,
        labels=torch.arange(count) % 3,
        scored_positions=None,
        denominator=float(count),
    )


def _precision(where: str) -> Precision:
    return "bf16" if where == "cuda" else "fp32"


def _check_graph_engine(where: str) -> str:
    """Batches of two shapes, run, captured and replayed, against steps of which none shares anything with another."""
    settings = EngineSettings(engine="graph", precision=_precision(where))
    ended, graphs = [], []
    for apart in (False, True):
        # Without dropout: what a replay draws is its own.
        engine = GraphEngine(_tiny_model(0.0), Recipe(learning_rate=3e-3), 8, settings)
        losses = []
        for step in range(8):
            if apart:
                engine.close()
            losses.append(engine.step([_pairs(4 + 8 * (step % 2), step)])[0])
        ended.append([torch.stack(losses).cpu(), *engine.weights().values()])
        graphs.append(engine.graphs)
        engine.close()
    if not all(torch.equal(mine, other) for mine, other in zip(*ended, strict=True)):
        raise Deviation("Steps that share their inputs and graphs give other losses or weights than steps alone.")
    if graphs != [2 if where == "cuda" else 0, 0]:
        raise Deviation(f"Of two shapes {graphs[0]} were captured.")
    return f"{settings.precision}, 8 steps in two shapes and {graphs[0]} graphs have the bits of 8 steps alone"


def _check_deepspeed(where: str) -> str:
    """A tiny model learns one batch by heart."""
    start_process_group()
    settings = EngineSettings(precision=_precision(where))
    engine = build_engine(_tiny_model(0.1), Recipe(learning_rate=1e-2, warmup=0.0), 20, settings)
    batch = _pairs(6).to(engine.device)
    engine.train()
    losses = []
    for _ in range(8):
        loss, _ = engine(batch)
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    engine.destroy()
    text = f"{settings.precision}, the loss falls from {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps"
    if not losses[-1] < losses[0] - 0.5:
        raise Deviation(f"The loss does not fall: {losses}")
    return text


KERNELS: dict[str, Callable[[str], str]] = {
    "varlen_attention": _check_attention,
    "layer_norm": _check_layer_norm,
    "gelu": _check_gelu,
    "mlm_loss": _check_mlm_loss,
    "pooling": _check_pooling,
    "mutual_top_k": _check_mutual_top_k,
    "adamw": _check_adamw,
}
ENGINES = {"graph": "graph engine", "deepspeed": "DeepSpeed"}
# The engines last: without the kernels that have failed.
CHECKS: dict[str, Callable[[str], str]] = {
    "FAISS": _check_faiss,
    **KERNELS,
    "graph engine": _check_graph_engine,
    "DeepSpeed": _check_deepspeed,
}


def check(name: str, where: str) -> str:
    """Make one check on the device ``where`` (cuda or cpu); what was found.

    Raises:
        Deviation: a result is wrong. Any other error is that of what was checked.
    """
    if name in KERNELS and not serves(name, torch.empty(0, device=where)):
        return "not in use: left out by XLT_KERNELS, or this GPU or Triton cannot run it"
    return CHECKS[name](where)


def _compile(names: Sequence[str]) -> None:
    for name in [*KERNELS, "graph engine"]:
        if name in (names or CHECKS):
            # What is wrong with it the check will say.
            with suppress(Exception):
                check(name, "cuda")


def main(names: Sequence[str]) -> int:
    """Make the named checks on the GPU, one line of JSON each."""
    deterministic(True)
    if names[:1] == ["--compile"]:
        _compile(names[1:])
        return 0
    for name in names:
        try:
            event = {"found": check(name, "cuda"), "good": True}
        except Exception as error:
            event = {"found": f"{type(error).__name__}: {error}".split("\n")[0], "good": False}
        print(FOUND + json.dumps(event), flush=True)
        if not event["good"]:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
