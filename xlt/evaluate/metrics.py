"""Metrics of a task from gold rows and predictions, in percent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow, PairRow, Row, SpanRow
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.squad import best_over_golds
from xlt.tasks.record import Kind, Task

Metrics = dict[str, float]


def score(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Metrics:
    """The metrics of ``predictions`` against the gold ``rows``, in percent; no order matters.

    Pair classification and retrieval give ``accuracy``; span QA ``exact_match`` and ``f1``, best over the
    gold answers (SQuAD v1.1 rules).

    Raises:
        DataFault: not every row has exactly one prediction, a prediction has no row, or one is impossible for
            its row (a label or id that does not exist, offsets outside the context).
        UsageFault: the task's kind has no such metric.
    """
    if task.kind not in _SCORERS:
        raise UsageFault(f"'{task.key}' ({task.kind}) is not scored from predictions.", mend="xlt tasks ls")
    row_type, scorer = _SCORERS[task.kind]
    if not all(isinstance(row, row_type) for row in rows):
        raise DataFault(f"The gold rows of '{task.key}' ({task.kind}) are not all of type {row_type.__name__}.")
    return scorer(task, _match(task, rows, predictions))


def task_score(metrics: Metrics) -> float:
    """The one number of a task in the paper's tables: accuracy, or the mean of F1 and exact match."""
    if "accuracy" in metrics:
        return metrics["accuracy"]
    return (metrics["f1"] + metrics["exact_match"]) / 2


Matched = list[tuple[Row, Prediction]]


def _match(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Matched:
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
            mend="Predict again on the same data: split, language and --limit must be equal.",
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


def _retrieval_accuracy(task: Task, matched: Matched) -> Metrics:
    known = {row.id for row, _ in matched}
    impossible = [prediction.id for _, prediction in matched if prediction.prediction not in known]
    _refuse(task, impossible, "retrieve something else than the id of a row")
    right = sum(isinstance(row, BitextRow) and row.id == given.prediction for row, given in matched)
    return {"accuracy": 100 * right / len(matched)}


def _squad(task: Task, matched: Matched) -> Metrics:
    spans = [(row, given) for row, given in matched if isinstance(row, SpanRow)]
    _refuse(
        task,
        [given.id for row, given in spans if not _inside(given.prediction, row.context)],
        "predict characters outside the context",
    )
    _refuse(task, [row.id for row, _ in spans if not row.answers], "have no gold answer")
    results = [_span_result(row, given) for row, given in spans]
    return {
        "exact_match": 100 * math.fsum(exact for exact, _ in results) / len(results),
        "f1": 100 * math.fsum(f1 for _, f1 in results) / len(results),
    }


def _inside(span: str | tuple[int, int], context: str) -> bool:
    return isinstance(span, tuple) and 0 <= span[0] <= span[1] <= len(context)


def _span_result(row: SpanRow, given: Prediction) -> tuple[float, float]:
    assert isinstance(given.prediction, tuple)
    start, end = given.prediction
    return best_over_golds(row.context[start:end], (answer.text for answer in row.answers))


def _refuse(task: Task, ids: Sequence[str], fault: str) -> None:
    if ids:
        raise DataFault(
            f"{len(ids)} examples of '{task.key}' {fault}: {_first(ids)}.",
            mend="Predict again on the same data: split, language and --limit must be equal.",
        )


_SCORERS: dict[Kind, tuple[type[Row], Callable[[Task, Matched], Metrics]]] = {
    "pair_classification": (PairRow, _pair_accuracy),
    "span_qa": (SpanRow, _squad),
    "retrieval": (BitextRow, _retrieval_accuracy),
}
