"""The layout of ragged sequences in padded blocks."""

from __future__ import annotations

import random

import pytest
import torch
from xlt_kernels.plan import AttentionPlan, plan_attention


def _plan(lengths: list[int]) -> AttentionPlan:
    return plan_attention(torch.tensor([0, *lengths]).cumsum(0).int())


@pytest.mark.parametrize("seed", range(5))
def test_every_token_has_a_slot_of_its_own_in_a_row_of_its_sequence(seed):
    chance = random.Random(seed)
    lengths = [chance.choice((0, chance.randint(1, 90))) for _ in range(50)]
    plan = _plan(lengths)
    assert plan.slot_of_token.numel() == sum(lengths)
    assert plan.slot_of_token.unique().numel() == sum(lengths)
    rows: list[tuple[int, int]] = []
    masks = []
    for block in plan.blocks:
        base = rows[-1][1] if rows else 0
        rows += [(base + i * block.length, base + (i + 1) * block.length) for i in range(block.sequences)]
        real = torch.ones(block.sequences, block.length, dtype=torch.bool)
        masks.append((real if block.key_mask is None else block.key_mask[:, 0, 0]).flatten())
    assert rows[-1][1] == plan.slots
    starts = {start for start, _ in rows}
    for slots in plan.slot_of_token.split(lengths):
        if slots.numel():
            assert int(slots[0]) in starts
            assert torch.equal(slots, torch.arange(slots.numel()) + slots[0])
    used = torch.zeros(plan.slots, dtype=torch.bool)
    used[plan.slot_of_token] = True
    assert torch.equal(used, torch.cat(masks))


def test_one_long_sequence_does_not_pad_the_short_ones():
    lengths = [512] + [10] * 100
    assert _plan(lengths).slots == sum(lengths)


def test_equal_lengths_are_one_block_without_a_mask():
    plan = _plan([24] * 32)
    assert [(block.sequences, block.length, block.key_mask) for block in plan.blocks] == [(32, 24, None)]


def test_similar_lengths_share_a_block():
    assert len(_plan([10, 9, 10, 8]).blocks) == 1


def test_a_batch_without_tokens_has_no_blocks():
    plan = _plan([0, 0])
    assert plan.blocks == ()
    assert plan.slots == 0
