"""A score is the ratio of two sums over rows, for every metric."""

from __future__ import annotations

from random import Random

import pytest

from xlt.data.predictions import Prediction
from xlt.data.rows import Answer, BitextRow, ChoiceRow, MiningRow, PairRow, Row, SpanRow, TagRow
from xlt.evaluate.metrics import score, task_score
from xlt.evaluate.parts import score_parts
from xlt.tasks.catalogue import get_task

TAGS = {"udpos": ("NOUN", "VERB", "CCONJ", "X"), "panx": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), "ccg": ("N", "NP")}
CONTEXT = "one two three four five six"


def drawn(key: str, random: Random) -> tuple[list[Row], list[Prediction]]:
    """Rows of a task and predictions, some of them right."""
    task, rows, said = get_task(key), list[Row](), list[str | tuple[int, int]]()
    for number in range(40):
        id_ = str(number)
        match task.kind:
            case "pair_classification":
                rows.append(PairRow(id_, "a", "b", random.choice(task.labels)))
                said.append(random.choice(task.labels))
            case "multiple_choice":
                rows.append(ChoiceRow(id_, "a", ("b", "c"), random.randrange(2)))
                said.append(str(random.randrange(2)))
            case "tagging":
                length = random.randint(1, 7)
                gold, given = (tuple(random.choices(TAGS[key], k=length)) for _ in range(2))
                rows.append(TagRow(id_, ("w",) * length, gold))
                said.append(" ".join(given))
            case "span_qa":
                start = random.choice([0, 4, 8])
                unanswered = task.unanswerable and random.random() < 0.3
                rows.append(
                    SpanRow(id_, "q", CONTEXT, () if unanswered else (Answer(CONTEXT[start : start + 9], start),))
                )
                said.append(random.choice([(0, 0), (0, 3), (4, 13), (8, 18)]))
            case _:
                rows.append(BitextRow(id_, "a", "b"))
                said.append(str(random.randrange(40)))
    return rows, [Prediction(row.id, each, 0.5) for row, each in zip(rows, said, strict=True)]


@pytest.mark.parametrize(
    ("key", "language"),
    [
        *((key, "en") for key in ("xnli", "hellaswag", "ccg", "udpos", "panx", "squad_v2", "xquad", "tatoeba")),
        ("mlqa", "de"),
    ],
)
def test_the_ratio_of_the_sums_is_the_score(key: str, language: str) -> None:
    rows, predictions = drawn(key, Random(key))
    parts = score_parts(get_task(key), rows, predictions, language)
    assert [*parts] == [row.id for row in rows]
    above, below = (sum(part[place] for part in parts.values()) for place in (0, 1))
    expected = task_score(get_task(key), score(get_task(key), rows, predictions, language))
    assert 0 < expected < 100
    assert 100 * above / below == pytest.approx(expected)


def test_mining_has_a_part_for_each_foreign_sentence_that_is_paired() -> None:
    rows = [MiningRow(f"e{n}", "t", english=True) for n in range(6)]
    rows += [MiningRow(f"f{n}", "t", english=False, matches=(f"e{n}",) if n < 3 else ()) for n in range(6)]
    said = [("f0", "e0", 0.9), ("f1", "e5", 0.8), ("f4", "e4", 0.7), ("f2", "e2", 0.1)]
    predictions = [Prediction(*each) for each in said]
    dev = rows, [Prediction("f0", "e0", 0.9), Prediction("f3", "e3", 0.3)]
    parts = score_parts(get_task("bucc2018"), rows, predictions, "de", dev)
    # Above the threshold of 0.6 are three pairs, of which one is right; three are wanted.
    assert parts == {"f0": (2, 2), "f1": (0, 2), "f2": (0, 1), "f4": (0, 1)}
    assert pytest.approx(score(get_task("bucc2018"), rows, predictions, "de", dev)["f1"]) == 100 * 2 / 6
