"""Sentence vectors against baselines: what each of them does, and that other vectors stop the clock."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from xlt.bench import embed
from xlt.bench.embed import batches_of_slots, bench_embed, library_encoder
from xlt.bench.shapes import random_sequences
from xlt.model.encoder import PackedModel


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "SENTENCES", {"small": 24})
    monkeypatch.setattr(embed, "BATCH", {"small": 2})


def test_every_baseline_runs_or_says_why_not() -> None:
    sentences, forwards = bench_embed("small", 1).workloads
    assert (sentences.quantity["sentences"], forwards.quantity["tokens"]) == (24, 256)
    absent = {each.name: each.not_run for each in (*sentences.timings, *forwards.timings) if each.not_run}
    missing = {name: why for name, why in absent.items() if "torch.compile" not in name}
    assert len(absent) - len(missing) == 2
    if not find_spec("sentence_transformers"):
        assert list(missing.values()) == ["No module named 'sentence_transformers'"] * 2
    assert all(name.startswith("sentence-transformers") for name in missing)
    assert all(each.seconds for each in sentences.timings if not each.not_run)
    assert "slots per token by length" in sentences.about


def test_other_vectors_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(model: PackedModel, layers: int) -> Any:
        encoder = library_encoder(model, layers)
        with torch.no_grad():
            next(encoder.parameters()).mul_(1.1)
        return encoder

    monkeypatch.setattr(embed, "library_encoder", spoiled)
    for row in bench_embed("small", 1).workloads:
        assert "computes something else" in row.timings[0].not_run
        assert not any(each.seconds for each in row.timings)


def test_padded_batches_hold_everything_once_within_their_slots() -> None:
    sequences = random_sequences("bucc2018", 60, "small")
    lengths = [len(each.input_ids) for each in sequences]
    slots = {}
    for by_length in (True, False):
        batches = batches_of_slots(sequences, 256, by_length=by_length)
        assert sorted(index for batch in batches for index in batch) == list(range(60))
        sizes = [len(batch) * max(lengths[index] for index in batch) for batch in batches]
        assert max(sizes) <= max(256, *lengths)
        slots[by_length] = sum(sizes)
    assert [batch[0] for batch in batches] == sorted(batch[0] for batch in batches)
    assert slots[True] < slots[False]
