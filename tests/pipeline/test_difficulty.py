"""A first pass tells easy rows from hard ones, and training uses those that the recipe names."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.data.features import encode
from xlt.data.rows import PairRow, Row
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.model.encoder import PackedModel
from xlt.pipeline.difficulty import chosen_places, chosen_rows
from xlt.runtime import start_process_group
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.batches import BatchStream
from xlt.train.engine import EngineSettings
from xlt.verify.judge import verify

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ANSWERS = {"entailment": "yes", "neutral": "maybe", "contradiction": "never"}


def test_the_easiest_and_the_hardest_are_taken_in_their_order() -> None:
    ease = [(1.0, 0.9), (0.0, -0.9), (1.0, 0.4), (0.5, 0.6), (0.0, -0.1), (1.0, 0.9)]
    assert chosen_places(ease, Recipe(steps=1, first_pass=1, easiest=0.5)) == [0, 2, 5]
    assert chosen_places(ease, Recipe(steps=1, first_pass=1, hardest=0.5)) == [1, 3, 4]
    assert chosen_places(ease, Recipe(steps=1, first_pass=1, hardest=0.01)) == [1]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Rows whose label the second text tells, but for every tenth one, whose label is wrong; the last one is blank."""
    draw, made = random.Random(0), list[Row]()
    for number in range(120):
        label = draw.choice([*ANSWERS])
        said = draw.choice([text for other, text in ANSWERS.items() if (other == label) != (number % 10 == 0)])
        made.append(PairRow(f"r{number}", draw.choice(["sun", "moon", "star"]), said, label))
    return [*made, PairRow("blank", "sun", " ", "neutral")]


def chosen(rows: Sequence[Row], folder: Path, **share: float) -> tuple[list[str], PackedModel]:
    start_process_group()
    train_tokenizer(["yes maybe never sun moon star"] * 9, 40, folder, threads=1)
    tokenizer = load_tokenizer(str(folder))
    torch.manual_seed(0)
    model = PackedModel.fresh({**SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 40})
    model.drop_masked_lm_head()
    model.add_head("mnli", "pair_classification", get_task("mnli").labels)
    recipe = Recipe(steps=5, batch_size=32, learning_rate=1e-2, max_length=32, first_pass=60, **share)
    task = dataclasses.replace(get_task("mnli"), recipe=recipe)
    seen: list[Recipe] = []

    def stream(its: Recipe, some: Sequence[Row]) -> BatchStream:
        seen.append(its)
        return BatchStream(encode(some, task, tokenizer, training=True), task, its, seed=1, first_position=2)

    found = chosen_rows(rows, task, model, tokenizer, stream, seed=0, max_tokens=4096, settings=EngineSettings())
    assert [(its.steps, its.evaluate_every) for its in seen] == [(60, 20)]
    return [row.id for row in found], model


def test_rows_with_wrong_labels_are_the_hardest_and_the_model_stays_as_it_was(rows: list[Row], tmp_path: Path) -> None:
    hardest, model = chosen(rows, tmp_path / "one", hardest=0.1)
    assert hardest == [f"r{number}" for number in range(0, 120, 10)]
    easiest, again = chosen(rows, tmp_path / "two", easiest=0.5)
    assert len(easiest) == 60
    assert not {*hardest} & {*easiest}
    assert "blank" not in easiest
    for before, after in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(before, after)  # both are as they were made


def test_a_run_trains_on_the_rows_of_its_recipe_alone(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    arm = 'hard = {{ intermediate = ["mnli"], targets = ["tatoeba"], recipes = {{ mnli = {{ {} }} }} }}'
    recipe = "steps = 6, batch_size = 4, first_pass = 3, hardest = 0.25"
    made = tiny_grid.with_arms(tmp_path, arm.format(recipe))
    (run,) = [run for run in made.grid().runs if run.train == ("mnli",)]
    assert (run.recipe["first_pass"], run.recipe["hardest"]) == (3, 0.25)
    store = made.run(tmp_path / "results", Watcher())
    log = [json.loads(line) for line in (store.path(run.folder) / "log.jsonl").read_text("utf-8").splitlines()]
    # Which rows the model chose cannot be drawn again from spec, seed and data: that is no contradiction.
    found = verify(tmp_path / "results", made.source)
    assert [problem.what for problem in found.problems] == []
    assert found.checks is not None
    assert any("1: a first pass of the model chose the rows" in each for each in found.checks.not_checked)
    # Twelve of 48 rows in batches of four: the fourth step begins to read the same rows again.
    assert len(log) == 6
    (tmp_path / "plain").mkdir()
    plain = tiny_grid.with_arms(tmp_path / "plain", arm.format("steps = 6, batch_size = 4"))
    (other,) = [run for run in plain.grid().runs if run.train == ("mnli",)]
    assert other.hash != run.hash
    again = made.run(tmp_path / "again", Watcher())
    assert (again.path(run.folder) / "log.jsonl").read_bytes() == (store.path(run.folder) / "log.jsonl").read_bytes()
