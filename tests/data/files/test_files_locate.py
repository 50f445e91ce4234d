"""Which files a task, split and language mean, and what is said where they are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlt.data.files.locate import declared_languages, locate, present_languages, some_file_exists
from xlt.data.files.reading import FileFault
from xlt.errors import DataFault, UsageFault
from xlt.tasks.catalogue import get_task

XNLI, MNLI, TATOEBA, XQUAD = (get_task(key) for key in ("xnli", "mnli", "tatoeba", "xquad"))


def test_plain_file_goes_before_gzip(write, tmp_path):
    write("xnli/dev-de.tsv.gz", "x")
    assert locate(tmp_path, XNLI, "dev", "de").file.shown == "xnli/dev-de.tsv.gz"
    write("xnli/dev-de.tsv", "x")
    assert locate(tmp_path, XNLI, "dev", "de").file.shown == "xnli/dev-de.tsv"


def test_stem_has_no_ending(write, tmp_path):
    write("mnli/multinli_1.0_train.jsonl.gz", "x")
    assert locate(tmp_path, MNLI, "train", "en").file.stem == "multinli_1.0_train"


def test_bitext_has_the_foreign_file_first(write, tmp_path):
    write("tatoeba/de-en.de", "x")
    write("tatoeba/de-en.en.gz", "x")
    part = locate(tmp_path, TATOEBA, "test", "de")
    assert [file.shown for file in part.files] == ["tatoeba/de-en.de", "tatoeba/de-en.en.gz"]


def test_languages_are_those_with_every_file_in_the_task_order(write, tmp_path):
    for name in (
        "tatoeba/zh-en.zh",
        "tatoeba/zh-en.en",
        "tatoeba/ar-en.ar.gz",
        "tatoeba/ar-en.en",
        "tatoeba/de-en.de",
    ):
        write(name, "x")
    assert present_languages(tmp_path, TATOEBA, "test") == ("ar", "zh")
    assert some_file_exists(tmp_path, TATOEBA, "test", "de")
    assert not some_file_exists(tmp_path, TATOEBA, "test", "fr")


def test_tasks_whose_file_names_have_no_language_are_english(write, tmp_path):
    assert declared_languages(MNLI, "train") == ("en",)
    assert present_languages(tmp_path, MNLI, "train") == ()
    write("mnli/multinli_1.0_train.jsonl", "x")
    assert present_languages(tmp_path, MNLI, "train") == ("en",)


def test_a_split_that_the_task_lacks_has_no_language(tmp_path):
    assert present_languages(tmp_path, XQUAD, "train") == ()


def test_missing_file_says_what_it_is_for_and_where_it_belongs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileFault) as caught:
        locate(Path("my data"), XNLI, "dev", "sw")
    fault = caught.value
    assert isinstance(fault, DataFault)
    assert fault.what == "xnli/dev-sw.tsv: no such file in the data root 'my data', neither plain nor as .gz."
    assert fault.why == "It holds XNLI (xnli), split 'dev', language 'sw'."
    assert XNLI.address in fault.fix
    assert str(Path("my data/xnli/dev-sw.tsv")) in fault.fix
    assert str(tmp_path) not in str(fault)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "xnli" / "dev-sw.tsv").mkdir(parents=True)
    with pytest.raises(FileFault, match="no such file"):
        locate(tmp_path, XNLI, "dev", "sw")


def test_missing_english_side_is_named(write, tmp_path):
    write("tatoeba/de-en.de", "x")
    with pytest.raises(FileFault, match=r"^tatoeba/de-en\.en: no such file"):
        locate(tmp_path, TATOEBA, "test", "de")


@pytest.mark.parametrize(("asked", "meant"), [("dee", "de"), ("DE", "de"), ("zh-CN", "zh"), ("qq", None)])
def test_unknown_language_lists_the_languages(tmp_path, asked, meant):
    with pytest.raises(UsageFault, match=f"no language '{asked}'") as caught:
        locate(tmp_path, XNLI, "test", asked)
    assert "ar bg de el en es fr hi ru sw th tr ur vi zh" in caught.value.why
    assert ("Did you mean" in caught.value.what) == (meant is not None)
    assert meant is None or f"Did you mean '{meant}'?" in caught.value.what


def test_unknown_split_lists_the_splits(tmp_path):
    with pytest.raises(UsageFault, match="no split 'train'") as caught:
        locate(tmp_path, XNLI, "train", "en")
    assert caught.value.why == "Its splits: dev, test."


def test_a_task_without_files_says_so(tmp_path):
    with pytest.raises(UsageFault, match="no split 'train'") as caught:
        locate(tmp_path, get_task("mlm"), "train", "en")
    assert "no files of its own" in caught.value.why
