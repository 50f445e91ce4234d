"""A step of masked-LM training beside its baselines: forward, loss and backward of one batch, 15 % of it masked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from xlt.bench.batches import pad, padded_inputs
from xlt.bench.library import library_masked_lm
from xlt.bench.shapes import CONFIGS, RESERVED, Size, fitting_lengths, forward_flop, fresh_model, random_sequences
from xlt.bench.trainers import TOLERANCE
from xlt.bench.workload import Bench, Candidate, NotRun, bench, check_output, compare, deferred, our_name
from xlt.data.packing import PackedBatch, pack
from xlt.model.encoder import PackedModel
from xlt.train.masking import Vocabulary, choose_masks, with_masks

TOKENS: dict[Size, int] = {"large": 8192, "small": 1024}
TASK = "squad"  # of the measured lengths those of paragraphs
MASKED = 0.15
IGNORED = -100  # the label that a cross entropy leaves out


@dataclass(frozen=True, slots=True)
class Step:
    """One way to compute a step: a model, and its mean loss over the masked tokens of the batch."""

    name: str
    model: nn.Module
    loss: Callable[[], Tensor]

    def run(self) -> None:
        """Forward, loss and backward; the gradients are thrown away."""
        self.loss().backward()
        self.model.zero_grad()

    def results(self) -> list[Tensor]:
        """The loss and the norm of the gradient, without dropout; it leaves the model in training."""
        self.model.eval()
        loss = self.loss()
        loss.backward()
        norms = [each.grad.float().norm() for each in self.model.parameters() if each.grad is not None]
        self.model.zero_grad()
        self.model.train()
        return [loss.detach(), torch.stack(norms).norm()]


def bench_mlm(size: Size, rounds: int) -> Bench:
    """Time a step of our packed model, with the loss over the masked rows alone, and those of its baselines.

    All have the same weights, on a GPU in bf16, and no optimiser.
    """
    model = fresh_model(size)
    kind = model.device.type
    model.to(torch.bfloat16 if kind == "cuda" else torch.float32)
    lengths = fitting_lengths(TASK, TOKENS[size])
    batch = masked_batch(lengths, size, model.first_position).to(model.device)
    ours, *others = _packed_steps(model, batch)
    library = library_masked_lm(model)
    every, some = _padded_steps(library, batch, lengths)
    wanted = every.results()

    def checked(step: Step) -> Candidate | NotRun:
        return check_output(step.name, step.run, step.results, wanted, TOLERANCE[kind])

    def compiled(name: str) -> Candidate | NotRun:
        for block in library.base_model.encoder.layer:  # they are alike: one compilation serves all
            block.compile(dynamic=False)
        return checked(replace(some, name=name))

    late = deferred(f"{some.name}, blocks compiled", compiled)
    candidates = [*(checked(each) for each in (ours, every, some, *others)), late]
    masked = int(batch.denominator)
    about = f"forward, loss and backward, lengths of {TASK}: {len(lengths)} sequences, {masked} masked tokens"
    quantity = {"tokens": float(batch.tokens), "flop": _flop(size, lengths, masked)}
    row = compare("masked-LM step", about, candidates, rounds=rounds, quantity=quantity, ceiling="matmul")
    return bench("mlm", {"size": size, "tokens": batch.tokens, "masked": masked, "model": CONFIGS[size]}, [row])


def masked_batch(lengths: list[int], size: Size, first_position: int) -> PackedBatch:
    """Random sequences of ``lengths``, as ``fitting_lengths`` gives them, packed and masked as in training."""
    sequences = random_sequences(TASK, len(lengths), size)
    words = CONFIGS[size]["vocab_size"]
    vocabulary = Vocabulary(words, words - 1, (*range(RESERVED), words - 1))
    masks = choose_masks([each.input_ids for each in sequences], vocabulary, MASKED, np.random.default_rng(0))
    batch = pack(sequences, task="mlm", kind="masked_lm", first_position=first_position)
    return with_masks(batch, masks, float(sum(len(chosen) for chosen, _ in masks)))


def _padded_steps(library: Any, batch: PackedBatch, lengths: list[int]) -> tuple[Step, Step]:
    words: Any = batch.labels
    scored: Any = batch.scored_positions
    labels = torch.full_like(batch.input_ids, IGNORED).index_copy(0, scored, words)
    inputs = dict(zip(("input_ids", "attention_mask"), padded_inputs(batch.input_ids, lengths), strict=True))
    everywhere = pad(labels, lengths, IGNORED)
    places = (everywhere.flatten() != IGNORED).nonzero()[:, 0]

    def gathered() -> Tensor:
        hidden = library.base_model(**inputs).last_hidden_state.flatten(0, 1)
        return F.cross_entropy(library.lm_head(hidden.index_select(0, places)), words)

    return (
        Step("library, padded, every position", library, lambda: library(**inputs, labels=everywhere).loss),
        Step("library, padded, masked rows, torch cross entropy", library, gathered),
    )


def _packed_steps(model: PackedModel, batch: PackedBatch) -> list[Step]:
    head: Any = model.lm_head
    weight, bias = head.decoder.weight, head.decoder.bias
    words: Any = batch.labels
    scored: Any = batch.scored_positions

    def rows() -> Tensor:
        """What the last layer of the head reads."""
        hidden = model.hidden_states(batch, model.backbone.config.num_hidden_layers).index_select(0, scored)
        normed: Tensor = head.layer_norm(F.gelu(head.dense(hidden)))
        return normed

    def liger() -> Tensor:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy  # type: ignore

        # By default its chunks are of a few rows, each with a pass over the whole gradient of the weight.
        one_chunk = -(-weight.shape[0] // weight.shape[1])
        loss: Tensor = liger_fused_linear_cross_entropy(rows(), weight, words, bias, chunk_mem_const=one_chunk)
        return loss

    def cut() -> Tensor:
        from cut_cross_entropy import linear_cross_entropy  # type: ignore

        loss: Tensor = linear_cross_entropy(rows(), weight, words)
        return loss

    ours, encoder = our_name("varlen_attention", model.device.type), "our encoder, masked rows"
    return [
        Step(ours, model, lambda: model(batch)[0]),
        Step(f"{encoder}, Liger fused linear cross entropy in one chunk", model, liger),
        Step(f"{encoder}, Cut Cross-Entropy, which has no bias", model, cut),
    ]


def _flop(size: Size, lengths: list[int], masked: int) -> float:
    """Products alone, backward twice forward; that with the words for the masked tokens only."""
    config: dict[str, int] = CONFIGS[size]
    hidden = config["hidden_size"]
    head = hidden**2 + hidden * config["vocab_size"]
    return 3 * (forward_flop(config, lengths) + 2 * head * masked)
