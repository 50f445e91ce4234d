"""What the user puts beside the official files: translations and text."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from xlt.data.files.source import FilesSource
from xlt.data.rows import SpanRow, TextRow
from xlt.errors import UsageFault
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.tasks.catalogue import get_task


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
