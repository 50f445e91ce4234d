"""The optimizer, in plain torch and in Triton, against ``torch.optim.AdamW`` on every weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from xlt_kernels import adamw as op
from xlt_kernels.adamw import AdamW

# The Triton form may fuse a product into an addition: a step differs from torch's by a few units in the last place of
# its largest term, which is below 1 for weights and moments alike.
EXACT, CLOSE = (0.0, 0.0), (2e-6, 5e-7)


@pytest.fixture(params=["torch", "triton"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, tuple[float, float]]:
    """The device, and the tolerance."""
    if request.param == "triton":
        return str(request.getfixturevalue("triton_device")), CLOSE
    monkeypatch.setattr(op, "serves", lambda *_: False)
    return "cpu", EXACT


def _weights(device: str, seed: int = 0) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    # Less than a block, several blocks with a rest, exactly a block, a single number.
    shapes = [(24, 24), (3, 701), (32, 32), (1,)]
    return [torch.randn(shape, generator=chance).to(device) for shape in shapes]


def _leaves(weights: list[Tensor]) -> list[Tensor]:
    return [weight.clone().requires_grad_() for weight in weights]


def _groups(weights: list[Tensor], decay: float) -> list[dict[str, Any]]:
    return [{"params": weights[:3], "weight_decay": decay}, {"params": weights[3:], "weight_decay": 0.0}]


def _rate(step: int) -> float:
    # Warm-up, then decay; larger than in training so that weight decay is seen in every bit.
    return 1e-2 * min(1.0, (step + 1) / 5) * (1 - step / 60)


class _Run:
    """The same gradients for ours and for torch's AdamW."""

    def __init__(self, device: str, decay: float, max_norm: float) -> None:
        self.ours, self.theirs = (_leaves(_weights(device)) for _ in range(2))
        self.max_norm, self.chance = max_norm, torch.Generator().manual_seed(1)
        self.optimizer = AdamW(_groups(self.ours, decay), betas=(0.9, 0.98), max_norm=max_norm)
        self.peer = torch.optim.AdamW(_groups(self.theirs, decay), betas=(0.9, 0.98), foreach=False)

    def step(self, step: int) -> None:
        """One step on both sides."""
        for index, (mine, other) in enumerate(zip(self.ours, self.theirs, strict=True)):
            gradient = torch.randn(mine.shape, generator=self.chance)
            # The last parameter is a head that every third batch does not reach.
            absent = index == 3 and step % 3 == 2
            mine.grad, other.grad = (None if absent else gradient.to(mine.device, copy=True) for _ in range(2))
        if self.max_norm:
            nn.utils.clip_grad_norm_([x for x in self.theirs if x.grad is not None], self.max_norm)
        self.optimizer.set_rate(_rate(step))
        for group in self.peer.param_groups:
            group["lr"] = _rate(step)
        self.optimizer.step()
        self.peer.step()

    def assert_close(self, tolerance: tuple[float, float]) -> None:
        for mine, other in zip(self.ours, self.theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=tolerance[0], atol=tolerance[1])
            for name in ("exp_avg", "exp_avg_sq", "step"):
                left, right = self.optimizer.state[mine][name], self.peer.state[other][name]
                torch.testing.assert_close(left.float(), right, rtol=tolerance[0], atol=tolerance[1])


@pytest.mark.parametrize(("decay", "max_norm"), [(0.0, 0.0), (0.1, 0.0), (0.1, 3.0)])
def test_equals_adamw_on_every_weight(form, decay, max_norm):
    device, tolerance = form
    run = _Run(device, decay, max_norm)
    for step in range(60 if tolerance == EXACT else 4):
        run.step(step)
    run.assert_close(tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_rounded_parameter_is_the_copy_of_a_master_that_keeps_small_updates(form, dtype):
    device, tolerance = form
    *rounded, whole, _ = _weights(device)
    start = [*(part.to(dtype) for part in rounded), whole]  # in one optimizer with a parameter in fp32, as heads are
    ours, theirs = [part.clone().requires_grad_() for part in start], _leaves([part.float() for part in start])
    optimizer = AdamW(ours, lr=1e-5, weight_decay=0.1, max_norm=2.0)
    peer = torch.optim.AdamW(theirs, lr=1e-5, weight_decay=0.1, foreach=False)
    chance = torch.Generator().manual_seed(2)
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=chance).to(mine)
            other.grad = mine.grad.float().clone()
        nn.utils.clip_grad_norm_(theirs, 2.0)
        optimizer.step()
        peer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        master = optimizer.full_precision(mine)
        assert master.dtype == torch.float32
        torch.testing.assert_close(master, other.detach(), rtol=tolerance[0], atol=tolerance[1])
        # The interpreter cuts fp32 to bf16 instead of rounding it; a GPU rounds.
        cut = tolerance != EXACT and device == "cpu" and dtype == torch.bfloat16
        torch.testing.assert_close(mine, master.to(mine), rtol=2**-7 if cut else 0, atol=0)
        assert float((master - before.float()).detach().abs().max()) > 1e-5


def test_training_goes_on_from_its_state(form):
    device, tolerance = form
    run = _Run(device, 0.1, 0.0)
    for step in range(3):
        run.step(step)
    saved = run.optimizer.state_dict()
    resumed = _Run(device, 0.1, 0.0)
    resumed.optimizer.step()  # makes the launcher, whose addresses must stay those of the states
    resumed.optimizer.load_state_dict(saved)
    assert float(resumed.optimizer.param_groups[0]["lr"]) == _rate(2)
    with torch.no_grad():
        for mine, other in zip(resumed.ours, run.ours, strict=True):
            mine.copy_(other)
    resumed.theirs, resumed.peer, resumed.chance = run.theirs, run.peer, run.chance
    for step in range(3, 5):
        resumed.step(step)
    resumed.assert_close(tolerance)


def test_what_it_cannot_take_is_refused():
    weight = torch.zeros(4, 4)
    for other in (weight.T[:2].requires_grad_(), torch.zeros(4, dtype=torch.float64, requires_grad=True)):
        with pytest.raises(ValueError, match="takes contiguous parameters"):
            AdamW([other])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_captured_step_gives_the_bits_of_an_eager_one():
    results = []
    for captured in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(256, 500, device="cuda", dtype=torch.bfloat16)
        weights = list(layer.parameters())
        optimizer = AdamW(weights, lr=1e-3, weight_decay=0.1, max_norm=0.1)
        inputs = torch.zeros(64, 256, device="cuda", dtype=torch.bfloat16)

        def step(optimizer=optimizer, layer=layer, inputs=inputs):
            layer(inputs).float().square().mean().backward()
            optimizer.step()

        graph = torch.cuda.CUDAGraph()
        for turn in range(30):
            inputs.copy_(torch.randn(inputs.shape, generator=torch.Generator().manual_seed(turn)))
            optimizer.set_rate(1e-3 * (1 - turn / 30))
            if captured and turn == 5:
                optimizer.zero_grad()
                torch.cuda.synchronize()
                with torch.cuda.graph(graph):
                    step()
            if captured and turn >= 5:
                graph.replay()
            else:
                optimizer.zero_grad()
                step()
        assert int(optimizer.state[layer.weight]["step"]) == 30
        results.append([optimizer.full_precision(weight).clone() for weight in weights])
    for eager, replayed in zip(*results, strict=True):
        assert torch.equal(eager, replayed)
