"""Nearest neighbours of every engine against brute force, ties included."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from xlt_kernels.mutual_top_k import longest_of

from xlt.errors import DataFault, UsageFault
from xlt.retrieval.search import Floats, Ids, SearchEngine, nearest, nearest_both, search_engine, search_report

ENGINES = get_args(SearchEngine)


def _brute_force(queries: Floats, keys: Floats, k: int) -> tuple[Floats, Ids]:
    products = (queries[:, None].astype(np.float64) * keys[None].astype(np.float64)).sum(axis=-1)
    scores: Floats = products.astype(np.float32)
    order = np.array([sorted(range(len(keys)), key=lambda key: (-row[key], key))[:k] for row in scores])
    best: Floats = np.take_along_axis(scores, order, axis=1)
    return best, order


def _unit(vectors: np.ndarray) -> Floats:
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _check(queries: Floats, keys: Floats, k: int, engine: SearchEngine) -> None:
    scores, ids = nearest(queries, keys, k, engine=engine)
    expected_scores, expected_ids = _brute_force(queries, keys, k)
    assert ids.tolist() == expected_ids.tolist()
    assert scores.tolist() == expected_scores.tolist()
    assert scores.dtype == np.float32


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("queries", "keys", "k"), [(300, 211, 1), (7, 211, 4), (5, 3, 4), (3, 1, 1), (1, 1, 9)])
def test_equals_brute_force(engine: SearchEngine, queries: int, keys: int, k: int) -> None:
    rng = np.random.default_rng(0)
    _check(_unit(rng.normal(size=(queries, 48))), _unit(rng.normal(size=(keys, 48))), k, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_keys_come_in_the_order_of_their_ids(engine: SearchEngine) -> None:
    rng = np.random.default_rng(1)
    distinct = _unit(rng.normal(size=(20, 100)))
    keys = distinct[rng.integers(0, 20, 333)]  # about 17 copies of each: a tie is cut at any k
    for k in (1, 4, 20):
        _check(_unit(rng.normal(size=(40, 100))), keys, k, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_near_ties_and_cosines_that_crowd_near_one(engine: SearchEngine) -> None:
    rng = np.random.default_rng(2)
    centre = rng.normal(size=64)
    keys = _unit(centre + 1e-4 * rng.normal(size=(400, 64)))
    _check(_unit(centre + 1e-4 * rng.normal(size=(30, 64))), keys, 4, engine)


@pytest.mark.parametrize("spread", [1.0, 1e-4])
@pytest.mark.parametrize(("rows", "columns", "k"), [(90, 310, 4), (310, 3, 4), (1, 1, 1)])
def test_one_product_for_both_directions_finds_what_faiss_finds(rows: int, columns: int, k: int, spread: float) -> None:
    rng = np.random.default_rng(5)
    centre = rng.normal(size=64) * (spread < 1)
    x, y = (_unit(centre + spread * rng.normal(size=(count, 64))) for count in (rows, columns))
    y[columns // 2 :] = y[: columns - columns // 2]  # equal vectors: ties at any k
    told: list[tuple[int, int]] = []
    both = nearest_both(x, y, k, engine="mutual", progress=lambda *done: told.append(done))
    for given, expected in zip(both, nearest_both(x, y, k), strict=True):
        assert given[1].tolist() == expected[1].tolist()
        assert given[0].tolist() == expected[0].tolist()
    assert told == [(rows, rows)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spread", [1.0, 1e-4])
def test_queries_in_parts_find_the_same_and_tell_how_far_they_are(
    engine: SearchEngine, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    x, y = (_unit(rng.normal(size=32) * (spread < 1) + spread * rng.normal(size=(n, 32))) for n in (70, 55))
    whole = nearest_both(x, y, 3, engine=engine)
    monkeypatch.setattr("xlt.retrieval.search._QUERIES", 16)
    monkeypatch.setattr("xlt_kernels.mutual_top_k._TILE", 32)
    told: list[tuple[int, int]] = []
    for given, wanted in zip(
        nearest_both(x, y, 3, engine=engine, progress=lambda *done: told.append(done)), whole, strict=True
    ):
        assert given[1].tolist() == wanted[1].tolist()
        assert given[0].tolist() == wanted[0].tolist()
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == ((70, 70) if engine == "mutual" else (125, 125))


@pytest.mark.parametrize("engine", ENGINES)
def test_fp16_is_searched_as_the_numbers_it_holds(engine: SearchEngine) -> None:
    rng = np.random.default_rng(7)
    x, y = (_unit(rng.normal(size=(n, 32))).astype(np.float16) for n in (20, 90))
    given, wanted = nearest(x, y, 4, engine=engine), nearest(x.astype(np.float32), y.astype(np.float32), 4)
    assert given[1].tolist() == wanted[1].tolist()
    assert given[0].tolist() == wanted[0].tolist()


def test_the_engine_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.eye(3, dtype=np.float32)
    for setting, wanted in (("", "faiss"), *((each, each) for each in ENGINES)):
        monkeypatch.setenv("XLT_SEARCH", setting)
        assert search_engine() == wanted
    asked: list[SearchEngine] = []
    indexes: dict[SearchEngine, Any] = {each: lambda keys, each=each: asked.append(each) for each in ENGINES}
    monkeypatch.setattr("xlt.retrieval.search._INDEXES", indexes)
    monkeypatch.setenv("XLT_SEARCH", "torch")
    for engine in (None, "faiss-cpu"):
        with pytest.raises(TypeError):  # None is no index
            nearest(vectors, vectors, 1, engine=engine)  # type: ignore[arg-type]
    assert asked == ["torch", "faiss-cpu"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_encoder_that_gives_one_vector_for_everything(engine: SearchEngine) -> None:
    same = np.full((50, 16), 0.25, dtype=np.float32)
    scores, ids = nearest(same, same, 2, engine=engine)
    assert ids.tolist() == [[0, 1]] * 50
    assert scores.tolist() == [[1.0, 1.0]] * 50


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_need_not_be_cosines(engine: SearchEngine) -> None:
    rng = np.random.default_rng(3)
    _check(rng.normal(size=(9, 8)).astype("f4") * 100, rng.normal(size=(90, 8)).astype("f4") - 50, 3, engine)


@pytest.mark.parametrize(
    ("queries", "keys", "message"),
    [
        (np.zeros((0, 4)), np.ones((3, 4)), r"at least one of its queries: their shape is \(0, 4\)"),
        (np.ones((3, 4)), np.zeros((0, 4)), r"at least one of its keys: their shape is \(0, 4\)"),
        (np.ones(4), np.ones((3, 4)), r"queries: their shape is \(4,\)"),
        (np.ones((3, 4)), np.ones((3, 5)), "width 4 cannot be searched in keys of 5"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), "queries of a search hold values that are not finite"),
        (np.ones((3, 4)), np.full((3, 4), np.inf), "keys of a search hold values that are not finite"),
    ],
)
def test_what_cannot_be_searched(queries: np.ndarray, keys: np.ndarray, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        nearest(queries.astype(np.float32), keys.astype(np.float32), 1)


def test_wrong_arguments() -> None:
    vectors = np.ones((2, 4), dtype=np.float32)
    with pytest.raises(UsageFault, match="0 nearest"):
        nearest(vectors, vectors, 0)
    with pytest.raises(UsageFault, match="no search engine 'annoy'"):
        nearest(vectors, vectors, 1, engine="annoy")  # type: ignore[arg-type]


def test_the_lengths_of_the_keys_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(keys: torch.Tensor) -> torch.Tensor:
        seen.append(len(keys))
        return longest_of(keys)

    monkeypatch.setattr("xlt.retrieval.search._QUERIES", 16)
    monkeypatch.setattr("xlt.retrieval.search.longest_of", counted)
    rng = np.random.default_rng(8)
    _check(_unit(rng.normal(size=(50, 16))), _unit(rng.normal(size=(90, 16))), 2, "faiss")
    assert seen == [90]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_candidates_are_scored_again_there_and_give_what_the_cpu_gives() -> None:
    rng = np.random.default_rng(9)
    x, y = (_unit(2 + rng.normal(size=(count, 1024))) for count in (20_000, 5_000))
    torch.cuda.reset_peak_memory_stats()
    (scores, ids), (wanted, places) = (nearest(x, y, 4, engine=engine) for engine in ("torch", "faiss-cpu"))
    assert torch.cuda.max_memory_allocated() > 2 * y.nbytes
    # Their double sums may differ in order, and so a score in its last bit.
    np.testing.assert_allclose(scores, wanted, rtol=2**-23)
    assert (ids != places).sum() < 10


def test_the_report_names_the_build_and_the_device() -> None:
    report = search_report()
    assert set(report) == {"faiss", "build", "index", "device"}
    assert report["faiss"].count(".") == 2
    assert (report["device"], report["index"]) in [("cpu", "IndexFlatIP"), ("cuda", "GpuIndexFlatIP")]


def test_a_gpu_is_used_where_faiss_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    made = []

    def gpu_index(resources: object, width: int) -> faiss.IndexFlatIP:
        made.append(resources)
        return faiss.IndexFlatIP(width)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatIP", gpu_index, raising=False)
    monkeypatch.setattr("xlt.retrieval.search._gpu_resources", lambda: "resources")
    rng = np.random.default_rng(4)
    queries, keys = _unit(rng.normal(size=(5, 8))), _unit(rng.normal(size=(30, 8)))
    _check(queries, keys, 2, "faiss")
    assert made == ["resources"]
    assert search_report()["device"] == "cuda"
    _check(queries, keys, 2, "faiss-cpu")
    assert made == ["resources"]
