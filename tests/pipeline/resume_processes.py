"""One of several processes of ``test_resume``: of every ZeRO stage, whether a training that was killed goes on with the
bits of one that was not, and from which step."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

from tests.pipeline.test_resume import EVERY_STEP, KilledError, same, training
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import EngineSettings

start_process_group()
names: list[str | None] = [None]
if torch.distributed.get_rank() == 0:
    names = [tempfile.mkdtemp()]
torch.distributed.broadcast_object_list(names)
root = Path(str(names[0]))
found = {}
for zero in ("1", "2", "3", "0"):
    settings = EngineSettings(zero=zero, **EVERY_STEP)
    whole = training("mnli", "panx", "mlm", settings=settings)
    with suppress(KilledError):
        training("mnli", "panx", "mlm", settings=settings, folder=root / zero, killed_after=9)
    *resumed, checkpoints = training("mnli", "panx", "mlm", settings=settings, folder=root / zero)
    assert checkpoints
    found[zero] = [same(whole, (*resumed, None)), checkpoints.resumed[0]["step"]]
stop_process_group()
print(json.dumps(found), flush=True)
os._exit(0)
