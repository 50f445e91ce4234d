"""One of several processes of ``test_resume``: of every ZeRO stage, whether a training that was killed goes on with the
bits of one that was not, and from which step; or, of what one process left, whether the batches and losses are those
given."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from tests.pipeline.test_resume import EVERY_STEP, KilledError, same, training
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import EngineSettings

start_process_group()
root = Path(os.environ["XLT_TEST_FOLDER"])
given = json.loads(os.environ.get("XLT_TEST_LOSSES", "null"))
keys = ("mnli", "panx", "mlm")
found = {}
for zero in ("1", "2", "3", "0"):
    settings = EngineSettings(zero=zero, **EVERY_STEP)
    if given is None:
        whole = training(*keys, settings=settings)
        with suppress(KilledError):
            training(*keys, settings=settings, folder=root / zero, killed_after=9)
        # For the process that goes on alone afterwards.
        with suppress(KilledError):
            training(*keys, settings=settings, folder=root / f"{zero}.plain", killed_after=9, dropout=0.0)
    *resumed, checkpoints = training(
        *keys, settings=settings, folder=root / zero, dropout=0.1 if given is None else 0.0
    )
    assert checkpoints
    if given is None:
        good = same(whole, (*resumed, None))
    else:
        good = [each.examples for each in resumed[0]] == [ids for ids, _ in given] and all(
            abs(each.loss - loss) < 1e-4 for each, (_, loss) in zip(resumed[0], given, strict=True)
        )
    found[zero] = [good, checkpoints.resumed[0]["step"]]
stop_process_group()
print(json.dumps(found), flush=True)
os._exit(0)
