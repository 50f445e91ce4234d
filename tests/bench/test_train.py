"""Rows of packed and padded training steps: they count what they say, on the same batches."""

from __future__ import annotations

import pytest

from tests.bench.conftest import CONFIG, CPU, KIND, LONGEST
from xlt.bench.batches import POLICIES, SameBatch, Shape, same_batches
from xlt.bench.train import bench_train, policy_rows
from xlt.bench.trainers import TorchTrainer
from xlt.bench.workload import WARM_UP, Bench
from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import Backbone

SHAPE = Shape(steps=4, batch_size=6, max_length=20)


@pytest.fixture(scope="module")
def result(world: Source) -> Bench:
    return bench_train(world, "xnli", Backbone(vocabulary=400, config=CONFIG), SHAPE)


def test_a_row_per_way_to_pad(result: Bench) -> None:
    assert [row.name for row in result.workloads] == ["dynamic padding", "fixed padding", "length grouping"]
    assert result.settings["task"] == "mnli"  # whose training set xnli uses
    assert (result.settings["layers"], result.settings["batch_size"], result.settings["max_length"]) == (1, 6, 20)
    for row in result.workloads:
        assert row.rounds == SHAPE.steps
        assert [timing.name for timing in row.timings] == ["packed", f"Hugging Face, {row.name}"]
        assert all(timing.seconds for timing in row.timings)
        assert row.share is not None


def test_slots_per_token_counted_from_the_lengths(model: PackedModel, sequences: list[Encoded]) -> None:
    shape = Shape(steps=5, batch_size=8, max_length=LONGEST)
    rows = policy_rows(model, sequences, KIND, shape, CPU)
    for policy, row in zip(POLICIES, rows, strict=True):
        batches = same_batches(sequences, KIND, policy, shape, 2)
        length_of = {sequence.example_id: len(sequence.input_ids) for sequence in sequences}
        lengths = [[length_of[name] for name in batch.packed.example_ids] for batch in batches]
        padded = [LONGEST if policy == "fixed padding" else max(each) for each in lengths]
        tokens = sum(map(sum, lengths))
        assert row.quantity["tokens"] == tokens / 5
        assert row.quantity["slots"] == 8 * sum(padded) / 5
        assert f"{8 * sum(padded) / tokens:.2f} slots per token" in row.about


def test_both_make_a_step_on_every_batch_in_the_same_order(
    model: PackedModel, sequences: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, list[SameBatch]] = {}
    step = TorchTrainer.step

    def spy(self: TorchTrainer, *batches: SameBatch) -> None:
        seen.setdefault(id(self), []).extend(batches)
        step(self, *batches)

    monkeypatch.setattr(TorchTrainer, "step", spy)
    policy_rows(model, sequences, KIND, SHAPE, CPU)
    packed, padded = seen.values()
    assert len(packed) == len(POLICIES) * (WARM_UP + SHAPE.steps)
    assert [id(batch) for batch in packed] == [id(batch) for batch in padded]
    timed = {id(batch) for batch in packed[WARM_UP : WARM_UP + SHAPE.steps]}
    assert len(timed) == SHAPE.steps


def test_only_pairs_are_timed(world: Source) -> None:
    for task in ("squad", "tatoeba", "mlm"):
        with pytest.raises(UsageFault, match="does not classify pairs"):
            bench_train(world, task, Backbone(vocabulary=400, config=CONFIG), SHAPE)
