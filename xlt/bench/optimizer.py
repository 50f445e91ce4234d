"""``xlt bench optimizer``: one update of all parameters, with clipping, on gradients set before, beside baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from xlt_kernels.adamw import TOLERANCE, AdamW, set_gradients
from xlt_kernels.case import normal

from xlt.bench.shapes import CONFIGS, Size
from xlt.bench.workload import (
    NEEDS_GPU,
    WARM_UP,
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

# Of XLM-R's 250,002 words an English run is taken to use 30,000. An estimate: nothing was counted.
USED = 0.12
TOKENS = 1400  # tokens of a step, whose rows are touched within the clock
# fp32: weight, two moments and gradient are read, the first three written; and the gradient is read for its norm.
BYTES = 4 * (4 + 3 + 1)
MAX_NORM = 1.0
# An update, and what the first one gives: weights and first moments.
_Pair = tuple[Callable[[], None], Callable[[], list[Tensor]]]
SETTINGS: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}  # large, so that an update shows beside the weights


def bench_optimizer(size: Size, rounds: int) -> Bench:
    """Time an update of the fp32 weights of XLM-R, with lazy word embeddings and with dense ones."""
    with torch.device("meta"):
        encoder = new_backbone(CONFIGS[size]).encoder
    embedding = encoder.get_input_embeddings().weight
    shapes = [embedding.shape, *(each.shape for each in encoder.parameters() if each is not embedding)]
    used = round(USED * len(embedding))
    rows = [_row("lazy word embeddings", shapes, used, rounds), _row("dense", shapes, None, rounds)]
    return bench("optimizer", {"size": size, "used": used, "batch": TOKENS, "max_norm": MAX_NORM, **SETTINGS}, rows)


def _row(name: str, shapes: Sequence[torch.Size], used: int | None, rounds: int) -> Workload:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    words, width = shapes[0]
    some = torch.randperm(words, generator=torch.Generator().manual_seed(0))[:used].to(device)
    batch = some[torch.arange(TOKENS, device=device) % len(some)]

    def ours(weights: list[nn.Parameter]) -> AdamW:
        lazy = weights[0] if used else None
        optimizer = AdamW(weights, **SETTINGS, max_norm=MAX_NORM, lazy=lazy, steps=1 + WARM_UP + rounds)
        optimizer.touch(some)
        return optimizer

    def touch(optimizer: AdamW, _: list[nn.Parameter]) -> None:
        optimizer.touch(batch)

    def pair(make: Callable[..., Any], prepare: Callable[..., Any] = _clip) -> _Pair:
        """An update of new weights, the same at every call, with the same gradients; and what the first one gives."""
        weights = [nn.Parameter(normal(*shape, seed=i, device=device).float()) for i, shape in enumerate(shapes)]
        set_gradients(weights, some, seed=0)
        return _pair(weights, make, prepare)

    # torch's own fused form is what all others are compared with.
    run_torch, results = pair(lambda each: torch.optim.AdamW(each, fused=True, **SETTINGS))
    wanted = results()
    foreach = pair(lambda each: torch.optim.AdamW(each, foreach=True, **SETTINGS))
    candidates: list[Candidate | NotRun] = [
        check_output(our_name("adamw", device), *pair(ours, touch), wanted, TOLERANCE),
        Candidate("torch fused AdamW", run_torch),
        check_output("torch foreach AdamW", *foreach, wanted, TOLERANCE),
        NotRun("DeepSpeed FusedAdam", NEEDS_GPU)
        if device == "cpu"
        else check_output("DeepSpeed FusedAdam", *pair(_deepspeed), wanted, TOLERANCE),
    ]
    parameters = sum(shape.numel() for shape in shapes)
    updated = parameters - (words - used) * width if used else parameters
    about = f"{parameters:,} parameters, clipped by norm; " + (
        f"{used:,} of {words:,} words used so far; the flush before an evaluation is not in the clock"
        if used
        else "every word has a gradient, as in masked LM"
    )
    quantity = {"bytes": float(BYTES * updated), "parameters": float(parameters)}
    return compare(name, about, candidates, rounds=rounds, quantity=quantity, ceiling="copy")


def _pair(weights: list[nn.Parameter], make: Callable[..., Any], prepare: Callable[..., Any]) -> _Pair:
    made: list[Any] = []

    def run() -> None:
        prepare(made[0], weights)
        made[0].step()

    def results() -> list[Tensor]:
        made.append(make(weights))  # only now, where an error is the reason why it does not run
        run()
        if isinstance(made[0], AdamW):
            made[0].flush()
        # The gradient's scale, which clipping changes, shows in the moments alone: AdamW's first update is without it.
        return [each.detach() for each in weights] + [made[0].state[each]["exp_avg"] for each in weights]

    return run, results


def _clip(_: Any, weights: list[nn.Parameter]) -> None:
    nn.utils.clip_grad_norm_(weights, MAX_NORM, foreach=True)


def _deepspeed(weights: list[nn.Parameter]) -> Any:
    from deepspeed.ops.adam import FusedAdam  # which compiles it

    return FusedAdam(weights, **SETTINGS)
