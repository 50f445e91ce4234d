"""Tagging: the words of one or two sentences with their part of speech, kind of name, or category."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from artifact.world.generator.concept import CITIES, NAMES, ORGANISATIONS
from artifact.world.generator.grammar import realise
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.sentence import Asked, Clause, Word
from xlt.data.rows import TagRow

Clauses = tuple[Clause, ...]
KIND_OF = {name: kind for names, kind in ((NAMES, "PER"), (CITIES, "LOC"), (ORGANISATIONS, "ORG")) for name in names}
ASKING = 0.4


def sample_sentences(sampler: FactSampler, size: int) -> list[Clauses]:
    """One or two statements or questions, about different entities."""
    texts = []
    for fact in sampler.sample(size):
        facts = (fact, sampler.other_fact(fact))[: sampler.random.randint(1, 2)]
        texts.append(tuple(Clause(each, _asked(sampler)) for each in facts))
    return texts


def sample_rephrased(sampler: FactSampler, size: int) -> list[Clauses]:
    """The same with every second question in its other form, which English has."""
    return [
        tuple(replace(clause, rephrased=bool(clause.asked) and sampler.random.random() < 0.5) for clause in text)
        for text in sample_sentences(sampler, size)
    ]


def sample_named(sampler: FactSampler, size: int) -> list[Clauses]:
    """The same with every second person called by two names."""
    return [tuple(_named(sampler, clause) for clause in text) for text in sample_sentences(sampler, size)]


def render_parts_of_speech(name: str, text: Clauses, code: str, seed: int) -> TagRow:
    """The row of the universal parts of speech of ``text``."""
    return _row(name, text, code, seed, lambda word: [(word.form, word.tag)])


def render_categories(name: str, text: Clauses, code: str, seed: int) -> TagRow:
    """The row of the categories of ``text``, which is English."""
    return _row(name, text, code, seed, lambda word: [(word.form, word.category)])


def render_names(name: str, text: Clauses, code: str, seed: int) -> TagRow:
    """The row of the names in ``text``: B- and I- with PER, LOC or ORG, else O."""
    return _row(name, text, code, seed, _name_tags)


def _asked(sampler: FactSampler) -> Asked:
    if sampler.random.random() >= ASKING:
        return ""
    return "entity" if sampler.random.random() < 0.5 else "value"


def _named(sampler: FactSampler, clause: Clause) -> Clause:
    if sampler.random.random() < 0.5:
        return clause
    first = clause.fact.entity
    return replace(clause, fact=replace(clause.fact, entity=f"{first} {sampler.other_name(first)}"))


def _name_tags(word: Word) -> Iterator[tuple[str, str]]:
    """The names that ``word`` consists of, or the word itself, with their tags."""
    for place, form in enumerate(word.form.split()):
        kind = KIND_OF.get(form)
        yield form, f"{'I' if place else 'B'}-{kind}" if kind else "O"


def _row(
    name: str, text: Clauses, code: str, seed: int, tags_of: Callable[[Word], Iterable[tuple[str, str]]]
) -> TagRow:
    tagged = [pair for clause in text for word in realise(clause, code, seed).words for pair in tags_of(word)]
    words, tags = zip(*tagged, strict=True)
    return TagRow(name, words, tags)
