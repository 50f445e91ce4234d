"""Every reading of sentence vectors: against plain computations in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from tests.plain_readings import accuracies, units
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.model.encoder import PackedModel
from xlt.retrieval.embed import embed, encode_sentences
from xlt.retrieval.readings import (
    POOLINGS,
    TRANSFORMATIONS,
    embed_layers,
    geometry,
    translation_accuracies,
    unit_sides,
)
from xlt.retrieval.search import Floats

TEXTS = ["ab ba cab", "a", "bca bca bca abc ca", "", "cab a b c ab bb aa cc", "cc ab"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([text for text in TEXTS if text] * 9, 18, folder, threads=1)
    return load_tokenizer(str(folder))


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> PackedModel:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    return PackedModel.fresh({"vocab_size": len(tokenizer), **shape})


@pytest.mark.parametrize("packed", [True, False])
def test_one_pass_gives_every_layer_and_pooling_of_the_librarys_model(
    model: PackedModel, tokenizer: PreTrainedTokenizerBase, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = encode_sentences(TEXTS, tokenizer, 24)
    passes: list[int] = []
    hook = model.backbone.register_forward_hook(lambda *_: passes.append(1))
    if not packed:
        monkeypatch.setattr(model, "packed", False)
        monkeypatch.setattr(model.backbone.config, "_attn_implementation", "eager")
    vectors = embed_layers(model, sequences, layers=range(4), max_tokens=1000, device="cpu")
    hook.remove()
    assert len(passes) == 1
    assert (vectors.shape, vectors.dtype) == ((4, len(POOLINGS), len(TEXTS), 16), np.float32)
    for place, sequence in enumerate(sequences):
        with torch.no_grad():
            batch = {"input_ids": torch.from_numpy(sequence.input_ids.astype(np.int64))[None]}
            monkeypatch.setattr(model.backbone.config, "_attn_implementation", "eager")
            states = model.backbone(**batch, output_hidden_states=True).hidden_states
            monkeypatch.undo()
        for layer, state in enumerate(states):
            tokens = state[0].double().numpy()
            inner = tokens[1:-1].mean(axis=0) if len(tokens) > 2 else np.zeros(16)
            for given, wanted in zip(vectors[layer, :, place], (tokens.mean(axis=0), inner, tokens[0]), strict=True):
                np.testing.assert_allclose(given, wanted, atol=2e-6)


def test_the_plain_reading_has_the_bits_of_a_plain_embedding(
    model: PackedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    sequences = encode_sentences(TEXTS, tokenizer, 24)
    vectors = embed_layers(model, sequences, layers=range(4), max_tokens=9, device="cpu")
    for layer in range(4):
        for place, pooling in ((0, "mean"), (2, "first")):
            plain = embed(model, sequences, layer=layer, pooling=pooling, max_tokens=9, device="cpu")  # type: ignore[arg-type]
            mine, same = unit_sides(vectors[layer, place], vectors[layer, place], "raw")
            np.testing.assert_array_equal(mine, plain)
            np.testing.assert_array_equal(same, plain)
    some = embed_layers(model, sequences, layers=[1, 2], max_tokens=9, device="cpu")
    np.testing.assert_array_equal(some, vectors[1:3])


@pytest.fixture(scope="module")
def sides() -> tuple[Floats, Floats]:
    """Two languages of one meaning, each with an offset and a direction of its own: 40 pairs in 12 dimensions."""
    draw = np.random.default_rng(0)
    meaning = draw.normal(size=(40, 12)) * np.geomspace(1, 0.02, 12)
    one, other = (meaning + 0.2 * draw.normal(size=(40, 12)) + 3 * draw.normal(size=12) for _ in range(2))
    return one.astype(np.float32), other.astype(np.float32)


def test_centred_and_whitened_cosines(sides: tuple[Floats, Floats]) -> None:
    for how in TRANSFORMATIONS:
        mine = unit_sides(*sides, how)
        wanted = units(*sides, how)
        np.testing.assert_allclose(mine[0] @ mine[1].T, wanted[0] @ wanted[1].T, atol=1e-5)
    few = unit_sides(sides[0][:3], sides[1][:3], "whitened")
    assert np.isfinite(few[0]).all()
    alike = unit_sides(np.ones((4, 3), np.float32), np.ones((5, 3), np.float32), "whitened")
    assert not np.concatenate(alike).any()


def test_accuracies_by_direction_and_margin(sides: tuple[Floats, Floats]) -> None:
    foreign, english = unit_sides(*sides, "centred")
    found = translation_accuracies(foreign, english)
    assert found == {way: pytest.approx(share) for way, share in accuracies(*units(*sides, "centred")).items()}
    assert len(set(found.values())) > 2
    assert next(iter(found)) == ("english", "cosine")


def test_geometry_is_that_of_all_pairs(sides: tuple[Floats, Floats]) -> None:
    foreign, english = sides[0][:30], sides[1]
    rows = np.arange(0, 30, 3)
    found = geometry(foreign, english, (rows, rows))
    one, other = units(foreign, english, "raw")
    cosines, paired = one @ other.T, np.zeros((30, 40), dtype=bool)
    paired[rows, rows] = True
    assert found.translations == pytest.approx(cosines[paired].mean())
    assert found.strangers == pytest.approx(cosines[~paired].mean())
    assert found.foreign == pytest.approx((one @ one.T)[~np.eye(30, dtype=bool)].mean())
    assert found.english == pytest.approx((other @ other.T)[~np.eye(40, dtype=bool)].mean())
    for side, share in ((foreign, found.foreign_first_component), (english, found.english_first_component)):
        spread = np.linalg.svd(side - side.mean(axis=0, dtype=float), compute_uv=False) ** 2
        assert share == pytest.approx(spread[0] / spread.sum(), rel=1e-5)
