"""Copies of training rows in which words are replaced by synonyms: randomized smoothing by data augmentation.

As in the code of arXiv:2104.08645, where it was the most consistent of its methods, each word of a copy is drawn from
itself and its synonyms, all of them as likely (10 copies of PAWS-X there, 3 of XNLI, which take the place of the rows).
"""

from __future__ import annotations

from collections import UserDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from xlt.data.files.reading import DataFile, read_lines
from xlt.data.perturb import Perturbation, Perturber
from xlt.data.rows import Row
from xlt.errors import DataFault

LEXICON = "lexicon/en-en.txt"
Synonyms = Mapping[str, Sequence[str]]


def read_synonyms(root: Path | None) -> Synonyms:
    """The synonyms of words in ``lexicon/en-en.txt`` below ``root``: on each line a word, a blank or tab, and one.

    Raises:
        DataFault: there is no such file.
    """
    if root is None or not (root / LEXICON).is_file():
        raise DataFault(
            "There are no synonyms to draw words from.",
            why=f"They are read from {LEXICON} below the data root: a word and one synonym on each line.",
            fix="Add --source files --data-root DIR, with such a file.",
        )
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in read_lines(DataFile(root / LEXICON, LEXICON, "where it was published")):
        match line.split(None, 1):
            case [word, synonym]:
                found[word.lower()].append(synonym.strip())
    return found


def with_synonyms(rows: Iterable[Row], synonyms: Synonyms, copies: int) -> list[Row]:
    """So many ``copies`` of each row, with numbered ids, drawn by the id and the number alone.

    Answers of span QA stay and are given where they have moved to; a word with a tag is not replaced by several.
    """
    every = Perturbation("code-mixing", 1.0)
    return [
        replace(each, id=f"{row.id}~{copy}")
        for row in rows
        for copy in range(copies)
        for each in Perturber(every, _Drawn(synonyms, Random(f"{copy} {row.id}"))).rows([row])
    ]


class _Drawn(UserDict[str, str]):
    """A lexicon that draws one of the synonyms of a word at every look, or none, which leaves the word."""

    def __init__(self, synonyms: Synonyms, random: Random) -> None:
        super().__init__()
        self._synonyms, self._random = synonyms, random

    def get(self, word: str, default: Any = None) -> Any:
        """One of the synonyms, or ``default``."""
        known = self._synonyms.get(word, ())
        return self._random.choice([default, *known]) if known else default
