"""Scores from predictions, and every set of predictions that must be refused."""

from __future__ import annotations

import itertools
import random
import time
import warnings

import pytest

from xlt.data.predictions import Prediction
from xlt.data.rows import Answer, BitextRow, ChoiceRow, MiningRow, PairRow, Row, SpanRow, TagRow
from xlt.data.world import WorldSource
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.metrics import score, tag_f1, task_score
from xlt.tasks.catalogue import ENTITY_TAGS, UNIVERSAL_TAGS, get_task

XNLI, XQUAD, TATOEBA = get_task("xnli"), get_task("xquad"), get_task("tatoeba")
PAIRS: list[Row] = [
    PairRow("1", "a", "b", "neutral"),
    PairRow("2", "a", "b", "entailment"),
    PairRow("3", "a", "b", "neutral"),
]
CONTEXT = "The Broncos won in Denver."
SPANS: list[Row] = [
    SpanRow("q1", "Who?", CONTEXT, (Answer("Denver", 19), Answer("The Broncos", 0))),
    SpanRow("q2", "Where?", CONTEXT, (Answer("Denver", 19),)),
]
BITEXT: list[Row] = [BitextRow("1", "eins", "one"), BitextRow("2", "zwei", "two")]


def _labels(*given: tuple[str, str]) -> list[Prediction]:
    return [Prediction(id_, label, 0.5) for id_, label in given]


def test_accuracy_is_in_percent_and_no_order_matters() -> None:
    given = _labels(("3", "neutral"), ("1", "neutral"), ("2", "contradiction"))
    assert score(XNLI, PAIRS, given) == {"accuracy": pytest.approx(200 / 3)}


def test_squad_takes_characters_of_the_context() -> None:
    given = [Prediction("q2", (16, 26), 1.0), Prediction("q1", (4, 11), 1.0)]
    assert CONTEXT[16:26] == "in Denver."
    metrics = score(XQUAD, SPANS, given)
    assert metrics == {"exact_match": 50.0, "f1": pytest.approx(100 * (1 + 2 / 3) / 2)}
    assert task_score(XQUAD, metrics) == pytest.approx((50 + 250 / 3) / 2)


def test_an_empty_span_is_a_wrong_answer_and_not_an_error() -> None:
    given = [Prediction("q1", (0, 0), 0.0), Prediction("q2", (26, 26), 0.0)]
    assert score(XQUAD, SPANS, given) == {"exact_match": 0.0, "f1": 0.0}


def test_unanswerable_questions_are_right_if_nothing_is_answered() -> None:
    rows: list[Row] = [*SPANS, SpanRow("q3", "Why?", CONTEXT, ()), SpanRow("q4", "When?", CONTEXT, ())]
    given = [Prediction(f"q{n}", span, 0.0) for n, span in enumerate([(19, 25), (0, 0), (0, 0), (4, 11)], start=1)]
    metrics = score(get_task("squad_v2"), rows, given)
    assert metrics == {"exact_match": 50.0, "f1": 50.0}
    given[1] = Prediction("q2", (16, 26), 0.0)
    metrics = score(get_task("squad_v2"), rows, given)
    assert metrics == {"exact_match": 50.0, "f1": pytest.approx(100 * (2 + 2 / 3) / 4)}
    assert task_score(get_task("squad_v2"), metrics) == pytest.approx((50 + 200 / 3) / 2)


def test_choices_are_numbered_from_zero() -> None:
    task = get_task("hellaswag")
    rows: list[Row] = [ChoiceRow(str(n), "p", ("a", "b", "c"), n % 3) for n in range(4)]
    metrics = score(task, rows, _labels(("0", "0"), ("1", "1"), ("2", "0"), ("3", "0")))
    assert metrics == {"accuracy": 75.0}
    assert task_score(task, metrics) == 75.0
    for wrong in ("3", "-1", "a", "01"):
        with pytest.raises(DataFault, match=r"1 examples of 'hellaswag' choose something else .*: 2"):
            score(task, rows, _labels(("0", "0"), ("1", "1"), ("2", wrong), ("3", "0")))


ENTITIES: list[Row] = [
    TagRow("1", ("a", "b", "c", "d"), ("B-PER", "I-PER", "O", "B-LOC")),
    TagRow("2", ("a", "b"), ("O", "B-ORG")),
]


def test_entities_are_counted_whole() -> None:
    # Three gold entities, two predicted, one of them right: in place and in type.
    given = _labels(("1", "B-PER I-PER O O"), ("2", "O B-LOC"))
    metrics = score(get_task("panx"), ENTITIES, given)
    expected = {"precision": 50, "recall": 100 / 3, "f1": 40, "accuracy": 400 / 6}
    assert metrics == {name: pytest.approx(value) for name, value in expected.items()}
    assert task_score(get_task("panx"), metrics) == pytest.approx(40)
    nothing = score(get_task("panx"), ENTITIES, _labels(("1", "O O O O"), ("2", "O O")))
    assert nothing == {"precision": 0, "recall": 0, "f1": 0, "accuracy": pytest.approx(100 / 3)}


def test_parts_of_speech_are_counted_in_runs_and_without_warnings() -> None:
    rows: list[Row] = [TagRow("1", ("a", "b", "c"), ("NOUN", "NOUN", "VERB")), TagRow("2", (".",), ("PUNCT",))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = score(get_task("udpos"), rows, _labels(("1", "NOUN VERB VERB"), ("2", "PUNCT")))
    # Gold runs: NOUN 0-1, VERB 2, PUNCT; predicted: NOUN 0, VERB 1-2, PUNCT. Only the last is the same.
    assert metrics["f1"] == metrics["precision"] == metrics["recall"] == pytest.approx(100 / 3)
    assert metrics["accuracy"] == 75.0


def test_every_tag_is_one_of_its_own_and_the_newer_rule_can_be_asked_for() -> None:
    # Gold runs: CCONJ, NOUN, X, NOUN, X; all but the first are found.
    gold = [["CCONJ", "NOUN"], ["X", "NOUN", "X"]]
    given = [["SCONJ", "NOUN"], ["X", "NOUN", "X"]]
    assert tag_f1(gold, given) == pytest.approx({"f1": 80.0, "precision": 80.0, "recall": 80.0})
    # Words with a tag in S are runs of their own: seqeval takes the S for "single".
    assert tag_f1([["SYM", "SYM", "ADP", "ADP"]], [["SYM", "X", "ADP", "ADP"]])["recall"] == pytest.approx(200 / 3)
    assert tag_f1(gold, given, "1.2.2")["f1"] == 100.0


@pytest.mark.parametrize(
    ("tags", "seed", "f1", "newer"),
    [
        (UNIVERSAL_TAGS, 0, 66.331658, 67.175573),
        (UNIVERSAL_TAGS, 1, 70.804598, 70.232558),
        (("X", "CCONJ", "SCONJ", "SYM"), 0, 72.679045, 71.515152),
        (ENTITY_TAGS, 0, 67.711599, 67.711599),
        (ENTITY_TAGS, 1, 73.033708, 73.033708),
    ],
)
def test_f1_is_what_the_two_releases_of_seqeval_say(tags: tuple[str, ...], seed: int, f1: float, newer: float) -> None:
    # The numbers are those of seqeval.metrics.f1_score, of 0.0.12 and of 1.2.2, on these tags.
    rng = random.Random(seed)
    gold = [rng.choices(tags, k=rng.randint(1, 9)) for _ in range(40)]
    given = [[tag if rng.random() < 0.7 else rng.choice(tags) for tag in sentence] for sentence in gold]
    assert tag_f1(gold, given)["f1"] == pytest.approx(f1, abs=1e-6)
    assert tag_f1(gold, given, "1.2.2")["f1"] == pytest.approx(newer, abs=1e-6)


def test_entities_are_the_same_by_both_rules_however_ill_formed() -> None:
    sequences = [list(tags) for length in (1, 2, 3, 4) for tags in itertools.product(ENTITY_TAGS, repeat=length)]
    rng = random.Random(0)
    given = [rng.choices(ENTITY_TAGS, k=len(tags)) for tags in sequences]
    assert tag_f1(sequences, given) == tag_f1(sequences, given, "1.2.2")


@pytest.mark.parametrize("key", ["udpos", "panx"])
def test_the_constructed_world_scores_the_same_by_both_rules(world: WorldSource, key: str) -> None:
    rng = random.Random(0)
    for language in world.languages(get_task(key), "dev")[:3]:
        rows = [row for row in world.rows(get_task(key), "dev", language) if isinstance(row, TagRow)]
        gold = [list(row.tags) for row in rows]
        tags = sorted({tag for sentence in gold for tag in sentence})
        for share in (0.0, 0.5, 0.9):
            given = [[tag if rng.random() < share else rng.choice(tags) for tag in sentence] for sentence in gold]
            assert tag_f1(gold, given) == tag_f1(gold, given, "1.2.2")


def test_supertags_are_scored_by_their_accuracy_alone() -> None:
    rows: list[Row] = [TagRow("1", ("a", "b", "c"), ("N", "(S\\NP)/NP", "N")), TagRow("2", (), ())]
    given = _labels(("1", "N (S\\NP)/NP unseen"), ("2", ""))
    metrics = score(get_task("ccg"), rows, given)
    assert metrics == {"accuracy": pytest.approx(200 / 3)}
    assert task_score(get_task("ccg"), metrics) == metrics["accuracy"]


@pytest.mark.parametrize("tags", ["", "O", "O O O"])
def test_as_many_tags_as_words_are_needed(tags: str) -> None:
    with pytest.raises(DataFault, match=r"1 examples of 'panx' have more or fewer tags than words: 2"):
        score(get_task("panx"), ENTITIES, _labels(("1", "O O O O"), ("2", tags)))


def test_retrieval_counts_rows_that_found_themselves() -> None:
    metrics = score(TATOEBA, BITEXT, _labels(("1", "1"), ("2", "1")))
    assert metrics == {"accuracy": 50.0}
    assert task_score(TATOEBA, metrics) == 50.0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("12", "1 gold rows have no prediction: 3."),
        ("", "3 gold rows have no prediction: 1, 2, 3."),
        ("1233", "1 ids are predicted more than once: 3."),
        ("123x", "1 predictions have an unknown id: x."),
        ("1vwxyz", "5 predictions have an unknown id: v, w, x, …."),
    ],
)
def test_every_row_needs_exactly_one_prediction(ids: str, message: str) -> None:
    with pytest.raises(DataFault) as caught:
        score(XNLI, PAIRS, _labels(*((id_, "neutral") for id_ in ids)))
    assert message in caught.value.why
    assert f"{len(ids)} predictions do not fit the 3 gold rows of 'xnli'" in caught.value.what


def test_gold_ids_must_be_unique() -> None:
    with pytest.raises(DataFault, match=r"1 gold ids appear more than once: 1"):
        score(XNLI, [PAIRS[0], PAIRS[0]], _labels(("1", "neutral")))


def test_a_label_that_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(DataFault, match=r"1 examples of 'xnli' predict something else than a label .*: 2"):
        score(XNLI, PAIRS, _labels(("1", "neutral"), ("2", "Neutral"), ("3", "neutral")))


@pytest.mark.parametrize("span", [(0, 27), (-1, 3), (5, 4), "Denver"])
def test_a_span_outside_the_context_is_refused(span: tuple[int, int] | str) -> None:
    with pytest.raises(DataFault, match="1 examples of 'xquad' predict characters outside the context: q2"):
        score(XQUAD, SPANS, [Prediction("q1", (0, 1), 0.0), Prediction("q2", span, 0.0)])


def test_a_question_without_a_gold_answer_is_refused() -> None:
    with pytest.raises(DataFault, match="1 examples of 'xquad' have no gold answer: q"):
        score(XQUAD, [SpanRow("q", "?", "text", ())], [Prediction("q", (0, 1), 0.0)])


def test_a_retrieved_id_that_no_row_has_is_refused() -> None:
    with pytest.raises(DataFault, match=r"1 examples of 'tatoeba' retrieve something else .*: 2"):
        score(TATOEBA, BITEXT, _labels(("1", "1"), ("2", "9")))


def test_mined_pairs_count_above_the_threshold_of_the_dev_split_and_on_it_above_their_own() -> None:
    task = get_task("bucc2018")
    rows: list[Row] = [MiningRow("e1", "x", True), MiningRow("e2", "x", True)]
    rows += [MiningRow("f1", "x", False, ("e1",)), MiningRow("f2", "x", False)]
    mined = [Prediction("f1", "e1", 1.2), Prediction("f2", "e2", 1.0)]
    assert score(task, rows, mined) == {"precision": 100.0, "recall": 100.0, "f1": 100.0}
    # All that is mined on dev is right there, down to a lower score: nothing of the test split is left out.
    lower: list[Row] = [rows[0], rows[1], rows[2], MiningRow("f2", "x", False, ("e2",))]
    dev = lower, [Prediction("f1", "e1", 1.2), Prediction("f2", "e2", 0.9)]
    assert score(task, rows, mined, "de", dev) == {"precision": 50.0, "recall": 100.0, "f1": pytest.approx(200 / 3)}


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(DataFault, match="no gold rows"):
        score(XNLI, [], [])
    with pytest.raises(DataFault, match="not all of type SpanRow"):
        score(XQUAD, PAIRS, [])
    with pytest.raises(UsageFault, match="not scored from predictions"):
        score(get_task("mlm"), PAIRS, [])
    with pytest.raises(DataFault, match="no gold pairs"):
        score(get_task("bucc2018"), BITEXT, [])


def test_all_answers_of_xquad_take_about_a_second() -> None:
    rng = random.Random(0)
    context = " ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(130))
    rows = [SpanRow(str(i), "?", context, (Answer(context[7:20], 7),)) for i in range(14280)]
    given = [Prediction(row.id, (0, rng.randint(1, 80)), 0.0) for row in rows]
    begin = time.process_time()
    score(XQUAD, rows, given)
    assert time.process_time() - begin < 3
