"""The raw text of phase 1, drawn from the rows of training and development sets, sentence by sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from xlt.data.rows import Row, TextRow, running_texts, texts
from xlt.data.source import NotFetched, Source
from xlt.tasks.catalogue import PACKAGED
from xlt.tasks.record import Split, Task

# Shorter sentences ("Yes.") teach nothing, longer ones are tables and lists that lost their line ends.
_FEWEST_LETTERS = 4
_MOST_CHARACTERS = 1000
_OPENING = "\"'“‘«([（「『【"
_CLOSING = r"""["'”’»)\]）」』】]*"""
# Chinese and Japanese marks and the danda need no space after them; the others (Latin, Greek U+037E, Urdu,
# Arabic, Armenian, Ethiopic, Burmese, Khmer and the full stop) do.
_ALWAYS = rf"[。！？｡।॥]+{_CLOSING}"
_BEFORE_SPACE = rf"[!?…\u037e۔؟։።။។]+{_CLOSING}(?=\s)"
_FULL_STOP = rf"\.{_CLOSING}(?=\s)"
_END = re.compile(rf"(?P<always>{_ALWAYS})|{_BEFORE_SPACE}|(?P<full_stop>{_FULL_STOP})")
Groups = Iterable[tuple[str, Iterable[Row]]]


def groups(source: Source, *splits: Split, tasks: Iterable[Task] = ()) -> Iterator[tuple[str, list[Row]]]:
    """The rows of those splits of the tasks, as far as the source has them, by task, split and language; each group
    with the prefix of its ids. By default of those in the package: what else is known changes no phase 1."""
    for task in tasks or PACKAGED:
        for split in splits:
            for language in source.languages(task, split):
                try:
                    rows = source.rows(task, split, language)
                except NotFetched:
                    continue
                yield f"{task.key}.{split}.{language}", rows


def pretraining_sentences(training: Groups, held_out: Groups) -> list[TextRow]:
    """The sentences of the training rows, each once, in their order, without any that the held-out rows hold."""
    held_texts = {text for _, rows in held_out for row in rows for text in (*running_texts(row), *texts(row))}
    # Compared without white space: the words of tagging tasks are apart where the sentence elsewhere has no space.
    held = {_without_space(each) for text in held_texts for each in (text, *split_sentences(text))}
    taken: set[str] = set()
    found: list[TextRow] = []
    for prefix, rows in training:
        number = 0
        running = dict.fromkeys(text for row in rows for text in running_texts(row))
        for sentence in (sentence for text in running for sentence in split_sentences(text)):
            if sentence in taken or _without_space(sentence) in held or not _is_useful(sentence):
                continue
            taken.add(sentence)
            number += 1
            found.append(TextRow(f"{prefix}-{number}", sentence))
    return found


def _without_space(text: str) -> str:
    return "".join(text.split())


def _is_useful(sentence: str) -> bool:
    letters = sum(character.isalpha() for character in sentence)
    return letters >= _FEWEST_LETTERS and len(sentence) <= _MOST_CHARACTERS


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, with every run of white space made one space.

    A mark ends no sentence where a lower-case letter follows, nor a full stop after what looks like an abbreviation
    (Dr., U.S.); scripts without such marks (Thai) stay whole.
    """
    text = " ".join(text.split())
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
