"""Checkpoints inside a training: what goes on from one has the bits of what was never interrupted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import run_together
from tests.train.test_graph import KEYS, RECIPE, examples, fresh, stream
from xlt.errors import DataFault, UsageFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.resume import RunCheckpoints
from xlt.pipeline.store import write_manifest
from xlt.runtime import start_process_group
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.batches import BatchStream
from xlt.train.engine import EngineSettings
from xlt.train.loop import DevResult, StepRecord, Trained, train
from xlt.train.seeding import seed_everything

EVERY_STEP = {"checkpoint_seconds": 0.0}


class KilledError(Exception):
    """What stands for the end of a process."""


def training(
    *keys: str,
    settings: EngineSettings,
    folder: Path | None = None,
    killed_after: int = 0,
    recipe: Recipe = RECIPE,
    dev_score: Any = None,
    dropout: float = 0.1,
) -> tuple[list[StepRecord], Trained, RunCheckpoints | None]:
    """A training, which goes on from the newest checkpoint in ``folder``, and may be killed."""
    start_process_group()
    model = fresh(*keys, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    seed_everything(7)
    records: list[StepRecord] = []

    def on_step(record: StepRecord) -> None:
        records.append(record)
        if record.step == killed_after:
            raise KilledError

    checkpoints = RunCheckpoints(folder, settings) if folder else None
    batches = stream(*keys, recipe=recipe)
    trained = train(model, batches, settings, on_step=on_step, dev_score=dev_score, checkpoints=checkpoints)
    return records, trained, checkpoints


def same(one: tuple[list[StepRecord], Trained, Any], other: tuple[list[StepRecord], Trained, Any]) -> bool:
    weights = one[1].weights.keys() == other[1].weights.keys() and all(
        torch.equal(value, other[1].weights[name]) for name, value in one[1].weights.items()
    )
    return one[0] == other[0] and weights and one[1].step == other[1].step


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        *[((key,), {}) for key in KEYS],
        (KEYS, {}),
        (KEYS, {"accumulation": 2}),
        (KEYS, {"zero": "1"}),
        (KEYS, {"zero": "2"}),
        (KEYS, {"zero": "3"}),
        (("mnli",), {"zero": "3_offload"}),
        *[(("mnli",), {"zero": zero, "precision": "bf16"}) for zero in ("1", "2", "3")],
        (("mnli",), {"precision": "bf16"}),
        (("mnli",), {"engine": "graph"}),
        (KEYS, {"engine": "graph", "precision": "bf16"}),
    ],
    ids=str,
)
def test_it_goes_on_with_the_bits_of_a_training_that_was_never_killed(
    keys: tuple[str, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    settings = EngineSettings(**options, **EVERY_STEP)
    whole = training(*keys, settings=settings)
    for killed in (9, 17):
        with pytest.raises(KilledError):
            training(*keys, settings=settings, folder=tmp_path, killed_after=killed)
    *resumed, checkpoints = training(*keys, settings=settings, folder=tmp_path)
    assert checkpoints is not None
    # The graph engine reads losses, and writes checkpoints, at the end of a block of steps alone.
    assert [each["step"] for each in checkpoints.resumed] == ([] if settings.engine == "graph" else [16])
    assert same(whole, (*resumed, None))


def test_a_decoder_goes_on_in_its_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.1}

    def decoder(*_: str, **rates: float) -> PackedModel:
        torch.manual_seed(0)
        return PackedModel.fresh(sizes, "bloom")

    def texts(*_: str, recipe: Recipe) -> BatchStream:
        return BatchStream(examples("mlm"), get_task("mlm"), recipe, seed=1, first_position=0)

    monkeypatch.setitem(globals(), "fresh", decoder)
    monkeypatch.setitem(globals(), "stream", texts)
    settings = EngineSettings(**EVERY_STEP)  # type: ignore[arg-type]
    whole = training("mlm", settings=settings)
    with pytest.raises(KilledError):
        training("mlm", settings=settings, folder=tmp_path, killed_after=9)
    *resumed, checkpoints = training("mlm", settings=settings, folder=tmp_path)
    assert checkpoints is not None
    assert [each["step"] for each in checkpoints.resumed] == [8]
    assert same(whole, (*resumed, None))


def test_captured_blocks_end_where_a_checkpoint_is_kept(tmp_path: Path) -> None:
    settings = EngineSettings(engine="graph", keep_checkpoints=2, checkpoint_seconds=1e9)
    whole = training("squad", settings=settings)
    start_process_group()
    checkpoints = RunCheckpoints(tmp_path / "own", settings)
    checkpoints.keep(RECIPE.steps)
    batches = stream("squad")
    model = fresh("squad", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    seed_everything(7)
    train(model, batches, settings, on_step=lambda _: None, checkpoints=checkpoints)
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == ["step-00000008", "step-00000016"]
    *resumed, again = training("squad", settings=settings, folder=tmp_path / "own")
    assert again is not None
    assert again.resumed == [{"step": 16, "changed": {}}]
    assert same(whole, (*resumed, None))
    again.keep(RECIPE.steps)
    again.move_kept(tmp_path)
    again.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints"]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def rising_and_falling(scores: list[float]) -> Any:
    left = iter(scores)

    def dev_score(model: PackedModel) -> DevResult:
        return DevResult(next(left))

    return dev_score


@pytest.mark.parametrize("killed", [5, 7, 13, 16])
def test_the_best_weights_and_the_patience_are_kept(killed: int, tmp_path: Path) -> None:
    recipe = Recipe(batch_size=8, steps=24, learning_rate=3e-3, evaluate_every=4, patience=2)
    settings = EngineSettings(**EVERY_STEP)
    scores = [50.0, 60.0, 55.0, 54.0, 99.0]
    whole = training("mnli", settings=settings, recipe=recipe, dev_score=rising_and_falling(scores))
    assert (whole[1].step, len(whole[0])) == (8, 16)
    with pytest.raises(KilledError):
        training(
            "mnli",
            settings=settings,
            recipe=recipe,
            dev_score=rising_and_falling(scores),
            folder=tmp_path,
            killed_after=killed,
        )
    left = rising_and_falling(scores[(killed - 1) // 4 :])
    *resumed, checkpoints = training("mnli", settings=settings, recipe=recipe, dev_score=left, folder=tmp_path)
    assert same(whole, (*resumed, None))
    assert checkpoints is not None
    assert checkpoints.resumed[0]["step"] == killed - 1


def test_after_the_end_nothing_is_trained_again(tmp_path: Path) -> None:
    settings = EngineSettings(**EVERY_STEP)
    whole = training("mnli", settings=settings, folder=tmp_path)
    *resumed, checkpoints = training("mnli", settings=settings, folder=tmp_path)
    assert checkpoints is not None
    assert checkpoints.resumed[0]["step"] == RECIPE.steps
    assert same(whole, (*resumed, None))


def damaged(folder: Path) -> None:
    path = folder / "engine.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path: Path) -> None:
    settings = EngineSettings(**EVERY_STEP)
    whole = training("mnli", settings=settings)
    with pytest.raises(KilledError):
        training("mnli", settings=settings, folder=tmp_path, killed_after=12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000011"]
    damaged(tmp_path / "step-00000011")
    # What a process that was killed while it wrote leaves behind.
    shutil.copytree(tmp_path / "step-00000010", tmp_path / "step-00000012.tmp")
    (tmp_path / "step-00000099").mkdir()
    *resumed, checkpoints = training("mnli", settings=settings, folder=tmp_path)
    assert checkpoints is not None
    assert checkpoints.resumed[0]["step"] == 10
    assert same(whole, (*resumed, None))


def close(one: list[StepRecord], other: list[StepRecord], tolerance: float) -> None:
    """The same batches in the same order, with losses that differ by the order of sums alone."""
    assert [each.examples for each in one] == [each.examples for each in other]
    assert [each.loss for each in one] == pytest.approx([each.loss for each in other], abs=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_every_stage_and_accumulation_goes_on_from_every_other_with_the_same_batches(
    precision: Any, tolerance: float, tmp_path: Path
) -> None:
    ways: list[dict[str, Any]] = [
        *({"zero": zero} for zero in "1230"),
        {"accumulation": 4},
        {"zero": "2", "accumulation": 2},
        {"engine": "graph"},
    ]
    settings = EngineSettings(precision=precision)
    records, *_ = training(*KEYS, settings=settings, dropout=0.0)
    settings = EngineSettings(precision=precision, **EVERY_STEP)
    for end, way in enumerate(ways, start=1):
        if "engine" in way:
            break
        with pytest.raises(KilledError):
            training(*KEYS, settings=replace(settings, **way), folder=tmp_path, killed_after=3 * end, dropout=0.0)
    last, _, checkpoints = training(*KEYS, settings=replace(settings, **way), folder=tmp_path, dropout=0.0)
    close(last, records, tolerance)
    assert checkpoints is not None
    changed = {"zero": ["2", "0"], "engine": ["deepspeed", "graph"], "accumulation": [2, 1]}
    assert checkpoints.resumed == [{"step": 17, "changed": changed}]


def test_a_batch_that_cannot_be_divided_is_refused_and_the_checkpoint_stays(tmp_path: Path) -> None:
    settings = EngineSettings(**EVERY_STEP)
    with pytest.raises(KilledError):
        training("mnli", settings=settings, folder=tmp_path, killed_after=12)
    with pytest.raises(UsageFault, match="A batch of 8 cannot be divided among 1 processes with 16 micro-batches"):
        training("mnli", settings=EngineSettings(accumulation=16), folder=tmp_path)
    *_, checkpoints = training("mnli", settings=EngineSettings(accumulation=2), folder=tmp_path)
    assert checkpoints is not None
    assert checkpoints.resumed == [{"step": 11, "changed": {"accumulation": [1, 2]}}]


class Harmful:
    """An object whose pickle, once loaded, writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zero", ["0", "1", "2", "3"])
def test_nothing_in_a_checkpoint_that_somebody_hands_over_is_run(zero: str, tmp_path: Path) -> None:
    settings, folder = EngineSettings(zero=zero, **EVERY_STEP), tmp_path / "checkpoints"
    with pytest.raises(KilledError):
        training("mnli", settings=settings, folder=folder, killed_after=3)
    place = folder / "step-00000002"
    kinds = {path.suffix for path in place.iterdir()}
    assert kinds == {".json", ".safetensors"}
    (place / "engine").mkdir()  # as DeepSpeed names its own
    named = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    for path in [*place.glob("*.safetensors"), *(place / "engine" / name for name in named)]:
        torch.save(Harmful(tmp_path / "harmed"), path)
    write_manifest(place)
    with pytest.raises(DataFault, match="The checkpoint 'step-00000002' of 'checkpoints' is no state of this training"):
        training("mnli", settings=settings, folder=folder)
    assert not (tmp_path / "harmed").exists()
    torch.load(place / "engine" / named[0], weights_only=False)  # as DeepSpeed does
    assert (tmp_path / "harmed").exists()


def test_by_default_short_trainings_write_none(tmp_path: Path) -> None:
    training("mnli", settings=EngineSettings(), folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_two_processes_go_on_too_and_one_goes_on_from_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLT_TEST_FOLDER", str(tmp_path))
    for printed in run_together("tests.pipeline.resume_processes"):
        assert json.loads(printed) == {"1": [True, 8], "2": [True, 8], "3": [True, 8], "0": [True, 8]}
    records, *_ = training("mnli", "panx", "mlm", settings=EngineSettings(), dropout=0.0)
    for zero in "1230":
        settings = EngineSettings(zero="2" if zero == "0" else "0")
        own, _, checkpoints = training(
            "mnli", "panx", "mlm", settings=settings, folder=tmp_path / f"{zero}.plain", dropout=0.0
        )
        close(own, records, 1e-4)
        assert checkpoints is not None
        changed = {"world_size": [2, 1], "zero": [zero, settings.zero]}
        assert checkpoints.resumed == [{"step": 8, "changed": changed}]


@pytest.mark.slow
def test_two_processes_go_on_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, *_ = training("mnli", "panx", "mlm", settings=EngineSettings(), dropout=0.0)
    for zero in "1230":
        settings = EngineSettings(zero="0" if zero == "2" else "2", **EVERY_STEP)
        with pytest.raises(KilledError):
            training("mnli", "panx", "mlm", settings=settings, folder=tmp_path / zero, killed_after=9, dropout=0.0)
    monkeypatch.setenv("XLT_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("XLT_TEST_LOSSES", json.dumps([[each.examples, each.loss] for each in records]))
    for printed in run_together("tests.pipeline.resume_processes"):
        assert json.loads(printed) == {"1": [True, 8], "2": [True, 8], "3": [True, 8], "0": [True, 8]}
