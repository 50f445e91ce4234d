"""Exact inner-product search in a fixed order: highest score first, lowest id among equal scores."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from xlt.errors import DataFault, UsageFault

Engine: TypeAlias = Literal["faiss", "faiss-cpu", "torch"]
Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]

# Candidates beyond k, so that the k-th best is rarely near the last one: then a row costs no second look.
_SPARE = 4
_CHUNK = 256


def nearest(queries: Floats, keys: Floats, k: int, *, engine: Engine = "faiss") -> tuple[Floats, Ids]:
    """The ``k`` keys with the highest inner product for each query: scores ``[N, k]`` and ids ``[N, k]``.

    ``queries [N, H]`` and ``keys [M, H]``; with fewer than ``k`` keys the second dimension is M. Engines:
    ``faiss`` (a flat index, on the GPU where FAISS has one), ``faiss-cpu``, and ``torch``, the reference in
    double precision.

    All engines return the same. A library's order among equal scores is its own affair, and its fp32 products
    depend on where a key lies in a tile, so that equal keys may not even score alike. The engine therefore
    only proposes a few more than ``k`` candidates; these are scored again in double precision, by the same
    additions wherever a key lies, rounded to fp32 and sorted by score, then id. Where a key that was not
    proposed could still be among the best (it scores at most the last proposed one plus the rounding error),
    all keys of that query are looked at.

    Raises:
        DataFault: there are no queries or no keys, their widths differ, or a value is not finite.
        UsageFault: ``k`` is below 1, or no engine has that name.
    """
    _check(queries, keys, k, engine)
    k = min(k, len(keys))
    width = min(k + _SPARE, len(keys))
    proposed_scores, proposed = _PROPOSERS[engine](queries, keys, width)
    scores = np.empty((len(queries), k), dtype=np.float32)
    ids = np.empty((len(queries), k), dtype=np.int64)
    for begin in range(0, len(queries), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        scores[part], ids[part] = _ranked(queries[part], keys, proposed[part], k)
    if width < len(keys):
        slack = _rounding(queries, keys)
        unsure = np.flatnonzero(proposed_scores[:, -1] >= scores[:, -1] - slack)
        for begin in range(0, len(unsure), _CHUNK):
            rows = unsure[begin : begin + _CHUNK]
            for row, products in zip(rows, queries[rows] @ keys.T, strict=True):
                close = np.flatnonzero(products >= scores[row, -1] - slack[row])
                scores[row], ids[row] = _ranked(queries[row : row + 1], keys, close[None], k)
    return scores, ids


def search_report() -> dict[str, str]:
    """Which FAISS the engine ``faiss`` uses, and where: for a run's provenance."""
    import faiss

    gpus = _gpus()
    return {
        "faiss": str(faiss.__version__),
        "build": " ".join(faiss.get_compile_options().split()),
        "index": "GpuIndexFlatIP" if gpus else "IndexFlatIP",
        "device": "cuda" if gpus else "cpu",
    }


def _check(queries: Floats, keys: Floats, k: int, engine: str) -> None:
    if engine not in _PROPOSERS:
        raise UsageFault(f"There is no search engine '{engine}'.", why=f"Engines: {', '.join(_PROPOSERS)}.")
    if k < 1:
        raise UsageFault(f"A search for the {k} nearest keys has no result: at least 1.")
    for name, vectors in (("queries", queries), ("keys", keys)):
        if vectors.ndim != 2 or not vectors.size:
            raise DataFault(f"A search needs at least one of its {name}: their shape is {vectors.shape}.")
        if not np.isfinite(vectors).all():
            raise DataFault(f"The {name} of a search hold values that are not finite.")
    if queries.shape[1] != keys.shape[1]:
        raise DataFault(f"Queries of width {queries.shape[1]} cannot be searched in keys of {keys.shape[1]}.")


def _ranked(queries: Floats, keys: Floats, candidates: Ids, k: int) -> tuple[Floats, Ids]:
    """The best ``k`` of the ``candidates [n, w]`` of each query, scored again and sorted."""
    products = keys[candidates].astype(np.float64) * queries[:, None].astype(np.float64)
    scores = products.sum(axis=-1).astype(np.float32)
    order = np.lexsort((candidates, -scores))[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _rounding(queries: Floats, keys: Floats) -> npt.NDArray[np.float64]:
    """Per query, twice what an fp32 inner product of this width can be off by, in any order of additions."""
    longest = np.sqrt(np.einsum("ij,ij->i", keys, keys, dtype=np.float64).max())
    lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    bound: npt.NDArray[np.float64] = lengths * longest * (2 * (keys.shape[1] + 1) * 2.0**-24)
    return bound


def _propose_by_faiss(queries: Floats, keys: Floats, width: int) -> tuple[Floats, Ids]:
    if not _gpus():
        return _propose_by_faiss_cpu(queries, keys, width)
    import faiss

    return _search(faiss.GpuIndexFlatIP(_gpu_resources(), keys.shape[1]), queries, keys, width)


def _propose_by_faiss_cpu(queries: Floats, keys: Floats, width: int) -> tuple[Floats, Ids]:
    import faiss

    return _search(faiss.IndexFlatIP(keys.shape[1]), queries, keys, width)


def _search(index: Any, queries: Floats, keys: Floats, width: int) -> tuple[Floats, Ids]:
    index.add(np.ascontiguousarray(keys, dtype=np.float32))
    scores, ids = index.search(np.ascontiguousarray(queries, dtype=np.float32), width)
    return scores, ids


def _propose_by_torch(queries: Floats, keys: Floats, width: int) -> tuple[Floats, Ids]:
    # In double precision no switch for TF32 can touch the reference.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.from_numpy(keys).to(device, torch.float64).T
    parts = torch.from_numpy(queries).to(device, torch.float64).split(_CHUNK)
    found = [torch.topk(part @ matrix, width, dim=1) for part in parts]
    scores = torch.cat([part.values for part in found]).float()
    return scores.cpu().numpy(), torch.cat([part.indices for part in found]).cpu().numpy()


def _gpus() -> int:
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


@cache
def _gpu_resources() -> Any:
    import faiss

    return faiss.StandardGpuResources()


_PROPOSERS = {"faiss": _propose_by_faiss, "faiss-cpu": _propose_by_faiss_cpu, "torch": _propose_by_torch}
