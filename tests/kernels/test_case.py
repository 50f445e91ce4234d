"""Every kernel against its reference, and the comparison itself against results that are wrong."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import Tensor
from xlt_kernels.case import Case, cases, kernels, off_by, poisoned


def test_a_kernel_is_found_by_its_two_modules():
    assert {"adamw", "gelu", "layer_norm", "mutual_top_k", "varlen_attention"} <= set(kernels())


@pytest.mark.parametrize("kernel", kernels())
def test_every_kernel_agrees_with_its_reference(triton_device, kernel):
    for case in cases(kernel, triton_device):
        assert case.off_by() <= case.tolerance


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", kernels())
def test_on_a_gpu_in_every_type_with_the_same_bits_each_time(gpu, kernel):
    module = importlib.import_module(f"xlt_kernels.{kernel}")
    for shape in module.LARGE:
        for dtype in module.DTYPES:
            case = module.case(**shape | {"dtype": dtype}, device=gpu)
            once, again = case.results(), case.results()
            assert off_by(once, case.wanted()) <= case.tolerance, (shape, dtype)
            assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True)), (shape, dtype)


def test_wrong_unwritten_and_rounded_results_are_told_apart():
    chance = torch.Generator().manual_seed(0)
    x, factor = (torch.randn(shape, generator=chance).half() for shape in ((6, 4), (4,)))

    def reference(x: Tensor, factor: Tensor) -> Tensor:
        return x * factor

    def unwritten(x: Tensor, factor: Tensor) -> Tensor:
        out = torch.empty_like(x)
        out[:-1] = (x * factor)[:-1]
        return out + 0 * x + 0 * factor

    def scaled(x: Tensor, factor: Tensor) -> Tensor:
        return 1.02 * x * factor

    def of_another_gradient(x: Tensor, factor: Tensor) -> Tensor:
        return x * factor + 0.02 * (x - x.detach())

    found = {op: Case(op, reference, [x, factor], 0).off_by() for op in (reference, unwritten, scaled)}
    found[of_another_gradient] = Case(of_another_gradient, reference, [x, factor], 0).off_by()
    assert 0 < found[reference] <= 2**-9
    assert math.isnan(found[unwritten])
    assert found[scaled] == pytest.approx(0.02, abs=2**-9)
    assert found[of_another_gradient] > 2**-9


def test_deviations_are_relative_to_the_value_or_to_the_root_mean_square_if_that_is_more():
    wanted = torch.tensor([3.0, 0.0, 4.0, 0.0])  # root mean square 2.5
    assert off_by([wanted], [wanted]) == 0
    assert off_by([wanted + torch.tensor([0, 0, 0.4, 0])], [wanted]) == pytest.approx(0.1)
    assert off_by([wanted + torch.tensor([0, 0.25, 0, 0])], [wanted]) == pytest.approx(0.1)
    assert math.isnan(off_by([wanted * torch.nan], [wanted]))
    assert off_by([torch.zeros(2)], [torch.zeros(2)]) == 0
    assert off_by([torch.full((2,), 1e-30)], [torch.zeros(2)]) == math.inf
    assert off_by([torch.zeros(0)], [torch.zeros(0)]) == 0
    with pytest.raises(AssertionError, match="shape"):
        off_by([torch.zeros(2)], [torch.zeros(1)])


def test_new_memory_is_nan_only_within_the_block():
    for warn_only in (False, True):
        torch.use_deterministic_algorithms(False, warn_only=warn_only)
        with poisoned():
            assert torch.empty(3).isnan().all()
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    torch.use_deterministic_algorithms(False)
