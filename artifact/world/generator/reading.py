"""Reading comprehension: a context that states a few facts, and a question about one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from artifact.world.generator.fact import Fact
from artifact.world.generator.grammar import realise, text_of
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.sentence import Asked, Clause
from xlt.data.rows import Answer, SpanRow

# A multiple of every context size, so that the answer is at every position equally often for each size and case.
BLOCK = 12


@dataclass(frozen=True, slots=True)
class Question:
    """A context and a question about it."""

    context: tuple[Fact, ...]
    clause: Clause


def answer_to(clause: Clause, context: Sequence[Fact]) -> Fact | None:
    """The fact of ``context`` that answers the question ``clause``."""
    asked, fact = clause.asked, clause.fact
    for stated in context:
        known = stated.entity == fact.entity if asked == "value" else stated.value == fact.value
        if known and stated.relation == fact.relation:
            return stated
    return None


def sample_questions(
    sampler: FactSampler, size: int, *, sizes: tuple[int, ...] = (3,), entities: int = 4, unanswerable: bool = False
) -> list[Question]:
    """Questions about contexts of ``sizes`` facts in turn.

    Every ``entities``-th question asks for the entity, the others for the value. With ``unanswerable`` the context of
    every third one does not hold the answer.
    """
    items = []
    for number, fact in enumerate(sampler.sample(size)):
        length = sizes[number // BLOCK % len(sizes)]
        asked: Asked = "entity" if number // length % entities == 0 else "value"
        clause = Clause(fact, asked)
        if unanswerable and number // BLOCK % 3 == 2:
            context = _distractors(sampler, clause, number % length, length)
        else:
            context = _context(sampler, clause, number % length, length)
        items.append(Question(context, clause))
    return items


def render_question(name: str, item: Question, code: str, seed: int) -> SpanRow:
    """The row of ``item`` in one language."""
    question, context = text_of([item.clause], code, seed), text_of([*map(Clause, item.context)], code, seed)
    fact = answer_to(item.clause, item.context)
    if fact is None:
        return SpanRow(name, question, context, ())
    before = text_of([*map(Clause, item.context[: item.context.index(fact)])], code, seed)
    form, start = realise(Clause(fact), code, seed).find("entity" if item.clause.asked == "entity" else "value")
    return SpanRow(name, question, context, (Answer(form, start + len(before) + bool(before)),))


def _context(sampler: FactSampler, clause: Clause, place: int, size: int) -> tuple[Fact, ...]:
    """A context of ``size`` facts with the answer to ``clause`` at ``place``.

    One of the other facts shares the entity of the answer, so that the entity alone does not lead to the answer.
    Another one is about another entity; it has the relation of the answer in half of the contexts, and always if the
    entity is asked for. A context of two facts has one of these.
    """
    fact = clause.fact
    rest = [sampler.other_entity(fact, same_value=False), sampler.other_relation(fact)]
    if clause.asked == "value" and sampler.random.random() < 0.5:
        rest[0] = sampler.other_relation(rest[0])
        if size == 2:
            rest = rest[::-1]
    del rest[size - 1 :]
    taken = {(other.entity, other.relation) for other in (*rest, fact)}
    while len(rest) < size - 1:
        other = sampler.other_relation(sampler.random.choice((fact, rest[0])))
        if (other.entity, other.relation) not in taken:
            rest.append(other)
            taken.add((other.entity, other.relation))
    sampler.random.shuffle(rest)
    rest.insert(place, fact)
    return tuple(rest)


def _distractors(sampler: FactSampler, clause: Clause, place: int, size: int) -> tuple[Fact, ...]:
    """A context that does not answer ``clause``: at ``place`` it states a fact with another entity or relation."""
    while True:
        if clause.asked == "value" and sampler.random.random() < 0.5:
            like = sampler.other_relation(clause.fact)
        else:
            like = sampler.other_entity(clause.fact, same_value=False)
        context = _context(sampler, Clause(like, clause.asked), place, size)
        if answer_to(clause, context) is None:
            return context
