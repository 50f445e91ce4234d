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


@pytest.mark.parametrize("slot", ["entity", "relation", "value"])
def test_no_single_part_of_the_hypothesis_tells_the_label(world: WorldSource, slot: str) -> None:
    """The best rule that asks only whether that part stands in the premise stays far below certainty."""
    labels: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for item in world.inferences("test"):
        shared = getattr(item.hypothesis, slot) in {getattr(fact, slot) for fact in item.premise}
        labels[shared][item.label] += 1
    right = sum(max(counts.values(), default=0) for counts in labels.values())
    assert right / sum(counts.total() for counts in labels.values()) < 0.7


@pytest.mark.parametrize("split", SPLITS)
def test_answers_stand_at_every_place_equally_often(world: WorldSource, split: Split) -> None:
    places = Counter(item.context.index(item.fact) for item in world.questions(split))
    assert set(places) == set(range(CONTEXT_SIZE))
    assert max(places.values()) - min(places.values()) <= 1


def test_entity_and_relation_are_both_needed(world: WorldSource) -> None:
    relation_needs_help = 0
    for item in world.questions("test"):
        others = [fact for fact in item.context if fact != item.fact]
        assert any(fact.entity == item.fact.entity for fact in others)
        same = [fact for fact in others if fact.relation == item.fact.relation]
        assert same or item.asked == "value"
        assert all(fact.value != item.fact.value for fact in same if item.asked == "entity")
        relation_needs_help += bool(same)
    assert relation_needs_help > 0.5 * len(world.questions("test"))
