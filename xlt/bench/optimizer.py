"""``xlt bench optimizer``: one update of all parameters, with clipping, on gradients set before, beside baselines.

On a GPU every update is replayed from a CUDA graph, as in our training steps. On a CPU there is a row of the rows that
our runs train there: a matrix of their own beside the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from xlt_kernels.adamw import TOLERANCE, AdamW, set_gradients
from xlt_kernels.case import normal

from xlt.bench.shapes import CONFIGS, USED, Size
from xlt.bench.workload import (
    NEEDS_GPU,
    Bench,
    Candidate,
    NotRun,
    Workload,
    bench,
    check_output,
    compare,
    our_name,
)
from xlt.model.backbone import new_backbone
from xlt.train.used_rows import RowsEmbedding

# fp32: weight, two moments and gradient are read, the first three written; and the gradient is read for its norm.
BYTES = 4 * (4 + 3 + 1)
MAX_NORM = 1.0
# multilingual-e5-small's word embeddings; the pieces in 4,000 rows of MNLI and the tokens of 16 of them, counted with
# its tokenizer.
VOCABULARY, READ, STEP_TOKENS = (250_037, 384), 11_242, 726
# An update, and what the first one gives: weights and first moments.
_Pair = tuple[Callable[[], object], Callable[[], list[Tensor]]]
SETTINGS: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}  # large, so that an update shows beside the weights


def bench_optimizer(size: Size, rounds: int) -> Bench:
    """Time an update of the fp32 weights of XLM-R: ours of the word embeddings that are used, and of all of them."""
    with torch.device("meta"):
        encoder = new_backbone(CONFIGS[size]).encoder
    embedding = encoder.get_input_embeddings().weight
    shapes = [embedding.shape, *(each.shape for each in encoder.parameters() if each is not embedding)]
    used = round(USED * len(embedding))
    rows = [_row("used word embeddings", shapes, used, rounds), _row("all word embeddings", shapes, 0, rounds)]
    if not torch.cuda.is_available():
        rows.append(_used_rows(rounds))
    return bench("optimizer", {"size": size, "used": used, "max_norm": MAX_NORM, **SETTINGS}, rows)


def _row(name: str, shapes: Sequence[torch.Size], used: int, rounds: int) -> Workload:
    """With ``used`` our optimizer has that many rows of the first weight, and the others all, most without gradient."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    words, width = shapes[0]
    some = torch.randperm(words, generator=torch.Generator().manual_seed(0))[: used or words].to(device)

    def ours(weights: list[nn.Parameter]) -> AdamW:
        gradient = weights[0].grad
        assert gradient is not None
        weights[0] = nn.Parameter(weights[0].detach()[some])
        weights[0].grad = gradient[some]
        return AdamW(weights, **SETTINGS, max_norm=MAX_NORM)

    def pair(make: Callable[..., Any], prepare: Callable[..., Any] = _clip, *, graph: bool = True) -> _Pair:
        """An update of new weights, the same at every call, with the same gradients; and what the first one gives."""
        weights = [nn.Parameter(normal(*shape, seed=i, device=device).float()) for i, shape in enumerate(shapes)]
        set_gradients(weights, seed=0)
        weights[0].grad *= torch.zeros_like(weights[0][:, :1]).index_fill_(0, some, 1.0)  # type: ignore[operator]
        run, results = _pair(weights, make, prepare)

        def of_those_used() -> list[Tensor]:
            found = results()
            if make is not ours:
                for place in (0, len(weights)):
                    found[place] = found[place][some]
            return found

        return (captured(run) if graph else run), of_those_used

    options = {**SETTINGS, "capturable": device == "cuda"}
    # torch's own fused form is what all others are compared with.
    run_torch, results = pair(lambda each: torch.optim.AdamW(each, fused=True, **options))
    wanted = results()
    foreach = pair(lambda each: torch.optim.AdamW(each, foreach=True, **options))
    candidates: list[Candidate | NotRun] = [
        check_output(our_name("adamw", device), *pair(ours, lambda *_: None), wanted, TOLERANCE),
        Candidate("torch fused AdamW", run_torch),
        check_output("torch foreach AdamW", *foreach, wanted, TOLERANCE),
        # It counts steps on the host: a graph would repeat one of them.
        NotRun("DeepSpeed FusedAdam, without a CUDA graph", NEEDS_GPU)
        if device == "cpu"
        else check_output(
            "DeepSpeed FusedAdam, without a CUDA graph", *pair(_deepspeed, graph=False), wanted, TOLERANCE
        ),
    ]
    parameters = sum(shape.numel() for shape in shapes)
    updated = parameters - (words - len(some)) * width
    about = f"{parameters:,} parameters, clipped by norm; " + (
        f"{used:,} of {words:,} words are used" if used else "every word has a gradient, as in masked LM"
    )
    quantity = {"bytes": float(BYTES * updated), "parameters": float(parameters)}
    return compare(name, about, candidates, rounds=rounds, quantity=quantity, ceiling="copy")


def captured(update: Callable[[], object]) -> Callable[[], object]:
    """``update``, which its second call captures in a CUDA graph and every later one replays; itself on a CPU."""
    if not torch.cuda.is_available():
        return update
    stream, graph, calls = torch.cuda.Stream(), torch.cuda.CUDAGraph(), 0

    def run() -> None:
        nonlocal calls
        calls += 1
        # All of it on one stream, as in training.
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            if calls == 1:
                update()
            if calls == 2:
                with torch.cuda.graph(graph, stream=stream):
                    update()
            if calls > 1:
                graph.replay()
        torch.cuda.current_stream().wait_stream(stream)

    return run


def _used_rows(rounds: int) -> Workload:
    """A step of the word embeddings alone: lookup, gradient, clipping and update."""
    generator = torch.Generator().manual_seed(0)
    words, width = VOCABULARY
    whole = nn.Embedding(words, width, _weight=normal(words, width, seed=0, device="cpu").float())
    rows = torch.randperm(words, generator=generator)[:READ].sort().values
    ids = rows[torch.randint(len(rows), (STEP_TOKENS,), generator=generator)]
    upstream = normal(STEP_TOKENS, width, seed=1, device="cpu").float()

    def pair(table: nn.Embedding) -> _Pair:
        weights = list(table.parameters())

        def clip(optimizer: torch.optim.Optimizer, _: list[nn.Parameter]) -> None:
            optimizer.zero_grad()
            table(ids).backward(upstream)
            nn.utils.clip_grad_norm_(weights, MAX_NORM)

        run, results = _pair(weights, lambda each: torch.optim.AdamW(each, fused=True, **SETTINGS), clip)
        return run, lambda: [each if len(each) == len(rows) else each[rows] for each in results()]

    used, everything = pair(RowsEmbedding(whole, rows)), pair(whole)
    wanted = everything[1]()
    return compare(
        f"word embeddings of {words:,} x {width}",
        f"{STEP_TOKENS} tokens of a step: lookup, gradient, clipping and update; the rows that no example reads, which "
        "only decay, get that once at the end of a training, outside the clock",
        [
            check_output(f"ours, {READ:,} rows used", *used, wanted, TOLERANCE),
            Candidate("torch fused AdamW, all rows", everything[0]),
            NotRun("torch SparseAdam", "computes something else: it has no weight decay, and rows rest between uses"),
        ],
        rounds=rounds,
        quantity={"tokens": float(STEP_TOKENS), "parameters": float(READ * width)},
    )


def _pair(weights: list[nn.Parameter], make: Callable[..., Any], prepare: Callable[..., Any]) -> _Pair:
    made: list[Any] = []

    def run() -> None:
        prepare(made[0], weights)
        made[0].step()

    def results() -> list[Tensor]:
        made.append(make(weights))  # only now, where an error is the reason why it does not run
        run()
        # The gradient's scale, which clipping changes, shows in the moments alone: AdamW's first update is without it.
        return [each.detach() for each in weights] + [made[0].state[each]["exp_avg"] for each in weights]

    return run, results


def _clip(_: Any, weights: list[nn.Parameter]) -> None:
    nn.utils.clip_grad_norm_(weights, MAX_NORM, foreach=True)


def _deepspeed(weights: list[nn.Parameter]) -> Any:
    from deepspeed.ops.adam import FusedAdam  # which compiles it

    return FusedAdam(weights, **SETTINGS)
