"""Which example is trained on when, and that dividing a step changes nothing but where it is computed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from xlt.data.packing import Encoded
from xlt.errors import UsageFault
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import Recipe, Task
from xlt.train.batches import BatchStream, StepShard
from xlt.train.masking import Vocabulary

VOCABULARY = Vocabulary(size=50, mask_id=49, special_ids=(0, 1, 2, 3, 49))


def stream(count: int = 10, *, task: Task | None = None, seed: int = 0, **recipe: int) -> BatchStream:
    task = task or get_task("mnli")
    random = np.random.default_rng(1)
    sequences = [
        Encoded(f"e{i}", random.integers(4, 49, size=3 + i % 7).astype(np.int32), (i % 3,)) for i in range(count)
    ]
    changed = dataclasses.replace(Recipe(batch_size=4, epochs=1), **recipe)
    return BatchStream(sequences, task, changed, seed=seed, first_position=2, vocabulary=VOCABULARY)


def test_every_example_comes_once_per_epoch_and_batches_are_full() -> None:
    batches = stream(10, epochs=2)
    assert batches.steps == 5
    seen = [index for step in range(batches.steps) for index in batches.indices(step)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_steps_of_the_recipe_win_over_epochs() -> None:
    assert stream(10, epochs=3, steps=7).steps == 7


def test_the_order_follows_from_the_seed() -> None:
    assert stream(seed=3).indices(1) == stream(seed=3).indices(1)
    assert stream(seed=3).indices(0) != stream(seed=4).indices(0)


def test_a_batch_larger_than_the_data_repeats_it() -> None:
    assert sorted(stream(3, batch_size=6, steps=1).indices(0)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("world", "accumulation"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_shares_hold_the_batch_exactly_once_and_their_means_add_up(world: int, accumulation: int) -> None:
    batches = stream()
    parts = [batch for rank in range(world) for batch in batches.micro_batches(2, StepShard(rank, world, accumulation))]
    (whole,) = batches.micro_batches(2, StepShard())
    assert sorted(id_ for part in parts for id_ in part.example_ids) == sorted(whole.example_ids)
    # A mean over processes and micro-batches of (number of examples / denominator) must be one.
    shares = [len(part.example_ids) / part.denominator for part in parts]
    assert sum(shares) / len(shares) == pytest.approx(1.0)


@pytest.mark.parametrize(("world", "accumulation"), [(2, 1), (1, 2), (4, 1)])
def test_tagging_is_a_mean_over_words_however_they_are_shared(world: int, accumulation: int) -> None:
    sequences = [
        Encoded(f"s{n}", np.full(n + 2, 5, dtype=np.int32), (0,) * n, words=np.arange(1, n + 1, dtype=np.int32))
        for n in (1, 9, 3, 4)
    ]
    batches = BatchStream(
        sequences, get_task("udpos"), Recipe(batch_size=4, epochs=1), seed=0, first_position=2, vocabulary=None
    )
    parts = [batch for rank in range(world) for batch in batches.micro_batches(0, StepShard(rank, world, accumulation))]
    words = [0 if part.labels is None else len(part.labels) for part in parts]
    assert sum(words) == 17
    shares = [count / part.denominator for count, part in zip(words, parts, strict=True)]
    assert sum(shares) / len(shares) == pytest.approx(1.0)


def test_masks_do_not_depend_on_the_division() -> None:
    batches = stream(task=MASKED_LM)
    (whole,) = batches.micro_batches(0, StepShard())
    parts = [batches.micro_batches(0, StepShard(rank, 2))[0] for rank in (0, 1)]
    assert whole.labels is not None
    labels = [part.labels for part in parts if part.labels is not None]
    assert sum(map(len, labels)) == len(whole.labels)
    rows = {row(part, i) for part in parts for i in range(len(part.example_ids))}
    assert rows == {row(whole, i) for i in range(len(whole.example_ids))}
    shares = [len(label) / part.denominator for label, part in zip(labels, parts, strict=True)]
    assert sum(shares) / 2 == pytest.approx(1.0)


def row(batch: object, index: int) -> tuple[int, ...]:
    start, end = batch.cu_seqlens[index : index + 2].tolist()  # type: ignore[attr-defined]
    return tuple(batch.input_ids[start:end].tolist())  # type: ignore[attr-defined]


def test_positions_restart_in_each_sequence() -> None:
    (batch,) = stream().micro_batches(0, StepShard())
    for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
        assert batch.position_ids[start:end].tolist() == list(range(2, 2 + int(end - start)))


def test_too_many_shares_are_refused() -> None:
    with pytest.raises(UsageFault, match="cannot be divided"):
        stream().micro_batches(0, StepShard(0, 8, 1))


def test_the_digest_names_the_examples() -> None:
    batches = stream(epochs=3)
    assert batches.digest(0) == batches.digest(0) != batches.digest(1)
