"""A decoder and encoders of other families in the place of XLM-R, through the commands: every kind of task is trained,
scored, stored and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import families
from tests.pipeline.conftest import TinyGrid
from xlt.cli import app
from xlt.pipeline.store import write_manifest

pytestmark = pytest.mark.filterwarnings("ignore:.*runs padded")
TRAINED = {"mnli": "xnli", "squad": "xquad", "panx": "panx", "hellaswag": "hellaswag"}


@pytest.fixture(scope="module", params=["bloom", "xglm", "modernbert"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.store(tmp_path_factory.mktemp("model") / request.param, request.param)


def run(results: Path, *arguments: str) -> tuple[Path, Any]:
    """The folder and the metrics of the run that a command makes of the world's data."""
    before = {*results.glob("runs/*/*")}
    assert app.run([*arguments, "--source", "world", "--limit", "12", "--results", str(results)]) == 0
    (made,) = {*results.glob("runs/*/*")} - before
    return made, json.loads((made / "metrics.json").read_text("utf-8"))


def test_every_kind_of_task_is_trained_scored_and_verified(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for key, other in TRAINED.items():
        trained, metrics = run(
            tmp_path, *("train", key, "--model", str(folder), "--steps", "2", "--batch-size", "4", "--seed", "1")
        )
        assert metrics[key]["dev"]["en"]
        if other != key:
            _, metrics = run(tmp_path, "evaluate", other, "--model", str(trained), "--language", "en")
            assert metrics[other]["test"]["en"]
    # The stored models predict what they predicted, with the tokenizers stored beside them.
    capfd.readouterr()
    app.run(["verify", "--results", str(tmp_path), "--recheck", "40", "--json"])
    document = json.loads(capfd.readouterr().out)
    assert document["problems"] == []
    assert any("predicted again from the stored models; 100.00 %" in each for each in document["checks"]["checked"])


def test_sentences_are_found_by_their_mean_and_by_their_last_token(folder: Path, tmp_path: Path) -> None:
    found = {}
    for pooling in ("mean", "last"):
        made, metrics = run(
            tmp_path, "retrieve", "tatoeba", "--model", str(folder), "--layer", "2", "--pooling", pooling
        )
        assert metrics["tatoeba"]["test"]
        found[pooling] = [path.read_bytes() for path in sorted(made.glob("predictions/*"))]
    assert found["mean"] != found["last"]


ARMS = """
baseline = { targets = ["xnli", "xquad", "tatoeba"] }
nli = { intermediate = ["mnli"], targets = ["tatoeba"] }
"""


def test_a_tier_is_reproduced_with_a_decoder(tiny_tier: Path, tiny_files: Path, tmp_path: Path) -> None:
    folder = families.store(tmp_path / "bloom", "bloom")
    tiny = TinyGrid(tiny_tier, tiny_files).with_arms(tmp_path, ARMS)
    data = ["--source", "files", "--data-root", str(tiny.files), "--results", str(tmp_path / "results")]
    assert app.run(["reproduce", "--tier", str(tiny.tier), "--model", str(folder), *data]) == 0
    runs = json.loads((tmp_path / "results" / "grid.json").read_text("utf-8"))["runs"]
    assert {(run["arm"], run["phase"]) for run in runs} == {
        *(("baseline", "target"), ("nli", "intermediate"), ("nli", "target"))
    }


def test_phase_1_of_a_decoder_is_trained_stored_and_verified(
    tiny_tier: Path, tiny_files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The losses and the weights of its training are computed again, and a log with another loss is found."""
    arms = 'mixed = { intermediate = ["mnli"], masked_lm = true, targets = ["xnli"] }'
    tiny = TinyGrid(tiny_tier, tiny_files).with_arms(tmp_path, arms, recipe="mixed = { steps = 6 }")
    text = tiny.tier.read_text("utf-8")
    begin, end = text.index("[sources.files.backbone]"), text.index("[sources.files.recipes]")
    own = '[sources.files.backbone]\nfamily = "bloom"\nvocabulary = 120\nretrieval_layer = 1\n'
    own += "config = { n_layer = 2, hidden_size = 32, n_head = 2, initializer_range = 0.05 }\n"
    tiny.tier.write_text(text[:begin] + own + text[end:], "utf-8")
    results = tmp_path / "results"
    where = ["--results", str(results), "--data-root", str(tiny.files)]
    assert app.run(["reproduce", "--tier", str(tiny.tier), "--source", "files", *where]) == 0
    spec = next(results.glob("runs/intermediate/*/spec.json"))
    assert json.loads(spec.read_text("utf-8"))["train"] == ["mnli", "mlm"]
    log = next(results.glob("runs/pretrain/*/log.jsonl"))
    losses = [json.loads(line)["loss"] for line in log.read_text("utf-8").splitlines()]
    assert losses[-1] < losses[0]
    capfd.readouterr()
    app.run(["verify", *where, "--recheck", "8", "--replay", "3", "--json"])
    document = json.loads(capfd.readouterr().out)
    assert document["problems"] == []
    checked = " ".join(document["checks"]["checked"])
    assert "losses: the first and the last of 3 of 3 trainings" in checked
    assert document["checks"]["replay"]["identical"] == 3
    first, *rest = log.read_text("utf-8").splitlines()
    forged = json.dumps({**json.loads(first), "loss": 1.02 * losses[0]})
    log.write_text("\n".join([forged, *rest]) + "\n", "utf-8")
    write_manifest(log.parent)
    app.run(["verify", *where, "--recheck", "8", "--json"])
    (problem,) = json.loads(capfd.readouterr().out)["problems"]
    assert "the loss of step 1" in problem["what"]
