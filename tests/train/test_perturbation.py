"""Adversarial training on packed batches is what a plain padded formulation computes, whatever engine computes it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import XLMRobertaModel

from tests.processes import run_together
from tests.train.test_graph import KEYS, examples, fresh, stream
from tests.train.test_loop import run
from xlt.data.packing import PackedBatch
from xlt.model.encoder import PackedModel
from xlt.runtime import start_process_group
from xlt.tasks.adversarial import DEFAULTS, Adversarial
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.averaged import AveragedModel
from xlt.train.batches import BatchStream, StepShard
from xlt.train.engine import EngineName, EngineSettings
from xlt.train.graph import GraphEngine
from xlt.train.loop import BestCheckpoint, StepRecord, train
from xlt.train.perturbation import bounded_noise, losses, noise, norms
from xlt.train.state import load_state, save_state

METHODS = ("fgm", "pgd", "freelb")


def method(name: str, **settings: float) -> Adversarial:
    return Adversarial.of({"method": name, **settings})


def batch_for(key: str, how: Adversarial, shard: StepShard | None = None) -> PackedBatch:
    batches = stream(key, recipe=Recipe(batch_size=8, steps=2, adversarial=how))
    return batches.micro_batches(0, shard or StepShard())[0]


def computed(model: PackedModel, batch: PackedBatch, how: Adversarial) -> tuple[Tensor, list[Tensor]]:
    """The loss of a step, whose gradient the model has then, and all perturbations that were tried."""
    tried: list[Tensor] = []
    add = model.perturbed

    @contextmanager
    def seen(batch: PackedBatch, perturbation: Tensor) -> Iterator[None]:
        tried.append(perturbation.detach().clone())
        with add(batch, perturbation):
            yield

    model.perturbed = seen  # type: ignore[method-assign]
    total = torch.zeros((), dtype=torch.float64)
    for loss in losses(model, batch, how, model, model):
        (loss / how.passes).backward()
        total += loss.detach() / how.passes
    del model.perturbed
    return total, tried


class Padded:
    """The library's own model in float64, its batch padded, with the heads of a copy of ``model``."""

    def __init__(self, model: PackedModel, batch: PackedBatch) -> None:
        self.own = copy.deepcopy(model)
        config = copy.deepcopy(model.backbone.config)
        config._attn_implementation = "eager"
        self.library = XLMRobertaModel(config, add_pooling_layer=False).double().train()
        self.library.load_state_dict(model.backbone.state_dict())
        self.batch = batch
        lengths = batch.cu_seqlens.diff()
        self.mask = torch.arange(batch.max_seqlen) < lengths[:, None]

    def pad(self, rows: Tensor) -> Tensor:
        padded = rows.new_zeros(*self.mask.shape, *rows.shape[1:])
        padded[self.mask] = rows
        return padded

    def passed(self, perturbation: Tensor, *, trained: bool = True) -> tuple[Tensor, Tensor]:
        """The loss and the scores under a perturbation ``[B, L, E]`` of word embeddings, which may be constants."""
        batch, words = self.batch, self.library.embeddings.word_embeddings(self.pad(self.batch.input_ids))
        output = self.library(
            inputs_embeds=(words if trained else words.detach()) + perturbation,
            attention_mask=self.mask.long(),
            position_ids=self.pad(batch.position_ids),
        )
        hidden = output.last_hidden_state[self.mask]
        assert batch.labels is not None
        if batch.kind == "masked_lm":
            assert self.own.lm_head is not None
            assert batch.scored_positions is not None
            logits = self.own.lm_head(hidden[batch.scored_positions])
            return F.cross_entropy(logits, batch.labels, reduction="sum") / batch.denominator, logits
        head: Any = self.own.heads[batch.task]
        scores = head(hidden, getattr(batch, head.reads))
        return head.loss(scores, batch.labels, batch) / batch.denominator, scores

    def loss(self, perturbation: Tensor) -> Tensor:
        return self.passed(perturbation)[0]

    def gradients(self) -> dict[str, Tensor]:
        """The gradients by the names of the packed model: its backbone's are the library's, and those of tied rows."""
        found = {name: p.grad for name, p in self.own.named_parameters() if p.grad is not None}
        for name, parameter in self.library.named_parameters():
            if parameter.grad is not None:
                found[f"backbone.{name}"] = parameter.grad + found.get(f"backbone.{name}", 0)
        return found


def same_gradients(model: PackedModel, padded: Padded) -> None:
    wanted = padded.gradients()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    largest = max(float(each.abs().max()) for each in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-9 * largest)


def up(moved: Tensor, gradient: Tensor, how: Adversarial) -> Tensor:
    """A step in ``[B, L, E]``: every sequence by its own norm."""
    moved = moved + how.step_size * gradient / gradient.flatten(1).norm(dim=1)[:, None, None]
    size = moved.flatten(1).norm(dim=1)[:, None, None]
    return torch.where(size > how.radius, moved * how.radius / size, moved) if how.radius else moved


def plainly(padded: Padded, how: Adversarial, start: Tensor) -> float:
    """The loss of a step, written down as the methods are published; its gradient is left in ``padded``."""
    moved = start.clone().requires_grad_()
    if how.method == "freelb":
        total = 0.0
        for _ in range(how.steps):
            loss = padded.loss(moved) / how.steps
            loss.backward()
            assert moved.grad is not None
            total += float(loss.detach())
            moved = up(moved, moved.grad, how).detach().requires_grad_()
        return total
    for _ in range(how.steps):
        (gradient,) = torch.autograd.grad(padded.loss(moved), moved)
        moved = up(moved, gradient, how).detach().requires_grad_()
    loss = padded.loss(torch.zeros_like(moved)) + how.weight * padded.loss(moved.detach())
    loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradient_are_those_of_a_plain_padded_formulation(name: str, key: str) -> None:
    how = method(name, **{"fgm": {"weight": 0.7}, "pgd": {"weight": 0.7}, "freelb": {"steps": 3}}[name])
    model = fresh(key).double().train()
    batch = batch_for(key, how)
    padded = Padded(model, batch)
    loss, tried = computed(model, batch, how)
    start = bounded_noise(model, batch, how.noise)
    assert float(loss) == pytest.approx(plainly(padded, how, padded.pad(start)), rel=1e-9)
    same_gradients(model, padded)
    for each in tried:
        assert float(norms(batch, each).max()) <= (how.radius or how.step_size) * (1 + 1e-9)
    if name != "freelb":  # a first step along the gradient has its whole length
        torch.testing.assert_close(
            norms(batch, tried[1]), torch.full((len(batch.cu_seqlens) - 1,), how.step_size).double()
        )


def symmetric(one: Tensor, other: Tensor) -> Tensor:
    """The divergence of two distributions, given by scores."""
    p, q = one.softmax(-1), other.softmax(-1)
    return (p * (p / q).log()).sum() + (q * (q / p).log()).sum()


def apart(batch: PackedBatch, one: Tensor, other: Tensor) -> Tensor:
    """The divergence of the predictions, example by example."""
    if batch.kind == "span_qa":
        parts = [(slice(*ends), side) for ends in pairwise(batch.cu_seqlens.tolist()) for side in (0, 1)]
        return sum((symmetric(one[part], other[part]) for part in parts), torch.zeros(())) / 2 / batch.denominator
    if batch.kind == "multiple_choice":
        assert batch.cu_groups is not None
        groups = [slice(*ends) for ends in pairwise(batch.cu_groups.tolist())]
        return sum((symmetric(one[part], other[part]) for part in groups), torch.zeros(())) / batch.denominator
    return sum((symmetric(*rows) for rows in zip(one, other, strict=True)), torch.zeros(())) / batch.denominator


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ["smart", "r3f"])
def test_consistent_predictions_are_those_of_a_plain_padded_formulation(name: str, key: str) -> None:
    more = {"steps": 2, "step_size": 0.05, "proximal": 0.3} if name == "smart" else {}
    how, model = method(name, noise=0.02, weight=0.7, **more), fresh(key).double().train()
    batch, before = batch_for(key, how), copy.deepcopy(model).requires_grad_(False)
    for weight in before.parameters():
        weight *= 1.02
    padded, theirs = Padded(model, batch), Padded(before, batch)
    (loss,) = losses(model, batch, how, model, model, before if name == "smart" else None)
    loss.backward()
    drawn = noise(model, batch)
    normal = torch.erfinv(drawn) * 2**0.5 if name == "smart" else drawn
    moved, still = padded.pad(normal * how.noise), torch.zeros_like(padded.pad(drawn))
    wanted, clean = padded.passed(still)
    for _ in range(how.steps if name == "smart" else 0):
        moved = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(apart(batch, clean.detach(), padded.passed(moved)[1]), moved)
        moved = moved + how.step_size * gradient / gradient.flatten(1).abs().amax(1)[:, None, None]
    if name == "smart":
        wanted = wanted + how.proximal * apart(batch, clean, theirs.passed(still)[1].detach())
    scores = padded.passed(moved.detach(), trained=False)[1]
    wanted = wanted + how.weight * apart(batch, clean, scores)
    wanted.backward()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-9)
    same_gradients(model, padded)


@pytest.mark.parametrize("key", KEYS)
def test_smoothing_learns_from_noise_alone(key: str) -> None:
    how, model = method("smoothing"), fresh(key).double().train()
    batch = batch_for(key, how)
    padded = Padded(model, batch)
    loss, tried = computed(model, batch, how)
    wanted = padded.passed(padded.pad(bounded_noise(model, batch, 0.3)))[0]
    wanted.backward()
    assert len(tried) == 1
    assert float(loss) == pytest.approx(float(wanted.detach()), rel=1e-9)
    same_gradients(model, padded)


def test_the_average_follows_the_weights_and_computes_with_them_as_rounded() -> None:
    model = fresh("mnli")
    average = AveragedModel(model, 0.75, "bf16")
    name = "backbone.encoder.layer.0.output.dense.weight"
    wanted = start = model.get_parameter(name).detach().clone()
    for step in (1, 2):
        weights = {key: each.detach() + step for key, each in model.named_parameters()}
        average.follow(weights)
        wanted = 0.75 * wanted + 0.25 * (start + step)
    found = average.model.get_parameter(name)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2**-8, atol=0)
    assert not average.model.training


@pytest.mark.parametrize("name", METHODS)
def test_no_sequence_moves_by_what_another_one_holds(name: str) -> None:
    how, model = method(name), fresh("mnli").double().train()
    batch = batch_for("mnli", how)
    _, tried = computed(model, batch, how)
    for share in range(4):  # the sequences share, share + 4
        part = batch_for("mnli", how, StepShard(rank=share, world=4))
        bounds = [slice(*batch.cu_seqlens[[number, number + 1]].tolist()) for number in (share, share + 4)]
        for whole, alone in zip(tried, computed(model, part, how)[1], strict=True):
            torch.testing.assert_close(torch.cat([whole[each] for each in bounds]), alone, rtol=1e-7, atol=1e-12)


def test_noise_is_bounded_uniform_and_follows_from_the_seed_and_the_place_alone() -> None:
    how, model = method("freelb"), fresh("mnli")
    batch = batch_for("mnli", how)
    noise = bounded_noise(model, batch, 0.5)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, bounded_noise(model, batch, 0.5))
    # Uniform numbers have a third of the largest square on average; 200 to 500 of them are within a fifth of it.
    torch.testing.assert_close(norms(batch, noise), torch.full((8,), 0.5 / 3**0.5), rtol=0.1, atol=0)
    scaled = noise / (0.5 / (batch.cu_seqlens.diff() * 32).sqrt()).repeat_interleave(batch.cu_seqlens.diff())[:, None]
    assert scaled.abs().max() < 1
    assert torch.histc(scaled, 4, -1, 1).min() > 0.9 * scaled.numel() / 4
    other = dataclasses.replace(batch, noise_seeds=batch.noise_seeds + 1)  # type: ignore[operator]
    assert torch.corrcoef(torch.stack([noise.flatten(), bounded_noise(model, other, 0.5).flatten()]))[0, 1].abs() < 0.1
    seeds = [stream("mnli", recipe=Recipe(batch_size=8, steps=2, adversarial=how)) for _ in range(2)]
    first, second = (seeds[0].micro_batches(step, StepShard())[0].noise_seeds for step in (0, 1))
    again = seeds[1].micro_batches(1, StepShard())[0].noise_seeds
    assert torch.equal(again, second)  # type: ignore[arg-type]
    assert not torch.equal(first, second)  # type: ignore[arg-type]


def test_padding_stays_as_it_is() -> None:
    model = fresh("mnli").double()
    batch, model.packed = batch_for("mnli", method("freelb")), False
    mask = torch.arange(batch.max_seqlen) < batch.cu_seqlens.diff()[:, None]
    ids, embeddings = torch.ones(mask.shape, dtype=torch.int64), model.backbone.get_input_embeddings()
    plain = embeddings(ids)
    with model.perturbed(batch, torch.ones(batch.tokens, 32).double()):
        moved = embeddings(ids) - plain
    torch.testing.assert_close(moved, mask.double()[..., None].expand_as(moved))
    assert torch.equal(embeddings(ids), plain)


def test_in_bf16_a_perturbation_is_not_rounded_away() -> None:
    """What follows the word embeddings is computed in fp32: 1e-4 is a fraction of what bf16 tells apart there."""
    how, model = method("freelb"), fresh("mnli")
    with torch.no_grad():
        model.backbone.get_input_embeddings().weight.normal_(0, 1)
    model.compute_in(torch.device("cpu"), "bf16")
    batch = batch_for("mnli", how)
    seen: list[Tensor] = []
    block = model.backbone.embeddings
    hook = block.register_forward_hook(lambda _, __, output: seen.append(output[0]))
    moves = [torch.zeros(batch.tokens, 32), torch.full((batch.tokens, 32), 1e-4)]
    moves[1][:, ::2] *= -1
    with torch.no_grad():
        for moved in moves:
            with model.perturbed(batch, moved):
                model(batch)
        model(batch)
    hook.remove()
    assert not torch.equal(seen[0], seen[1])
    words, places = (
        block.word_embeddings(batch.input_ids).float() + moves[1],
        block.position_embeddings(batch.position_ids),
    )
    norm, kinds = block.LayerNorm, block.token_type_embeddings.weight[0]
    wanted = F.layer_norm(
        words + kinds + places, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps
    )
    assert torch.equal(seen[1], wanted.bfloat16())
    assert "forward" not in vars(norm)


SMART = {"method": "smart", "step_size": 0.05, "noise": 0.02, "proximal": 1.0, "momentum": 0.5}
ROBUST: list[dict[str, Any]] = [
    *({"method": "fgm"}, {"method": "pgd", "steps": 2}, {"method": "freelb"}),
    *(SMART, {"method": "r3f", "noise": 0.02}, {"method": "smoothing"}),
]
NAMES = [each["method"] for each in ROBUST]
# FGM is one step of PGD, R3F is SMART without steps, and smoothing FreeLB with one: of them fewer settings are tried.
RELATED = ("fgm", "r3f", "smoothing")


@pytest.mark.parametrize("adversarial", ROBUST, ids=NAMES)
def test_zero_stages_and_micro_batches_compute_the_same(adversarial: dict[str, Any]) -> None:
    start_process_group()
    recipe: dict[str, Any] = {"steps": 3, "adversarial": adversarial}
    plain, end = run(**recipe)
    assert [r.loss for r in plain] != [r.loss for r in run(steps=3)[0]]
    every = [EngineSettings(zero=zero) for zero in ("1", "2", "3", "3_offload")]
    every += [EngineSettings(accumulation=4), EngineSettings(zero="2", accumulation=2)]
    for settings in every[2::3] if adversarial["method"] in RELATED else every:
        other, other_end = run(settings, **recipe)
        # Sums in another order: differences of a few float32 roundings, amplified by Adam.
        assert [r.loss for r in other] == pytest.approx([r.loss for r in plain], abs=5e-5), settings
        for name, weight in end.weights.items():
            assert torch.allclose(other_end.weights[name], weight, atol=5e-4), (settings, name)


def trained(engine: EngineName, keys: Sequence[str], precision: Any = "fp32", **recipe: Any) -> list[float]:
    start_process_group()
    values: dict[str, Any] = {"batch_size": 8, "steps": 4, "learning_rate": 1e-3, **recipe}
    found: list[StepRecord] = []
    settings = EngineSettings(engine=engine, precision=precision)
    train(fresh(*keys), stream(*keys, recipe=Recipe(**values)), settings, on_step=found.append)
    return [record.loss for record in found]


@pytest.mark.parametrize("adversarial", ROBUST, ids=NAMES)
def test_the_graph_engine_and_bf16_compute_the_same_on_several_tasks(adversarial: dict[str, Any]) -> None:
    plain = trained("deepspeed", KEYS, adversarial=adversarial)
    assert trained("graph", KEYS, adversarial=adversarial) == pytest.approx(plain, abs=5e-5)
    for engine in ("deepspeed", "graph"):  # two numbers of bf16 near 1 are 8e-3 apart
        rounded = trained(engine, KEYS, "bf16", adversarial=adversarial)  # type: ignore[arg-type]
        assert rounded == pytest.approx(plain, abs=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("adversarial", ROBUST, ids=NAMES)
def test_captured_steps_compute_what_the_same_steps_do_without_graphs(
    adversarial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(batch_size=8, steps=6, learning_rate=1e-3, adversarial=adversarial)  # type: ignore[arg-type]
    batches = stream("mnli", recipe=recipe)

    def steps() -> tuple[list[float], int]:
        engine = GraphEngine(fresh("mnli"), recipe, recipe.steps, EngineSettings(engine="graph", precision="bf16"))
        found = [engine.step(batches.micro_batches(step % 2, StepShard()))[0] for step in range(recipe.steps)]
        return torch.stack(found).tolist(), engine.graphs

    captured, graphs = steps()
    assert graphs
    monkeypatch.setattr("xlt.train.graph.MAX_GRAPHS", 0)
    assert steps() == (captured, 0)


class Stored:
    """Writes the state after ``stop`` steps and ends there, or goes on from it."""

    def __init__(self, folder: Path, stop: int) -> None:
        self.folder, self.stop, self.kept = folder, stop, [stop]

    def keep(self, steps: int) -> None:
        """Nothing is kept."""

    def resume(self, engine: Any, best: BestCheckpoint) -> list[StepRecord]:
        return [StepRecord(**each) for each in load_state(self.folder, engine, best, 0)] if not self.stop else []

    def offer(self, engine: Any, best: BestCheckpoint, records: Sequence[StepRecord], *, milestone: bool) -> bool:
        if len(records) != self.stop:
            return False
        save_state(self.folder, engine, best, records, 0, None)
        return True


@pytest.mark.parametrize("engine", ["deepspeed", "graph"])
@pytest.mark.parametrize("adversarial", ROBUST, ids=NAMES)
def test_a_training_that_was_stopped_goes_on_bit_for_bit(
    adversarial: dict[str, Any], engine: EngineName, tmp_path: Path
) -> None:
    start_process_group()
    dropout: dict[str, Any] = {"hidden_dropout_prob": 0.1}
    recipe = Recipe(batch_size=8, steps=4, learning_rate=1e-3, adversarial=adversarial)  # type: ignore[arg-type]

    def result(seed: int, stored: Stored | None) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        model, batches = fresh("mnli", **dropout), stream("mnli", recipe=recipe)
        torch.manual_seed(seed)
        return train(model, batches, EngineSettings(engine=engine), on_step=lambda _: None, checkpoints=stored).weights

    whole = result(3, None)
    with pytest.raises(KeyboardInterrupt):
        result(3, Stored(tmp_path, 2))
    again = result(4, Stored(tmp_path, 0))
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())


@pytest.mark.slow
def test_processes_that_share_a_step_compute_what_one_computes() -> None:
    start_process_group()
    one = [record.loss for each in ROBUST for record in run(steps=2, adversarial=each)[0]]
    for line in run_together("tests.train.perturbed_processes"):
        assert [float(each) for each in line.split()] == pytest.approx(one, abs=5e-5)


def test_settings_are_checked_and_defaults_are_of_the_method() -> None:
    assert Adversarial.read("freelb,steps=3,radius=0.5") == method("freelb", steps=3, radius=0.5)
    assert method("freelb").passes == 2
    assert Recipe(steps=1).passes == 1
    assert Recipe(steps=1, adversarial=False).adversarial is None  # type: ignore[arg-type]
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: method("lbfree"), "there is no adversarial method 'lbfree': fgm, pgd, freelb, smart"),
        (lambda: method("freelb", stages=3), "no setting 'stages': steps"),
        (lambda: method("r3f", steps=2), "r3f has no setting 'steps': noise, weight"),
        (lambda: method("smart", weight=0), "with weight 0 and proximal 0 smart learns from no perturbation"),
        (lambda: method("freelb", steps=1, noise=0), "with one step and noise 0 freelb perturbs nothing"),
        (lambda: Adversarial.of("freelb"), "adversarial is 'freelb', not a table such as { method"),  # type: ignore[arg-type]
    ]
    for make, message in wrong:
        with pytest.raises(ValueError, match=message):
            make()
    assert method("smart", weight=0, proximal=1).weight == 0
    assert method("pgd", radius=0).radius == 0


@pytest.mark.parametrize(("name", "setting"), [(name, each) for name in DEFAULTS for each in DEFAULTS[name]])
def test_every_setting_of_every_method_has_a_range(name: str, setting: str) -> None:
    for value in (
        1e300,
        float("nan"),
        float("inf"),
        -1,
        -1e-9,
        1e-300,
        True,
        "x",
        10**30,
        1.5 if setting == "steps" else "1",
    ):
        if setting == "momentum" and value == 1e-300:
            continue  # a part of itself that is almost nothing
        with pytest.raises(ValueError, match=rf"{setting} of {name} is .+, not .+ \(default: "):
            method(name, **{setting: value})  # type: ignore[arg-type]
    assert getattr(method(name, **{setting: DEFAULTS[name][setting]}), setting) == DEFAULTS[name][setting]
    # What perturbs nothing is no adversarial training; a radius of 0 is none, and SMART's proximal point is an option.
    may_be_zero = setting in ("momentum", "proximal") or (name, setting) in {
        ("freelb", "noise"),
        ("pgd", "radius"),
        ("freelb", "radius"),
    }
    if may_be_zero:
        method(name, **{setting: 0})
    else:
        with pytest.raises(ValueError, match=name):
            method(name, **{setting: 0})


def test_only_trainings_that_ask_for_it_have_seeds_of_noise() -> None:
    assert stream("mnli").micro_batches(0, StepShard())[0].noise_seeds is None
    task = get_task("hellaswag")
    recipe = Recipe(batch_size=8, steps=2, adversarial=method("fgm"))
    batch = BatchStream(examples("hellaswag"), task, recipe, seed=1, first_position=2).micro_batches(0, StepShard())[0]
    assert batch.noise_seeds is not None
    assert batch.noise_seeds.shape == (len(batch.cu_seqlens) - 1,)
