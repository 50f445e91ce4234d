"""The README's example of adding a task, taken from its text, put into a file of the user's, trained and scored."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from tests.conftest import PROJECT, SYLLABLES
from tests.pipeline.conftest import Watcher
from xlt.cli import app
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.model.encoder import PackedModel
from xlt.pipeline.jobs import Job, make_run
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import read_spec
from xlt.tasks import catalogue, xtreme_r
from xlt.tasks.own import for_one_command
from xlt.tasks.record import Task
from xlt.train.engine import EngineSettings

LONGEST_RECORD = 15
CONFIG = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
TEST_SET = """
[my_test]
kind = "pair_classification"
languages = ["en", "de"]
trains_on = "my_nli"
layout = "pair_tsv"
files = { test = "my_test/{lang}.tsv" }
labels = ["entails", "neutral"]
"""
TIER = """
name = "mine"
about = "A task of mine, before another"
[sources.files]
backbone = { name = "xlm-roberta-large", retrieval_layer = 1 }
[sources.files.arms]
my_nli = { intermediate = ["my_nli"], targets = ["my_test"] }
[sources.files.recipes]
default = { steps = 2, epochs = 0, batch_size = 8, evaluate_every = 0, max_length = 32 }
"""
Xlt = Callable[..., Any]


@pytest.fixture(scope="module")
def record() -> str:
    """The one block of TOML in the section."""
    section = (PROJECT / "README.md").read_text("utf-8").split("\n## Add a task\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```toml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture
def xlt(capfd: pytest.CaptureFixture[str]) -> Xlt:
    """Gives a command, which must end with exit code ``code``, and returns its document."""

    def give(*arguments: str | Path, code: int = 0) -> Any:
        assert app.run([*map(str, arguments), "--json"]) == code
        return json.loads(capfd.readouterr().out)

    return give


@pytest.fixture(scope="module")
def given(record: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the record and a test set in ``my.toml``, a tier, their ``data`` and a ``model``."""
    folder = tmp_path_factory.mktemp("given")
    assert len(record.splitlines()) <= LONGEST_RECORD
    (folder / "my.toml").write_text(record + TEST_SET)
    (folder / "tier.toml").write_text(TIER)
    sets = {"my_nli/train": 64, "my_nli/dev": 20, "my_test/en": 20, "my_test/de": 20}
    for name, rows in sets.items():
        write_pairs(folder / "data" / f"{name}.tsv", rows)
    model = folder / "model"
    train_tokenizer([" ".join(Random(n).choices(SYLLABLES, k=8)) for n in range(300)], 100, model)
    torch.manual_seed(0)
    PackedModel.fresh({**CONFIG, "vocab_size": len(load_tokenizer(str(model)))}).save(model)
    return folder


def write_pairs(path: Path, rows: int) -> None:
    """So many rows; the first word tells the label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw, lines = Random(0), []
    for number in range(rows):
        words = [("ba", "su")[number % 2], *draw.choices(SYLLABLES[10:40], k=4)]
        label = ("entails", "neutral")[number % 2]
        lines.append(f"{' '.join(words)}\t{' '.join(draw.choices(SYLLABLES[10:40], k=4))}\t{label}\n")
    path.write_text("".join(lines), encoding="utf-8")


def test_every_record_of_the_catalogue_is_short() -> None:
    texts = [Path(module.__file__).read_text("utf-8") for module in (catalogue, xtreme_r)]
    calls = [each for text in texts for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
    records = [each for each in calls if isinstance(each.func, ast.Name) and each.func.id == "Task"]
    assert len(records) == len(catalogue.TASKS)
    assert max((each.end_lineno or 0) - each.lineno + 1 for each in records) <= LONGEST_RECORD


def test_the_readme_adds_a_task_that_is_shown_checked_trained_and_scored(given: Path, tmp_path: Path, xlt: Xlt) -> None:
    own = ("--tasks", given / "my.toml")
    assert xlt("tasks", "show", "my_nli", *own)["task"]["name"] == "My NLI"
    checked = xlt("tasks", "check", "--data-root", given / "data", *own)
    assert (checked["tasks"]["my_nli"], checked["problems"]) == ({"train": {"en": 64}, "dev": {"en": 20}}, [])
    run = xlt(
        *("train", "my_nli", "--model", given / "model", "--source", "files", "--data-root", given / "data", *own),
        *("--steps", "40", "--learning-rate", "3e-3", "--batch-size", "16", "--results", tmp_path),
    )
    assert run["folder"].startswith("runs/intermediate/train.my_nli-")
    assert run["provenance"]["steps"] == 40
    # It learns what can be learned; half the rows have either label.
    assert run["metrics"]["my_nli"]["dev"]["en"]["accuracy"] > 80
    assert "my_nli" not in catalogue.TASKS  # the next command in this process does not know it


def test_a_file_that_the_users_record_names_and_that_is_not_there_is_a_problem(given: Path, xlt: Xlt) -> None:
    record = given / "absent.toml"
    record.write_text((given / "my.toml").read_text("utf-8").replace("my_nli/dev", "my_nli/d"))
    checked = xlt("tasks", "check", "--data-root", given / "data", "--tasks", record, code=4)
    (problem,) = checked["problems"]
    assert problem["file"] == "my_nli/d.tsv"
    assert problem["message"] == "the dev file of the task 'my_nli' is not there."


def test_the_runs_of_a_tier_keep_the_records_so_that_they_are_verified_without_them(
    given: Path, tmp_path: Path, xlt: Xlt, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ("--data-root", given / "data", "--results", tmp_path)
    monkeypatch.setenv("XLT_TASKS", str(given / "my.toml"))
    xlt("reproduce", "--tier", given / "tier.toml", "--model", given / "model", "--source", "files", *root)
    monkeypatch.delenv("XLT_TASKS")
    found = xlt("verify", *root, "--recheck", "2", code=5)  # nothing is expected of such a tier
    assert {(cell["task"], cell["language"]) for cell in found["cells"]} == {
        *(("my_test", "en"), ("my_test", "de"), ("my_nli", "en"))
    }
    assert found["problems"] == []


def test_a_process_that_is_handed_a_run_alone_knows_its_tasks(
    given: Path, tmp_path: Path, xlt: Xlt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker is, or a job of a cluster: ``make_run`` gets no options."""
    own = ("--tasks", given / "my.toml", "--data-root", given / "data", "--results", tmp_path)
    run = xlt("train", "my_nli", "--model", given / "model", "--source", "files", "--steps", "1", *own)
    with for_one_command():
        spec = read_spec(tmp_path / run["folder"])
    made: list[Task] = []
    monkeypatch.setattr("xlt.pipeline.run.execute_run", lambda spec, *_: made.append(spec.task("my_nli")))
    monkeypatch.setattr("xlt.pipeline.jobs._source", lambda _: None)
    with for_one_command():
        make_run(Job(spec, None, SourceOptions(), tmp_path, EngineSettings(), 0), Watcher())
    assert made[0].labels == ("entails", "neutral")


def test_another_record_of_a_run_that_was_made_is_refused_and_another_wording_is_not(
    given: Path, tmp_path: Path, xlt: Xlt
) -> None:
    root = ("--source", "files", "--data-root", given / "data", "--results", tmp_path)
    run = xlt("train", "my_nli", "--model", given / "model", "--steps", "1", *root, "--tasks", given / "my.toml")
    reworded, relabelled = tmp_path / "reworded.toml", tmp_path / "relabelled.toml"
    text = (given / "my.toml").read_text()
    reworded.write_text(text.replace("CC BY 4.0", "CC0"))
    relabelled.write_text(text.replace('"entails", "neutral"', '"neutral", "entails"'))
    again = ("evaluate", "my_test", "--model", tmp_path / run["folder"], *root, "--tasks")
    assert xlt(*again, reworded)["hash"]
    error = xlt(*again, relabelled, code=4)["error"]
    assert (error["what"], "labels" in error["why"]) == ("There is another task 'my_nli' already.", True)
