"""Runs over two processes: DeepSpeed's launcher, the losses of one process, errors that come back whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.errors import DataFault, XltError
from xlt.pipeline.launch import launch_run
from xlt.pipeline.run import execute_run
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.train.engine import EngineSettings


def without_dropout(spec: RunSpec) -> RunSpec:
    """Each process draws its own dropout, so only without it can the losses be those of one process."""
    config = {**spec.backbone.config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"config": config})})


def losses(store: RunStore, spec: RunSpec) -> list[float]:
    lines = (store.path(spec.folder) / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["1", "2", "3"])
def test_two_processes_give_the_losses_of_one(tiny_grid: TinyGrid, tmp_path: Path, zero: str) -> None:
    spec = without_dropout(tiny_grid.grid().runs[0])
    one, two = RunStore(tmp_path / "one"), RunStore(tmp_path / "two")
    execute_run(spec, None, tiny_grid.source, one, EngineSettings(), Watcher())
    watcher = Watcher()
    options = SourceOptions(name="files", data_root=tiny_grid.files)
    launch_run(spec, None, options, two, EngineSettings(zero=zero), 2, watcher)
    assert two.check(spec).state == "done"
    # Two halves of a batch are added in another order than the whole: float32 rounding, amplified by Adam.
    assert losses(two, spec) == pytest.approx(losses(one, spec), abs=2e-5)
    assert watcher.losses == losses(two, spec)
    provenance = json.loads((two.path(spec.folder) / "provenance.json").read_text("utf-8"))
    assert (provenance["world_size"], provenance["zero"]) == (2, zero)


@pytest.mark.slow
def test_an_error_in_a_process_arrives_with_its_advice(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    spec = tiny_grid.grid().runs[0]
    absent = dataclasses.replace(SourceOptions(name="files"), data_root=tmp_path / "nowhere")
    with pytest.raises(XltError) as caught:
        launch_run(spec, None, absent, RunStore(tmp_path), EngineSettings(), 2, Watcher())
    assert "nowhere" in caught.value.what
    assert caught.value.exit_code == DataFault.exit_code
    assert caught.value.mend
