"""A tier in parts, run one after the other into one folder, and with a model of the user's in the place of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Invoke
from tests.pipeline.conftest import TinyGrid

ARMS = """
small = { part = "grid", targets = ["tatoeba"], recipes = { default = { test_examples = 6 } } }
whole = { part = "A1", targets = ["tatoeba"] }
late = { part = "A2", targets = ["xquad"] }
"""
PARTS = """
parts.grid = { about = "some rows of each language" }
parts.A1 = { about = "all rows" }
parts.A2 = { about = "what takes long", on_request = true }
"""


def test_parts_share_a_folder_and_each_is_scored_on_its_own_rows(
    invoke: Invoke, tiny_tier: Path, tiny_files: Path, tmp_path: Path
) -> None:
    tiny = TinyGrid(tiny_tier, tiny_files).with_arms(tmp_path, ARMS, plan=PARTS)
    results, data = tmp_path / "results", ["--source", "files", "--data-root", str(tiny.files)]
    command = ["reproduce", "--tier", str(tiny.tier), *data]

    first = invoke(*command, "--part", "grid", "--results", str(results))
    assert first.code == 0, first.err
    assert "Part grid: some rows of each language." in first.err + first.out
    assert "Runs made at a time: 1 (" in first.err + first.out
    assert "Nothing was judged (exit code 0; that of verify and report: 5): " in first.out
    held = json.loads((results / "grid.json").read_text("utf-8"))
    assert (held["parts"], {run["arm"] for run in held["runs"]}) == (["grid"], {"", "small"})

    # What is asked for next comes to what is there.
    second = invoke(*command, "--part", "A1", "--results", str(results))
    assert second.code == 0, second.err
    held = json.loads((results / "grid.json").read_text("utf-8"))
    assert (held["parts"], {run["arm"] for run in held["runs"]}) == (["grid", "A1"], {"", "small", "whole"})
    verified = json.loads(invoke("verify", *data[2:], "--results", str(results), "--json").out)
    assert not verified["problems"]
    assert {(cell["arm"], cell["examples"]) for cell in verified["cells"]} == {("small", 6), ("whole", 15)}
    assert "--data-root DIR --part grid --part A1 --results DIR" in verified["command"]

    assert "has no part 'A7'" in invoke(*command, "--part", "A7", "--results", str(results)).err

    # A model of the user's own: named by its bytes, never by where it lies.
    (pretrained,) = (results / "runs" / "pretrain").iterdir()
    own = tmp_path / "own"
    given = [*command, "--part", "A1", "--model", str(pretrained / "model")]
    third = invoke(*given, "--results", str(own))
    assert third.code == 0, third.err
    text = (own / "grid.json").read_text("utf-8")
    held = json.loads(text)
    assert held["model"].startswith("folder:")
    assert str(tmp_path) not in text
    assert [run["phase"] for run in held["runs"]] == ["target"]
    verified = json.loads(invoke("verify", *data[2:], "--results", str(own), "--json").out)
    assert not verified["problems"]
    assert "--model FOLDER --part A1" in verified["command"]
    assert f"  {held['model']}; " in third.err + third.out
    # The folder of a run is the model that it trained.
    for folder in (pretrained / "model", pretrained):
        planned = invoke("plan", *given[1:-1], str(folder), "--results", str(own), "--json").document
        assert {run["state"] for run in planned["runs"]} == {"done"}
        assert [part["backbone"] for part in planned["parts"]] == [held["model"]]
    refused = invoke(*command, "--golden", "--results", str(own))
    assert refused.code == 2
    assert f"holds results of model {held['model']}; asked for is model (the tier's own)." in refused.err
    assert "golden" not in refused.err  # it takes a while, and the command was wrong
