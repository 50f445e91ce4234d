"""Stored predictions: the same bytes every time, and broken files named by line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from xlt.data import predictions
from xlt.data.predictions import Prediction, read_predictions, write_predictions
from xlt.errors import DataFault

PREDICTIONS = [
    Prediction("1", "entailment", 1 / 3),
    Prediction("q-2", (3, 17), -12.34567891),
    Prediction("ж\u2028x", "de-000017", 1e-12),
]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_predictions(tmp_path / "deep" / "xnli.test.de.jsonl.gz", PREDICTIONS)
    assert read_predictions(tmp_path / "deep" / "xnli.test.de.jsonl.gz") == PREDICTIONS


def test_scores_have_six_significant_digits() -> None:
    assert [prediction.score for prediction in PREDICTIONS] == [0.333333, -12.3457, 1e-12]


def test_bytes_depend_on_the_predictions_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_predictions(tmp_path / "a.jsonl.gz", PREDICTIONS)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_predictions(tmp_path / "b.jsonl.gz", iter(PREDICTIONS))
    stored = (tmp_path / "a.jsonl.gz").read_bytes()
    assert stored == (tmp_path / "b.jsonl.gz").read_bytes()
    flags, time_stamp = stored[3], stored[4:8]
    assert (flags, time_stamp) == (0, bytes(4))  # no file name, no time


def test_no_predictions_is_a_valid_file(tmp_path: Path) -> None:
    write_predictions(tmp_path / "none.jsonl.gz", [])
    assert read_predictions(tmp_path / "none.jsonl.gz") == []


def test_a_score_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_predictions(tmp_path / "x.jsonl.gz", [Prediction("1", "a", float("nan"))])
    assert not (tmp_path / "x.jsonl.gz").exists()


GOOD = b'{"id":"1","prediction":"a","score":0.5}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id":"1"', "not a line of JSON"),
        (b"", "not a line of JSON"),
        (b"\xff", "not a line of JSON"),
        (b'["1","a",0.5]', "exactly the keys"),
        (b'{"id":"1","prediction":"a"}', "exactly the keys"),
        (b'{"id":"1","prediction":"a","score":1,"text":"x"}', "exactly the keys"),
        (b'{"id":1,"prediction":"a","score":1}', "the id is not text"),
        (b'{"id":"1","prediction":"a","score":NaN}', "not a line of JSON"),
        (b'{"id":"1","prediction":"a","score":1e999}', "not a line of JSON.\nthe number 1e999 is too large"),
        (b'{"id":"1","prediction":"a","score":1' + b"0" * 400 + b"}", "not a finite number"),
        (b'{"id":"1","prediction":"a","score":' + b"1" * 10_000 + b"}", "not a line of JSON"),
        (b'{"id":"1","id":"2","prediction":"a","score":1}', "not a line of JSON.\n'id' stands twice in one object"),
        (b'{"id":"\\ud800","prediction":"a","score":1}', "not a line of JSON"),
        (b"[" * 100_000, "not a line of JSON.\nrecursion limit exceeded"),
        (b'{"id":"1","prediction":"a","score":"1"}', "not a finite number"),
        (b'{"id":"1","prediction":"a","score":true}', "not a finite number"),
        (b'{"id":"1","prediction":' + b"[" * 10_000, "not a line of JSON"),
        (b'{"id":"1","prediction":"a","score":' + b"1" * 5_000 + b"}", "not a line of JSON"),
        (b'{"id":"1","prediction":[1],"score":1}', "neither text nor"),
        (b'{"id":"1","prediction":[1,2.5],"score":1}', "neither text nor"),
        (b'{"id":"1","prediction":[true,2],"score":1}', "neither text nor"),
        (b'{"id":"1","prediction":null,"score":1}', "neither text nor"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "xquad.test.ru.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD + b"\n" + line + b"\n"))
    with pytest.raises(DataFault, match=f"xquad.test.ru.jsonl.gz:2: .*{message}"):
        read_predictions(path)


def test_a_small_file_that_unpacks_to_more_than_memory_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress((GOOD + b"\n") * 50))
    monkeypatch.setattr(predictions, "MOST_BYTES", 100 * len(GOOD))
    assert len(read_predictions(path)) == 50
    for many in ((GOOD + b"\n") * 200, b" " * 10_000):
        path.write_bytes(gzip.compress(many))
        with pytest.raises(DataFault, match=r"p\.jsonl\.gz:\d+: "):
            read_predictions(path)


def test_a_file_that_is_absent_cut_short_or_no_gzip(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    with pytest.raises(DataFault, match=r"no predictions file 'p.jsonl.gz'"):
        read_predictions(path)
    write_predictions(path, PREDICTIONS * 100)
    whole = path.read_bytes()
    for damaged in (whole[:-9], b"plain text", whole[:20] + bytes(8) + whole[28:]):
        path.write_bytes(damaged)
        with pytest.raises(DataFault, match=r"p.jsonl.gz:\d+: "):
            read_predictions(path)


def test_a_small_file_that_unpacks_to_a_long_line_or_too_many_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id":"' + b"x" * 2**22, mtime=0))
    with pytest.raises(DataFault) as caught:
        read_predictions(path)
    assert caught.value.why == "a line has more than 1048576 bytes."
    path.write_bytes(gzip.compress(b'{"id":"a","prediction":"b","score":0.5}\n' * 9, mtime=0))
    assert len(read_predictions(path, 9)) == 9
    with pytest.raises(DataFault, match="has more than 8 lines"):
        read_predictions(path, 8)
