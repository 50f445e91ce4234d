"""What an optimiser step issues: no more operations than a plain loop of torch, and no read of the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import xlt_kernels.attention
from torch import nn
from xlt_kernels import switch
from xlt_kernels.varlen_attention import varlen_attention

import xlt.model.attention
from tests.train.test_loop import CONFIG, batch_stream
from xlt.bench.operations import Operations
from xlt.data.packing import PackedBatch
from xlt.model.encoder import PackedModel
from xlt.pipeline.hours import read_assumptions
from xlt.runtime import device, start_process_group
from xlt.train.batches import StepShard
from xlt.train.engine import DeepSpeedEngine, EngineSettings, parameter_groups
from xlt.train.graph import GraphEngine, in_bucket
from xlt.train.seeding import deterministic

Step = Callable[[PackedBatch], object]
LAYERS = 24
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
BF16 = EngineSettings(precision="bf16")
GRAPH = EngineSettings(precision="bf16", engine="graph")


def model(**config: float) -> PackedModel:
    torch.manual_seed(0)
    made = PackedModel.fresh({**CONFIG, **DROPOUT, "num_hidden_layers": LAYERS, **config})
    made.drop_masked_lm_head()
    made.add_head("mnli", "pair_classification", 3)
    return made


def issued(step: Step, lay_out: Callable[[PackedBatch], PackedBatch] = lambda batch: batch) -> Operations:
    """What the second of two steps issues, on a batch that ``lay_out`` made on the host."""
    batch = lay_out(*batch_stream().micro_batches(0, StepShard()))
    step(batch)
    with Operations() as found:
        step(batch)
    return found


@pytest.fixture(scope="module")
def plain() -> Operations:
    """A loop as one would write it, with torch's own optimiser and clipping."""
    trained = model().compute_in(device(), "bf16").train()
    optimizer = torch.optim.AdamW(parameter_groups(trained, 0.1), fused=True)

    def step(batch: PackedBatch) -> None:
        trained(batch.to(device()))[0].backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()

    return issued(step)


def test_deepspeed_issues_little_more_than_a_plain_loop_and_reads_nothing(plain: Operations) -> None:
    start_process_group()
    engine = DeepSpeedEngine(model(), batch_stream().recipe, 12, BF16)
    found = issued(lambda batch: engine.step([batch]))
    engine.close()
    assert 1000 < found.operations <= 1.3 * plain.operations
    (assumed,) = read_assumptions()
    assert found.operations == pytest.approx(assumed.operations.value, rel=0.05)
    assert found.reads == 0


def test_what_the_graph_engine_captures_reads_nothing(plain: Operations) -> None:
    engine = GraphEngine(model(), batch_stream().recipe, 12, GRAPH)
    found = issued(lambda batch: engine._run(batch, 1e-3), in_bucket)
    engine.close()
    assert found.operations <= 1.3 * plain.operations
    assert found.reads == 0


def test_a_step_of_a_gpu_launches_few_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """With kernels that are counted and not run, so that there need be no GPU: what they leave behind is of no use."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from triton.runtime import interpreter, jit

    launched: list[str] = []
    # Other tests may have imported the kernels for the interpreter.
    for kind in (jit.JITFunction, interpreter.InterpretedFunction):
        monkeypatch.setattr(kind, "run", lambda function, *_, **__: launched.append(function.fn.__name__))
    monkeypatch.setattr(switch, "INTERPRETED", True)
    for module in (xlt_kernels.attention, xlt.model.attention):
        monkeypatch.setattr(module, "ragged_attention", lambda *_: varlen_attention)
    engine = GraphEngine(model(num_attention_heads=2, vocab_size=2000), batch_stream().recipe, 12, GRAPH)
    found = issued(lambda batch: [launched.clear(), engine._run(batch, 1e-3)], in_bucket)
    engine.close()
    counts = Counter(launched)
    # Of each block: attention, two norms, GELU. Of the step: AdamW for weights in bf16 and for the head's in fp32.
    assert counts["forward_kernel"] == counts["backward_kernel"] + counts["backward_keys_kernel"] == 4 * LAYERS
    assert counts["update_kernel"] == counts["square_sums_kernel"] == 2
    assert counts["sum_rows_kernel"] == 1  # of the words: the gradients of positions and segments are products
    # 1,333 before query, key and value were one product and seeds one draw.
    assert len(launched) + found.operations < 1000
    assert found.reads == 0


def test_deterministic_mode_writes_nothing_more() -> None:
    """In this mode torch fills new memory unless it is told not to, by launches that a dispatch mode does not see."""
    engine = GraphEngine(model(num_hidden_layers=2), batch_stream().recipe, 12, GRAPH)
    batch = in_bucket(*batch_stream().micro_batches(0, StepShard()))
    engine._run(batch, 1e-3)
    before, fills = torch.are_deterministic_algorithms_enabled(), []
    try:
        for enabled in (False, True):
            deterministic(enabled)
            with torch.profiler.profile() as profiler:
                engine._run(batch, 1e-3)
            fills.append({each.key: each.count for each in profiler.key_averages()}["aten::fill_"])
    finally:
        deterministic(before)
        engine.close()
    assert fills[0] == fills[1] > 0


def test_the_losses_of_a_gpu_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GraphEngine.block == 32
    start_process_group()
    engine: Any = DeepSpeedEngine(model(), batch_stream().recipe, 12, BF16)
    assert engine.block == (32 if device().type == "cuda" else 1)
    engine.close()


def test_a_read_is_counted_and_a_view_is_not() -> None:
    value = torch.ones(4)
    with Operations() as found:
        float(value.view(2, 2)[0, 0])
        value.add(1).nonzero()
        torch.empty(3)
    assert (found.operations, found.reads) == (1, 2)
