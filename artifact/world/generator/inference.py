"""Natural-language inference: whether a few facts entail another fact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from artifact.world.generator.fact import Fact
from artifact.world.generator.grammar import text_of
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.sentence import Clause
from xlt.data.rows import PairRow

DISTRACTORS = 0.25
# Per round: how many facts accompany the one that decides the label, and how many of them resemble the hypothesis.
ROUNDS = ((0, 0.0), (1, DISTRACTORS), (2, 0.6))


@dataclass(frozen=True, slots=True)
class Inference:
    """A premise and a hypothesis; ``round`` counts from 1 in ANLI+ and is 0 elsewhere."""

    premise: tuple[Fact, ...]
    hypothesis: Fact
    round: int = 0


def judge(premise: tuple[Fact, ...], hypothesis: Fact) -> str:
    """Whether ``hypothesis`` is stated, contradicted (one value per entity and relation), or left open."""
    if hypothesis in premise:
        return "entailment"
    stated = {(fact.entity, fact.relation) for fact in premise}
    return "contradiction" if (hypothesis.entity, hypothesis.relation) in stated else "neutral"


def sample_inferences(sampler: FactSampler, size: int) -> list[Inference]:
    """Inferences whose premises have one fact or two, equally often."""
    return [
        item
        for hypothesis in sampler.sample(size // 3)
        for item in _inferences(sampler, hypothesis, int(sampler.random.random() < 0.5), DISTRACTORS)
    ]


def sample_rounds(sampler: FactSampler, size: int) -> list[Inference]:
    """Inferences in three rounds of equal size; premises grow from round to round."""
    return [
        item
        for number, hypothesis in enumerate(sampler.sample(size // 3))
        for item in _inferences(sampler, hypothesis, *ROUNDS[number % 3], number % 3 + 1)
    ]


def render_inference(name: str, item: Inference, code: str, seed: int) -> PairRow:
    """The row of ``item`` in one language."""
    if item.round:
        head, _, number = name.rpartition("-")
        name = f"{head}-r{item.round}-{number}"
    premise = text_of([Clause(fact) for fact in item.premise], code, seed)
    hypothesis = text_of([Clause(item.hypothesis)], code, seed)
    return PairRow(name, premise, hypothesis, judge(item.premise, item.hypothesis))


def _inferences(
    sampler: FactSampler, hypothesis: Fact, companions: int, distractors: float, round_: int = 0
) -> Iterator[Inference]:
    """One inference per label for ``hypothesis``, so that the hypothesis alone does not reveal the label.

    The fact that decides is the hypothesis itself (entailment), or the hypothesis with another value (contradiction) or
    with another entity or relation (neutral). The facts beside it are sampled in the same way for all labels.
    """
    other = sampler.other_relation if sampler.random.random() < 0.15 else sampler.other_entity
    for core in (hypothesis, other(hypothesis), sampler.other_value(hypothesis)):
        facts = [core]
        for _ in range(companions):
            companion = _companion(sampler, hypothesis, facts, distractors)
            facts.insert(sampler.random.randrange(len(facts) + 1), companion)
        yield Inference(tuple(facts), hypothesis, round_)


def _companion(sampler: FactSampler, hypothesis: Fact, facts: list[Fact], distractors: float) -> Fact:
    """Another fact for a premise: a distractor, which shares the entity or the relation of the hypothesis, or a fact
    about an entity that is not in the premise yet."""
    stated = {(fact.entity, fact.relation) for fact in facts}
    while True:
        if sampler.random.random() < distractors:
            other = sampler.other_relation if sampler.random.random() < 0.5 else sampler.other_entity
            companion = other(hypothesis)
        else:
            companion = sampler.other_fact(hypothesis, *facts)
        if (companion.entity, companion.relation) not in stated:
            return companion
