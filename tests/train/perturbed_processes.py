"""One of several processes of ``test_perturbation``, which share the steps and weights of an adversarial training."""

from __future__ import annotations

from tests.train.test_loop import run
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import EngineSettings

start_process_group()
records, _ = run(EngineSettings(zero="3"), steps=2, adversarial={"method": "pgd", "steps": 2})
print(*(each.loss for each in records))
stop_process_group()
