"""Inference: labels that follow, neither text alone tells them, and rounds that get harder."""

from __future__ import annotations

from collections import Counter

import pytest

from artifact.world.generator.fact import Fact
from artifact.world.generator.inference import judge
from artifact.world.generator.world import World
from tests.artifact.world.guessing import guessed_labels, words_of
from xlt.data.rows import PairRow
from xlt.tasks.catalogue import NLI_LABELS, TASKS
from xlt.tasks.record import Split

CELLS: list[tuple[str, Split]] = [
    ("anli_plus", "train"),
    ("anli_plus", "dev"),
    ("mnli", "train"),
    ("mnli", "dev"),
    ("xnli", "dev"),
    ("xnli", "test"),
]


def pairs(world: World, key: str, split: Split) -> list[PairRow]:
    return [row for row in world.rows(TASKS[key], split, "en") if isinstance(row, PairRow)]


def test_judge() -> None:
    premise = (Fact("Mira", "eat", "bread"), Fact("Hugo", "sell", "salt"))
    assert judge(premise, premise[0]) == "entailment"
    assert judge(premise, Fact("Mira", "eat", "salt")) == "contradiction"
    assert judge(premise, Fact("Mira", "sell", "salt")) == "neutral"


@pytest.mark.parametrize(("key", "split"), CELLS)
def test_labels_follow_from_the_english_texts(world: World, key: str, split: Split) -> None:
    for row in pairs(world, key, split):
        subject_and_verb = tuple(words_of(row.text_b)[:2])
        stated = [sentence.strip() + "." for sentence in row.text_a.split(".") if sentence]
        begins = [tuple(words_of(sentence)[:2]) for sentence in stated]
        assert len(set(begins)) == len(begins)
        if row.text_b in stated:
            assert row.label == "entailment"
        else:
            assert row.label == ("contradiction" if subject_and_verb in begins else "neutral")


@pytest.mark.parametrize(("key", "split"), CELLS)
def test_the_hypothesis_alone_tells_nothing(world: World, key: str, split: Split) -> None:
    labels: dict[str, Counter[str]] = {}
    for row in pairs(world, key, split):
        labels.setdefault(row.text_b, Counter())[row.label] += 1
    for counts in labels.values():
        assert set(counts) == set(NLI_LABELS)
        assert len(set(counts.values())) == 1


@pytest.mark.parametrize("key", ["anli_plus", "mnli"])
def test_the_words_of_the_premise_alone_tell_nothing(world: World, key: str) -> None:
    assert guessed_labels([(row.text_a, row.label) for row in pairs(world, key, "train")]) < 1 / 3 + 0.03


@pytest.mark.parametrize("slot", ["entity", "relation", "value"])
def test_no_single_part_of_the_hypothesis_tells_the_label(world: World, slot: str) -> None:
    """The best rule that asks only whether that part stands in the premise stays far below certainty."""
    labels: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for item in world.items("mnli", "train"):
        shared = getattr(item.hypothesis, slot) in {getattr(fact, slot) for fact in item.premise}
        labels[shared][judge(item.premise, item.hypothesis)] += 1
    right = sum(max(counts.values(), default=0) for counts in labels.values())
    assert right / sum(counts.total() for counts in labels.values()) < 0.7


@pytest.mark.parametrize(("split", "size"), [("train", 3000), ("dev", 67)])
def test_three_rounds_of_premises_that_grow(world: World, split: Split, size: int) -> None:
    rounds: dict[str, list[int]] = {}
    for row in pairs(world, "anli_plus", split):
        rounds.setdefault(row.id.split("-")[2], []).append(row.text_a.count("."))
    assert {name: set(lengths) for name, lengths in rounds.items()} == {"r1": {1}, "r2": {2}, "r3": {3}}
    assert all(abs(len(lengths) - size) <= 3 for lengths in rounds.values())


def test_three_rounds_of_distractors_that_grow(world: World) -> None:
    """How often a contradicted value is stated nevertheless, of another entity or relation."""
    distracted = Counter(
        item.round
        for item in world.items("anli_plus", "train")
        if judge(item.premise, item.hypothesis) == "contradiction"
        and item.hypothesis.value in {fact.value for fact in item.premise}
    )
    assert 0 == distracted[1] < distracted[2] < distracted[3] / 2
