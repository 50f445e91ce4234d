"""The masked-LM loss by chunks, gradients computed with it, against torch in double precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from xlt_kernels import mlm_loss as module
from xlt_kernels.mlm_loss import mlm_loss, mlm_loss_reference

from tests.kernels.oracle import assert_agrees, poisoned, run

# fp16: logits near 8 lie 2**-8 apart, and a gradient is as far off, relatively, as its logit is absolutely.
TOLERANCE = {torch.float32: (1e-4, 2e-6), torch.float16: (1e-2, 4e-3), torch.bfloat16: (3e-2, 3e-2)}


def _inputs(rows: int, hidden: int, words: int) -> tuple[list[Tensor], Tensor]:
    chance = torch.Generator().manual_seed(rows + words)
    shapes = [(rows, hidden), (words, hidden), (words,)]
    tensors = [torch.randn(shape, generator=chance, dtype=torch.float64) for shape in shapes]
    return [tensors[0], tensors[1] / 4, tensors[2]], torch.randint(words, (rows,), generator=chance)


def _forms(labels: Tensor, chunk: int) -> tuple[partial[Tensor], partial[Tensor]]:
    return partial(mlm_loss, labels=labels, chunk=chunk), partial(mlm_loss_reference, labels=labels)


# 1 row; fewer words than a block; one more and less than a block; chunks that do and do not divide the rows.
SHAPES = [(1, 16, 5, 8), (7, 24, 101, 8), (6, 16, 4095, 4), (5, 16, 4097, 2), (9, 32, 8300, 3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "hidden", "words", "chunk"), SHAPES)
def test_agrees_with_torch_in_double_precision(triton_device, rows, hidden, words, chunk, dtype):
    inputs, labels = _inputs(rows, hidden, words)
    labels[rows // 2] = words - 1
    op, oracle = _forms(labels.to(triton_device), chunk)
    assert assert_agrees(op, oracle, inputs, triton_device, dtype, *TOLERANCE[dtype]).dtype == torch.float32


def test_ignored_rows_count_for_nothing(triton_device):
    inputs, labels = _inputs(7, 16, 50)
    labels[[0, 3, 4]] = -100
    op, oracle = _forms(labels.to(triton_device), 3)
    assert_agrees(op, oracle, inputs, triton_device, torch.float32, *TOLERANCE[torch.float32])
    gradients = run(op, [t.float().to(triton_device) for t in inputs])[1]
    assert gradients.any(dim=1).tolist() == (labels != -100).tolist()
    nothing = run(_forms(torch.full_like(labels, -100).to(triton_device), 3)[0], [t.to(triton_device) for t in inputs])
    assert not any(tensor.any() for tensor in nothing)


def test_no_rows(triton_device):
    inputs, labels = _inputs(0, 16, 50)
    results = run(_forms(labels.to(triton_device), 4)[0], [t.float().to(triton_device) for t in inputs])
    assert [tensor.shape for tensor in results] == [(), (0, 16), (50, 16), (50,)]
    assert not any(tensor.any() for tensor in results)


@pytest.mark.parametrize("label", [50, -1])
def test_a_label_that_is_no_word_shows(triton_device, label):
    inputs, labels = _inputs(3, 16, 50)
    labels[1] = label
    assert mlm_loss(*(t.float().to(triton_device) for t in inputs), labels.to(triton_device)).isnan()


def test_evaluation_computes_no_gradient(triton_device, monkeypatch):
    inputs, labels = _inputs(5, 16, 70)
    weights = [t.float().to(triton_device).requires_grad_() for t in inputs]
    with torch.no_grad(), poisoned():
        monkeypatch.setattr(module, "_add_product", lambda *_, **__: pytest.fail("a gradient was computed"))
        loss = mlm_loss(*weights, labels.to(triton_device), chunk=2)
    assert not loss.requires_grad
    torch.testing.assert_close(loss.double().cpu(), mlm_loss_reference(*inputs, labels), rtol=1e-5, atol=0)


def test_the_backward_pass_runs_once(triton_device):
    inputs, labels = _inputs(2, 16, 20)
    weights = [t.float().to(triton_device).requires_grad_() for t in inputs]
    loss = mlm_loss(*weights, labels.to(triton_device))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        loss.backward()


def test_memory_is_that_of_one_chunk(triton_device):
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                self.size = max(self.size, out.untyped_storage().nbytes())
            return out

    inputs, labels = _inputs(12, 8, 640)
    weights = [t.float().to(triton_device).requires_grad_() for t in inputs]
    with Largest() as largest:
        mlm_loss(*weights, labels.to(triton_device), chunk=4)
    # Twelve rows of logits would be 30,720 bytes; four are 10,240, and the weight's gradient is twice that.
    assert largest.size == 640 * 8 * 4


def test_the_reference_is_the_sum_over_rows_and_has_gradients():
    inputs, labels = _inputs(3, 4, 5)
    labels[1] = -100
    rows = torch.log_softmax(inputs[0] @ inputs[1].T + inputs[2], dim=1)
    torch.testing.assert_close(mlm_loss_reference(*inputs, labels), -(rows[0, labels[0]] + rows[2, labels[2]]))
    assert torch.autograd.gradcheck(partial(mlm_loss_reference, labels=labels), [t.requires_grad_() for t in inputs])


@pytest.mark.gpu
@pytest.mark.parametrize("chunk", [128, 512])
def test_on_a_gpu_in_bf16_with_the_same_bits_each_time(triton_device, chunk):
    if triton_device != "cuda":
        pytest.skip("needs an NVIDIA GPU")
    (hidden, weight, bias), labels = _inputs(300, 1024, 250_002)
    inputs = [t.to("cuda", torch.bfloat16) for t in (hidden, weight / 12, bias / 12)]
    op, oracle = _forms(labels.cuda(), chunk)
    once, again = run(op, inputs), run(op, inputs)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    # Logits and their gradients, each rounded to 8 bits, are off by less than 2**-9 of their size, at random.
    for got, want in zip(once, run(oracle, [t.double() for t in inputs]), strict=True):
        assert float((got.double() - want).norm()) < 1e-2 * float(want.norm())
