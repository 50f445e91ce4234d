"""What the options of several commands come to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Invoke
from xlt.cli.options import EngineOptions
from xlt.errors import ExitCode, UsageFault


def test_processes_are_the_tier_s_where_there_are_cores_and_one_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cores, count in ((1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert EngineOptions().process_count(default=2) == count
        assert EngineOptions(processes=3).process_count(default=2) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert EngineOptions().process_count(default=2) == 1
    assert EngineOptions(gpus=4).process_count(default=2) == 4


def test_the_engine_is_that_of_graphs_where_one_gpu_makes_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu, engine in ((False, "deepspeed"), (True, "graph")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert EngineOptions().settings(1).engine == engine
        for shared in (EngineOptions(zero="1").settings(1), EngineOptions(accumulation=2).settings(1)):
            assert shared.engine == "deepspeed"
        assert EngineOptions().settings(2).engine == "deepspeed"
        assert EngineOptions(engine="deepspeed").settings(1).engine == "deepspeed"
        assert EngineOptions(engine="graph").settings(1).engine == "graph"


def test_several_runs_go_to_one_gpu_but_no_run_to_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    several = EngineOptions(processes=3, engine="graph")
    assert several.process_count() == 3
    assert several.settings(1).engine == "graph"
    with pytest.raises(UsageFault, match="3 processes cannot share a run on 1 GPU: each"):
        EngineOptions(processes=3).settings(3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert EngineOptions(processes=3).settings(3).engine == "deepspeed"


def test_a_cpu_computes_a_step_in_the_tier_s_micro_batches_unless_asked_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert EngineOptions().settings(1).accumulation == 1
    assert EngineOptions().settings(1, 4).accumulation == 4
    # Processes that share a step have parts of it.
    assert EngineOptions().settings(2, 4).accumulation == 2
    assert EngineOptions(accumulation=1).settings(1, 4).accumulation == 1
    # The graph engine computes whole batches.
    assert EngineOptions(engine="graph").settings(1, 4).accumulation == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert EngineOptions().settings(1, 4).accumulation == 1
    assert EngineOptions(accumulation=2).settings(1, 4).accumulation == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train mnli --steps 2 --epochs 3", "--steps and --epochs exclude each other"),
        ("train mnli --learning-rate inf", "is no number to train with"),
        ("train mlm --tier smoke --source world --data-root DIR", "does not read --data-root DIR"),
        ("plan --source world --data-root DIR", "does not read --data-root DIR"),
        ("fetch mnli --language de", "--language chooses among the texts of mlm"),
    ],
)
def test_options_that_contradict_each_other_are_refused(invoke: Invoke, arguments: str, message: str) -> None:
    outcome = invoke(*arguments.split())
    assert outcome.code == ExitCode.USAGE
    assert message in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan --limit 0", "'--limit'"),
        ("reproduce --gpus 0", "'--gpus'"),
        ("train mnli --learning-rate 0", "'--learning-rate'"),
        ("train mnli --batch-size 0", "'--batch-size'"),
        ("plan --seed 4294967296", "'--seed'"),
    ],
)
def test_a_number_that_would_mean_another_is_refused(invoke: Invoke, arguments: str, message: str) -> None:
    outcome = invoke(*arguments.split())
    assert (outcome.code, outcome.out) == (ExitCode.USAGE, "")
    assert message in outcome.err


def test_zero_is_given_where_it_says_something(invoke: Invoke) -> None:
    given = invoke("plan", "--limit", "4", "--seed", "0", "--keep-checkpoints", "0", "--json")
    assert (given.code, given.document["seed"]) == (ExitCode.OK, 0)


@pytest.mark.parametrize("command", ["plan", "reproduce", "train mnli", "retrieve tatoeba", "doctor", "evaluate xnli"])
def test_results_are_no_file(invoke: Invoke, command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = invoke(*command.split(), "--results", str(tmp_path / "file"))
    assert outcome.code == ExitCode.USAGE
    assert "is a file; results are a folder" in outcome.err


@pytest.mark.parametrize(
    ("options", "processes", "leave_out"),
    [
        (EngineOptions(engine="graph", zero="2"), 1, "--zero."),
        (EngineOptions(engine="graph"), 2, "--shard (of train: --gpus and --processes)."),
        (EngineOptions(engine="graph", accumulation=2), 2, "--gpus and --processes) and --accumulation."),
    ],
)
def test_what_the_graph_engine_cannot_do_is_named_by_its_options(
    options: EngineOptions, processes: int, leave_out: str
) -> None:
    with pytest.raises(UsageFault) as told:
        options.settings(processes)
    assert told.value.fix.startswith("Use --engine deepspeed, or leave out --")
    assert told.value.fix.endswith(leave_out)


@pytest.mark.parametrize("option", ["gpus", "processes", "accumulation"])
def test_a_number_that_no_machine_has_is_refused_before_anything_is_made(option: str, invoke: Invoke) -> None:
    refused = invoke("reproduce", f"--{option}", str(10**20), "--json")
    assert refused.code == ExitCode.USAGE
    assert refused.document["error"]["what"].startswith(f"--{option} {10**20} is more than ")
