"""Paraphrases: texts that say the same in any order and form, and texts that differ, at times in no word."""

from __future__ import annotations

from collections import Counter

import pytest

from artifact.world.generator.language import CODES
from artifact.world.generator.world import World, languages
from tests.artifact.world.guessing import guessed_labels, words_of
from xlt.data.rows import PairRow
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split

PAWSX: tuple[Split, ...] = ("train", "dev", "test")


def pairs(world: World, key: str, split: Split, code: str = "en") -> list[PairRow]:
    return [row for row in world.rows(TASKS[key], split, code) if isinstance(row, PairRow)]


def sentences(text: str) -> list[str]:
    return sorted(sentence.strip() for sentence in text.replace("।", ".").split(".") if sentence)


def meaning(question: str) -> frozenset[str]:
    """The words of a question without those of its form, which are the same however it is asked."""
    words = " ".join(words_of(question)).replace("which person", "who").split()
    return frozenset(word.removesuffix("s") for word in words if word not in ("does", "a"))


@pytest.mark.parametrize("split", ["train", "dev"])
def test_questions_that_ask_the_same(world: World, split: Split) -> None:
    for row in pairs(world, "qqp", split):
        assert row.text_a != row.text_b
        assert (row.label == "paraphrase") == (meaning(row.text_a) == meaning(row.text_b))


@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_pair_of_questions_has_both_forms(world: World, split: Split) -> None:
    for row in pairs(world, "qqp", split):
        plain = [" does " in text or text.startswith("who ") for text in (row.text_a, row.text_b)]
        assert plain[0] != plain[1]


def test_no_question_of_dev_is_trained_on(world: World) -> None:
    train, dev = (
        {meaning(text) for row in pairs(world, "qqp", split) for text in (row.text_a, row.text_b)}
        for split in ("train", "dev")
    )
    assert len(dev) > 40
    assert not train & dev


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("split", ["dev", "test"])
def test_statements_that_say_the_same(world: World, split: Split, code: str) -> None:
    for row in pairs(world, "pawsx", split, code):
        assert row.text_a != row.text_b
        assert (row.label == "paraphrase") == (sentences(row.text_a) == sentences(row.text_b))


@pytest.mark.parametrize("split", PAWSX)
def test_statements_that_differ_do_so_in_one_new_word_or_in_none(world: World, split: Split) -> None:
    for code in languages(TASKS["pawsx"], split):
        different = [row for row in pairs(world, "pawsx", split, code) if row.label == "different"]
        kinds: Counter[tuple[int, int]] = Counter()
        for row in different:
            one, other = Counter(words_of(row.text_a)), Counter(words_of(row.text_b))
            assert all(word not in other for word in one - other)
            kinds[(one - other).total(), (other - one).total()] += 1
        if split == "train":
            assert set(kinds) == {(0, 0), (1, 1)}
            assert kinds[0, 0] == 0.3 * len(different)
        else:
            assert abs(kinds[0, 0] / len(different) - 0.3) < 0.03


def test_the_order_of_statements_tells_nothing(world: World) -> None:
    different = [row for row in pairs(world, "pawsx", "train") if row.label == "different"]
    turned = 0
    for row in different:
        firsts, seconds = zip(*(text.split(". ") for text in (row.text_a, row.text_b)), strict=True)
        turned += firsts[0] == seconds[1].rstrip(".") or seconds[0].rstrip(".") == firsts[1]
    kept = sum(bool(set(row.text_a.split(". ")) & set(row.text_b.split(". "))) for row in different)
    assert abs(turned - kept) < 0.05 * len(different)


@pytest.mark.parametrize(("key", "split"), [("qqp", "train"), ("qqp", "dev"), *(("pawsx", split) for split in PAWSX)])
def test_labels_are_balanced_for_every_text(world: World, key: str, split: Split) -> None:
    labels: dict[frozenset[str], Counter[str]] = {}
    for row in pairs(world, key, split):
        for text in (row.text_a, row.text_b):
            said = meaning(text) if key == "qqp" else frozenset(sentences(text))
            labels.setdefault(said, Counter())[row.label] += 1
    assert all(counts["paraphrase"] == counts["different"] for counts in labels.values())


@pytest.mark.parametrize("key", ["qqp", "pawsx"])
@pytest.mark.parametrize("side", ["text_a", "text_b"])
def test_one_text_alone_tells_nothing(world: World, key: str, side: str) -> None:
    assert guessed_labels([(getattr(row, side), row.label) for row in pairs(world, key, "train")]) < 0.53
