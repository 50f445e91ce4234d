"""What a grid will cost: right where it can be, a bound where it says so, unknown where nothing is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from xlt.data.features import encode
from xlt.data.files.source import FilesSource
from xlt.data.hub.table import read_table
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import EnvironmentFault
from xlt.pipeline import calibration
from xlt.pipeline import estimate as module
from xlt.pipeline.calibration import calibrate
from xlt.pipeline.estimate import Estimate, Rate, RunEstimate, estimate
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task


def cost(tier: str, source: Source) -> tuple[dict[str, RunEstimate], Estimate]:
    read = read_tier(tier)
    grid = GridBuilder(read, source, seed=0, precision="fp32", fingerprints=False).grid()
    result = estimate(grid, read.plan(source.name), source)
    return {spec.name: run for spec, run in zip(grid.runs, result.runs, strict=True)}, result


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``artifact/`` of the test's own without lock and rates, and a hub cache that does not matter."""
    folder = tmp_path / "artifact"
    root = module.artifact_root()
    for part in ("tiers", "deepspeed"):
        shutil.copytree(root / part, folder / part)
    shutil.copy(root / "hub.toml", folder)
    (folder / "measured").mkdir()
    monkeypatch.setenv("XLT_ARTIFACT", str(folder))
    monkeypatch.delenv("XLT_DATA_LOCK", raising=False)
    return folder


def test_steps_of_the_recipe_need_no_rows(tiny_tier: Path, tiny_files: Path, artifact: Path) -> None:
    runs, whole = cost(str(tiny_tier), FilesSource(tiny_files))
    assert (runs["mlm"].examples, runs["mlm"].tokens, runs["mlm"].at_most) == (12 * 16, 12 * 16 * 64, True)
    assert runs["baseline.xquad"].tokens == 8 * 8 * 192
    assert runs["baseline.tatoeba"] == RunEstimate(0, 0, evaluation_tokens=None)
    # 48 rows of MNLI and 24 of SQuAD, in proportion.
    assert runs["both"].tokens == round(10 * 8 * (48 * 128 + 24 * 192) / 72)
    assert whole.training_tokens == sum(run.tokens or 0 for run in runs.values())
    assert sum(runs["both"].kinds.values()) == runs["both"].tokens
    assert (whole.disk_bytes, whole.hours, whole.gpu_bytes) == (None, {}, {})


def test_with_rows_and_tokenizer_the_tokens_are_those_of_training(
    tiny_files: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FilesSource(tiny_files)
    rows = source.rows(get_task("mnli"), "train", "en")
    train_tokenizer([str(row) for row in rows], 120, tmp_path / "tokenizer")
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    monkeypatch.setattr(module, "_tokenizer", lambda name: tokenizer)
    runs, _ = cost("core", source)
    sequences = encode(rows, get_task("mnli"), tokenizer, training=True)
    once = sum(len(sequence.input_ids) for sequence in sequences)
    dev = encode(source.rows(get_task("mnli"), "dev", "en"), get_task("mnli"), tokenizer, training=False)
    scored = sum(len(sequence.input_ids) for sequence in dev)
    assert runs["mnli"] == RunEstimate(
        examples=96,
        tokens=2 * once,
        basis=("rows counted, lengths of a sample",),
        kinds={"pair_classification": 2 * once},
        evaluation_tokens=scored,
        # 48 rows in batches of 32: the first epoch ends within step 2, the second with step 3, and so does training.
        dev_tokens=2 * scored,
    )
    assert runs["hellaswag"].at_most


def test_without_data_the_published_rows_count(artifact: Path, tmp_path: Path) -> None:
    runs, whole = cost("paper", FilesSource(tmp_path))
    # 2 epochs of 392,702 rows, as whole batches of 32; 3 of 39,905 with 4 choices each.
    assert (runs["mnli"].examples, runs["mnli"].tokens) == (785_408, 785_408 * 256)
    assert runs["hellaswag"].tokens == 32 * -(-3 * 39_905 // 32) * 4 * 256
    assert runs["mnli"].at_most
    assert whole.unknown_runs == ["anli_plus"]
    assert runs["multi8"].tokens is not None
    assert "rows unknown, all as long as the recipe allows" in runs["multi8"].basis
    # Masked LM has as many steps as the task, though nobody counted its text.
    assert runs["mnli_mlm"].examples == pytest.approx(2 * 785_408, abs=32)
    assert "text not counted, all as long as the recipe allows" in runs["mnli_mlm"].basis
    # 8 single tasks, multi8, 4 with masked LM; from each and the baseline 6 trainings on targets; 2 are shared.
    assert whole.models == sum(run.tokens != 0 for run in runs.values()) == 13 + 14 * 6 - 2
    assert whole.disk_bytes == whole.models * 558_840_832 * 4
    assert (whole.download_bytes, whole.unknown_downloads) == (0, ["FacebookAI/xlm-roberta-large"])


def test_sizes_of_downloads_are_those_of_the_lock(artifact: Path, tmp_path: Path) -> None:
    files = {name: {"size": size, "sha256": ""} for name, size in (("config.json", 7), ("model.safetensors", 100))}
    locked = {"revision": "r", "files": {**files, "README.md": {"size": 5, "sha256": ""}}}
    (artifact / "data.lock").write_text(
        json.dumps({"models": {"FacebookAI/xlm-roberta-large": locked}}), encoding="utf-8"
    )
    _, whole = cost("core", FilesSource(tmp_path))
    assert (whole.download_bytes, whole.unknown_downloads) == (107, [])


def rate(**changes: Any) -> Rate:
    values: dict[str, Any] = {
        "device": "device 0",
        "backbone": "xlm-roberta-large",
        "engine": "graph",
        "training": {"pair_classification": 1000.0, "span_qa": 2000.0},
    }
    return Rate(**(values | changes))


def test_hours_rest_on_recorded_rates_of_the_same_backbone(artifact: Path, tmp_path: Path) -> None:
    for number, each in enumerate((rate(), rate(engine="deepspeed"), rate(backbone="another"))):
        (artifact / "measured" / f"rate-{number}.json").write_text(each.model_dump_json(), encoding="utf-8")
    runs, whole = cost("core", FilesSource(tmp_path))
    assert list(whole.hours) == ["device 0, graph engine", "device 0, deepspeed engine"]
    spans = sum(run.kinds.get("span_qa", 0) for run in runs.values())
    # Kinds that were not measured go at the lowest of the rates.
    expected = ((whole.training_tokens - spans) / 1000 + spans / 2000) / 3600
    hours = whole.hours["device 0, graph engine"]
    assert hours.training == pytest.approx(expected, rel=1e-6)
    assert (hours.dev, hours.evaluation, hours.calibrated) == (None, None, False)
    (artifact / "measured" / "rate-2.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match=r"rate-2\.json"):
        cost("core", FilesSource(tmp_path))


def test_the_memory_of_a_gpu_is_that_of_the_states_and_of_the_largest_batch(artifact: Path, tmp_path: Path) -> None:
    _, whole = cost("core", FilesSource(tmp_path))
    # HellaSwag: 32 questions with 4 choices of at most 256 tokens, 34 bytes for each of 1,024 places in 24 layers.
    activations = 32 * 4 * 256 * 34 * 1024 * 24
    assert whole.gpu_bytes == {
        "0": 18 * 558_840_832 + activations,
        "3_offload": 4 * 558_840_832 + activations,
    }


def test_runs_side_by_side_take_a_part_of_the_time_but_phase_1_does_not(
    tiny_tier: Path, tiny_files: Path, artifact: Path
) -> None:
    grid = GridBuilder(read_tier(str(tiny_tier)), FilesSource(tiny_files), seed=0, precision="fp32").grid()
    kinds = {"span_qa": 3600}
    runs = [RunEstimate(1, 3600, kinds=kinds, evaluation_tokens=360, dev_tokens=720) for _ in grid.runs]
    hours = rate(training={"span_qa": 1.0}, inference=10.0, side_by_side=2).hours(grid, runs, calibrated=False)
    assert hours.training == pytest.approx(1 + (len(runs) - 1) / 2)
    assert hours.evaluation == pytest.approx(len(runs) * 36 / 3600 / 2)
    assert hours.dev == pytest.approx(len(runs) * 72 / 3600 / 2)


def test_a_calibration_trains_and_predicts_a_little_of_every_kind(
    tiny_tier: Path, tiny_files: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "CALIBRATION_STEPS", {"deepspeed": 2})
    tier, source = read_tier(str(tiny_tier)), FilesSource(tiny_files)
    grid = GridBuilder(tier, source, seed=0, precision="fp32").grid()
    found = calibrate(tier, grid, source)
    assert set(found.rate.training) == {"masked_lm", "pair_classification", "span_qa"}
    assert found.rate.inference is not None
    assert min(*found.rate.training.values(), found.rate.inference) > 0
    whole = estimate(grid, tier.plan("files"), source, found)
    assert not any(run.at_most for run in whole.runs)
    ((name, hours),) = whole.hours.items()
    assert (name, hours.calibrated) == ("cpu, deepspeed engine, calibrated now", True)
    assert hours.evaluation is not None
    assert 0 < hours.evaluation < 1
    # Its tokens at its rates: a run of a few steps takes seconds.
    assert 0 < hours.training * 3600 < whole.training_tokens / min(found.rate.training.values()) * 1.01


@pytest.mark.parametrize("key", ["mnli", "qqp", "squad", "squad_v2", "hellaswag", "pawsx", "udpos", "panx"])
def test_published_rows_are_those_that_the_table_of_the_hub_expects(key: str) -> None:
    assert get_task(key).train_rows == sum(part.rows for part in read_table()[key].train)
