"""The generated world: same seed, same rows; every task; no fact shared between splits; one world in all languages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from artifact.world.generator.fact import Fact
from artifact.world.generator.grammar import text_of
from artifact.world.generator.language import CODES, FOREIGN
from artifact.world.generator.sentence import Clause
from artifact.world.generator.world import SIZES, World, languages
from xlt.data.rows import ChoiceRow, PairRow, Row, SpanRow, TagRow, fingerprint
from xlt.tasks.catalogue import INTERMEDIATE, TARGET, TASKS
from xlt.tasks.record import Split

CELLS = [(key, split) for key, sizes in SIZES.items() for split in sizes]
WORDS_ONLY = {"qqp"}  # questions alone state nothing


def _facts_in(item: Any) -> Iterator[Fact]:
    """Every fact that an item states, denies or asks for; persons by their first name."""
    if isinstance(item, Fact):
        yield replace(item, entity=item.entity.split()[0])
    elif is_dataclass(item):
        for field in fields(item):
            yield from _facts_in(getattr(item, field.name))
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _facts_in(part)


@pytest.fixture(scope="module")
def used(world: World) -> dict[tuple[str, Split], set[Fact]]:
    """The facts of the items of every task and split."""
    return {cell: set(_facts_in(world.items(*cell))) for cell in CELLS if cell[0] not in WORDS_ONLY}


def held_out(used: dict[tuple[str, Split], set[Fact]]) -> set[Fact]:
    return {fact for (_, split), facts in used.items() if split != "train" for fact in facts}


def gold_of(row: Row) -> object:
    """What is the same in every language."""
    match row:
        case PairRow():
            return row.label
        case ChoiceRow():
            return row.label
        case SpanRow():
            return len(row.answers)
        case TagRow():
            return sorted(tag for tag in row.tags if tag in ("PROPN", "NUM", "VERB") or "-" in tag)
        case _:
            return getattr(row, "matches", ())


def test_same_seed_same_rows(world: World) -> None:
    again, other = World(seed=0), World(seed=1)
    for key, split in [*(cell for cell in CELLS if cell[1] != "train"), ("mnli", "train")]:
        code = languages(TASKS[key], split)[-1]
        rows = world.rows(TASKS[key], split, code)
        assert fingerprint(rows) == fingerprint(again.rows(TASKS[key], split, code))
        assert split == "train" or rows != other.rows(TASKS[key], split, code)
    assert world.lines("qae") == again.lines("qae") != other.lines("qae")


def test_the_text_is_that_of_all_languages(world: World) -> None:
    lines = [line for code in CODES for line in world.lines(code)]
    assert len(world.text) == len(lines) == len(CODES) * 2500
    assert {row.id: row.text for row in world.text} == {line.id: line.text for line in lines}
    assert [row.id for row in world.text] != [line.id for line in lines]


def test_every_task_of_the_paper_is_there() -> None:
    assert {*SIZES} == {task.key for task in (*INTERMEDIATE, *TARGET)}
    for task in INTERMEDIATE:
        assert [languages(task, split) for split in ("train", "dev", "test")] == [("en",), ("en",), ()]
    for task in TARGET:
        expected = FOREIGN if task.kind == "retrieval" else CODES
        assert languages(task, "dev") == languages(task, "test") == expected
        assert languages(task, "train") == (("en",) if task.trains_on == task.key else ())
        if task.trains_on:
            assert languages(TASKS[task.trains_on], "train") == ("en",)


@pytest.mark.parametrize(("key", "split"), CELLS)
def test_sizes_ids_and_gold(world: World, key: str, split: Split) -> None:
    task = TASKS[key]
    least, most = {"train": (600, 9000), "dev": (99, 201), "test": (200, 300)}[split]
    gold = None
    for code in languages(task, split):
        rows = world.rows(task, split, code)
        if task.key == "bucc2018":
            assert len(rows) == 2 * SIZES[key][split]
        else:
            assert least <= len(rows) <= most
            assert all(row.id.startswith(f"{key}-{split}-") for row in rows)
        assert len({row.id for row in rows}) == len(rows)
        golden = [(row.id.removeprefix(code), gold_of(row)) for row in rows]
        assert gold is None or golden == gold
        gold = golden
        labels = {row.label for row in rows if isinstance(row, PairRow)}
        assert labels == (set(task.labels) if task.kind == "pair_classification" else set())


def test_facts_of_every_split_come_from_its_pool(world: World, used: dict[tuple[str, Split], set[Fact]]) -> None:
    for (_, split), facts in used.items():
        assert {world.pools.pool_of[fact] for fact in facts} == {split}


def test_no_fact_of_dev_or_test_is_stated_or_trained_on(world: World, used: dict[tuple[str, Split], set[Fact]]) -> None:
    seen = {clause.fact for code in CODES for line in world.lines(code) for clause in line.clauses}
    seen |= {fact for (_, split), facts in used.items() if split == "train" for fact in facts}
    dev, test = (
        {fact for cell, facts in used.items() if cell[1] == split for fact in facts} for split in ("dev", "test")
    )
    assert len(test) > 300
    assert not seen & dev
    assert not seen & test
    assert not dev & test


def test_every_row_states_the_facts_of_its_item(world: World) -> None:
    # Ties the strings to the facts, so that disjoint facts mean disjoint sentences.
    for code in ("en", "qae", "qah"):
        for row, item in zip(world.rows(TASKS["xnli"], "test", code), world.items("xnli", "test"), strict=True):
            assert isinstance(row, PairRow)
            assert row.text_a == text_of([Clause(fact) for fact in item.premise], code, world.seed)
            assert row.text_b == text_of([Clause(item.hypothesis)], code, world.seed)


@pytest.mark.parametrize("code", CODES)
def test_no_sentence_of_dev_or_test_stands_in_the_text(
    world: World, used: dict[tuple[str, Split], set[Fact]], code: str
) -> None:
    text = "\n".join(line.text for line in world.lines(code))
    found = [fact for fact in held_out(used) if text_of([Clause(fact)], code, world.seed) in text]
    assert not found


def test_all_languages_state_all_known_facts(world: World) -> None:
    known = set(world.pools.facts("known"))
    for code in CODES:
        stated = {clause.fact for line in world.lines(code) for clause in line.clauses if not clause.asked}
        assert known <= stated <= known | set(world.pools.facts("train"))
