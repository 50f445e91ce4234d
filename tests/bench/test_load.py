"""Loading beside ``datasets.map``: both sides make the same ids in every kind, or nothing is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from transformers import PreTrainedTokenizerBase

from tests.conftest import SYLLABLES
from xlt.bench import load
from xlt.bench.load import bench_load
from xlt.data import encodings
from xlt.data.features import encode
from xlt.data.files.source import FilesSource
from xlt.data.rows import Answer, BitextRow, ChoiceRow, PairRow, Row, SpanRow, TagRow, TextRow
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import EnvironmentFault
from xlt.tasks.catalogue import get_task


def text(number: int, words: int = 6) -> str:
    return " ".join(Random(number).choices(SYLLABLES, k=words))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([text(number) for number in range(200)], 100, folder)
    return load_tokenizer(str(folder))


def tagged(number: int, words: list[str]) -> TagRow:
    return TagRow(str(number), tuple(words), ("NOUN",) * len(words))


ROWS: dict[str, list[Row]] = {
    "mnli": [PairRow(str(n), text(n), text(n + 99), "neutral") for n in range(30)],
    "hellaswag": [ChoiceRow(str(n), text(n), (text(n + 1), text(n + 2)), 1) for n in range(30)],
    # Longer than a window, so that one row makes several sequences.
    "squad": [SpanRow(str(n), f" {text(n)}?", text(n, 500), (Answer(text(n, 2), 0),)) for n in range(30)],
    "udpos": [tagged(n, text(n).split()) for n in range(30)],
    "mlm": [TextRow(str(n), text(n)) for n in range(30)],
    "tatoeba": [BitextRow(str(n), text(n), text(n + 1)) for n in range(30)],
}


@pytest.mark.parametrize("key", ROWS)
def test_both_sides_make_the_same_ids_in_every_kind(tokenizer: PreTrainedTokenizerBase, key: str) -> None:
    rows = ROWS[key]
    assert load._agreeing(rows, get_task(key), tokenizer) == rows


def test_a_row_with_other_ids_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    # By XTREME's rule a word without a token becomes the unknown token; a plain call skips it.
    rows = [*ROWS["udpos"], tagged(99, ["ba", "", "de"])]
    assert load._agreeing(rows, get_task("udpos"), tokenizer) == ROWS["udpos"]


def test_other_ids_in_many_rows_stop_the_clock(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(*arguments: object, **options: object) -> object:
        return [replace(each, input_ids=each.input_ids + 1) for each in encode(*arguments, **options)]  # type: ignore[arg-type]

    monkeypatch.setattr(load, "encode", shifted)
    with pytest.raises(EnvironmentFault, match="Nothing was timed: the token ids of 30 of 30 rows differ"):
        load._agreeing(ROWS["mnli"], get_task("mnli"), tokenizer)


def test_every_round_reads_the_files_again_and_packs_what_the_library_maps(
    tiny_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (load, encodings):
        monkeypatch.setattr(module, "FEWEST_ROWS", 40)
    opened: list[FilesSource] = []

    def open_source() -> FilesSource:
        opened.append(FilesSource(tiny_files))
        return opened[-1]

    result = bench_load(open_source, "xnli", "", 120, 3)
    assert len(opened) == 1 + 1 + 3  # to compare, to warm up, and in every round
    assert (result.settings["task"], result.settings["source"], result.settings["left_out"]) == ("mnli", "files", 0)
    (row,) = result.workloads
    assert (row.quantity["rows"], row.rounds) == (48, 3)
    assert row.quantity["tokens"] > 48 * 8
    whole, *others = row.timings
    assert [timing.name for timing in others] == [
        "tokenise + pack",
        "tokenise",
        "read what the disk keeps",
        "datasets.map alone, batches of 1000",
        "datasets.map alone, batches of 10000",
    ]
    assert whole.ratio == 1
    assert all(timing.seconds for timing in row.timings)
