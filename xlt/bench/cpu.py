"""``xlt bench cpu``: training steps of a small encoder with a multilingual vocabulary, as the pocket tier makes them.

A step of DeepSpeed on all 250,037 rows of the word embeddings, whose fused AdamW is torch's, is the baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from xlt.bench.batches import SameBatch, Shape, same_batches
from xlt.bench.shapes import sample_lengths
from xlt.bench.trainers import DeepSpeedTrainer
from xlt.bench.workload import Bench, Candidate, NotRun, bench, compare
from xlt.data.packing import Encoded
from xlt.model.encoder import PackedModel
from xlt.numerics import fast_products
from xlt.train.seeding import seed_everything
from xlt.train.used_rows import train_used_rows

# The sizes of multilingual-e5-small (its published configuration), without dropout, so that all compute the same.
CONFIG: dict[str, Any] = {
    "vocab_size": 250_037,
    "num_hidden_layers": 12,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# Counted with XLM-R's tokenizer on real training sets: 11,262 pieces in 4,000 rows of MNLI, 10,292 in 2,000 of SQuAD.
USED = 11_000
STEPS = 2  # of a round, in batches of different lengths
BATCH = 16
# Of loss and gradient norm before any step: other orders of the same fp32 sums.
TOLERANCE = 1e-4
_SPECIAL = range(4)
T = TypeVar("T")


def bench_cpu(rounds: int) -> Bench:
    """Time steps on sequences of the lengths of MNLI's, with all rows of the vocabulary and with those that are used,
    and with the libraries' products of matrices and oneDNN's."""
    rows = np.random.default_rng(0).choice(np.arange(4, CONFIG["vocab_size"]), USED, replace=False).astype(np.int32)
    random, lengths = np.random.default_rng(1), sample_lengths("mnli", 8 * STEPS * BATCH, 128)
    sequences = [
        Encoded(str(index), np.concatenate([[0], random.choice(rows, length - 2), [2]]).astype(np.int32), (index % 3,))
        for index, length in enumerate(lengths)
    ]
    batches = same_batches(sequences, "pair_classification", "dynamic padding", Shape(STEPS, BATCH, 128), 2)
    used = [*sequences, Encoded("all", rows)]
    candidates, wanted = [], None
    for name, some, fast in (
        ("used rows, oneDNN's products", True, True),
        ("used rows, the libraries' products", True, False),
        ("all rows, oneDNN's products", False, True),
        ("all rows, the libraries' products", False, False),
    ):
        trainer = DeepSpeedTrainer(_model(used if some else None), torch.device("cpu"))
        got = _with(fast, partial(trainer.loss_and_gradient, batches[0]))
        wanted = wanted or got
        candidates.append(_candidate(name, trainer, batches, fast, got, wanted))
    tokens = float(sum(batch.packed.tokens for batch in batches))
    about = f"{BATCH} pairs of a step, {USED:,} of {CONFIG['vocab_size']:,} rows used, fp32, without dropout"
    row = compare("training steps", about, candidates, rounds=rounds, quantity={"tokens": tokens})
    return bench("cpu", {"used": USED, "batch": BATCH, "steps": STEPS}, [row])


def _model(used: list[Encoded] | None) -> PackedModel:
    seed_everything(0)
    model = PackedModel.fresh(CONFIG)
    model.drop_masked_lm_head()
    model.add_head("pair_classification", "pair_classification", 3)
    if used:
        train_used_rows(model, used, _SPECIAL)
    return model


def _candidate(
    name: str,
    trainer: DeepSpeedTrainer,
    batches: list[SameBatch],
    fast: bool,
    got: tuple[float, float],
    wanted: tuple[float, float],
) -> Candidate | NotRun:
    off = max(abs(mine - want) / abs(want) for mine, want in zip(got, wanted, strict=True))
    if not off <= TOLERANCE:  # this way round NaN is off, too
        return NotRun(name, f"computes something else: off by {off:.1e}, of at most {TOLERANCE:.0e}")

    def steps() -> None:
        for batch in batches:
            trainer.step(batch)

    return Candidate(name, lambda: _with(fast, steps))


def _with(fast: bool, run: Callable[[], T]) -> T:
    if not fast:
        return run()
    with fast_products():
        return run()
