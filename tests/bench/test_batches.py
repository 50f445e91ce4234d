"""The same examples on both sides, and how much padding each way to pad costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.bench.conftest import LONGEST
from xlt.bench.batches import POLICIES, Policy, SameBatch, Shape, is_token, pad, padded_inputs, same_batch, same_batches
from xlt.data.packing import Encoded
from xlt.errors import UsageFault
from xlt.tasks.record import Kind

KIND: Kind = "pair_classification"
SHAPE = Shape(steps=12, batch_size=8, max_length=LONGEST)


@pytest.fixture(scope="module")
def batches(sequences: list[Encoded]) -> dict[Policy, list[SameBatch]]:
    return {policy: same_batches(sequences, KIND, policy, SHAPE, 2) for policy in POLICIES}


def slots(batches: list[SameBatch]) -> list[tuple[int, ...]]:
    return [tuple(batch.padded["input_ids"].shape) for batch in batches]


@pytest.mark.parametrize("policy", POLICIES)
def test_both_sides_hold_the_same_examples(
    batches: dict[Policy, list[SameBatch]], sequences: list[Encoded], policy: Policy
) -> None:
    by_id = {sequence.example_id: sequence for sequence in sequences}
    seen = [name for batch in batches[policy] for name in batch.packed.example_ids]
    assert len(seen) == len(set(seen)) == SHAPE.steps * SHAPE.batch_size
    for batch in batches[policy]:
        packed = batch.packed.input_ids.split(batch.packed.cu_seqlens.diff().tolist())
        for row, name in enumerate(batch.packed.example_ids):
            real = batch.padded["input_ids"][row][batch.padded["attention_mask"][row].bool()]
            assert torch.equal(real, packed[row])
            assert real.tolist() == by_id[name].input_ids.tolist()
            assert batch.padded["labels"][row] == by_id[name].label[0]
        assert batch.packed.labels is not None
        assert torch.equal(batch.packed.labels, batch.padded["labels"])


def test_each_way_pads_as_its_name_says(batches: dict[Policy, list[SameBatch]]) -> None:
    assert slots(batches["fixed padding"]) == [(SHAPE.batch_size, SHAPE.max_length)] * SHAPE.steps
    for policy in ("dynamic padding", "length grouping"):
        longest = [(SHAPE.batch_size, batch.packed.max_seqlen) for batch in batches[policy]]
        assert slots(batches[policy]) == longest


def test_fixed_and_dynamic_padding_see_the_same_batches(batches: dict[Policy, list[SameBatch]]) -> None:
    fixed, dynamic, grouped = (
        [batch.packed.example_ids for batch in batches[policy]]
        for policy in ("fixed padding", "dynamic padding", "length grouping")
    )
    assert fixed == dynamic != grouped


def test_length_grouping_pads_least_and_fixed_padding_most(batches: dict[Policy, list[SameBatch]]) -> None:
    waste = {
        policy: sum(rows * length for rows, length in slots(of)) / sum(batch.packed.tokens for batch in of)
        for policy, of in batches.items()
    }
    assert 1 <= waste["length grouping"] < waste["dynamic padding"] < waste["fixed padding"]


def test_grouped_batches_come_from_all_lengths(batches: dict[Policy, list[SameBatch]]) -> None:
    # The sampler hands out long batches first: its first twelve would have no short one.
    longest = [batch.packed.max_seqlen for batch in batches["length grouping"]]
    assert min(longest) < SHAPE.max_length / 2 < max(longest)


def test_too_few_examples_are_named(sequences: list[Encoded]) -> None:
    with pytest.raises(UsageFault, match="10 examples make 1 batches of 8; 12 steps"):
        same_batches(sequences[:10], KIND, "fixed padding", SHAPE, 2)


def test_the_choices_of_an_example_stay_same_batch() -> None:
    pieces = [np.full(length, 7, dtype=np.int32) for length in (3, 5, 4, 2)]
    pairs = [
        Encoded(str(n), np.concatenate(pieces[n : n + 2]), (1,), lengths=(len(pieces[n]), len(pieces[n + 1])))
        for n in (0, 2)
    ]
    batch = same_batch(pairs, "multiple_choice", first_position=2)
    assert batch.padded["attention_mask"].sum(2).tolist() == [[3, 5], [4, 2]]
    assert batch.padded["labels"].tolist() == [1, 1]
    assert torch.equal((batch.padded["input_ids"] == 7).long(), batch.padded["attention_mask"])


def test_padding_and_back() -> None:
    tokens = torch.arange(12.0).view(6, 2)
    laid = pad(tokens, [1, 3, 2], -1)
    assert laid.tolist()[0] == [[0, 1], [-1, -1], [-1, -1]]
    assert torch.equal(laid[is_token([1, 3, 2], "cpu")], tokens)


def test_ids_and_mask_are_padded_to_the_longest_sequence_or_to_a_width() -> None:
    ids, mask = padded_inputs(torch.tensor([0, 2, 0, 7, 2]), [2, 3])
    assert (ids.tolist(), mask.tolist()) == ([[0, 2, 1], [0, 7, 2]], [[1, 1, 0], [1, 1, 1]])
    ids, mask = padded_inputs(torch.tensor([0, 2, 0, 7, 2]), [2, 3], width=4)
    assert (ids.tolist(), mask.tolist()) == ([[0, 2, 1, 1], [0, 7, 2, 1]], [[1, 1, 0, 0], [1, 1, 1, 0]])
