"""Exact inner-product search in a fixed order: highest score first, lowest id among equal scores."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from xlt_kernels.mutual_top_k import SPARE, Nearest, exact_top_k, longest_of, mutual_top_k, rounding_bound

from xlt.errors import DataFault, UsageFault

SearchEngine: TypeAlias = Literal["faiss", "faiss-cpu", "torch", "mutual"]
Vectors: TypeAlias = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
Progress: TypeAlias = Callable[[int, int], None]
_Search: TypeAlias = Callable[[Floats, int], tuple[Floats, Ids]]

# Queries that are searched at a time; more would only make progress rarer.
_QUERIES = 16384
# Queries of the reference at a time, so that their products with all keys fit into memory in double precision.
_CHUNK = 256


def search_engine(name: str | None = None) -> SearchEngine:
    """The engine of that name; without a name, the one that ``XLT_SEARCH`` names, or else ``faiss``.

    Raises:
        UsageFault: there is none.
    """
    name = name or os.environ.get("XLT_SEARCH") or "faiss"
    for engine in get_args(SearchEngine):
        if engine == name:
            return engine  # type: ignore[no-any-return]
    raise UsageFault(
        f"There is no search engine '{name}'.",
        why=f"Engines: {', '.join(get_args(SearchEngine))}. All find the same.",
        fix="export XLT_SEARCH=faiss",
    )


def nearest(
    queries: Vectors, keys: Vectors, k: int, *, engine: SearchEngine | None = None, progress: Progress | None = None
) -> tuple[Floats, Ids]:
    """The ``k`` keys with the highest inner product for each query: scores ``[N, k]`` and ids ``[N, k]``.

    ``queries [N, H]`` and ``keys [M, H]``; with fewer than ``k`` keys the second dimension is M. Engines, by default
    the one of ``search_engine``: ``faiss`` (a flat index, on the GPU where FAISS has one and ``XLT_FAISS`` is not
    ``cpu``), ``faiss-cpu``, ``torch``, the reference in double precision, and ``mutual``, the project's own kernel for
    both directions at once (see ``nearest_both``). ``progress`` gets how many queries are done, and of how many.

    All engines return the same. A library promises no order among equal scores, and its fp32 products depend on
    where a key lies in a tile, so that equal keys may not even get equal scores. The engine therefore
    only proposes a few more than ``k`` candidates; these are scored again in double precision, by the same
    additions wherever a key lies, rounded to fp32 and sorted by score, then id. Where a key that was not
    proposed could still be among the best (it scores at most the last proposed one plus the rounding error),
    all keys of that query are looked at.

    Raises:
        DataFault: there are no queries or no keys, their widths differ, or a value is not finite.
        UsageFault: ``k`` is below 1, or no engine has that name.
    """
    engine = search_engine(engine)
    if engine == "mutual":
        return nearest_both(queries, keys, k, engine=engine, progress=progress)[0]
    _check(queries, keys, k)
    queries, keys = (side.astype(np.float32, copy=False) for side in (queries, keys))
    k = min(k, len(keys))
    width = min(k + SPARE, len(keys))
    search = _INDEXES[engine](keys)
    device = _device(engine)
    exact = torch.from_numpy(keys).to(device)
    longest = longest_of(exact)
    found = []
    for start in range(0, len(queries), _QUERIES):
        part = queries[start : start + _QUERIES]
        scores, candidates = (torch.from_numpy(each).to(device) for each in search(part, width))
        own = torch.from_numpy(part).to(device)
        left_out = torch.full((len(part),), -torch.inf, dtype=torch.float64, device=device)
        if width < len(keys):
            left_out = scores[:, -1].double() + rounding_bound(own, longest)
        found.append(_arrays(exact_top_k(own, exact, candidates, left_out, k, longest)))
        if progress:
            progress(start + len(part), len(queries))
    parts = zip(*found, strict=True)
    return np.concatenate(next(parts)), np.concatenate(next(parts))


def nearest_both(
    x: Vectors, y: Vectors, k: int, *, engine: SearchEngine | None = None, progress: Progress | None = None
) -> tuple[tuple[Floats, Ids], tuple[Floats, Ids]]:
    """``nearest(x, y)`` and ``nearest(y, x)``. ``mutual`` multiplies once for both, on a GPU where there is one.

    ``progress`` gets how many queries of both sides are done, and of how many; from ``mutual`` how many rows of
    ``x``. Raises what ``nearest`` raises.
    """
    engine = search_engine(engine)
    if engine != "mutual":
        tell = progress or (lambda done, of: None)
        both = len(x) + len(y)
        there = nearest(x, y, k, engine=engine, progress=lambda done, _: tell(done, both))
        return there, nearest(y, x, k, engine=engine, progress=lambda done, _: tell(len(x) + done, both))
    _check(x, y, k)
    one, other = (torch.from_numpy(np.ascontiguousarray(side)).to(_device(engine)) for side in (x, y))
    found = mutual_top_k(one, other, k, progress=progress)
    return _arrays(found[0]), _arrays(found[1])


def _device(engine: SearchEngine) -> str:
    """Where the vectors of an engine are multiplied, and candidates scored again."""
    wanted = _gpus() > 0 if engine == "faiss" else engine != "faiss-cpu"
    return "cuda" if wanted and torch.cuda.is_available() else "cpu"


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


def _check(queries: Vectors, keys: Vectors, k: int) -> None:
    if k < 1:
        raise UsageFault(f"A search for the {k} nearest keys has no result: at least 1.")
    for name, vectors in (("queries", queries), ("keys", keys)):
        if vectors.ndim != 2 or not vectors.size:
            raise DataFault(f"A search needs at least one of its {name}: their shape is {vectors.shape}.")
        if not np.isfinite(vectors).all():
            raise DataFault(f"The {name} of a search hold values that are not finite.")
    if queries.shape[1] != keys.shape[1]:
        raise DataFault(f"Queries of width {queries.shape[1]} cannot be searched in keys of {keys.shape[1]}.")


def _faiss(keys: Floats) -> _Search:
    if not _gpus():
        return _faiss_cpu(keys)
    import faiss

    return _filled(faiss.GpuIndexFlatIP(_gpu_resources(), keys.shape[1]), keys)


def _faiss_cpu(keys: Floats) -> _Search:
    import faiss

    return _filled(faiss.IndexFlatIP(keys.shape[1]), keys)


def _filled(index: Any, keys: Floats) -> _Search:
    index.add(np.ascontiguousarray(keys))
    return lambda queries, width: index.search(np.ascontiguousarray(queries), width)


def _torch(keys: Floats) -> _Search:
    # In double precision no switch for TF32 can touch the reference.
    device = _device("torch")
    matrix = torch.from_numpy(keys).to(device, torch.float64).T

    def search(queries: Floats, width: int) -> tuple[Floats, Ids]:
        parts = torch.from_numpy(queries).to(device, torch.float64).split(_CHUNK)
        found = [torch.topk(part @ matrix, width, dim=1) for part in parts]
        scores = torch.cat([part.values for part in found]).float()
        return scores.cpu().numpy(), torch.cat([part.indices for part in found]).cpu().numpy()

    return search


def _gpus() -> int:
    import faiss

    usable = hasattr(faiss, "StandardGpuResources") and os.environ.get("XLT_FAISS") != "cpu"
    return int(faiss.get_num_gpus()) if usable else 0


@cache
def _gpu_resources() -> Any:
    import faiss

    return faiss.StandardGpuResources()


_INDEXES: dict[SearchEngine, Callable[[Floats], _Search]] = {"faiss": _faiss, "faiss-cpu": _faiss_cpu, "torch": _torch}
