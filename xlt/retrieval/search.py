"""Exact inner-product search in a fixed order: highest score first, lowest id among equal scores."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from xlt_kernels.mutual_top_k import SPARE, Nearest, exact_top_k, mutual_top_k, rounding_bound

from xlt.errors import DataFault, UsageFault

Engine: TypeAlias = Literal["faiss", "faiss-cpu", "torch", "mutual"]
Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]

_CHUNK = 256


def nearest(queries: Floats, keys: Floats, k: int, *, engine: Engine = "faiss") -> tuple[Floats, Ids]:
    """The ``k`` keys with the highest inner product for each query: scores ``[N, k]`` and ids ``[N, k]``.

    ``queries [N, H]`` and ``keys [M, H]``; with fewer than ``k`` keys the second dimension is M. Engines:
    ``faiss`` (a flat index, on the GPU where FAISS has one and ``XLT_FAISS`` is not ``cpu``), ``faiss-cpu``,
    ``torch``, the reference in double precision, and ``mutual``, the project's own kernel for both directions at once
    (see ``nearest_both``).

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
    if engine == "mutual":
        return nearest_both(queries, keys, k, engine=engine)[0]
    _check(queries, keys, k, engine)
    k = min(k, len(keys))
    width = min(k + SPARE, len(keys))
    proposed = [torch.from_numpy(part) for part in _PROPOSERS[engine](queries, keys, width)]
    both = torch.from_numpy(queries), torch.from_numpy(keys)
    left_out = torch.full((len(queries),), -torch.inf, dtype=torch.float64)
    if width < len(keys):
        left_out = proposed[0][:, -1].double() + rounding_bound(*both)
    return _arrays(exact_top_k(*both, proposed[1], left_out, k))


def nearest_both(
    x: Floats, y: Floats, k: int, *, engine: Engine = "faiss", progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[Floats, Ids], tuple[Floats, Ids]]:
    """``nearest(x, y)`` and ``nearest(y, x)``. ``mutual`` multiplies once for both, and tells ``progress`` how many
    rows of ``x`` are done, and of how many; on a GPU where there is one. Raises what ``nearest`` raises.
    """
    if engine != "mutual":
        return nearest(x, y, k, engine=engine), nearest(y, x, k, engine=engine)
    _check(x, y, k, engine)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one, other = (torch.from_numpy(np.ascontiguousarray(side)).to(device) for side in (x, y))
    there, back = mutual_top_k(one, other, k, progress=progress)
    return _arrays(there), _arrays(back)


def _arrays(found: Nearest) -> tuple[Floats, Ids]:
    return found.scores.cpu().numpy(), found.ids.cpu().numpy()


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
    if engine not in get_args(Engine):
        raise UsageFault(f"There is no search engine '{engine}'.", why=f"Engines: {', '.join(get_args(Engine))}.")
    if k < 1:
        raise UsageFault(f"A search for the {k} nearest keys has no result: at least 1.")
    for name, vectors in (("queries", queries), ("keys", keys)):
        if vectors.ndim != 2 or not vectors.size:
            raise DataFault(f"A search needs at least one of its {name}: their shape is {vectors.shape}.")
        if not np.isfinite(vectors).all():
            raise DataFault(f"The {name} of a search hold values that are not finite.")
    if queries.shape[1] != keys.shape[1]:
        raise DataFault(f"Queries of width {queries.shape[1]} cannot be searched in keys of {keys.shape[1]}.")


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

    usable = hasattr(faiss, "StandardGpuResources") and os.environ.get("XLT_FAISS") != "cpu"
    return int(faiss.get_num_gpus()) if usable else 0


@cache
def _gpu_resources() -> Any:
    import faiss

    return faiss.StandardGpuResources()


_PROPOSERS = {"faiss": _propose_by_faiss, "faiss-cpu": _propose_by_faiss_cpu, "torch": _propose_by_torch}
