"""Hours: measured where somebody has measured, predicted from stated assumptions elsewhere, and marked."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from xlt.data.files.source import FilesSource
from xlt.data.world import WorldSource
from xlt.pipeline.estimate import RunEstimate, ScoredRows
from xlt.pipeline.grid import Grid, GridBuilder
from xlt.pipeline.hours import PARTS, Rate, all_hours, block_weights, makespan, read_assumptions
from xlt.pipeline.spec import Backbone
from xlt.pipeline.tiers import read_tier
from xlt.tasks.adversarial import DEFAULTS, Adversarial

LARGE = Backbone(name="xlm-roberta-large", retrieval_layer=14)
RUN = RunEstimate(
    examples=3200,
    tokens=145_600,
    kinds={"pair_classification": 145_600},
    evaluation_tokens=9000,
    dev_tokens=4000,
    steps={"pair_classification": 100},
    scored={"pair_classification": ScoredRows(100, 6000, 1), "retrieval": ScoredRows(200, 3000, 1, pairs=10_000)},
    dev={"pair_classification": ScoredRows(50, 2000, 1)},
    dev_scores=2,
    encoded={"pair_classification": 10_000},
)


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Core, of which all runs are of one size."""
    return GridBuilder(read_tier("core"), FilesSource(tmp_path), seed=0, precision="bf16", fingerprints=False).grid()


def rate(**changes: Any) -> Rate:
    values: dict[str, Any] = {
        "device": "device 0",
        "backbone": "xlm-roberta-large",
        "engine": "graph",
        "training": {"pair_classification": 1000.0},
        "inference": 100.0,
        "gpu": True,
    }
    return Rate(**(values | changes))


def test_a_device_that_nobody_timed_is_predicted_until_somebody_has(grid: Grid) -> None:
    runs = [RUN for _ in grid.runs]
    found = all_hours(LARGE, [], grid, runs, by_size=False)
    assert list(found) == ["NVIDIA H200, graph engine, predicted", "NVIDIA H200, deepspeed engine, predicted"]
    graph, deepspeed = found.values()
    assert {graph.measured, deepspeed.measured} == {()}
    # No step is below the floor, and one without a graph takes what the host takes to issue it.
    assert 0 < graph.floor < graph.training < deepspeed.training
    (assumed,) = read_assumptions()
    issued = assumed.operations.value * assumed.operation_seconds.value
    host = issued + assumed.reads.value * assumed.read_seconds.value
    assert deepspeed.training == pytest.approx(len(runs) * 100 * host / 3600)
    for hours in found.values():
        assert hours.total == pytest.approx(sum(getattr(hours, part) for part in PARTS))
        assert min(getattr(hours, part) for part in PARTS) > 0
    timed = all_hours(LARGE, [(rate(device="NVIDIA H200"), False)], grid, runs, by_size=False)
    assert list(timed) == ["NVIDIA H200, graph engine"]
    assert not [name for name in all_hours(Backbone(), [], grid, runs, by_size=False) if "H200" in name]


def test_what_a_rate_lacks_is_predicted_and_not_said_to_be_measured(grid: Grid) -> None:
    runs = [RUN for _ in grid.runs]
    (hours,) = all_hours(LARGE, [(rate(device="NVIDIA H200"), False)], grid, runs, by_size=False).values()
    assert {*PARTS} - {*hours.measured} == {"encoding", "saving"}
    assert hours.training == pytest.approx(len(runs) * 145.6 / 3600)
    assert (hours.dev, hours.evaluation, hours.retrieval) == pytest.approx([len(runs) * n / 3600 for n in (40, 60, 30)])
    assert hours.total is not None
    encoding = {"pair_classification": 100.0}
    measured = [(rate(device="NVIDIA H200", encoding=encoding), True)]
    (calibrated,) = all_hours(LARGE, measured, grid, runs, by_size=False).values()
    assert calibrated.encoding == pytest.approx(len(runs) * 100 / 3600)
    assert {*PARTS} - {*calibrated.measured} == {"saving"}
    # A kind of task without a rate, or no rate of predictions: unknown.
    lacking = [(rate(device="NVIDIA H200", training={"tagging": 1.0}, inference=None), False)]
    (unknown,) = all_hours(LARGE, lacking, grid, runs, by_size=False).values()
    assert (unknown.training, unknown.dev, unknown.evaluation, unknown.total) == (None,) * 4


def test_runs_side_by_side_take_a_part_of_the_time_but_phase_1_does_not(tmp_path: Path) -> None:
    builder = GridBuilder(read_tier("smoke"), FilesSource(tmp_path), seed=0, precision="fp32", fingerprints=False)
    grid, runs = builder.grid(), []
    runs = [RUN for _ in grid.runs]
    alone = rate(backbone="", side_by_side=1), False
    beside = rate(backbone="", side_by_side=2, device="device 1"), False
    one, two = all_hours(Backbone(), [alone, beside], grid, runs, by_size=False).values()
    assert one.training == pytest.approx(len(runs) * 145.6 / 3600)
    assert two.training == pytest.approx((1 + (len(runs) - 1) / 2) * 145.6 / 3600)
    assert two.evaluation == pytest.approx((1 + (len(runs) - 1) / 2) * 60 / 3600)


def test_several_gpus_take_as_long_as_the_executor_would_on_them() -> None:
    grid = GridBuilder(read_tier("smoke"), WorldSource(), seed=0, precision="fp32", fingerprints=False).grid()
    seconds = [float(number) for number in range(1, len(grid.runs) + 1)]
    assert makespan(grid.runs, seconds, 1) == sum(seconds)
    # With more GPUs than runs, a run ends when it and those before it have been made, one after another.
    ends: dict[str, float] = {}
    for run, took in zip(grid.runs, seconds, strict=True):
        ends[run.hash] = ends.get(run.parent or "", 0.0) + took
    assert makespan(grid.runs, seconds, 100) == max(ends.values())
    # DERIVED by hand: phase 1, then two at a time in the order of the grid.
    pretrain, *others = grid.runs
    children = [run for run in others if run.parent == pretrain.hash][:3]
    assert makespan([pretrain, *children], [5.0, 4.0, 1.0, 2.0], 2) == 9.0
    assert makespan([pretrain, *children], [5.0, 4.0, 3.0, 2.0], 2) == 10.0


def test_hours_on_several_gpus_are_told_where_all_parts_are_known(grid: Grid) -> None:
    runs = [RUN for _ in grid.runs]
    found = all_hours(LARGE, [], grid, runs, by_size=False, gpus=8)
    for hours in found.values():
        assert hours.gpus == 8
        assert hours.total is not None
        assert hours.on_gpus is not None
        assert hours.total / 8 < hours.on_gpus < hours.total / 4  # 45 runs of one size on two levels
    assert {each.on_gpus for each in all_hours(LARGE, [], grid, runs, by_size=False).values()} == {None}


def test_larger_steps_take_longer_but_not_in_proportion() -> None:
    (assumed,) = read_assumptions()
    weights = block_weights(LARGE)
    small, large = (assumed.step_seconds(tokens, weights, "graph") for tokens in (1000, 13_000))
    assert small < large < 13 * small
    assert assumed.step_seconds(13_000, weights, "deepspeed") >= large


def test_an_adversarial_step_takes_the_passes_that_it_makes(grid: Grid) -> None:
    (assumed,) = read_assumptions()
    weights, freelb = block_weights(LARGE), Adversarial.of({"method": "freelb", "steps": 3}).cost
    once, thrice = (assumed.step_seconds(5000, weights, "graph", work) for work in (1.0, freelb))
    assert thrice == pytest.approx(3 * once - 2 * assumed.optimizer_seconds.value)
    runs, theirs = [RUN for _ in grid.runs], [replace(RUN, tokens=3 * RUN.tokens, work=3.0) for _ in grid.runs]  # type: ignore[operator]
    for rates in ([], [(rate(device="NVIDIA H200"), False)]):
        plain, adversarial = (all_hours(LARGE, rates, grid, each, by_size=False) for each in (runs, theirs))
        for device, hours in plain.items():
            other = adversarial[device]
            assert 2 * hours.training < other.training <= 3 * hours.training  # type: ignore[operator]
            assert (other.dev, other.evaluation, other.saving) == (hours.dev, hours.evaluation, hours.saving)
            assert other.floor == (hours.floor and pytest.approx(3 * hours.floor))


def test_the_work_of_each_method_is_what_its_steps_were_timed_to_take() -> None:
    """SEEN: the ratios of ``xlt bench adversarial``, by the defaults of every method."""
    file = PROJECT / "artifact/measured/bench/adversarial-cpu-small.json"
    timed = {
        each["name"].partition(":")[0]: (each["ratio_p10"], each["ratio_p90"])
        for each in json.loads(file.read_text("utf-8"))["workloads"][0]["timings"]
    }
    work = {name: Adversarial.of({"method": name}).cost for name in DEFAULTS}
    # DERIVED: forward 1, to weights 2, to the perturbation 1 of the 3 products of a standard step.
    assert work == pytest.approx({"fgm": 2, "pgd": 10 / 3, "freelb": 2, "smart": 8 / 3, "r3f": 2, "smoothing": 1})
    work["smart, with the proximal point"] = Adversarial.of({"method": "smart", "proximal": 1.0}).cost
    for name, cost in work.items():
        low, high = timed[name]
        assert 0.95 * low < cost < 1.05 * high, name


@pytest.mark.parametrize(
    ("kind", "file"), [("pair_classification", "mnli"), ("span_qa", "squad"), ("tagging", "udpos")]
)
def test_what_is_said_to_be_measured_is_what_the_file_says(kind: Any, file: str) -> None:
    (assumed,) = read_assumptions()
    stated = assumed.encoding[kind]
    assert stated.source == f"artifact/measured/bench/load-files-{file}.json"
    (work,) = json.loads((PROJECT / stated.source).read_text("utf-8"))["workloads"]
    (seconds,) = [each["seconds"] for each in work["timings"] if each["name"] == "tokenise"]
    assert work["quantity"]["tokens"] / seconds == pytest.approx(stated.value, rel=0.001)


def test_the_sizes_of_mined_sets_agree_with_the_bytes_of_their_archives() -> None:
    (assumed,) = read_assumptions()
    archives = tomllib.loads((PROJECT / "artifact" / "hub.toml").read_text("utf-8"))["archives"]
    for language, sides in assumed.mined.test.items():
        address = f"https://comparable.limsi.fr/bucc2018/bucc2018-{language}-en.{{}}-gold.tar.bz2"
        test = archives[address.format("training")]["size"] / sum(sides)
        dev = archives[address.format("sample")]["size"] / sum(assumed.mined.dev[language])
        assert dev == pytest.approx(test, rel=0.02), language
    assert sum(assumed.mined.test["fr"]) == 641_684
