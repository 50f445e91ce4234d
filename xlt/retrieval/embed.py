"""Sentence embeddings: the mean of one layer's token vectors, or its first or last one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from xlt_kernels.segments import unit_means

from xlt.data.encodings import kept
from xlt.data.features import encode_texts
from xlt.data.packing import Encoded, by_tokens, one_ahead, pack
from xlt.errors import DataFault
from xlt.model.encoder import PackedModel, check_finite, inference
from xlt.retrieval.search import Progress, Vectors
from xlt.tasks.record import Pooling

# Texts that are tokenized at a time: the tokenizer's own lists are ten times as large as what is kept of them.
_ENCODED = 8192


def encode_sentences(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
    """The texts as sequences of at most ``max_length`` tokens, in order.

    Raises:
        DataFault: there are no texts.
    """
    if not texts:
        raise DataFault("There are no texts to embed.")

    def make() -> list[Encoded]:
        return [
            sequence
            for start in range(0, len(texts), _ENCODED)
            for part in [texts[start : start + _ENCODED]]
            for sequence in encode_texts([""] * len(part), part, tokenizer, max_length)
        ]

    return kept(make, texts, [""] * len(texts), tokenizer, f"sentences of {max_length}")


def embed(
    model: PackedModel,
    sequences: Sequence[Encoded],
    *,
    layer: int,
    max_tokens: int,
    device: torch.device | str,
    pooling: Pooling = "mean",
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Vectors:
    """Unit vectors ``[N, H]`` in the order of ``sequences``: fp16 of a model in bf16, which has fewer bits, else fp32.

    A vector is the mean over all tokens of the sequence, the special ones included, of the output of Transformer
    block ``layer``, or with ``pooling`` "first" or "last" that of its first or last token; of a packed model nothing
    above that block is computed (jiant and XTREME both read the mean of block 14 of 24 for Tatoeba).
    ``max_tokens`` bounds the tokens of one forward pass. The model is moved to ``device`` and left in the mode in
    which it came. ``progress`` gets how many sequences are done, and of how many.

    With a folder to ``keep`` them, vectors are also written to a file there as they are made. An interrupted call is
    resumed from that file if the last batch in it is bit for bit what this model gives here.

    Raises:
        DataFault: the model's vectors are not finite.
    """
    groups = list(by_tokens(sequences, max_tokens))
    shape = len(sequences), model.backbone.config.hidden_size
    vectors: Vectors = torch.empty(shape, dtype=vector_dtype(model)).numpy()
    path = Path(os.devnull)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / _digest(sequences, layer, pooling, max_tokens)
    with inference(model, device):
        start = _resume(path, model, sequences, layer, pooling, groups, vectors)
        done = sum(len(group) for group in groups[:start])
        with path.open("r+b" if start else "wb") as file:
            if start:
                file.truncate(file.seek(done * vectors[0].nbytes))
            left = groups[start:]
            made = one_ahead(_vectors(model, sequences, group, layer, pooling) for group in left)
            for group, part in zip(left, map(_checked, made), strict=True):
                vectors[group] = part
                file.write(part.tobytes())
                file.flush()
                done += len(group)
                if progress:
                    progress(done, len(sequences))
    return vectors


def _resume(
    path: Path,
    model: PackedModel,
    sequences: Sequence[Encoded],
    layer: int,
    pooling: Pooling,
    groups: list[list[int]],
    vectors: Vectors,
) -> int:
    """Read the whole groups that the file has, in their order, into ``vectors``; return how many there are."""
    ends = np.cumsum([len(group) for group in groups])
    there = path.stat().st_size // vectors[0].nbytes if path.is_file() else 0
    done = int(np.searchsorted(ends, there, side="right"))
    if not done:
        return 0
    left = np.memmap(path, vectors.dtype, "r", shape=(int(ends[done - 1]), vectors.shape[1]))
    # The file's name says which sequences and reading, not which model: the last group is computed again to see that.
    last = groups[done - 1]
    if not np.array_equal(left[-len(last) :], _checked(_vectors(model, sequences, last, layer, pooling))):
        return 0
    vectors[np.concatenate(groups[:done])] = left
    return done


def _vectors(
    model: PackedModel, sequences: Sequence[Encoded], group: list[int], layer: int, pooling: Pooling
) -> Tensor:
    """The vectors of a group, on the model's device: a GPU may still be computing them."""
    batch = pack(
        [sequences[index] for index in group], task="embed", kind="retrieval", first_position=model.first_position
    ).to(model.device)
    hidden, bounds = model.hidden_states(batch, layer), batch.cu_seqlens
    if pooling != "mean":
        # The mean over one token is that token.
        tokens = bounds[:-1] if pooling == "first" else bounds[1:] - 1
        hidden, bounds = hidden.index_select(0, tokens), torch.arange(len(bounds), device=bounds.device)
    return unit_means(hidden, bounds, vector_dtype(model))


def _checked(made: Tensor) -> Vectors:
    vectors: Vectors = made.cpu().numpy()
    check_finite(vectors, "sentence vectors")
    return vectors


def vector_dtype(model: PackedModel) -> torch.dtype:
    """The type of sentence vectors: fp16 of a model in bf16, which has fewer bits, else fp32."""
    return torch.float16 if model.backbone.dtype == torch.bfloat16 else torch.float32


def _digest(sequences: Sequence[Encoded], layer: int, pooling: Pooling, max_tokens: int) -> str:
    digest = hashlib.sha256(f"{layer} {pooling} {max_tokens}".encode())
    for sequence in sequences:
        digest.update(len(sequence.input_ids).to_bytes(4) + sequence.input_ids.tobytes())
    return digest.hexdigest()[:16]
