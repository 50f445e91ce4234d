"""The README's example of adding a task, taken from its text, put into the catalogue, trained and scored."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from tests.conftest import PROJECT, SYLLABLES
from xlt.cli import app
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.model.encoder import PackedModel
from xlt.pipeline import single
from xlt.tasks import catalogue, xtreme_r
from xlt.tasks.record import Task

LONGEST_RECORD = 15
CONFIG = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(scope="module")
def record() -> str:
    """The one block of code in the section."""
    section = (PROJECT / "README.md").read_text("utf-8").split("\n## Add a task\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture
def task(record: str, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The block, put where the README says, and nothing else touched."""
    assert len(record.splitlines()) <= LONGEST_RECORD
    source = Path(catalogue.__file__).read_text("utf-8")
    assert source.count("\nINTERMEDIATE = (\n") == 1
    changed: dict[str, Any] = {"__name__": catalogue.__name__}
    exec(source.replace("\nINTERMEDIATE = (\n", f"\nINTERMEDIATE = (\n{record.rstrip()},\n"), changed)
    (key,) = changed["TASKS"].keys() - catalogue.TASKS.keys()
    added: Task = changed["TASKS"][key]
    monkeypatch.setitem(catalogue.TASKS, key, added)
    monkeypatch.setattr(single, "INTERMEDIATE", changed["INTERMEDIATE"])  # which it has imported by name
    return added


def write_files(root: Path, task: Task, splits: dict[str, int]) -> None:
    """``splits`` rows of each split in the record's layout; the first word tells the label."""
    draw = Random(0)
    for split, rows in splits.items():
        path = root / task.files[split]  # type: ignore[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(rows):
            label = number % len(task.labels)
            words = [("ba", "su")[label], *draw.choices(SYLLABLES[10:40], k=4)]
            lines.append(f"{' '.join(words)}\t{' '.join(draw.choices(SYLLABLES[10:40], k=4))}\t{task.labels[label]}\n")
        path.write_text("".join(lines), encoding="utf-8")


def test_every_record_of_the_catalogue_is_short() -> None:
    texts = [Path(module.__file__).read_text("utf-8") for module in (catalogue, xtreme_r)]
    calls = [each for text in texts for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
    records = [each for each in calls if isinstance(each.func, ast.Name) and each.func.id == "Task"]
    assert len(records) == len(catalogue.TASKS)
    assert max((each.end_lineno or 0) - each.lineno + 1 for each in records) <= LONGEST_RECORD


def test_the_readme_adds_a_task_that_is_shown_checked_trained_and_scored(
    task: Task, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, model, results = tmp_path / "data", tmp_path / "model", tmp_path / "results"
    write_files(data, task, {"train": 64, "dev": 20})
    train_tokenizer([" ".join(Random(n).choices(SYLLABLES, k=8)) for n in range(300)], 100, model)
    torch.manual_seed(0)
    PackedModel.fresh({**CONFIG, "vocab_size": len(load_tokenizer(str(model)))}).save(model)

    def xlt(*arguments: str) -> Any:
        assert app.run([*arguments, "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    assert xlt("tasks", "show", task.key)["task"]["name"] == task.name
    checked = xlt("tasks", "check", "--data-root", str(data))
    assert (checked["tasks"][task.key], checked["problems"]) == ({"train": {"en": 64}, "dev": {"en": 20}}, [])
    run = xlt(
        *("train", task.key, "--model", str(model), "--source", "files", "--data-root", str(data)),
        *("--steps", "40", "--learning-rate", "3e-3", "--batch-size", "16", "--results", str(results)),
    )
    assert run["folder"].startswith(f"runs/intermediate/train.{task.key}-")
    assert run["provenance"]["steps"] == 40
    # It learns what can be learned; half the rows have either label.
    assert run["metrics"][task.key]["dev"]["en"]["accuracy"] > 80
