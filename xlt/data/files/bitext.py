"""Two aligned files of sentences: the layout of Tatoeba."""

from __future__ import annotations

from xlt.data.files.part import DataFile, Part
from xlt.data.files.text import read_lines
from xlt.data.rows import BitextRow

# Fewer lines than this may be in alphabetical order by chance or by hand.
_ENOUGH_TO_BE_SORTED = 50


def read_bitext(part: Part) -> list[BitextRow]:
    """Reads two files of which line i of one translates line i of the other.

    This is the form of data/tatoeba/v1 in https://github.com/facebookresearch/LASER, under XTREME's names. A
    line that is blank on both sides is left out; the id is the split and the line number.

    Raises:
        FileFault: a file is broken, the line counts differ, or the English side has lost its order.
    """
    foreign_file, english_file = part.files
    foreign, english = read_lines(foreign_file), read_lines(english_file)
    if len(foreign) != len(english):
        raise english_file.fault(
            f"{len(english)} lines, but {foreign_file.shown} has {len(foreign)}.",
            why="Line i of one file must be the translation of line i of the other.",
            fix=f"Get both files again: {english_file.origin}",
        )
    _check_order(english, english_file)
    return [
        BitextRow(f"{part.split}-{number}", source, target)
        for number, (source, target) in enumerate(zip(foreign, english, strict=True), start=1)
        if source.strip() or target.strip()
    ]


def _check_order(english: list[str], file: DataFile) -> None:
    if len(english) >= _ENOUGH_TO_BE_SORTED and english == sorted(english):
        raise file.fault(
            "the lines are in alphabetical order, so they cannot be matched with the other file.",
            why="XTREME's download script sorts the English side to hide which line translates which.",
            fix=f"Use the files of the original release: {file.origin}",
        )
