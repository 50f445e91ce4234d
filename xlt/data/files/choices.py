"""Multiple choice: the JSON lines of HellaSwag, CommonsenseQA, Social IQa and COPA, and the tables of Cosmos QA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from xlt.data.files.reading import JsonRecord, SplitFiles, read_json_lines, read_lines, read_table
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


class _Situation(JsonRecord):
    context: str
    question: str
    answerA: str  # noqa: N815
    answerB: str  # noqa: N815
    answerC: str  # noqa: N815
    correct: str = ""


class _Premise(JsonRecord):
    premise: str
    choice1: str
    choice2: str
    question: Literal["cause", "effect"]
    label: int


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


def read_siqa(split: SplitFiles) -> Iterator[ChoiceRow]:
    """Reads the JSON lines of Social IQa, whose right answers are letters in them or numbers in a second file.

    Letters are in the release 1.4 that XTREME-R uses, numbers from 1 in that of https://leaderboard.allenai.org. As in
    XTREME-R's code the prompt is the context and the question.
    """
    records = list(read_json_lines(split.file, _Situation))
    numbers = [line.strip() for file in split.files[1:] for line in read_lines(file)]
    if len(split.files) > 1 and len(numbers) != len(records):
        raise split.files[1].fault(f"{len(numbers)} labels, but {split.file.shown} has {len(records)} questions.")
    names = numbers or [record.correct for _, record in records]
    for number, ((line, record), name) in enumerate(zip(records, names, strict=True), start=1):
        label = [*("123" if numbers else "ABC"), name].index(name)
        answers = [record.answerA, record.answerB, record.answerC]
        yield _row(split, number, line, f"{record.context} {record.question}", answers, label)


def read_copa(split: SplitFiles) -> Iterator[ChoiceRow]:
    """Reads the JSON lines of COPA as SuperGLUE has them, and of XCOPA (https://github.com/cambridgeltl/xcopa)."""
    for number, (line, record) in enumerate(read_json_lines(split.file, _Premise), start=1):
        prompt = asked(record.premise, record.question)
        yield _row(split, number, line, prompt, [record.choice1, record.choice2], record.label)


def asked(premise: str, relation: str) -> str:
    """The prompt of a premise whose cause or effect is asked for, in English everywhere, as in XTREME-R's code."""
    return f"{premise} What was the {relation}?"


def _row(split: SplitFiles, number: int, line: int, prompt: str, choices: list[str], label: int) -> ChoiceRow:
    if not 0 <= label < len(choices):
        why = "Test files hold no true labels."
        raise split.file.fault(f"the label is none of the {len(choices)} choices.", line=line, why=why)
    return ChoiceRow(f"{split.split}-{number}", prompt, tuple(choices), label)
