"""The gradient of an embedding, against torch in double precision and against torch's own in bf16."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from xlt_kernels.embedding import FEW_ROWS, case, embedding

# One token; a row that a tile of tokens does not hold; one column more and less than a block; the product, by itself.
SHAPES = [(2000, 3, 16), (1030, 70, 257), (1030, 40, 255), (FEW_ROWS, 40, 16), (3, 40, 16)]


@pytest.mark.parametrize(("rows", "tokens", "width"), SHAPES)
def test_agrees_with_torch_in_double_precision(triton_device, rows, tokens, width):
    made = case(rows, tokens, width, dtype=torch.float16, device=triton_device)
    assert made.off_by() <= made.tolerance
    out, gradient = made.results()
    assert torch.equal(out, made.op(*made.inputs))
    assert not gradient[1].any()
    assert gradient[-1].any()


def test_a_row_that_many_tokens_read_is_rounded_once(triton_device):
    """Between 2,048 and 4,096 only even numbers are there in fp16: ones that are added one by one are lost."""
    ids, upstream = torch.full((65,), 7, device=triton_device), torch.ones(65, 8, device=triton_device).half()
    upstream[0] = 2048
    for rows in (2 * FEW_ROWS, 9):
        weight = torch.zeros(rows, 8, device=triton_device).half().requires_grad_()
        (gradient,) = torch.autograd.grad(embedding(ids, weight), weight, upstream)
        assert gradient[7].tolist() == [2112.0] * 8
        assert int(gradient.count_nonzero()) == 8


def test_ids_of_any_shape_and_integer_type_and_none(triton_device):
    weight = torch.randn(2000, 8, device=triton_device).half().requires_grad_()
    ids = torch.tensor([[3, 1999, 3], [0, 0, 5]], device=triton_device)
    for given in (ids, ids.int(), ids[:0]):
        upstream = torch.ones(*given.shape, 8).to(weight)
        for padding in (None, 0):
            found, wanted = (
                torch.autograd.grad(made, weight, upstream)[0]
                for made in (embedding(given, weight, padding), F.embedding(given, weight, padding))
            )
            assert torch.equal(found, wanted)


def test_fp32_and_a_kernel_that_is_off_are_torchs_own(triton_device, monkeypatch):
    weight = torch.randn(2000, 8, device=triton_device, requires_grad=True)
    assert "Embedding" in type(embedding(torch.tensor([3], device=triton_device), weight.half()).grad_fn).__name__
    monkeypatch.setenv("XLT_KERNELS", "-embedding")
    for each in (weight, weight.half()):
        made = embedding(torch.tensor([3], device=triton_device), each)
        assert type(made.grad_fn).__name__ == "EmbeddingBackward0"


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1490, 14_000])
def test_on_a_gpu_in_bf16_with_the_same_bits_every_time(gpu, tokens):
    for rows in (30_000, 514, 3):
        made = case(rows, tokens, 1024, dtype=torch.bfloat16, device=gpu)
        assert made.off_by() <= made.tolerance
        assert torch.equal(made.results()[1], made.results()[1])
