"""``xlt bench cpu``: a small encoder with a multilingual vocabulary on a CPU, in training and for sentence vectors.

Its sizes are those of the pocket tier's encoder. Training is packed, on the rows of the word embeddings that the
examples read, as our runs do it, beside a Hugging Face user's: padded, with torch's fused AdamW on all 250,037 rows.
Every candidate computes its products of matrices in two ways: by oneDNN (``xlt.numerics``) and as torch chooses. Times
are those of the process on the processor, which other work on the machine lengthens least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from xlt.bench.batches import Policy, SameBatch, Shape, same_batches
from xlt.bench.embed import sentence_vectors
from xlt.bench.shapes import forward_flop, sample_lengths
from xlt.bench.trainers import DeepSpeedTrainer, Trainer, packed_trainer, padded_trainer, set_dropout, work_of
from xlt.bench.workload import Bench, Candidate, Deferred, NotRun, Workload, bench, compare
from xlt.data.packing import Encoded
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.numerics import fast_products
from xlt.tasks.record import Kind
from xlt.train.seeding import seed_everything
from xlt.train.used_rows import train_used_rows

# The sizes of multilingual-e5-small (its published configuration).
CONFIG: dict[str, Any] = {
    "vocab_size": 250_037,
    "num_hidden_layers": 12,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
# Counted with XLM-R's tokenizer on real training sets: 11,262 pieces in 4,000 rows of MNLI, 10,292 in 2,000 of SQuAD.
USED = 11_000
STEPS = 2  # of a round, in batches of different lengths
BATCH = 16
DROPOUT = 0.1
SENTENCES = 256
SLOTS = 512  # of a padded batch of sentences: larger ones have more padding, and a CPU is full with these
# Of loss and gradient norm without dropout: other orders of the same fp32 sums.
TOLERANCE = 1e-4
POLICIES: tuple[Policy, ...] = ("dynamic padding", "length grouping")
VECTORS = "sentence vectors"
ROWS = (*POLICIES, VECTORS)
KIND: Kind = "pair_classification"
_SPECIAL = range(4)
T = TypeVar("T")


def bench_cpu(rounds: int, folder: Path | None = None, rows: Sequence[str] = ROWS) -> Bench:
    """Time the ``rows`` with random weights, or with those of ``folder``.

    Raises:
        UsageFault: the encoder of ``folder`` has another vocabulary.
    """
    made = _training([each for each in POLICIES if each in rows], rounds, folder)
    if VECTORS in rows:
        made.append(_vectors(rounds, folder))
    settings = {
        "used": USED,
        "batch": BATCH,
        "steps": STEPS,
        "dropout": DROPOUT,
        "weights": "given" if folder else "random",
    }
    return bench("cpu", settings, made)


def _training(policies: Sequence[Policy], rounds: int, folder: Path | None) -> list[Workload]:
    """A row for each of ``policies``: sequences of the lengths of MNLI's, each policy's batches for all."""
    if not policies:
        return []
    sequences, used = _examples()
    whole = _model(folder)
    shape = Shape(STEPS, BATCH, 128)
    batches = {each: same_batches(sequences, KIND, each, shape, whole.first_position) for each in policies}
    first = batches[policies[0]][0]
    padded = padded_trainer(whole, KIND, torch.device("cpu"))
    wanted = _found(padded, first, fast=False)
    entries: list[tuple[str, Trainer | NotRun]] = []
    for name, some in (("packed, used rows", used), ("packed, all rows", None)):
        model = _model(folder)
        if some:
            train_used_rows(model, some, _SPECIAL)
        entries.append((name, _checked(name, model, first, wanted)))
    entries.append(("Hugging Face, all rows", padded))
    made = []
    for policy, each in batches.items():
        candidates = [
            trainer if isinstance(trainer, NotRun) else Candidate(name, partial(_steps, trainer, each))
            for name, trainer in entries
        ]
        total = work_of(each, whole.backbone.config.to_dict())
        about = (
            f"{BATCH} pairs of a step of MNLI's lengths, {total['slots'] / total['tokens']:.2f} slots per token where "
            f"padded; {USED:,} of {CONFIG['vocab_size']:,} rows used; fp32, dropout {DROPOUT}"
        )
        row = compare(f"training, {policy}", about, in_both(candidates), rounds=rounds, quantity=total, warm_up=1)
        made.append(row)
    return made


def _examples() -> tuple[list[Encoded], list[Encoded]]:
    """Labelled pairs, and with them what reads every used row."""
    rows = np.random.default_rng(0).choice(np.arange(4, CONFIG["vocab_size"]), USED, replace=False).astype(np.int32)
    random, lengths = np.random.default_rng(1), sample_lengths("mnli", 200 * BATCH, 128)
    sequences = [
        Encoded(str(index), np.concatenate([[0], random.choice(rows, length - 2), [2]]).astype(np.int32), (index % 3,))
        for index, length in enumerate(lengths)
    ]
    return sequences, [*sequences, Encoded("all", rows)]


def _encoder(folder: Path | None) -> PackedModel:
    seed_everything(0)
    model = PackedModel.load(folder) if folder else PackedModel.fresh(CONFIG)
    if (words := model.backbone.config.vocab_size) != CONFIG["vocab_size"]:
        raise UsageFault(
            f"The vocabulary of '{folder}' has {words:,} pieces.",
            why=f"The benchmark is about one of {CONFIG['vocab_size']:,}, as multilingual-e5-small has.",
            fix="Give the folder of such a model, or leave out --model.",
        )
    model.segments = False  # as with XLM-R's tokenizer
    model.drop_masked_lm_head()
    return model


def _model(folder: Path | None) -> PackedModel:
    model = _encoder(folder)
    model.add_head(KIND, KIND, 3)
    set_dropout(model, DROPOUT)
    return model


def _checked(name: str, model: PackedModel, batch: SameBatch, wanted: tuple[float, float]) -> Trainer | NotRun:
    """DeepSpeed's training of ``model``, if both ways to compute its products give what is wanted."""
    plain = packed_trainer(model, torch.device("cpu"))
    for fast in (True, False):
        found = _found(plain, batch, fast=fast)
        off = max(abs(mine - want) / abs(want) for mine, want in zip(found, wanted, strict=True))
        if not off <= TOLERANCE:  # this way round NaN is off, too
            return NotRun(name, f"computes something else: off by {off:.1e}, of at most {TOLERANCE:.0e}")
    return DeepSpeedTrainer(model, torch.device("cpu"))


def _found(trainer: Trainer, batch: SameBatch, *, fast: bool) -> tuple[float, float]:
    """Loss and gradient norm without dropout."""
    set_dropout(trainer.model, 0.0)
    found = _with(fast, partial(trainer.loss_and_gradient, batch))
    set_dropout(trainer.model, DROPOUT)
    return found


def _steps(trainer: Trainer, batches: Sequence[SameBatch]) -> None:
    for batch in batches:
        trainer.step(batch)


def _vectors(rounds: int, folder: Path | None) -> Workload:
    model, random = _encoder(folder), np.random.default_rng(2)
    layers = model.backbone.config.num_hidden_layers
    lengths = sample_lengths("bucc2018", SENTENCES)
    sequences = [
        Encoded("", np.concatenate([[0], random.integers(4, CONFIG["vocab_size"], length - 2), [2]]).astype(np.int32))
        for length in lengths
    ]
    with torch.inference_mode():
        candidates, about = sentence_vectors(model, layers, sequences, SLOTS)
        quantity = {"sentences": float(SENTENCES), "tokens": float(sum(lengths)), "flop": forward_flop(CONFIG, lengths)}
        return compare(VECTORS, about, in_both(candidates), rounds=rounds, quantity=quantity, warm_up=1)


def in_both(candidates: Sequence[Candidate | NotRun | Deferred]) -> list[Candidate | NotRun]:
    """Every candidate twice: with oneDNN's products, and with the libraries'; one that torch compiles has no turn."""
    made: list[Candidate | NotRun] = []
    for each in candidates:
        if isinstance(each, Candidate):
            made += [
                Candidate(f"{each.name}, {whose} products", partial(_seconds, fast, each.run), own_clock=True)
                for whose, fast in (("oneDNN's", True), ("the libraries'", False))
            ]
        elif isinstance(each, NotRun):
            made.append(each)
    return made


def _seconds(fast: bool, run: Callable[[], object]) -> float:
    # Those of this process on the processor: a round takes seconds, in which other work comes and goes.
    start = time.process_time()
    _with(fast, run)
    return time.process_time() - start


def _with(fast: bool, run: Callable[[], T]) -> T:
    if not fast:
        return run()
    with fast_products():
        return run()
