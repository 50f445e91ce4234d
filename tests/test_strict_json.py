"""JSON of others: one meaning, or a reason in one line."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from xlt import strict_json
from xlt.errors import DataFault
from xlt.strict_json import parse_json, read_bytes, read_json

NUMBERS = TypeAdapter(dict[str, int])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null, true, "\\u00e9\\ud83d\\ude42"]}', {"a": [1, 2.5, None, True, "é🙂"]}),
        (' {"a": {"b": 1}, "c": {"b": 1}}\n', {"a": {"b": 1}, "c": {"b": 1}}),
        ('"\u2028"', "\u2028"),
        ("1e-999", 0.0),
        ("[" * 200 + "]" * 200, None),
    ],
)
def test_what_has_one_meaning_is_read(text: str, value: Any) -> None:
    found = parse_json(text.encode())
    assert found == parse_json(text)
    assert value is None or found == value


REFUSED = {
    "cut": (b'{"a": 1', "EOF"),
    "nothing": (b"", "EOF"),
    "two documents": (b"{} {}", "trailing characters"),
    "NaN": (b'{"a": NaN}', "expected value"),
    "infinity": (b'{"a": -Infinity}', "invalid number"),
    "too large": (b'{"a": 1e999}', "the number 1e999 is too large"),
    "digits": (b"1" * 10_000, "number out of range"),
    "a name twice": (b'{"a": {"b": 1, "b": 1}}', "'b' stands twice in one object"),
    "half a pair": (b'{"a": "\\ud800"}', "hex escape"),
    "half a pair as a name": (b'{"\\ud800": 1}', "hex escape"),
    "byte order mark": (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
    "not UTF-8": (b'{"a": "\xff"}', "invalid unicode"),
    "UTF-16": ("{}".encode("utf-16"), "expected value"),
    "deep lists": (b"[" * 100_000, "recursion limit"),
    "deep objects": (b'{"a":' * 100_000, "recursion limit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_readers_take_differently_is_refused_at_once(tmp_path: Path, name: str) -> None:
    content, why = REFUSED[name]
    began = time.perf_counter()
    with pytest.raises(ValueError, match=why):
        parse_json(content)
    assert time.perf_counter() - began < 1
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataFault) as caught:
        read_json(tmp_path / "x.json", NUMBERS, fix="Do it again.")
    assert (caught.value.what, caught.value.fix) == ("x.json cannot be read.", "Do it again.")
    assert why in caught.value.why
    assert caught.value.why.isprintable()


def test_another_shape_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1, "\\u001b[2J": "many"}', "utf-8")
    with pytest.raises(DataFault) as caught:
        read_json(tmp_path / "x.json", NUMBERS, what="No numbers.")
    assert caught.value.what == "No numbers."
    assert caught.value.why.startswith(r"\x1b[2J: Input should be a valid integer")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (
        ("pipe", "it is not a file."),
        (".", "it is not a file but a folder."),
        ("link", "No such file or directory."),
        ("loop", "Too many levels of symbolic links."),
        ("a\0b", "embedded null byte."),
        ("x" * 300, "File name too long."),
    ):
        with pytest.raises(DataFault) as caught:
            read_json(tmp_path / name, NUMBERS)
        assert caught.value.why == why
        assert str(tmp_path) not in str(caught.value)


def test_a_file_that_memory_could_not_hold_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(2**33)
    with pytest.raises(ValueError, match="8589934592 bytes"):
        read_bytes(tmp_path / "x")
    monkeypatch.setattr(strict_json, "MOST_BYTES", 2)
    (tmp_path / "y").write_bytes(b"12")
    assert read_bytes(tmp_path / "y") == b"12"
