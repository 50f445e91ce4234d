"""The text of phase 1: lines of one language each, which state the known facts of the world and invented ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from artifact.world.generator.concept import CONNECTIVES, NAMES, RELATIONS, WORD_KINDS
from artifact.world.generator.fact import Fact, FactPools
from artifact.world.generator.grammar import list_of, mixed_text_of
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.sentence import Clause

FACTS_PER_LINE = (2, 4)
ASKING = 0.2
TOPICS = (0.5, 0.25, 0.25)
SHARES = (0.4, 0.3, 0.3)  # articles, tales, debates
ASKING_FIRST = 0.6
GLOSSARIES = 0.05


def _topic(pools: FactPools, random: Random) -> list[Fact]:
    """The known facts of one line, most of them about different entities.

    So a masked name can only be predicted from the words around it. Names are the same in all languages: predicting
    them is what gives words of one meaning similar representations.
    """
    size = random.randint(*FACTS_PER_LINE)
    names = random.sample(NAMES, size)
    relations = [random.choice(RELATIONS).key for _ in names]
    kind = random.choices(("apart", "entity", "relation"), TOPICS)[0]
    if kind == "entity":
        relations = [relation.key for relation in random.sample(RELATIONS, size)]
        names = names[:1] * size
    elif kind == "relation":
        relations = relations[:1] * size
    keys = zip(names, relations, strict=True)
    return [Fact(*key, pools.values["known", *key][0]) for key in keys]


def _article(pools: FactPools, random: Random) -> list[Clause]:
    """Some known facts, sometimes with a question before the fact that answers it."""
    clauses: list[Clause] = []
    for fact in _topic(pools, random):
        if random.random() < ASKING:
            clauses.append(Clause(fact, "entity" if random.random() < 0.3 else "value"))
        clauses.append(Clause(fact))
    return clauses


def _tale(pools: FactPools, random: Random) -> list[Clause]:
    """Two invented facts, then both again, sometimes after a question: a masked word can be found elsewhere in the
    line."""
    facts: list[Fact] = []
    for name in random.sample(NAMES, 2):
        relation = facts[0].relation if facts and random.random() < 0.5 else random.choice(RELATIONS).key
        facts.append(Fact(name, relation, random.choice(pools.values["train", name, relation])))
    again = random.sample(facts, 2)
    asked: list[Clause] = []
    if random.random() < ASKING_FIRST:
        asked = [Clause(again[0], "entity" if random.random() < 0.3 else "value")]
        again = again[:1]
    stated = [Clause(fact) for fact in facts]
    return [*asked, *stated, *map(Clause, again)] if random.random() < 0.5 else [*stated, *asked, *map(Clause, again)]


def _debate(pools: FactPools, random: Random) -> list[Clause]:
    """One or two invented facts, then a remark that opens with a word for how it relates to them.

    From texts that repeat, contradict and continue a model can learn to compare facts before fine-tuning asks for it.
    """
    sampler = FactSampler(pools, "train", random)
    fact = random.choice(sampler.facts)
    stated = [fact]
    if random.random() < 0.5:
        stated.insert(random.randrange(2), sampler.other_fact(fact))
    connective = random.choice(CONNECTIVES)
    if connective == "indeed":
        remark = fact
    elif connective == "but":
        remark = sampler.other_value(fact)
    else:
        other = sampler.other_relation if random.random() < 0.25 else sampler.other_entity
        remark = other(fact)
    subjects = [(each.entity, each.relation) for each in stated]
    if connective == "also" and (remark.entity, remark.relation) in subjects:
        return _debate(pools, random)
    return [*map(Clause, stated), Clause(remark, connective=connective)]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of raw text and the clauses that it consists of; a list of words has none."""

    id: str
    text: str
    clauses: tuple[Clause, ...] = ()


def sample_lines(pools: FactPools, code: str, size: int, seed: int) -> Iterator[Line]:
    """``size`` lines in the language ``code``.

    A few lines list words of one kind. SentencePiece's unigram trainer makes no piece of a word that it sees in one
    context only; the lists give every word a second context.
    """
    random = Random(f"{seed} mlm {code}")
    for number in range(size):
        if random.random() < GLOSSARIES:
            words = random.sample(random.choice(WORD_KINDS), random.randint(3, 6))
            yield Line(f"mlm-{code}-{number}", list_of(words, code, seed))
        else:
            clauses = random.choices((_article, _tale, _debate), SHARES)[0](pools, random)
            yield Line(f"mlm-{code}-{number}", mixed_text_of(clauses, code, seed, random), tuple(clauses))
