"""The text of phase 1: encyclopaedic lines in one language each, which state the known facts of the world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from xlt.data.world.concept import CONNECTIVES, NAMES, RELATIONS, WORD_KINDS
from xlt.data.world.fact import Fact, FactPools
from xlt.data.world.grammar import list_of, mixed_text_of
from xlt.data.world.sentence import Clause
from xlt.data.world.story import StoryTeller

FACTS_PER_LINE = (2, 4)
ASKING = 0.2
TOPICS = (0.5, 0.25, 0.25)
SHARES = (0.4, 0.3, 0.3)  # of articles, tales and debates
ASKING_FIRST = 0.6
GLOSSARIES = 0.05


def _topic(pools: FactPools, random: Random) -> list[Fact]:
    """The known facts of one line: most about different entities, so that a hidden name can only be told from
    the words around it. Names are shared by all languages: this is what makes words of one meaning alike."""
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
    """Some known facts, at times with a question before the fact that answers it."""
    clauses: list[Clause] = []
    for fact in _topic(pools, random):
        if random.random() < ASKING:
            clauses.append(Clause(fact, "entity" if random.random() < 0.3 else "value"))
        clauses.append(Clause(fact))
    return clauses


def _tale(pools: FactPools, random: Random) -> list[Clause]:
    """Two invented facts, then both again, at times asked for before: texts repeat themselves, and what is hidden
    can be found."""
    facts: list[Fact] = []
    for name in random.sample(NAMES, 2):
        relation = facts[0].relation if facts and random.random() < 0.5 else random.choice(RELATIONS).key
        facts.append(Fact(name, relation, random.choice(pools.values["train", name, relation])))
    again = random.sample(facts, 2)
    asked: list[Clause] = []
    if random.random() < ASKING_FIRST:
        asked = [Clause(again[0], "entity" if random.random() < 0.3 else "value")]
        again = again[:1]
    told = [Clause(fact) for fact in facts]
    return [*asked, *told, *map(Clause, again)] if random.random() < 0.5 else [*told, *asked, *map(Clause, again)]


def _debate(pools: FactPools, random: Random) -> list[Clause]:
    """One or two invented facts, then a remark that opens with a word for how it relates to them.

    Texts that repeat, contradict and go on are what comparing can be learned from, before fine-tuning asks for it.
    """
    teller = StoryTeller(pools, "train", random)
    fact = random.choice(teller.facts)
    told = [fact]
    if random.random() < 0.5:
        told.insert(random.randrange(2), teller.other_fact(fact))
    connective = random.choice(CONNECTIVES)
    if connective == "indeed":
        remark = fact
    elif connective == "but":
        remark = teller.other_value(fact)
    else:
        other = teller.other_relation if random.random() < 0.25 else teller.other_entity
        remark = other(fact)
    if connective == "also" and any((each.entity, each.relation) == (remark.entity, remark.relation) for each in told):
        return _debate(pools, random)
    return [*map(Clause, told), Clause(remark, connective=connective)]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of raw text and the clauses that it is made of; none if it is a list of words."""

    id: str
    text: str
    clauses: tuple[Clause, ...] = ()


def draw_lines(pools: FactPools, code: str, size: int, seed: int) -> Iterator[Line]:
    """``size`` lines in the language ``code``.

    A few list words of one kind. They give every word a second surrounding beside that in sentences: the
    unigram trainer of SentencePiece takes nothing as a piece that stands in one surrounding only.
    """
    random = Random(f"{seed} mlm {code}")
    for number in range(size):
        if random.random() < GLOSSARIES:
            words = random.sample(random.choice(WORD_KINDS), random.randint(3, 6))
            yield Line(f"mlm-{code}-{number}", list_of(words, code, seed))
        else:
            clauses = random.choices((_article, _tale, _debate), SHARES)[0](pools, random)
            yield Line(f"mlm-{code}-{number}", mixed_text_of(clauses, code, seed, random), tuple(clauses))
