"""CCG supertags: a sentence per line, or the derivations of CCGbank."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xlt.data.files.part import DataFile, Part
from xlt.data.files.text import read_lines
from xlt.data.rows import TagRow

_LEAF_BEGIN = "(<L "
# Category (the supertag), two parts of speech, word, category with indices; none of them holds a space.
_LEAF = re.compile(r"\(<L (?P<tag>[^ ]+) [^ ]+ [^ ]+ (?P<word>[^ ]+) [^ ]+>\)")
_ID = re.compile(r"ID=([^ ]+)")


def read_tag_lines(part: Part) -> list[TagRow]:
    """Reads the words of a sentence, a tab, and as many supertags, both separated by spaces.

    The id is the split and the line number.

    Raises:
        FileFault: the file is broken or a line has not as many words as tags.
    """
    rows: list[TagRow] = []
    for number, line in enumerate(read_lines(part.file), start=1):
        if not line.strip():
            continue
        # A no-break space is a letter of its word.
        words, *rest = ([each for each in column.split(" ") if each] for column in line.split("\t"))
        if len(rest) != 1 or len(words) != len(rest[0]):
            found = " and ".join(str(len(column)) for column in (words, *rest))
            raise part.file.fault(
                f"the columns have {found} words; expected two columns of as many.",
                line=number,
                why="A line holds the words of a sentence, a tab, and a tag for each word.",
            )
        rows.append(TagRow(f"{part.split}-{number}", tuple(words), tuple(rest[0])))
    return rows


def read_auto(part: Part) -> list[TagRow]:
    r"""Reads the derivations of CCGbank (LDC2005T13, ``data/AUTO/<section>/wsj_<nnnn>.auto``).

    Two lines per sentence: ``ID=wsj_0001.1 PARSER=GOLD NUMPARSE=1`` and a bracketed tree, of which only the leaves
    ``(<L category tag tag word category>)`` count. Back-slashes, which guard ``/`` and ``*`` in words, are dropped.

    Raises:
        FileFault: a file is broken.
    """
    return [row for file in part.files for row in _read_auto_file(file)]


def _read_auto_file(file: DataFile) -> Iterator[TagRow]:
    lines = [(number, line) for number, line in enumerate(read_lines(file), start=1) if line.strip()]
    if len(lines) % 2:
        raise file.fault("the last sentence has no derivation: the file is probably truncated.", line=lines[-1][0])
    for (number, header), (below, tree) in zip(lines[::2], lines[1::2], strict=True):
        name = _ID.match(header)
        if not name:
            raise file.fault("expected a line that begins with 'ID='.", line=number)
        leaves = list(_LEAF.finditer(tree))
        if not leaves or len(leaves) != tree.count(_LEAF_BEGIN):
            raise file.fault(f"{len(leaves)} of {tree.count(_LEAF_BEGIN)} leaves have all six fields.", line=below)
        words = tuple(leaf["word"].replace("\\", "") for leaf in leaves)
        yield TagRow(name[1], words, tuple(leaf["tag"] for leaf in leaves))
