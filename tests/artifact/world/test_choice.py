"""Multiple choice: exactly one right option, at every position equally often, and not revealed by them alone."""

from __future__ import annotations

from collections import Counter

import pytest

from artifact.world.generator import concept
from artifact.world.generator.world import SIZES, World
from tests.artifact.world.guessing import guessed_choices
from tests.artifact.world.test_reading import stated
from xlt.data.rows import ChoiceRow
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split

OPTIONS = {"hellaswag": 4, "cosmosqa": 4, "commonsenseqa": 5}
CELLS = [(key, split) for key in OPTIONS for split in SIZES[key]]
SORTS = {
    "what does NAME eat": concept.FOODS,
    "what does NAME sell": concept.FOODS,
    "what does NAME keep": concept.ANIMALS,
    "what does NAME serve": concept.ORGANISATIONS,
    "where does NAME live": concept.CITIES,
    "which hat does NAME wear": concept.COLOURS,
    "how many boats does NAME own": concept.NUMERALS,
}


def rows_of(world: World, key: str, split: Split) -> list[ChoiceRow]:
    return [row for row in world.rows(TASKS[key], split, "en") if isinstance(row, ChoiceRow)]


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_right_ending_repeats_what_was_stated(world: World, split: Split) -> None:
    for row in rows_of(world, "hellaswag", split):
        *facts, begun = row.prompt.split(". ")
        assert [f"{begun} {choice}".rstrip(".") in facts for choice in row.choices].index(True) == row.label
        assert sum(f"{begun} {choice}".rstrip(".") in facts for choice in row.choices) == 1
        assert sum(any(fact.endswith(choice.rstrip(".")) for fact in facts) for choice in row.choices) >= 2


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_right_answer_is_stated_and_answers(world: World, split: Split) -> None:
    kinds: Counter[bool] = Counter()
    for row in rows_of(world, "cosmosqa", split):
        *sentences, question = row.prompt.split(". ")
        facts = {sentence + "." for sentence in sentences}
        by_name = question.startswith("who")
        words = [
            choice if by_name else choice.rstrip(".").removesuffix(" hat").removesuffix(" boats").split()[-1]
            for choice in row.choices
        ]
        right = [
            statement in facts and (by_name or statement == choice)
            for choice, statement in (
                (choice, stated(question, word)) for choice, word in zip(row.choices, words, strict=True)
            )
        ]
        assert [place for place, is_right in enumerate(right) if is_right] == [row.label]
        kinds[by_name] += 1
    assert 0.3 < kinds[True] / kinds.total() < 0.36


@pytest.mark.parametrize("split", ["train", "dev"])
def test_one_word_is_of_the_right_sort(world: World, split: Split) -> None:
    for row in rows_of(world, "commonsenseqa", split):
        words = row.prompt.rstrip("?").split()
        pattern = " ".join("NAME" if word in concept.NAMES else word for word in words)
        sort = concept.NAMES if words[0] == "who" else SORTS[pattern]
        assert [place for place, choice in enumerate(row.choices) if choice in sort] == [row.label]


@pytest.mark.parametrize(("key", "split"), CELLS)
def test_places_are_uniform_and_choices_differ(world: World, key: str, split: Split) -> None:
    rows = rows_of(world, key, split)
    assert all(len(set(row.choices)) == OPTIONS[key] for row in rows)
    assert Counter(row.label for row in rows) == dict.fromkeys(range(OPTIONS[key]), len(rows) // OPTIONS[key])


@pytest.mark.parametrize("key", OPTIONS)
def test_the_choices_alone_tell_nothing(world: World, key: str) -> None:
    assert guessed_choices(rows_of(world, key, "train")) < 1 / OPTIONS[key] + 0.03


@pytest.mark.parametrize("key", ["hellaswag", "cosmosqa"])
def test_the_same_choices_have_another_right_one(world: World, key: str) -> None:
    right: dict[frozenset[str], Counter[str]] = {}
    for row in rows_of(world, key, "dev"):
        right.setdefault(frozenset(row.choices), Counter())[row.choices[row.label]] += 1
    assert all(max(counts.values()) <= counts.total() / 2 for counts in right.values())
