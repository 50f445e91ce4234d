"""One of several processes of ``test_loop``. Of every ZeRO stage in bf16: which weights before the first step are not
those of the start, and in which types a step adds up over the processes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import deepspeed
import torch

from tests.train.test_loop import batch_stream, fresh_model
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import ZERO_STAGES, DeepSpeedEngine, EngineSettings, own_shard

types: defaultdict[str, set[str]] = defaultdict(set)


def told(name: str, reduce: Callable[..., Any]) -> Callable[..., Any]:
    def instead(*tensors: torch.Tensor, **options: Any) -> Any:
        # Whether all processes are well is one number.
        if tensors[0].numel() > 1:
            types[zero].add(str(tensors[0].dtype))
        return reduce(*tensors, **options)

    return instead


start_process_group()
for name in ("all_reduce", "reduce", "reduce_scatter_fn"):
    setattr(deepspeed.comm, name, told(name, getattr(deepspeed.comm, name)))
changed = {}
for zero in ZERO_STAGES:
    model, stream = fresh_model(), batch_stream()
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    engine = DeepSpeedEngine(model, stream.recipe, stream.steps, EngineSettings(zero=zero, precision="bf16"))
    changed[zero] = [name for name, weight in engine.weights().items() if not torch.equal(weight, start[name])]
    types.pop(zero, None)
    engine.step(stream.micro_batches(0, own_shard(1)))
    engine.close()
stop_process_group()
print(json.dumps({"changed": changed, "types": {zero: sorted(found) for zero, found in types.items()}}))
