"""Sequences kept on disk: cold, warm and damaged give what no cache gives, and nothing there is ever an error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from tests.conftest import SYLLABLES
from xlt.data import encodings, features
from xlt.data.encodings import encodings_folder, keeping, kept_bytes
from xlt.data.features import encode
from xlt.data.packing import Encoded
from xlt.data.rows import Answer, BitextRow, ChoiceRow, PairRow, Row, SpanRow, TagRow, TextRow
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.retrieval.embed import encode_sentences
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task


def text(number: int, words: int = 6) -> str:
    return " ".join(Random(number).choices(SYLLABLES, k=words))


NUMBERS = range(9)
ROWS: dict[str, list[Row]] = {
    "mnli": [PairRow(str(n), text(n), text(n + 99), "neutral") for n in NUMBERS],
    "hellaswag": [ChoiceRow(str(n), text(n), (text(n + 1, 3 + n), text(n + 2)), 1) for n in NUMBERS],
    # Several windows, answers in some of them; a row of which nothing can be learned.
    "squad": [
        *(SpanRow(str(n), f"{text(n)}?", text(n, 300), (Answer(text(n, 300)[:5], 0),)) for n in NUMBERS),
        SpanRow("lost", "what?", text(0), (Answer("elsewhere", -1),)),
    ],
    "udpos": [TagRow(str(n), tuple(text(n, 5 + n).split()), ("NOUN", "VERB", *["X"] * (3 + n))) for n in NUMBERS],
    "mlm": [TextRow("all the same", text(n)) for n in NUMBERS],
    "tatoeba": [BitextRow(str(n), text(n), text(n + 1)) for n in NUMBERS],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return _tokenizer(tmp_path_factory.mktemp("tokenizer"), 100)


def _tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    train_tokenizer([text(number) for number in range(200)], vocabulary, folder)
    return load_tokenizer(str(folder))


@pytest.fixture(autouse=True)
def _few_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "FEWEST_ROWS", 2)


def _exact(sequences: Sequence[Encoded]) -> list[Any]:
    """Everything that a sequence holds, types and bits."""
    arrays = [[each.input_ids, each.offsets, each.words] for each in sequences]
    return [
        (each.example_id, each.label, each.lengths, [a if a is None else (a.dtype, a.shape, a.tobytes()) for a in mine])
        for each, mine in zip(sequences, arrays, strict=True)
    ]


def _refuse(*_: object) -> list[Encoded]:
    raise AssertionError("it is tokenized again")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("key", ROWS)
def test_cold_and_warm_are_bit_for_bit_what_is_made_without(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, training: bool
) -> None:
    task = get_task(key)
    if training and not task.trains_on:
        pytest.skip("nothing is trained on it")
    plain = _exact(encode(ROWS[key], task, tokenizer, training=training))
    with keeping(tmp_path / "kept"):
        cold = _exact(encode(ROWS[key], task, tokenizer, training=training))
        monkeypatch.setitem(features._ENCODERS, task.kind, _refuse)
        warm = encode(ROWS[key], task, tokenizer, training=training)
    assert plain == cold == _exact(warm)
    assert all(type(number) is int for each in warm for number in each.label + each.lengths)
    assert len([*(tmp_path / "kept").iterdir()]) == 1
    with pytest.raises(AssertionError, match="tokenized again"):
        encode(ROWS[key], task, tokenizer, training=training)  # outside of the block nothing is read


def test_sentences_are_kept_by_their_texts_and_length(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    texts = [text(n, 12) for n in NUMBERS]
    with keeping(tmp_path):
        twice = [_exact(encode_sentences(texts, tokenizer, 10)) for _ in range(2)]
        assert len([*tmp_path.iterdir()]) == 1
        encode_sentences(texts, tokenizer, 9)
        encode_sentences(texts[:-1], tokenizer, 10)
    assert twice == [_exact(encode_sentences(texts, tokenizer, 10))] * 2
    assert len([*tmp_path.iterdir()]) == 3


def _flip(place: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    return damage


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _of_others(path: Path) -> None:
    save_file({"input_ids": np.zeros(3, dtype=np.int32)}, path)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [_flip(-1), _flip(0), _flip(60), _cut_short, lambda path: path.write_bytes(b""), _of_others, _a_folder, _a_pipe],
    ids=["last byte", "first byte", "header", "cut short", "empty", "another's file", "folder", "pipe"],
)
def test_what_is_damaged_is_made_again(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    made = {key: _exact(encode(ROWS[key], get_task(key), tokenizer, training=True)) for key in ("squad", "mnli")}
    with keeping(tmp_path):
        encode(ROWS["squad"], get_task("squad"), tokenizer, training=True)
        (path,) = tmp_path.iterdir()
        whole = path.read_bytes()
        damage(path)
        assert _exact(encode(ROWS["squad"], get_task("squad"), tokenizer, training=True)) == made["squad"]
        if path.is_file():  # and it is whole again
            assert encodings._read(path, path.stem) is not None
        # One whole file under the name of another.
        encode(ROWS["mnli"], get_task("mnli"), tokenizer, training=True)
        (other,) = set(tmp_path.iterdir()) - {path}
        other.write_bytes(whole)
        assert _exact(encode(ROWS["mnli"], get_task("mnli"), tokenizer, training=True)) == made["mnli"]


def test_all_that_decides_the_tokens_decides_the_file(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squad, rows = get_task("squad"), ROWS["squad"]
    folder = tmp_path / "kept"
    made = []

    def keep(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool = True) -> None:
        with keeping(folder):
            kept = _exact(encode(rows, task, tokenizer, training=training))
        assert kept == _exact(encode(rows, task, tokenizer, training=training))
        made.append(len([*folder.iterdir()]))

    keep(rows, squad, tokenizer)
    keep(rows, squad, tokenizer, training=False)
    keep(rows, replace(squad, recipe=replace(squad.recipe, max_length=90)), tokenizer)
    keep(rows, replace(squad, recipe=replace(squad.recipe, stride=3)), tokenizer)
    keep(rows, replace(squad, metric="squad_v2"), tokenizer)
    keep([replace(rows[0], question="why?"), *rows[1:]], squad, tokenizer)  # type: ignore[type-var]
    keep([*rows[1:], rows[0]], squad, tokenizer)
    keep(rows, squad, _tokenizer(tmp_path / "other", 60))
    capitals = load_tokenizer(str(tmp_path / "other"))
    capitals.truncation_side = "left"
    keep(rows, squad, capitals)
    with monkeypatch.context() as patch:
        patch.setattr(encodings, "_code", lambda: "another version")
        keep(rows, squad, tokenizer)
    mnli = get_task("mnli")
    keep(ROWS["mnli"], mnli, tokenizer)
    keep(ROWS["mnli"], replace(mnli, labels=mnli.labels[::-1]), tokenizer)
    assert made == [*range(1, len(made) + 1)]
    # What only training reads does not: arms with another learning rate or seed read the same file.
    keep(rows, replace(squad, recipe=replace(squad.recipe, learning_rate=1.0, batch_size=2)), tokenizer)
    # Nor does what the tokenizer did before.
    tokenizer("one text", truncation=True, max_length=4, padding="max_length")
    keep(rows, squad, tokenizer)
    assert made[-1] == made[-3]


def test_the_folder_is_bounded_and_the_longest_unread_go_first(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ROWS["mnli"][n:] for n in range(3)]
    with keeping(tmp_path):
        for each in rows[:2]:
            encode(each, get_task("mnli"), tokenizer, training=False)
        first, second = sorted(tmp_path.iterdir(), key=lambda path: -path.stat().st_size)
        monkeypatch.setattr(encodings, "MOST_BYTES", kept_bytes(tmp_path) + 9)
        for path in (first, second):
            os.utime(path, (1, 1))
        encode(rows[0], get_task("mnli"), tokenizer, training=False)
        encode(rows[2], get_task("mnli"), tokenizer, training=False)
        assert (first.exists(), second.exists(), len([*tmp_path.iterdir()])) == (True, False, 2)
        # What is larger than all may be is not kept.
        monkeypatch.setattr(encodings, "MOST_BYTES", 10)
        encode(rows[1], get_task("mnli"), tokenizer, training=False)
        assert [*tmp_path.iterdir()] == []


def test_a_full_disk_or_a_file_in_the_way_is_no_error(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _exact(encode(ROWS["mnli"], get_task("mnli"), tokenizer, training=True))
    (tmp_path / "file").write_text("mine")
    with keeping(tmp_path / "file"):
        assert _exact(encode(ROWS["mnli"], get_task("mnli"), tokenizer, training=True)) == plain
    assert (tmp_path / "file").read_text() == "mine"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encodings, "save_file", full)
    with keeping(tmp_path / "full"):
        assert _exact(encode(ROWS["mnli"], get_task("mnli"), tokenizer, training=True)) == plain
    assert [*(tmp_path / "full").iterdir()] == []


def test_few_rows_and_refused_rows_leave_no_file(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings, "FEWEST_ROWS", 10)
    with keeping(tmp_path):
        encode(ROWS["mnli"], get_task("mnli"), tokenizer, training=True)
        monkeypatch.setattr(encodings, "FEWEST_ROWS", 1)
        assert encode([], get_task("mnli"), tokenizer, training=True) == []
        assert encode([PairRow("blank", "", "", "neutral")], get_task("mnli"), tokenizer, training=True) == []
        with pytest.raises(Exception, match="has the tag 'LOST'"):
            encode([TagRow("1", ("a",), ("LOST",))] * 2, get_task("udpos"), tokenizer, training=True)
    assert [*tmp_path.iterdir()] == []


def test_the_folder_is_the_user_s_cache_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XLT_ENCODINGS", "off")
    assert encodings_folder() is None
    monkeypatch.setenv("XLT_ENCODINGS", str(tmp_path))
    assert encodings_folder() == tmp_path
    monkeypatch.delenv("XLT_ENCODINGS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert encodings_folder() == tmp_path / "cache/xlt/encodings"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert encodings_folder() == tmp_path / ".cache/xlt/encodings"
