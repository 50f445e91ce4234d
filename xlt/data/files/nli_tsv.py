"""The tab-separated files of XNLI, as XTREME lays them out."""

from __future__ import annotations

from xlt.data.files.fault import FileFault
from xlt.data.files.part import Part
from xlt.data.files.text import read_lines
from xlt.data.rows import PairRow

LABELLED_XNLI = "https://dl.fbaipublicfiles.com/XNLI/XNLI-1.0.zip"
_COLUMNS = ("premise", "hypothesis", "label")
_OTHER_SPELLINGS = {"contradictory": "contradiction"}


def read_nli_tsv(part: Part) -> list[PairRow]:
    """Reads premise, tab, hypothesis, tab, label, without a header and without any meaning of quotes.

    This is what ``utils_preprocess.py`` of https://github.com/google-research/xtreme writes from XNLI 1.0.
    The label ``contradictory`` of the translated training sets means ``contradiction``. The id is the split
    and the line number, so that it is equal in all languages of a parallel test set.

    Raises:
        FileFault: the file is broken, a column is missing, or a label is unknown or withheld.
    """
    lines = read_lines(part.file)
    while lines and not lines[-1]:
        lines.pop()
    return [_read_row(part, number, line) for number, line in enumerate(lines, start=1)]


def _read_row(part: Part, number: int, line: str) -> PairRow:
    columns = line.split("\t")
    if part.split == "test" and (len(columns) == 2 or (len(columns) == 3 and not columns[2].strip())):
        raise _withheld_labels(part, number)
    if len(columns) < len(_COLUMNS):
        missing = ", ".join(_COLUMNS[len(columns) :] if line else _COLUMNS)
        raise part.file.fault(
            f"field missing: {missing}; found {len(columns) if line else 0} of {len(_COLUMNS)} columns.",
            line=number,
            why="Columns, separated by tabs: premise, hypothesis, label.",
        )
    if len(columns) > len(_COLUMNS):
        raise part.file.fault(
            f"{len(columns)} columns, expected {len(_COLUMNS)}.",
            line=number,
            why="Columns, separated by tabs: premise, hypothesis, label.",
        )
    label = columns[2].strip()
    label = _OTHER_SPELLINGS.get(label, label)
    if label not in part.task.labels:
        raise part.unknown_label(label, number)
    return PairRow(f"{part.split}-{number}", columns[0], columns[1], label)


def _withheld_labels(part: Part, number: int) -> FileFault:
    return part.file.fault(
        "the test label is missing.",
        line=number,
        why="The test files that XTREME's download script writes hold no labels.",
        mend=f"Get the labelled release, {LABELLED_XNLI}, and write sentence1, sentence2 and gold_label "
        f"of the '{part.language}' rows of its xnli.test.tsv into this file.",
    )
