"""The metrics of one task, split and language, from gold rows and stored predictions alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from xlt.data.predictions import Prediction
from xlt.data.rows import MiningRow, Row
from xlt.evaluate.metrics import Metrics, score
from xlt.evaluate.mining import best_threshold, mining_f1
from xlt.tasks.record import Task

Scored: TypeAlias = tuple[Sequence[Row], Sequence[Prediction]]


def score_cell(
    task: Task,
    rows: Sequence[Row],
    predictions: Sequence[Prediction],
    dev: Scored | None = None,
    language: str = "en",
) -> Metrics:
    """The metrics of ``predictions`` against the gold ``rows`` of one language, in percent.

    For mining, the candidates that count are those above the threshold of best F1 on ``dev`` (rows and predictions of
    the same language); on the dev split itself the threshold is fitted on what is scored, as in jiant.

    Raises:
        DataFault: predictions and rows do not fit each other.
    """
    if task.metric != "mining_f1":
        return score(task, rows, predictions, language)
    fitted_rows, fitted = dev or (rows, predictions)
    threshold, _ = best_threshold(fitted, gold_pairs(fitted_rows))
    return mining_f1(predictions, gold_pairs(rows), threshold)


def gold_pairs(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """The pairs of foreign and English id that are translations of each other."""
    return {(row.id, match) for row in rows if isinstance(row, MiningRow) for match in row.matches}
