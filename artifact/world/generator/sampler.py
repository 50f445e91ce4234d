"""Sampling facts of one pool that resemble each other; the items of every task are made of them."""

from __future__ import annotations

from random import Random

from artifact.world.generator.concept import NAMES, RELATION, RELATIONS
from artifact.world.generator.fact import Fact, FactPools, Pool


class FactSampler:
    """Samples facts that all come from one pool."""

    def __init__(self, pools: FactPools, pool: Pool, random: Random) -> None:
        self.pools, self.pool, self.random = pools, pool, random
        self.facts = pools.facts(pool)

    def sample(self, size: int) -> list[Fact]:
        """Facts of the pool in random order, each once before any comes twice."""
        sampled: list[Fact] = []
        while len(sampled) < size:
            sampled += self.random.sample(self.facts, min(len(self.facts), size - len(sampled)))
        return sampled

    def fact(self, entity: str, relation: str, *, but: str = "") -> Fact:
        """A fact of this entity and relation, with another value than ``but``."""
        values = [value for value in self.pools.values[self.pool, entity, relation] if value != but]
        return Fact(entity, relation, self.random.choice(values))

    def other_value(self, fact: Fact) -> Fact:
        """A fact that contradicts ``fact``."""
        return self.fact(fact.entity, fact.relation, but=fact.value)

    def other_relation(self, fact: Fact) -> Fact:
        """A fact about the same entity, in half of the cases with a relation that takes the same values."""
        mine = RELATION[fact.relation]
        others = [relation for relation in RELATIONS if relation != mine]
        same_type = [relation for relation in others if relation.values == mine.values]
        relation = self.random.choice(same_type if same_type and self.random.random() < 0.5 else others)
        return self.fact(fact.entity, relation.key, but=fact.value)

    def other_entity(self, fact: Fact, *, same_value: bool = True) -> Fact:
        """A fact of the same relation about another entity, with the same value or with another one."""
        if same_value:
            holders = self.pools.holders(self.pool, fact.relation, fact.value)
            if others := [name for name in holders if name != fact.entity]:
                return Fact(self.random.choice(others), fact.relation, fact.value)
        return self.fact(self.other_name(fact.entity), fact.relation, but=fact.value)

    def other_name(self, *names: str) -> str:
        """A name that is not among ``names``."""
        return self.random.choice([name for name in NAMES if name not in names])

    def other_fact(self, *facts: Fact) -> Fact:
        """A fact about an entity that none of ``facts`` is about."""
        return self.fact(self.other_name(*(fact.entity for fact in facts)), self.random.choice(RELATIONS).key)
