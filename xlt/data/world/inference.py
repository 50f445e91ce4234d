"""Natural-language inference: what a few facts say about another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xlt.data.rows import PairRow
from xlt.data.world.fact import Fact
from xlt.data.world.grammar import text_of
from xlt.data.world.sentence import Clause
from xlt.data.world.story import StoryTeller

LURES = 0.25
# Companions of the fact that decides, and the share of them that resemble the hypothesis.
ROUNDS = ((0, 0.0), (1, LURES), (2, 0.6))


@dataclass(frozen=True, slots=True)
class Inference:
    """A premise and a hypothesis; ``round`` counts from 1 where a task comes in rounds."""

    premise: tuple[Fact, ...]
    hypothesis: Fact
    round: int = 0


def judge(premise: tuple[Fact, ...], hypothesis: Fact) -> str:
    """Whether ``hypothesis`` is stated, contradicted (one value per entity and relation), or left open."""
    if hypothesis in premise:
        return "entailment"
    stated = {(fact.entity, fact.relation) for fact in premise}
    return "contradiction" if (hypothesis.entity, hypothesis.relation) in stated else "neutral"


def draw_inferences(teller: StoryTeller, size: int) -> list[Inference]:
    """Inferences of which every second one has two facts as its premise, the others one."""
    return [
        item
        for hypothesis in teller.draw(size // 3)
        for item in _inferences(teller, hypothesis, int(teller.random.random() < 0.5), LURES)
    ]


def draw_rounds(teller: StoryTeller, size: int) -> list[Inference]:
    """Inferences in three rounds of equal size, each with longer premises than the one before."""
    return [
        item
        for number, hypothesis in enumerate(teller.draw(size // 3))
        for item in _inferences(teller, hypothesis, *ROUNDS[number % 3], number % 3 + 1)
    ]


def tell_inference(name: str, item: Inference, code: str, seed: int) -> PairRow:
    """The row of ``item`` in one language."""
    if item.round:
        head, _, number = name.rpartition("-")
        name = f"{head}-r{item.round}-{number}"
    premise = text_of([Clause(fact) for fact in item.premise], code, seed)
    hypothesis = text_of([Clause(item.hypothesis)], code, seed)
    return PairRow(name, premise, hypothesis, judge(item.premise, item.hypothesis))


def _inferences(
    teller: StoryTeller, hypothesis: Fact, companions: int, lures: float, round_: int = 0
) -> Iterator[Inference]:
    """One inference per label for ``hypothesis``, so that the hypothesis alone tells nothing.

    The premise is the hypothesis, or it with another value (contradiction), entity or relation (neutral). Its
    companions are of the same making whatever the label.
    """
    other = teller.other_relation if teller.random.random() < 0.15 else teller.other_entity
    for core in (hypothesis, other(hypothesis), teller.other_value(hypothesis)):
        facts = [core]
        for _ in range(companions):
            companion = _companion(teller, hypothesis, facts, lures)
            facts.insert(teller.random.randrange(len(facts) + 1), companion)
        yield Inference(tuple(facts), hypothesis, round_)


def _companion(teller: StoryTeller, hypothesis: Fact, facts: list[Fact], lures: float) -> Fact:
    """Another fact of a premise: it likens the hypothesis in entity or relation, or is about nobody named so far."""
    told = {(fact.entity, fact.relation) for fact in facts}
    while True:
        if teller.random.random() < lures:
            other = teller.other_relation if teller.random.random() < 0.5 else teller.other_entity
            companion = other(hypothesis)
        else:
            companion = teller.other_fact(hypothesis, *facts)
        if (companion.entity, companion.relation) not in told:
            return companion
