"""The tab-separated files of QQP, of GLUE and of Quora's own release."""

from __future__ import annotations

from xlt.data.files.part import Part
from xlt.data.files.table import read_table
from xlt.data.rows import PairRow

_HEADER = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
_LABELS = {"0": "different", "1": "paraphrase"}
_ORIGINAL = "quora_duplicate_questions"
# About the share that GLUE's development set has of the same pairs.
_EVERY = 10


def read_qqp_tsv(part: Part) -> list[PairRow]:
    """Reads question pairs under the header ``id qid1 qid2 question1 question2 is_duplicate``.

    In GLUE's files (https://gluebenchmark.com/tasks) quotes mean nothing, and a row that a line break inside a
    question has cut has too few columns: it is left out. Quora's own ``quora_duplicate_questions.tsv`` encloses
    questions in quotes and has no splits: every tenth pair of it is the development set, which is not GLUE's.

    Raises:
        FileFault: the file is broken, its header is another, or a label is unknown.
    """
    original = part.file.stem == _ORIGINAL
    rows: list[PairRow] = []
    for number, (line, columns) in enumerate(read_table(part.file, _HEADER, delimiter="\t", quotes=original)):
        if len(columns) < len(_HEADER) or (original and (number % _EVERY == 0) != (part.split == "dev")):
            continue
        label = columns[5].strip()
        if label not in _LABELS:
            raise part.unknown_label(label, part.file, line)
        rows.append(PairRow(f"{part.split}-{line}", columns[3], columns[4], _LABELS[label]))
    return rows
