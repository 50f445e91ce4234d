"""The tab-separated files of XNLI and PAWS-X."""

from __future__ import annotations

from xlt.data.files.fault import FileFault
from xlt.data.files.part import Part
from xlt.data.files.text import read_lines
from xlt.data.rows import PairRow

_LABELLED = {
    "xnli": "https://dl.fbaipublicfiles.com/XNLI/XNLI-1.0.zip, and write sentence1, sentence2 and gold_label of the "
    "'{language}' rows of its xnli.test.tsv into this file.",
    "pawsx": "https://storage.googleapis.com/paws/pawsx/x-final.tar.gz, and unpack it in the folder pawsx.",
}
_HEADER = ["id", "sentence1", "sentence2", "label"]
_COLUMNS = ("first sentence", "second sentence", "label")
_LABELS = {"contradictory": "contradiction", "0": "different", "1": "paraphrase"}


def read_pair_tsv(part: Part) -> list[PairRow]:
    """Reads first sentence, tab, second sentence, tab, label.

    Either under the header ``id sentence1 sentence2 label``, as PAWS-X is published
    (https://github.com/google-research-datasets/paws), where quotes mean nothing; or without header and id, as
    ``utils_preprocess.py`` of https://github.com/google-research/xtreme writes XNLI 1.0 and PAWS-X. That script
    encloses a sentence that has quotes in quotes and doubles the others: this is undone. The label
    ``contradictory`` of translated training sets means ``contradiction``. The id is the split and the number of the
    row, so that it is equal in all languages of a parallel test set.

    Raises:
        FileFault: the file is broken, a column is missing, or a label is unknown or withheld.
    """
    lines = read_lines(part.file)
    while lines and not lines[-1]:
        lines.pop()
    headers = int(lines[0].split("\t") == _HEADER)
    return [_read_row(part, number, line, headers) for number, line in enumerate(lines[headers:], start=1)]


def _read_row(part: Part, number: int, line: str, headers: int) -> PairRow:
    place = number + headers
    columns = line.split("\t") if line else []
    if headers:
        del columns[:1]
    if part.split == "test" and (len(columns) == 2 or (len(columns) == 3 and not columns[2].strip())):
        raise _withheld_labels(part, place)
    if len(columns) != len(_COLUMNS):
        missing = ", ".join(_COLUMNS[len(columns) :])
        raise part.file.fault(
            f"field missing: {missing}; found {len(columns)} of {len(_COLUMNS)} columns."
            if missing
            else f"{len(columns)} columns, expected {len(_COLUMNS)}.",
            line=place,
            why=f"Columns, separated by tabs: {', '.join(_COLUMNS)}.",
        )
    label = columns[2].strip()
    if _LABELS.get(label, label) not in part.task.labels:
        raise part.unknown_label(label, part.file, place)
    text_a, text_b = columns[:2] if headers else map(_unquoted, columns[:2])
    return PairRow(f"{part.split}-{number}", text_a, text_b, _LABELS.get(label, label))


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    doubled = '""' in inner and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if doubled and text[0] == text[-1] == '"' else text


def _withheld_labels(part: Part, line: int) -> FileFault:
    key = part.task.key
    return part.file.fault(
        "the test label is missing.",
        line=line,
        why="The test files that XTREME's download script writes hold no labels.",
        fix=f"Get the labelled release, {_LABELLED[key].format(language=part.language)}" if key in _LABELLED else "",
    )
