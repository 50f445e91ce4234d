"""The benchmark of a small encoder on a CPU: candidates, given weights, and that another computation is not timed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from xlt.bench import cpu
from xlt.errors import UsageFault
from xlt.numerics import numerics
from xlt.train import used_rows

TINY = {"vocab_size": 400, "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CONFIG", TINY)
    monkeypatch.setattr(cpu, "USED", 50)
    monkeypatch.setattr(cpu, "SENTENCES", 12)
    monkeypatch.setattr(used_rows, "WORTHWHILE", 1)


def test_packed_beside_padded_with_both_products_in_turn() -> None:
    dynamic, grouped, vectors = cpu.bench_cpu(2).workloads
    for row in (dynamic, grouped):
        assert [each.not_run for each in row.timings] == [""] * 6
        assert [each.name for each in row.timings][::5] == [
            "packed, used rows, oneDNN's products",
            "Hugging Face, all rows, the libraries' products",
        ]
    slots = [row.quantity["slots"] / row.quantity["tokens"] for row in (dynamic, grouped)]
    assert slots[0] > slots[1]
    assert [each.name for each in vectors.timings if each.seconds][:2] == [
        "xlt, 1 layers, packed, oneDNN's products",
        "xlt, 1 layers, packed, the libraries' products",
    ]
    assert numerics() == "native"


def test_weights_of_a_folder(tmp_path: Path) -> None:
    BertModel(BertConfig(**TINY, max_position_embeddings=160), add_pooling_layer=False).save_pretrained(tmp_path)
    result = cpu.bench_cpu(1, tmp_path, rows=("length grouping", "sentence vectors"))
    assert [row.name for row in result.workloads] == ["training, length grouping", "sentence vectors"]
    assert result.settings["weights"] == "given"
    assert all(each.seconds for each in result.workloads[0].timings)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    BertModel(BertConfig(**{**TINY, "vocab_size": 300}), add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.raises(UsageFault, match="has 300 pieces"):
        cpu.bench_cpu(1, tmp_path)


def test_what_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "TOLERANCE", -1.0)
    (row,) = cpu.bench_cpu(1, rows=("dynamic padding",)).workloads
    assert all("computes something else" in each.not_run or "ours" in each.not_run for each in row.timings)
    assert all(each.seconds is None for each in row.timings)


def test_what_else_the_machine_does_is_not_in_the_clock() -> None:
    assert cpu._seconds(False, lambda: time.sleep(0.3)) < 0.2
