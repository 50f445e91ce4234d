"""The real task files: counts, offsets, parallel ids, and the text of phase 1."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from xlt.data.files.check import check
from xlt.data.files.sentences import normalise_space
from xlt.data.files.source import FilesSource
from xlt.data.rows import BitextRow, PairRow, SpanRow
from xlt.tasks.catalogue import TASKS, TATOEBA_LANGUAGES, XNLI_LANGUAGES, XQUAD_LANGUAGES, get_task

pytestmark = pytest.mark.real_data

SMALL_TATOEBA = {"jv": 205, "te": 234, "ta": 307, "sw": 390, "th": 548, "kk": 575, "ml": 687, "ka": 746}


@pytest.fixture(scope="module")
def source(data_root: Path) -> FilesSource:
    return FilesSource(data_root)


def test_counts(data_root):
    report = check(data_root, TASKS.values())
    assert report.problems == []
    assert report.tasks == {
        "mlm": {},
        "mnli": {"train": {"en": 7000}, "dev": {"en": 600}},
        "squad": {"train": {"en": 3575}, "dev": {"en": 322}},
        "xnli": {"dev": dict.fromkeys(XNLI_LANGUAGES, 2490), "test": dict.fromkeys(XNLI_LANGUAGES, 1500)},
        "xquad": {"test": dict.fromkeys(XQUAD_LANGUAGES, 1190)},
        "tatoeba": {"test": {language: SMALL_TATOEBA.get(language, 1000) for language in TATOEBA_LANGUAGES}},
    }


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
    assert source.languages(task, "test") == TATOEBA_LANGUAGES
    for language in TATOEBA_LANGUAGES:
        rows = source.rows(task, "test", language)
        assert all(isinstance(row, BitextRow) and row.foreign.strip() and row.english.strip() for row in rows)


def test_pretraining_text_is_of_every_training_file_and_of_no_test_file(source):
    rows = source.pretraining_text()
    groups = {row.id.rsplit("-", 1)[0] for row in rows}
    assert groups == {
        "mnli.train.en",
        "mnli.dev.en",
        "squad.train.en",
        "squad.dev.en",
        *(f"xnli.dev.{language}" for language in XNLI_LANGUAGES),
    }
    texts = {row.text for row in rows}
    assert len(texts) == len({row.id for row in rows}) == len(rows) > 60_000
    for key in ("xnli", "tatoeba"):
        for language in source.languages(get_task(key), "test"):
            for row in source.rows(get_task(key), "test", language):
                sides = (row.text_a, row.text_b) if isinstance(row, PairRow) else (row.foreign, row.english)
                assert texts.isdisjoint(normalise_space(side) for side in sides)


def test_pretraining_text_is_deterministic(source, data_root):
    assert FilesSource(data_root).pretraining_text() == source.pretraining_text()
