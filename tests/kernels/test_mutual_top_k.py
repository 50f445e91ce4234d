"""Neighbours in both directions: the tiles of the CPU, and the group maxima of Triton, against the whole matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from xlt_kernels import mutual_top_k as op
from xlt_kernels.mutual_top_k import exact_top_k, longest_of, mutual_top_k, mutual_top_k_reference


def _unit(rows: int, width: int, seed: int, spread: float = 1.0, device: str = "cpu") -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    centre = torch.zeros(width) if spread == 1 else torch.randn(width, generator=torch.Generator().manual_seed(9))
    return normalize(centre + spread * torch.randn(rows, width, generator=chance), dim=1).to(device)


def _assert_equal(x: Tensor, y: Tensor, k: int, **options: int) -> None:
    for side, wanted in zip(mutual_top_k(x, y, k, **options), mutual_top_k_reference(x, y, k), strict=True):
        assert torch.equal(side.ids, wanted.ids)
        # Double sums in another order, rounded to fp32: the last bit may differ.
        torch.testing.assert_close(side.scores, wanted.scores, rtol=2**-23, atol=1e-14)


@pytest.fixture(params=["tiles", "triton"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "triton":
        return str(request.getfixturevalue("triton_device"))
    monkeypatch.setattr(op, "serves", lambda *_: False)
    monkeypatch.setattr(op, "_TILE", 96)
    monkeypatch.setattr(op, "_TILE_GROUP", 8)
    return "cpu"


SHAPES = [(1, 1, 1), (3, 70, 9), (64, 65, 4), (129, 31, 4), (19, 193, 2), (9, 450, 1), (450, 7, 1)]


@pytest.mark.parametrize(("rows", "columns", "k"), SHAPES)
def test_equals_the_whole_matrix(form, rows, columns, k):
    _assert_equal(_unit(rows, 48, 1, device=form), _unit(columns, 48, 2, device=form), k, chunk=128)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_width_beyond_one_step_and_vectors_that_are_not_of_unit_length(form, dtype):
    x, y = 3 * _unit(40, 150, 3, device=form), 5 * _unit(70, 150, 4, device=form)
    _assert_equal(x.to(dtype), y.to(dtype), 3, chunk=64)


def test_cosines_that_crowd_near_one_and_equal_vectors(form):
    # Closer together than fp16 can tell: no row is proven at first.
    x, y = _unit(9, 32, 5, 1e-4, form), _unit(400, 32, 6, 1e-4, form)
    _assert_equal(x, y, 2, chunk=64)
    copies = _unit(9, 32, 7, device=form)[torch.arange(130, device=form) % 9]
    _assert_equal(x, copies, 4, chunk=64)
    same = torch.full((70, 16), 0.25, device=form)
    there, back = mutual_top_k(same, same[:66], 3, chunk=64)
    assert there.ids.tolist() == [[0, 1, 2]] * 70
    assert back.ids.tolist() == [[0, 1, 2]] * 66
    assert bool((there.scores == 1).all())


def test_what_fp16_cannot_hold_is_searched_in_double_precision(form):
    for scale in (1e5, 1e-9):
        _assert_equal(scale * _unit(9, 16, 8, device=form), _unit(390, 16, 9, device=form), 1, chunk=64)


def test_a_candidate_list_that_misses_the_best_is_found_out():
    queries, keys = _unit(20, 24, 10), _unit(50, 24, 11)
    wanted = mutual_top_k_reference(queries, keys, 2)[0]
    wrong = torch.arange(4).repeat(20, 1)
    best = (queries @ keys.T).amax(dim=1).double() + 1e-6
    longest = longest_of(keys)
    found = exact_top_k(queries, keys, wrong, best, 2, longest)
    assert torch.equal(found.ids, wanted.ids)
    # And with a false bound it is not.
    assert not torch.equal(exact_top_k(queries, keys, wrong, torch.full((20,), -1.0), 2, longest).ids, wanted.ids)
    # Ties across the edge of the candidates: the lower id wins although it was left out.
    twice = torch.cat([keys, keys])
    again = exact_top_k(queries, twice, wanted.ids + 50, wanted.scores[:, 1].double(), 2, longest)
    assert bool((again.ids[:, 0] < 50).all())


def test_group_maxima_are_maxima_within_the_bound_and_the_bound_is_not_idle(triton_device):
    from xlt_kernels.mutual_top_k_triton import group_maxima

    x, y = _unit(150, 128, 12, device=triton_device), _unit(130, 128, 13, device=triton_device)
    halves = op._half(x), op._half(y)
    exact = x.double() @ y.double().T
    errors = op._error_bounds(x, y, *halves)
    for matrix, given, error in zip((exact, exact.T), group_maxima(*halves), errors, strict=True):
        wanted = torch.stack([part.amax(dim=1) for part in matrix.split(64, dim=1)], dim=1)
        assert given.shape == wanted.shape
        off = (given.double() - wanted).abs()
        assert bool((off <= error[:, None]).all())
        # Random rounding is far from the worst case, and unit vectors keep E below 2 * 2**-11 + sums.
        assert 1e-6 < float(off.max()) < float(error.max()) / 4 < 4e-4


def test_progress_is_told(form):
    told: list[tuple[int, int]] = []
    x, y = _unit(150, 16, 1, device=form), _unit(20, 16, 2, device=form)
    mutual_top_k(x, y, 1, chunk=64, progress=lambda *done: told.append(done))
    assert told in ([(64, 150), (128, 150), (150, 150)], [(96, 150), (150, 150)])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_on_a_gpu_at_the_width_of_the_model(spread):
    x, y = _unit(20_000, 1024, 14, spread, "cuda"), _unit(9_999, 1024, 15, spread, "cuda")
    first, second = (mutual_top_k(x, y, 4, chunk=4096) for _ in range(2))
    for side, again, wanted in zip(first, second, mutual_top_k_reference(x, y, 4), strict=True):
        assert torch.equal(side.ids, again.ids)
        assert torch.equal(side.scores, again.scores)
        torch.testing.assert_close(side.scores, wanted.scores, rtol=2**-23, atol=0)
        differ = (side.ids != wanted.ids).nonzero()
        # Only where the two scores are the same number but for the order of double additions.
        for row, place in differ.tolist():
            assert abs(side.scores[row, place] - wanted.scores[row, place]) <= 2**-23
        assert len(differ) < 10
