"""Paraphrases: two texts that say, or ask, the same or not quite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from artifact.world.generator.concept import NAMES, RELATIONS
from artifact.world.generator.fact import Fact
from artifact.world.generator.grammar import text_of
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.sentence import Clause
from xlt.data.rows import PairRow

Facts = tuple[Fact, Fact]
SWAPPED = 3  # of ten pairs of texts that differ, those that differ in who does what and in no word


@dataclass(frozen=True, slots=True)
class Pair:
    """What two texts state or ask."""

    first: tuple[Clause, ...]
    second: tuple[Clause, ...]


def judge(pair: Pair) -> str:
    """Whether both texts state and ask the same, in whatever order and form."""
    one, other = ({(clause.fact, clause.asked) for clause in text} for text in (pair.first, pair.second))
    return "paraphrase" if one == other else "different"


def render_pair(name: str, pair: Pair, code: str, seed: int) -> PairRow:
    """The row of ``pair`` in one language."""
    return PairRow(name, text_of(pair.first, code, seed), text_of(pair.second, code, seed), judge(pair))


def sample_statements(sampler: FactSampler, size: int) -> list[Pair]:
    """Pairs of texts of two statements each.

    Two texts that differ make four pairs, two of them paraphrases: each text stands in as many pairs of either
    label, on either side.
    """
    pairs = []
    for number, fact in enumerate(sampler.sample(size // 4)):
        texts = _swapped(sampler, fact) if number * 3 % 10 < SWAPPED else _replaced(sampler, fact)
        for one in texts:
            for other in texts:
                turned = other[::-1] if one == other or sampler.random.random() < 0.5 else other
                pairs.append(Pair(tuple(map(Clause, one)), tuple(map(Clause, turned))))
    return pairs


def _replaced(sampler: FactSampler, fact: Fact) -> tuple[Facts, Facts]:
    """Two texts that differ in one value or entity, which is in no other statement."""
    while True:
        second = (
            sampler.other_entity(fact, same_value=False) if sampler.random.random() < 0.5 else sampler.other_fact(fact)
        )
        changed = sampler.other_value(fact) if sampler.random.random() < 0.5 else sampler.other_entity(fact)
        one_word = (changed.entity == fact.entity) != (changed.value == fact.value)
        if one_word and changed.entity != second.entity and second.value not in (fact.value, changed.value):
            if sampler.random.random() < 0.5:
                return (fact, second), (changed, second)
            return (second, fact), (second, changed)


def _swapped(sampler: FactSampler, fact: Fact) -> tuple[Facts, Facts]:
    """Two texts of the same words, in which two entities trade places; not every ``fact`` has such texts."""
    while True:
        partner, relation = sampler.other_entity(fact), sampler.random.choice(RELATIONS).key
        mine, theirs = (sampler.pools.values[sampler.pool, each.entity, relation] for each in (fact, partner))
        values = [value for value in mine if value in theirs and value != fact.value]
        if partner.value == fact.value and values:
            value = sampler.random.choice(values)
            return (fact, Fact(partner.entity, relation, value)), (partner, Fact(fact.entity, relation, value))
        fact = sampler.random.choice(sampler.facts)


def sample_questions(sampler: FactSampler, size: int) -> list[Pair]:
    """Pairs of English questions in different forms, four of every two questions that differ, as above."""
    questions = _questions(sampler)
    pairs = []
    for _ in range(size // 4):
        one = sampler.random.choice(questions)
        both = (one, _neighbour(sampler, one, questions))
        for first in both:
            for second in both:
                plain = sampler.random.random() < 0.5
                pairs.append(Pair((replace(first, rephrased=not plain),), (replace(second, rephrased=plain),)))
    return pairs


def _questions(sampler: FactSampler) -> list[Clause]:
    """What may be asked: every fourth question in dev only, the others in training only.

    The part of the fact that is asked for is empty.
    """
    questions: list[Clause] = []
    for relation in RELATIONS:
        questions += [Clause(Fact(name, relation.key, ""), "value") for name in NAMES]
        questions += [Clause(Fact("", relation.key, value), "entity") for value in relation.values]
    return [question for place, question in enumerate(questions) if (place % 4 == 3) == (sampler.pool == "dev")]


def _neighbour(sampler: FactSampler, question: Clause, questions: list[Clause]) -> Clause:
    """A question with another entity or value, another relation, or another part asked for."""
    kinds: dict[tuple[bool, ...], list[Clause]] = {}
    for other in questions:
        alike = tuple(_likeness(question, other))
        if sum(alike) == 2:
            kinds.setdefault(alike, []).append(other)
    return sampler.random.choice(kinds[sampler.random.choice(sorted(kinds))])


def _likeness(one: Clause, other: Clause) -> Iterator[bool]:
    yield one.asked == other.asked
    yield one.fact.relation == other.fact.relation
    yield one.asked != other.asked or (one.fact.entity, one.fact.value) == (other.fact.entity, other.fact.value)
