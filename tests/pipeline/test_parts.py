"""What each part of a tier costs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.artifact import artifact_root
from xlt.data.files.source import FilesSource
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import DataFault
from xlt.pipeline import estimate as module
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.hours import Rate
from xlt.pipeline.parts import PartCost, part_costs
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task

TIER = """
name = "parted"
about = "Two parts"
[sources.files]
parameters = 1000
backbone = { name = "multilingual-e5-small", retrieval_layer = 12 }
parts.small = { about = "one task" }
parts.large = { about = "the same on a large model", on_request = true }
[sources.files.arms]
one = { part = "small", intermediate = ["mnli"], targets = ["tatoeba"] }
two = { part = "large", intermediate = ["mnli"], targets = ["tatoeba"], backbone = { name = "xlm-roberta-large" } }
"""


@pytest.fixture
def place(tmp_path: Path, tiny_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact folder with that tier and a recorded rate of the small model, whose tokenizer is there."""
    root = tmp_path / "artifact"
    (root / "tiers").mkdir(parents=True)
    (root / "tiers" / "parted.toml").write_text(TIER, "utf-8")
    for name in ("hub.toml", "claims.toml"):
        shutil.copy(artifact_root() / name, root)
    measured = artifact_root() / "measured"
    (root / "measured").mkdir()
    for path in measured.glob("tokens.json"):
        shutil.copy(path, root / "measured")
    rate = Rate(
        device="a laptop",
        backbone="intfloat/multilingual-e5-small",
        engine="deepspeed",
        training={"pair_classification": 1000.0},
        inference=3000.0,
    )
    (root / "measured" / "rate-laptop.json").write_text(rate.model_dump_json(), "utf-8")
    monkeypatch.setenv("XLT_ARTIFACT", str(root))
    rows = FilesSource(tiny_files).rows(get_task("mnli"), "train", "en")
    train_tokenizer([str(row) for row in rows], 120, tmp_path / "tokenizer")
    made = load_tokenizer(str(tmp_path / "tokenizer"))
    monkeypatch.setattr(module, "_tokenizer", lambda name: made)
    return tmp_path


def costs(place: Path, files: Path, *names: str) -> dict[str, PartCost]:
    found = part_costs(read_tier("parted"), FilesSource(files), names, seed=0, precision="fp32")
    return {each.name: each for each in found}


def test_a_part_costs_what_its_own_runs_do(place: Path, tiny_files: Path) -> None:
    found = costs(place, tiny_files, "small", "large")
    assert list(found) == ["small", "large"]
    small, large = found.values()
    assert (small.on_request, large.on_request) == (False, True)
    assert (small.backbone, large.backbone) == ("multilingual-e5-small", "xlm-roberta-large")
    assert small.estimate.training_tokens == large.estimate.training_tokens > 0
    (hours,) = small.estimate.hours.items()
    assert hours[0] == "a laptop, deepspeed engine"
    assert hours[1].training == pytest.approx(small.estimate.training_tokens / 1000 / 3600)
    assert not hours[1].gpu
    assert costs(place, tiny_files, "large").keys() == {"large"}
    # How many weights the tier's own model has is no size of another one.
    assert (small.estimate.disk_bytes, large.estimate.disk_bytes) == (4000, None)


def test_hours_of_a_model_that_nobody_timed_follow_by_size_and_are_said_to(place: Path, tiny_files: Path) -> None:
    found = costs(place, tiny_files, "small", "large")
    ((name, large),) = found["large"].estimate.hours.items()
    (small,) = found["small"].estimate.hours.values()
    assert name == "a laptop (predicted by size from intfloat/multilingual-e5-small), deepspeed engine"
    assert large.training / small.training == pytest.approx((24 * 1024**2) / (12 * 384**2))
    assert large.evaluation / small.evaluation == pytest.approx((24 * 1024**2) / (12 * 384**2))


def test_plan_shows_all_parts_those_included_that_run_on_request(invoke: Invoke, place: Path, tiny_files: Path) -> None:
    arguments = ("plan", "--tier", "parted", "--source", "files", "--data-root", str(tiny_files))
    shown = invoke(*arguments)
    assert shown.code == 0, shown.err
    text = " ".join(shown.out.split())
    assert "Part small: one task." in text
    assert "Part large (only when it is named): the same on a large model." in text
    assert "not timed on a GPU yet" in text
    document = invoke(*arguments, "--json").document
    assert [each["name"] for each in document["parts"]] == ["small", "large"]
    document = invoke(*arguments, "--part", "large", "--json").document
    assert [each["name"] for each in document["parts"]] == ["large"]
    assert {run["arm"] for run in document["runs"]} == {"two"}


def test_a_part_with_a_model_of_its_own_needs_no_other_model(place: Path, tiny_files: Path) -> None:
    builder = GridBuilder(
        *(read_tier("parted"), FilesSource(tiny_files)), seed=0, precision="fp32", parts=["large"], fingerprints=False
    )
    assert {run.backbone.name for run in builder.grid().runs} == {"xlm-roberta-large"}
    with pytest.raises(DataFault, match="'xlm-roberta-large' was not fetched"):
        GridBuilder(*(read_tier("parted"), FilesSource(tiny_files)), seed=0, precision="fp32", parts=["large"]).grid()
    found = costs(place, tiny_files, "large")["large"].estimate
    assert "FacebookAI/xlm-roberta-large" in found.unknown_downloads
    assert "intfloat/multilingual-e5-small" not in found.unknown_downloads
