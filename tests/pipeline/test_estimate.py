"""What a grid will cost: counted or measured, or else unknown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.features import Encoded, encode
from xlt.data.files.source import FilesSource
from xlt.data.hub.table import read_table
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import EnvironmentFault
from xlt.pipeline import calibration
from xlt.pipeline import estimate as module
from xlt.pipeline.calibration import calibrate
from xlt.pipeline.estimate import Estimate, RunEstimate, ScoredRows, estimate
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.hours import Rate
from xlt.pipeline.provenance import cpu_name
from xlt.pipeline.sources import LimitedSource
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import read_tier
from xlt.pipeline.tokens import read_tokens
from xlt.tasks.catalogue import get_task


def cost(tier: str, source: Source) -> tuple[dict[str, RunEstimate], Estimate]:
    read = read_tier(tier)
    grid = GridBuilder(read, source, seed=0, precision="fp32", fingerprints=False).grid()
    result = estimate(grid, read.plan(source.name), source)
    return {spec.name: run for spec, run in zip(grid.runs, result.runs, strict=True)}, result


def sized(run: RunEstimate) -> RunEstimate:
    """Without what it makes of text, which is nothing where nothing is known."""
    return replace(run, encoded={})


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``artifact/`` of the test's own without lock and rates, and a hub cache that does not matter."""
    folder = tmp_path / "artifact"
    root = module.artifact_root()
    for part in ("tiers", "deepspeed"):
        shutil.copytree(root / part, folder / part)
    shutil.copy(root / "hub.toml", folder)
    (folder / "measured").mkdir()
    shutil.copy(root / "measured" / "tokens.json", folder / "measured")
    monkeypatch.setenv("XLT_ARTIFACT", str(folder))
    monkeypatch.delenv("XLT_DATA_LOCK", raising=False)
    return folder


def test_what_is_neither_counted_nor_measured_is_unknown(tiny_tier: Path, tiny_files: Path, artifact: Path) -> None:
    runs, whole = cost(str(tiny_tier), FilesSource(tiny_files))
    # Steps and batches are set by the recipe; without a tokenizer nobody has counted a token.
    assert sized(runs["mlm"]) == RunEstimate(12 * 16, None, evaluation_tokens=0, dev_tokens=None)
    assert sized(runs["baseline.xquad"]) == RunEstimate(8 * 8, None, evaluation_tokens=None, dev_tokens=None)
    assert sized(runs["baseline.tatoeba"]) == RunEstimate(0, 0, evaluation_tokens=None)
    assert whole.unknown_runs == [name for name, run in runs.items() if run.tokens != 0]
    assert whole.unscored_runs == list(runs)
    assert (whole.training_tokens, whole.disk_bytes, whole.hours, whole.gpu_bytes) == (0, None, {}, {})


@pytest.fixture
def tokenizer(tiny_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreTrainedTokenizerBase:
    """A tokenizer, as if it were that of the backbone."""
    rows = FilesSource(tiny_files).rows(get_task("mnli"), "train", "en")
    train_tokenizer([str(row) for row in rows], 120, tmp_path / "tokenizer")
    made = load_tokenizer(str(tmp_path / "tokenizer"))
    monkeypatch.setattr(module, "_tokenizer", lambda name: made)
    return made


def count(sequences: Sequence[Encoded]) -> int:
    return sum(len(sequence.input_ids) for sequence in sequences)


def test_with_rows_and_tokenizer_the_tokens_are_those_of_training(
    tiny_files: Path, artifact: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    source = FilesSource(tiny_files)
    task = get_task("mnli")
    runs, whole = cost("core", source)
    once = count(encode(source.rows(task, "train", "en"), task, tokenizer, training=True))
    scored = count(encode(source.rows(task, "dev", "en"), task, tokenizer, training=False))
    assert runs["mnli"] == RunEstimate(
        examples=96,
        tokens=2 * once,
        kinds={"pair_classification": 2 * once},
        evaluation_tokens=scored,
        # 48 rows in batches of 32: the first epoch ends within step 2, the second with step 3, and so does training.
        dev_tokens=2 * scored,
        steps={"pair_classification": 3},
        scored={"pair_classification": ScoredRows(12, scored, 1)},
        dev={"pair_classification": ScoredRows(12, scored, 1)},
        dev_scores=2,
        encoded={"pair_classification": once + scored},
    )
    # What one run has made of text the others read.
    assert runs["squad.xnli"].encoded == {}
    assert whole.training_tokens == sum(run.tokens or 0 for run in runs.values())
    # Its data is absent here. How many rows it has is published, and how long such rows are is recorded.
    assert runs["hellaswag"].examples == 32 * -(-3 * 39_905 // 32)
    mean = read_tokens().tasks["hellaswag"].splits["train"].mean
    assert runs["hellaswag"].tokens == pytest.approx(runs["hellaswag"].examples * mean, rel=1e-6)
    assert (whole.by_table["hellaswag"], whole.by_table["panx"]) == ("measured", "estimate")
    assert "mnli" not in whole.by_table


def test_adversarial_training_counts_its_passes(
    tiny_tier: Path, tiny_files: Path, tmp_path: Path, artifact: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    path, written = tmp_path / "robust.toml", tiny_tier.read_text("utf-8")
    path.write_text(written + 'mnli = { adversarial = { method = "pgd", steps = 4 } }\n', "utf-8")
    (plain, once), (robust, whole) = (cost(str(each), FilesSource(tiny_files)) for each in (tiny_tier, path))
    name = next(name for name, run in robust.items() if run.work != 1)
    # DERIVED: 5 products forward, 2 times 2 back to the weights, 3 to the perturbation; 3 in a standard step.
    assert robust[name].work == pytest.approx(12 / 3)
    assert robust[name].tokens == pytest.approx(4 * plain[name].tokens, abs=4)  # type: ignore[operator]
    assert (robust[name].examples, robust[name].kinds, robust[name].steps) == (
        *(plain[name].examples, plain[name].kinds, plain[name].steps),
    )
    assert whole.training_tokens - once.training_tokens == robust[name].tokens - plain[name].tokens  # type: ignore[operator]
    assert {run.work for other, run in robust.items() if other != name} == {1.0}


def test_tasks_trained_together_share_the_steps_in_proportion_to_their_examples(
    tiny_tier: Path, tiny_files: Path, artifact: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    source, tier = FilesSource(tiny_files), read_tier(str(tiny_tier))
    both = cost(str(tiny_tier), source)[0]["both"]
    sets = {key: replace(get_task(key), recipe=tier.recipe(key, "files")) for key in ("mnli", "squad")}
    sequences = {
        key: encode(source.rows(task, "train", "en"), task, tokenizer, training=False) for key, task in sets.items()
    }
    examples = sum(map(len, sequences.values()))
    assert both.examples == 10 * 8
    assert both.kinds == {
        "pair_classification": round(80 * count(sequences["mnli"]) / examples),
        "span_qa": round(80 * count(sequences["squad"]) / examples),
    }
    assert both.tokens == pytest.approx(sum(both.kinds.values()), abs=1)


def test_without_data_models_and_downloads_are_counted(artifact: Path, tmp_path: Path) -> None:
    runs, whole = cost("paper", FilesSource(tmp_path))
    # 2 epochs of the 392,702 rows that are published, as whole batches of 32, each row as long as those recorded.
    assert runs["mnli"].examples == 785_408
    assert runs["mnli"].tokens == pytest.approx(785_408 * read_tokens().tasks["mnli"].splits["train"].mean, rel=1e-6)
    # So are the rows that it is scored on, and the 500 of them that choose its checkpoint.
    dev = read_tokens().tasks["mnli"].splits["dev"].mean
    assert runs["mnli"].evaluation_tokens == pytest.approx(9815 * dev, rel=1e-4)
    assert runs["mnli"].dev == {"pair_classification": ScoredRows(500, round(500 * dev), 1)}
    # One table holds all languages of TyDiQA; Tatoeba has two sentences a row.
    assert runs["baseline.tydiqa"].scored["span_qa"].rows == pytest.approx(5077, abs=9)
    # Nobody has counted the text of masked LM, the sentences of BUCC, or those of all languages of UD.
    assert runs["mnli_mlm"].examples is None
    uncounted = "bucc2018", "udpos", "_mlm", "_mlm8"
    assert {name for name in runs if name.endswith(uncounted[2:])} < {*whole.unscored_runs}
    assert not [name for name in whole.unscored_runs if not any(each in name for each in uncounted)]
    # 8 single tasks, multi8, 4 with masked LM; from each and the baseline 6 trainings on targets; 2 are shared.
    assert whole.models == sum(run.tokens != 0 for run in runs.values()) == 13 + 14 * 6 - 2
    assert whole.disk_bytes == whole.models * 558_840_832 * 4
    assert whole.state_bytes == 4 * 558_840_832 * 4
    assert (whole.download_bytes, whole.unknown_downloads) == (0, ["FacebookAI/xlm-roberta-large"])


def test_sizes_of_downloads_are_those_of_the_lock(artifact: Path, tmp_path: Path) -> None:
    files = {name: {"size": size, "sha256": ""} for name, size in (("config.json", 7), ("model.safetensors", 100))}
    locked = {"revision": "r", "files": {**files, "README.md": {"size": 5, "sha256": ""}}}
    (artifact / "data.lock").write_text(
        json.dumps({"models": {"FacebookAI/xlm-roberta-large": locked}}), encoding="utf-8"
    )
    _, whole = cost("core", FilesSource(tmp_path))
    assert (whole.download_bytes, whole.unknown_downloads) == (107, [])


def test_hours_rest_on_recorded_rates_of_the_same_backbone(
    tiny_files: Path, artifact: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    values = {"device": "device 0", "backbone": "xlm-roberta-large", "engine": "graph"}
    rate = Rate(**values, training={"pair_classification": 1000.0, "span_qa": 2000.0})  # type: ignore[arg-type]
    for number, changes in enumerate(({}, {"engine": "deepspeed"}, {"backbone": "another"})):
        text = rate.model_copy(update=changes).model_dump_json()
        (artifact / "measured" / f"rate-{number}.json").write_text(text, encoding="utf-8")
    _, whole = cost("core", FilesSource(tiny_files))
    # Nobody measured taggings, predictions and the rest.
    unknown = {hours.training or hours.dev or hours.evaluation or hours.total for hours in whole.hours.values()}
    assert list(whole.hours) == ["device 0, graph engine", "device 0, deepspeed engine"]
    assert unknown == {None}
    (artifact / "measured" / "rate-2.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match=r"rate-2\.json"):
        cost("core", FilesSource(tiny_files))


def test_a_calibration_trains_and_predicts_a_little_of_every_kind(
    tiny_tier: Path, tiny_files: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "CALIBRATION_STEPS", {"deepspeed": 2})
    tier, source = read_tier(str(tiny_tier)), FilesSource(tiny_files)
    grid = GridBuilder(tier, source, seed=0, precision="fp32").grid()
    found = calibrate(tier, grid, source)
    assert set(found.rate.training) == {"masked_lm", "pair_classification", "span_qa"}
    assert found.rate.inference is not None
    assert {*found.rate.encoding} == {"pair_classification", "span_qa"}
    assert min(*found.rate.training.values(), found.rate.inference) > 0
    whole = estimate(grid, tier.plan("files"), source, found)
    assert whole.unknown_runs == []
    assert (found.gpu_bytes, whole.gpu_bytes) == (None, {})
    ((name, hours),) = whole.hours.items()
    threads = torch.get_num_threads()
    here = f"{cpu_name() or 'cpu'}, {threads} thread{'s' * (threads > 1)}, one run at a time, deepspeed engine"
    assert (name, hours.calibrated) == (f"{here}, calibrated now", True)
    assert hours.evaluation is not None
    assert 0 < hours.evaluation < 1
    # Its tokens at its rates: a run of a few steps takes seconds.
    assert hours.training is not None
    assert 0 < hours.training * 3600 < whole.training_tokens / min(found.rate.training.values()) * 1.01

    # Recorded, it is found by later plans, of one run at a time.
    path = calibration.record(found.rate.model_copy(update={"side_by_side": 2}))
    assert path.parent == artifact / "measured"
    assert path.name.startswith("rate-fresh-")
    (known,) = estimate(grid, tier.plan("files"), source).hours
    assert known == here


def test_a_calibration_times_standard_steps(
    tiny_tier: Path, tiny_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What adversarial ones take beyond is counted: it would be counted twice."""
    path, written = tmp_path / "robust.toml", tiny_tier.read_text("utf-8")
    path.write_text(written.replace("default = {", 'default = { adversarial = { method = "freelb" },'), "utf-8")
    tier, source = read_tier(str(path)), FilesSource(tiny_files)
    grid = GridBuilder(tier, source, seed=0, precision="fp32").grid()
    assert any(spec.adversarial for spec in grid.runs)
    trained: list[str] = []

    def first(spec: RunSpec, *rest: object) -> None:
        trained.append(spec.adversarial)
        raise InterruptedError

    monkeypatch.setattr(calibration, "train_run", first)
    with pytest.raises(InterruptedError):
        calibrate(tier, grid, source)
    assert trained == [""]


@pytest.mark.parametrize("key", ["mnli", "qqp", "squad", "squad_v2", "hellaswag", "pawsx", "udpos", "panx"])
def test_published_rows_are_those_that_the_table_of_the_hub_expects(key: str) -> None:
    assert get_task(key).train_rows == sum(part.rows for part in read_table()[key].train)


def test_rows_that_are_here_are_as_long_as_those_recorded_until_the_tokenizer_is_fetched(
    tiny_files: Path, artifact: Path
) -> None:
    source, recorded = FilesSource(tiny_files), read_tokens().tasks
    runs, whole = cost("core", source)
    rows = len(source.rows(get_task("mnli"), "train", "en"))
    assert runs["mnli"].examples == 32 * -(-2 * rows // 32)
    assert runs["mnli"].tokens == pytest.approx(96 * recorded["mnli"].splits["train"].mean, rel=0.01)
    expected = sum(18 * recorded["xnli"].splits[split].languages[language]
                   for split in ("dev", "test") for language in ("en", "sw", "zh"))  # fmt: skip
    assert runs["baseline.xnli"].evaluation_tokens == pytest.approx(expected, abs=3)
    assert whole.by_table["mnli"] == "measured"


def test_of_a_set_that_a_recipe_cuts_only_those_rows_are_counted(tmp_path: Path) -> None:
    """Without any data, by published numbers of rows: MNLI has 392,702."""
    runs, _ = cost("pocket", FilesSource(tmp_path))
    assert runs["mnli"].examples == 4000
    assert runs["baseline.xnli"].examples == 3008  # in whole batches
    # 100 sentences of either side: of Tatoeba in 36 languages, of the dev and the test set of BUCC in four.
    assert runs["baseline.bucc2018+tatoeba"].scored["retrieval"].pairs == (36 + 2 * 4) * 100**2
    # How many are left of sets that are not here and then limited, nobody knows.
    limited, _ = cost("pocket", LimitedSource(FilesSource(tmp_path), 5))
    assert (limited["mnli"].examples, limited["mnli"].evaluation_tokens) == (None, None)
