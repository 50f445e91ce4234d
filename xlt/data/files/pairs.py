"""Pairs of sentences: MNLI, SNLI and ANLI as JSON lines, XNLI, PAWS-X and QQP as tables."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import AliasChoices, Field

from xlt.data.files.reading import JsonRecord, SplitFiles, read_json_lines, read_lines, read_table
from xlt.data.rows import PairRow

NO_AGREED_LABEL = "-"
_ANLI_LABELS = {"e": "entailment", "n": "neutral", "c": "contradiction"}
_PARAPHRASE_LABELS = {"0": "different", "1": "paraphrase"}
_PAIR_HEADER = ["id", "sentence1", "sentence2", "label"]
_PAIR_COLUMNS = ("first sentence", "second sentence", "label")
_LABELLED = {
    "xnli": "https://dl.fbaipublicfiles.com/XNLI/XNLI-1.0.zip, and write sentence1, sentence2 and gold_label of the "
    "'{language}' rows of its xnli.test.tsv into this file.",
    "pawsx": "https://storage.googleapis.com/paws/pawsx/x-final.tar.gz, and unpack it in the folder pawsx.",
}
_QQP_HEADER = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
_QQP_ORIGINAL = "quora_duplicate_questions"
# GLUE's development set is about this share of all pairs.
_QQP_DEV_EVERY = 10


class _Inference(JsonRecord):
    """A pair of MultiNLI or SNLI, or of ANLI, which has other names for the fields and for the labels."""

    sentence1: str = Field(validation_alias=AliasChoices("sentence1", "context"))
    sentence2: str = Field(validation_alias=AliasChoices("sentence2", "hypothesis"))
    gold_label: str = Field(validation_alias=AliasChoices("gold_label", "label"))
    id: str = Field("", validation_alias=AliasChoices("pairID", "uid"))
    context: str | None = None
    """Given in ANLI only."""


def read_nli_jsonl(split: SplitFiles) -> Iterator[PairRow]:
    """Reads the JSON lines of MultiNLI 1.0 (https://cims.nyu.edu/~sbowman/multinli/), SNLI 1.0 and ANLI 1.0
    (https://github.com/facebookresearch/anli).

    A row without an id, or with one that an earlier row has, is named by the file's stem and the line number. Rows
    with the label "-", on which the annotators did not agree, are left out, as in the official use.
    """
    seen: set[str] = set()
    for file in split.files:
        for line, record in read_json_lines(file, _Inference):
            if record.gold_label == NO_AGREED_LABEL:
                continue
            label = split.label(record.gold_label, file, line, None if record.context is None else _ANLI_LABELS)
            key = record.id if record.id and record.id not in seen else f"{file.stem}-{line}"
            seen.add(key)
            yield PairRow(key, record.sentence1, record.sentence2, label)


def read_pair_tsv(split: SplitFiles) -> Iterator[PairRow]:
    """Reads first sentence, tab, second sentence, tab, label, of XNLI and PAWS-X.

    Either under the header ``id sentence1 sentence2 label``, as PAWS-X is published
    (https://github.com/google-research-datasets/paws), where quotes mean nothing; or without header and id, as
    ``utils_preprocess.py`` of https://github.com/google-research/xtreme writes XNLI 1.0 and PAWS-X. The id is the
    split and the number of the row, so that it is equal in all languages of a parallel test set.
    """
    lines = read_lines(split.file)
    while lines and not lines[-1]:
        lines.pop()
    headers = int(lines[0].split("\t") == _PAIR_HEADER)
    # XTREME's translated training sets write "contradictory".
    names = {label: label for label in split.task.labels} | _PARAPHRASE_LABELS | {"contradictory": "contradiction"}
    for number, line in enumerate(lines[headers:], start=1):
        columns = line.split("\t")[headers:] if line else []
        _check_columns(split, number + headers, columns)
        text_a, text_b = columns[:2] if headers else map(_unquoted, columns[:2])
        label = split.label(columns[2].strip(), split.file, number + headers, names)
        yield PairRow(f"{split.split}-{number}", text_a, text_b, label)


def _check_columns(split: SplitFiles, line: int, columns: list[str]) -> None:
    if split.split == "test" and len(columns) in (2, 3) and not "".join(columns[2:]).strip():
        address = _LABELLED.get(split.task.key, "").format(language=split.language)
        raise split.file.fault(
            "the test label is missing.",
            line=line,
            why="The test files that XTREME's download script writes hold no labels.",
            fix=address and f"Get the labelled release, {address}",
        )
    if len(columns) != len(_PAIR_COLUMNS):
        missing = ", ".join(_PAIR_COLUMNS[len(columns) :])
        raise split.file.fault(
            f"field missing: {missing}; found {len(columns)} of {len(_PAIR_COLUMNS)} columns."
            if missing
            else f"{len(columns)} columns, expected {len(_PAIR_COLUMNS)}.",
            line=line,
            why=f"Columns, separated by tabs: {', '.join(_PAIR_COLUMNS)}.",
        )


def _unquoted(text: str) -> str:
    # XTREME's script encloses a sentence that has quotes in quotes and doubles the others.
    inner = text[1:-1]
    doubled = '""' in inner and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if doubled and text[0] == text[-1] == '"' else text


def read_qqp_tsv(split: SplitFiles) -> Iterator[PairRow]:
    """Reads question pairs under the header ``id qid1 qid2 question1 question2 is_duplicate``.

    In GLUE's files (https://gluebenchmark.com/tasks) quotes mean nothing. Quora's own
    ``quora_duplicate_questions.tsv`` encloses questions in quotes and has no splits: every tenth pair of it is the
    development set, which is not GLUE's.
    """
    original = split.file.stem == _QQP_ORIGINAL
    table = read_table(split.file, _QQP_HEADER, delimiter="\t", quotes=original)
    for number, (line, columns) in enumerate(table):
        # A line break inside a question of GLUE's files cuts its row in two; neither half has all columns.
        if len(columns) < len(_QQP_HEADER) or (original and (number % _QQP_DEV_EVERY == 0) != (split.split == "dev")):
            continue
        label = split.label(columns[5].strip(), split.file, line, _PARAPHRASE_LABELS)
        yield PairRow(f"{split.split}-{line}", columns[3], columns[4], label)
