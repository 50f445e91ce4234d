"""The real task files: counts, offsets, parallel ids, and the text of phase 1."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from xlt.data.files.reading import DataFile, SplitFiles
from xlt.data.files.source import FilesSource
from xlt.data.files.tags import read_tags
from xlt.data.rows import BitextRow, MiningRow, PairRow, Row, SpanRow, TagRow
from xlt.tasks.catalogue import INTERMEDIATE, MASKED_LM, TARGET, TASKS, get_task

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def source(data_root: Path) -> FilesSource:
    return FilesSource(data_root)


def test_every_task_with_files_in_the_pack_is_found(source):
    found = {key: sum(bool(source.languages(task, split)) for split in task.files) for key, task in TASKS.items()}
    # Nothing of what XTREME-R adds.
    there = {task.key: len(task.files) for task in (MASKED_LM, *INTERMEDIATE, *TARGET)}
    assert found == {**dict.fromkeys(TASKS, 0), **there, "mlm": 0, "qqp": 0, "mlqa": 1}


@pytest.mark.parametrize(
    ("key", "split", "languages", "first", "rows"),
    [
        ("anli_plus", "dev", 1, "en", 1584),
        ("squad_v2", "dev", 1, "en", 975),
        ("hellaswag", "dev", 1, "en", 800),
        ("ccg", "dev", 1, "en", 900),
        ("cosmosqa", "dev", 1, "en", 450),
        ("commonsenseqa", "dev", 1, "en", 200),
        ("xnli", "dev", 15, "ar", 2490),
        ("pawsx", "dev", 7, "de", 500),
        ("pawsx", "test", 2, "de", 1000),
        ("udpos", "test", 19, "ar", 300),
        ("panx", "test", 8, "de", 500),
        ("xquad", "test", 12, "ar", 1190),
        ("mlqa", "dev", 7, "ar", 305),
        ("tydiqa", "test", 3, "en", 400),
        ("bucc2018", "test", 4, "de", 1225),
        ("tatoeba", "test", 36, "af", 1000),
    ],
)
def test_counts(source, key, split, languages, first, rows):
    task = get_task(key)
    assert source.languages(task, split)[0] == first
    assert len(source.languages(task, split)) == languages
    assert len(source.rows(task, split, first)) == rows


def test_treebanks_and_columns_agree_where_no_word_is_fused(data_root, source):
    task = get_task("udpos")
    columns = SplitFiles(task, "test", "te", (DataFile(data_root / "udpos/test-te.tsv.gz", "test-te.tsv.gz", ""),))
    assert source.rows(task, "test", "te") == list(read_tags(columns))


@pytest.mark.parametrize(("split", "each"), [("dev", 830), ("test", 500)])
def test_xnli_is_parallel_and_balanced(source, split, each):
    task = get_task("xnli")
    labels_by_id = []
    for language in source.languages(task, split):
        rows = source.rows(task, split, language)
        assert all(isinstance(row, PairRow) and row.text_a and row.text_b for row in rows)
        labels_by_id.append({row.id: row.label for row in rows})
    assert Counter(labels_by_id[0].values()) == dict.fromkeys(task.labels, each)
    assert all(labels == labels_by_id[0] for labels in labels_by_id)


@pytest.mark.parametrize(("key", "split"), [("squad", "train"), ("squad", "dev"), ("xquad", "test")])
def test_every_answer_stands_at_its_offset(source, key, split):
    task = get_task(key)
    ids = []
    for language in source.languages(task, split):
        rows = source.rows(task, split, language)
        ids.append([row.id for row in rows])
        for row in rows:
            assert isinstance(row, SpanRow)
            assert row.answers
            for answer in row.answers:
                assert answer.start >= 0
                assert row.context[answer.start : answer.start + len(answer.text)] == answer.text
    assert all(sorted(other) == sorted(ids[0]) for other in ids)


def test_tatoeba_has_text_on_both_sides(source):
    task = get_task("tatoeba")
    languages = source.languages(task, "test")
    assert set(languages) == set(task.benchmarks["xtreme"].split())
    for language in languages:
        rows = source.rows(task, "test", language)
        assert all(isinstance(row, BitextRow) and row.foreign.strip() and row.english.strip() for row in rows)


def test_pretraining_text_is_of_every_training_file_and_of_no_test_file(source):
    rows = source.pretraining_text()
    groups = {row.id.rsplit("-", 1)[0] for row in rows}
    # MNLI is the last part of ANLI+, which comes first.
    assert {group.split(".")[0] for group in groups} == {
        task.key for task in (*INTERMEDIATE, *TARGET) if {"train", "dev"} & set(task.files)
    } - {"mnli", "qqp"}
    assert groups >= {f"xnli.dev.{language}" for language in get_task("xnli").languages}
    texts = {"".join(row.text.split()) for row in rows}
    assert len({row.text for row in rows}) == len({row.id for row in rows}) == len(rows) > 150_000
    for key in ("xnli", "tatoeba", "udpos", "panx", "bucc2018"):
        for language in source.languages(get_task(key), "test"):
            for row in source.rows(get_task(key), "test", language):
                assert texts.isdisjoint("".join(side.split()) for side in sides(row))


def sides(row: Row) -> tuple[str, ...]:
    """The texts of a row of pairs, bitext, tags or mining."""
    match row:
        case PairRow():
            return row.text_a, row.text_b
        case BitextRow():
            return row.foreign, row.english
        case TagRow():
            return (" ".join(row.words),)
        case MiningRow():
            return (row.text,)
    raise AssertionError(row)
