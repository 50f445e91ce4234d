"""Multiple choice in English: endings of a story, answers to questions about a story, and answers of the right type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from artifact.world.generator.concept import (
    ANIMALS,
    CITIES,
    COLOURS,
    FOODS,
    NAMES,
    NUMERALS,
    ORGANISATIONS,
    RELATION,
    RELATIONS,
)
from artifact.world.generator.fact import Fact
from artifact.world.generator.grammar import realise, text_of
from artifact.world.generator.reading import answer_to
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.sentence import Clause
from xlt.data.rows import ChoiceRow

SORTS = (NAMES, CITIES, ORGANISATIONS, FOODS, ANIMALS, COLOURS, NUMERALS)
ENDINGS, ANSWERS = 4, 5
OptionT = TypeVar("OptionT")


@dataclass(frozen=True, slots=True)
class Choice:
    """The facts that a story states, a question about one of them, and the facts to choose from."""

    stated: tuple[Fact, ...]
    clause: Clause
    options: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """A question without a context and the words to choose from; one of them is of the right sort."""

    clause: Clause
    options: tuple[str, ...]


def sample_endings(sampler: FactSampler, size: int) -> list[Choice]:
    """Stories whose last sentence lacks its ending, with two options of one sort and two of another.

    Each story gives two items with the same options, one per sort, so that the options alone do not reveal the answer.
    The story states one or both values of a sort; where it states both, only the entity decides which is right.
    """
    items: list[Choice] = []
    places = _places(sampler, size, ENDINGS)
    for number, first in enumerate(sampler.sample(size // 2)):
        another = sampler.other_relation if sampler.random.random() < 0.5 else sampler.other_fact
        second = another(first)
        while RELATION[second.relation].values == RELATION[first.relation].values:
            second = another(first)
        stated, asked, rival = [first, second], first, sampler.other_value(first)
        if number % 2:
            rival = sampler.other_entity(first, same_value=False)
            stated.append(rival)
            asked = sampler.random.choice((first, rival))
        sampler.random.shuffle(stated)
        options = [first, rival, second, sampler.other_value(second)]
        for fact in (asked, second):
            items.append(Choice(tuple(stated), Clause(fact, "value"), _placed(sampler, options, fact, places.pop())))
    return items


def sample_answers(sampler: FactSampler, size: int) -> list[Choice]:
    """Questions about stories of three facts, two per story with the same options.

    A question about a value has two stated facts and their contradictions as options; a question about an entity (one
    story in three) has four names.
    """
    items: list[Choice] = []
    places = _places(sampler, size, ENDINGS)
    for number, first in enumerate(sampler.sample(size // 2)):
        by_name = number % 3 == 2
        same_entity = not by_name and sampler.random.random() < 0.5
        second = sampler.other_relation(first) if same_entity else sampler.other_entity(first, same_value=False)
        third = sampler.other_fact(first, second)
        while by_name and third.relation == first.relation:
            third = sampler.other_fact(first, second)
        stated = [first, second, third]
        sampler.random.shuffle(stated)
        if by_name:
            wrong = [third, sampler.other_fact(*stated)]
        else:
            wrong = [sampler.other_value(first), sampler.other_value(second)]
        for fact in (first, second):
            clause = Clause(fact, "entity" if by_name else "value")
            items.append(Choice(tuple(stated), clause, _placed(sampler, [first, second, *wrong], fact, places.pop())))
    return items


def sample_guesses(sampler: FactSampler, size: int) -> list[Guess]:
    """Questions with words of five sorts as options; each sort is equally often the right one."""
    items: list[Guess] = []
    for place in _places(sampler, size, ANSWERS):
        sorts = sampler.random.sample(SORTS, ANSWERS)
        fact = _fact_with(sampler, sorts[0])
        by_name = sorts[0] == NAMES
        options = [fact.entity if by_name else fact.value]
        for sort in sorts[1:]:
            other = fact
            while (other.entity if sort == NAMES else other.value) in (fact.entity, fact.value):
                other = _fact_with(sampler, sort)
            options.append(other.entity if sort == NAMES else other.value)
        clause = Clause(fact, "entity" if by_name else "value")
        items.append(Guess(clause, _placed(sampler, options, options[0], place)))
    return items


def render_ending(name: str, item: Choice, code: str, seed: int) -> ChoiceRow:
    """The row of a story whose last sentence lacks its ending."""
    options = [realise(Clause(fact), code, seed) for fact in item.options]
    endings = tuple(sentence.text[sentence.find("value")[1] :] for sentence in options)
    last = realise(Clause(item.clause.fact), code, seed)
    prompt = f"{text_of([*map(Clause, item.stated)], code, seed)} {last.text[: last.find('value')[1]].rstrip()}"
    return ChoiceRow(name, prompt, endings, item.options.index(answer_to(item.clause, item.stated)))


def render_answer(name: str, item: Choice, code: str, seed: int) -> ChoiceRow:
    """The row of a question about a story."""
    prompt = text_of([*map(Clause, item.stated), item.clause], code, seed)
    by_name = item.clause.asked == "entity"
    choices = tuple(fact.entity if by_name else text_of([Clause(fact)], code, seed) for fact in item.options)
    return ChoiceRow(name, prompt, choices, item.options.index(answer_to(item.clause, item.stated)))


def render_guess(name: str, item: Guess, code: str, seed: int) -> ChoiceRow:
    """The row of a question without a context."""
    sort = RELATION[item.clause.fact.relation].values if item.clause.asked == "value" else NAMES
    fits = [word in sort for word in item.options]
    return ChoiceRow(name, text_of([item.clause], code, seed), item.options, fits.index(True))


def _fact_with(sampler: FactSampler, sort: tuple[str, ...]) -> Fact:
    """A fact whose value is of ``sort``; any fact where ``sort`` is names."""
    relations = [relation for relation in RELATIONS if sort in (NAMES, relation.values)]
    return sampler.fact(sampler.other_name(), sampler.random.choice(relations).key)


def _places(sampler: FactSampler, size: int, options: int) -> list[int]:
    """The position of the right option of each item; every position comes equally often."""
    places = [number % options for number in range(size)]
    sampler.random.shuffle(places)
    return places


def _placed(sampler: FactSampler, options: Sequence[OptionT], right: OptionT, place: int) -> tuple[OptionT, ...]:
    """The options in random order, except that ``right`` is at ``place``."""
    rest = [option for option in options if option != right]
    sampler.random.shuffle(rest)
    return (*rest[:place], right, *rest[place:])
