"""Mining by ratio margin against plain loops, and cases worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from xlt.data.predictions import Prediction, read_predictions, write_predictions
from xlt.errors import DataFault
from xlt.retrieval.mining import mine, six_digits
from xlt.retrieval.search import Floats


def _ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{index}" for index in range(count)]


def _brute_force(foreign: Floats, english: Floats, k: int) -> list[tuple[int, int, float]]:
    cosine = [
        [float(np.float32(sum(float(a) * float(b) for a, b in zip(x, y, strict=True)))) for y in english]
        for x in foreign
    ]
    rows, columns = range(len(foreign)), range(len(english))
    near_row = [sorted(columns, key=lambda y: (-cosine[x][y], y))[:k] for x in rows]
    near_column = [sorted(rows, key=lambda x: (-cosine[x][y], x))[:k] for y in columns]

    def margin(x: int, y: int) -> float:
        mean_x = sum(cosine[x][other] for other in near_row[x]) / len(near_row[x])
        mean_y = sum(cosine[other][y] for other in near_column[y]) / len(near_column[y])
        return float(f"{cosine[x][y] / ((mean_x + mean_y) / 2):.6g}") if mean_x + mean_y > 0 else 0.0

    pool = {(x, max(near_row[x], key=lambda y: (margin(x, y), -y))) for x in rows}
    pool |= {(max(near_column[y], key=lambda x: (margin(x, y), -x)), y) for y in columns}
    kept: list[tuple[int, int, float]] = []
    for x, y in sorted(pool, key=lambda pair: (-margin(*pair), pair)):
        if margin(x, y) > 0 and all(x != row and y != column for row, column, _ in kept):
            kept.append((x, y, margin(x, y)))
    return kept


def _check(foreign: Floats, english: Floats, k: int) -> list[tuple[int, int, float]]:
    given = mine(foreign, english, _ids("f", len(foreign)), _ids("e", len(english)), k=k)
    expected = _brute_force(foreign, english, k)
    assert given == [Prediction(f"f{x}", f"e{y}", margin) for x, y, margin in expected]
    return expected


def _unit(vectors: np.ndarray) -> Floats:
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.parametrize("shape", [(30, 41), (41, 30), (3, 20), (20, 3), (1, 1), (2, 3), (1, 9)])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_equals_plain_loops(shape: tuple[int, int], k: int) -> None:
    rng = np.random.default_rng(0)
    for offset in (0, 2):  # cosines around 0, of both signs, and all positive as an encoder's are
        centre = offset * np.ones(8)
        foreign = _unit(rng.normal(size=(shape[0], 8)) + centre)
        _check(foreign, _unit(rng.normal(size=(shape[1], 8)) + centre), k)
        # Exact ties, of cosines and of margins: few distinct vectors, of quarters.
        grid = rng.integers(0, 3, size=(2, max(shape), 4)).astype(np.float32) / 4
        _check(grid[0, : shape[0]], grid[1, : shape[1]], k)
        # Margins that are equal once rounded while their cosines differ.
        crowd = _unit(1 + 1e-3 * rng.normal(size=(2 * max(shape), 8)))
        _check(crowd[: shape[0]], crowd[-shape[1] :], k)


def test_only_ties() -> None:
    same = np.full((5, 4), 0.5, dtype=np.float32)
    # Every sentence's best is the first of the other side: one pair, and the others find it taken.
    assert _check(same, same[:3], 4) == [(0, 0, 1.0)]


def _at(degrees: Sequence[float]) -> Floats:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_last_neighbour_can_be_the_best() -> None:
    # By cosine f0 is nearest to e0 (10 degrees), then to e1 (20), its last neighbour. But e0 is a hub: f1 and
    # f2 lie on it.  margin(f0, e0) = cos 10 / ((cos 10 + cos 20 + cos 0 + cos 1) / 4) = 1.00375
    #                margin(f0, e1) = cos 20 / ((cos 10 + cos 20 + cos 20 + cos 30) / 4) = 1.00762
    cos = np.cos(np.deg2rad(np.arange(31)))
    hub = 4 * cos[10] / (cos[10] + cos[20] + cos[0] + cos[1])
    last = 4 * cos[20] / (cos[10] + 2 * cos[20] + cos[30])
    assert last > hub
    foreign, english = _at([0, 10, 11]), _at([10, -20])
    given = mine(foreign, english, ["f0", "f1", "f2"], ["e0", "e1"], k=2)
    assert Prediction("f0", "e1", last) in given
    # And with the sides exchanged, where the backward direction has to find it.
    given = mine(english, foreign, ["e0", "e1"], ["f0", "f1", "f2"], k=2)
    assert Prediction("e1", "f0", last) in given


def test_a_sentence_that_nobody_chose_is_found_from_the_other_side() -> None:
    # k = 1: every mean is the nearest cosine. f0 chooses e0 (0 degrees) and so does f1 (20); e1 at 50 is
    # nearest to f1 (30): margin cos 30 / ((cos 20 + cos 30) / 2), kept because it was pooled.
    cos = np.cos(np.deg2rad([20, 30]))
    given = mine(_at([0, 20]), _at([0, 50]), ["f0", "f1"], ["e0", "e1"], k=1)
    assert given == [Prediction("f0", "e0", 1.0), Prediction("f1", "e1", 2 * cos[1] / cos.sum())]


def test_opposite_sentences_are_no_candidates() -> None:
    # cos 180 / cos 180 would be a margin of 1, and 0 / 0 none at all.
    assert mine(_at([0]), _at([180]), ["f"], ["e"]) == []
    assert mine(np.eye(2, dtype="f4")[:1], np.eye(2, dtype="f4")[1:], ["f"], ["e"]) == []


def test_sentences_with_the_same_text_are_one_and_stand_for_all_their_ids() -> None:
    foreign, english = _at([0, 40, 0, 80]), _at([1, 41, 81])
    merged = mine(foreign, english, _ids("f", 4), _ids("e", 3), ["a", "b", "a", "c"], k=2)
    distinct = mine(foreign[[0, 1, 3]], english, ["f0", "f1", "f3"], _ids("e", 3), k=2)
    margins = {(given.id, given.prediction): given.score for given in merged}
    assert margins.pop(("f2", "e0")) == margins[("f0", "e0")]
    assert margins == {(given.id, given.prediction): given.score for given in distinct}
    # Not merged, the second "a" is another neighbour, and its pair is taken by the first.
    apart = mine(foreign, english, _ids("f", 4), _ids("e", 3), k=2)
    assert [given.id for given in apart].count("f2") == 0
    assert [given.score for given in apart] != [given.score for given in distinct]
    both = mine(foreign, english, _ids("f", 4), _ids("e", 3), ["a", "b", "a", "c"], ["x", "y", "x"], k=2)
    assert {("f0", "e0"), ("f0", "e2"), ("f2", "e0"), ("f2", "e2")} <= {(p.id, str(p.prediction)) for p in both}


def test_stored_candidates_are_in_the_order_of_their_stored_margins(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    centre = rng.normal(size=16)
    # Margins that crowd around 1: many are equal once stored, and their order must be that of the ids.
    foreign, english = (_unit(centre + 1e-3 * rng.normal(size=(200, 16))) for _ in range(2))
    given = mine(foreign, english, _ids("f", 200), _ids("e", 200))
    write_predictions(tmp_path / "x.jsonl.gz", given)
    stored = read_predictions(tmp_path / "x.jsonl.gz")
    assert stored == given
    assert len({row.score for row in stored}) < len(stored)
    assert stored == sorted(stored, key=lambda row: (-row.score, int(row.id[1:])))
    assert len({row.id for row in stored}) == len({row.prediction for row in stored}) == len(stored)


def _as_text(scores: np.ndarray) -> np.ndarray:
    return np.array([float(f"{score:.6g}") for score in scores.tolist()])


@pytest.mark.parametrize("seed", range(4))
def test_margins_are_rounded_as_their_text_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    margins = rng.normal(1, 0.05, 20_000)
    sizes = rng.choice([-1, 1], 20_000) * 10.0 ** rng.uniform(-40, 40, 20_000)
    # Halves of the last digit, where one bit decides, and powers of ten, where the digits begin elsewhere; the numbers
    # beside them too.
    halves = (rng.integers(100_000, 1_000_000, 5_000) + 0.5) / 10.0 ** rng.integers(0, 12, 5_000)
    tens = np.array(
        [float(f"{digits}e{place}") for place in range(-12, 12) for digits in ("1", "0.9999995", "0.999999")]
    )
    edges = np.concatenate([halves, -halves, tens, np.arange(0, 2, 1 / 512), [0.0, -0.0, 5e-324, 1.7e308]])
    edges = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    edges = edges[np.isfinite(edges)]
    for scores in (margins, sizes, edges, margins.astype(np.float32)):
        assert six_digits(scores).tolist() == _as_text(scores).tolist()
    # And hardly one margin is written as text for that.
    with pytest.MonkeyPatch.context() as patch:
        texts: list[int] = []
        patch.setattr(np.char, "mod", lambda form, left: texts.append(len(left)) or _as_text(left))
        six_digits(margins)
    assert sum(texts) < 200


def test_refusals() -> None:
    with pytest.raises(ValueError, match="zip"):
        mine(_at([0, 1]), _at([0]), ["f0"], ["e0"])
    with pytest.raises(ValueError, match="zip"):
        mine(_at([0]), _at([0]), ["f0"], ["e0"], ["a", "b"])
    with pytest.raises(DataFault, match="at least one"):
        mine(np.zeros((0, 2), dtype="f4"), _at([0]), [], ["e0"])
