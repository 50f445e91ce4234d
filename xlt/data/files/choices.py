"""The files of the multiple-choice tasks: HellaSwag, Cosmos QA and CommonsenseQA."""

from __future__ import annotations

from xlt.data.files.fields import (
    Place,
    get_list,
    get_object,
    get_text,
    get_texts,
    get_whole_number,
    read_records,
)
from xlt.data.files.part import Part
from xlt.data.files.table import read_table
from xlt.data.rows import ChoiceRow

_COSMOS_HEADER = ["id", "context", "question", "answer0", "answer1", "answer2", "answer3", "label"]


def read_hellaswag(part: Part) -> list[ChoiceRow]:
    """Reads the JSON lines of HellaSwag (https://github.com/rowanz/hellaswag).

    As in jiant the prompt is ``ctx_a`` and a choice is ``ctx_b``, the beginning of the sentence, with an ending.

    Raises:
        FileFault: the file is broken, a field is missing, or no ending has the number of the label.
    """
    rows: list[ChoiceRow] = []
    for record, place in read_records(part.file):
        start = get_text(record, "ctx_b", place)
        choices = tuple(f"{start} {ending}".strip(" ") for ending in get_texts(record, "endings", place))
        label = get_whole_number(record, "label", place)
        rows.append(_row(part, len(rows), get_text(record, "ctx_a", place), choices, label, place))
    return rows


def read_commonsenseqa(part: Part) -> list[ChoiceRow]:
    """Reads the JSON lines of CommonsenseQA 1.11 (https://www.tau-nlp.sites.tau.ac.il/commonsenseqa).

    Raises:
        FileFault: the file is broken, a field is missing, or no choice has the letter of the answer.
    """
    rows: list[ChoiceRow] = []
    for record, place in read_records(part.file):
        question = get_object(record, "question", place)
        choices = get_list(question, "choices", place)
        letters = [get_text(choice, "label", place) for choice in choices]
        answer = get_text(record, "answerKey", place)
        label = letters.index(answer) if answer in letters else -1
        texts = tuple(get_text(choice, "text", place) for choice in choices)
        rows.append(_row(part, len(rows), get_text(question, "stem", place), texts, label, place))
    return rows


def read_cosmosqa(part: Part) -> list[ChoiceRow]:
    """Reads the comma-separated files of Cosmos QA (https://github.com/wilburOne/cosmosqa).

    The prompt is the context and a choice is the question with an answer: of a pair too long for the model the
    prompt loses its end, which must not be the question.

    Raises:
        FileFault: the file is broken, its header is another, or a label is no number from 0 to 3.
    """
    rows: list[ChoiceRow] = []
    for line, columns in read_table(part.file, _COSMOS_HEADER):
        place = Place(part.file, line)
        if len(columns) != len(_COSMOS_HEADER):
            raise place.fault(f"{len(columns)} columns, expected {len(_COSMOS_HEADER)}.")
        _, context, question, *answers, number = columns
        choices = tuple(f"{question} {answer}" for answer in answers)
        label = int(number) if number.isdecimal() and len(number) == 1 else -1
        rows.append(_row(part, len(rows), context, choices, label, place))
    return rows


def _row(part: Part, count: int, prompt: str, choices: tuple[str, ...], label: int, place: Place) -> ChoiceRow:
    if not 0 <= label < len(choices):
        raise place.fault(f"the label is none of the {len(choices)} choices.", why="Test files hold no true labels.")
    return ChoiceRow(f"{part.split}-{count + 1}", prompt, choices, label)
