"""Two aligned files of sentences, and the files of BUCC 2018."""

from __future__ import annotations

import pytest

from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import BitextRow, MiningRow
from xlt.tasks.catalogue import get_task

TATOEBA = get_task("tatoeba")
BUCC = get_task("bucc2018")


def tatoeba(root):
    return FilesSource(root).rows(TATOEBA, "test", "de")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_bitext(write, tmp_path, ending):
    write(f"tatoeba/de-en.de{ending}", "eins\u2028\r\n\r\n\r\nvier\r\n")
    write("tatoeba/de-en.en", "one\n\nthree\nfour")
    assert tatoeba(tmp_path) == [
        BitextRow("test-1", "eins\u2028", "one"),
        BitextRow("test-3", "", "three"),
        BitextRow("test-4", "vier", "four"),
    ]


def test_different_line_counts(write, tmp_path):
    write("tatoeba/de-en.de.gz", "eins\nzwei\u2028\n")
    write("tatoeba/de-en.en", "one\ntwo\nthree\n")
    with pytest.raises(FileFault, match=r"^tatoeba/de-en\.en: 3 lines, but tatoeba/de-en\.de\.gz has 2"):
        tatoeba(tmp_path)


def test_sorted_english_side_has_lost_its_order(write, tmp_path):
    write("tatoeba/de-en.de", "".join(f"Satz {n}\n" for n in range(100, 50, -1)))
    write("tatoeba/de-en.en", "".join(f"Sentence {n}\n" for n in range(100, 150)))
    with pytest.raises(FileFault, match="alphabetical order") as caught:
        tatoeba(tmp_path)
    assert "XTREME" in caught.value.why
    assert TATOEBA.address in caught.value.fix


def test_a_few_sorted_lines_are_no_fault(write, tmp_path):
    write("tatoeba/de-en.de", "eins\nzwei\n")
    write("tatoeba/de-en.en", "a\nb\n")
    assert len(tatoeba(tmp_path)) == 2


def write_bucc(write, stem, gold="de-1\ten-2\nde-1\ten-1\n", foreign="de-1\tEins\r\nde-2\tZwei\t2\r\n"):
    write(f"{stem}.de", foreign)
    write(f"{stem}.en.gz", "en-1\tOne\nen-2\tA one\n")
    write(f"{stem}.gold", gold)


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("bucc2018/de-en.dev", "dev"),
        ("bucc2018/de-en/de-en.sample", "dev"),
        ("bucc2018/de-en/de-en.training", "test"),
        ("bucc2018_format/de-en.test", "test"),
    ],
)
def test_bucc(write, tmp_path, stem, split):
    write_bucc(write, stem)
    source = FilesSource(tmp_path)
    assert [source.languages(BUCC, each) for each in ("dev", "test")].count(("de",)) == 1
    assert source.rows(BUCC, split, "de") == [
        MiningRow("de-1", "Eins", False, ("en-2", "en-1")),
        MiningRow("de-2", "Zwei\t2", False),
        MiningRow("en-1", "One", True),
        MiningRow("en-2", "A one", True),
    ]


def test_only_spaces_are_taken_off_a_sentence(write, tmp_path):
    write_bucc(write, "bucc2018/de-en.dev", foreign="de-1\t Eins\u00a0 \nde-2\t\u3000Zwei\n")
    texts = [row.text for row in FilesSource(tmp_path).rows(BUCC, "dev", "de") if isinstance(row, MiningRow)]
    assert texts[:2] == ["Eins\u00a0", "\u3000Zwei"]


def test_a_gold_list_that_xtreme_has_removed_is_named(write, tmp_path):
    write_bucc(write, "bucc2018/de-en.test")
    (tmp_path / "bucc2018/de-en.test.gold").unlink()
    with pytest.raises(FileFault, match=r"^bucc2018/de-en\.test\.gold: no such file"):
        FilesSource(tmp_path).rows(BUCC, "test", "de")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gold": "de-1\ten-1\nde-3\ten-1\n"}, "gold:2: no sentence has the id 'de-3'"),
        ({"gold": "en-1\tde-1\n"}, "gold:1: no sentence has the id 'en-1'"),
        ({"foreign": "de-1\tEins\nde-1\tZwei\n"}, "de:2: the id 'de-1' occurs twice"),
        ({"foreign": "de-1 Eins\n"}, "de:1: no tab"),
    ],
)
def test_faults(write, tmp_path, changed, message):
    write_bucc(write, "bucc2018/de-en.dev", **changed)
    with pytest.raises(FileFault, match=message):
        FilesSource(tmp_path).rows(BUCC, "dev", "de")
