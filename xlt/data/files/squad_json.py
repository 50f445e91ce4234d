"""The JSON form of SQuAD, which XQuAD, MLQA and TyDiQA-GoldP share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xlt.data.files.fields import Place, get_list, get_text, get_whole_number, parse_json
from xlt.data.files.part import Part
from xlt.data.files.text import read_text
from xlt.data.rows import Answer, SpanRow

_NOT_FOUND = -1
# A builder that strips a context shifts its offsets by the white space it took away: one or two characters in
# XQuAD. Farther away, an equal text is more likely another mention than the answer.
_FARTHEST_SHIFT = 32


def read_squad_json(part: Part) -> list[SpanRow]:
    """Reads the JSON form of SQuAD (https://rajpurkar.github.io/SQuAD-explorer/), with the file's ids.

    A training id that came before gets the number of the question: XTREME's script makes such ids for TyDiQA. Only
    SQuAD v2.0 may have questions without an answer, marked ``is_impossible``.
    Offsets count characters. An answer that does not stand at its offset is looked for (see ``align``). One that is
    not found keeps its text, which is enough to score a prediction, and its ``start`` is -1: training leaves it out.

    Raises:
        FileFault: the file is broken, a field is missing, an id of an evaluation set occurs twice, or the answers
            are withheld.
    """
    rows: list[SpanRow] = []
    seen: set[str] = set()
    document = parse_json(read_text(part.file), part.file)
    for context, question, place in _questions(document, Place(part.file)):
        question_id = get_text(question, "id", place)
        if question_id in seen and part.split == "train":
            question_id = f"{question_id}-{len(rows) + 1}"
        if question_id in seen:
            raise place.fault(f"the id '{question_id}' occurs twice.")
        seen.add(question_id)
        answers = _answers(question, context, part, place)
        rows.append(SpanRow(question_id, get_text(question, "question", place), context, answers))
    return rows


def align(context: str, text: str, start: int) -> int:
    """Where the text stands in the context: the first of these places at which it does, -1 if at none.

    At ``start``; at ``start`` counted in bytes of UTF-8, as in some files of TyDiQA; nearest to ``start``, at most 32
    characters from it; before ``start``, if it occurs nowhere else. With byte offsets the nearest equal text would
    often be another mention (in 138 of 14,280 answers of XQuAD), with shifted ones hardly ever that at the byte (in 3).
    """
    if start >= 0 and context.startswith(text, start):
        return start
    data = context.encode()
    if start >= 0 and data.startswith(text.encode(), start):
        return len(data[:start].decode())
    candidates = range(max(0, start - _FARTHEST_SHIFT), start + _FARTHEST_SHIFT + 1)
    places = [place for place in candidates if context.startswith(text, place)]
    # What counts something finer than characters counts too far: a text behind its offset is not what was meant.
    first = context.find(text)
    only = first if first < start and context.find(text, first + 1) < 0 else _NOT_FOUND
    return min(places, key=lambda place: abs(place - start), default=only)


def _questions(document: Any, top: Place) -> Iterator[tuple[str, Any, Place]]:
    """Each question with its context and its place."""
    for i, article in enumerate(get_list(document, "data", top)):
        in_article = top.below("data", i)
        for j, paragraph in enumerate(get_list(article, "paragraphs", in_article)):
            in_paragraph = in_article.below("paragraphs", j)
            context = get_text(paragraph, "context", in_paragraph)
            for k, question in enumerate(get_list(paragraph, "qas", in_paragraph)):
                yield context, question, in_paragraph.below("qas", k)


def _answers(question: Any, context: str, part: Part, place: Place) -> tuple[Answer, ...]:
    answers: list[Answer] = []
    for number, record in enumerate(get_list(question, "answers", place)):
        in_answer = place.below("answers", number)
        text = get_text(record, "text", in_answer)
        start = get_whole_number(record, "answer_start", in_answer)
        if not text:
            raise in_answer.fault(
                "the answer is empty.",
                why="The test files that XTREME's download script leaves behind hold no answers.",
                fix=f"Get the labelled release: {part.task.address}",
            )
        answers.append(Answer(text, align(context, text, start)))
    if not answers and not (part.task.metric == "squad_v2" and question.get("is_impossible") is True):
        raise place.fault("the question has no answer.")
    return tuple(answers)
