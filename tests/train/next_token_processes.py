"""One of several processes of ``test_families``, in which a BLOOM learns next tokens under each stage of ZeRO."""

from __future__ import annotations

import json

from tests.train.test_families import next_tokens
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import ZERO_STAGES, EngineSettings

start_process_group()
found = {zero: next_tokens(EngineSettings(zero=zero)) for zero in ZERO_STAGES}
stop_process_group()
print(json.dumps(found))
