"""Sentence embeddings: the mean of one layer's token vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase
from xlt_kernels.pooling import unit_means

from xlt.data.features import encode_texts
from xlt.data.packing import by_tokens, pack
from xlt.errors import DataFault
from xlt.model.encoder import PackedModel


def embed(
    model: PackedModel,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    layer: int,
    max_length: int,
    max_tokens: int,
    device: torch.device | str,
) -> npt.NDArray[np.float32]:
    """Unit vectors ``[N, H]`` in fp32, in the order of ``texts``.

    A vector is the mean over all tokens of the text, the special ones included, of the output of Transformer
    block ``layer``; nothing above that block is computed (jiant and XTREME both read block 14 of 24 for
    Tatoeba). Texts are cut at ``max_length`` tokens; ``max_tokens`` bounds the tokens of one forward pass.
    The model is moved to ``device`` and left in the mode in which it came.

    Raises:
        DataFault: there are no texts, or the model's vectors are not finite.
    """
    if not texts:
        raise DataFault("There are no texts to embed.")
    sequences = encode_texts([str(index) for index in range(len(texts))], texts, tokenizer, max_length)
    embeddings = np.zeros((0, 0), dtype=np.float32)
    training = model.training
    model.to(device).eval()
    try:
        with torch.inference_mode():
            for group in by_tokens(sequences, max_tokens):
                batch = pack(
                    [sequences[index] for index in group],
                    task="embed",
                    kind="retrieval",
                    first_position=model.first_position,
                ).to(device)
                vectors = unit_means(model.hidden_states(batch, layer), batch.cu_seqlens).cpu().numpy()
                if not embeddings.size:
                    embeddings = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
                embeddings[group] = vectors
    finally:
        model.train(training)
    if not np.isfinite(embeddings).all():
        raise DataFault(
            "The model's sentence vectors are not finite numbers.",
            why="Its training diverged, or the checkpoint is damaged.",
            mend="Look at the losses in log.jsonl of the run that trained it.",
        )
    return embeddings
