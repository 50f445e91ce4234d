"""Backbones: fresh ones, and what a user sees when one cannot be loaded."""

from __future__ import annotations

import json

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from xlt.errors import DataFault, EnvironmentFault, UsageFault
from xlt.model import attention
from xlt.model.backbone import load_backbone, new_backbone, outline, positions

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


@pytest.fixture
def folder(tmp_path):
    """A stored tiny XLM-R, with a pooling layer as public checkpoints have one."""
    XLMRobertaModel(XLMRobertaConfig(**SMALL)).save_pretrained(tmp_path)
    return tmp_path


def test_a_fresh_backbone_follows_from_the_seed():
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(new_backbone(SMALL).encoder.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_fresh_backbone_is_xlm_r_with_its_own_tied_head():
    backbone = new_backbone(SMALL)
    config = backbone.encoder.config
    assert (config.model_type, config.layer_norm_eps, config.type_vocab_size) == ("xlm-roberta", 1e-5, 1)
    assert config.max_position_embeddings == 514
    assert config._attn_implementation == attention.IMPLEMENTATION
    assert backbone.lm_head.decoder.weight is backbone.encoder.embeddings.word_embeddings.weight
    assert backbone.encoder.pooler is None


def test_a_stored_backbone_comes_without_its_pooling_layer(folder):
    backbone = load_backbone(folder)
    assert backbone.encoder.pooler is None
    assert backbone.lm_head is None
    assert backbone.encoder.dtype == torch.float32


def test_the_attention_refuses_a_padded_batch(folder):
    encoder = load_backbone(folder).encoder
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(ValueError, match="cu_seqlens"):
        encoder(input_ids=ids)
    bounds = torch.tensor([0, 3], dtype=torch.int32)
    with pytest.raises(ValueError, match="without padding"):
        encoder(input_ids=ids.expand(2, 3), cu_seqlens=bounds, max_seqlen=3)
    with pytest.raises(ValueError, match="no attention mask"):
        encoder(input_ids=ids, attention_mask=torch.tensor([[1, 1, 0]]))


def test_registering_twice_changes_nothing():
    before = attention.AttentionInterface()[attention.IMPLEMENTATION]
    attention.register()
    attention.register()
    assert attention.AttentionInterface()[attention.IMPLEMENTATION] is before


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "runs/target/model"])
def test_an_absent_folder_is_named_with_its_remedy(name):
    with pytest.raises(DataFault, match="does not exist") as fault:
        load_backbone(name)
    assert "xlt fetch" in fault.value.fix


def test_a_name_that_cannot_be_had_offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataFault, match="hub cannot be reached") as fault:
        load_backbone("xlt-tests/never-fetched")
    assert "xlt fetch" in fault.value.fix


@pytest.mark.parametrize("damage", ["truncated", "empty", "absent", "pickle only", "config", "no config"])
def test_a_damaged_folder(folder, damage):
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "absent":
        weights.unlink()
    elif damage == "pickle only":
        torch.save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    elif damage == "config":
        (folder / "config.json").write_text("{", encoding="utf-8")
    else:
        (folder / "config.json").unlink()
    with pytest.raises(DataFault) as fault:
        load_backbone(folder)
    assert fault.value.fix


def test_missing_weights_are_not_filled_with_random_ones(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataFault, match="missing"):
        load_backbone(folder)


def test_a_masked_lm_head_that_is_not_there_is_missed(folder):
    with pytest.raises(DataFault, match="missing"):
        load_backbone(folder, masked_lm=True)


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_of_a_decoder_is_loaded_where_it_takes_no_memory_of_its_own(tied, tmp_path):
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = LlamaConfig(**sizes, intermediate_size=48, tie_word_embeddings=tied)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert (load_backbone(tmp_path).lm_head is not None) is tied
    assert load_backbone(tmp_path, masked_lm=True).lm_head is not None


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] += 1
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DataFault, match="does not fit"):
        load_backbone(folder)


def test_a_model_that_the_library_does_not_know(folder):
    (folder / "config.json").write_text('{"model_type": "from-the-future"}', encoding="utf-8")
    with pytest.raises(EnvironmentFault, match="does not know"):
        load_backbone(folder)


def test_code_of_a_model_is_never_run(folder):
    """As in the original repository of mGTE."""
    config = {"model_type": "new", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "own.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    for read in (load_backbone, outline):
        with pytest.raises(UsageFault, match="is code of its own, which is never run") as fault:
            read(folder)
        assert "alibaba-nlp-community/gte-multilingual-base" in fault.value.fix


def test_what_is_encoder_and_decoder_at_once_is_refused_before_its_weights_are_read(tmp_path):
    AutoModel.from_config(T5Config(**SMALL)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for read in (load_backbone, outline):
        with pytest.raises(UsageFault, match="type 't5' cannot be a backbone") as fault:
            read(tmp_path)
        assert "xlm-roberta-large" in fault.value.fix


def test_a_model_whose_last_token_does_not_see_the_first_is_refused(tmp_path, monkeypatch):
    """Whatever its name: that of this one is known for an encoder."""
    small = DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=32, vocab_size=40)
    AutoModel.from_config(small).save_pretrained(tmp_path)
    assert load_backbone(tmp_path).packed is False
    monkeypatch.setattr(DistilBertModel, "forward", lambda self, input_ids, attention_mask: _Blind(input_ids))
    with pytest.raises(UsageFault, match="DistilBertModel cannot be a backbone"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("config", "causal"),
    [(BertConfig(is_decoder=True, **SMALL), True), (BertConfig(**SMALL), False), (DistilBertConfig(**SMALL), False)],
)
def test_whether_a_model_is_causal_is_seen_and_not_believed(config, causal, tmp_path):
    AutoModel.from_config(config).save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path)
    assert backbone.causal is causal
    # The packed attention is that of encoders.
    assert not (backbone.packed and causal)


class _Blind:
    """Hidden states in which each token knows of itself alone."""

    def __init__(self, tokens):
        self.last_hidden_state = tokens.unsqueeze(-1).float()


@pytest.mark.parametrize(("pad", "table", "most"), [(1, 514, 512), (1, 130, 128), (0, 130, 129)])
def test_a_text_may_have_as_many_tokens_as_there_are_positions(pad, table, most, tmp_path):
    """Of XLM-R they are counted from the padding token on; of BERT all of them."""
    for config, expected in ((XLMRobertaConfig, most), (BertConfig, table)):
        sizes = {**SMALL, "max_position_embeddings": table, "pad_token_id": pad}
        AutoModel.from_config(config(**sizes)).save_pretrained(tmp_path)
        assert positions(outline(tmp_path)) == positions(load_backbone(tmp_path).encoder) == expected
    assert next(outline(tmp_path).parameters()).device.type == "meta"
