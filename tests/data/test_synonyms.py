"""Copies of training rows with synonyms: labels, tags and answers stay, and each word is drawn alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.test_perturb import rows_of
from xlt.data.rows import ChoiceRow, PairRow, SpanRow, TagRow, labels_of
from xlt.data.synonyms import read_synonyms, with_synonyms
from xlt.errors import DataFault
from xlt.pipeline.sources import RecipeSource
from xlt.tasks.catalogue import get_task

SYNONYMS = {"film": ["movie", "motion picture"], "good": ["fine"], "the": ["that"]}
TEXT = "The film was good, and the other film was not."


def test_each_copy_draws_a_word_from_itself_and_its_synonyms_alike() -> None:
    copies = with_synonyms([PairRow("7", "film", "was", "neutral")], SYNONYMS, 600)
    assert [row.id for row in copies] == [f"7~{number}" for number in range(600)]
    found = Counter(row.text_a for row in copies if isinstance(row, PairRow))
    assert set(found) == {"film", "movie", "motion picture"}
    assert min(found.values()) > 150  # 200 expected; five standard deviations are 58
    assert {(row.text_b, row.label) for row in copies if isinstance(row, PairRow)} == {("was", "neutral")}
    assert copies == with_synonyms([PairRow("7", "film", "was", "neutral")], SYNONYMS, 600)


def test_labels_tags_and_answers_stay() -> None:
    for row in rows_of(TEXT)[:4]:
        for copy in with_synonyms([row], SYNONYMS, 20):
            assert list(labels_of(copy)) == list(labels_of(row))
            match copy, row:
                case SpanRow(), SpanRow():
                    for answer, before in zip(copy.answers, row.answers, strict=True):
                        assert answer.text == before.text == copy.context[answer.start :][: len(answer.text)]
                case TagRow(), TagRow():
                    assert len(copy.words) == len(row.words)
                    assert not any(" " in word for word in copy.words)
                case ChoiceRow(), ChoiceRow():
                    assert len(copy.choices) == len(row.choices)
    changed = with_synonyms(rows_of(TEXT)[:4], SYNONYMS, 20)
    assert len({repr(replace(row, id="")) for row in changed}) > 40


def test_a_recipe_asks_for_copies_of_its_training_rows_alone(tmp_path: Path) -> None:
    class Rows:
        name, settings = "files", dict[str, int | str]()

        def languages(self, task: object, split: object) -> tuple[str, ...]:
            return ("en",)

        def rows(self, task: object, split: object, language: object) -> list[PairRow]:
            return [PairRow(str(number), TEXT, TEXT, "neutral") for number in range(6)]

        def pretraining_text(self) -> list[object]:
            return []

    source = RecipeSource(Rows(), tmp_path)  # type: ignore[arg-type]
    task = get_task("mnli")
    asked = replace(task, recipe=replace(task.recipe, synonyms=3, train_examples=2))
    with pytest.raises(DataFault, match="no synonyms to draw words from"):
        source.rows(asked, "train", "en")
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon" / "en-en.txt").write_text("Film\tmovie\nfilm motion picture\n\ngood fine\nodd\n", "utf-8")
    assert read_synonyms(tmp_path) == {"film": ["movie", "motion picture"], "good": ["fine"]}
    assert [row.id for row in source.rows(asked, "train", "en")] == ["0~0", "0~1", "0~2", "3~0", "3~1", "3~2"]
    for split, wanted in (("dev", asked), ("train", task)):
        assert [row.id for row in source.rows(wanted, split, "en")] == [*"012345"]  # type: ignore[arg-type]
    assert asked.recipe.rows != replace(asked.recipe, synonyms=4).rows
