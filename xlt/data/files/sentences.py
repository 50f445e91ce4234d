"""A simple, deterministic sentence splitter for several scripts."""

from __future__ import annotations

import re

_OPENING = "\"'“‘«([（「『【"
_CLOSING = r"""["'”’»)\]）」』】]*"""
# Chinese and Japanese marks and the danda need no space after them; the others (Latin, Greek U+037E, Urdu,
# Arabic, Armenian, Ethiopic, Burmese, Khmer and the full stop) do.
_ALWAYS = rf"[。！？｡।॥]+{_CLOSING}"
_BEFORE_SPACE = rf"[!?…\u037e۔؟։።။។]+{_CLOSING}(?=\s)"
_FULL_STOP = rf"\.{_CLOSING}(?=\s)"
_END = re.compile(rf"(?P<always>{_ALWAYS})|{_BEFORE_SPACE}|(?P<full_stop>{_FULL_STOP})")


def normalise_space(text: str) -> str:
    """The text with each run of white space made one space, and none at the ends."""
    return " ".join(text.split())


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, with their white space normalised.

    A mark ends no sentence where a lower-case letter follows, nor a full stop after what looks like an
    abbreviation (Dr., U.S.); scripts without such marks (Thai) stay whole.
    """
    text = normalise_space(text)
    sentences: list[str] = []
    begin = 0
    for match in _END.finditer(text):
        lower_follows = text[match.end() + 1 : match.end() + 2].islower()
        if lower_follows and not match["always"]:
            continue
        if match["full_stop"] and _is_abbreviation(text[begin : match.start()]):
            continue
        sentences.append(text[begin : match.end()].strip())
        begin = match.end()
    sentences.append(text[begin:].strip())
    return [sentence for sentence in sentences if sentence]


def _is_abbreviation(before_full_stop: str) -> bool:
    word = before_full_stop.rpartition(" ")[2].lstrip(_OPENING)
    return "." in word.rstrip(".") or (len(word) <= 3 and word[:1].isupper())
