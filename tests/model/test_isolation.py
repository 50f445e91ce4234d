"""A sequence of a packed batch never sees another one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

LENGTHS = [6, 1, 30, 6, 13]
BOUNDS = [0, 6, 7, 37, 43, 56]


def test_another_token_changes_no_bit_of_the_other_sequences(tiny, batch_of):
    model, batch = tiny(), batch_of(LENGTHS)
    before = model.hidden_states(batch, 3)
    for changed in (0, 6, 20, 42, 55):
        ids = batch.input_ids.clone()
        ids[changed] = 3 + (ids[changed] - 2) % 50
        after = model.hidden_states(replace(batch, input_ids=ids), 3)
        for start, end in pairwise(BOUNDS):
            same = torch.equal(before[start:end], after[start:end])
            assert same == (not start <= changed < end)


def test_the_gradient_of_one_sequence_is_zero_at_the_others(tiny, batch_of):
    model, batch = tiny(), batch_of(LENGTHS)
    embedded = []
    model.backbone.embeddings.register_forward_hook(lambda _, __, out: embedded.append(out))
    hidden = model.hidden_states(batch, 3)
    for start, end in pairwise(BOUNDS):
        # Squares: a plain sum of LayerNorm outputs has no gradient.
        loss = hidden[start:end].square().sum() + hidden[start:end, 0].sum()
        (grad,) = torch.autograd.grad(loss, embedded[0], retain_graph=True)
        touched = grad[0].abs().sum(dim=1) > 0
        assert touched[start:end].all()
        assert int(touched.sum()) == end - start


def test_the_order_of_the_sequences_does_not_matter(tiny, batch_of):
    model, batch = tiny(), batch_of(LENGTHS)
    lengths = LENGTHS[::-1]
    pick = torch.cat([torch.arange(BOUNDS[i], BOUNDS[i + 1]) for i in range(4, -1, -1)])
    turned = replace(
        batch,
        input_ids=batch.input_ids[pick],
        position_ids=batch.position_ids[pick],
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).int(),
    )
    # Rounding only: the same rows stand elsewhere in the products.
    torch.testing.assert_close(model.hidden_states(turned, 3), model.hidden_states(batch, 3)[pick], rtol=0, atol=2e-5)


def test_attention_dropout_is_on_in_training_only(tiny, batch_of):
    model, batch = tiny(attention_probs_dropout_prob=0.3), batch_of(LENGTHS)
    assert not model.training
    assert torch.equal(model.hidden_states(batch, 3), model.hidden_states(batch, 3))
    model.train()
    torch.manual_seed(1)
    first, second = model.hidden_states(batch, 3), model.hidden_states(batch, 3)
    torch.manual_seed(1)
    assert torch.equal(model.hidden_states(batch, 3), first)
    assert not torch.equal(first, second)


def test_attention_dropout_leaves_the_mean_of_the_first_layer(tiny, batch_of):
    # Attention output is linear in the weights, so its mean over dropout masks is its value without dropout.
    model, batch = tiny(attention_probs_dropout_prob=0.2), batch_of([9, 4])
    attended = []
    model.backbone.encoder.layer[0].attention.self.register_forward_hook(
        lambda _, __, out: attended.append(out[0].detach())
    )
    with torch.no_grad():
        model.hidden_states(batch, 1)
        model.train()
        torch.manual_seed(0)
        draws = 400
        for _ in range(draws):
            model.hidden_states(batch, 1)
    exact, drawn = attended[0], torch.stack(attended[1:])
    error = (drawn.mean(0) - exact).abs() / (drawn.std(0) / draws**0.5)
    # 416 means: one of them is beyond five standard errors once in 4,000 seeds; the seed is fixed.
    assert float(error.max()) < 5
