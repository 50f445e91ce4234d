"""Stories: consistent, balanced, and with distractors that make entity and relation both needed."""

from __future__ import annotations

from collections import Counter

import pytest

from xlt.data.world.fact import Fact
from xlt.data.world.source import CONTEXT_SIZE, WorldSource
from xlt.data.world.story import judge
from xlt.tasks.record import Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@pytest.fixture(scope="module")
def world() -> WorldSource:
    return WorldSource(seed=0)


def consistent(facts: tuple[Fact, ...]) -> bool:
    """Whether no entity has two values in one relation."""
    return len({(fact.entity, fact.relation) for fact in facts}) == len(facts)


def test_judge() -> None:
    premise = (Fact("Mira", "eat", "bread"), Fact("Hugo", "sell", "salt"))
    assert judge(premise, premise[0]) == "entailment"
    assert judge(premise, Fact("Mira", "eat", "salt")) == "contradiction"
    assert judge(premise, Fact("Mira", "sell", "salt")) == "neutral"


@pytest.mark.parametrize("split", SPLITS)
def test_stories_contradict_themselves_nowhere(world: WorldSource, split: Split) -> None:
    assert all(consistent(item.premise) for item in world.inferences(split))
    assert all(consistent(item.context) for item in world.questions(split))


@pytest.mark.parametrize("split", SPLITS)
def test_stories_state_facts_of_their_pool_only(world: WorldSource, split: Split) -> None:
    facts = {fact for item in world.inferences(split) for fact in (*item.premise, item.hypothesis)}
    facts |= {fact for item in world.questions(split) for fact in item.context}
    assert {world.pools.pool_of[fact] for fact in facts} == {split}


def test_every_premise_names_entity_and_relation_of_the_hypothesis(world: WorldSource) -> None:
    for item in world.inferences("test"):
        assert item.hypothesis.entity in {fact.entity for fact in item.premise}
        assert item.hypothesis.relation in {fact.relation for fact in item.premise}


def test_a_shared_value_does_not_tell_the_label(world: WorldSource) -> None:
    shared = Counter(
        item.label
        for item in world.inferences("test")
        if item.hypothesis.value in {fact.value for fact in item.premise}
    )
    assert shared["neutral"] > 0.8 * shared["entailment"]
    assert shared["contradiction"] > 0.25 * shared["entailment"]


@pytest.mark.parametrize("split", SPLITS)
def test_answers_stand_at_every_place_equally_often(world: WorldSource, split: Split) -> None:
    places = Counter(item.context.index(item.fact) for item in world.questions(split))
    assert set(places) == set(range(CONTEXT_SIZE))
    assert max(places.values()) - min(places.values()) <= 1


def test_entity_and_relation_are_both_needed(world: WorldSource) -> None:
    for item in world.questions("test"):
        others = [fact for fact in item.context if fact != item.fact]
        assert any(fact.entity == item.fact.entity for fact in others)
        assert any(fact.relation == item.fact.relation for fact in others)
        same = [fact for fact in others if fact.relation == item.fact.relation]
        assert all(fact.value != item.fact.value for fact in same if item.asked == "entity")
