"""Packed and padded trainer start equal, and differences stop a benchmark before its clock starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.bench.conftest import CPU, KIND
from xlt.bench.batches import SameBatch, same_batch
from xlt.bench.trainers import TorchTrainer, check_parity, packed_trainer, padded_trainer
from xlt.data.packing import Encoded
from xlt.errors import EnvironmentFault
from xlt.model.encoder import PackedModel

Pair = tuple[TorchTrainer, TorchTrainer]


@pytest.fixture
def trainers(model: PackedModel) -> Pair:
    return packed_trainer(model, CPU), padded_trainer(model, KIND, CPU)


@pytest.fixture
def batch() -> SameBatch:
    draw = np.random.default_rng(0)
    members = [Encoded(str(n), draw.integers(5, 60, size=n).astype(np.int32), (n % 3,)) for n in (3, 9, 5, 9)]
    return same_batch(members, KIND, first_position=2)


def test_the_trainers_start_equal_and_stay_so_over_a_step(trainers: Pair, batch: SameBatch) -> None:
    left, right = trainers
    check_parity(left, right, batch)
    before = left.loss_and_gradient(batch)
    left.step(batch)
    right.step(batch)
    assert left.loss_and_gradient(batch) != before
    # Of gradients that are zero but for rounding, AdamW makes steps of 1e-5: more than rounding, less than a step.
    assert left.loss_and_gradient(batch)[0] == pytest.approx(right.loss_and_gradient(batch)[0], rel=1e-4)


def test_both_trainers_train_the_same_number_of_weights(trainers: Pair) -> None:
    ours, library = (sum(p.numel() for p in each.model.parameters()) for each in trainers)
    assert ours == library
    assert trainers[1].model.config._attn_implementation == "sdpa"  # the library's default


@pytest.mark.parametrize("part", ["word_embeddings", "query.weight", "classifier.out_proj.bias"])
def test_another_weight_stops_the_benchmark(trainers: Pair, batch: SameBatch, part: str) -> None:
    (name,) = (name for name, _ in trainers[1].model.named_parameters() if part in name)
    with torch.no_grad():
        trainers[1].model.get_parameter(name).view(-1)[0::2] += 0.05
    with pytest.raises(EnvironmentFault, match="Nothing was timed"):
        check_parity(*trainers, batch)


def test_a_baseline_that_reads_its_padding_stops_the_benchmark(trainers: Pair, batch: SameBatch) -> None:
    batch.padded["attention_mask"].fill_(1)
    with pytest.raises(EnvironmentFault, match="Nothing was timed"):
        check_parity(*trainers, batch)
