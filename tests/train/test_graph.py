"""The graph engine: what DeepSpeed's engine computes, in few shapes, with nothing added by what fills them up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from xlt_kernels.adamw import AdamW

from tests.train.test_loop import CONFIG
from xlt.cli.options import EngineOptions
from xlt.data.packing import Encoded, PackedBatch
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.runtime import start_process_group
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train import graph
from xlt.train.batches import BatchStream, JointStream, StepShard
from xlt.train.engine import EngineName, EngineSettings, Precision
from xlt.train.graph import GraphEngine, bucket_pass, in_bucket
from xlt.train.loop import DevResult, StepRecord, Trained, train
from xlt.train.masking import Vocabulary

KEYS = ("mnli", "squad", "panx", "hellaswag", "mlm")
RECIPE = Recipe(batch_size=8, steps=24, learning_rate=3e-3, weight_decay=0.1)
# No choice gains by a bias that all choices share, no token by one that all tokens share: their gradients are rounding
# alone.
ROUNDING = {
    "hellaswag": {"heads.hellaswag.out_proj.bias", "heads.squad.qa_outputs.bias"},
    "mlm": {"heads.hellaswag.out_proj.bias", "heads.squad.qa_outputs.bias"},
    "squad": {"heads.squad.qa_outputs.bias", "backbone.encoder.layer.1.output.LayerNorm.bias"},
}
UNUSED = slice(50, 58)  # words that no example has


def examples(key: str, count: int = 40) -> list[Encoded]:
    """Examples of various lengths; those of multiple choice have two or three choices."""
    random = np.random.default_rng(len(key))
    kind, found = get_task(key).kind, []
    for number in range(count):
        tokens = random.integers(4, 50, size=6 + number % 11).astype(np.int32)
        label: dict[str, Any] = {"label": (number % 3,)}
        if kind == "multiple_choice":
            lengths = (2, len(tokens) - 2) if number % 2 else (1, 3, len(tokens) - 4)
            label = {"label": (number % 2,), "lengths": lengths}
        elif kind == "tagging":
            words = np.array([1, 2, 4] if number % 2 else [1, 3], dtype=np.int32)
            label = {"label": tuple((tokens[words] % 3).tolist()), "words": words}
        elif kind == "span_qa":
            label = {"label": (number % 4, 4)}
        found.append(Encoded(f"{key}{number}", tokens, **label))
    return found


def stream(*keys: str, recipe: Recipe = RECIPE) -> BatchStream | JointStream:
    vocabulary = Vocabulary(50, 49, (0, 1, 2, 3, 49))
    streams = [
        BatchStream(examples(key), get_task(key), recipe, seed=1, first_position=2, vocabulary=vocabulary)
        for key in keys
    ]
    return streams[0] if len(streams) == 1 else JointStream(streams, recipe, seed=0)


def fresh(*keys: str, **config: float) -> PackedModel:
    torch.manual_seed(0)
    model = PackedModel.fresh({**CONFIG, **config})
    if "mlm" not in keys:
        model.drop_masked_lm_head()
    for key in keys:
        if key != "mlm":
            model.add_head(key, get_task(key).kind, 3)
    return model


def run(
    engine: EngineName, *keys: str, precision: Precision = "fp32", recipe: Recipe = RECIPE, dev_score: Any = None
) -> tuple[list[StepRecord], Trained]:
    start_process_group()
    records: list[StepRecord] = []
    settings = EngineSettings(engine=engine, precision=precision)
    batches = stream(*keys, recipe=recipe)
    trained = train(fresh(*keys), batches, settings, on_step=records.append, dev_score=dev_score)
    return records, trained


@pytest.mark.parametrize("keys", [*((key,) for key in KEYS), KEYS, KEYS[:4]], ids="+".join)
def test_the_losses_and_weights_are_those_of_deepspeed(keys: tuple[str, ...]) -> None:
    plain, plain_end = run("deepspeed", *keys)
    ours, end = run("graph", *keys)
    assert {record.task for record in ours} == set(keys)
    # Sums in another order: differences of a few float32 roundings, amplified by Adam.
    assert [record.loss for record in ours] == pytest.approx([record.loss for record in plain], abs=5e-5)
    for left, right in zip(ours, plain, strict=True):
        assert left.learning_rate == pytest.approx(right.learning_rate, rel=1e-12)
        assert dataclasses.replace(left, loss=0, learning_rate=0) == dataclasses.replace(right, loss=0, learning_rate=0)
    assert end.weights.keys() == plain_end.weights.keys()
    for name in plain_end.weights.keys() - ROUNDING.get(keys[-1], set()):
        weight = plain_end.weights[name]
        assert torch.allclose(end.weights[name], weight, atol=5e-4), name


def test_the_micro_batches_of_a_device_without_memory_give_the_losses_of_deepspeed() -> None:
    start_process_group()
    losses = []
    for engine in ("deepspeed", "graph"):
        found: list[StepRecord] = []
        settings = EngineSettings(engine=engine, accumulation=2)  # type: ignore[arg-type]
        train(fresh(*KEYS), stream(*KEYS), settings, on_step=found.append)
        losses.append([record.loss for record in found])
    assert losses[1] == pytest.approx(losses[0], abs=5e-5)


def test_bf16_computes_on_rounded_copies_of_full_precision_weights() -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=2e-4)
    plain, _ = run("deepspeed", "mnli", precision="bf16", recipe=recipe)
    ours, trained = run("graph", "mnli", precision="bf16", recipe=recipe)
    # Two numbers of bf16 near 1 are 8e-3 apart.
    assert [record.loss for record in ours] == pytest.approx([record.loss for record in plain], abs=1.6e-2)
    weight = trained.weights["backbone.encoder.layer.0.output.dense.weight"]
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, weight.bfloat16().float())


def test_scores_come_between_the_same_records_and_the_best_weights_are_kept() -> None:
    recipe = dataclasses.replace(RECIPE, evaluate_every=4, patience=2)

    def dev_score(seen: list[float], model: PackedModel) -> DevResult:
        assert not model.training
        seen.append(float(model.backbone.get_input_embeddings().weight.detach().norm()))
        return DevResult([10.0, 30.0, 20.0, 10.0][len(seen) - 1])

    seen: list[float] = []
    ours: list[float] = []
    plain, _ = run("deepspeed", "mnli", recipe=recipe, dev_score=partial(dev_score, seen))
    records, end = run("graph", "mnli", recipe=recipe, dev_score=partial(dev_score, ours))
    assert [(each.step, each.dev_score) for each in records] == [(each.step, each.dev_score) for each in plain]
    assert (len(records), end.step, end.dev_score) == (16, 8, 30.0)
    assert ours == pytest.approx(seen, rel=1e-5)
    assert float(end.weights["backbone.embeddings.word_embeddings.weight"].norm()) == ours[1]


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["deepspeed", "graph"])
def test_the_best_weights_come_back_from_the_gpu(engine: EngineName, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, ends = dataclasses.replace(RECIPE, evaluate_every=4, patience=2), []
    for share in (1.0, 0.0):
        monkeypatch.setattr("xlt.train.loop.KEPT_SHARE", share)
        scores = iter([10.0, 30.0, 20.0, 10.0])
        score = lambda _, left=scores: DevResult(next(left))  # noqa: E731
        end = run(engine, "mnli", precision="bf16", recipe=recipe, dev_score=score)[1]
        assert (end.step, {weight.device.type for weight in end.weights.values()}) == (8, {"cpu"})
        ends.append(end.weights)
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())


@pytest.mark.parametrize("key", KEYS)
def test_what_fills_a_bucket_adds_nothing(key: str) -> None:
    """The loss and every gradient are those of the batch alone, and stay so whatever the added tokens are."""
    model = fresh(key).train()
    (batch,) = stream(key).micro_batches(0, StepShard())
    filled = in_bucket(batch)
    ids = filled.input_ids.clone()
    ids[batch.tokens :] = torch.arange(len(ids) - batch.tokens) % 8 + 50
    other = dataclasses.replace(filled, input_ids=ids)

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}

    (alone, _), losses = model(batch), [bucket_pass(model, each)[0] for each in (filled, other)]
    expected = gradients(alone)
    assert torch.equal(*losses)
    assert torch.isfinite(alone)
    assert losses[0].item() == pytest.approx(alone.item(), abs=1e-6)
    for loss in losses:
        found = gradients(loss)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(found[name], gradient, atol=5e-6), name
    if key != "mlm":
        words = found["backbone.embeddings.word_embeddings.weight"]
        assert not words[UNUSED].any()


@pytest.mark.parametrize("tokens", [1, 6, 63, 64, 127, 128, 129, 1000, 4095, 12_801])
def test_no_added_sequence_is_empty_or_longer_than_the_longest(tokens: int) -> None:
    task, ids = get_task("mnli"), np.arange(4, 4 + tokens, dtype=np.int32) % 50
    pieces = [Encoded(f"e{start}", ids[start : start + 60], (0,)) for start in range(0, tokens, 60)]
    recipe = dataclasses.replace(RECIPE, batch_size=len(pieces))
    (batch,) = BatchStream(pieces, task, recipe, seed=0, first_position=2).micro_batches(0, StepShard())
    filled = in_bucket(batch)
    lengths = filled.cu_seqlens.diff()
    assert filled.cu_seqlens[-1] == len(filled.input_ids) == len(filled.position_ids)
    assert 1 <= int(lengths.min()) <= int(lengths.max()) <= filled.max_seqlen == 64
    assert len(filled.input_ids) <= max(tokens * 1.07, tokens + 2 * 128)


def test_many_batches_have_few_shapes() -> None:
    random = np.random.default_rng(0)
    pieces = [
        Encoded(f"e{number}", np.full(random.integers(20, 100), 7, dtype=np.int32), (0,)) for number in range(640)
    ]
    recipe = dataclasses.replace(RECIPE, batch_size=32)
    batches = BatchStream(pieces, get_task("mnli"), recipe, seed=0, first_position=2)
    filled = [in_bucket(batch) for step in range(40) for batch in batches.micro_batches(step, StepShard())]
    assert len({(len(each.input_ids), len(each.cu_seqlens), each.max_seqlen) for each in filled}) <= 8


def test_a_shape_is_run_first_then_captured_and_from_then_on_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With graphs that are played on the CPU: what they read and write must lie where it lay at the capture."""
    done: list[str] = []

    class Played:
        def __init__(self, engine: GraphEngine, bucket: Any) -> None:
            self.engine, self.bucket = engine, bucket

        def replay(self) -> None:
            done.append("replay")
            self.bucket.loss.copy_(self.engine._compute(self.bucket.batch))

    def capture(self: GraphEngine, bucket: Any) -> None:
        done.append("capture")
        bucket.loss, bucket.graph = torch.zeros(()), Played(self, bucket)
        self.graphs += 1

    plain, plain_end = run("graph", "mnli", "panx")
    create = GraphEngine.__init__

    def capturing(self: GraphEngine, *arguments: Any) -> None:
        create(self, *arguments)
        self.captures = True

    monkeypatch.setattr(GraphEngine, "__init__", capturing)
    monkeypatch.setattr(GraphEngine, "_capture", capture)
    monkeypatch.setattr(graph, "MAX_GRAPHS", 1)
    played, end = run("graph", "mnli", "panx")
    assert done[0] == "capture"
    assert done.count("capture") == 1
    assert done.count("replay") > 4
    assert [record.loss for record in played] == [record.loss for record in plain]
    assert all(torch.equal(end.weights[name], weight) for name, weight in plain_end.weights.items())


def test_a_step_that_cannot_be_captured_is_run_and_so_are_all_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a capture calls is not computed; where it fails, the generators must leave it too."""
    plain, plain_end = run("graph", "mnli")
    reset: list[str] = []

    class Generator:
        def clone_state(self) -> str:
            return "as before"

        def graphsafe_set_state(self, state: str) -> None:
            reset.append(state)

    @contextmanager
    def failing(*_: Any, **__: Any) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(AdamW, "step", lambda self: None)
            yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    create = GraphEngine.__init__

    def capturing(self: GraphEngine, *arguments: Any) -> None:
        create(self, *arguments)
        self.captures = True

    monkeypatch.setattr(GraphEngine, "__init__", capturing)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", failing)
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(),))
    with pytest.warns(UserWarning, match="cannot be captured.*: operation not permitted when stream is capturing$"):
        records, end = run("graph", "mnli")
    assert reset == ["as before"]
    assert [record.loss for record in records] == [record.loss for record in plain]
    assert all(torch.equal(end.weights[name], weight) for name, weight in plain_end.weights.items())


def test_a_diverged_loss_is_found_in_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    run_step = GraphEngine.step

    def diverged(self: GraphEngine, batches: list[PackedBatch]) -> tuple[torch.Tensor, float]:
        loss, rate = run_step(self, batches)
        return (loss * float("nan") if self._done == 5 else loss), rate

    monkeypatch.setattr(GraphEngine, "step", diverged)
    with pytest.raises(Exception, match="loss of step 5 is nan"):
        run("graph", "mnli")


@pytest.mark.parametrize(
    "options", [("1", 1, "graph", 1), ("0", 2, "graph", 1), ("0", 1, "graph", 2)], ids=["zero", "accumulation", "shard"]
)
def test_what_the_graph_engine_has_not_is_refused(options: tuple[str, int, EngineName, int]) -> None:
    zero, accumulation, engine, sharing = options
    asked = EngineOptions(zero=zero, accumulation=accumulation, engine=engine)  # type: ignore[arg-type]
    with pytest.raises(UsageFault, match="on one GPU") as caught:
        asked.settings(sharing)
    assert "--engine deepspeed" in caught.value.fix
    if zero != "0":
        with pytest.raises(UsageFault, match="on one GPU"):
            GraphEngine(fresh("mnli"), RECIPE, 2, EngineSettings(zero=zero, engine="graph"))


def losses_of(keys: tuple[str, ...], rate: float, **config: float) -> tuple[list[float], dict[str, torch.Tensor]]:
    """On a GPU, without DeepSpeed: each of four batches four times."""
    model = fresh(*keys, num_attention_heads=2, **config)
    recipe = dataclasses.replace(RECIPE, learning_rate=rate, steps=16)
    engine = GraphEngine(model, recipe, recipe.steps, EngineSettings(engine="graph", precision="bf16"))
    assert engine.captures
    batches = stream(*keys, recipe=recipe)
    losses = [engine.step(batches.micro_batches(step % 4, StepShard()))[0] for step in range(recipe.steps)]
    return torch.stack(losses).tolist(), engine.weights()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("keys", [*((key,) for key in KEYS), KEYS], ids="+".join)
def test_graphs_compute_what_the_same_steps_do_without_them(
    keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, weights = losses_of(keys, 1e-3)
    monkeypatch.setattr(graph, "MAX_GRAPHS", 0)
    plain, plain_weights = losses_of(keys, 1e-3)
    assert losses == plain
    assert all(torch.equal(weights[name], weight) for name, weight in plain_weights.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_every_replay_draws_its_own_dropout() -> None:
    losses, _ = losses_of(("mnli",), 0.0, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    assert len(set(losses)) == len(losses)
