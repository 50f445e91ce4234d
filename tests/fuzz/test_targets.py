"""Damaged files of every reader, drawn by hypothesis: what comes out is what was read, or an error of ours.

The same readers under a coverage-guided fuzzer: ``make fuzz``.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

pytest.importorskip("hypothesis", reason="hypothesis is not installed: make test installs it")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import METADATA, RECORDS, Target, attempt, parquet, targets
from xlt.strict_json import parse_json
from xlt.train.state import _generators

NAMES = sorted(targets())
JSON_NAMES = [name for name in NAMES if targets()[name].path.endswith((".json", ".jsonl", ".lock"))]
# The same inputs at every run, and no test fails because the machine is busy.
FAST = settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**63, 1e308])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["../../x", "a\0b", "\x1b[2J", "x" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sound_is_read(name: str, tmp_path: Path) -> None:
    target = targets()[name]
    assert attempt(target, target.sound, tmp_path) is None


@st.composite
def cut_and_joined(draw: st.DrawFn, sound: bytes) -> bytes:
    """``sound`` with a piece of it replaced by another piece, or by any bytes."""
    ends = st.integers(0, len(sound))
    (first, last), (begin, end) = (sorted((draw(ends), draw(ends))) for _ in range(2))
    inserted = draw(st.just(sound[begin:end]) | st.binary(max_size=8))
    return sound[:first] + inserted + sound[last:]


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    target = targets()[name]
    ended: list[bool] = []

    @FAST
    @given(cut_and_joined(target.sound))
    def read(data: bytes) -> None:
        ended.append(attempt(target, data, tmp_path) is not None)

    read()
    assert any(ended)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: the list or object, and the index or name in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in [*inner] for place in ((value, key), *places(each))]


@st.composite
def other_values(draw: st.DrawFn, target: Target) -> bytes:
    """The documents of a sound file, with other values, or none, in one or two places."""
    lines = target.sound.splitlines() if target.path.endswith(".jsonl") else [target.sound]
    documents = [parse_json(line) for line in lines]
    for _ in range(draw(st.integers(1, 2))):
        found = places(documents)
        holder, key = found[draw(st.integers(0, len(found) - 1))]
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = draw(VALUES)
    return b"\n".join(json.dumps(each).encode("utf-8", "surrogatepass") for each in documents)


@pytest.mark.parametrize("name", JSON_NAMES)
def test_other_values_in_a_document_are_read_or_refused(name: str, tmp_path: Path) -> None:
    target = targets()[name]
    ended: list[bool] = []

    @FAST
    @given(other_values(target))
    def read(data: bytes) -> None:
        ended.append(attempt(target, data, tmp_path) is not None)

    read()
    assert any(ended)


CELLS = st.one_of(
    st.none(),
    st.integers(-2, 8),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.lists(st.integers(-2, 3) | st.none(), max_size=3),
    st.lists(st.text(max_size=3) | st.none(), max_size=3),
    st.lists(st.binary(max_size=2), max_size=3),
    st.fixed_dictionaries({"text": st.lists(st.text(max_size=3)), "answer_start": st.lists(st.integers(-2, 30))}),
    st.fixed_dictionaries({"text": st.none() | st.just(["a", "b"]), "label": st.none() | st.just(["A"])}),
)


ODD_METADATA = [METADATA, {b"huggingface": b"[1]"}, {b"huggingface": b"{"}]


@pytest.mark.parametrize("key", RECORDS)
def test_columns_of_other_types_are_read_or_refused(key: str, tmp_path: Path) -> None:
    target = targets()[f"parquet/{key}"]
    columns = sorted(RECORDS[key][0])
    ended: list[bool] = []

    @FAST
    @given(st.sampled_from(columns), CELLS, st.sampled_from(ODD_METADATA))
    def read(column: str, cell: Any, metadata: dict[bytes, bytes]) -> None:
        data = parquet([{**RECORDS[key][0], column: cell}], metadata)
        ended.append(attempt(target, data, tmp_path) is not None)

    read()
    assert any(ended)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *[(name, b"a = " + b"[" * 100_000) for name in ("tier", "claims", "given")],
        ("heads", b'{"mnli": {"kind": "pair_classification", "labels": 100000000}}'),
        ("parquet/bucc2018", parquet([{**RECORDS["bucc2018"][0], "sentence1": [b"Eins", b"Zwei"]}])),
        ("checkpoint/generators-0.safetensors", save(_generators() | {"numpy": torch.tensor([2**46, 0])})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_found_once_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    assert attempt(targets()[name], data, tmp_path) is not None


@pytest.mark.parametrize("name", ["predictions", "files/xnli/dev-de.tsv.gz", "score/tatoeba", "files/xnli/dev-de.tsv"])
def test_what_takes_more_than_memory_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("data.predictions", "data.files.reading", "evaluate.submission"):
        monkeypatch.setattr(f"xlt.{module}.MOST_BYTES", 1000)
    target = targets()[name]
    packed = target.path.endswith(".gz")
    content = gzip.decompress(target.sound) if packed else target.sound
    data = (gzip.compress if packed else bytes)(content * 300)
    assert len(data) < 1000 or not packed
    fault = attempt(target, data, tmp_path)
    assert fault is not None
    assert re.search(r"more than (1000 bytes|such a file ever has)|\d{4} bytes, more than", str(fault))
