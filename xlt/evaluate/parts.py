"""The score of a task as one ratio of two sums over its rows, so that rows can be compared one by one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

from xlt.data.predictions import Prediction
from xlt.data.rows import Row, scored_rows
from xlt.evaluate.metrics import METRICS, Scored, judged_metrics, whole_types
from xlt.tasks.record import ENGLISH, Task

Part = tuple[float, float]


def score_parts(
    task: Task,
    rows: Sequence[Row],
    predictions: Sequence[Prediction],
    language: str = ENGLISH,
    dev: Scored | None = None,
) -> dict[str, Part]:
    """What each row, by its id, adds to the two sums whose ratio is ``task_score``, as a share of 1.

    Accuracy: how many labels are right, and how many there are. F1 over entities: twice those that are right, and those
    of gold and predictions together. QA: exact match and F1, and 2. Mining has a part for each foreign sentence of a
    gold or mined pair.

    Raises:
        DataFault: predictions and rows do not fit each other.
    """
    gold, given = METRICS[task.metric].prepare(task, rows, predictions, dev)
    if task.metric == "mining_f1":
        mined: dict[str, Part] = {}
        for pairs, other in ((gold, {*given}), ({*given}, gold)):
            for pair in pairs:
                right, all_of = mined.get(pair[0], (0.0, 0.0))
                mined[pair[0]] = right + (pair in other), all_of + 1
        return mined
    with warnings.catch_warnings():
        # seqeval's, one per word where tags have no B- or I-.
        warnings.simplefilter("ignore", UserWarning)
        scored = zip(scored_rows(rows), gold, given, strict=True)
        return {row.id: _part(task, right, said, language) for row, right, said in scored}


def _part(task: Task, right: list[str], said: Any, language: str) -> Part:
    if task.metric == "accuracy":
        return sum(one == other for one, other in zip(right, said, strict=True)), len(right)
    if task.metric == "tag_f1":
        from seqeval.metrics.sequence_labeling import get_entities  # slow to import

        wanted, found = ({*get_entities(tags)} for tags in whole_types([right, said]))
        return 2 * len(wanted & found), len(wanted) + len(found)
    names = judged_metrics(task)
    values = METRICS[task.metric].compare([right], [said], language)
    return sum(values[name] for name in names) / 100, len(names)


def distinct_answers(task: Task, predictions: Sequence[Prediction]) -> set[str]:
    """What a model answers, over all rows: of tagging the tags of words."""
    if task.kind == "tagging":
        return {tag for each in predictions for tag in str(each.prediction).split()}
    return {json.dumps(each.prediction).strip('"') for each in predictions}
