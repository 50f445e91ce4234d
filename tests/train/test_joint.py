"""Several tasks trained together: who comes how often, in which order, and alike in every ZeRO stage."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.train.test_loop import CONFIG
from xlt.data.packing import Encoded
from xlt.model.encoder import PackedModel
from xlt.runtime import start_process_group
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.batches import BatchStream, JointStream, StepShard
from xlt.train.engine import EngineSettings
from xlt.train.loop import StepRecord, train
from xlt.train.masking import Vocabulary


def stream(key: str, count: int) -> BatchStream:
    """Examples of a pair task, a choice task (two choices each) or a tagging task (three words each)."""
    random = np.random.default_rng(len(key))
    task = get_task(key)
    examples = []
    for number in range(count):
        tokens = random.integers(4, 60, size=6).astype(np.int32)
        if task.kind == "multiple_choice":
            examples.append(Encoded(f"{key}{number}", tokens, (number % 2,), lengths=(2, 4)))
        elif task.kind == "tagging":
            words = np.array([1, 2, 4], dtype=np.int32)
            examples.append(Encoded(f"{key}{number}", tokens, tuple((tokens[words] % 3).tolist()), words=words))
        else:
            examples.append(Encoded(f"{key}{number}", tokens, (number % 3,)))
    vocabulary = Vocabulary(60, 59, (0, 1, 2, 3, 59)) if task.kind == "masked_lm" else None
    return BatchStream(examples, task, Recipe(batch_size=8), seed=1, first_position=2, vocabulary=vocabulary)


def joint(sizes: dict[str, int], *, seed: int = 0, **recipe: float) -> JointStream:
    streams = [stream(key, count) for key, count in sizes.items()]
    return JointStream(streams, dataclasses.replace(Recipe(batch_size=8), **recipe), seed=seed)


def test_tasks_come_in_proportion_to_their_examples_up_to_the_cap() -> None:
    batches = joint({"mnli": 900, "udpos": 100, "panx": 40}, steps=4000, examples_cap=200)
    drawn = [batches.task_of(step) for step in range(4000)]
    shares = [drawn.count(key) / 4000 for key in ("mnli", "udpos", "panx")]
    # Five standard deviations of a share of 4,000 draws are below 0.04.
    assert shares == pytest.approx([200 / 340, 100 / 340, 40 / 340], abs=0.04)


def test_an_epoch_is_one_pass_over_the_examples_that_count() -> None:
    assert joint({"mnli": 900, "udpos": 100}, epochs=2, examples_cap=220).steps == 2 * 320 / 8


def test_each_task_goes_through_its_own_examples_in_its_own_order() -> None:
    batches = joint({"mnli": 64, "udpos": 64}, steps=30)
    for own in batches.streams:
        steps = [step for step in range(30) if batches.task_of(step) == own.task.key]
        assert len(steps) > 8
        expected = [own.digest(place) for place in range(len(steps))]
        assert [batches.digest(step) for step in steps] == expected
        ids = {
            id_ for step in steps[:8] for batch in batches.micro_batches(step, StepShard()) for id_ in batch.example_ids
        }
        assert len(ids) == 64


def test_the_mix_follows_from_the_seed() -> None:
    def mix(seed: int) -> list[str]:
        batches = joint({"mnli": 50, "udpos": 50}, seed=seed, steps=40)
        return [batches.task_of(step) for step in range(40)]

    assert mix(3) == mix(3)
    assert mix(3) != mix(4)


def run(settings: EngineSettings) -> tuple[list[StepRecord], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = PackedModel.fresh(CONFIG)
    for key, labels in (("mnli", 3), ("hellaswag", 1), ("panx", 3)):
        model.add_head(key, get_task(key).kind, labels)
    batches = joint({"mnli": 48, "hellaswag": 48, "panx": 48, "mlm": 48}, steps=24, learning_rate=3e-3)
    records: list[StepRecord] = []
    trained = train(model, batches, settings, on_step=records.append)
    return records, trained.weights


@pytest.mark.parametrize(
    "settings",
    [EngineSettings(zero="1"), EngineSettings(zero="2"), EngineSettings(zero="3"), EngineSettings(accumulation=4)],
    ids=str,
)
def test_heads_that_a_step_leaves_out_are_no_matter_to_zero_and_micro_batches(settings: EngineSettings) -> None:
    start_process_group()
    plain, plain_end = run(EngineSettings())
    other, other_end = run(settings)
    assert {record.task for record in plain} == {"mnli", "hellaswag", "panx", "mlm"}
    # Sums in another order: differences of a few float32 roundings, amplified by Adam.
    assert [record.loss for record in other] == pytest.approx([record.loss for record in plain], abs=5e-5)
    # No choice gains by a bias that all choices share: its gradient is rounding alone.
    plain_end.pop("heads.hellaswag.out_proj.bias")
    for name, weight in plain_end.items():
        assert torch.allclose(other_end[name], weight, atol=5e-4), name
