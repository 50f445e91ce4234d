"""The two sides start equal, differences stop the clock before it starts, and rows count what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.bench.conftest import LONGEST
from xlt.bench.batches import SameBatch, Shape, same_batches, together
from xlt.bench.sides import Side, check_parity, ours, peer
from xlt.bench.train import TrainBench, bench_train, compare
from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.errors import EnvironmentFault, UsageFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import Backbone
from xlt.tasks.record import Kind

CPU = torch.device("cpu")
KIND: Kind = "pair_classification"
CONFIG: dict[str, int | float] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST + 2,
    "initializer_range": 0.2,
    # The benchmark takes dropout out itself: with it the parity check would stop every run.
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
SHAPE = Shape(steps=4, batch_size=6, max_length=20)


@pytest.fixture
def model() -> PackedModel:
    torch.manual_seed(0)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = PackedModel.fresh({**CONFIG, **no_dropout, "vocab_size": 60})
    model.drop_masked_lm_head()
    model.add_head(KIND, KIND, 3)
    return model


@pytest.fixture
def sides(model: PackedModel) -> tuple[Side, Side]:
    return ours(model, CPU), peer(model, KIND, CPU)


@pytest.fixture
def batch() -> SameBatch:
    draw = np.random.default_rng(0)
    members = [Encoded(str(n), draw.integers(5, 60, size=n).astype(np.int32), (n % 3,)) for n in (3, 9, 5, 9)]
    return together(members, KIND, first_position=2)


def test_the_sides_start_equal_and_stay_so_over_a_step(sides: tuple[Side, Side], batch: SameBatch) -> None:
    left, right = sides
    check_parity(left, right, batch)
    before = left.loss_and_gradient(batch)
    left.step(batch)
    right.step(batch)
    assert left.loss_and_gradient(batch) != before
    # Of gradients that are zero but for rounding, AdamW makes steps of 1e-5: more than rounding, less than a step.
    assert left.loss_and_gradient(batch)[0] == pytest.approx(right.loss_and_gradient(batch)[0], rel=1e-4)


def test_both_sides_train_the_same_number_of_weights(sides: tuple[Side, Side]) -> None:
    ours_count, peer_count = (sum(p.numel() for p in side.model.parameters()) for side in sides)
    assert ours_count == peer_count
    assert sides[1].model.config._attn_implementation == "sdpa"  # the library's default


@pytest.mark.parametrize("part", ["word_embeddings", "query.weight", "classifier.out_proj.bias"])
def test_another_weight_stops_the_benchmark(sides: tuple[Side, Side], batch: SameBatch, part: str) -> None:
    (name,) = (name for name, _ in sides[1].model.named_parameters() if part in name)
    with torch.no_grad():
        sides[1].model.get_parameter(name).view(-1)[0::2] += 0.05
    with pytest.raises(EnvironmentFault, match="Nothing was timed"):
        check_parity(*sides, batch)


def test_a_peer_that_reads_its_padding_stops_the_benchmark(sides: tuple[Side, Side], batch: SameBatch) -> None:
    batch.padded["attention_mask"].fill_(1)
    with pytest.raises(EnvironmentFault, match="Nothing was timed"):
        check_parity(*sides, batch)


@pytest.fixture(scope="module")
def result(world: Source) -> TrainBench:
    return bench_train(world, "xnli", Backbone(vocabulary=400, config=CONFIG), SHAPE)


def test_a_row_per_way_to_pad(result: TrainBench) -> None:
    assert [row.name for row in result.rows] == ["dynamic padding", "fixed padding", "length grouping"]
    assert result.task == "mnli"  # whose training set xnli uses
    assert result.model["layers"] == 1
    for row in result.rows:
        assert row.steps == SHAPE.steps
        assert min(row.ours_s, row.peer_s) > 0
        assert row.ratio_p10 <= row.ratio <= row.ratio_p90


def test_slots_per_token_counted_from_the_lengths(model: PackedModel, sequences: list[Encoded]) -> None:
    shape = Shape(steps=5, batch_size=8, max_length=LONGEST)
    for row in compare(model, sequences, KIND, shape, CPU):
        batches = same_batches(sequences, KIND, row.name, shape, 2)
        length_of = {sequence.example_id: len(sequence.input_ids) for sequence in sequences}
        lengths = [[length_of[name] for name in batch.packed.example_ids] for batch in batches]
        padded = [LONGEST if row.name == "fixed padding" else max(each) for each in lengths]
        tokens = sum(map(sum, lengths))
        assert row.tokens_per_step == tokens / 5
        assert row.slots_per_token == pytest.approx(8 * sum(padded) / tokens)


def test_only_pairs_are_timed(world: Source) -> None:
    for task in ("squad", "tatoeba", "mlm"):
        with pytest.raises(UsageFault, match="does not classify pairs"):
            bench_train(world, task, Backbone(vocabulary=400, config=CONFIG), SHAPE)
