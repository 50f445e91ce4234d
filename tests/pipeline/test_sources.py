"""What the user puts beside the official files: translations and text."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import MiningRow, Row, SpanRow, TextRow
from xlt.data.source import selection_rows, training_rows
from xlt.data.world import WorldSource
from xlt.errors import UsageFault
from xlt.pipeline.sources import RecipeSource, SourceOptions, open_source
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task


@pytest.fixture
def root(tiny_files: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data with MNLI "translated" into German."""
    root = Path(shutil.copytree(tiny_files, tmp_path / "data"))
    (root / "translated/de").mkdir(parents=True)
    shutil.copytree(root / "mnli", root / "translated/de/mnli")
    path = root / "translated/de/mnli/multinli_1.0_train.jsonl"
    path.write_text(path.read_text("utf-8").replace("ba", "sch"), encoding="utf-8")
    return root


def test_translations_are_further_languages_of_a_training_set(root: Path) -> None:
    source, plain, mnli = open_source(SourceOptions("files", root)), FilesSource(root), get_task("mnli")
    assert source.languages(mnli, "train") == ("en", "de")
    assert source.languages(mnli, "dev") == ("en",)
    assert source.languages(get_task("squad"), "train") == ("en",)
    assert source.rows(mnli, "train", "en") == plain.rows(mnli, "train", "en")
    german = source.rows(mnli, "train", "de")
    assert len(german) == 48
    assert german != plain.rows(mnli, "train", "en")
    assert "de" not in source.languages(get_task("xnli"), "test")
    with pytest.raises(UsageFault, match="no language 'sw'"):
        source.rows(mnli, "train", "sw")
    # Phase 1 reads what it read before.
    assert source.pretraining_text() == plain.pretraining_text()
    assert open_source(SourceOptions("files", root, limit=5)).rows(mnli, "train", "de") == german[:5]


def test_a_broken_translation_is_named_where_it_lies(root: Path) -> None:
    (root / "translated/de/mnli/multinli_1.0_train.jsonl").write_text('{"sentence1"', encoding="utf-8")
    source = open_source(SourceOptions("files", root))
    with pytest.raises(FileFault, match=r"^translated/de/mnli/multinli_1\.0_train\.jsonl:1: not valid JSON"):
        source.rows(get_task("mnli"), "train", "de")


def test_rows_that_training_leaves_out_are_told(root: Path) -> None:
    path = root / "mnli/multinli_1.0_train.jsonl"
    blank = '{"sentence1": " ", "sentence2": "b", "gold_label": "neutral"}\n'
    path.write_text(path.read_text("utf-8") + blank, encoding="utf-8")
    with pytest.warns(UserWarning, match="1 of 49 rows of 'mnli' are left out of training: a text is blank"):
        rows = training_rows(open_source(SourceOptions("files", root)), get_task("mnli"))
    # They stay in the fingerprint of what was read.
    assert len(rows) == 49


def test_of_mining_only_what_was_read_is_to_be_found(tmp_path: Path) -> None:
    (tmp_path / "bucc2018").mkdir()
    texts = {
        "de": "".join(f"de-{n}\tSatz {n}\n" for n in range(6)),
        "en": "".join(f"en-{n}\tSentence {n}\n" for n in range(6)),
        "gold": "de-0\ten-5\nde-2\ten-1\nde-2\ten-3\nde-2\ten-4\nde-4\ten-0\n",
    }
    for ending, text in texts.items():
        (tmp_path / f"bucc2018/de-en.dev.{ending}").write_text(text, encoding="utf-8")

    def read(limit: int) -> tuple[list[tuple[str, tuple[str, ...]]], list[str]]:
        rows = open_source(SourceOptions("files", tmp_path, limit=limit)).rows(get_task("bucc2018"), "dev", "de")
        mined = [row for row in rows if isinstance(row, MiningRow)]
        return [(row.id, row.matches) for row in mined if not row.english], [row.id for row in mined if row.english]

    assert read(2) == ([("de-0", ("en-5",)), ("de-1", ())], ["en-0", "en-5"])
    assert read(3) == ([("de-0", ()), ("de-1", ()), ("de-2", ("en-1", "en-3", "en-4"))], ["en-1", "en-3", "en-4"])
    assert read(9) == read(0)
    assert sum(len(matches) for _, matches in read(5)[0]) == 5


def test_of_a_pool_so_many_candidates_are_kept_and_all_right_ones(tmp_path: Path) -> None:
    (tmp_path / "mewslix").mkdir()
    span = {"start": 0, "end": 2}
    for name, records in {
        "candidate_set_entities": [
            {"entity_id": f"Q{n}", "description": "A.", "sentence_spans": [span]} for n in range(9)
        ],
        "wikinews_mentions-dev": [
            {
                "context": {"language": "de", "text": "B.", "sentence_spans": [span]},
                "mentions": [{"example_id": f"m{n}", "mention_span": {"start": 0, "end": 1}, "entity_id": f"Q{8 - n}"}],
            }
            for n in range(6)
        ],
    }.items():
        (tmp_path / f"mewslix/{name}.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")

    def read(limit: int) -> list[str]:
        rows = open_source(SourceOptions("files", tmp_path, limit=limit)).rows(get_task("mewslix"), "dev", "de")
        return [row.id for row in rows]

    assert read(2) == ["m0", "m1", "Q7", "Q8"]
    assert read(4) == ["m0", "m1", "m2", "m3", "Q5", "Q6", "Q7", "Q8"]
    assert read(8) == [*(f"m{n}" for n in range(6)), *(f"Q{n}" for n in (3, 4, 5, 6, 7, 8, 0, 1))]


def test_text_files_are_all_the_text_without_sentences_of_tests(root: Path) -> None:
    (question,) = open_source(SourceOptions("files", root)).rows(get_task("xquad"), "test", "zh")[:1]
    assert isinstance(question, SpanRow)
    (root / "text").mkdir()
    (root / "text/de.txt").write_text("Ein langer Satz. Noch einer.\n", encoding="utf-8")
    with gzip.open(root / "text/sw.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write(f"Sentensi ndefu.\n{question.context}\n")
    rows = open_source(SourceOptions("files", root)).pretraining_text()
    assert rows == [
        TextRow("text/de-1", "Ein langer Satz."),
        TextRow("text/de-2", "Noch einer."),
        TextRow("text/sw-1", "Sentensi ndefu."),
    ]


def test_a_checkpoint_is_chosen_on_the_first_dev_rows(tiny_files: Path) -> None:
    source, mnli = open_source(SourceOptions("files", tiny_files)), get_task("mnli")
    rows = source.rows(mnli, "dev", "en")

    def chosen_on(count: int) -> list[Row]:
        return selection_rows(source, replace(mnli, recipe=replace(mnli.recipe, dev_examples=count)))

    assert chosen_on(3) == rows[:3]
    assert chosen_on(0) == chosen_on(10**6) == rows
    assert mnli.recipe.dev_examples == 500  # the authors' code


def test_a_recipe_takes_rows_from_all_over_a_set_and_the_same_of_every_language(
    tiny_files: Path, world: WorldSource
) -> None:
    source, plain = open_source(SourceOptions("files", tiny_files)), FilesSource(tiny_files)

    def capped(key: str, **caps: int) -> Task:
        return replace(get_task(key), recipe=replace(get_task(key).recipe, **caps))

    mnli = capped("mnli", train_examples=12)
    every_fourth = plain.rows(mnli, "train", "en")[::4]
    assert len(every_fourth) == 12
    assert source.rows(mnli, "train", "en") == every_fourth
    assert source.rows(mnli, "dev", "en") == plain.rows(mnli, "dev", "en")
    xnli = capped("xnli", test_examples=3, train_examples=1)
    languages = plain.languages(xnli, "test")[:2]
    assert len(languages) == 2
    for language in languages:
        rows, kept = plain.rows(xnli, "test", language), source.rows(xnli, "test", language)
        assert [rows.index(row) for row in kept] == [0, len(rows) // 3, 2 * len(rows) // 3]
    assert source.rows(capped("xnli", test_examples=10**6), "test", "en") == plain.rows(xnli, "test", "en")
    bucc = capped("bucc2018", test_examples=5)
    mined = RecipeSource(world).rows(bucc, "test", world.languages(bucc, "test")[0])
    assert [sum(row.english == side for row in mined if isinstance(row, MiningRow)) for side in (True, False)] == [5, 5]
