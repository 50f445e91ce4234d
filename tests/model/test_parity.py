"""The packed model against the library's padded models: outputs, losses and every gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)

from xlt.model.backbone import load_backbone
from xlt.model.encoder import PackedModel

LENGTHS = [5, 1, 30, 17, 2, 29, 11]  # one token, and the longest that the positions allow
# Rounding only: the same sums in another order, through three layers. Seen: a tenth of these. Relative to the
# largest entry over all gradients, because some (of the key biases) are zero but for rounding.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-13}
_TIED = {"remove_duplicate": False}  # tied weights under each of their names
BOTH = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
ATTENTION = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def _library(model: PackedModel, library_class: Any, attention: str, **options: Any) -> Any:
    """The library's padded model with the packed model's backbone weights."""
    config = type(model.backbone.config)(**{**model.backbone.config.to_dict(), **options})
    library = library_class._from_config(config, attn_implementation=attention, dtype=model.backbone.dtype)
    library.base_model.load_state_dict(model.backbone.state_dict(), strict=False)
    return library.eval()


def _close(left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=scale * TOLERANCE[left.dtype])


def assert_same_gradients(model: PackedModel, library: nn.Module, names: dict[str, str]) -> None:
    """Every gradient of ``library`` equals the packed model's; ``names`` maps prefixes, ours to theirs."""
    theirs = {name: p.grad for name, p in library.named_parameters(**_TIED) if p.grad is not None}
    ours = {}
    for name, parameter in model.named_parameters(**_TIED):
        prefix = next(prefix for prefix in names if name.startswith(prefix))
        if parameter.grad is not None:
            ours[names[prefix] + name.removeprefix(prefix)] = parameter.grad
    assert ours.keys() == theirs.keys()
    largest = max(float(grad.abs().max()) for grad in theirs.values())
    for name, grad in theirs.items():
        _close(ours[name], grad, largest)


@BOTH
@ATTENTION
def test_hidden_states(tiny, batch_of, padded, attention, dtype):
    model = tiny(dtype=dtype)
    model.drop_masked_lm_head()
    library = _library(model, XLMRobertaModel, attention)
    batch = batch_of(LENGTHS)
    other = padded(batch)
    theirs = library(**other.inputs).last_hidden_state.flatten(0, 1)[other.flat]
    ours = model.hidden_states(batch, 3)
    _close(ours, theirs)
    weight = torch.randn(ours.shape, dtype=dtype)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    assert_same_gradients(model, library, {"backbone.": ""})


@BOTH
@ATTENTION
def test_pair_classification(tiny, batch_of, padded, attention, dtype):
    model = tiny(dtype=dtype)
    model.drop_masked_lm_head()
    model.add_head("nli", "pair_classification", 3)
    library = _library(model, XLMRobertaForSequenceClassification, attention, num_labels=3)
    library.classifier.load_state_dict(model.heads["nli"].state_dict())
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 1])
    batch = batch_of(LENGTHS, "pair_classification", labels=labels, denominator=len(LENGTHS), task="nli")
    loss, scores = model(batch)
    expected = library(**padded(batch).inputs, labels=labels)
    _close(scores, expected.logits)
    _close(loss, expected.loss)
    loss.backward()
    expected.loss.backward()
    assert_same_gradients(model, library, {"backbone.": "roberta.", "heads.nli.": "classifier."})


@BOTH
@ATTENTION
def test_multiple_choice(tiny, batch_of, padded, attention, dtype):
    model = tiny(dtype=dtype)
    model.drop_masked_lm_head()
    model.add_head("swag", "multiple_choice", 0)
    library = _library(model, XLMRobertaForMultipleChoice, attention)
    # The library's pooler and classifier are the two layers of our head.
    library.roberta.pooler.dense.load_state_dict(model.heads["swag"].dense.state_dict())
    library.classifier.load_state_dict(model.heads["swag"].out_proj.state_dict())
    labels = torch.tensor([3, 0])
    batch = batch_of([*LENGTHS, 8], "multiple_choice", labels=labels, denominator=2, task="swag")
    batch = replace(batch, cu_groups=torch.tensor([0, 4, 8]), max_group=4)
    expected = library(**{name: each.view(2, 4, -1) for name, each in padded(batch).inputs.items()}, labels=labels)
    loss, scores = model(batch)
    _close(scores.view(2, 4), expected.logits)
    _close(loss, expected.loss)
    loss.backward()
    expected.loss.backward()
    names = {"heads.swag.dense.": "roberta.pooler.dense.", "heads.swag.out_proj.": "classifier."}
    assert_same_gradients(model, library, {"backbone.": "roberta.", **names})


@BOTH
@ATTENTION
def test_tagging(tiny, batch_of, padded, attention, dtype):
    model = tiny(dtype=dtype)
    model.drop_masked_lm_head()
    model.add_head("pos", "tagging", 5)
    library = _library(model, XLMRobertaForTokenClassification, attention, num_labels=5)
    library.load_state_dict(model.heads["pos"].state_dict(), strict=False)
    words = torch.tensor([1, 3, 5, 7, 8, 20, 37, 53, 94])
    labels = torch.tensor([0, 4, 2, 2, 1, 3, 0, 1, 4])
    batch = batch_of(LENGTHS, "tagging", labels=labels, scored_positions=words, denominator=9, task="pos")
    other = padded(batch)
    theirs = torch.full((other.input_ids.numel(),), -100)
    theirs[other.flat[words]] = labels
    expected = library(**other.inputs, labels=theirs.view_as(other.input_ids))
    loss, scores = model(batch)
    _close(scores, expected.logits.flatten(0, 1)[other.flat[words]])
    _close(loss, expected.loss)
    loss.backward()
    expected.loss.backward()
    assert_same_gradients(model, library, {"backbone.": "roberta.", "heads.pos.": ""})


@BOTH
@ATTENTION
def test_span_qa(tiny, batch_of, padded, attention, dtype):
    model = tiny(dtype=dtype)
    model.drop_masked_lm_head()
    model.add_head("squad", "span_qa", 0)
    library = _library(model, XLMRobertaForQuestionAnswering, attention, num_labels=2)
    library.load_state_dict(model.heads["squad"].state_dict(), strict=False)
    labels = torch.tensor([[0, 4], [0, 0], [29, 29], [3, 16], [1, 1], [0, 28], [2, 5]])
    batch = batch_of(LENGTHS, "span_qa", labels=labels, denominator=len(LENGTHS), task="squad")
    other = padded(batch)
    theirs = library(**other.inputs)
    both = torch.stack([theirs.start_logits, theirs.end_logits], dim=-1)
    # The library lets padding into the softmax; the padded rows alone must not change the loss of an example.
    kept = both.masked_fill(other.attention_mask.unsqueeze(-1) == 0, -torch.inf)
    expected = (F.cross_entropy(kept[..., 0], labels[:, 0]) + F.cross_entropy(kept[..., 1], labels[:, 1])) / 2
    loss, scores = model(batch)
    _close(scores, both.flatten(0, 1)[other.flat])
    _close(loss, expected)
    loss.backward()
    expected.backward()
    assert_same_gradients(model, library, {"backbone.": "roberta.", "heads.squad.": ""})


@BOTH
@ATTENTION
def test_masked_lm(tiny, batch_of, padded, attention, dtype):
    model = tiny(dtype=dtype)
    library = _library(model, XLMRobertaForMaskedLM, attention)
    library.lm_head.load_state_dict(model.lm_head.state_dict())
    assert_same_masked_lm(model, library, batch_of, padded, 2, {"backbone.": "roberta.", "lm_head.": "lm_head."})


def test_masked_lm_of_another_family(batch_of, padded, tmp_path):
    torch.manual_seed(0)
    options = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(
        **options, intermediate_size=48, max_position_embeddings=30, initializer_range=0.2, pad_token_id=1
    )
    library = BertForMaskedLM(config).eval()
    library.save_pretrained(tmp_path)
    model = PackedModel(load_backbone(tmp_path))
    assert model.first_position == 0
    names = {"backbone.": "bert.", "lm_head.": "cls."}
    assert_same_masked_lm(model, library, batch_of, padded, 0, names, segments=True)


def assert_same_masked_lm(
    model: PackedModel,
    library: Any,
    batch_of: Any,
    padded: Any,
    first_position: int,
    names: dict[str, str],
    *,
    segments: bool = False,
) -> None:
    chosen = torch.tensor([0, 5, 6, 20, 35, 36, 53, 94])  # 5 is the sequence of one token
    batch = batch_of(LENGTHS, "masked_lm", denominator=8, first_position=first_position)
    batch = replace(batch, labels=batch.input_ids[chosen], scored_positions=chosen)
    other = padded(batch)
    labels = torch.full((other.input_ids.numel(),), -100)
    labels[other.flat[chosen]] = batch.labels
    inputs = other.inputs | ({"token_type_ids": other.segments} if segments else {})
    expected = library(**inputs, labels=labels.view_as(other.input_ids)).loss
    loss, scores = model(batch)
    assert scores.numel() == 0
    _close(loss, expected)
    loss.backward()
    expected.backward()
    assert_same_gradients(model, library, names)


def test_positions_that_start_at_zero_are_another_model(tiny, batch_of):
    model = tiny()
    right, wrong = (model.hidden_states(batch_of(LENGTHS, first_position=first), 3) for first in (2, 0))
    assert model.first_position == 2
    # Rounding is 1e-5; another position is another embedding.
    assert (right - wrong).abs().max().item() > 0.1


def test_bf16_stays_near_fp32(tiny, batch_of):
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 1])
    batch = batch_of(LENGTHS, "pair_classification", labels=labels, denominator=len(LENGTHS))
    model = tiny(initializer_range=0.05)
    model.add_head("task", "pair_classification", 3)
    exact, exact_scores = model(batch)
    loss, scores = model.to(torch.bfloat16)(batch)
    assert loss.dtype == scores.dtype == torch.float32
    # bf16 keeps 8 bits (2**-9 relative); three layers of it stay under 5 % of logits of this size.
    largest = float(exact_scores.detach().abs().max())
    torch.testing.assert_close(scores, exact_scores, rtol=0, atol=0.05 * largest)
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
