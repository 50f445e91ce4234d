"""Multiple choice in English: endings of a story, answers about one, and answers that only have to be sensible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from xlt.data.rows import ChoiceRow
from xlt.data.world.concept import ANIMALS, CITIES, COLOURS, FOODS, NAMES, NUMERALS, ORGANISATIONS, RELATION, RELATIONS
from xlt.data.world.fact import Fact
from xlt.data.world.grammar import realise, text_of
from xlt.data.world.reading import answer_to
from xlt.data.world.sentence import Clause
from xlt.data.world.story import StoryTeller

SORTS = (NAMES, CITIES, ORGANISATIONS, FOODS, ANIMALS, COLOURS, NUMERALS)
ENDINGS, ANSWERS = 4, 5
OptionT = TypeVar("OptionT")


@dataclass(frozen=True, slots=True)
class Choice:
    """Facts that are told, a question about one of them, and the facts to choose from."""

    told: tuple[Fact, ...]
    clause: Clause
    options: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """A question without a context and the words to choose from, of which one is of the right sort."""

    clause: Clause
    options: tuple[str, ...]


def draw_endings(teller: StoryTeller, size: int) -> list[Choice]:
    """Stories whose last sentence lacks its ending: two options of one sort and two of another.

    Every story is asked for both sorts with the same options, so that these alone tell nothing. One or both of the
    values of a sort are told; where both are, only the entity tells which is right.
    """
    items: list[Choice] = []
    places = _places(teller, size, ENDINGS)
    for number, first in enumerate(teller.draw(size // 2)):
        another = teller.other_relation if teller.random.random() < 0.5 else teller.other_fact
        second = another(first)
        while RELATION[second.relation].values == RELATION[first.relation].values:
            second = another(first)
        told, asked, rival = [first, second], first, teller.other_value(first)
        if number % 2:
            rival = teller.other_entity(first, same_value=False)
            told.append(rival)
            asked = teller.random.choice((first, rival))
        teller.random.shuffle(told)
        options = [first, rival, second, teller.other_value(second)]
        for fact in (asked, second):
            items.append(Choice(tuple(told), Clause(fact, "value"), _placed(teller, options, fact, places.pop())))
    return items


def draw_answers(teller: StoryTeller, size: int) -> list[Choice]:
    """Questions about stories of three facts, two per story with the same options.

    After a value the options are two told facts and their contradictions, after an entity (one story in three) they
    stand for four names.
    """
    items: list[Choice] = []
    places = _places(teller, size, ENDINGS)
    for number, first in enumerate(teller.draw(size // 2)):
        by_name = number % 3 == 2
        same_entity = not by_name and teller.random.random() < 0.5
        second = teller.other_relation(first) if same_entity else teller.other_entity(first, same_value=False)
        third = teller.other_fact(first, second)
        while by_name and third.relation == first.relation:
            third = teller.other_fact(first, second)
        told = [first, second, third]
        teller.random.shuffle(told)
        wrong = (
            [third, teller.other_fact(*told)] if by_name else [teller.other_value(first), teller.other_value(second)]
        )
        for fact in (first, second):
            clause = Clause(fact, "entity" if by_name else "value")
            items.append(Choice(tuple(told), clause, _placed(teller, [first, second, *wrong], fact, places.pop())))
    return items


def draw_guesses(teller: StoryTeller, size: int) -> list[Guess]:
    """Questions with words of five sorts, each sort as likely to be the right one."""
    items: list[Guess] = []
    for place in _places(teller, size, ANSWERS):
        sorts = teller.random.sample(SORTS, ANSWERS)
        fact = _fact_with(teller, sorts[0])
        by_name = sorts[0] == NAMES
        options = [fact.entity if by_name else fact.value]
        for sort in sorts[1:]:
            other = fact
            while (other.entity if sort == NAMES else other.value) in (fact.entity, fact.value):
                other = _fact_with(teller, sort)
            options.append(other.entity if sort == NAMES else other.value)
        clause = Clause(fact, "entity" if by_name else "value")
        items.append(Guess(clause, _placed(teller, options, options[0], place)))
    return items


def tell_ending(name: str, item: Choice, code: str, seed: int) -> ChoiceRow:
    """The row of a story without its last words."""
    options = [realise(Clause(fact), code, seed) for fact in item.options]
    endings = tuple(sentence.text[sentence.find("value")[1] :] for sentence in options)
    last = realise(Clause(item.clause.fact), code, seed)
    prompt = f"{text_of([*map(Clause, item.told)], code, seed)} {last.text[: last.find('value')[1]].rstrip()}"
    return ChoiceRow(name, prompt, endings, item.options.index(answer_to(item.clause, item.told)))


def tell_answer(name: str, item: Choice, code: str, seed: int) -> ChoiceRow:
    """The row of a question about a story."""
    prompt = text_of([*map(Clause, item.told), item.clause], code, seed)
    by_name = item.clause.asked == "entity"
    choices = tuple(fact.entity if by_name else text_of([Clause(fact)], code, seed) for fact in item.options)
    return ChoiceRow(name, prompt, choices, item.options.index(answer_to(item.clause, item.told)))


def tell_guess(name: str, item: Guess, code: str, seed: int) -> ChoiceRow:
    """The row of a question whose answer only has to be of the right sort."""
    sort = RELATION[item.clause.fact.relation].values if item.clause.asked == "value" else NAMES
    fits = [word in sort for word in item.options]
    return ChoiceRow(name, text_of([item.clause], code, seed), item.options, fits.index(True))


def _fact_with(teller: StoryTeller, sort: tuple[str, ...]) -> Fact:
    """A fact with a value of ``sort``; any fact where these are names."""
    relations = [relation for relation in RELATIONS if sort in (NAMES, relation.values)]
    return teller.fact(teller.stranger(), teller.random.choice(relations).key)


def _places(teller: StoryTeller, size: int, options: int) -> list[int]:
    """Where the right option of each item stands, everywhere equally often."""
    places = [number % options for number in range(size)]
    teller.random.shuffle(places)
    return places


def _placed(teller: StoryTeller, options: Sequence[OptionT], right: OptionT, place: int) -> tuple[OptionT, ...]:
    """The options in random order but for ``right``, which stands at ``place``."""
    rest = [option for option in options if option != right]
    teller.random.shuffle(rest)
    return (*rest[:place], right, *rest[place:])
