"""One of several processes of ``test_families``, which share the steps and weights of a BLOOM under each stage of
ZeRO."""

from __future__ import annotations

import json

from tests.train.test_families import fresh, run
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import ZERO_STAGES, EngineSettings

fresh("bloom")  # of several processes only the first one of a group stores a model
start_process_group()
found = {zero: [record.loss for record in run("bloom", EngineSettings(zero=zero), steps=4)[0]] for zero in ZERO_STAGES}
stop_process_group()
print(json.dumps(found))
