"""Questions whose answers are searched in one pool of all languages: XQuAD-R of LAReQA, and Mewsli-X."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from xlt.data.files.reading import DataFile, JsonRecord, SplitFiles, read_json, read_json_lines
from xlt.data.rows import CandidateRow, QueryRow, Row

# Braces that stand in a text already, which those around a mention would be taken for.
_BRACES = re.compile(r"\{(.*?)\}")


class _Answer(JsonRecord):
    answer_start: int


class _Question(JsonRecord):
    id: str
    question: str
    answers: list[_Answer]


class _Paragraph(JsonRecord):
    context: str
    sentence_breaks: list[tuple[int, int]]
    qas: list[_Question]


class _Article(JsonRecord):
    paragraphs: list[_Paragraph]


class _Document(JsonRecord):
    data: list[_Article]


def read_lareqa(split: SplitFiles) -> list[Row]:
    """Reads XQuAD-R (https://github.com/google-research-datasets/lareqa): XQuAD's JSON with the breaks of sentences.

    The rows are the questions of the language and the sentences of every language. Right is, in each language, the
    sentence in which the answer to the question of the same id begins. As in XTREME-R's code a candidate is the
    sentence with its paragraph behind it, and what begins in no sentence is left out.
    """
    own, *every = split.files
    if absent := {*split.task.languages} - {file.stem for file in every}:
        raise own.fault(
            f"the pool of answers lacks the language{'s' * (len(absent) > 1)} {' '.join(sorted(absent))}.",
            why="The answers of all languages are searched together.",
            fix=f"Get all files: {own.origin}",
        )
    questions: dict[str, str] = {}
    candidates: list[CandidateRow] = []
    right: dict[str, list[str]] = {}
    for file in every:
        paragraphs = [paragraph for article in read_json(file, _Document).data for paragraph in article.paragraphs]
        for number, paragraph in enumerate(paragraphs, start=1):
            sentences = [paragraph.context[slice(*pair)] for pair in paragraph.sentence_breaks]
            found = {each.id: _sentence_at(paragraph, each, file) for each in paragraph.qas}
            if all(place is None for place in found.values()):
                continue
            ids = [f"{file.stem}_{number}_{place}" for place in range(len(sentences))]
            candidates += [
                CandidateRow(id_, f"{sentence}{paragraph.context}".replace("\n", ""))
                for id_, sentence in zip(ids, sentences, strict=True)
            ]
            for question in paragraph.qas:
                if (at := found[question.id]) is None:
                    continue
                # Of two equal sentences of a paragraph both are right.
                equal = [id_ for id_, sentence in zip(ids, sentences, strict=True) if sentence == sentences[at]]
                right.setdefault(question.id, []).extend(equal)
                if file.stem == split.language:
                    if question.id in questions:
                        raise file.fault(f"the id '{question.id}' occurs twice.")
                    questions[question.id] = question.question
    return [*(QueryRow(id_, text, tuple(right[id_])) for id_, text in questions.items()), *candidates]


def _sentence_at(paragraph: _Paragraph, question: _Question, file: DataFile) -> int | None:
    if len(question.answers) != 1:
        raise file.fault(f"question '{question.id}' has {len(question.answers)} answers, not one.")
    start = question.answers[0].answer_start
    places = (place for place, (first, end) in enumerate(paragraph.sentence_breaks) if first <= start < end)
    return next(places, None)


class _Span(JsonRecord):
    start: int
    end: int


class _Entity(JsonRecord):
    entity_id: str
    description: str
    sentence_spans: list[_Span]


class _Context(JsonRecord):
    language: str
    text: str
    sentence_spans: list[_Span]


class _Mention(JsonRecord):
    example_id: str
    mention_span: _Span
    entity_id: str


class _Mentions(JsonRecord):
    context: _Context
    mentions: list[_Mention]


def read_mewslix(split: SplitFiles) -> Iterator[Row]:
    """Reads the mentions and the candidate entities of Mewsli-X, as its generator or XTREME-R's script writes them.

    The generator is in https://github.com/google-research/google-research, dense_representations_for_entity_retrieval.
    A query is the mention, its sentence with the mention in braces, as in XTREME-R's code; a candidate is what an
    entity's description says of it. Where one file holds all languages, the others are left out.
    """
    mentions, entities = split.files
    status = entities.path.stat()
    candidates = _candidates(entities, (status.st_mtime_ns, status.st_size))
    known = {row.id for row in candidates}
    for line, record in read_json_lines(mentions, _Mentions):
        for mention in record.mentions if record.context.language == split.language else ():
            if mention.entity_id not in known:
                raise mentions.fault(
                    f"the entity '{mention.entity_id}' is none of the {len(known)} candidates.",
                    line=line,
                    why="" if mention.entity_id else "XTREME-R's script takes the labels of test sets away.",
                )
            yield QueryRow(mention.example_id, _marked(record.context, mention, mentions, line), (mention.entity_id,))
    yield from candidates


@lru_cache(maxsize=1)
def _candidates(file: DataFile, state: tuple[int, int]) -> tuple[CandidateRow, ...]:
    """The entities, once for all languages: there are a million. ``state`` tells a changed file from the one before."""
    rows: dict[str, CandidateRow] = {}
    for line, entity in read_json_lines(file, _Entity):
        if not entity.entity_id or entity.entity_id.split() != [entity.entity_id] or entity.entity_id in rows:
            raise file.fault(f"the id '{entity.entity_id}' is blank, no single word, or occurs twice.", line=line)
        sentences = " ".join(entity.description[span.start : span.end] for span in entity.sentence_spans)
        rows[entity.entity_id] = CandidateRow(entity.entity_id, _one_line(sentences))
    return tuple(rows.values())


def _marked(context: _Context, mention: _Mention, file: DataFile, line: int) -> str:
    span, text = mention.mention_span, context.text
    around = [each for each in context.sentence_spans if each.start <= span.start < span.end <= each.end]
    if not around:
        raise file.fault(f"the mention '{mention.example_id}' is in no sentence.", line=line)
    sides = text[around[0].start : span.start], text[span.end : around[0].end]
    left, right = (_BRACES.sub(r"(\1)", side) for side in sides)
    named = text[span.start : span.end]
    # The mention comes first, too, where no limit of length can cut it off.
    return _one_line(f"{named}: {left} {{ {named} }} {right}")


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).replace("  ", " ").strip()
