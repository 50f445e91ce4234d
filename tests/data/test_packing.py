"""Packed batches: order, positions, and grouping by tokens for inference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from xlt.data.packing import Encoded, by_tokens, one_ahead, pack


def sequences(lengths: list[int]) -> list[Encoded]:
    return [Encoded(f"s{i}", np.arange(10, 10 + n, dtype=np.int32), (i,)) for i, n in enumerate(lengths)]


def test_sequences_lie_end_to_end() -> None:
    batch = pack(sequences([3, 1, 2]), task="mnli", kind="pair_classification", first_position=2)
    assert batch.input_ids.tolist() == [10, 11, 12, 10, 10, 11]
    assert batch.position_ids.tolist() == [2, 3, 4, 2, 2, 3]
    assert batch.cu_seqlens.tolist() == [0, 3, 4, 6]
    assert batch.cu_seqlens.dtype == torch.int32
    assert (batch.max_seqlen, batch.tokens) == (3, 6)
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 2]


def test_labels_are_there_only_when_every_sequence_has_one() -> None:
    mixed = [*sequences([2]), Encoded("x", np.zeros(2, dtype=np.int32))]
    assert pack(mixed, task="mnli", kind="pair_classification", first_position=2).labels is None


def test_the_choices_of_an_example_are_sequences_of_a_group() -> None:
    rows = [
        Encoded("a", np.arange(10, 16, dtype=np.int32), (1,), lengths=(4, 2)),
        Encoded("b", np.arange(20, 23, dtype=np.int32), (2,), lengths=(1, 1, 1)),
    ]
    batch = pack(rows, task="hellaswag", kind="multiple_choice", first_position=2)
    assert batch.cu_seqlens.tolist() == [0, 4, 6, 7, 8, 9]
    assert batch.position_ids.tolist() == [2, 3, 4, 5, 2, 3, 2, 2, 2]
    assert batch.cu_groups is not None
    assert (batch.cu_groups.tolist(), batch.max_group, batch.max_seqlen) == ([0, 2, 5], 3, 4)
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 2]
    assert batch.example_ids == ("a", "b")


def test_words_are_scored_at_their_place_in_the_row() -> None:
    rows = [
        Encoded("a", np.arange(6, dtype=np.int32), (3, 0), words=np.array([1, 3], dtype=np.int32)),
        Encoded("a", np.arange(3, dtype=np.int32), (5,), words=np.array([1], dtype=np.int32)),
    ]
    batch = pack(rows, task="udpos", kind="tagging", first_position=2)
    assert batch.scored_positions is not None
    assert batch.labels is not None
    assert (batch.scored_positions.tolist(), batch.labels.tolist()) == ([1, 3, 7], [3, 0, 5])
    assert batch.cu_groups is None


def test_moving_a_batch_keeps_everything() -> None:
    batch = pack(sequences([3, 1]), task="mnli", kind="pair_classification", first_position=2, denominator=4.0)
    moved = batch.to("meta")
    assert moved.input_ids.device.type == moved.cu_seqlens.device.type == "meta"
    assert (moved.example_ids, moved.denominator, moved.max_seqlen) == (("s0", "s1"), 4.0, 3)


@pytest.mark.parametrize("limit", [1, 7, 20, 1000])
def test_groups_hold_every_sequence_once_within_the_limit(limit: int) -> None:
    rows = sequences([5, 1, 9, 3, 3, 7, 2])
    groups = list(by_tokens(rows, limit))
    assert sorted(index for group in groups for index in group) == list(range(7))
    for group in groups:
        assert len(group) == 1 or sum(len(rows[index].input_ids) for index in group) <= limit
    lengths = [len(rows[index].input_ids) for group in groups for index in group]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_one_ahead_is_made_before_the_one_before_it_is_used(count: int) -> None:
    events = []

    def made() -> Iterator[int]:
        for number in range(count):
            events.append(f"made {number}")
            yield number

    used = []
    for number in one_ahead(made()):
        events.append(f"used {number}")
        used.append(number)
    assert used == [*range(count)]
    for number in range(count - 1):
        assert events.index(f"made {number + 1}") == events.index(f"used {number}") - 1


def test_an_error_one_ahead_comes_after_what_was_made_before_it() -> None:
    def made() -> Iterator[int]:
        yield 0
        yield 1
        raise MemoryError("of the third")

    ahead = one_ahead(made())
    assert (next(ahead), next(ahead)) == (0, 1)
    with pytest.raises(MemoryError, match="of the third"):
        next(ahead)
    # Who stops early is not given more.
    ahead = one_ahead(iter(range(9)))
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert list(ahead) == []
