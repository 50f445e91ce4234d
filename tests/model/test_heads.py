"""Heads, their first weights, and how losses add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from xlt.data.packing import Encoded, pack
from xlt.model.heads import PairHead, choice_loss, new_head, span_loss


def test_a_heads_weights_follow_from_the_seed(tiny):
    weights = []
    for seed in (1, 1, 2):
        model = tiny()
        torch.manual_seed(seed)
        model.add_head("a", "pair_classification", 3)
        weights.append(model.heads["a"].dense.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_first_weights_are_normal_with_the_librarys_spread():
    head = new_head("pair_classification", hidden=200, labels=2, dropout=0.1, std=0.02)
    assert isinstance(head, PairHead)
    # 40,000 draws: the spread of the estimate is 0.02 / sqrt(80,000), 1/280 of it.
    assert float(head.dense.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not head.dense.bias.any()
    assert not head.out_proj.bias.any()


def test_a_head_takes_its_dropout_from_the_backbone(tiny):
    model = tiny(hidden_dropout_prob=0.3)
    model.add_head("a", "pair_classification", 2)
    assert model.heads["a"].dropout.p == 0.3
    model = tiny(hidden_dropout_prob=0.3, classifier_dropout=0.0)
    model.add_head("a", "pair_classification", 2)
    assert model.heads["a"].dropout.p == 0.0


def test_a_second_head_of_a_task_replaces_the_first(tiny):
    model = tiny()
    model.add_head("a", "pair_classification", 2)
    model.add_head("a", "span_qa", 0)
    assert model.heads["a"].kind == "span_qa"


@pytest.mark.parametrize(
    ("kind", "labels"), [("masked_lm", 2), ("retrieval", 2), ("pair_classification", 0), ("tagging", 0)]
)
def test_kinds_without_a_head_are_refused(tiny, kind, labels):
    with pytest.raises(ValueError, match="no head"):
        tiny().add_head("a", kind, labels)


@pytest.mark.parametrize("all_rounded", [False, True], ids=["graph engine", "DeepSpeed"])
@pytest.mark.parametrize("kind", ["pair_classification", "multiple_choice", "tagging", "span_qa"])
def test_scores_of_a_rounded_encoder_are_not_rounded_themselves(tiny, batch_of, kind, all_rounded):
    """Against the heads' formulas in float64, from the same hidden states and weights; near 8 two numbers of bf16 lie
    0.06 apart, and of fp32 5e-7. DeepSpeed rounds the weights of the heads too."""
    model = tiny()
    model.add_head("a", kind, 3)
    for weight in model.heads.parameters():
        torch.nn.init.normal_(weight, std=1.0)
    model = model.bfloat16() if all_rounded else model.compute_in(torch.device("cpu"), "bf16")
    places = torch.tensor([0, 3, 6, 12]) if kind == "tagging" else None
    batch = batch_of([5, 1, 7, 4], kind, task="a", scored_positions=places)
    with torch.no_grad():
        hidden, (_, scores) = model._encode(batch), model(batch)
    assert hidden.dtype == torch.bfloat16
    rows, weights = (
        hidden.double(),
        {name: each.double() for name, each in model.heads["a"].state_dict().items()},
    )
    if kind == "span_qa":
        wanted = rows @ weights["qa_outputs.weight"].T + weights["qa_outputs.bias"]
    elif kind == "tagging":
        wanted = rows[batch.scored_positions] @ weights["classifier.weight"].T + weights["classifier.bias"]
    else:
        inner = torch.tanh(rows[batch.cu_seqlens[:-1]] @ weights["dense.weight"].T + weights["dense.bias"])
        wanted = (inner @ weights["out_proj.weight"].T + weights["out_proj.bias"]).squeeze(1)
    assert float(wanted.abs().max()) > 4
    assert torch.allclose(scores.double(), wanted, rtol=0, atol=2e-5)


def test_span_loss_is_over_the_tokens_of_each_sequence():
    lengths = [3, 1, 8]
    cu = torch.tensor([0, *lengths]).cumsum(0).int()
    logits = (20 * torch.randn(12, 2)).requires_grad_()
    labels = torch.tensor([[0, 2], [0, 0], [7, 3]])
    expected = sum(
        F.cross_entropy(part[None, :, side], label[None, side]) / 2
        for part, label in zip(logits.split(lengths), labels, strict=True)
        for side in (0, 1)
    )
    got = span_loss(logits, labels, cu, 8)
    torch.testing.assert_close(got, expected)
    grads = [torch.autograd.grad(loss, logits)[0] for loss in (got, expected)]
    torch.testing.assert_close(grads[0], grads[1])


def test_choice_loss_is_over_the_choices_of_each_example():
    groups = [2, 5, 1, 3]
    scores = (20 * torch.randn(11, dtype=torch.float64)).requires_grad_()
    labels = torch.tensor([1, 4, 0, 0])
    expected = sum(
        F.cross_entropy(part[None], label[None]) for part, label in zip(scores.split(groups), labels, strict=True)
    )
    got = choice_loss(scores, labels, torch.tensor([0, *groups]).cumsum(0), 5)
    torch.testing.assert_close(got, expected)
    grads = [torch.autograd.grad(loss, scores)[0] for loss in (got, expected)]
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("kind", ["multiple_choice", "tagging"])
def test_examples_score_and_count_alone_as_they_do_together(tiny, kind):
    model = tiny(dtype=torch.float64)
    model.add_head("task", kind, 4)
    tokens = np.random.default_rng(0).integers(3, 60, 30).astype(np.int32)
    if kind == "multiple_choice":
        examples = [Encoded("a", tokens[:11], (1,), lengths=(4, 7)), Encoded("b", tokens[11:], (0,), lengths=(9, 1, 9))]
    else:
        words = np.array([1, 2, 5], dtype=np.int32)
        examples = [Encoded("a", tokens[:6], (3, 0, 3), words=words), Encoded("b", tokens[6:], (2,), words=words[:1])]

    def run(*chosen):
        return model(pack(chosen, task="task", kind=kind, first_position=2))

    loss, scores = run(*examples)
    alone = [run(example) for example in examples]
    torch.testing.assert_close(torch.cat([each for _, each in alone]), scores, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sum(each for each, _ in alone), loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["pair_classification", "span_qa"])
def test_micro_batches_add_up_to_the_whole(tiny, batch_of, kind):
    model = tiny(dtype=torch.float64)
    model.add_head("task", kind, 3)
    labels = torch.tensor([[1, 2], [0, 0], [2, 1], [0, 3]])
    labels = labels[:, 0] if kind == "pair_classification" else labels
    whole = batch_of([5, 1, 7, 4], kind, labels=labels, denominator=4)
    loss, _ = model(whole)
    first = replace(
        whole,
        input_ids=whole.input_ids[:6],
        position_ids=whole.position_ids[:6],
        cu_seqlens=whole.cu_seqlens[:3],
        labels=labels[:2],
    )
    second = replace(
        whole,
        input_ids=whole.input_ids[6:],
        position_ids=whole.position_ids[6:],
        cu_seqlens=whole.cu_seqlens[2:] - 6,
        labels=labels[2:],
    )
    torch.testing.assert_close(model(first)[0] + model(second)[0], loss, rtol=1e-12, atol=0)


def test_without_labels_the_loss_is_nan_and_the_scores_are_there(tiny, batch_of):
    model = tiny()
    model.add_head("task", "pair_classification", 3)
    loss, scores = model(batch_of([3, 4], "pair_classification"))
    assert loss.isnan()
    assert scores.shape == (2, 3)
    assert scores.isfinite().all()
    loss, scores = model(batch_of([3, 4], "masked_lm"))
    assert loss.isnan()
    assert scores.numel() == 0


def test_a_batch_with_no_masked_token_has_loss_zero_and_a_gradient(tiny, batch_of):
    model = tiny()
    nothing = torch.zeros(0, dtype=torch.int64)
    loss, _ = model(batch_of([3, 4], "masked_lm", labels=nothing, scored_positions=nothing, denominator=5))
    assert loss.item() == 0
    loss.backward()
    assert not model.backbone.embeddings.word_embeddings.weight.grad.any()


def test_a_batch_that_the_model_has_no_head_for_is_an_error(tiny, batch_of):
    model = tiny()
    with pytest.raises(ValueError, match="no head for task 'task'"):
        model(batch_of([3, 4], "retrieval"))
    model.drop_masked_lm_head()
    with pytest.raises(ValueError, match="no language-model head"):
        model(batch_of([3, 4], "masked_lm"))
