"""The training loop on DeepSpeed: stages agree, learning happens, the best weights are kept."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.processes import run_together
from xlt.data.packing import Encoded
from xlt.errors import DivergedFault
from xlt.model.encoder import PackedModel, check_finite
from xlt.runtime import start_process_group
from xlt.stopping import stop_request
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.batches import BatchStream
from xlt.train.engine import ZERO_STAGES, DeepSpeedEngine, EngineSettings
from xlt.train.graph import GraphEngine
from xlt.train.loop import BestCheckpoint, DevResult, StepRecord, Trained, train, where_to_keep

CONFIG: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.fixture(scope="module", autouse=True)
def _process_group() -> None:
    start_process_group()


def fresh_model() -> PackedModel:
    torch.manual_seed(0)
    model = PackedModel.fresh(CONFIG)
    model.drop_masked_lm_head()
    model.add_head("mnli", "pair_classification", 3)
    return model


def batch_stream(**recipe: Any) -> BatchStream:
    """A problem that can be learned: the class is told by the second token."""
    random = np.random.default_rng(0)
    sequences = []
    for number in range(64):
        tokens = random.integers(10, 60, size=4 + number % 9)
        tokens[0], tokens[1] = 0, 4 + number % 3
        sequences.append(Encoded(f"e{number}", tokens.astype(np.int32), (number % 3,)))
    values = {"steps": 12, "batch_size": 16, "learning_rate": 3e-3, **recipe}
    return BatchStream(sequences, get_task("mnli"), dataclasses.replace(Recipe(), **values), seed=1, first_position=2)


def run(
    settings: EngineSettings | None = None, *, dev_score: Any = None, collapse_after: float = 0.0, **recipe: Any
) -> tuple[list[StepRecord], Trained]:
    records: list[StepRecord] = []
    trained = train(
        fresh_model(),
        batch_stream(**recipe),
        settings or EngineSettings(),
        on_step=records.append,
        dev_score=dev_score,
        collapse_after=collapse_after,
    )
    return records, trained


class Recorded:
    """Checkpoints that are never written, and remember after which step training was asked to stop."""

    kept = ()

    def __init__(self) -> None:
        self.stopped_after: list[int] = []

    def keep(self, steps: int) -> None:
        pass

    def resume(self, engine: Any, best: Any) -> list[StepRecord]:
        return []

    def offer(self, engine: Any, best: Any, records: Any, *, milestone: bool) -> bool:
        self.stopped_after += [records[-1].step] if stop_request.asked else []
        return stop_request.asked


@pytest.mark.parametrize(("when", "after"), [(0, []), (1, []), (3, [3])])
def test_a_request_to_stop_waits_for_a_step_only_where_one_was_made(
    when: int, after: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, an engine may compile for minutes, and there is no state to write."""
    monkeypatch.setattr(stop_request, "asked", False)
    steps = itertools.count(1)
    make, step = DeepSpeedEngine.__init__, DeepSpeedEngine.step

    def made(self: Any, *given: Any) -> None:
        if when == 0:
            stop_request.receive()
        make(self, *given)

    def stepped(self: Any, *given: Any) -> Any:
        if next(steps) == when:
            stop_request.receive()
        return step(self, *given)

    monkeypatch.setattr(DeepSpeedEngine, "__init__", made)
    monkeypatch.setattr(DeepSpeedEngine, "step", stepped)
    checkpoints = Recorded()
    with pytest.raises(KeyboardInterrupt):
        train(fresh_model(), batch_stream(), EngineSettings(), on_step=lambda record: None, checkpoints=checkpoints)
    assert checkpoints.stopped_after == after


def test_the_loss_falls_and_the_log_is_whole() -> None:
    records, trained = run(steps=60, learning_rate=1e-2)
    assert [record.step for record in records] == list(range(1, 61))
    assert records[-1].loss < 0.5 * records[0].loss
    assert all(record.tokens > 0 and len(record.examples) == 16 for record in records)
    assert trained.step == 60
    assert trained.dev_score is None


def test_the_learning_rate_rises_and_falls_linearly() -> None:
    records, _ = run(steps=10, warmup=0.2, learning_rate=1e-3)
    rates = [record.learning_rate for record in records]
    assert rates == pytest.approx([0, 5e-4, *(1e-3 * left / 8 for left in range(8, 0, -1))])


@pytest.mark.parametrize("zero", ["1", "2", "3", "3_offload"])
def test_zero_stages_compute_the_same(zero: str) -> None:
    plain, plain_end = run()
    staged, staged_end = run(EngineSettings(zero=zero))
    # The stages add gradients in another order: differences of a few float32 roundings, amplified by Adam.
    assert [r.loss for r in staged] == pytest.approx([r.loss for r in plain], abs=2e-5)
    assert staged_end.weights.keys() == plain_end.weights.keys()
    for name, weight in plain_end.weights.items():
        assert torch.allclose(staged_end.weights[name], weight, atol=2e-4), name


def test_micro_batches_compute_the_same_as_one_batch() -> None:
    plain, _ = run()
    split, _ = run(EngineSettings(accumulation=4))
    assert [r.loss for r in split] == pytest.approx([r.loss for r in plain], abs=2e-5)
    assert [r.tokens for r in split] == [r.tokens for r in plain]


def test_the_same_run_gives_the_same_bits() -> None:
    first, first_end = run()
    second, second_end = run()
    assert [r.loss for r in first] == [r.loss for r in second]
    assert all(torch.equal(second_end.weights[name], w) for name, w in first_end.weights.items())


@pytest.mark.parametrize("zero", [*ZERO_STAGES, "graph engine"])
def test_before_the_first_step_the_weights_are_those_of_the_start_also_in_bf16(zero: str) -> None:
    model, stream = fresh_model(), batch_stream()
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    kind, stage = (GraphEngine, "0") if zero == "graph engine" else (DeepSpeedEngine, zero)
    engine = kind(model, stream.recipe, stream.steps, EngineSettings(zero=stage, precision="bf16"))
    weights = engine.weights()
    engine.close()
    assert weights.keys() == start.keys()
    assert [name for name, weight in weights.items() if not torch.equal(weight, start[name])] == []


@pytest.mark.parametrize("zero", ["0", "1", "2", "3"])
def test_bf16_keeps_full_precision_master_weights(zero: str) -> None:
    records, trained = run(EngineSettings(zero=zero, precision="bf16"), learning_rate=1e-4)
    assert all(math.isfinite(record.loss) for record in records)
    weight = trained.weights["backbone.encoder.layer.0.output.dense.weight"]
    assert weight.dtype == torch.float32
    # Rounded weights would survive a trip through bf16.
    assert not torch.equal(weight, weight.bfloat16().float())


@pytest.mark.slow
def test_several_processes_start_from_the_weights_as_they_were_and_add_gradients_in_fp32() -> None:
    for line in run_together("tests.train.bf16_processes"):
        found = json.loads(line)
        assert found["changed"] == {zero: [] for zero in ZERO_STAGES}
        assert found["types"] == {zero: ["torch.float32"] for zero in ZERO_STAGES}


@pytest.mark.slow
def test_processes_whose_scores_differ_stop_at_the_same_step_by_the_score_of_the_first() -> None:
    first, second = (json.loads(line) for line in run_together("tests.train.dev_processes"))
    for zero in ("0", "3"):
        # Scored after steps 2, 3 (a quarter), 4: 49, 48, 47, so that patience ends with the third.
        assert first[zero] == [4, 2, False, [49.0, 48.0, 47.0], 3]
        assert second[zero][:4] == first[zero][:4]
    # Only stage 3 needs the others for a forward pass.
    assert [second[zero][4] for zero in ("0", "3")] == [0, 3]


def test_weight_decay_spares_biases_and_layer_norm() -> None:
    _, decayed = run(steps=3, weight_decay=1.0, learning_rate=1e-2, warmup=0.0)
    _, plain = run(steps=3, weight_decay=0.0, learning_rate=1e-2, warmup=0.0)
    rows = slice(55, 60)  # embedding rows that the data may or may not touch shrink in any case
    shrunk = decayed.weights["backbone.embeddings.word_embeddings.weight"][rows].norm()
    assert shrunk < plain.weights["backbone.embeddings.word_embeddings.weight"][rows].norm()
    scale = "backbone.encoder.layer.1.output.LayerNorm.weight"
    assert (decayed.weights[scale] - 1).abs().max() < 0.1


def test_the_best_dev_score_decides_which_weights_are_kept() -> None:
    scores = iter([10.0, 30.0, 20.0])
    seen: list[float] = []

    def dev_score(model: PackedModel) -> DevResult:
        assert not model.training
        seen.append(float(model.heads["mnli"].out_proj.weight.detach().sum()))
        return DevResult(next(scores))

    records, trained = run(dev_score=dev_score, steps=12, evaluate_every=4)
    assert trained.step == 8
    assert trained.dev_score == 30.0
    assert float(trained.weights["heads.mnli.out_proj.weight"].sum()) == pytest.approx(seen[1])
    assert [record.dev_score for record in records if record.dev_score is not None] == [10.0, 30.0, 20.0]


def test_a_gpu_with_room_keeps_the_best_weights_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh_model()
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert where_to_keep(model).type == "cpu"  # this machine's device
    monkeypatch.setattr("xlt.train.loop.device", lambda: torch.device("cuda", 0))
    for memory, kept in ((16 * size, "cuda"), (16 * size - 1, "cpu")):
        card = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _, card=card: card)
        assert where_to_keep(model).type == kept


def test_training_stops_when_patience_runs_out_and_scores_at_the_end_otherwise() -> None:
    falling = iter(range(100, 0, -1))
    records, trained = run(dev_score=lambda _: DevResult(next(falling)), steps=12, evaluate_every=2, patience=2)
    assert trained.step == 2
    assert len(records) == 6
    records, trained = run(dev_score=lambda _: DevResult(1.0), steps=5, evaluate_every=100)
    assert [record.step for record in records if record.dev_score is not None] == [5]


def test_every_epoch_ends_with_a_score() -> None:
    # 64 examples in batches of 12: the epochs end within the steps 6, 11 and 16.
    records, _ = run(dev_score=lambda _: DevResult(1.0), steps=0, epochs=3, batch_size=12, evaluate_every=4)
    assert len(records) == 16
    assert [record.step for record in records if record.dev_score is not None] == [4, 6, 8, 11, 12, 16]


@pytest.mark.parametrize("every", [0, 2])
def test_a_training_still_at_chance_after_its_share_is_given_up(every: int) -> None:
    records, trained = run(dev_score=lambda _: DevResult(33.0, True), collapse_after=0.45, evaluate_every=every)
    assert (len(records), trained.collapsed) == (6, True)
    seen = True if every else None
    assert [record.at_chance for record in records] == [None, seen, None, seen, None, True]


def test_a_training_that_was_above_chance_once_goes_on_to_its_end() -> None:
    results = iter([DevResult(33.0, True), DevResult(40.0), DevResult(33.0, True), DevResult(33.0, True)])
    records, trained = run(dev_score=lambda _: next(results), collapse_after=0.5, evaluate_every=4)
    assert (len(records), trained.collapsed, trained.step) == (12, False, 6)
    results = iter([DevResult(33.0, False), DevResult(33.0, True)])
    records, trained = run(dev_score=lambda _: next(results), collapse_after=0.5)
    assert (len(records), trained.collapsed, trained.step) == (12, False, 12)


def exploding(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From a step on (1-based) the gradients are infinite."""
    engine_step = DeepSpeedEngine.step

    def explode(self: DeepSpeedEngine, batches: Any) -> Any:
        if self._done + 1 >= step:
            weight = self._engine.module.backbone.get_input_embeddings().weight
            weight.register_hook(lambda gradient: gradient * math.inf)
        return engine_step(self, batches)

    monkeypatch.setattr(DeepSpeedEngine, "step", explode)


def test_exploding_gradients_stop_the_run_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    exploding(monkeypatch, 3)
    told: list[StepRecord] = []
    with pytest.raises(DivergedFault, match="The loss of step 4 is nan") as caught:
        train(fresh_model(), batch_stream(steps=9), EngineSettings(), on_step=told.append)
    assert [record.step for record in told] == [1, 2, 3]
    assert "learning rate" in caught.value.fix


def test_a_loss_without_bounds_is_one_of_a_training_that_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeepSpeedEngine, "step", lambda *_: (torch.tensor(2e6), 1e-3))
    with pytest.raises(DivergedFault, match=r"The loss of step 1 is 2e\+06"):
        run(steps=3)


def test_what_the_last_step_makes_of_the_weights_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    exploding(monkeypatch, 3)
    with pytest.raises(DivergedFault, match="The weights after step 3"):
        run(steps=3)


def test_a_model_that_cannot_be_scored_any_more_has_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    exploding(monkeypatch, 3)

    def dev_score(model: PackedModel) -> DevResult:
        check_finite(model.backbone.get_input_embeddings().weight.detach().numpy(), "embeddings")
        return DevResult(50.0)

    with pytest.raises(DivergedFault, match="What the model computes after step 3"):
        run(steps=3, evaluate_every=3, dev_score=dev_score)


def test_a_training_at_chance_is_given_up_at_the_collapse_step_and_not_before() -> None:
    best = BestCheckpoint(None, collapse_step=4)
    assert not best.offer(DevResult(50.0, at_chance=True), 3, dict)
    assert best.offer(DevResult(50.0, at_chance=True), 4, dict)
    # Not once a score was above chance, nor where nobody asked for it.
    best = BestCheckpoint(None, collapse_step=4)
    assert not best.offer(DevResult(50.0), 3, dict)
    assert not best.offer(DevResult(50.0, at_chance=True), 4, dict)
    assert not BestCheckpoint(None, collapse_step=0).offer(DevResult(50.0, at_chance=True), 9, dict)
