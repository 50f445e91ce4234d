"""What others wrote cannot steer a terminal."""

from __future__ import annotations

import os

from xlt.printable import printable


def test_what_is_shown_as_itself_stays() -> None:
    text = "Ein Satz – 日本語, עברית, e\u0301 → ≤ 🙂"
    assert printable(text) is text


def test_what_steers_or_cannot_be_encoded_is_escaped() -> None:
    # ESC and its eight-bit form, a carriage return, a reversed reading direction, a line separator, half a pair.
    assert printable("\x1b[2J\x9b\r\u202e\u2028\ud800") == r"\x1b[2J\x9b\r\u202e\u2028\ud800"
    assert printable(os.fsdecode(b"caf\xe9\n")) == r"caf\udce9\n"


def test_line_ends_stay_where_they_are_wanted() -> None:
    assert printable("a\n\tb", keep="\n") == "a\n\\tb"
