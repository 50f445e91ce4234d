"""Each control puts one fault in while its block lasts, and leaves nothing of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xlt.bench.controls import CONTROLS, Control, run_controls
from xlt.data import features
from xlt.data.packing import Encoded, PackedBatch, pack
from xlt.data.rows import PairRow
from xlt.data.world import WorldSource
from xlt.errors import IncompleteFault, UsageFault
from xlt.evaluate import predict
from xlt.model.encoder import PackedModel
from xlt.pipeline import training
from xlt.pipeline.grid import Grid, GridBuilder
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import read_tier
from xlt.retrieval import embed
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.loop import Trained
from xlt.train.seeding import derive_seed

BY_NAME = {control.name: control for control in CONTROLS}
CONFIG = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 20,
}


@pytest.fixture(scope="module")
def model() -> PackedModel:
    torch.manual_seed(0)
    return PackedModel.fresh(CONFIG)


def batch(model: PackedModel, lengths: tuple[int, ...] = (4, 7)) -> PackedBatch:
    sequences = [Encoded(str(n), np.arange(5, 5 + length, dtype=np.int32)) for n, length in enumerate(lengths)]
    return pack(sequences, task="t", kind="retrieval", first_position=model.first_position)


@pytest.fixture(scope="module")
def grid(world: WorldSource) -> Grid:
    return GridBuilder(read_tier("smoke"), world, seed=0, precision="fp32").grid()


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_names_runs_of_the_smoke_tier_and_takes_its_fault_out_again(control: Control, grid: Grid) -> None:
    assert set(control.runs) <= {run.name for run in grid.runs}
    sound = getattr(control.owner, control.attribute)
    with control.fault():
        assert getattr(control.owner, control.attribute) is not sound
    assert getattr(control.owner, control.attribute) is sound


def test_positions_start_at_0(model: PackedModel) -> None:
    with BY_NAME["positions-from-0"].fault():
        assert batch(model).position_ids.tolist() == [*range(4), *range(7)]
    assert batch(model).position_ids.tolist() == [*range(2, 6), *range(2, 9)]


def test_the_last_block_is_pooled_whatever_is_asked_for(model: PackedModel) -> None:
    with torch.inference_mode():
        first, last = (model.hidden_states(batch(model), layer) for layer in (1, 3))
        with BY_NAME["wrong-layer"].fault():
            broken = model.hidden_states(batch(model), 1)
    assert torch.equal(broken, last)
    assert not torch.equal(broken, first)


def test_tokens_see_other_sequences(model: PackedModel) -> None:
    with torch.inference_mode():
        alone = model.hidden_states(batch(model, (4,)), 3)
        sound = model.hidden_states(batch(model, (4, 7)), 3)[:4]
        with BY_NAME["attention-across-sequences"].fault():
            broken = model.hidden_states(batch(model, (4, 7)), 3)[:4]
    torch.testing.assert_close(sound, alone)
    assert (broken - alone).abs().max() > 1e-3


def test_labels_go_to_other_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Encoded(str(n), np.zeros(1, dtype=np.int32), (n % 3,)) for n in range(60)]
    monkeypatch.setattr(training, "encode", lambda rows: made)
    with BY_NAME["shuffled-labels"].fault():
        shuffled = training.encode(None)  # type: ignore[attr-defined]
    assert [each.example_id for each in shuffled] == [each.example_id for each in made]
    assert sorted(each.label for each in shuffled) == sorted(each.label for each in made)
    assert sum(a.label != b.label for a, b in zip(shuffled, made, strict=True)) > 20


def test_phase_1_is_trained_and_lost_and_other_phases_are_kept(
    model: PackedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained({name: weight + 1 for name, weight in model.named_parameters()}, 9, None)
    monkeypatch.setattr(training, "train", lambda *arguments: trained)
    with BY_NAME["phase-1-lost"].fault():
        lost = training.train(model, SimpleNamespace(task_of=lambda step: "mlm"))  # type: ignore[attr-defined]
        kept = training.train(model, SimpleNamespace(task_of=lambda step: "mnli"))  # type: ignore[attr-defined]
    weights = dict(model.named_parameters())
    assert lost.weights.keys() == weights.keys()
    assert lost.step == 9
    assert all(torch.equal(lost.weights[name], weights[name]) for name in weights)
    assert kept is trained


def test_rows_of_files_are_lost_added_or_of_another_language(world: WorldSource) -> None:
    task = get_task("xnli")
    sound = {code: world.rows(task, "test", code) for code in ("en", "qaa", "qaf")}
    with BY_NAME["languages-swapped"].fault():
        assert world.rows(task, "test", "qaa") == sound["qaf"]
        assert world.rows(task, "test", "qaf") == sound["qaa"]
        assert world.rows(task, "test", "en") == sound["en"]
    with BY_NAME["first-row-dropped"].fault():
        assert world.rows(task, "test", "en") == sound["en"][1:]
    with BY_NAME["header-as-data"].fault():
        header, *rest = world.rows(task, "test", "en")
    assert rest == sound["en"]
    assert isinstance(header, PairRow)
    assert (header.text_a, header.text_b, header.label) == ("sentence1", "sentence2", sound["en"][0].label)


def test_the_first_token_stands_for_the_sentence() -> None:
    hidden = torch.tensor([[3.0, 4.0], [9.0, 0.0], [0.0, 5.0]])
    with BY_NAME["pooling-ignored"].fault():
        found = embed.unit_means(hidden, torch.tensor([0, 2, 3], dtype=torch.int32))  # type: ignore[attr-defined]
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


def test_labels_recipes_and_seeds_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "_labels", lambda *arguments: ("a", "b", "c"))
    with BY_NAME["labels-in-another-order"].fault():
        assert predict._labels(None, None, "") == ("c", "b", "a")
    recipe = Recipe(epochs=1, warmup=0.5)
    with BY_NAME["no-schedule"].fault():
        assert [recipe.learning_rate_factor(step, 10) for step in (0, 9)] == [1.0, 1.0]
    with BY_NAME["another-seed"].fault():
        assert training.derive_seed(0, "data") == derive_seed(1, "data")  # type: ignore[attr-defined]
    seen = []
    kinds = {"pair_classification": lambda rows, task, *rest: seen.append(task.recipe.max_length), "tagging": None}
    monkeypatch.setattr(features, "_ENCODERS", kinds)
    with BY_NAME["pairs-cut-short"].fault():
        features._ENCODERS["pair_classification"]([], get_task("xnli"))
        assert features._ENCODERS["tagging"] is None
    assert seen == [16]


@pytest.mark.parametrize(
    ("name", "fault"), [("nonsense", UsageFault), ("wrong-layer", IncompleteFault), ("", IncompleteFault)]
)
def test_what_cannot_be_run_is_said(name: str, fault: type[Exception], grid: Grid, tmp_path: Path) -> None:
    options, tier = SourceOptions(), read_tier("smoke")
    with pytest.raises(fault):
        run_controls(
            [name] if name else [],
            grid,
            tier,
            WorldSource(),
            options,
            RunStore(tmp_path),
            tmp_path / "controls",
            progress=None,
        )
