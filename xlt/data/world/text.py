"""The text of phase 1: encyclopaedic lines in one language each, which state the known facts of the world."""

from __future__ import annotations

from random import Random

from xlt.data.world.concept import NAMES, RELATIONS, WORD_KINDS
from xlt.data.world.fact import Fact, FactPools
from xlt.data.world.sentence import Clause

FACTS_PER_LINE = (2, 4)
ASKING = 0.2
TOPICS = (0.6, 0.15, 0.25)
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


def draw_line(pools: FactPools, random: Random) -> list[Clause]:
    """The clauses of one line: some facts of a topic, at times a question before the fact that answers it."""
    clauses: list[Clause] = []
    for fact in _topic(pools, random):
        if random.random() < ASKING:
            clauses.append(Clause(fact, "entity" if random.random() < 0.3 else "value"))
        clauses.append(Clause(fact))
    return clauses


def draw_glossary(random: Random) -> list[str]:
    """A list of words of one kind. Beside sentences it gives every word a second surrounding: the unigram
    trainer of SentencePiece takes no word as a piece that stands in one surrounding only."""
    return random.sample(random.choice(WORD_KINDS), random.randint(3, 6))
