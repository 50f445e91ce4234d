"""Reading: answers that stand where they should, contexts that need reading, and questions without an answer."""

from __future__ import annotations

from collections import Counter

import pytest

from artifact.world.generator.fact import Fact
from artifact.world.generator.language import CODES
from artifact.world.generator.reading import Question, answer_to
from artifact.world.generator.sentence import Clause
from artifact.world.generator.world import SIZES, World
from tests.artifact.world.guessing import guessed_labels
from xlt.data.rows import SpanRow
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split

SIZES_OF_CONTEXTS = {"squad": {3}, "squad_v2": {3}, "xquad": {3}, "mlqa": {4}, "tydiqa": {2, 3}}
CELLS = [(key, split) for key in SIZES_OF_CONTEXTS for split in SIZES[key]]


def rows_of(world: World, key: str, split: Split, code: str = "en") -> list[SpanRow]:
    return [row for row in world.rows(TASKS[key], split, code) if isinstance(row, SpanRow)]


def stated(question: str, answer: str) -> str:
    """The English statement that ``answer`` to ``question`` makes."""
    words = question.rstrip("?").split()
    if words[0] == "who":
        return " ".join([answer, *words[1:]]) + "."
    verb = words.index("does")
    begun = [words[verb + 1], words[verb + 2] + "s"]
    match words[0]:
        case "where":
            return " ".join([*begun, "in", answer]) + "."
        case "which":
            return " ".join([*begun, "a", answer, *words[1:verb]]) + "."
        case "how":
            return " ".join([*begun, answer, *words[2:verb]]) + "."
        case _:
            return " ".join([*begun, answer]) + "."


@pytest.mark.parametrize(("key", "split"), CELLS)
def test_the_context_states_the_answer_and_no_second_one(world: World, key: str, split: Split) -> None:
    for row in rows_of(world, key, split):
        sentences = [sentence.rstrip(".") + "." for sentence in row.context.split(". ")]
        assert len(sentences) in SIZES_OF_CONTEXTS[key]
        fitting = {word for word in row.context.replace(".", "").split() if stated(row.question, word) in sentences}
        assert fitting == {answer.text for answer in row.answers}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("key", ["xquad", "mlqa", "tydiqa"])
def test_answers_stand_where_they_should(world: World, key: str, code: str) -> None:
    for row, english in zip(rows_of(world, key, "test", code), rows_of(world, key, "test"), strict=True):
        (answer,), (translated,) = row.answers, english.answers
        assert row.context[answer.start : answer.start + len(answer.text)] == answer.text
        assert answer.text not in row.question.split()
        if translated.text[0].isupper() or translated.text.isdigit():
            assert answer.text == translated.text


@pytest.mark.parametrize(("key", "split"), CELLS)
def test_answers_stand_at_every_place_equally_often(world: World, key: str, split: Split) -> None:
    places: dict[int, Counter[int]] = {}
    for item in world.items(key, split):
        fact = answer_to(item.clause, item.context)
        if fact is not None:
            places.setdefault(len(item.context), Counter())[item.context.index(fact)] += 1
    assert set(places) == SIZES_OF_CONTEXTS[key]
    for size, counts in places.items():
        assert set(counts) == set(range(size))
        assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize("key", ["squad", "squad_v2", "mlqa", "tydiqa"])
def test_entity_and_relation_are_both_needed(world: World, key: str) -> None:
    items: list[Question] = world.items(key, "dev")
    same_entity = same_relation = 0
    for item in items:
        asked = item.clause.fact
        others = [fact for fact in item.context if fact != answer_to(item.clause, item.context)]
        assert len({(fact.entity, fact.relation) for fact in item.context}) == len(item.context)
        same_entity += any(fact.entity == asked.entity for fact in others)
        same_relation += any(fact.relation == asked.relation for fact in others)
        if item.clause.asked == "entity":
            assert any(fact.relation == asked.relation for fact in others)
        else:
            assert any(fact.entity == asked.entity or fact.relation == asked.relation for fact in others)
    assert same_entity > 0.2 * len(items)
    assert same_relation > 0.5 * len(items)


def test_shares_of_questions(world: World) -> None:
    def share(key: str, asked: str) -> float:
        items = world.items(key, "dev")
        return sum(item.clause.asked == asked for item in items) / len(items)

    assert 0.2 < share("squad", "entity") < 0.3
    assert 0.45 < share("tydiqa", "entity") < 0.55
    for split in ("train", "dev"):
        rows = rows_of(world, "squad_v2", split)
        assert 0.28 < sum(not row.answers for row in rows) / len(rows) < 0.36


@pytest.mark.parametrize("side", ["question", "context"])
def test_one_text_alone_does_not_tell_whether_there_is_an_answer(world: World, side: str) -> None:
    rows = rows_of(world, "squad_v2", "train")
    majority = sum(bool(row.answers) for row in rows) / len(rows)
    assert guessed_labels([(getattr(row, side), str(bool(row.answers))) for row in rows]) < majority + 0.02


def test_an_unanswered_question_has_no_answer() -> None:
    context = (Fact("Mira", "eat", "bread"), Fact("Hugo", "sell", "salt"))
    assert answer_to(Clause(Fact("Mira", "eat", ""), "value"), context) == context[0]
    assert answer_to(Clause(Fact("", "sell", "salt"), "entity"), context) == context[1]
    assert answer_to(Clause(Fact("Mira", "sell", ""), "value"), context) is None
    assert answer_to(Clause(Fact("", "eat", "salt"), "entity"), context) is None
