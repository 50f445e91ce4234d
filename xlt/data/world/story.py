"""Stories: a few facts of one pool, and what is asked about them. The same in every language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from xlt.data.world.concept import NAMES, RELATION, RELATIONS
from xlt.data.world.fact import Fact, FactPools, Pool
from xlt.data.world.sentence import Asked

LABELS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True, slots=True)
class Inference:
    """A premise, a hypothesis, and the label that follows from ``judge``."""

    premise: tuple[Fact, ...]
    hypothesis: Fact
    label: str


@dataclass(frozen=True, slots=True)
class Question:
    """A context, the fact of it that is asked for, and which part of the fact is missing."""

    context: tuple[Fact, ...]
    fact: Fact
    asked: Asked


def judge(premise: tuple[Fact, ...], hypothesis: Fact) -> str:
    """Whether ``hypothesis`` is stated, contradicted (one value per entity and relation), or left open."""
    if hypothesis in premise:
        return "entailment"
    stated = {(fact.entity, fact.relation) for fact in premise}
    return "contradiction" if (hypothesis.entity, hypothesis.relation) in stated else "neutral"


class StoryTeller:
    """Draws stories whose facts all come from one pool."""

    def __init__(self, pools: FactPools, pool: Pool, random: Random) -> None:
        self.pools, self.pool, self.random = pools, pool, random

    def _value(self, entity: str, relation: str, *, but: str = "") -> str:
        values = [value for value in self.pools.values[self.pool, entity, relation] if value != but]
        return self.random.choice(values)

    def _other_relation(self, fact: Fact) -> Fact:
        """A fact about the same entity, every second time with a relation that takes the same values."""
        mine = RELATION[fact.relation]
        others = [relation for relation in RELATIONS if relation != mine]
        sisters = [relation for relation in others if relation.values == mine.values]
        relation = self.random.choice(sisters if sisters and self.random.random() < 0.5 else others)
        return Fact(fact.entity, relation.key, self._value(fact.entity, relation.key, but=fact.value))

    def _other_entity(self, fact: Fact, *, same_value: bool = True) -> Fact:
        """A fact of the same relation about another entity, with the same value or with another one."""
        if same_value:
            holders = self.pools.holders(self.pool, fact.relation, fact.value)
            if others := [name for name in holders if name != fact.entity]:
                return Fact(self.random.choice(others), fact.relation, fact.value)
        entity = self.random.choice([name for name in NAMES if name != fact.entity])
        return Fact(entity, fact.relation, self._value(entity, fact.relation, but=fact.value))

    def inferences(self, hypothesis: Fact) -> Iterator[Inference]:
        """One inference per label for ``hypothesis``, so that the hypothesis alone tells nothing.

        The premise is the hypothesis, or it with another value (contradiction), entity or relation (neutral). Every
        second premise has a companion, of the same making whatever the label.
        """
        other = self._other_relation if self.random.random() < 0.15 else self._other_entity
        value = self._value(hypothesis.entity, hypothesis.relation, but=hypothesis.value)
        core = {
            "entailment": hypothesis,
            "neutral": other(hypothesis),
            "contradiction": Fact(hypothesis.entity, hypothesis.relation, value),
        }
        accompanied = self.random.random() < 0.5
        for label in LABELS:
            facts = [core[label]]
            if accompanied:
                facts.insert(self.random.randrange(2), self._companion(hypothesis, core[label]))
            yield Inference(tuple(facts), hypothesis, label)

    def _companion(self, hypothesis: Fact, core: Fact) -> Fact:
        """A second fact of a premise: one in four likens the hypothesis in entity or relation and value."""
        if self.random.random() < 0.25:
            other = self._other_relation if self.random.random() < 0.5 else self._other_entity
            companion = other(hypothesis)
        else:
            name = self.random.choice([name for name in NAMES if name not in (hypothesis.entity, core.entity)])
            relation = self.random.choice(RELATIONS).key
            companion = Fact(name, relation, self._value(name, relation))
        clash = (companion.entity, companion.relation) == (core.entity, core.relation)
        return self._companion(hypothesis, core) if clash else companion

    def question(self, fact: Fact, asked: Asked, position: int, size: int) -> Question:
        """A context of ``size`` facts with ``fact`` at ``position``.

        One of the others shares its entity, so that the entity alone does not lead to the answer; another one is
        about another entity, with the same relation in half of the contexts and wherever the entity is asked for.
        """
        rest = [self._other_entity(fact, same_value=False), self._other_relation(fact)]
        if asked == "value" and self.random.random() < 0.5:
            rest[0] = self._other_relation(rest[0])
        taken = {(other.entity, other.relation) for other in (*rest, fact)}
        while len(rest) < size - 1:
            base = self.random.choice((fact, rest[0]))
            other = self._other_relation(base)
            if (other.entity, other.relation) not in taken:
                rest.append(other)
                taken.add((other.entity, other.relation))
        self.random.shuffle(rest)
        rest.insert(position, fact)
        return Question(tuple(rest), fact, asked)
