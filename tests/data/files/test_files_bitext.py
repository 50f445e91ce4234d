"""Two aligned files of sentences."""

from __future__ import annotations

import pytest

from xlt.data.files.fault import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import BitextRow
from xlt.tasks.catalogue import get_task

TATOEBA = get_task("tatoeba")


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
