"""Reading: a few facts told, and a question after one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlt.data.rows import Answer, SpanRow
from xlt.data.world.fact import Fact
from xlt.data.world.grammar import realise, text_of
from xlt.data.world.sentence import Asked, Clause
from xlt.data.world.story import StoryTeller

BLOCK = 12  # a multiple of every context size: each size and case gets every place of the answer equally often


@dataclass(frozen=True, slots=True)
class Question:
    """A context and what is asked about it."""

    context: tuple[Fact, ...]
    clause: Clause


def answer_to(clause: Clause, context: Sequence[Fact]) -> Fact | None:
    """The fact of ``context`` that answers the question ``clause``."""
    asked, fact = clause.asked, clause.fact
    for told in context:
        known = told.entity == fact.entity if asked == "value" else told.value == fact.value
        if known and told.relation == fact.relation:
            return told
    return None


def draw_questions(
    teller: StoryTeller, size: int, *, told: tuple[int, ...] = (3,), entities: int = 4, unanswerable: bool = False
) -> list[Question]:
    """Questions about contexts of ``told`` facts, every so many after the entity, a third of them unanswerable."""
    items = []
    for number, fact in enumerate(teller.draw(size)):
        length = told[number // BLOCK % len(told)]
        asked: Asked = "entity" if number // length % entities == 0 else "value"
        clause = Clause(fact, asked)
        if unanswerable and number // BLOCK % 3 == 2:
            context = _lookalikes(teller, clause, number % length, length)
        else:
            context = _context(teller, clause, number % length, length)
        items.append(Question(context, clause))
    return items


def tell_question(name: str, item: Question, code: str, seed: int) -> SpanRow:
    """The row of ``item`` in one language."""
    question, context = text_of([item.clause], code, seed), text_of([*map(Clause, item.context)], code, seed)
    fact = answer_to(item.clause, item.context)
    if fact is None:
        return SpanRow(name, question, context, ())
    before = text_of([*map(Clause, item.context[: item.context.index(fact)])], code, seed)
    form, start = realise(Clause(fact), code, seed).find("entity" if item.clause.asked == "entity" else "value")
    return SpanRow(name, question, context, (Answer(form, start + len(before) + bool(before)),))


def _context(teller: StoryTeller, clause: Clause, place: int, size: int) -> tuple[Fact, ...]:
    """A context of ``size`` facts with the answer to ``clause`` at ``place``.

    One of the others shares its entity, so that the entity alone does not lead to the answer; another one is about
    another entity, with the same relation in half of the contexts and wherever the entity is asked for. Of two facts
    the other one is either.
    """
    fact = clause.fact
    rest = [teller.other_entity(fact, same_value=False), teller.other_relation(fact)]
    if clause.asked == "value" and teller.random.random() < 0.5:
        rest[0] = teller.other_relation(rest[0])
        if size == 2:
            rest = rest[::-1]
    del rest[size - 1 :]
    taken = {(other.entity, other.relation) for other in (*rest, fact)}
    while len(rest) < size - 1:
        other = teller.other_relation(teller.random.choice((fact, rest[0])))
        if (other.entity, other.relation) not in taken:
            rest.append(other)
            taken.add((other.entity, other.relation))
    teller.random.shuffle(rest)
    rest.insert(place, fact)
    return tuple(rest)


def _lookalikes(teller: StoryTeller, clause: Clause, place: int, size: int) -> tuple[Fact, ...]:
    """A context of the same making that does not answer ``clause`` but tells something like it at ``place``."""
    while True:
        if clause.asked == "value" and teller.random.random() < 0.5:
            like = teller.other_relation(clause.fact)
        else:
            like = teller.other_entity(clause.fact, same_value=False)
        context = _context(teller, Clause(like, clause.asked), place, size)
        if answer_to(clause, context) is None:
            return context
