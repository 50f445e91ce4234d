"""What must come out is computed by the library's padded model and a plain loop, and is not stale."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from artifact.documents.golden import first_steps, learning_rate, reference_of
from xlt.pipeline.training import Prepared
from xlt.strict_json import read_json
from xlt.tasks.record import Recipe
from xlt.train.batches import StepShard
from xlt.verify import golden
from xlt.verify.evidence import Evidence


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    (spec,) = [spec for spec in golden.golden_trainings() if spec.name == "baseline.udpos"]
    return golden.golden_start(spec, tmp_path_factory.mktemp("golden"))[0]


def test_the_reference_is_the_librarys_own_padded_model_in_fp64(start: Prepared) -> None:
    reference = reference_of(start.model)
    assert not reference.packed
    assert reference.backbone.config._attn_implementation == "eager"
    assert {parameter.dtype for parameter in reference.parameters()} == {torch.float64}
    ours = dict(start.model.named_parameters())
    assert all(torch.equal(weight.float(), ours[name]) for name, weight in reference.named_parameters())
    (batch,) = start.stream.micro_batches(0, StepShard())
    # Positions are the library's own: those of the batch have no part in it.
    wrong = type(batch)(
        **{name: getattr(batch, name) for name in batch.__slots__} | {"position_ids": batch.position_ids - 2}
    )
    assert torch.equal(reference(wrong)[0], reference(batch)[0])


def test_the_evidence_is_what_the_reference_gives(start: Prepared) -> None:
    evidence = read_json(golden.golden_folder() / "evidence.json", TypeAdapter(Evidence))
    stored = evidence.trainings["baseline.udpos"][:3]
    again = first_steps(start, 3)
    assert [step.model_copy(update={"loss": 0.0}) for step in again] == [
        step.model_copy(update={"loss": 0.0}) for step in stored
    ]
    assert [step.loss for step in again] == pytest.approx([step.loss for step in stored], rel=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.5])
def test_the_learning_rate_rises_and_falls(warmup: float) -> None:
    recipe = Recipe(steps=50, learning_rate=2e-3, warmup=warmup)
    rates = [learning_rate(recipe, step, 50) for step in range(50)]
    assert rates == pytest.approx([2e-3 * recipe.learning_rate_factor(step, 50) for step in range(50)])
    assert max(rates) == pytest.approx(2e-3)
    assert rates[-1] == pytest.approx(2e-3 / (50 - int(warmup * 50)))


def test_the_golden_folder_holds_what_can_be_told_apart() -> None:
    evidence = read_json(golden.golden_folder() / "evidence.json", TypeAdapter(Evidence))
    # A model that always says the same would hide a fault: each task has several answers, and losses differ by step.
    by_task: dict[str, set[object]] = {}
    for name, cell in evidence.cells.items():
        by_task.setdefault(name.split("/")[0], set()).update(map(str, cell.predictions))
    assert min(len(answers) for answers in by_task.values()) >= 2, {key: len(each) for key, each in by_task.items()}
    for name, steps in evidence.trainings.items():
        assert len({step.loss for step in steps}) == len(steps), name
