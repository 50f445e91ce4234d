"""Predictions in the words of an XTREME submission file."""

from __future__ import annotations

import json
from collections.abc import Sequence

from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow, Row, SpanRow
from xlt.errors import UsageFault
from xlt.evaluate.cell import Scored, gold_pairs
from xlt.evaluate.metrics import match
from xlt.evaluate.mining import best_threshold
from xlt.tasks.record import Task


def submission_text(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction], dev: Scored | None) -> str:
    """What ``test-LANGUAGE.*`` holds for the test ``rows`` of one language, in their order.

    Labels and tags stand one on a line (a blank line after each sentence; 1 for a paraphrase and 0 for none);
    answers in one JSON object from question id to text. Mining writes the pairs above the threshold of best F1 on
    ``dev``. Tatoeba's English sentences are put in alphabetical order, as XTREME's download does, and each has the
    number of its foreign line, from 0.

    Raises:
        DataFault: predictions and rows do not fit each other.
        UsageFault: mining has no ``dev``.
    """
    if task.metric == "mining_f1":
        if dev is None:
            raise UsageFault(f"'{task.key}' is submitted with the threshold that is best on its dev split.")
        threshold, _ = best_threshold(dev[1], gold_pairs(dev[0]))
        kept = (each for each in predictions if each.score >= threshold)
        return "".join(f"{each.id}\t{each.prediction}\n" for each in kept)
    matched = match(task, rows, predictions)
    if task.kind == "span_qa":
        texts = {row.id: row.context[slice(*each.prediction)] for row, each in matched if isinstance(row, SpanRow)}
        return json.dumps(texts, ensure_ascii=False, indent=1) + "\n"
    said = [str(each.prediction) for _, each in matched]
    if task.kind == "tagging":
        return "".join("\n".join(tags.split()) + "\n\n" for tags in said)
    if task.key == "pawsx":
        said = [str(task.labels.index(label)) for label in said]
    if task.kind == "retrieval":
        numbers = {row.id: str(number) for number, row in enumerate(rows)}
        english = [row.english.strip() for row in rows if isinstance(row, BitextRow)]
        said = [numbers[said[place]] for place in sorted(range(len(rows)), key=english.__getitem__)]
    return "\n".join(said) + "\n"
