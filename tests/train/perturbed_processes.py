"""One of several processes of ``test_perturbation``, which share the steps and weights of adversarial trainings."""

from __future__ import annotations

from tests.train.test_loop import run
from tests.train.test_perturbation import ROBUST
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import EngineSettings

start_process_group()
print(*(record.loss for each in ROBUST for record in run(EngineSettings(zero="3"), steps=2, adversarial=each)[0]))
stop_process_group()
