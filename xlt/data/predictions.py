"""Predictions as they are stored: one JSON line per example, gzip without a time stamp."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xlt.errors import DataFault
from xlt.strict_json import MOST_BYTES, parse_json, reason, regular

LONGEST_LINE = 2**20  # a sentence of 10,000 words has a tenth of that
MOST_RANKED = 20  # candidates of a query that are kept, and scored
LARGEST_SCORE = (2 - 2**-23) * 2.0**127  # models compute in 32 bits


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model predicts for one example. It never holds text of a data set."""

    id: str
    """The id of the row; in mining that of a foreign sentence."""
    prediction: str | tuple[int, int]
    """Pair classification: the label. Multiple choice: the index of the choice, "0" for the first. Tagging: one tag per
    word, joined by blanks. Span QA: the characters ``[start, end)`` of the context, ``(0, 0)`` for no answer (SQuAD
    v2.0) or none found. Retrieval and mining: the id of the English row found; in a pool of candidates the ids
    of the nearest 20, best first, joined by blanks."""
    score: float
    """How sure the model is, with 6 significant digits. Pair classification: the probability of the label. Multiple
    choice: that of the choice among the choices. Tagging: the mean probability of the tags. Span QA: start and end
    logit added, those of the first token for no answer. Retrieval: the cosine, of the first candidate. Mining: the
    margin."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", float(f"{self.score:.6g}"))


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``predictions`` as ``.jsonl.gz``: the same bytes for the same predictions, whatever the name.

    Another version of zlib may compress the same lines to other bytes.

    Raises:
        ValueError: a score is not finite; JSON has no such number.
    """
    # Neither name nor time in the gzip header: equal predictions are equal files, and their SHA-256 proves it.
    stored = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=stored, compresslevel=9, mtime=0) as file:
        for prediction in predictions:
            record = {"id": prediction.id, "prediction": prediction.prediction, "score": prediction.score}
            file.write(json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stored.getvalue())


def read_predictions(path: Path, most: int | None = None) -> list[Prediction]:
    """The predictions of a file that ``write_predictions`` wrote, in its order.

    Raises:
        DataFault: the file is absent, no gzip, cut short, has more than ``most`` lines, or a line is not a prediction
            (``file:line``).
    """
    predictions: list[Prediction] = []
    try:
        for number, line in enumerate(_lines(path), start=1):
            if most is not None and number > most:
                raise DataFault(f"{path.name} has more than {most} lines, many more than there are examples.")
            predictions.append(_parse(line, f"{path.name}:{number}"))
    except FileNotFoundError as error:
        raise DataFault(f"There is no predictions file '{path.name}'.", fix="Run the same command again.") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        where = f"{path.name}:{len(predictions) + 1}"
        raise DataFault(f"{where}: the gzip file is damaged or cut short.", why=f"{reason(error)}.") from error
    return predictions


def _lines(path: Path) -> Iterator[bytes]:
    left = MOST_BYTES  # a small gzip file may unpack to more than memory holds
    with gzip.open(regular(path), "rb") as file:
        while line := file.readline(min(left, LONGEST_LINE)):
            if len(line) == LONGEST_LINE:
                raise ValueError(f"a line has more than {LONGEST_LINE} bytes")
            if (left := left - len(line)) <= 0:
                raise ValueError(f"it unpacks to more than {MOST_BYTES} bytes")
            yield line


def _parse(line: bytes, where: str) -> Prediction:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise DataFault(f"{where}: not a line of JSON.", why=f"{reason(error)}.") from error
    if not isinstance(record, dict) or set(record) != {"id", "prediction", "score"}:
        raise DataFault(f"{where}: a prediction has exactly the keys id, prediction and score.")
    if not isinstance(record["id"], str):
        raise DataFault(f"{where}: the id is not text.")
    score = record["score"]
    if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= LARGEST_SCORE:
        raise DataFault(f"{where}: the score is not a finite number of 32 bits, as models compute.")
    found = record["prediction"]
    if isinstance(found, list) and len(found) == 2 and all(type(part) is int for part in found):
        found = (found[0], found[1])
    elif not isinstance(found, str):
        raise DataFault(f"{where}: the prediction is neither text nor a pair of character offsets.")
    return Prediction(record["id"], found, score)
