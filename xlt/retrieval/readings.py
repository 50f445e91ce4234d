"""Every reading of an encoder's sentence vectors: layer, pooling, transformation, direction, margin; and isotropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor
from torch.nn.functional import normalize
from xlt_kernels.segments import at_least_fp32, mean_pool

from xlt.data.packing import Encoded, by_tokens, pack
from xlt.frozen import Frozen
from xlt.model.encoder import PackedModel, check_finite, inference
from xlt.retrieval.mining import margins
from xlt.retrieval.search import Floats, Ids, Progress, nearest_both

TokenPooling: TypeAlias = Literal["mean", "mean without special tokens", "first"]
Transformation: TypeAlias = Literal["raw", "centred", "whitened"]
Queries: TypeAlias = Literal["english", "foreign", "both"]
Scoring: TypeAlias = Literal["cosine", "margin"]
POOLINGS: tuple[TokenPooling, ...] = get_args(TokenPooling)
TRANSFORMATIONS: tuple[Transformation, ...] = get_args(Transformation)
# Neighbours whose mean cosine the margin divides by: as in the code of XTREME and of jiant.
NEIGHBOURS = 4


def embed_layers(
    model: PackedModel,
    sequences: Sequence[Encoded],
    *,
    layers: Sequence[int],
    max_tokens: int,
    device: torch.device | str,
    progress: Progress | None = None,
) -> Floats:
    """Sentence vectors ``[layers, poolings, N, H]`` in fp32 and of any length, from one pass over ``sequences``.

    Layer 0 are the embeddings, and the poolings are those of ``POOLINGS``. The batches are those of ``embed``: the
    mean over all tokens, divided by its norm, is bit for bit the vector that it makes. ``progress`` gets how many
    sequences are done, and of how many.

    Raises:
        DataFault: the model's vectors are not finite.
    """
    shape = len(layers), len(POOLINGS), len(sequences), model.backbone.config.hidden_size
    vectors: Floats = np.empty(shape, np.float32)
    done = 0
    with inference(model, device):
        for group in by_tokens(sequences, max_tokens):
            some = [sequences[index] for index in group]
            batch = pack(some, task="embed", kind="retrieval", first_position=model.first_position).to(model.device)
            states = model.all_hidden_states(batch)
            for place, layer in enumerate(layers):
                vectors[place][:, group] = pooled(states[layer], batch.cu_seqlens).cpu().numpy()
            done += len(group)
            if progress:
                progress(done, len(sequences))
    check_finite(vectors, "sentence vectors")
    return vectors


def pooled(hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The vectors ``[poolings, B, H]`` in fp32 of each sequence of ``hidden [T, H]``, in the order of ``POOLINGS``.

    The special tokens are the first and the last of a sequence; where there are no others, the mean without them is 0.
    """
    first = at_least_fp32(hidden.index_select(0, cu_seqlens[:-1]))
    last = at_least_fp32(hidden.index_select(0, cu_seqlens[1:] - 1))
    mean, lengths = mean_pool(hidden, cu_seqlens), cu_seqlens.diff().unsqueeze(1)
    words = torch.where(lengths > 2, (mean * lengths - first - last) / (lengths - 2).clamp(min=1), 0.0)
    return torch.stack([mean, words, first])


def unit_sides(
    foreign: Floats, english: Floats, how: Transformation, dtype: torch.dtype = torch.float32
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both sides ``[N, H]`` and ``[M, H]`` transformed, then divided by their norms and rounded to ``dtype``.

    ``centred``: less the mean of the side, so that what all sentences of a language share is gone (a language's mean
    as in Libovický, Rosa and Fraser 2020). ``whitened``: centred, then without correlations, by the inverse Cholesky
    factor of the covariance of both sides together; cosines are those of any other whitening by that covariance. With
    fewer sentences than dimensions no covariance has an inverse, so it is shrunk as Ledoit and Wolf (2004) do. Neither
    sees which sentences are translations of each other.
    """
    sides = [torch.from_numpy(side) for side in (foreign, english)]
    if how != "raw":
        # In double precision: a few dimensions of XLM-R vary a thousand times as much as the others.
        sides = [side.double() - side.double().mean(dim=0) for side in sides]
    if how == "whitened":
        factor = torch.linalg.cholesky(_shrunk_covariance(torch.cat(sides)))
        sides = [torch.linalg.solve_triangular(factor, side.T, upper=False).T for side in sides]
    one, other = (normalize(side, dim=1).to(dtype).contiguous().numpy() for side in sides)
    return one, other


def _shrunk_covariance(vectors: Tensor) -> Tensor:
    """The covariance of centred ``vectors [N, H]``, shrunk towards a multiple of the identity (Ledoit and Wolf)."""
    count, width = vectors.shape
    covariance = vectors.T @ vectors / count
    scale, square = covariance.diagonal().mean(), covariance.square().sum()
    spread = square - width * scale**2
    error = (vectors.square().sum(dim=1).square().mean() - square) / count
    # Vectors that are all alike have no covariance: the identity then.
    share = float((error / spread).clamp(0, 1)) if spread > 0 else 1.0
    target = max(float(scale), torch.finfo(torch.float64).tiny)
    return (1 - share) * covariance + share * target * torch.eye(width, dtype=vectors.dtype)


def translation_accuracies(
    foreign: npt.NDArray[Any], english: npt.NDArray[Any]
) -> dict[tuple[Queries, Scoring], float]:
    """The share in percent of the queries whose best key is their translation: row i of either side is that of row i.

    English or foreign sentences are the queries, and the best key is the nearest by cosine (of equal ones the first),
    or of the ``NEIGHBOURS`` nearest the one of the highest ratio margin.
    """
    english_queries, foreign_queries = nearest_both(english, foreign, NEIGHBOURS)
    by_margin = margins(english_queries, foreign_queries)
    return {
        ("english", "cosine"): _hits(english_queries[1][:, 0]),
        ("foreign", "cosine"): _hits(foreign_queries[1][:, 0]),
        ("english", "margin"): _hits(_best_ids(*by_margin[0])),
        ("foreign", "margin"): _hits(_best_ids(*by_margin[1])),
    }


def _best_ids(scores: npt.NDArray[Any], found: Ids) -> Ids:
    return np.take_along_axis(found, scores.argmax(axis=1)[:, None], axis=1)[:, 0]


def _hits(found: Ids) -> float:
    return 100 * int((found == np.arange(len(found))).sum()) / len(found)


class Geometry(Frozen):
    """How the vectors of two languages lie, of one layer."""

    translations: float
    """The mean cosine of the translation pairs."""
    strangers: float
    """The mean cosine of all other pairs of a foreign and an English sentence."""
    english: float
    """The mean cosine of all pairs of two English sentences (the anisotropy of Ethayarajh 2019)."""
    foreign: float
    """The mean cosine of all pairs of two foreign sentences."""
    english_first_component: float
    """The share of the variance of the English vectors along their first principal component."""
    foreign_first_component: float
    """The share of the variance of the foreign vectors along their first principal component."""


def geometry(foreign: Floats, english: Floats, matches: tuple[Ids, Ids]) -> Geometry:
    """The mean cosine of the pairs ``matches`` (rows of ``foreign`` and of ``english``) and of all other pairs; of all
    pairs of either side; and the share of a side's variance along its first principal component.

    A mean cosine of random sentences is the anisotropy, and the share of the first component the other measure, of
    Ethayarajh (2019), there of words. Here all pairs are counted instead of a sample, and variance is about the mean.
    """
    sides = [torch.from_numpy(side).double() for side in (foreign, english)]
    units = [normalize(side, dim=1) for side in sides]
    sums = [unit.sum(dim=0) for unit in units]
    rows, columns = (torch.from_numpy(each) for each in matches)
    paired = float((units[0][rows] * units[1][columns]).sum())
    others = len(foreign) * len(english) - len(rows)
    return Geometry(
        translations=paired / max(len(rows), 1),
        strangers=(float(sums[0] @ sums[1]) - paired) / max(others, 1),
        english=_within(units[1], sums[1]),
        foreign=_within(units[0], sums[0]),
        english_first_component=_first_component(sides[1]),
        foreign_first_component=_first_component(sides[0]),
    )


def _within(units: Tensor, total: Tensor) -> float:
    """The mean inner product of all pairs of two different rows, from the sum of the rows."""
    count = len(units)
    return float(total @ total - units.square().sum()) / max(count * (count - 1), 1)


def _first_component(vectors: Tensor) -> float:
    centred = vectors - vectors.mean(dim=0)
    scatter = (centred.T @ centred).numpy()
    whole = float(np.trace(scatter))
    if whole <= 0:
        return 1.0
    # The solver would draw its start, and fails from one that no vector has a part of.
    start = scatter[scatter.diagonal().argmax()]
    return float(eigsh(scatter, k=1, v0=start, return_eigenvectors=False)[0]) / whole
