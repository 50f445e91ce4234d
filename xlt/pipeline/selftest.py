"""Compute on the GPU and compare: FAISS with torch, every kernel with its reference, a few steps with both engines.

``python -m xlt.pipeline.selftest NAME...`` makes the named checks and stops at the first that fails, because an error
on a GPU may leave its process unable to compute; ``xlt.pipeline.doctor`` starts it again for the checks that are left.
``--compile [NAME...]`` only compiles the kernels that the named checks launch, or all checks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from xlt_kernels.case import cases, kernels
from xlt_kernels.switch import serves

from xlt.data.packing import PackedBatch
from xlt.model.encoder import PackedModel
from xlt.retrieval.search import nearest, search_report
from xlt.runtime import device, start_process_group
from xlt.tasks.record import Recipe
from xlt.train.engine import DeepSpeedEngine, EngineSettings, Precision
from xlt.train.graph import GraphEngine
from xlt.train.seeding import deterministic

# Marks the lines of the results: libraries print to the same output.
FOUND = "xlt-found "


class WrongResult(Exception):
    """A result is not that of the reference."""


def _check_kernel(name: str, where: str) -> str:
    if not serves(name, torch.empty(0, device=where)):
        return "not in use: left out by XLT_KERNELS, or this GPU or Triton cannot run it"
    found = []
    for case in cases(name, where):
        error = case.off_by()
        found.append(f"off by {error:.1e} of at most {case.tolerance:.1e}")
        if not error <= case.tolerance:  # NaN fails too
            raise WrongResult(found[-1])
    return "; ".join(found)


def _check_faiss(where: str) -> str:
    drawn = np.random.default_rng(0)
    queries, keys = (drawn.standard_normal((count, 64), dtype=np.float32) for count in (500, 700))
    (scores, ids), (wanted, places) = (nearest(queries, keys, 4, engine=engine) for engine in ("faiss", "torch"))
    if not np.array_equal(ids, places) or not np.array_equal(scores, wanted):
        raise WrongResult("FAISS finds other neighbours than torch.")
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
    """Eight steps on batches of two shapes, run, captured and replayed; then again, with a new graph for every step."""
    settings = EngineSettings(engine="graph", precision=_precision(where))
    results, graphs = [], []
    for shared in (True, False):
        # Without dropout, since a replay draws other masks than a step that runs eagerly.
        engine = GraphEngine(_tiny_model(0.0), Recipe(learning_rate=3e-3), 8, settings)
        losses = []
        for step in range(8):
            if not shared:
                engine.forget_shapes()
            losses.append(engine.step([_pairs(4 + 8 * (step % 2), step)])[0])
        results.append([torch.stack(losses).cpu(), *engine.weights().values()])
        graphs.append(engine.graphs)
        engine.close()
    if not all(torch.equal(mine, other) for mine, other in zip(*results, strict=True)):
        raise WrongResult("Steps that share their inputs and graphs give other losses or weights than steps alone.")
    if graphs != [2 if where == "cuda" else 0, 0]:
        raise WrongResult(f"Of two shapes {graphs[0]} were captured.")
    return f"{settings.precision}, 8 steps in two shapes and {graphs[0]} graphs have the bits of 8 steps alone"


def _check_deepspeed(where: str) -> str:
    """A tiny model learns one batch by heart."""
    start_process_group()
    settings = EngineSettings(precision=_precision(where))
    engine = DeepSpeedEngine(_tiny_model(0.1), Recipe(learning_rate=1e-2, warmup=0.0), 20, settings)
    losses = [float(engine.step([_pairs(6)])[0]) for _ in range(8)]
    engine.close()
    if not losses[-1] < losses[0] - 0.5:
        raise WrongResult(f"The loss does not fall: {losses}")
    return f"{settings.precision}, the loss falls from {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps"


KERNELS = kernels()
ENGINES = {"graph": "graph engine", "deepspeed": "DeepSpeed"}
# The engines come last, so that they run without the kernels that failed.
CHECKS: dict[str, Callable[[str], str]] = {
    "FAISS": _check_faiss,
    **{name: partial(_check_kernel, name) for name in KERNELS},
    "graph engine": _check_graph_engine,
    "DeepSpeed": _check_deepspeed,
}


def run_check(name: str, where: str) -> str:
    """Make one check on the device ``where`` (cuda or cpu) and say what was found; an error means that it failed."""
    return CHECKS[name](where)


def main(arguments: Sequence[str]) -> int:
    """Make the named checks on the GPU and print one line of JSON for each."""
    deterministic(True)
    if arguments[:1] == ["--compile"]:
        for name in [*KERNELS, "graph engine"]:
            if name in (arguments[1:] or CHECKS):
                with suppress(Exception):  # the check itself will report it
                    run_check(name, "cuda")
        return 0
    for name in arguments:
        try:
            event = {"found": run_check(name, "cuda"), "good": True}
        except Exception as error:
            event = {"found": f"{type(error).__name__}: {error}".split("\n")[0], "good": False}
        print(FOUND + json.dumps(event), flush=True)
        if not event["good"]:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
