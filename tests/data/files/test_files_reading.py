"""Files as text: line ends, encodings, gzip, damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xlt.data.files.reading import DataFile, FileFault, read_lines, read_text


def data_file(path: Path) -> DataFile:
    return DataFile(path, f"task/{path.name}", "https://example.org/release")


def test_only_line_feeds_end_lines(write):
    lines = ["one\u2028two", "three\x85four", "five\x0csix\x1cseven", "eight\rnine"]
    path = write("a.tsv", "\n".join(lines) + "\n")
    assert read_lines(data_file(path)) == lines


def test_carriage_return_before_a_line_feed_belongs_to_the_line_end(write):
    assert read_lines(data_file(write("a.tsv", "one\r\ntwo\r\n"))) == ["one", "two"]


def test_lines_that_end_with_carriage_returns_alone_are_refused(write):
    with pytest.raises(FileFault, match="carriage returns alone"):
        read_lines(data_file(write("a.tsv", "one\rtwo\r")))
    assert read_lines(data_file(write("b.tsv", "one\r"))) == ["one"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [("a\nb", ["a", "b"]), ("a\nb\n", ["a", "b"]), ("a\n\n", ["a", ""]), ("\na\n", ["", "a"])],
)
def test_the_last_line_feed_opens_no_line(write, text, lines):
    assert read_lines(data_file(write("a.tsv", text))) == lines


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_byte_order_mark_is_removed_at_the_start_only(write, name):
    assert read_text(data_file(write(name, "\ufeffone\ufefftwo"))) == "one\ufefftwo"


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_bad_utf8_names_file_line_and_byte_offset(write, name):
    with pytest.raises(FileFault, match=f"^task/{name}:2: not UTF-8 at byte offset 8: byte 0xff") as caught:
        read_text(data_file(write(name, b"good\nbad\xff\n")))
    assert (caught.value.file, caught.value.line) == (f"task/{name}", 2)


def test_byte_offset_counts_the_byte_order_mark(write):
    with pytest.raises(FileFault, match="byte offset 3"):
        read_text(data_file(write("a.tsv", b"\xef\xbb\xbf\xff")))


@pytest.mark.parametrize("kept", [4, 30, -4])
def test_truncated_gzip(write, kept):
    path = write("a.tsv.gz", "a line of text\n" * 100)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileFault, match="truncated") as caught:
        read_text(data_file(path))
    assert caught.value.fix == "Get the file again: https://example.org/release"


def test_damaged_gzip(write):
    path = write("a.tsv.gz", os.urandom(500).hex())
    data = bytearray(path.read_bytes())
    data[100:120] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(FileFault, match="not a sound gzip file"):
        read_text(data_file(path))


def test_no_gzip_under_a_gzip_name(write):
    path = write("a.tsv", "plain text")
    with pytest.raises(FileFault, match="not a sound gzip file"):
        read_text(data_file(path.rename(path.with_name("a.tsv.gz"))))


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_empty_file(write, name, content):
    with pytest.raises(FileFault, match=f"^task/{name}: the file is empty"):
        read_text(data_file(write(name, content)))


def test_unreadable_file_names_no_absolute_path(tmp_path):
    with pytest.raises(FileFault, match="cannot be read") as caught:
        read_text(data_file(tmp_path / "absent.tsv"))
    assert str(tmp_path) not in str(caught.value)
