"""Multiple choice: the JSON lines of HellaSwag and CommonsenseQA and the tables of Cosmos QA."""

from __future__ import annotations

from collections.abc import Iterator

from xlt.data.files.reading import JsonRecord, SplitFiles, read_json_lines, read_table
from xlt.data.rows import ChoiceRow

_COSMOS_HEADER = ["id", "context", "question", "answer0", "answer1", "answer2", "answer3", "label"]


class _Ending(JsonRecord):
    ctx_a: str
    ctx_b: str
    endings: list[str]
    label: int


class _Choice(JsonRecord):
    label: str
    text: str


class _Question(JsonRecord):
    stem: str
    choices: list[_Choice]


class _Guess(JsonRecord):
    question: _Question
    answerKey: str  # noqa: N815 (the name in the file)


def read_hellaswag(split: SplitFiles) -> Iterator[ChoiceRow]:
    """Reads the JSON lines of HellaSwag (https://github.com/rowanz/hellaswag).

    As in jiant the prompt is ``ctx_a``, and a choice is ``ctx_b``, the beginning of the sentence, with an ending.
    """
    for number, (line, record) in enumerate(read_json_lines(split.file, _Ending), start=1):
        choices = [f"{record.ctx_b} {ending}".strip(" ") for ending in record.endings]
        yield _row(split, number, line, record.ctx_a, choices, record.label)


def read_commonsenseqa(split: SplitFiles) -> Iterator[ChoiceRow]:
    """Reads the JSON lines of CommonsenseQA 1.11 (https://www.tau-nlp.sites.tau.ac.il/commonsenseqa)."""
    for number, (line, record) in enumerate(read_json_lines(split.file, _Guess), start=1):
        letters = [choice.label for choice in record.question.choices]
        label = letters.index(record.answerKey) if record.answerKey in letters else -1
        choices = [choice.text for choice in record.question.choices]
        yield _row(split, number, line, record.question.stem, choices, label)


def read_cosmosqa(split: SplitFiles) -> Iterator[ChoiceRow]:
    """Reads the comma-separated files of Cosmos QA (https://github.com/wilburOne/cosmosqa)."""
    for number, (line, columns) in enumerate(read_table(split.file, _COSMOS_HEADER), start=1):
        if len(columns) != len(_COSMOS_HEADER):
            raise split.file.fault(f"{len(columns)} columns, expected {len(_COSMOS_HEADER)}.", line=line)
        _, context, question, *answers, digit = columns
        # The question goes with the answers: a pair that is too long for the model loses the end of its prompt.
        choices = [f"{question} {answer}" for answer in answers]
        label = int(digit) if digit.isdecimal() and len(digit) == 1 else -1
        yield _row(split, number, line, context, choices, label)


def _row(split: SplitFiles, number: int, line: int, prompt: str, choices: list[str], label: int) -> ChoiceRow:
    if not 0 <= label < len(choices):
        why = "Test files hold no true labels."
        raise split.file.fault(f"the label is none of the {len(choices)} choices.", line=line, why=why)
    return ChoiceRow(f"{split.split}-{number}", prompt, tuple(choices), label)
