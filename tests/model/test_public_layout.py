"""Folders laid out as the public checkpoints are: loaded, tokenised as the library does, and trained for real."""

from __future__ import annotations

import json
import string
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    DebertaV2Config,
    DebertaV2Model,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from tests.conftest import SYLLABLES
from xlt.cli import app
from xlt.data.features import encode
from xlt.data.packing import pack
from xlt.data.rows import PairRow
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.model.encoder import PackedModel
from xlt.tasks.catalogue import get_task

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXTS = [" ".join(Random(number).choices(SYLLABLES, k=8)) for number in range(300)]
ROWS = [PairRow("a", "Ba de, gi.", "Ko lu!", "neutral"), PairRow("b", "Mo", "Ne pa re so tu ba de gi", "entailment")]


def xlm_r(folder):
    """As xlm-roberta-base: the buffer and pooling layer of older versions, no copy of the tied weights."""
    train_tokenizer(TEXTS, 100, folder)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}', encoding="utf-8")
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    size = len(AutoTokenizer.from_pretrained(folder, config=XLMRobertaConfig()))
    config = {"vocab_size": size, "layer_norm_eps": 1e-5, "type_vocab_size": 1, "max_position_embeddings": 514}
    XLMRobertaForMaskedLM(XLMRobertaConfig(**SMALL, **config)).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["roberta.embeddings.position_ids"] = torch.arange(514).unsqueeze(0)
    weights |= {"roberta.pooler.dense.weight": torch.zeros(32, 32), "roberta.pooler.dense.bias": torch.zeros(32)}
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("lm_head.decoder.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def mbert(folder):
    """As bert-base-multilingual-cased: vocab.txt, LayerNorm with gamma and beta, and the head of its second task."""
    pieces = [*string.ascii_letters, *string.punctuation, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    settings = {"do_lower_case": False, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    model = BertForPreTraining(BertConfig(**SMALL, vocab_size=len(vocabulary), pad_token_id=0))
    model.config.architectures = ["BertForMaskedLM"]
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}), encoding="utf-8")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for new, legacy in old.items():
            name = name.replace(new, legacy)
        if not name.startswith("cls.predictions.decoder."):
            weights[name] = tensor
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def deberta(folder):
    """A family that runs padded, with a SentencePiece tokenizer."""
    train_tokenizer(TEXTS, 100, folder)
    size = len(load_tokenizer(str(folder)))
    config = DebertaV2Config(**SMALL, vocab_size=size, relative_attention=True, pos_att_type=["p2c", "c2p"])
    DebertaV2Model(config).save_pretrained(folder)


@pytest.fixture(scope="module", params=[xlm_r, mbert, deberta], ids=lambda layout: layout.__name__)
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp(request.param.__name__)
    request.param(place)
    return place


@pytest.mark.filterwarnings("ignore:.*runs padded")
def test_rows_become_what_the_library_makes_of_them(folder):
    model, tokenizer = PackedModel.load(folder), load_tokenizer(str(folder))
    assert model.packed is (model.lm_head is not None) is (not folder.name.startswith("deberta"))
    task = get_task("mnli")
    members = encode(ROWS, task, tokenizer, training=True)
    batch = pack(members, task=task.key, kind=task.kind, first_position=model.first_position)
    texts = [[row.text_a for row in ROWS], [row.text_b for row in ROWS]]
    padded = AutoTokenizer.from_pretrained(folder)(*texts, padding=True, return_tensors="pt")
    assert int(padded["attention_mask"].sum()) == batch.tokens
    library = AutoModel.from_pretrained(folder).eval()
    states = library(**padded).last_hidden_state.flatten(0, 1)[padded["attention_mask"].flatten().bool()]
    torch.testing.assert_close(model.hidden_states(batch, 2), states, rtol=0, atol=2e-5)


@pytest.mark.filterwarnings("ignore:.*runs padded")
def test_the_real_path_trains_and_scores_it(folder, tiny_files, tmp_path):
    source = ["--source", "files", "--data-root", str(tiny_files), "--limit", "24", "--results", str(tmp_path)]
    training = ["--steps", "4", "--batch-size", "8", "--learning-rate", "1e-3"]
    assert app.run(["train", "mnli", "--model", str(folder), *training, *source]) == 0
    (run,) = tmp_path.glob("runs/intermediate/train.mnli-*")
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    assert len(losses) == 4
    assert losses[0] == pytest.approx(1.1, abs=0.2)  # ln 3: a fresh head
    before, after = (load_file(place / "model.safetensors") for place in (folder, run / "model"))
    (name,) = (name for name in after if name.endswith("word_embeddings.weight"))
    (old,) = (old for old in before if old.endswith("word_embeddings.weight"))
    assert not torch.equal(before[old], after[name])
    assert set(json.loads((run / "metrics.json").read_text("utf-8"))["mnli"]["dev"]) == {"en"}
