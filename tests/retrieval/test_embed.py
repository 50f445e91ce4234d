"""Sentence embeddings, and the direction of the Tatoeba search."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode_texts
from xlt.data.packing import Encoded, pack
from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.metrics import score
from xlt.model.encoder import PackedModel
from xlt.retrieval.embed import embed, encode_sentences
from xlt.retrieval.search import Floats, Vectors
from xlt.retrieval.tatoeba import nearest_translations, retrieve
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Pooling

RNG = random.Random(0)
WORDS = ["".join(RNG.choices("abcdefgh", k=RNG.randint(2, 7))) for _ in range(150)]
TEXTS = [" ".join(RNG.choices(WORDS, k=RNG.randint(1, 30))) for _ in range(40)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS * 5, 120, folder, threads=1)
    return load_tokenizer(str(folder))


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> PackedModel:
    torch.manual_seed(0)
    return PackedModel.fresh(
        {
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
    )


def _embed(
    model: PackedModel,
    texts: list[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    layer: int = 2,
    tokens: int = 100,
) -> Vectors:
    return embed(model, encode_sentences(texts, tokenizer, 24), layer=layer, max_tokens=tokens, device="cpu")


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_the_mean_of_all_tokens_of_one_layer_in_the_order_of_the_texts(
    model: PackedModel, tokenizer: PreTrainedTokenizerBase, layer: int
) -> None:
    vectors = _embed(model, TEXTS, tokenizer, layer=layer)
    assert (vectors.shape, vectors.dtype) == ((40, 16), np.float32)
    for text, vector in zip(TEXTS, vectors, strict=True):
        sequence = encode_texts(["x"], [text], tokenizer, 24)
        assert sequence[0].input_ids[[0, -1]].tolist() == [0, 2]  # <s> and </s> are in the mean
        batch = pack(sequence, task="x", kind="retrieval", first_position=model.first_position)
        with torch.no_grad():
            mean = model.hidden_states(batch, layer).mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_nothing_above_the_layer_is_computed(model: PackedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    calls = []
    handles = [
        block.register_forward_hook(lambda *_, depth=depth: calls.append(depth))
        for depth, block in enumerate(model.backbone.encoder.layer, start=1)
    ]
    _embed(model, TEXTS[:1], tokenizer, layer=2)
    for handle in handles:
        handle.remove()
    assert calls == [1, 2]


def test_the_mode_is_restored(model: PackedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    calm = _embed(model, TEXTS, tokenizer)
    model.train()
    try:
        np.testing.assert_array_equal(_embed(model, TEXTS, tokenizer), calm)  # no dropout
        assert model.training
        with pytest.raises(UsageFault, match="no block 4"):
            _embed(model, TEXTS, tokenizer, layer=4)
        assert model.training
    finally:
        model.eval()


def test_refusals(model: PackedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataFault, match="no texts"):
        _embed(model, [], tokenizer)
    weight = model.backbone.encoder.layer[0].output.dense.bias.data
    kept = weight.clone()
    weight.fill_(float("nan"))
    with pytest.raises(DataFault, match="sentence vectors are not finite"):
        _embed(model, TEXTS, tokenizer)
    weight.copy_(kept)


def test_texts_are_encoded_in_blocks_that_change_nothing(
    model: PackedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _embed(model, TEXTS, tokenizer)
    monkeypatch.setattr("xlt.retrieval.embed._ENCODED", 7)
    np.testing.assert_array_equal(_embed(model, TEXTS, tokenizer), whole)


def test_vectors_of_a_model_in_bf16_are_fp16(tokenizer: PreTrainedTokenizerBase, model: PackedModel) -> None:
    half = copy.deepcopy(model).to(torch.bfloat16)
    vectors = _embed(half, TEXTS, tokenizer)
    assert vectors.dtype == np.float16
    # bf16 keeps 8 bits.
    assert (vectors * _embed(model, TEXTS, tokenizer)).sum(axis=1).min() > 0.999


class Killed(Exception):
    pass


def _interrupted(model: PackedModel, sequences: list[Encoded], keep: Path, at: int) -> None:
    def stop(done: int, of: int) -> None:
        assert of == len(sequences)
        if done >= at:
            raise Killed

    with pytest.raises(Killed):
        embed(model, sequences, layer=2, max_tokens=60, device="cpu", keep=keep, progress=stop)


def test_an_interrupted_embedding_goes_on_where_it_was(
    model: PackedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    sequences = encode_texts([""] * len(TEXTS), TEXTS, tokenizer, 24)
    options: dict[str, Any] = {"layer": 2, "max_tokens": 60, "device": "cpu"}
    whole = embed(model, sequences, **options)
    _interrupted(model, sequences, tmp_path, 20)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b"half a vector")
    told: list[int] = []
    again = embed(model, sequences, **options, keep=tmp_path, progress=lambda done, of: told.append(done))
    np.testing.assert_array_equal(again, whole)
    assert min(told) > 20
    assert told[-1] == len(TEXTS)
    assert path.stat().st_size == whole.nbytes


def test_what_another_model_or_damage_left_is_not_taken_up(
    model: PackedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    sequences = encode_texts([""] * len(TEXTS), TEXTS, tokenizer, 24)
    other = copy.deepcopy(model)
    other.backbone.encoder.layer[1].output.dense.bias.data += 0.1
    _interrupted(other, sequences, tmp_path, 20)
    again = embed(model, sequences, layer=2, max_tokens=60, device="cpu", keep=tmp_path)
    np.testing.assert_array_equal(again, embed(model, sequences, layer=2, max_tokens=60, device="cpu"))
    # Other sequences, or another layer, have files of their own.
    embed(model, sequences[1:], layer=2, max_tokens=60, device="cpu", keep=tmp_path)
    embed(model, sequences, layer=1, max_tokens=60, device="cpu", keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def _at(degrees: list[float]) -> Floats:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_english_asks_and_the_foreign_side_answers() -> None:
    # Both English sentences are nearest to their translations, both foreign ones to English "b".
    ids, english, foreign = ["a", "b"], _at([0, 35]), _at([20, 40])
    task, rows = get_task("tatoeba"), [BitextRow(id_, "", "") for id_ in ids]
    there = nearest_translations(ids, english, foreign)
    back = nearest_translations(ids, foreign, english)
    assert score(task, rows, there) == {"accuracy": 100.0}
    assert score(task, rows, back) == {"accuracy": 50.0}
    assert there == [
        Prediction("a", "a", np.cos(np.deg2rad(20))),
        Prediction("b", "b", np.cos(np.deg2rad(5))),
    ]


def test_retrieval_asks_in_english(model: PackedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    english = TEXTS[:6]
    rows = [BitextRow(f"r{i}", foreign=text, english=text) for i, text in enumerate(english)]
    rows.append(BitextRow("twin", foreign=TEXTS[0], english=TEXTS[0]))
    rows.append(BitextRow("guest", foreign=TEXTS[9], english=TEXTS[1]))
    given = retrieve(rows, lambda texts: _embed(model, list(texts), tokenizer, tokens=64))
    assert [prediction.id for prediction in given] == [row.id for row in rows]
    assert [prediction.prediction for prediction in given[:6]] == [f"r{i}" for i in range(6)]
    assert given[6].prediction == "r0"  # of two equal sentences the first
    # The guest's English is that of r1, and so finds r1's foreign sentence and not its own.
    assert given[7].prediction == "r1"
    assert all(prediction.score == pytest.approx(1, abs=1e-5) for prediction in given)


@pytest.mark.parametrize(("pooling", "place"), [("first", 0), ("last", -1)])
def test_the_first_or_last_token_is_the_vector_where_that_is_asked_for(
    model: PackedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, pooling: Pooling, place: int
) -> None:
    sequences = encode_sentences(TEXTS, tokenizer, 24)
    embed(model, sequences, layer=2, max_tokens=100, device="cpu", keep=tmp_path)  # must not be taken for it
    vectors = embed(model, sequences, layer=2, max_tokens=100, device="cpu", pooling=pooling, keep=tmp_path)
    for sequence, vector in zip(sequences, vectors, strict=True):
        batch = pack([sequence], task="x", kind="retrieval", first_position=model.first_position)
        with torch.no_grad():
            token = model.hidden_states(batch, 2)[place].numpy()
        np.testing.assert_allclose(vector, token / np.linalg.norm(token), atol=1e-5)
