"""Metrics of a task, in percent: of predictions and of guesses. ``METRICS`` has a record of each metric."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import fmean
from typing import Any, Literal, TypeAlias

from xlt.data.predictions import MOST_RANKED, Prediction
from xlt.data.rows import (
    BitextRow,
    CandidateRow,
    ChoiceRow,
    PairRow,
    QueryRow,
    Row,
    SpanRow,
    TagRow,
    labels_of,
    scored_rows,
)
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.chance import span_chance
from xlt.evaluate.pair_f1 import best_threshold, gold_pairs, mined_pairs, mining_chance, pair_f1
from xlt.evaluate.ranking import mean_average_precision, ranking_chance
from xlt.evaluate.squad import best_or_no_answer, best_over_golds
from xlt.tasks.record import ENGLISH, Kind, Metric, Task

Metrics: TypeAlias = dict[str, float]
Scored: TypeAlias = tuple[Sequence[Row], Sequence[Prediction]]
Seqeval = Literal["0.0.12", "1.2.2"]


def score(
    task: Task,
    rows: Sequence[Row],
    predictions: Sequence[Prediction],
    language: str = ENGLISH,
    dev: Scored | None = None,
) -> Metrics:
    """The metrics of ``predictions`` against the gold ``rows`` of one language, in percent; no order matters.

    Pair classification, multiple choice and retrieval give ``accuracy``. Tagging gives the accuracy over words, and
    for ``tag_f1`` also seqeval's micro ``f1``, ``precision`` and ``recall`` over entities (where tags have no B- or
    I-, over runs of equal tags, as in XTREME's and jiant's UD-POS; see ``tag_f1``). Span QA gives ``exact_match`` and
    ``f1``, each the best over the gold answers, by the rules of SQuAD v1.1, of v2.0 for ``squad_v2``, or of MLQA in
    ``language`` for ``mlqa``. Mining gives ``f1``, ``precision`` and ``recall`` of the candidates above the threshold
    that has the best F1 on ``dev`` (rows and predictions of the same language); the dev split itself sets its own
    threshold, as in jiant. ``map20`` gives ``map@20`` and the ``accuracy`` of the first candidate.

    Raises:
        DataFault: predictions and rows do not fit each other (see ``match``), or there is nothing to be mined.
        UsageFault: the task is not scored from predictions.
    """
    metric = _record(task)
    return metric.compare(*metric.prepare(task, rows, predictions, dev), language)


def task_score(task: Task, metrics: Metrics) -> float:
    """The one number of the task in the paper's tables: accuracy, F1, or for QA the mean of F1 and exact match."""
    printed = judged_metrics(task)
    return math.fsum(metrics[name] for name in printed) / len(printed)


def judged_metrics(task: Task) -> tuple[str, ...]:
    """The metrics whose mean the paper's tables print and by which the task is judged."""
    return _record(task).printed


def chance(task: Task, rows: Sequence[Row], language: str = ENGLISH) -> Metrics:
    """The expected metrics, in percent, of a guess that is uniform over what is possible, but in tagging.

    Pair classification: one label of the task's. Multiple choice: one of the choices. Tagging: the accuracy of the most
    frequent tag of ``rows`` for every word, which a uniform guess stays below; F1, precision and recall, which that
    would leave at nothing, of the tags of the next sentence: a guess that knows how tags follow each other, but not the
    words. Retrieval: one row of ``rows``. Mining: one English sentence for every foreign one. Span QA: see
    ``span_chance``. A pool of candidates: any order of them. Nothing is sampled.

    Raises:
        DataFault: there are no rows, a question has no gold answer (SQuAD v2.0 aside), or nothing is to be mined.
    """
    if not rows:
        raise DataFault(f"'{task.key}' has no rows: chance is not defined.")
    return _record(task).chance(task, rows, language)


def majority(task: Task, rows: Sequence[Row]) -> Metrics | None:
    """The metrics, in percent, of always giving the most frequent gold label; None where there is nothing to repeat.

    That is a class of pairs, a tag, the number of a choice, or no answer (SQuAD v2.0).
    """
    return _record(task).majority(task, rows)


def better_guess(task: Task, *guesses: Metrics | None) -> Metrics:
    """Of the guesses that there are, ``chance`` and ``majority``, the one that scores higher.

    "Above chance" is above this one: where labels are uneven, always giving the most frequent one beats a uniform
    guess without any knowledge.
    """
    return max((each for each in guesses if each), key=lambda each: task_score(task, each))


def binomial_metric(task: Task, metrics: Metrics) -> float:
    """The metric, in percent, that is the share of ``n_trials`` things that are each right or wrong."""
    return metrics[_record(task).binomial]


def n_trials(task: Task, rows: Sequence[Row]) -> int:
    """How many things can each be right or wrong: words in tagging, gold pairs in mining, else rows."""
    return _record(task).n_trials(rows)


def _record(task: Task) -> MetricRecord:
    if task.metric not in METRICS:
        raise UsageFault(f"'{task.key}' ({task.kind}) is not scored from predictions.", fix="xlt tasks ls")
    return METRICS[task.metric]


# Rows and what is predicted for them


_ROWS: Mapping[Kind, type[Row]] = {
    "pair_classification": PairRow,
    "multiple_choice": ChoiceRow,
    "tagging": TagRow,
    "span_qa": SpanRow,
    "retrieval": BitextRow,
}
# Where the score of a prediction is a probability (see ``Prediction``).
_PROBABLE: tuple[Kind, ...] = ("pair_classification", "multiple_choice", "tagging")


def match(
    task: Task, rows: Sequence[Row], predictions: Sequence[Prediction], dev: Scored | None = None
) -> tuple[list[list[str]], list[Any]]:
    """What is right for each row, and what was predicted for it, in order, as metrics compare them.

    Right are the labels of the row, or the texts of its gold answers; given are the labels, or the text of the answer.

    Raises:
        DataFault: not every row has exactly one prediction, a prediction has no row or a score that is no
            probability where it should be one, or one is impossible for
            its row (a label, choice or id that does not exist, offsets outside the context, more or fewer tags
            than words); or a question has no gold answer (SQuAD v2.0 aside).
    """
    pool = {row.id for row in rows if isinstance(row, CandidateRow)}
    rows = scored_rows(rows)
    row_type = QueryRow if task.metric == "map20" else _ROWS[task.kind]
    if not all(isinstance(row, row_type) for row in rows):
        raise DataFault(f"The gold rows of '{task.key}' ({task.kind}) are not all of type {row_type.__name__}.")
    if not rows:
        raise DataFault(f"'{task.key}' has no gold rows to score against.")
    gold = Counter(row.id for row in rows)
    given = Counter(prediction.id for prediction in predictions)
    faults = {
        "gold ids appear more than once": [id_ for id_, times in gold.items() if times > 1],
        "gold rows have no prediction": [id_ for id_ in gold if id_ not in given],
        "ids are predicted more than once": [id_ for id_, times in given.items() if times > 1],
        "predictions have an unknown id": [id_ for id_ in given if id_ not in gold],
        "predictions have a score that is no probability": [
            each.id for each in predictions if task.kind in _PROBABLE and not 0 <= each.score <= 1
        ],
    }
    fix = "Predict again on the same data: split, language and --limit must be equal."
    if found := [f"{len(ids)} {fault}: {_first(ids)}." for fault, ids in faults.items() if ids]:
        what = f"{len(predictions)} predictions do not fit the {len(rows)} gold rows of '{task.key}'."
        raise DataFault(what, why=" ".join(found), fix=fix)
    said = {prediction.id: prediction.prediction for prediction in predictions}
    impossible: dict[str, list[str]] = {}
    for row in rows:
        if fault := _fault(task, row, said[row.id], pool or gold):
            impossible.setdefault(fault, []).append(row.id)
    for fault, ids in impossible.items():
        raise DataFault(f"{len(ids)} examples of '{task.key}' {fault}: {_first(ids)}.", fix=fix)
    pairs = [_right_and_given(row, said[row.id]) for row in rows]
    return [right for right, _ in pairs], [given for _, given in pairs]


def _fault(task: Task, row: Row, said: Any, ids: Collection[str]) -> str:
    """What is impossible about this prediction for this row, or ""; ``ids`` are those of all rows or candidates."""
    match row:
        case PairRow() if said not in task.labels:
            return f"predict something else than a label ({', '.join(task.labels)})"
        case ChoiceRow() if said not in map(str, range(len(row.choices))):
            return "choose something else than the number of a choice"
        case TagRow() if len(str(said).split()) != len(row.tags):
            return "have more or fewer tags than words"
        case SpanRow() if not (isinstance(said, tuple) and 0 <= said[0] <= said[1] <= len(row.context)):
            return "predict characters outside the context"
        case SpanRow() if not row.answers and not task.unanswerable:
            return "have no gold answer"
        case BitextRow() if said not in ids:
            return "retrieve something else than the id of a row"
        case QueryRow() if not (isinstance(said, str) and {*said.split()} <= {*ids}):
            return "rank something else than candidates"
        case QueryRow() if not len({*said.split()}) == len(said.split()) <= MOST_RANKED:
            return f"rank more than {MOST_RANKED} candidates, or one twice"
    return ""


def _right_and_given(row: Row, said: Any) -> tuple[list[str], Any]:
    match row:
        case SpanRow():
            return [answer.text for answer in row.answers], row.context[slice(*said)]
        case BitextRow():
            return [row.id], [said]
        case QueryRow():
            return [*row.answers], said.split()
    return [*labels_of(row)], said.split() if isinstance(row, TagRow) else [said]


def _first(ids: Sequence[str], count: int = 3) -> str:
    return ", ".join(ids[:count]) + (", …" if len(ids) > count else "")


# What is right and what is given, compared


def accuracy(gold: Sequence[list[str]], given: Sequence[list[str]], language: str = "") -> Metrics:
    """The share of labels that are right; every example has as many in both."""
    pairs = [pair for both in zip(gold, given, strict=True) for pair in zip(*both, strict=True)]
    return {"accuracy": 100 * sum(right == said for right, said in pairs) / max(len(pairs), 1)}


def tag_f1(gold: Sequence[list[str]], given: Sequence[list[str]], seqeval: Seqeval = "0.0.12") -> Metrics:
    """seqeval's micro ``f1``, ``precision`` and ``recall``, in percent; each sentence has as many tags in both.

    seqeval reads a tag as a prefix (its first letter) and a type. In 0.0.12, which the paper's group used
    (requirements-no-torch.txt of https://github.com/nyu-mll/jiant), the type is what follows the last hyphen, or else
    the whole tag. In 1.2.2 the first letter is no part of it: CCONJ and SCONJ become one type, and X a kind of O. Of
    tags with B- and I- (NER) both count the same, however ill-formed the sequence. XTREME pins no version.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support  # slow to import

    if seqeval == "0.0.12":
        gold, given = whole_types(gold), whole_types(given)
    with warnings.catch_warnings():
        # One warning per word where tags have no B- or I-.
        warnings.simplefilter("ignore", UserWarning)
        precision, recall, f1, _ = precision_recall_fscore_support(gold, given, average="micro", zero_division=0)
    return {"f1": 100 * float(f1), "precision": 100 * float(precision), "recall": 100 * float(recall)}


def whole_types(sentences: Sequence[list[str]]) -> list[list[str]]:
    """The tags rewritten as prefix, hyphen and type, so that seqeval 1.2.2 reads the types that 0.0.12 read."""
    # The full stop keeps a type from being "_", which is the type that 1.2.2 gives to O.
    return [[f"{tag[0]}-{tag.rpartition('-')[2]}." for tag in tags] for tags in sentences]


def _answer_f1(rules: Callable[[str, list[str], str], tuple[float, float]]) -> Compare:
    """The means of exact match and F1 by those ``rules``; a question without an answer (None) is wrong in both."""

    def compare(gold: Sequence[list[str]], given: Sequence[str | None], language: str) -> Metrics:
        results = [
            (0.0, 0.0) if said is None else rules(said, texts, language)
            for texts, said in zip(gold, given, strict=True)
        ]
        exact, f1 = zip(*results, strict=True)
        return {"exact_match": 100 * math.fsum(exact) / len(exact), "f1": 100 * math.fsum(f1) / len(f1)}

    return compare


# Everything about a metric in one place


Compare: TypeAlias = Callable[[Sequence[Any], Sequence[Any], str], Metrics]


def _mined(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction], dev: Scored | None) -> Any:
    fitted_rows, fitted = dev or (rows, predictions)
    threshold, _ = best_threshold(fitted, gold_pairs(fitted_rows))
    return gold_pairs(rows), mined_pairs(predictions, threshold)


def _most_frequent_label(task: Task, rows: Sequence[Row]) -> Metrics | None:
    if task.kind == "retrieval":
        return None
    gold = [[*labels_of(row)] for row in rows]
    labels = Counter(label for each in gold for label in each)
    label = max(labels, key=labels.__getitem__, default="")
    return METRICS[task.metric].compare(gold, [[label] * len(each) for each in gold], "")


def _any_label(task: Task, rows: Sequence[Row], language: str) -> Metrics:
    match task.kind:
        case "pair_classification":
            return {"accuracy": 100 / len(task.labels)}
        case "multiple_choice":
            return {"accuracy": 100 * fmean(1 / len(row.choices) for row in rows if isinstance(row, ChoiceRow))}
        case "retrieval":
            return {"accuracy": 100 / len(rows)}
    return _most_frequent_label(task, rows) or {}


def _tags_of_the_next(task: Task, rows: Sequence[Row], language: str) -> Metrics:
    """What the tags of the next sentence, repeated or cut to the length, find; the accuracy is that of one tag."""
    gold = [[*labels_of(row)] for row in rows]
    given = [[*islice(cycle(gold[place - len(gold) + 1]), len(tags))] for place, tags in enumerate(gold)]
    return tag_f1(gold, given) | {"accuracy": (_most_frequent_label(task, rows) or {})["accuracy"]}


def _never_answering(task: Task, rows: Sequence[Row]) -> Metrics:
    golds = [[answer.text for answer in row.answers] for row in rows if isinstance(row, SpanRow)]
    right = 100 * fmean(best_or_no_answer("", each)[0] for each in golds)
    return {"exact_match": right, "f1": right}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecord:
    """All that is known of a metric. A new one is a record in ``METRICS``, and its name in ``xlt/tasks/record.py``."""

    prepare: Callable[[Task, Sequence[Row], Sequence[Prediction], Scored | None], tuple[Any, Any]] = match
    """Makes what is right and what is given, from rows and predictions, and from the dev split's for a threshold."""
    compare: Compare
    """The metrics, in percent, of what is given against what is right, in a language."""
    printed: tuple[str, ...]
    """The metrics whose mean the paper's tables print."""
    chance: Callable[[Task, Sequence[Row], str], Metrics]
    """What a guess gives that is uniform over what is possible."""
    majority: Callable[[Task, Sequence[Row]], Metrics | None] = lambda task, rows: None
    """What the most frequent answer gives, if there is one."""
    binomial: str
    """The metric that is a share of things that are each right or wrong, which the binomial bound is about."""
    n_trials: Callable[[Sequence[Row]], int] = len
    """How many things the binomial metric is a share of."""


_LABELS = MetricRecord(
    compare=accuracy,
    printed=("accuracy",),
    chance=_any_label,
    majority=_most_frequent_label,
    binomial="accuracy",
    n_trials=lambda rows: sum(len(row.tags) if isinstance(row, TagRow) else 1 for row in rows),
)
_ANSWERS = MetricRecord(
    compare=_answer_f1(lambda said, golds, language: best_over_golds(said, golds)),
    printed=("f1", "exact_match"),
    chance=lambda task, rows, language: span_chance(rows),
    binomial="exact_match",
)
METRICS: Mapping[Metric, MetricRecord] = {
    "accuracy": _LABELS,
    "tag_f1": replace(
        _LABELS,
        compare=lambda gold, given, language: tag_f1(gold, given) | accuracy(gold, given),
        printed=("f1",),
        chance=_tags_of_the_next,
    ),
    "squad": _ANSWERS,
    "squad_v2": replace(
        _ANSWERS,
        compare=_answer_f1(lambda said, golds, language: best_or_no_answer(said, golds)),
        chance=lambda task, rows, language: span_chance(rows, unanswerable=True),
        majority=_never_answering,
    ),
    "mlqa": replace(
        _ANSWERS,
        compare=_answer_f1(best_over_golds),
        chance=lambda task, rows, language: span_chance(rows, language),
    ),
    "mining_f1": MetricRecord(
        prepare=_mined,
        compare=pair_f1,
        printed=("f1",),
        chance=lambda task, rows, language: mining_chance(rows),
        binomial="recall",
        n_trials=lambda rows: len(gold_pairs(rows)),
    ),
    "map20": MetricRecord(
        compare=lambda gold, given, language: mean_average_precision(gold, given),
        printed=("map@20",),
        chance=lambda task, rows, language: ranking_chance(rows),
        binomial="accuracy",
        n_trials=lambda rows: sum(isinstance(row, QueryRow) for row in rows),
    ),
}
