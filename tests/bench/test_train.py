"""The two sides start equal, differences stop the clock before it starts, and rows count what they say."""

from __future__ import annotations

import pytest

from tests.bench.conftest import CONFIG, CPU, KIND, LONGEST
from xlt.bench.batches import Shape, same_batches
from xlt.bench.train import TrainBench, bench_train, compare
from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import Backbone

SHAPE = Shape(steps=4, batch_size=6, max_length=20)


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
