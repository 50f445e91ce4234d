"""Sampled facts come from their pool and resemble each other in what they should."""

from __future__ import annotations

from random import Random

import pytest

from artifact.world.generator.fact import FactPools, Pool
from artifact.world.generator.sampler import FactSampler


@pytest.mark.parametrize("pool", ["train", "dev", "test"])
def test_sampled_facts(pool: Pool) -> None:
    pools = FactPools(0)
    sampler = FactSampler(pools, pool, Random(0))
    sampled = sampler.sample(len(sampler.facts) + 5)
    assert len(set(sampled)) == len(sampled) - 5
    for fact in sampled:
        value, relation = sampler.other_value(fact), sampler.other_relation(fact)
        assert (value.entity, value.relation) == (fact.entity, fact.relation)
        assert value.value != fact.value
        assert relation.entity == fact.entity
        assert relation.relation != fact.relation
        other, same = sampler.other_entity(fact, same_value=False), sampler.other_entity(fact)
        assert other.relation == same.relation == fact.relation
        assert fact.entity not in (other.entity, same.entity)
        assert other.value != fact.value
        assert sampler.other_fact(fact, other).entity not in (fact.entity, other.entity)
        assert {pools.pool_of[each] for each in (fact, value, relation, other, same)} == {pool}
