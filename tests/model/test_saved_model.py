"""A stored model: read back by this package and by the library."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

from xlt.errors import DataFault
from xlt.model.encoder import PackedModel

LENGTHS = [4, 9, 1]


def _states_equal(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_heads_and_backbone_come_back_bit_for_bit(tiny, batch_of, tmp_path):
    model = tiny()
    model.drop_masked_lm_head()
    model.add_head("nli", "pair_classification", 3)
    model.add_head("squad", "span_qa", 0)
    model.add_head("swag", "multiple_choice", 0)
    model.add_head("pos", "tagging", 17)
    model.save(tmp_path / "model")
    again = PackedModel.load(tmp_path / "model")
    assert _states_equal(model, again)
    assert not again.training
    batch = batch_of(LENGTHS, "span_qa", task="squad")
    assert torch.equal(model(batch)[1], again(batch)[1])
    assert {task: (head.kind, head.labels) for task, head in again.heads.items()} == {
        "nli": ("pair_classification", 3),
        "squad": ("span_qa", 0),
        "swag": ("multiple_choice", 1),
        "pos": ("tagging", 17),
    }


def test_the_names_of_labels_come_back_in_their_order(tiny, tmp_path):
    model = tiny()
    model.add_head("ccg", "tagging", ("S\\NP", "N", "."))
    model.add_head("nli", "pair_classification", 3)
    model.save(tmp_path)
    again = PackedModel.load(tmp_path)
    assert {task: (head.labels, head.names) for task, head in again.heads.items()} == {
        "ccg": (3, ("S\\NP", "N", ".")),
        "nli": (3, ()),
    }


def test_every_file_can_be_read_as_the_umask_says(tiny, tmp_path):
    """Not by its owner alone: results are often shared by a group."""
    model = tiny()
    model.add_head("nli", "pair_classification", 3)
    before = os.umask(0o027)
    try:
        model.save(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("config.json", "heads.json", "heads.safetensors", "model.safetensors"), "0o640")


def test_the_masked_lm_head_comes_back_tied(tiny, tmp_path):
    model = tiny()
    model.save(tmp_path)
    again = PackedModel.load(tmp_path)
    assert _states_equal(model, again)
    assert again.lm_head.decoder.weight is again.backbone.embeddings.word_embeddings.weight
    assert PackedModel.load(tmp_path, masked_lm=False).lm_head is None


def test_the_library_reads_it(tiny, batch_of, padded, tmp_path):
    model = tiny()
    model.add_head("nli", "pair_classification", 3)
    model.save(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    other = padded(batch_of(LENGTHS))
    theirs = plain(**other.inputs).last_hidden_state.flatten(0, 1)[other.flat]
    # Rounding only, as in test_parity.
    torch.testing.assert_close(model.hidden_states(batch_of(LENGTHS), 3), theirs, rtol=0, atol=2e-5)
    whole, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert whole.lm_head.decoder.weight is whole.roberta.embeddings.word_embeddings.weight
    assert torch.equal(whole.lm_head.dense.weight, model.lm_head.dense.weight)


def test_without_the_masked_lm_head_it_is_the_plain_encoder(tiny, tmp_path):
    model = tiny()
    model.drop_masked_lm_head()
    model.save(tmp_path)
    _, report = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["XLMRobertaModel"]
    assert "attn_implementation" not in json.dumps(config)
    assert not (tmp_path / "heads.json").exists()


def test_weights_given_from_outside_are_the_ones_stored(tiny, tmp_path):
    model = tiny()
    model.add_head("nli", "pair_classification", 3)
    master = {name: weight.detach() + 1 / 3 for name, weight in model.named_parameters()}
    model.to(torch.bfloat16)
    model.save(tmp_path, state_dict=master)
    again = PackedModel.load(tmp_path)
    assert all(torch.equal(weight, master[name]) for name, weight in again.named_parameters())
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"
    assert AutoModel.from_pretrained(tmp_path).dtype == torch.float32
    assert model.backbone.dtype == torch.bfloat16
    model.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"
    assert PackedModel.load(tmp_path).backbone.dtype == torch.float32


def test_a_tied_weight_may_go_by_either_name(tiny, tmp_path):
    model = tiny()
    state = model.state_dict()
    del state["backbone.embeddings.word_embeddings.weight"]
    model.save(tmp_path, state_dict=state)
    assert _states_equal(model, PackedModel.load(tmp_path))


def test_a_state_dict_that_lacks_a_weight_is_refused(tiny, tmp_path):
    model = tiny()
    state = model.state_dict()
    del state["backbone.encoder.layer.1.output.dense.weight"]
    with pytest.raises(ValueError, match="lacks 1 weights"):
        model.save(tmp_path, state_dict=state)
    assert not list(tmp_path.iterdir())


def test_the_same_weights_give_the_same_bytes(tiny, tmp_path):
    for name in ("a", "b"):
        model = tiny()
        model.add_head("nli", "pair_classification", 3)
        model.save(tmp_path / name)
    for file in ("config.json", "model.safetensors", "heads.json", "heads.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_heads_of_an_earlier_save_are_not_taken_for_this_models(tiny, tmp_path):
    model = tiny()
    model.add_head("nli", "pair_classification", 3)
    model.save(tmp_path)
    assert set(load_file(tmp_path / "heads.safetensors")) == {
        f"nli.{name}" for name in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    }
    tiny().save(tmp_path)
    assert not PackedModel.load(tmp_path).heads


@pytest.mark.parametrize("damage", ["index", "kind", "weights", "no weights", "other labels"])
def test_damaged_heads(tiny, tmp_path, damage):
    model = tiny()
    model.add_head("nli", "pair_classification", 3)
    model.save(tmp_path)
    index, weights = tmp_path / "heads.json", tmp_path / "heads.safetensors"
    if damage == "index":
        index.write_text("[]", encoding="utf-8")
    elif damage == "kind":
        index.write_text('{"nli": {"kind": "poetry", "labels": 3}}', encoding="utf-8")
    elif damage == "other labels":
        index.write_text('{"nli": {"kind": "pair_classification", "labels": 2}}', encoding="utf-8")
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:40])
    else:
        weights.unlink()
    with pytest.raises(DataFault, match="damaged"):
        PackedModel.load(tmp_path)
