"""The text of phase 1."""

from __future__ import annotations

from collections import Counter

import pytest

from artifact.world.generator.concept import CONNECTIVES
from artifact.world.generator.fact import FactPools
from artifact.world.generator.grammar import realise
from artifact.world.generator.sentence import Clause
from artifact.world.generator.text import Line, sample_lines

POOLS = FactPools(0)


def remarks(lines: list[Line]) -> list[tuple[list[Clause], Clause]]:
    """Every remark and what was said before it in its line."""
    found = []
    for line in lines:
        found += [(list(line.clauses[:place]), each) for place, each in enumerate(line.clauses) if each.connective]
    return found


@pytest.mark.parametrize("code", ["en", "qae", "qah"])
def test_a_remark_opens_with_the_word_for_how_it_relates_to_what_was_said(code: str) -> None:
    found = remarks(list(sample_lines(POOLS, code, 1500, 0)))
    for before, remark in found:
        stated = [clause.fact for clause in before]
        key = (remark.fact.entity, remark.fact.relation)
        same_subject = [fact for fact in stated if (fact.entity, fact.relation) == key]
        expected = "also" if not same_subject else "indeed" if remark.fact in same_subject else "but"
        assert remark.connective == expected
    shares = Counter(remark.connective for _, remark in found)
    assert len(found) > 350
    assert set(shares) == set(CONNECTIVES)
    assert min(shares.values()) > len(found) / 4


@pytest.mark.parametrize("code", ["en", "qaf"])
def test_the_connective_stands_first_and_changes_no_other_word(code: str) -> None:
    fact = next(iter(POOLS.facts("train")))
    plain = realise(Clause(fact), code, 0).words
    opened = realise(Clause(fact, connective="but"), code, 0).words
    assert opened[1:] == plain
    assert opened[0].form not in {word.form for word in plain}


def test_each_language_has_its_own_connectives() -> None:
    fact = next(iter(POOLS.facts("train")))
    codes = ("qaa", "qab", "qac", "qad", "qae", "qaf", "qag", "qah")
    for connective in CONNECTIVES:
        forms = {code: realise(Clause(fact, connective=connective), code, 0).words[0].form for code in codes}
        assert connective not in forms.values()
        assert len(set(forms.values())) == len(codes)


def test_remarks_are_about_invented_facts_of_training_only() -> None:
    lines = list(sample_lines(POOLS, "qab", 800, 0))
    for before, remark in remarks(lines):
        assert {POOLS.pool_of[clause.fact] for clause in (*before, remark)} == {"train"}
