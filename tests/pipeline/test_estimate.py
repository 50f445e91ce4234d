"""What a grid will cost: right where it can be, a bound where it says so, unknown where nothing is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from xlt.data.features import encode
from xlt.data.files.source import FilesSource
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import EnvironmentFault
from xlt.pipeline import estimate as module
from xlt.pipeline.estimate import Estimate, RunEstimate, estimate
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
    shutil.copytree(root / "tiers", folder / "tiers")
    shutil.copy(root / "hub.toml", folder)
    (folder / "measured").mkdir()
    monkeypatch.setenv("XLT_ARTIFACT", str(folder))
    monkeypatch.delenv("XLT_DATA_LOCK", raising=False)
    return folder


def test_steps_of_the_recipe_need_no_rows(tiny_tier: Path, tiny_files: Path, artifact: Path) -> None:
    runs, whole = cost(str(tiny_tier), FilesSource(tiny_files))
    assert (runs["mlm"].examples, runs["mlm"].tokens, runs["mlm"].at_most) == (12 * 16, 12 * 16 * 64, True)
    assert runs["baseline.xquad"].tokens == 8 * 8 * 192
    assert runs["baseline.tatoeba"] == RunEstimate(0, 0)
    # 48 rows of MNLI and 24 of SQuAD, in proportion.
    assert runs["both"].tokens == round(10 * 8 * (48 * 128 + 24 * 192) / 72)
    assert whole.training_tokens == sum(run.tokens or 0 for run in runs.values())
    assert (whole.disk_bytes, whole.hours) == (None, {})


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
    assert runs["mnli"] == RunEstimate(96, 2 * once, False, ("rows counted, lengths of a sample",))
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
    assert (whole.download_bytes, whole.unknown_downloads) == (0, ["xlm-roberta-large"])


def test_sizes_of_downloads_are_those_of_the_lock(artifact: Path, tmp_path: Path) -> None:
    files = {name: {"size": size, "sha256": ""} for name, size in (("config.json", 7), ("model.safetensors", 100))}
    models = {"xlm-roberta-large": {"revision": "r", "files": {**files, "README.md": {"size": 5, "sha256": ""}}}}
    (artifact / "data.lock").write_text(json.dumps({"models": models}), encoding="utf-8")
    _, whole = cost("core", FilesSource(tmp_path))
    assert (whole.download_bytes, whole.unknown_downloads) == (107, [])


def test_hours_rest_on_recorded_rates_of_the_same_backbone(artifact: Path, tmp_path: Path) -> None:
    for number, backbone in enumerate(("xlm-roberta-large", "another")):
        rate = {"device": f"device {number}", "backbone": backbone, "tokens_per_second": 1000.0}
        (artifact / "measured" / f"rate-{number}.json").write_text(json.dumps(rate), encoding="utf-8")
    _, whole = cost("core", FilesSource(tmp_path))
    assert whole.hours == {"device 0": pytest.approx(whole.training_tokens / 3.6e6)}
    (artifact / "measured" / "rate-2.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match=r"rate-2\.json"):
        cost("core", FilesSource(tmp_path))


@pytest.mark.parametrize("key", ["mnli", "qqp", "squad", "squad_v2", "hellaswag", "pawsx", "udpos", "panx"])
def test_published_rows_are_those_that_the_table_of_the_hub_expects(key: str) -> None:
    assert get_task(key).train_rows == sum(part.rows for part in module.read_table()[key].train)
