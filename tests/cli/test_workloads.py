"""``xlt bench kernels`` and its like: rates and shares for people, who did not run and why, and clear refusals."""

from __future__ import annotations

import sys
import types

import pytest

from tests.cli.conftest import Invoke
from xlt.bench.workload import ALONE, Bench, Ceilings, Timing, Workload
from xlt.cli.workloads import WORKLOADS
from xlt.errors import ExitCode

ROW = Workload(
    name="B0",
    about="Two ways to add.",
    rounds=7,
    quantity={"flop": 3e9},
    ceiling="matmul",
    share=0.5,
    timings=[
        Timing(name="ours", seconds=0.001, seconds_p10=0.001, seconds_p90=0.002, ratio=1, ratio_p10=1, ratio_p90=1),
        Timing(name="peer", seconds=0.003, seconds_p10=0.003, seconds_p90=0.003, ratio=3, ratio_p10=2.5, ratio_p90=3.5),
        Timing(name="liger", not_run="not installed"),
    ],
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the benchmark was asked for; it answers at once."""
    calls: list[tuple[str, int]] = []

    def measure(size: str, rounds: int) -> Bench:
        calls.append((size, rounds))
        limits = Ceilings(dtype="float32", matmul_flop_per_s=6e12, copy_bytes_per_s=1e10)
        return Bench(
            name="kernels", device="cpu", cpu="a CPU", threads=1, commit="", versions={}, settings={}, ceilings=limits,
            workloads=[ROW],
        )  # fmt: skip

    module = types.ModuleType("xlt.bench.kernels")
    module.bench_kernels = measure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xlt.bench.kernels", module)
    return calls


def test_people_see_rates_shares_ratios_and_who_did_not_run(invoke: Invoke, asked: list[tuple[str, int]]) -> None:
    outcome = invoke("bench", "kernels", "--rounds", "7")
    assert outcome.code == 0, outcome.err
    assert asked == [("small", 7)]
    shown = " ".join(outcome.out.split())
    for text in ("3e+12 flop/s", "50 % of the matmul ceiling", "3.00", "2.50-3.50", "not run: liger (not installed)"):
        assert text in shown


def test_json_is_the_benchmark_itself(invoke: Invoke, asked: list[tuple[str, int]]) -> None:
    document = invoke("bench", "kernels", "--size", "large", "--json").document
    assert asked == [("large", WORKLOADS["kernels"][0])]
    assert Bench.model_validate(document).workloads == [ROW]


def test_where_ours_did_not_run_the_rows_are_shown_and_the_exit_code_says_so(
    invoke: Invoke, asked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [Timing(name="ours", not_run="computes something else"), Timing(name="peer", not_run=ALONE)]
    monkeypatch.setattr(ROW, "timings", lost)
    outcome = invoke("bench", "kernels")
    assert outcome.code == ExitCode.ENVIRONMENT
    assert "not run: ours (computes something else)" in " ".join(outcome.out.split())


def test_an_unknown_size_is_refused(invoke: Invoke, asked: list[tuple[str, int]]) -> None:
    outcome = invoke("bench", "kernels", "--size", "huge", "--json")
    assert (outcome.code, outcome.document["error"]["fix"]) == (ExitCode.USAGE, "xlt bench kernels --help")
    assert not asked
