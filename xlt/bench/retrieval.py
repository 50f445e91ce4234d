"""Neighbours in both directions and whole BUCC mining, beside searches that find the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from xlt_kernels.mutual_top_k import mutual_top_k

from xlt.bench.embed import SLOTS, batches_of_slots, padded_batch, padded_vectors, unit_means_of
from xlt.bench.library import library_encoder
from xlt.bench.shapes import CONFIGS, RESERVED, RETRIEVAL_LAYER, Size, fresh_encoder, random_sequences
from xlt.bench.workload import NEEDS_GPU, Bench, Candidate, NotRun, Workload, bench, check_output, compare, reason
from xlt.data.packing import Encoded
from xlt.data.predictions import Prediction
from xlt.evaluate.pair_f1 import best_threshold
from xlt.pipeline.training import evaluation_tokens
from xlt.retrieval.embed import embed
from xlt.retrieval.mining import mine
from xlt.retrieval.search import Floats, nearest_both, search_report

K = 4
# German and English of BUCC, at XLM-R Large's width; and what a CPU does in a second.
SIZES: dict[Size, tuple[int, int, int]] = {"large": (413_869, 399_337, 1024), "small": (4096, 4000, 256)}
SLICE: dict[Size, int] = {"large": 16, "small": 1}  # baselines in fp32 get one in so many vectors of either side
SENTENCES: dict[Size, int] = {"large": 8192, "small": 200}  # of B10, a side
TILE = {"cpu": 1 << 24, "cuda": 1 << 30}  # scores that baselines hold at a time
REPLACED = 3  # one token in so many, of the copies that are the translations of B10
BATCH = 100  # XTREME's
Both = tuple[Tensor, Tensor]


def bench_retrieval(size: Size, rounds: int) -> Bench:
    """Time the search for neighbours in both directions (B9), and mining from token ids to F1 (B10).

    Implementations whose neighbours differ from those of a plain product (except at ties) are skipped; if ours differ,
    the workload is skipped.
    """
    rows, columns, width = SIZES[size]
    part = SLICE[size]
    x, y = _vectors(rows, width, 1), _vectors(columns, width, 2)
    workloads = [_search("B9 neighbours, both directions", "all", x, y, rounds)]
    if part > 1:
        about = f"1/{part} of either side, where the products are 1/{part**2} of all: baselines too slow for the whole"
        workloads.append(_search("B9 slice", about, x[: rows // part], y[: columns // part], rounds, slow=True))
    x, y = _vectors(rows // part, width, 1, centre=3.0), _vectors(columns, width, 2, centre=3.0)
    about = "cosines about 0.9, as an encoder's are" + (f"; 1/{part} of one side" if part > 1 else "")
    workloads.append(_search("B9 crowded", about, x, y, rounds))
    del x, y
    with torch.inference_mode():
        workloads.append(_mining(size, rounds))
    return bench("retrieval", {"size": size, "k": K, "width": width}, workloads)


def _vectors(count: int, width: int, seed: int, centre: float = 0.0) -> Tensor:
    """Random unit vectors ``[count, width]`` around one direction, in the type and place in which they are searched."""
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    generator = torch.Generator(device).manual_seed(seed)
    vectors = torch.randn(count, width, generator=generator, device=device)
    return normalize(vectors.add_(centre), dim=1).to(dtype)


def _search(name: str, about: str, x: Tensor, y: Tensor, rounds: int, *, slow: bool = False) -> Workload:
    width = x.shape[1]

    def ours() -> Both:
        there, back = mutual_top_k(x, y, K)
        return there.ids, back.ids

    def scores(way: Callable[[], Both]) -> list[Tensor]:
        ids = [side.to(x.device) for side in way()]
        return [_scores(x, y, ids[0]), _scores(y, x, ids[1])]

    wanted = scores(partial(_two_products, x, y))
    # Ties: on either side two scores taken for one another, each rounded and off by what fp32 additions may lose.
    rounding = 2**-11 if x.dtype == torch.float16 else 0.0
    ties = 4 * (rounding + (width + 8) * 2**-22 / min(float(side.max()) for side in wanted))

    def checked(name: str, way: Callable[[], Both]) -> Candidate | NotRun:
        return check_output(name, way, partial(scores, way), wanted, ties)

    candidates = [checked("xlt, one product, exact scores", ours)]
    if x.is_cuda and not slow:
        candidates.append(checked("torch fp16, a product each way", partial(_two_products, x, y)))
        candidates.append(checked("torch fp16, one product", partial(_one_product, x, y)))
    else:
        wide = x.float(), y.float()
        candidates.append(checked("torch fp32, a product each way", partial(_two_products, *wide)))
        candidates.append(checked("torch fp32, one product", partial(_one_product, *wide)))
        candidates.append(checked("xlt, FAISS each way, exact scores", partial(_by_faiss, *wide)))
        for name, make in (("FAISS, a search each way", _faiss), ("cupy fp32, a product each way", _cupy)):
            try:
                candidates.append(checked(name, make(*wide)))
            except (ImportError, NotImplementedError) as error:
                candidates.append(NotRun(name, reason(error)))
    return compare(
        name,
        f"{len(x)} x {len(y)} unit vectors of width {width}, {K} neighbours of each; {about}",
        candidates,
        rounds=rounds,
        # FLOP of one product; a product each way is twice as much.
        quantity={"vectors": len(x) + len(y), "flop": 2.0 * len(x) * len(y) * width},
        ceiling="matmul",
        warm_up=1,
    )


def _scores(queries: Tensor, keys: Tensor, ids: Tensor) -> Tensor:
    """What the keys found score, ``[N, K]``, in double precision and highest first."""
    parts = [
        (queries[rows, None].double() * keys[ids[rows]].double()).sum(-1)
        for rows in torch.arange(len(queries), device=queries.device).split(16384)
    ]
    return torch.cat(parts).sort(dim=1, descending=True).values


def _two_products(x: Tensor, y: Tensor) -> Both:
    one, other = (
        torch.cat([(part @ keys.T).topk(K, dim=1).indices for part in queries.split(_rows(keys))])
        for queries, keys in ((x, y), (y, x))
    )
    return one, other


def _one_product(x: Tensor, y: Tensor) -> Both:
    by_row, start = [], 0
    best = x.new_full((K, len(y)), -torch.inf)
    best_ids = torch.zeros((K, len(y)), dtype=torch.int64, device=x.device)
    for part in x.split(_rows(y)):
        scores = part @ y.T
        by_row.append(scores.topk(K, dim=1).indices)
        values, ids = scores.topk(min(K, len(part)), dim=0)
        best, kept = torch.cat([best, values]).topk(K, dim=0)
        best_ids = torch.cat([best_ids, ids + start]).gather(0, kept)
        start += len(part)
    return torch.cat(by_row), best_ids.T


def _rows(keys: Tensor) -> int:
    return max(1, TILE[keys.device.type] // len(keys))


def _faiss(x: Tensor, y: Tensor) -> Callable[[], Both]:
    faiss, where = import_module("faiss"), search_report()
    arrays = x.cpu().numpy(), y.cpu().numpy()
    resources = faiss.StandardGpuResources() if where["device"] == "cuda" else None

    def search(queries: Floats, keys: Floats) -> Tensor:
        width = keys.shape[1]
        index = faiss.GpuIndexFlatIP(resources, width) if resources else faiss.IndexFlatIP(width)
        index.add(keys)
        return torch.from_numpy(index.search(queries, K)[1])

    return lambda: (search(*arrays), search(*arrays[::-1]))


def _by_faiss(x: Tensor, y: Tensor) -> Both:
    (_, there), (_, back) = nearest_both(x.cpu().numpy(), y.cpu().numpy(), K, engine="faiss")
    return torch.from_numpy(there), torch.from_numpy(back)


def _cupy(x: Tensor, y: Tensor) -> Callable[[], Both]:
    if not x.is_cuda:
        raise NotImplementedError(NEEDS_GPU)
    cupy = import_module("cupy")
    rows = _rows(y)

    def search(queries: Tensor, keys: Tensor) -> Tensor:
        matrix = cupy.from_dlpack(keys).T
        parts = [
            cupy.argpartition(-(cupy.from_dlpack(part) @ matrix), K, axis=1)[:, :K] for part in queries.split(rows)
        ]
        return torch.utils.dlpack.from_dlpack(cupy.concatenate(parts))

    return lambda: (search(x, y), search(y, x))


def _mining(size: Size, rounds: int) -> Workload:
    model = fresh_encoder(size)
    layer = RETRIEVAL_LAYER[size]
    foreign, english = _bitext(size)
    count = len(foreign)
    ids = [f"f{index}" for index in range(count)], [f"e{index}" for index in range(count)]
    gold = list(zip(*(names[: count // 2] for names in ids), strict=True))
    truncated = unit_means_of(library_encoder(model, layer))
    whole = library_encoder(model, int(CONFIGS[size]["num_hidden_layers"]))
    wide = torch.empty((0, CONFIGS[size]["hidden_size"]))

    def ours() -> float:
        x, y = (
            embed(model, side, layer=layer, max_tokens=evaluation_tokens(), device=model.device)
            for side in (foreign, english)
        )
        return best_threshold(mine(x, y, *ids, engine="mutual"), gold)[1]

    def tuned() -> float:
        x, y = (
            padded_vectors(side, batches_of_slots(side, SLOTS[size], by_length=True), wide, truncated).numpy()
            for side in (foreign, english)
        )
        return best_threshold(mine(x, y, *ids, engine="faiss"), gold)[1]

    def as_xtreme() -> float:
        x, y = (_every_layer(whole, side)[layer] for side in (foreign, english))
        return best_threshold([Prediction(ids[0][i], ids[1][j], margin) for i, j, margin in _mined(x, y)], gold)[1]

    f1 = as_xtreme()
    searched = "FAISS" if find_spec("faiss") else "torch fp32 for FAISS"
    ways = {
        "xlt": ours,
        f"library, {layer} layers, by length; FAISS each way": tuned,
        f"XTREME's way, {searched}": as_xtreme,
    }
    return compare(
        "B10 mining, from token ids to F1",
        f"{count} sentences a side, of BUCC's lengths; half are translations, copies with one token in {REPLACED} "
        f"replaced; F1 {f1:.1f}, which all reach to 1 %, since vectors differ in their last bits",
        [
            check_output(name, run, lambda run=run: [torch.tensor([run()])], [torch.tensor([f1])], 0.01)  # type: ignore[misc]
            for name, run in ways.items()
        ],
        rounds=rounds,
        quantity={"sentences": 2 * count},
        warm_up=1,
    )


def _bitext(size: Size) -> tuple[list[Encoded], list[Encoded]]:
    """Foreign and English sequences; the first half of the foreign ones are copies of the English with other tokens."""
    english = [replace(each, label=()) for each in random_sequences("bucc2018", SENTENCES[size], size)]
    rng = np.random.default_rng(1)
    foreign = []
    for index, each in enumerate(english):
        other = rng.integers(RESERVED, CONFIGS[size]["vocab_size"], len(each.input_ids), dtype=np.int32)
        kept = rng.random(len(other)) * REPLACED > 1 if index < len(english) // 2 else np.zeros(len(other), dtype=bool)
        kept[[0, -1]] = True
        foreign.append(replace(each, input_ids=np.where(kept, each.input_ids, other)))
    return foreign, english


def _every_layer(encoder: Any, sequences: Sequence[Encoded]) -> list[Floats]:
    """The unit mean of every block's output, each copied to the host, in batches of 100 sentences as they come."""
    found = []
    for start in range(0, len(sequences), BATCH):
        ids, mask = padded_batch(sequences[start : start + BATCH])
        states = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        weights = mask[:, :, None]
        found.append([((state.float() * weights).sum(1) / weights.sum(1)).cpu().numpy() for state in states])
        if ids.is_cuda:
            torch.cuda.empty_cache()
    layers = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return [each / np.linalg.norm(each, axis=1, keepdims=True) for each in layers]


def _mined(x: Floats, y: Floats) -> list[tuple[int, int, float]]:
    """Pairs by ratio margin, highest first and one to one: a search each way, then loops over sentences."""
    (there, found), (back, found_back) = _scored_neighbours(x, y), _scored_neighbours(y, x)
    x_means, y_means = there.mean(axis=1), back.mean(axis=1)

    def best(
        row: int, near: Sequence[int], one: Floats, other: Floats, means: tuple[Floats, Floats]
    ) -> tuple[float, int]:
        return max((float(one[row].dot(other[each])) / ((means[0][row] + means[1][each]) / 2), each) for each in near)

    forward = [best(row, near, x, y, (x_means, y_means)) for row, near in enumerate(found.tolist())]
    backward = [best(row, near, y, x, (y_means, x_means)) for row, near in enumerate(found_back.tolist())]
    pairs = [(margin, row, column) for row, (margin, column) in enumerate(forward)]
    pairs += [(margin, row, column) for column, (margin, row) in enumerate(backward)]
    rows, columns, kept = set(), set(), []
    for margin, row, column in sorted(pairs, reverse=True):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            kept.append((row, column, margin))
    return kept


def _scored_neighbours(queries: Floats, keys: Floats) -> tuple[Any, Any]:
    if find_spec("faiss"):
        index = import_module("faiss").IndexFlatIP(keys.shape[1])
        index.add(keys)
        return index.search(queries, K)  # type: ignore[no-any-return]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one, other = torch.from_numpy(queries).to(device), torch.from_numpy(keys).to(device)
    best = (one @ other.T).topk(K, dim=1)
    return best.values.cpu().numpy(), best.indices.cpu().numpy()
