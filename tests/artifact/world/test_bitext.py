"""Bitext: pairs without doubles, and sides on which two thirds have a translation and the others none."""

from __future__ import annotations

import pytest

from artifact.world.generator.language import FOREIGN
from artifact.world.generator.world import World
from xlt.data.rows import BitextRow, MiningRow
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split


def test_pairs_are_unambiguous(world: World) -> None:
    for code in FOREIGN:
        rows = [row for row in world.rows(TASKS["tatoeba"], "test", code) if isinstance(row, BitextRow)]
        assert len({row.foreign for row in rows}) == len({row.english for row in rows}) == len(rows) == 300


@pytest.mark.parametrize("code", FOREIGN)
@pytest.mark.parametrize(("split", "size", "gold"), [("dev", 150, 100), ("test", 300, 200)])
def test_sides_of_mining(world: World, split: Split, size: int, gold: int, code: str) -> None:
    rows = [row for row in world.rows(TASKS["bucc2018"], split, code) if isinstance(row, MiningRow)]
    foreign = {row.id: row for row in rows if not row.english}
    english = {row.id: row for row in rows if row.english}
    assert len(foreign) == len(english) == size
    assert set(foreign) == {f"{code}-{number}" for number in range(size)}
    assert set(english) == {f"en-{number}" for number in range(size)}
    for side in (foreign, english):
        assert len({row.text for row in side.values()}) == size
    # The translation of every foreign sentence, by the facts that both sides state.
    fact_of = {item.number: item.fact for item in world.items("bucc2018", split) if not item.english}
    english_of = {item.fact: f"en-{item.number}" for item in world.items("bucc2018", split) if item.english}
    for row in foreign.values():
        own = english_of.get(fact_of[int(row.id.split("-")[1])])
        assert row.matches == (() if own is None else (own,))
    matches = [match for row in foreign.values() for match in row.matches]
    assert len(matches) == len(set(matches)) == gold
    assert all(row.matches == () for row in english.values())


def test_translations_state_the_same_names_and_numbers(world: World) -> None:
    rows = {row.id: row for row in world.rows(TASKS["bucc2018"], "test", "qag") if isinstance(row, MiningRow)}
    for row in rows.values():
        for match in row.matches:
            names = {word for word in row.text.rstrip("।").split() if word.isascii()}
            assert names
            assert names <= set(rows[match].text.rstrip(".").split())
