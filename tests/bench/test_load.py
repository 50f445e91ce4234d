"""Loading beside ``datasets.map``: both sides make the same ids in every kind, or nothing is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from transformers import PreTrainedTokenizerBase

from tests.conftest import SYLLABLES
from xlt.bench import load
from xlt.bench.load import STAGES, LoadBench, bench_load
from xlt.cli import bench, output
from xlt.cli.options import DataOptions
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


def test_a_row_per_stage_each_with_the_one_before(tiny_files: Path) -> None:
    opened: list[FilesSource] = []

    def open_source() -> FilesSource:
        opened.append(FilesSource(tiny_files))
        return opened[-1]

    result = bench_load(open_source, "xnli", "", 120, 3)
    assert len(opened) == 1 + 3  # every repeat reads the files again
    assert (result.task, result.source, result.timed_rows, result.left_out) == ("mnli", "files", 48, 0)
    assert result.tokens > 48 * 8
    assert tuple(row.name for row in result.rows) == STAGES
    assert [row.ours_s for row in result.rows] == sorted(row.ours_s for row in result.rows)
    for row in result.rows:
        assert row.ours_rows_per_s == pytest.approx(48 / row.ours_s)
        assert row.peer_s == result.rows[0].peer_s > 0
        assert row.ratio_p10 <= row.ratio <= row.ratio_p90


def test_the_command_prints_one_document_or_a_table(
    tiny_files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for as_json in (True, False):
        monkeypatch.setattr(output.settings, "as_json", as_json)
        bench.load(DataOptions(source="files", data_root=tiny_files, limit=20), repeats=1)
        printed = capsys.readouterr().out
        if as_json:
            assert LoadBench.model_validate(json.loads(printed)).timed_rows == 20
        else:
            assert "map alone, rows/s" in printed
            assert "load + tokenise + pack" in printed
