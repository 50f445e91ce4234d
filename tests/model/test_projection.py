"""Query, key and value as one product of weights side by side: what three products give, under the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.train.test_loop import CONFIG, batch_stream, fresh_model
from xlt.bench.operations import Operations
from xlt.model.encoder import PackedModel
from xlt.model.projection import NAMES, Projection, lay_together, side_by_side
from xlt.train.batches import StepShard
from xlt.train.engine import EngineSettings
from xlt.train.graph import GraphEngine

BLOCK = "encoder.layer.0.attention.self"


def laid_together() -> tuple[PackedModel, PackedModel]:
    """A model, and the same with one product."""
    plain, model = fresh_model(), fresh_model()
    lay_together(model.backbone)
    return plain, model


def results(model: PackedModel) -> list[Tensor]:
    (batch,) = batch_stream().micro_batches(0, StepShard())
    loss, scores = model(batch)
    loss.backward()
    gradients = [each.grad for each in model.parameters()]
    return [loss.detach(), scores.detach(), *(each for each in gradients if each is not None)]


def test_names_and_values_stay_and_the_weights_share_one_storage() -> None:
    plain, model = laid_together()
    for (name, weight), (other, same) in zip(plain.named_parameters(), model.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(weight, same)
    block: Any = model.backbone.get_submodule(BLOCK)
    whole = side_by_side([getattr(block, name).weight for name in NAMES], 0)
    assert whole is not None
    assert whole.shape == (3 * CONFIG["hidden_size"], CONFIG["hidden_size"])


def test_loss_and_gradients_are_those_of_three_products() -> None:
    plain, model = laid_together()
    with Operations() as few:
        found = results(model)
    with Operations() as more:
        wanted = results(plain)
    assert len(found) == len(wanted)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    assert few.operations <= more.operations - 9 * CONFIG["num_hidden_layers"]
    # The gradients are slices of one and not copies of them.
    block: Any = model.backbone.get_submodule(BLOCK)
    assert side_by_side([getattr(block, name).weight.grad for name in NAMES], 0) is not None


def test_each_state_gets_its_own_product_in_whatever_order_they_are_asked_for() -> None:
    _, model = laid_together()
    block: Any = model.backbone.get_submodule(BLOCK)
    first, second = torch.randn(2, 5, CONFIG["hidden_size"]).unbind()
    for part, hidden in ((block.key, first), (block.query, second), (block.key, second), (block.value, first)):
        assert torch.allclose(part(hidden), torch.nn.functional.linear(hidden, part.weight, part.bias), atol=1e-6)


def test_where_a_change_of_type_moved_the_weights_each_is_computed_alone() -> None:
    plain, model = laid_together()
    assert isinstance(model.backbone.get_submodule(BLOCK).query, Projection)
    found, wanted = (results(each.double()) for each in (model, plain))
    assert all(torch.equal(mine, other) for mine, other in zip(found, wanted, strict=True))


def slices(gap: int = 0) -> Sequence[Tensor]:
    return torch.arange(24.0 + 4 * gap).view(4, 6 + gap)[:, :6].split(2, 1)


@pytest.mark.parametrize(
    ("parts", "dim", "whole"),
    [
        (torch.arange(12.0).view(6, 2).split(2), 0, torch.arange(12.0).view(6, 2)),
        (slices(), 1, torch.arange(24.0).view(4, 6)),
        (slices(gap=3), 1, None),
        (slices()[::-1], 1, None),
        ([each.clone() for each in slices()], 1, None),
        ([torch.arange(4.0).view(2, 2)] * 3, 0, None),
    ],
    ids=["rows", "columns", "a gap", "another order", "apart", "the same"],
)
def test_only_neighbours_are_one(parts: Sequence[Tensor], dim: int, whole: Tensor | None) -> None:
    found = side_by_side(parts, dim)
    assert (found is None) == (whole is None)
    if found is not None and whole is not None:
        assert torch.equal(found, whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_saved_after_training_is_laid_out_as_before(precision: Any, tmp_path: Path) -> None:
    model, stream = fresh_model(), batch_stream()
    model.save(tmp_path / "before")
    engine = GraphEngine(model, stream.recipe, stream.steps, EngineSettings(engine="graph", precision=precision))
    for step in range(3):
        engine.step(stream.micro_batches(step, StepShard()))
    model.save(tmp_path / "after", state_dict=engine.weights())
    engine.close()
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
    assert {name: weight.shape for name, weight in before.items()} == {n: w.shape for n, w in after.items()}
    assert not torch.equal(before[f"{BLOCK}.query.weight"], after[f"{BLOCK}.query.weight"])
