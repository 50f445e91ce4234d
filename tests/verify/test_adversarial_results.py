"""Adversarial trainings are verified as others are, by losses and stretches made again, and the report names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import TinyGrid, Watcher
from tests.pipeline.conftest import tiny_grid as tiny_grid
from xlt.pipeline.executor import Executor
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import RunStore, write_manifest
from xlt.tasks.adversarial import DEFAULTS
from xlt.train.engine import EngineSettings
from xlt.verify import losses, replay
from xlt.verify.checks import Again
from xlt.verify.judge import verify
from xlt.verify.report import render

METHODS = [*(f'method = "{name}"' for name in DEFAULTS), 'method = "smart", proximal = 1.0']


def test_losses_and_weights_of_every_method_are_computed_again(
    tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = (
        f'm{place} = {{ targets = ["xnli"], recipes = {{ xnli = {{ steps = 4, adversarial = {{ {how} }} }} }} }}'
        for place, how in enumerate(METHODS)
    )
    tiny = tiny_grid.with_arms(tmp_path, "\n".join(arms))
    tiny.tier.write_text(tiny.tier.read_text("utf-8").replace("dropout_prob = 0.1", "dropout_prob = 0.0"), "utf-8")
    settings, root = EngineSettings(keep_checkpoints=1, checkpoint_seconds=1e9), tmp_path / "results"
    options = SourceOptions(name="files", data_root=tiny.files)
    Executor(tiny.source, options, RunStore(root), settings, Watcher(), threads=1).run_grid(tiny.grid())
    # The few steps end at a higher learning rate than those of a tier: their last losses count even so. And this
    # process computed what it verifies.
    monkeypatch.setattr(losses, "SLOW", 1.0)
    monkeypatch.setattr(replay, "difference", lambda made: "")
    again = Again(cells=8, seed=0, stretches=100, stretch_seed=0)
    found = verify(root, tiny.source, again=again)
    assert not found.problems
    assert found.checks is not None
    assert found.checks.replay is not None
    trainings = len(METHODS) + 1
    assert any(
        f"the first and the last of {trainings} of {trainings} trainings" in line for line in found.checks.checked
    )
    assert found.checks.replay.identical == found.checks.replay.of == 2 * trainings
    page = render(found, root)
    assert all(f"({name})" in page for name in DEFAULTS)
    # The loss without perturbation, or of another method, is another.
    paths = sorted(root.glob("runs/target/*/log.jsonl"))
    logs = {path: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in paths}
    assert len({lines[0]["loss"] for lines in logs.values()}) >= 5
    for path, lines in logs.items():
        forged = [{**lines[0], "loss": 1.01 * lines[0]["loss"]}, *lines[1:]]
        path.write_text("".join(json.dumps(line) + "\n" for line in forged), "utf-8")
        write_manifest(path.parent)
    problems = verify(root, tiny.source, again=Again(cells=8, seed=0)).problems
    assert len(problems) == len(METHODS)
    assert all("the loss of step 1" in each.what for each in problems)
