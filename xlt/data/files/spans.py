"""Questions about a context: the JSON format of SQuAD, which XQuAD, MLQA and TyDiQA-GoldP share."""

from __future__ import annotations

from collections.abc import Iterator

from xlt.data.files.reading import JsonRecord, SplitFiles, read_json
from xlt.data.rows import Answer, SpanRow

_NOT_FOUND = -1
# A builder that strips a context shifts its offsets by the white space it took away: one or two characters in
# XQuAD. Farther away, an equal text is more likely another mention than the answer.
_FARTHEST_SHIFT = 32
# TyDiQA's names of the languages, in its file names and at the beginning of its ids.
LANGUAGE_NAMES = {
    "ar": "arabic",
    "bn": "bengali",
    "en": "english",
    "fi": "finnish",
    "id": "indonesian",
    "ko": "korean",
    "ru": "russian",
    "sw": "swahili",
    "te": "telugu",
}


class _Answer(JsonRecord):
    text: str
    answer_start: int


class _Question(JsonRecord):
    id: str
    question: str
    answers: list[_Answer]
    is_impossible: bool = False


class _Paragraph(JsonRecord):
    context: str
    qas: list[_Question]


class _Article(JsonRecord):
    paragraphs: list[_Paragraph]


class _Document(JsonRecord):
    data: list[_Article]


def read_squad_json(split: SplitFiles) -> Iterator[SpanRow]:
    """Reads the JSON format of SQuAD (https://rajpurkar.github.io/SQuAD-explorer/), with the file's ids.

    Only SQuAD v2.0 may have questions without an answer, marked ``is_impossible``. Offsets count characters. An answer
    that is not at its offset is searched for (see ``align``). If it is not found, its text still serves to score
    predictions, and its ``start`` is -1: training leaves it out.
    """
    seen: set[str] = set()
    articles = read_json(split.file, _Document).data
    paragraphs = (paragraph for article in articles for paragraph in article.paragraphs)
    pairs = ((paragraph.context, question) for paragraph in paragraphs for question in paragraph.qas)
    for number, (context, question) in enumerate(pairs, start=1):
        key = question.id
        if key in seen and split.split == "train":
            # XTREME's script cuts the ids of TyDiQA's training set so that several questions share one.
            key = f"{key}-{number}"
        if key in seen:
            raise split.file.fault(f"the id '{key}' occurs twice.")
        seen.add(key)
        if not all(answer.text for answer in question.answers):
            raise split.file.fault(
                f"the answer to question '{key}' is empty.",
                why="The test files that XTREME's download script leaves behind hold no answers.",
                fix=f"Get the labelled release: {split.task.address}",
            )
        if not question.answers and not (question.is_impossible and split.task.unanswerable):
            raise split.file.fault(f"question '{key}' has no answer.")
        answers = (Answer(each.text, align(context, each.text, each.answer_start)) for each in question.answers)
        yield SpanRow(key, question.question, context, tuple(answers))


def align(context: str, text: str, start: int) -> int:
    """The offset of the text in the context: the first of these places where it is, -1 if it is at none.

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


def read_tydiqa(split: SplitFiles) -> Iterator[SpanRow]:
    """Reads the questions of one language from its file or from the file of all languages.

    Ids of the release (https://github.com/google-research-datasets/tydiqa) begin with the English name of the
    language; XTREME's script cuts it off when it splits the file of all by language.
    """
    others = {name for code, name in LANGUAGE_NAMES.items() if code != split.language}
    return (row for row in read_squad_json(split) if row.id.partition("-")[0] not in others)
