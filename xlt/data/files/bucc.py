"""The files of BUCC 2018: two lists of sentences, and which of them are translations of each other."""

from __future__ import annotations

from xlt.data.files.part import DataFile, Part
from xlt.data.files.text import read_lines
from xlt.data.rows import MiningRow


def read_bucc(part: Part) -> list[MiningRow]:
    """Reads ``id<TAB>sentence`` of either side and ``foreign id<TAB>English id`` of the gold list.

    This is the form of https://comparable.limsi.fr/bucc2018/, whose "sample" is XTREME's dev and whose "training"
    is its test. The foreign side comes first.

    Raises:
        FileFault: a file is broken, an id occurs twice, or the gold list names one that no sentence has.
    """
    foreign_file, english_file, gold_file = part.files
    foreign, english = _sentences(foreign_file), _sentences(english_file)
    matches: dict[str, list[str]] = {}
    for number, source, target in _columns(gold_file):
        for key, side in ((source, foreign), (target, english)):
            if key not in side:
                raise gold_file.fault(f"no sentence has the id '{key}'.", line=number)
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


def _columns(file: DataFile) -> list[tuple[int, str, str]]:
    found: list[tuple[int, str, str]] = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line:
            continue
        first, tab, second = line.partition("\t")
        if not tab:
            raise file.fault("no tab: expected an id, a tab, and a sentence or another id.", line=number)
        found.append((number, first, second.strip(" ")))
    return found
