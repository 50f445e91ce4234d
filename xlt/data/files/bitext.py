"""Sentences and their translations: the aligned files of Tatoeba, and the two lists and the gold pairs of BUCC 2018."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xlt.data.files.reading import DataFile, SplitFiles, read_lines
from xlt.data.rows import BitextRow, MiningRow

# Fewer lines than this may be in alphabetical order by chance or by hand.
_ENOUGH_TO_BE_SORTED = 50


def read_bitext(split: SplitFiles) -> Iterator[BitextRow]:
    """Reads two files in which equal line numbers hold translations of each other.

    This is the format of data/tatoeba/v1 in https://github.com/facebookresearch/LASER, under XTREME's names. A line
    that is blank on both sides is left out; the id is the split and the line number.
    """
    foreign_file, english_file = split.files
    foreign, english = read_lines(foreign_file), read_lines(english_file)
    if len(foreign) != len(english):
        raise english_file.fault(
            f"{len(english)} lines, but {foreign_file.shown} has {len(foreign)}.",
            why="Line i of one file must be the translation of line i of the other.",
            fix=f"Get both files again: {english_file.origin}",
        )
    if len(english) >= _ENOUGH_TO_BE_SORTED and english == sorted(english):
        raise english_file.fault(
            "the lines are in alphabetical order, so they cannot be matched with the other file.",
            why="XTREME's download script sorts the English side to hide which line translates which.",
            fix=f"Use the files of the original release: {english_file.origin}",
        )
    for number, (source, target) in enumerate(zip(foreign, english, strict=True), start=1):
        if source.strip() or target.strip():
            yield BitextRow(f"{split.split}-{number}", source, target)


def read_bucc(split: SplitFiles) -> list[MiningRow]:
    """Reads ``id<TAB>sentence`` for either side and ``foreign id<TAB>English id`` for the gold pairs.

    This is the format of https://comparable.limsi.fr/bucc2018/. XTREME's dev is the "sample" there, its test the
    "training" set.
    """
    foreign_file, english_file, gold_file = split.files
    foreign, english = _sentences(foreign_file), _sentences(english_file)
    pairs = []
    for number, source, target in _columns(gold_file):
        for key, side in ((source, foreign), (target, english)):
            if key not in side:
                raise gold_file.fault(f"no sentence has the id '{key}'.", line=number)
        pairs.append((source, target))
    return mining_rows(foreign, english, pairs)


def mining_rows(foreign: dict[str, str], english: dict[str, str], pairs: Iterable[tuple[str, str]]) -> list[MiningRow]:
    """The sentences of both sides by id, the foreign side first, each of its rows with the ids of its translations."""
    matches: dict[str, list[str]] = {}
    for source, target in pairs:
        matches.setdefault(source, []).append(target)
    return [
        *(MiningRow(key, text, False, tuple(matches.get(key, ()))) for key, text in foreign.items()),
        *(MiningRow(key, text, True) for key, text in english.items()),
    ]


def _sentences(file: DataFile) -> dict[str, str]:
    sentences: dict[str, str] = {}
    for number, key, text in _columns(file):
        if key in sentences:
            raise file.fault(f"the id '{key}' occurs twice.", line=number)
        sentences[key] = text
    return sentences


def _columns(file: DataFile) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(read_lines(file), start=1):
        first, tab, second = line.partition("\t")
        if line and not tab:
            raise file.fault("no tab: expected an id, a tab, and a sentence or another id.", line=number)
        if line:
            yield number, first, second.strip(" ")
