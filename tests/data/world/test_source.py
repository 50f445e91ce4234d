"""The source ``world``: same seed, same rows; gold that holds; no fact shared between splits."""

from __future__ import annotations

from collections import Counter

import pytest

from xlt.data.rows import Answer, BitextRow, PairRow, SpanRow, fingerprint
from xlt.data.world.fact import Fact
from xlt.data.world.grammar import text_of
from xlt.data.world.language import CODES, FOREIGN
from xlt.data.world.sentence import Clause
from xlt.data.world.source import WorldSource
from xlt.data.world.story import judge
from xlt.errors import UsageFault
from xlt.tasks.catalogue import NLI_LABELS, TASKS
from xlt.tasks.record import Split

CELLS: list[tuple[str, Split]] = [
    ("mnli", "dev"),
    ("xnli", "dev"),
    ("xnli", "test"),
    ("squad", "dev"),
    ("xquad", "dev"),
    ("xquad", "test"),
    ("tatoeba", "dev"),
    ("tatoeba", "test"),
]


@pytest.fixture(scope="module")
def world() -> WorldSource:
    return WorldSource(seed=0)


def facts_used(world: WorldSource, split: Split) -> set[Fact]:
    """Every fact that any row of a split states, denies or asks for."""
    facts = {fact for item in world.inferences(split) for fact in (*item.premise, item.hypothesis)}
    facts |= {fact for item in world.questions(split) for fact in (*item.context, item.fact)}
    return facts if split == "train" else facts | set(world.sentences(split))


def facts_told(world: WorldSource) -> set[Fact]:
    """Every fact that the masked-LM text of any language states or asks for."""
    return {clause.fact for code in CODES for line in world.lines(code) for clause in line.clauses}


def test_same_seed_same_rows(world: WorldSource) -> None:
    again, other = WorldSource(seed=0), WorldSource(seed=1)
    for key, split in [*CELLS, ("mlm", "train")]:
        code = "qab" if key in {"xnli", "xquad", "tatoeba", "mlm"} else "en"
        prints = [fingerprint(source.rows(TASKS[key], split, code)) for source in (world, again, other)]
        assert prints[0] == prints[1] != prints[2]
    assert fingerprint(world.pretraining_text()) == fingerprint(again.pretraining_text())


def test_no_fact_of_dev_or_test_is_told_or_trained_on(world: WorldSource) -> None:
    seen = facts_told(world) | facts_used(world, "train")
    dev, test = facts_used(world, "dev"), facts_used(world, "test")
    assert len(test) > 300
    assert not seen & dev
    assert not seen & test
    assert not dev & test


def test_every_row_states_the_facts_of_its_item(world: WorldSource) -> None:
    # Ties the strings to the facts, so that disjoint facts mean disjoint sentences.
    for code in ("en", "qae", "qah"):
        for row, item in zip(world.rows(TASKS["xnli"], "test", code), world.inferences("test"), strict=True):
            assert isinstance(row, PairRow)
            assert row.text_a == text_of([Clause(fact) for fact in item.premise], code, world.seed)
            assert row.text_b == text_of([Clause(item.hypothesis)], code, world.seed)
    told = {row.id: row.text for row in world.pretraining_text()}
    for line in world.lines("qag"):
        assert told[line.id] == line.text


@pytest.mark.parametrize("code", CODES)
def test_no_sentence_of_dev_or_test_stands_in_the_text(world: WorldSource, code: str) -> None:
    text = "\n".join(line.text for line in world.lines(code))
    held_out = facts_used(world, "dev") | facts_used(world, "test")
    found = [fact for fact in held_out if text_of([Clause(fact)], code, world.seed) in text]
    assert not found


def test_all_languages_state_all_known_facts(world: WorldSource) -> None:
    known = set(world.pools.facts("known"))
    for code in CODES:
        told = {clause.fact for line in world.lines(code) for clause in line.clauses if not clause.asked}
        assert known <= told <= known | set(world.pools.facts("train"))


@pytest.mark.parametrize(("key", "split"), CELLS)
def test_sizes_and_ids(world: WorldSource, key: str, split: Split) -> None:
    least = {"dev": 180, "test": 300}[split]
    for code in world.languages(TASKS[key], split):
        rows = world.rows(TASKS[key], split, code)
        assert len(rows) >= least
        assert len({row.id for row in rows}) == len(rows)


def test_train_sizes(world: WorldSource) -> None:
    for key in ("mnli", "squad"):
        assert 3000 <= len(world.rows(TASKS[key], "train", "en")) <= 6000


@pytest.mark.parametrize("code", CODES)
def test_answers_stand_where_they_should(world: WorldSource, code: str) -> None:
    rows = world.rows(TASKS["xquad"], "test", code)
    for row, item in zip(rows, world.questions("test"), strict=True):
        assert isinstance(row, SpanRow)
        (answer,) = row.answers
        assert isinstance(answer, Answer)
        assert row.context[answer.start : answer.start + len(answer.text)] == answer.text
        if item.asked == "entity":
            assert answer.text == item.fact.entity
        assert answer.text not in row.question.split()


def test_rows_of_all_languages_are_translations(world: WorldSource) -> None:
    english = {row.id: row for row in world.rows(TASKS["xnli"], "test", "en")}
    for code in FOREIGN:
        for row in world.rows(TASKS["xnli"], "test", code):
            other = english[row.id]
            assert isinstance(row, PairRow)
            assert isinstance(other, PairRow)
            assert row.label == other.label


def test_bitext_pairs_are_unambiguous(world: WorldSource) -> None:
    for code in FOREIGN:
        rows = [row for row in world.rows(TASKS["tatoeba"], "test", code) if isinstance(row, BitextRow)]
        assert len({row.foreign for row in rows}) == len({row.english for row in rows}) == len(rows)


def test_labels_follow_and_the_hypothesis_alone_tells_nothing(world: WorldSource) -> None:
    splits: list[Split] = ["train", "dev", "test"]
    for split in splits:
        labels: dict[Fact, Counter[str]] = {}
        for item in world.inferences(split):
            assert item.label == judge(item.premise, item.hypothesis)
            labels.setdefault(item.hypothesis, Counter())[item.label] += 1
        for counts in labels.values():
            assert set(counts) == set(NLI_LABELS)
            assert len(set(counts.values())) == 1


@pytest.mark.parametrize(
    ("key", "split", "code"), [("mnli", "test", "en"), ("xnli", "test", "de"), ("hellaswag", "dev", "en")]
)
def test_what_is_absent_is_refused(world: WorldSource, key: str, split: Split, code: str) -> None:
    task = TASKS.get(key, TASKS["mlm"])
    with pytest.raises(UsageFault) as fault:
        world.rows(task, split, code)
    assert fault.value.why
    assert fault.value.mend
