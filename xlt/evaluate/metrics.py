"""Metrics of a task from gold rows and predictions, in percent."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow, ChoiceRow, PairRow, Row, SpanRow, TagRow
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.squad import best_or_no_answer, best_over_golds
from xlt.tasks.record import Kind, Metric, Task

Metrics = dict[str, float]
Seqeval = Literal["0.0.12", "1.2.2"]

# What the paper's tables print is the mean of these.
_PRINTED: Mapping[Metric, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "squad": ("f1", "exact_match"),
    "squad_v2": ("f1", "exact_match"),
    "mlqa": ("f1", "exact_match"),
    "tag_f1": ("f1",),
    "mining_f1": ("f1",),
    "perplexity": ("perplexity",),
}


def score(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction], language: str = "en") -> Metrics:
    """The metrics of ``predictions`` against the gold ``rows``, in percent; no order matters.

    Pair classification, multiple choice and retrieval give ``accuracy``, tagging that of its words, and for
    ``tag_f1`` seqeval's micro ``f1``, ``precision`` and ``recall`` of entities as well (of runs of equal tags where
    tags have no B- or I-, as in XTREME's and jiant's UD-POS; see ``tag_f1``); span QA ``exact_match`` and ``f1``,
    best over the gold answers by the rules of SQuAD v1.1, v2.0 for ``squad_v2``, or of MLQA in ``language`` for
    ``mlqa``. Mining has a scorer of its own.

    Raises:
        DataFault: not every row has exactly one prediction, a prediction has no row, or one is impossible for
            its row (a label, choice or id that does not exist, offsets outside the context, more or fewer tags
            than words).
        UsageFault: the task is not scored from predictions of one row each.
    """
    if task.kind not in _SCORERS or task.metric == "mining_f1":
        raise UsageFault(f"'{task.key}' ({task.kind}) is not scored from predictions.", fix="xlt tasks ls")
    row_type, scorer = _SCORERS[task.kind]
    if not all(isinstance(row, row_type) for row in rows):
        raise DataFault(f"The gold rows of '{task.key}' ({task.kind}) are not all of type {row_type.__name__}.")
    matched = match(task, rows, predictions)
    return _squad(task, matched, language) if task.metric == "mlqa" else scorer(task, matched)


def task_score(task: Task, metrics: Metrics) -> float:
    """The one number of the task in the paper's tables: accuracy, F1, or for QA the mean of F1 and exact match."""
    printed = _PRINTED[task.metric]
    return math.fsum(metrics[name] for name in printed) / len(printed)


Matched = list[tuple[Row, Prediction]]


def match(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Matched:
    """Each row, in order, with its prediction. Raises DataFault where they are not one to one."""
    if not rows:
        raise DataFault(f"'{task.key}' has no gold rows to score against.")
    gold = Counter(row.id for row in rows)
    given = Counter(prediction.id for prediction in predictions)
    faults = {
        "gold ids appear more than once": [id_ for id_, times in gold.items() if times > 1],
        "gold rows have no prediction": [id_ for id_ in gold if id_ not in given],
        "ids are predicted more than once": [id_ for id_, times in given.items() if times > 1],
        "predictions have an unknown id": [id_ for id_ in given if id_ not in gold],
    }
    found = [f"{len(ids)} {fault}: {_first(ids)}." for fault, ids in faults.items() if ids]
    if found:
        raise DataFault(
            f"{len(predictions)} predictions do not fit the {len(rows)} gold rows of '{task.key}'.",
            why=" ".join(found),
            fix="Predict again on the same data: split, language and --limit must be equal.",
        )
    by_id = {prediction.id: prediction for prediction in predictions}
    return [(row, by_id[row.id]) for row in rows]


def _first(ids: Sequence[str], count: int = 3) -> str:
    return ", ".join(ids[:count]) + (", …" if len(ids) > count else "")


def _pair_accuracy(task: Task, matched: Matched) -> Metrics:
    impossible = [prediction.id for _, prediction in matched if prediction.prediction not in task.labels]
    _refuse(task, impossible, f"predict something else than a label ({', '.join(task.labels)})")
    right = sum(isinstance(row, PairRow) and row.label == given.prediction for row, given in matched)
    return {"accuracy": 100 * right / len(matched)}


def _choice_accuracy(task: Task, matched: Matched) -> Metrics:
    questions = [(row, given.prediction) for row, given in matched if isinstance(row, ChoiceRow)]
    impossible = [row.id for row, chosen in questions if str(chosen) not in map(str, range(len(row.choices)))]
    _refuse(task, impossible, "choose something else than the number of a choice")
    return {"accuracy": 100 * sum(str(row.label) == chosen for row, chosen in questions) / len(questions)}


def _tags(task: Task, matched: Matched) -> Metrics:
    gold = [list(row.tags) for row, _ in matched if isinstance(row, TagRow)]
    given = [str(prediction.prediction).split() for _, prediction in matched]
    pairs = list(zip(gold, given, strict=True))
    wrong = [row.id for (row, _), (tags, found) in zip(matched, pairs, strict=True) if len(tags) != len(found)]
    _refuse(task, wrong, "have more or fewer tags than words")
    right = sum(tag == other for tags, found in pairs for tag, other in zip(tags, found, strict=True))
    accuracy = {"accuracy": 100 * right / max(sum(map(len, gold)), 1)}
    return accuracy if task.metric == "accuracy" else tag_f1(gold, given) | accuracy


def tag_f1(gold: list[list[str]], given: list[list[str]], seqeval: Seqeval = "0.0.12") -> Metrics:
    """seqeval's micro ``f1``, ``precision`` and ``recall``, in percent; each sentence has as many tags in both.

    seqeval reads a tag as a prefix (its first letter) and a type. In 0.0.12, which the paper's group used
    (requirements-no-torch.txt of https://github.com/nyu-mll/jiant), the type is what follows the last hyphen, or else
    the whole tag. In 1.2.2 the first letter is no part of it: CCONJ and SCONJ become one type, and X a kind of O. Of
    tags with B- and I- (NER) both count the same, however ill-formed the sequence. XTREME pins no version.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support  # slow to import

    if seqeval == "0.0.12":
        gold, given = _with_whole_types(gold), _with_whole_types(given)
    with warnings.catch_warnings():
        # One warning per word where tags have no B- or I-.
        warnings.simplefilter("ignore", UserWarning)
        precision, recall, f1, _ = precision_recall_fscore_support(gold, given, average="micro", zero_division=0)
    return {"f1": 100 * float(f1), "precision": 100 * float(precision), "recall": 100 * float(recall)}


def _with_whole_types(sentences: list[list[str]]) -> list[list[str]]:
    """The tags as prefix, hyphen and type, of which seqeval 1.2.2 takes what 0.0.12 takes of the tags themselves."""
    # The full stop keeps a type from being "_", which is the type that 1.2.2 gives to O.
    return [[f"{tag[0]}-{tag.rpartition('-')[2]}." for tag in tags] for tags in sentences]


def _retrieval_accuracy(task: Task, matched: Matched) -> Metrics:
    known = {row.id for row, _ in matched}
    impossible = [prediction.id for _, prediction in matched if prediction.prediction not in known]
    _refuse(task, impossible, "retrieve something else than the id of a row")
    right = sum(isinstance(row, BitextRow) and row.id == given.prediction for row, given in matched)
    return {"accuracy": 100 * right / len(matched)}


def _squad(task: Task, matched: Matched, mlqa: str = "") -> Metrics:
    spans = [(row, given) for row, given in matched if isinstance(row, SpanRow)]
    _refuse(
        task,
        [given.id for row, given in spans if not _inside(given.prediction, row.context)],
        "predict characters outside the context",
    )
    rules = best_or_no_answer
    if task.metric != "squad_v2":
        _refuse(task, [row.id for row, _ in spans if not row.answers], "have no gold answer")
        rules = partial(best_over_golds, mlqa=mlqa)
    results = [rules(_text(row, given), [answer.text for answer in row.answers]) for row, given in spans]
    return {
        "exact_match": 100 * math.fsum(exact for exact, _ in results) / len(results),
        "f1": 100 * math.fsum(f1 for _, f1 in results) / len(results),
    }


def _inside(span: str | tuple[int, int], context: str) -> bool:
    return isinstance(span, tuple) and 0 <= span[0] <= span[1] <= len(context)


def _text(row: SpanRow, given: Prediction) -> str:
    assert isinstance(given.prediction, tuple)
    start, end = given.prediction
    return row.context[start:end]


def _refuse(task: Task, ids: Sequence[str], fault: str) -> None:
    if ids:
        raise DataFault(
            f"{len(ids)} examples of '{task.key}' {fault}: {_first(ids)}.",
            fix="Predict again on the same data: split, language and --limit must be equal.",
        )


_SCORERS: dict[Kind, tuple[type[Row], Callable[[Task, Matched], Metrics]]] = {
    "pair_classification": (PairRow, _pair_accuracy),
    "multiple_choice": (ChoiceRow, _choice_accuracy),
    "tagging": (TagRow, _tags),
    "span_qa": (SpanRow, _squad),
    "retrieval": (BitextRow, _retrieval_accuracy),
}
