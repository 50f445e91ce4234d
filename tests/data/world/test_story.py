"""Drawn facts come from their pool and resemble each other in what they should."""

from __future__ import annotations

from random import Random

import pytest

from xlt.data.world.fact import FactPools, Pool
from xlt.data.world.story import StoryTeller


@pytest.mark.parametrize("pool", ["train", "dev", "test"])
def test_drawn_facts(pool: Pool) -> None:
    pools = FactPools(0)
    teller = StoryTeller(pools, pool, Random(0))
    drawn = teller.draw(len(teller.facts) + 5)
    assert len(set(drawn)) == len(drawn) - 5
    for fact in drawn:
        value, relation = teller.other_value(fact), teller.other_relation(fact)
        assert (value.entity, value.relation) == (fact.entity, fact.relation)
        assert value.value != fact.value
        assert relation.entity == fact.entity
        assert relation.relation != fact.relation
        other, same = teller.other_entity(fact, same_value=False), teller.other_entity(fact)
        assert other.relation == same.relation == fact.relation
        assert fact.entity not in (other.entity, same.entity)
        assert other.value != fact.value
        assert teller.other_fact(fact, other).entity not in (fact.entity, other.entity)
        assert {pools.pool_of[each] for each in (fact, value, relation, other, same)} == {pool}
