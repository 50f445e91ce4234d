"""Golden evidence holds here, and each fault that it is for makes it fail where that fault lies."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from xlt.artifact import artifact_root
from xlt.bench.controls import CONTROLS
from xlt.errors import DataFault, ExitCode
from xlt.model.encoder import PackedModel
from xlt.pipeline import training as training_of
from xlt.runtime import start_process_group
from xlt.strict_json import read_json
from xlt.tasks.record import Recipe
from xlt.train import engine
from xlt.train.batches import BatchStream
from xlt.verify import golden
from xlt.verify.evidence import Evidence, GoldenCheck, golden_code, summary

BY_NAME = {control.name: control for control in CONTROLS}
# Not in phase 1, which begins with weights that a processor without AVX draws otherwise.
IN_TRAINING = {
    "positions-from-0": "first losses",
    "shuffled-labels": "first losses",
    "attention-across-sequences": "first losses",
    "no-schedule": "batches",
    "another-seed": "batches",
    "first-row-dropped": "batches",
}
IN_CHECKPOINT = {
    "positions-from-0": "hidden states of block 0",
    "attention-across-sequences": "hidden states of block 1",
    "wrong-layer": "hidden states of block 0",
    "languages-swapped": "predictions of xquad",
    "pooling-ignored": "predictions of tatoeba",
    "labels-in-another-order": "predictions of xnli",
    "pairs-cut-short": "scores of pawsx",
    "first-row-dropped": "predictions of xnli",
    "header-as-data": "predictions of xnli",
}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    start_process_group()
    return read_json(golden.golden_folder() / "evidence.json", TypeAdapter(Evidence))


def training(evidence: Evidence) -> list[GoldenCheck]:
    """The checks of the shortest training."""
    (spec,) = [spec for spec in golden.golden_trainings() if spec.name == "baseline.udpos"]
    return list(golden._check_training(evidence, spec))


def failing(checks: Sequence[GoldenCheck]) -> str:
    return "; ".join(check.name for check in checks if not check.holds)


def test_all_of_it_holds_on_this_machine() -> None:
    checks = golden.check_golden()
    assert failing(checks) == "", [check for check in checks if not check.holds]
    kinds = {check.name.split(" of ")[0] for check in checks}
    assert kinds == {"hidden states", "storage", "predictions", "scores", "gradients", "batches", "first losses"}
    assert golden_code(checks) is ExitCode.OK
    # Far from their tolerances, or the next processor would miss them.
    assert max((check.difference or 0.0) / check.tolerance for check in checks if check.tolerance) < 0.5


def test_every_kind_of_training_and_every_task_is_in_it(evidence: Evidence) -> None:
    grid = golden.golden_grid()
    assert {run.train for run in grid.runs if run.train} == {run.train for run in golden.golden_trainings()}
    assert {key for run in grid.runs for key in run.evaluate} == {cell.split("/")[0] for cell in evidence.cells}


@pytest.mark.parametrize(("name", "where"), IN_TRAINING.items())
def test_a_fault_in_training_is_seen_in_its_first_steps(name: str, where: str, evidence: Evidence) -> None:
    with BY_NAME[name].fault():
        assert where in failing(training(evidence))


@pytest.mark.parametrize(("name", "where"), IN_CHECKPOINT.items())
def test_a_fault_in_reading_is_seen_in_the_checkpoint(name: str, where: str, evidence: Evidence) -> None:
    with BY_NAME[name].fault():
        assert where in failing(list(golden._check_checkpoint(evidence)))


def test_one_weight_that_is_a_hundredth_larger_is_seen(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(golden.golden_folder(), tmp_path / "golden")
    weights = load_file(folder / "model" / "model.safetensors")
    name = next(name for name in weights if "layer.2.attention.self.query.weight" in name)
    save_file({**weights, name: weights[name] * 1.01}, folder / "model" / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(golden, "golden_folder", lambda: folder)
    found = failing(list(golden._check_checkpoint(evidence)))
    assert "hidden states of block 3" in found
    assert "hidden states of block 2" not in found


def test_what_cannot_be_computed_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise IndexError("index 514 is out of range")

    monkeypatch.setattr(golden, "golden_trainings", list)
    monkeypatch.setattr(golden, "_check_checkpoint", broken)
    (check,) = golden.check_golden()
    assert (check.holds, check.difference) == (False, None)
    assert check.what == "it cannot be computed: IndexError: index 514 is out of range"
    assert golden_code([check]) is ExitCode.DEVIATES
    assert "1 of 1 checks fail" in summary([check])


@pytest.mark.parametrize("content", [None, "{}", "[", '{"format": 2}'])
def test_a_damaged_file_of_evidence_is_an_error_with_a_fix(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "golden_folder", lambda: tmp_path)
    if content is not None:
        (tmp_path / "evidence.json").write_text(content, "utf-8")
    with pytest.raises(DataFault) as fault:
        golden.check_golden()
    assert "git" in fault.value.fix or "artifact" in fault.value.fix


def test_a_loss_that_is_no_number_does_not_hold(evidence: Evidence) -> None:
    steps = evidence.trainings["baseline.udpos"]
    others = [step.model_copy(update={"loss": math.nan}) for step in steps]
    assert golden._losses_apart(others, steps) == math.inf  # type: ignore[arg-type]
    assert not golden._check("losses", math.nan, "losses").holds


def test_its_files_are_small() -> None:
    folder = artifact_root() / "golden"
    assert 0 < sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 6_000_000


@pytest.mark.parametrize(
    ("owner", "attribute", "broken", "where"),
    [
        (Recipe, "learning_rate_factor", lambda self, step, steps: min(1.0, step / (0.06 * steps)), "batches"),
        (training_of, "training_seed", lambda spec: 0, "batches"),
        (
            BatchStream,
            "_order",
            lambda self, epoch: np.random.default_rng(7).permutation(len(self.sequences)),
            "batches",
        ),
        (engine, "parameter_groups", lambda model, decay: [{"params": [*model.parameters()]}], "first losses"),
    ],
    ids=["no decay of the learning rate", "seed ignored", "one order for all epochs", "no weight decay"],
)
def test_a_fault_that_shows_later_in_training_is_seen(
    owner: object, attribute: str, broken: object, where: str, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, attribute, broken)
    assert where in failing(training(evidence))


def test_hidden_states_cannot_be_left_out(evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(golden.golden_folder(), tmp_path / "golden")
    states = load_file(folder / "states.safetensors")
    save_file({"0": states["0"]}, folder / "states.safetensors")
    monkeypatch.setattr(golden, "golden_folder", lambda: folder)
    with pytest.raises(ValueError, match="every block"):
        list(golden._check_checkpoint(evidence))


def test_weights_that_are_stored_rounded_are_seen(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = PackedModel.save
    half = lambda model, folder: sound(  # noqa: E731
        model, folder, state_dict={name: weight.half().float() for name, weight in model.state_dict().items()}
    )
    monkeypatch.setattr(PackedModel, "save", half)
    assert "storage of weights" in failing(list(golden._check_checkpoint(evidence)))


def test_gradient_norms_leave_no_gradient(evidence: Evidence, tmp_path: Path) -> None:
    (spec,) = [spec for spec in golden.golden_trainings() if spec.name == "baseline.udpos"]
    start, _ = golden.golden_start(spec, tmp_path)
    norms = golden.gradient_norms(start.model, start.stream.micro_batches(0, golden.StepShard())[0])
    assert norms.keys() == evidence.gradients["baseline.udpos"].keys()
    assert all(parameter.grad is None for parameter in start.model.parameters())
    assert isinstance(start.model.device, torch.device)
