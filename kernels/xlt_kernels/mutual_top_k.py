"""The k nearest vectors in both directions, exactly, from one matrix product."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from xlt_kernels.case import Case, normal
from xlt_kernels.switch import serves

DTYPES = (torch.float32, torch.float16)
LARGE = ({"rows": 3000, "columns": 2501, "width": 1024},)
SMALL = ({"rows": 70, "columns": 65, "width": 24},)
# Both sides add in double precision and round once to fp32: the last bit may differ.
TOLERANCE = 2**-22
# Candidates (and groups) beyond k, so that the k-th best is rarely near the last one: a row that cannot prove its
# result costs a second look.
SPARE = 4
GROUP = 64  # columns (rows) of the score matrix that share one maximum, in the Triton form
_TILE_GROUP = 32  # the same in the CPU form, where 32 measured faster than 16 and 64
_TILE = 4096  # a tile of scores is 64 MB; 2048 to 8192 measured alike
# Elements of candidates scored at a time: on a CPU they stay in a cache, on a GPU they fill it.
_GATHERED = {"cpu": 1 << 18, "cuda": 1 << 26}
_LOOKED_AT = 1 << 24  # scores of a second look at a time


class Nearest(NamedTuple):
    """For each query its best keys, highest score first, lowest id among equal ones: fp32 and int64 ``[N, k]``."""

    scores: Tensor
    ids: Tensor


def mutual_top_k(
    x: Tensor, y: Tensor, k: int, *, chunk: int = 16384, progress: Callable[[int, int], None] | None = None
) -> tuple[Nearest, Nearest]:
    """The ``k`` rows of ``y [M, d]`` with the highest inner product for each row of ``x [N, d]``, and the reverse.

    fp16 or fp32, contiguous, finite, on one device; where there are fewer than ``k`` rows on the other side, all are
    given. A score is the inner product in double precision rounded to fp32, ties go to the lower id: the result is
    that of ``mutual_top_k_reference``, whatever the tiles. ``progress`` is told the rows of ``x`` that are done and N.
    On a GPU, ``chunk`` rows of ``x`` (a multiple of 64) are multiplied at a time and ``chunk * M / 8`` bytes of maxima
    held, plus fp16 copies; on a CPU a few tiles.

    The Triton form multiplies fp16 copies, adds in fp32, and writes only the maximum of every 64 columns of a row and
    of every 64 rows of a column. The k best lie in groups whose maxima come first; the members of up to k + 4 groups
    are scored again in double precision. With ``e(v)`` the length of what rounding ``v`` to fp16 took off (at most
    2^-11 of a unit vector) and ``v'`` the rounded vector, an approximate score is off by at most::

        E = e(x) |y'| + |x| e(y) + (d + 8) 2^-22 |x'| |y'|

    (Cauchy-Schwarz twice; products of fp16 are exact in fp32, and each of the d additions, which tensor cores
    truncate, is off by at most 2^-22 of the largest sum of absolute values; 8 more for the score's own rounding.)
    A row is proven when the largest maximum left out + E is below its k-th exact score; the others are searched
    again in double precision.
    """
    if chunk % GROUP:
        raise ValueError(f"A chunk of {chunk} rows is not a multiple of {GROUP}.")
    if not serves("mutual_top_k", x):
        return _tiled(x, y, k, progress)
    return _grouped(x, y, k, chunk, progress)


def mutual_top_k_reference(x: Tensor, y: Tensor, k: int) -> tuple[Nearest, Nearest]:
    """What :func:`mutual_top_k` gives, from the whole score matrix and two stable sorts."""
    scores = (x.double() @ y.double().T).float()
    there, back = (matrix.sort(dim=1, descending=True, stable=True) for matrix in (scores, scores.T))
    return Nearest(there.values[:, :k], there.indices[:, :k]), Nearest(back.values[:, :k], back.indices[:, :k])


def case(rows: int, columns: int, width: int, k: int = 4, *, dtype: torch.dtype, device: str) -> Case:
    """Unit vectors. An id is compared by what it scores: two that differ in the last bit may stand in either order."""
    x, y = (
        torch.nn.functional.normalize(normal(count, width, seed=seed, device=device)).to(dtype)
        for seed, count in enumerate((rows, columns))
    )
    scores = x.double() @ y.double().T

    def results(there: Nearest, back: Nearest) -> list[Tensor]:
        return [there.scores, scores.gather(1, there.ids), back.scores, scores.T.gather(1, back.ids)]

    return Case(
        lambda x, y: results(*mutual_top_k(x, y, k, chunk=1024)),
        lambda x, y: results(*mutual_top_k_reference(x, y, k)),
        [x, y],
        TOLERANCE,
        gradients=False,
    )


def exact_top_k(
    queries: Tensor, keys: Tensor, candidates: Tensor, left_out: Tensor, k: int, longest: Tensor
) -> Nearest:
    """The best ``k`` keys of each query, from ``candidates`` and a bound on the score of every other key.

    ``queries [N, d]``, ``keys [M, d]``, ``candidates [N, w]``, ``left_out [N]``, ``longest``: ``longest_of(keys)``.
    Where a key that is no candidate could be among the best, all keys of that query are looked at.
    """
    found = _ranked(queries, keys, candidates, k)
    unsure = _unproven(left_out, found)
    wide = torch.float64 if keys.is_cuda else torch.float32  # no switch for TF32 touches double precision
    for rows in unsure.split(max(1, _LOOKED_AT // len(keys))):
        least = found.scores[rows, -1].double() - rounding_bound(queries[rows], longest, wide)
        for row, close in zip(rows.tolist(), queries[rows].to(wide) @ keys.T.to(wide) >= least[:, None], strict=True):
            best = _ranked(queries[row : row + 1], keys, close.nonzero().T, k)
            found.scores[row], found.ids[row] = best.scores[0], best.ids[0]
    return found


def rounding_bound(queries: Tensor, longest: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Per query, twice what an inner product in ``dtype`` with a key of at most the length ``longest`` can be off by,
    in any order of additions."""
    return _norms(queries) * longest * ((queries.shape[1] + 1) * torch.finfo(dtype).eps)


def longest_of(keys: Tensor) -> Tensor:
    """The length of the longest of ``keys [M, d]``, a number in double precision."""
    return _norms(keys).max()


def _unproven(left_out: Tensor, found: Nearest) -> Tensor:
    # Not "left_out >= score": a bound that is not a number proves nothing.
    return (~(left_out.float() < found.scores[:, -1])).nonzero()[:, 0]


def _norms(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float32)
    return norms.double()


def _ranked(queries: Tensor, keys: Tensor, candidates: Tensor, k: int) -> Nearest:
    """The best ``k`` of the ``candidates``, scored by the same additions wherever a key lies, and sorted."""
    rows = torch.arange(len(queries), device=queries.device)
    best = []
    for part in rows.split(max(1, _GATHERED[keys.device.type] // (candidates.shape[1] * keys.shape[1]))):
        products = keys[candidates[part]].double() * queries[part, None].double()
        best.append(_sorted(products.sum(dim=-1).float(), candidates[part], k))
    return Nearest(*(torch.cat(parts) for parts in zip(*best, strict=True)))


def _sorted(scores: Tensor, ids: Tensor, k: int) -> Nearest:
    """The best ``k`` of each row by score, then id: of both as one integer."""
    # The bits of floats of one sign are in their order; adding 0 makes a 0 of -0.
    bits = (scores + 0.0).view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    best = ((ordered << 32) | (0xFFFFFFFF - ids)).topk(k, dim=1).values
    bits = (best >> 32).int()
    return Nearest((bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32), 0xFFFFFFFF - (best & 0xFFFFFFFF))


def _tiled(x: Tensor, y: Tensor, k: int, progress: Callable[[int, int], None] | None) -> tuple[Nearest, Nearest]:
    """The CPU form: tiles of fp32 scores, the best of each kept for its rows and for its columns."""
    wide = x.float(), y.float()
    best = [
        (torch.full((len(own), width), -torch.inf), torch.full((len(own), width), -1))
        for own, width in ((x, min(k + SPARE, len(y))), (y, min(k + SPARE, len(x))))
    ]
    for row in range(0, len(x), _TILE):
        for column in range(0, len(y), _TILE):
            tile = wide[0][row : row + _TILE] @ wide[1][column : column + _TILE].T
            for dim, own, other in ((1, row, column), (0, column, row)):
                values, ids = (part[own : own + tile.shape[1 - dim]] for part in best[1 - dim])
                new_values, new_ids = _best_of(tile, dim, values.shape[1])
                values[:], kept = torch.cat([values, new_values], dim=1).topk(values.shape[1], dim=1)
                ids[:] = torch.cat([ids, new_ids + other], dim=1).gather(1, kept)
        if progress:
            progress(min(row + _TILE, len(x)), len(x))
    return _proven(*wide, *best[0], k), _proven(wide[1], wide[0], *best[1], k)


def _best_of(tile: Tensor, dim: int, width: int) -> tuple[Tensor, Tensor]:
    """The largest ``width`` along ``dim``, and where, one row each: found through group maxima, quick to make."""
    scores, count = tile if dim else tile.T, tile.shape[dim]
    if count % _TILE_GROUP or count // _TILE_GROUP <= width:
        return tuple(scores.topk(min(width, count), dim=1))  # type: ignore[return-value]
    maxima = tile.unflatten(dim, (-1, _TILE_GROUP)).amax(dim=dim + 1)
    groups = (maxima if dim else maxima.T).topk(width, dim=1).indices
    members = (groups[:, :, None] * _TILE_GROUP + torch.arange(_TILE_GROUP)).flatten(1)
    values, places = scores.gather(1, members).topk(width, dim=1)
    return values, members.gather(1, places)


def _proven(queries: Tensor, keys: Tensor, values: Tensor, candidates: Tensor, k: int) -> Nearest:
    """The best ``k`` from the candidates with the highest scores, ``values`` in descending order and their type."""
    k = min(k, len(keys))
    if values.shape[1] == len(keys):
        return _ranked(queries, keys, candidates, k)
    longest = longest_of(keys)
    left_out = values[:, -1].double() + rounding_bound(queries, longest, values.dtype)
    return exact_top_k(queries, keys, candidates, left_out, k, longest)


def _grouped(
    x: Tensor, y: Tensor, k: int, chunk: int, progress: Callable[[int, int], None] | None
) -> tuple[Nearest, Nearest]:
    from xlt_kernels.mutual_top_k_triton import group_maxima

    halves = _half(x), _half(y)
    errors = _error_bounds(x, y, *halves)
    found = []
    kept: list[Tensor] | None = None
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        by_row, by_column = group_maxima(halves[0][part], halves[1])
        found.append(_rescored(x[part], y, *_top_groups(by_row, k), errors[0][part], k))
        values, groups = _top_groups(by_column, k)
        groups = groups + start // GROUP
        if kept is not None:
            values, groups = torch.cat([kept[0], values], dim=1), torch.cat([kept[1], groups], dim=1)
            values, places = values.topk(min(k + SPARE + 1, values.shape[1]), dim=1)
            groups = groups.gather(1, places)
        kept = [values, groups]
        if progress:
            progress(min(start + chunk, len(x)), len(x))
    assert kept is not None
    values, groups = kept
    back = [
        _rescored(y[part], x, values[part], groups[part], errors[1][part], k)
        for part in (slice(start, start + chunk) for start in range(0, len(y), chunk))
    ]
    there, here = (Nearest(*(torch.cat(parts) for parts in zip(*side, strict=True))) for side in (found, back))
    return there, here


def _half(vectors: Tensor) -> Tensor:
    """fp16, the width filled up with zeros to whole steps of the product."""
    return torch.nn.functional.pad(vectors, (0, -vectors.shape[1] % GROUP)).half()


def _error_bounds(x: Tensor, y: Tensor, half_x: Tensor, half_y: Tensor) -> tuple[Tensor, Tensor]:
    """E of :func:`mutual_top_k`, for each row of ``x`` with any of ``y``, and for each of ``y``."""
    width = x.shape[1]
    sizes = []
    for exact, half in ((x, half_x), (y, half_y)):
        lost = _norms(exact.float() - half[:, :width].float())
        sizes.append((_norms(exact), _norms(half), lost))
    bounds = []
    for (own, own_half, own_lost), (_, other_half, other_lost) in (sizes, sizes[::-1]):
        sums = (width + 8) * 2.0**-22 * own_half * other_half.max()
        bounds.append(own_lost * other_half.max() + own * other_lost.max() + sums)
    return bounds[0], bounds[1]


def _top_groups(maxima: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The groups to score again and one more: the largest that is left out."""
    return tuple(maxima.topk(min(k + SPARE + 1, maxima.shape[1]), dim=1))  # type: ignore[return-value]


def _rescored(queries: Tensor, keys: Tensor, maxima: Tensor, groups: Tensor, error: Tensor, k: int) -> Nearest:
    from xlt_kernels.mutual_top_k_triton import member_scores

    k = min(k, len(keys))
    # k groups hold a score of at least the k-th maximum - E: one more than 2 E below it holds none of the best.
    floor = maxima[:, min(k, maxima.shape[1]) - 1].double() - 2 * error
    left_out = torch.full_like(error, -torch.inf) if maxima.shape[1] <= k + SPARE else maxima[:, -1].double() + error
    groups = groups[:, : k + SPARE].masked_fill(maxima[:, : k + SPARE] < floor[:, None], -1)
    members = groups.clamp(min=0)[:, :, None] * GROUP + torch.arange(GROUP, device=keys.device)
    found = _sorted(member_scores(queries, keys, groups), members.flatten(1), k)
    unsure = _unproven(left_out, found)
    for rows in unsure.split(max(1, 8 * _LOOKED_AT // len(keys))):
        # No switch for TF32 touches double precision.
        products = queries[rows].double() @ keys.double().T
        again = _proven(queries[rows], keys, *products.topk(min(k + SPARE, len(keys)), dim=1), k)
        found.scores[rows], found.ids[rows] = again
    return found
