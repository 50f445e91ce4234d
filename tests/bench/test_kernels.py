"""Rows and peers of the benchmark of kernels, their counts, and that a form which computes otherwise stops it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor
from xlt_kernels.attention import packed_attention
from xlt_kernels.layer_norm import layer_norm

from xlt.bench import kernels, workload
from xlt.bench.kernels import bench_kernels
from xlt.bench.shapes import sample_lengths
from xlt.bench.workload import NOT_COMPILED, Bench

TOKENS = 400
PLAIN = "ours, in its plain form: no kernel here"


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kernels.TOKENS, "small", TOKENS)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setitem(sys.modules, "liger_kernel", None)
        yield patch


@pytest.fixture(scope="module")
def rates() -> list[float]:
    return []


@pytest.fixture(scope="module")
def result(patch: pytest.MonkeyPatch, rates: list[float]) -> Bench:
    def spy(*inputs: Any, **options: Any) -> Tensor:
        rates.append(options["dropout_p"])
        return layer_norm(*inputs, **options)

    patch.setattr("xlt_kernels.layer_norm.layer_norm", spy)
    return bench_kernels("small", 2)


def test_a_row_per_kernel_with_ours_first(result: Bench) -> None:
    assert [row.name for row in result.workloads] == [
        "attention, mnli", "attention, squad", "LayerNorm", "GELU", "embeddings",
    ]  # fmt: skip
    assert {row.timings[0].name for row in result.workloads} == {PLAIN}
    assert all(row.share is not None for row in result.workloads)


def test_every_peer_runs_or_says_why_not(result: Bench) -> None:
    found = {row.name: {each.name: each.not_run for each in row.timings[1:]} for row in result.workloads}
    assert found["attention, squad"] == {
        "aten flash varlen": "needs a GPU",
        "SDPA, padded, with mask": "",
        "eager torch, padded": "",
        "torch.compile of eager torch, padded": NOT_COMPILED,
        "nested-jagged SDPA, without a CUDA graph": "",
        "FlexAttention, no dropout (it has none), document mask made before": "needs a GPU",
    }
    liger = found["LayerNorm"].pop("Liger LayerNorm, eager dropout and residual")
    assert "liger_kernel" in liger
    elementwise = {"eager torch": "", "torch.compile of eager torch": NOT_COMPILED}
    assert found["LayerNorm"] == found["GELU"] == found["embeddings"] == elementwise


def test_compared_without_dropout_and_timed_with_it(result: Bench, rates: list[float]) -> None:
    assert rates == [0.0] + [0.1] * (workload.WARM_UP + result.workloads[2].rounds)


def first(task: str) -> list[int]:
    drawn = sample_lengths(task, 100)
    return [length for length, end in zip(drawn, accumulate(drawn), strict=True) if end <= TOKENS]


def test_quantities_counted_from_the_shapes(result: Bench) -> None:
    width, inner, fp32 = 128, 512, 4
    mnli, _, norm, gelu, embeddings = (row.quantity for row in result.workloads)
    lengths = first("mnli")
    # Scores, weighted values; backward the gradients of both factors of each. A product is a multiplication and a sum.
    assert mnli["flop"] == sum(2 * length * length * width for length in lengths) * (2 + 4)
    # q, k, v, out; then q, k, v, out and its gradient, and three gradients.
    assert mnli["bytes"] == (4 + 8) * sum(lengths) * width * fp32
    assert mnli["tokens"] == sum(lengths)
    assert norm["bytes"] == (3 + 5) * TOKENS * width * fp32
    assert gelu["bytes"] == (2 + 3) * TOKENS * inner * fp32
    # Of each token a row read and one written; backward its gradient read, a row of the sum read and written again;
    # the gradient of the 11,242 rows is zero at first.
    assert embeddings["bytes"] == (11_242 + 4 * 726) * width * fp32


@pytest.mark.parametrize("broken", ["output", "gradient"])
def test_a_kernel_that_computes_otherwise_is_not_timed_and_the_other_rows_are(
    broken: str, patch: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*inputs: Any, **options: Any) -> Tensor:
        out = packed_attention(*inputs, **options)
        return 1.001 * out if broken == "output" else 1.001 * out - 0.001 * out.detach()

    monkeypatch.setattr(kernels, "packed_attention", other)
    result = bench_kernels("small", 2)
    assert not result.sound
    attention, *_, gelu, _ = result.workloads
    assert f"result {0 if broken == 'output' else 1} is off by" in attention.timings[0].not_run
    assert gelu.timings[0].seconds
