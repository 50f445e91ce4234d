"""Small random models of real architectures, each with a tokenizer of its kind: the special tokens are those of the
published ones, the pieces are trained on a few sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel

TEXTS = [
    f"{name} sees the {thing} in {place}."
    for name in ("Ana", "Ben", "Ida")
    for thing in ("house", "lake", "dog")
    for place in ("Bonn", "Rom", "Wien", "Oslo")
]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    # Ten times the usual spread: with 0.02, attention is near uniform and hides faults.
    "initializer_range": 0.2,
}
ROTARY = {"num_key_value_heads": 2, "max_position_embeddings": 512, "attention_dropout": 0.0}
# What each family calls otherwise, has beside the sizes, or has another default for.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "bloom": {"attention_dropout": 0.0, "hidden_dropout": 0.0, "pad_token_id": 3},
    "xglm": {
        "d_model": 32,
        "ffn_dim": 48,
        "num_layers": 3,
        "attention_heads": 4,
        "init_std": 0.2,
        "layerdrop": 0.0,
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "activation_dropout": 0.0,
        "pad_token_id": 1,
    },
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "n_positions": 512},
    "qwen2": {**ROTARY, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {**ROTARY, "head_dim": 8},
    "llama": ROTARY,
    "mistral": {**ROTARY, "sliding_window": 4},
    "modernbert": {
        "local_attention": 6,
        "global_attn_every_n_layers": 2,
        "pad_token_id": 3,
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
        "max_position_embeddings": 512,
    },
    # Those of mDeBERTa-v3, its sizes aside.
    "deberta-v2": {
        **NO_DROPOUT,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "max_relative_positions": -1,
        "pad_token_id": 0,
    },
    "gte": {**NO_DROPOUT, "pad_token_id": 1},
    # XLM-V's.
    "xlm-roberta": {
        **NO_DROPOUT,
        "pad_token_id": 1,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
}
DECODERS = ("bloom", "xglm", "gpt2", "qwen2", "qwen3", "llama", "mistral")
ENCODERS = ("modernbert", "deberta-v2", "gte", "xlm-roberta")
_XLM_R = ["<s>", "<pad>", "</s>", "<unk>"]


def store(folder: Path, family: str, **changes: Any) -> Path:
    """A folder with a random model of the family and its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _write_tokenizer(folder, family)
    torch.manual_seed(0)
    settings = {**SIZES, **CONFIGS[family], "vocab_size": tokenizer.get_vocab_size(), **changes}
    # Whatever else the defaults of the library name lies outside a small vocabulary.
    settings |= {name: settings.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model = AutoModel.from_config(AutoConfig.for_model(family, **settings))
    model.save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path, family: str) -> Tokenizer:
    make = {"xglm": _xglm, "deberta-v2": _mdeberta, "gte": _xlm_r, "xlm-roberta": _xlm_r}.get(family)
    tokenizer, named = make() if make else _of_bytes(family)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(named), "utf-8")
    return tokenizer


def _of_bytes(family: str) -> tuple[Tokenizer, dict[str, Any]]:
    """Byte-level BPE: BLOOM, GPT-2 and Qwen put no token around a text, Llama and Mistral one before it."""
    special, template, named = {
        "bloom": (
            ["<unk>", "<s>", "</s>", "<pad>"],
            "",
            {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        ),
        "gpt2": (["<|endoftext|>"], "", dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")),
        "qwen2": (["<|endoftext|>"], "", dict.fromkeys(("eos_token", "pad_token"), "<|endoftext|>")),
        "modernbert": (
            ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
            "[CLS] $A [SEP]",
            {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")},
        ),
    }.get(
        family.replace("qwen3", "qwen2"),
        (["<unk>", "<s>", "</s>"], "<s> $A", {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}),
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=bytes_, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if template:
        pair = "[CLS] $A [SEP] $B:1 [SEP]:1" if family == "modernbert" else "<s> $A <s> $B"
        tokenizer.post_processor = _template(tokenizer, template, pair)
    classes = {
        "bloom": "BloomTokenizerFast",
        "gpt2": "GPT2Tokenizer",
        "qwen2": "Qwen2Tokenizer",
        "qwen3": "Qwen2Tokenizer",
    }
    return tokenizer, {"tokenizer_class": classes.get(family, "PreTrainedTokenizerFast"), **named}


def _template(tokenizer: Tokenizer, single: str, pair: str) -> processors.TemplateProcessing:
    names = {name for name in [*single.split(), *pair.replace(":1", "").split()] if not name.startswith("$")}
    ids = [(name, tokenizer.token_to_id(name)) for name in sorted(names)]
    return processors.TemplateProcessing(single, pair=pair, special_tokens=ids)


def _unigram(special: list[str], unknown: str, mask: str = "") -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token=unknown, show_progress=False)
    )
    if mask:
        tokenizer.add_special_tokens([mask])
    return tokenizer


def _xglm() -> tuple[Tokenizer, dict[str, Any]]:
    """It begins a text with its end-of-text token, as fairseq does."""
    tokenizer = _unigram(_XLM_R, "<unk>")
    tokenizer.add_special_tokens([f"<madeupword{number}>" for number in range(7)])
    tokenizer.post_processor = _template(tokenizer, "</s> $A", "</s> $A </s> </s> $B")
    return tokenizer, {"tokenizer_class": "XGLMTokenizer"}


def _mdeberta() -> tuple[Tokenizer, dict[str, Any]]:
    tokenizer = _unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]", "[MASK]")
    tokenizer.post_processor = _template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return tokenizer, {"tokenizer_class": "DebertaV2Tokenizer"}


def _xlm_r() -> tuple[Tokenizer, dict[str, Any]]:
    tokenizer = _unigram(_XLM_R, "<unk>", "<mask>")
    tokenizer.post_processor = _template(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    return tokenizer, {"tokenizer_class": "XLMRobertaTokenizer"}
