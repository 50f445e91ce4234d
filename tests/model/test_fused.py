"""Kernels in the library's modules: the same numbers, names and files, and nothing replaced where none serves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from xlt_kernels import switch

from tests.kernels import interpreter
from tests.model.conftest import CONFIG
from xlt.model import fused
from xlt.model.encoder import PackedModel
from xlt.train.used_rows import RowsEmbedding

OURS = (fused.BlockEnd, fused.ResidualNorm, fused.LinearGelu, fused.Embedding)
LENGTHS = [3, 1, 4]
# fp32: the same sums in another order, a few units in the last place of terms near 1, through two blocks.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels serve: Triton's interpreter on a CPU, or a GPU."""
    if interpreter.missing:
        pytest.skip(interpreter.missing)
    interpreter.import_kernels()
    monkeypatch.setattr(switch, "INTERPRETED", True)
    monkeypatch.delenv("XLT_KERNELS", raising=False)


@pytest.fixture
def small(tiny: Any) -> Any:
    """Makes a model of few blocks: the interpreter is slow."""
    return lambda blocks=1, **config: tiny(num_hidden_layers=blocks, **config)


def _replaced(model: nn.Module) -> int:
    return sum(isinstance(module, OURS) for module in model.modules())


def _pair(small: Any, blocks: int) -> tuple[PackedModel, PackedModel]:
    """The library's model and ours, with the same weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_KERNELS", "off")
        theirs = small(blocks)
    ours = small(blocks)
    assert _replaced(theirs) == 0
    assert _replaced(ours) == 5 * blocks + 3  # of words, positions and segments
    return theirs.train(), ours.train()


def _step(model: PackedModel, batch: Any) -> dict[str, Tensor]:
    """The loss and every gradient."""
    model.zero_grad()
    loss, _ = model(batch)
    loss.backward()
    return {"loss": loss.detach(), **{name: weight.grad for name, weight in model.named_parameters()}}


def _assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.usefixtures("serving")
def test_masked_lm_gives_the_librarys_loss_and_every_gradient(small, batch_of):
    theirs, ours = _pair(small, 2)
    scored = torch.tensor([1, 3, 4, 6])
    batch = batch_of(LENGTHS, "masked_lm", labels=torch.tensor([4, 59, 3, 3]), scored_positions=scored, denominator=4.0)
    wanted = _step(theirs, batch)
    assert wanted["backbone.encoder.layer.0.intermediate.dense.bias"].abs().max() > 1e-3
    _assert_close(_step(ours, batch), wanted)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(batch)[0], theirs.eval()(batch)[0], **CLOSE)


@pytest.mark.usefixtures("serving")
def test_a_task_gives_the_librarys_scores_and_every_gradient(small, batch_of):
    theirs, ours = _pair(small, 1)
    for model in (theirs, ours):
        model.drop_masked_lm_head()
        torch.manual_seed(1)
        model.add_head("task", "pair_classification", 3)
        model.heads["task"].eval()
    batch = batch_of(LENGTHS, "pair_classification", labels=torch.tensor([0, 2, 1]))
    torch.testing.assert_close(ours(batch)[1], theirs(batch)[1], **CLOSE)
    _assert_close(_step(ours, batch), _step(theirs, batch))


@pytest.mark.usefixtures("serving")
def test_dropout_follows_the_seed_of_torch_and_is_off_in_evaluation(small):
    end = small(hidden_dropout_prob=0.5).backbone.encoder.layer[0].output
    x, residual = torch.randn(3, CONFIG["intermediate_size"]), torch.randn(3, CONFIG["hidden_size"])
    assert torch.equal(end(x, residual), end(x, residual))
    end.train()
    drawn = []
    for seed in (5, 5, None):  # the third call goes on from the second
        if seed is not None:
            torch.manual_seed(seed)
        drawn.append(end(x, residual))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


@pytest.mark.usefixtures("serving")
def test_names_order_ties_and_files_are_the_librarys(small, batch_of, tmp_path, monkeypatch):
    theirs, ours = _pair(small, 1)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert ours.lm_head.decoder.weight is ours.backbone.embeddings.word_embeddings.weight
    assert ours.lm_head.decoder.bias is ours.lm_head.bias
    norms = [sum(isinstance(m, nn.LayerNorm) for m in model.modules()) for model in (theirs, ours)]
    assert norms[0] == norms[1]
    for name, model in (("theirs", theirs), ("ours", ours)):
        model.save(tmp_path / name)
    for path in (tmp_path / "theirs").iterdir():
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes(), path.name
    again = PackedModel.load(tmp_path / "ours")
    assert _replaced(again) == _replaced(ours)
    batch = batch_of(LENGTHS)
    assert torch.equal(again.hidden_states(batch, 1), ours.eval().hidden_states(batch, 1))
    monkeypatch.setenv("XLT_KERNELS", "off")
    assert _replaced(PackedModel.load(tmp_path / "ours")) == 0
    assert _replaced(copy.deepcopy(again)) == _replaced(again)


@pytest.mark.usefixtures("serving")
def test_each_kernel_has_its_switch(small, monkeypatch):
    for left_out, kinds in {
        "layer_norm": (fused.BlockEnd, fused.ResidualNorm),
        "gelu": (fused.LinearGelu,),
        "embedding": (fused.Embedding,),
    }.items():
        monkeypatch.setenv("XLT_KERNELS", f"-{left_out}")
        found = {type(module) for module in small().modules()}
        assert found & set(OURS) == set(OURS) - set(kinds)


@pytest.mark.usefixtures("serving")
def test_a_rounded_embedding_has_the_gradient_of_one_in_full_precision():
    """With all its rows, or those that a training reads, bit for bit; in fp16, which the interpreter rounds rightly."""
    torch.manual_seed(0)
    parent = nn.ModuleDict({"words": nn.Embedding(3000, 8, padding_idx=1).half()})
    fused.install(parent)
    rows = torch.tensor([1, *range(2, 3000, 2)])
    ids, upstream = rows[(torch.rand(1, 70) ** 4 * len(rows)).long()], torch.randn(1, 70, 8).half()
    words, used, exact = parent["words"], RowsEmbedding(parent["words"], rows), nn.Embedding(3000, 8, 1).double()
    gradients = []
    for module in (words, used, exact):
        module(ids).backward(upstream.to(module.weight))
        gradients.append(module.weight.grad)
    assert torch.equal(gradients[1], gradients[0][rows])
    torch.testing.assert_close(gradients[0].double(), gradients[2], rtol=2**-10, atol=1e-5)


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(("activation", "exact"), [("gelu_python", True), ("gelu_new", False), ("silu", False)])
def test_only_the_exact_gelu_is_replaced(small, activation, exact):
    assert any(isinstance(m, fused.LinearGelu) for m in small(hidden_act=activation).modules()) == exact


@pytest.mark.usefixtures("serving")
def test_an_unknown_layout_is_left_alone(small):
    model = small()
    block = nn.Module()
    block.output, block.intermediate = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.GELU())
    block.attention = nn.Module()
    block.attention.output = nn.ModuleDict({"dense": nn.Linear(4, 4), "LayerNorm": nn.LayerNorm(4, bias=False)})
    fused.install(block)
    assert _replaced(block) == 0
    # Once more over a model that has them changes nothing.
    before = _replaced(model)
    fused.install(model.backbone)
    assert _replaced(model) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the kernels serve")
def test_on_a_cpu_nothing_is_replaced(small):
    assert _replaced(small()) == 0
