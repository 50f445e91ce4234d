"""What every process that computes sets first."""

from __future__ import annotations

import pytest
import torch

from xlt.bench.shapes import fresh_model
from xlt.train.seeding import deterministic


@pytest.mark.parametrize("start", [lambda: deterministic(True), lambda: fresh_model("small")], ids=["run", "bench"])
def test_no_part_of_a_product_is_rounded_before_it_is_added(start):
    products = torch.backends.cuda.matmul
    products.allow_bf16_reduced_precision_reduction = products.allow_fp16_reduced_precision_reduction = True
    try:
        start()
    finally:
        torch.use_deterministic_algorithms(False)
    assert not products.allow_bf16_reduced_precision_reduction
    assert not products.allow_fp16_reduced_precision_reduction
