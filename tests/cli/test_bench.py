"""``xlt bench``: one JSON document with the promised keys, tables for people, and clear refusals."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from xlt.bench.workload import ALONE, Bench, Ceilings, Timing, Workload
from xlt.cli.bench import WORKLOADS, _backbone
from xlt.errors import ExitCode


@pytest.fixture
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ceilings of the machine are measured on small tensors."""
    monkeypatch.setattr("xlt.bench.workload.MATMUL", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr("xlt.bench.workload.COPIED", {"cpu": 1 << 16, "cuda": 1 << 16})


SMALL = ("--steps", "2", "--batch-size", "4", "--max-length", "32", "--hidden", "32", "--layers", "1")


def test_json_is_one_document_with_the_promised_keys(invoke: Invoke, small_ceilings: None) -> None:
    outcome = invoke("bench", "train", *SMALL, "--threads", "1", "--json")
    found = Bench.model_validate(outcome.document)
    assert (found.format, found.threads, found.device) == (1, 1, "cpu")
    assert {"torch", "transformers"} <= found.versions.keys()
    assert (found.settings["layers"], found.settings["hidden"]) == (1, 32)
    assert (found.settings["batch_size"], found.settings["max_length"]) == (4, 32)
    assert [(row.name, row.rounds) for row in found.workloads] == [
        ("dynamic padding", 2),
        ("fixed padding", 2),
        ("length grouping", 2),
    ]


def test_people_see_the_expected_ratio_below_the_measured_one(invoke: Invoke, small_ceilings: None) -> None:
    outcome = invoke("bench", "train", *SMALL)
    assert outcome.code == 0
    for name in ("dynamic padding", "fixed padding", "length grouping"):
        assert f"Hugging Face, {name}" in outcome.out
    assert outcome.out.count("slots per token: the ratio to expect") == 3


def test_loading_is_a_document_or_a_table(invoke: Invoke, small_ceilings: None, tiny_files: Path) -> None:
    arguments = (
        "bench",
        "load",
        "--source",
        "files",
        "--data-root",
        str(tiny_files),
        "--limit",
        "20",
        "--repeats",
        "1",
    )
    (row,) = Bench.model_validate(invoke(*arguments, "--json").document).workloads
    assert row.quantity["rows"] == 20
    printed = invoke(*arguments).out
    assert "rows/s" in printed
    assert "load + tokenise + pack" in printed
    assert "datasets.map alone, batches of 1000" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--hidden", "200"], ExitCode.USAGE, "--hidden 192"),
        (["--source", "files"], ExitCode.USAGE, "--data-root"),
        (["--task", "squad"], ExitCode.USAGE, "does not classify pairs"),
    ],
)
def test_what_cannot_be_timed_is_one_clear_message(
    invoke: Invoke, arguments: list[str], code: ExitCode, message: str
) -> None:
    outcome = invoke("bench", "train", *arguments)
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert "times ours" not in outcome.out


def test_too_few_examples(invoke: Invoke, tiny_files: Path) -> None:
    outcome = invoke("bench", "train", *SMALL[2:], "--steps", "99", "--source", "files", "--data-root", str(tiny_files))
    assert outcome.code == ExitCode.USAGE
    assert "99 steps were asked for" in outcome.err


def test_another_width_keeps_the_proportions_of_xlm_r() -> None:
    config = _backbone("world", 1024, 24).config
    assert (config["num_attention_heads"], config["intermediate_size"], config["num_hidden_layers"]) == (16, 4096, 24)


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
