"""A process that makes the runs it is ordered to, one JSON order per line of standard input.

``python -m xlt.pipeline.worker [ORDER.json]``: several that share a run have one and the same order.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from xlt.errors import ExitCode, XltError, package_fault
from xlt.pipeline.launch import EVENT, ORDER
from xlt.pipeline.run import execute_run
from xlt.pipeline.sources import open_source
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import use_threads
from xlt.train.loop import StepRecord
from xlt.train.seeding import deterministic


class _Lines:
    """Progress as lines that the parent process reads."""

    def step(self, record: StepRecord, steps: int) -> None:
        _say(event="step", record=asdict(record), steps=steps)

    def cell(self, task: str, split: str, language: str) -> None:
        _say(event="cell", cell=[task, split, language])


def _say(**event: Any) -> None:
    print(EVENT + json.dumps(event), flush=True)


def _orders() -> SimpleQueue[str]:
    """The lines of standard input. When it closes, the parent process is gone: so is this one, at once."""
    orders: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        # Not sys.stdin: Python would stop for its lock when the process ends.
        with open(0, encoding="utf-8", closefd=False) as lines:
            for line in lines:
                orders.put(line)
        os._exit(ExitCode.INCOMPLETE)

    Thread(target=listen, daemon=True).start()
    return orders


def main(path: str = "") -> int:
    """Carry out the order in the file, or every order that comes in; errors are reported to the parent process."""
    deterministic(True)
    orders = _orders()
    source = cache(open_source)
    while True:
        order = ORDER.validate_json(Path(path).read_bytes() if path else orders.get())
        use_threads(order.threads)
        try:
            store = RunStore(order.results)
            made = execute_run(order.spec, order.parent_model, source(order.source), store, order.settings, _Lines())
        except (XltError, ModuleNotFoundError) as error:
            fault = error if isinstance(error, XltError) else package_fault(error)
            _say(event="fault", what=fault.what, why=fault.why, fix=fault.fix, exit_code=int(fault.exit_code))
            return int(fault.exit_code)
        if made is not None:
            _say(event="done")
        if path:
            return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
