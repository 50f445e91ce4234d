"""The library's own models, SDPA attention and all, with a copy of our weights: the baselines of most benchmarks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from xlt.model.encoder import PackedModel
from xlt.tasks.record import Kind

# The library's model for a kind, and where it has what our head of that kind has.
WITH_HEAD: dict[Kind, tuple[Any, dict[str, str]]] = {
    "pair_classification": (
        AutoModelForSequenceClassification,
        {"dense": "classifier.dense", "out_proj": "classifier.out_proj"},
    ),
    "span_qa": (AutoModelForQuestionAnswering, {"qa_outputs": "qa_outputs"}),
    "multiple_choice": (AutoModelForMultipleChoice, {"dense": "roberta.pooler.dense", "out_proj": "classifier"}),
}


def library_encoder(model: PackedModel, layers: int) -> Any:
    """The encoder alone, with the first ``layers`` blocks, for inference."""
    return _copy(AutoModel, model, {}, {"num_hidden_layers": layers}, add_pooling_layer=False).eval()


def compiled_encoder(model: PackedModel, layers: int) -> Any:
    """The same with its blocks through torch.compile; they are alike, so that one compilation serves all."""
    encoder = library_encoder(model, layers)
    for block in encoder.encoder.layer:
        block.compile(dynamic=True)
    return encoder


def library_masked_lm(model: PackedModel) -> Any:
    """The encoder with its masked-LM head, in training."""
    assert model.lm_head is not None
    return _copy(AutoModelForMaskedLM, model, {"lm_head": model.lm_head}, {}).train()


def library_with_head(model: PackedModel, kind: Kind) -> Any:
    """The encoder with the library's head for ``kind``, in training."""
    model_class, places = WITH_HEAD[kind]
    if model.backbone.config.model_type == "bert" and kind != "span_qa":
        places = {"dense": "bert.pooler.dense", "out_proj": "classifier"}
    head = model.heads[kind]
    found = {places[name]: module for name, module in head.named_children() if name in places}
    return _copy(model_class, model, found, {"num_labels": head.labels or 2}).train()


def _copy(
    model_class: Any, model: PackedModel, heads: Mapping[str, nn.Module], settings: dict[str, Any], **options: Any
) -> Any:
    """``heads`` are our modules by their places there. A weight that neither they nor our encoder have is an error."""
    config = copy.deepcopy(model.backbone.config)
    config.update(settings)
    with torch.device(model.device):
        library = model_class.from_config(config, attn_implementation="sdpa", dtype=model.backbone.dtype, **options)
    prefix = "" if library.base_model is library else f"{library.base_model_prefix}."
    own = library.state_dict().keys()
    weights = {prefix + name: value for name, value in model.backbone.state_dict().items() if prefix + name in own}
    for place, module in heads.items():
        weights |= {f"{place}.{name}": value for name, value in module.state_dict().items()}
    library.load_state_dict(weights)
    return library
