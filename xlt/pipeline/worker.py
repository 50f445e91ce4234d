"""A training process started by the launcher: ``python -m xlt.pipeline.worker ORDER.json``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xlt.errors import XltError
from xlt.pipeline.launch import EVENT
from xlt.pipeline.run import execute_run
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.train.engine import EngineSettings
from xlt.train.loop import StepRecord


class _Lines:
    """Progress as lines that the parent process reads."""

    def step(self, record: StepRecord, steps: int) -> None:
        _say(event="step", record=asdict(record), steps=steps)

    def cell(self, task: str, split: str, language: str) -> None:
        _say(event="cell", cell=[task, split, language])


def _say(**event: Any) -> None:
    print(EVENT + json.dumps(event), flush=True)


def main(order_path: str) -> int:
    """Carry out the order; errors that a user can mend are reported to the parent process."""
    import torch

    order = json.loads(Path(order_path).read_text("utf-8"))
    torch.set_num_threads(order["threads"])
    data_root = order["source"].pop("data_root")
    try:
        source = open_source(SourceOptions(**order["source"], data_root=Path(data_root) if data_root else None))
        execute_run(
            RunSpec.model_validate(order["spec"]),
            Path(order["parent_model"]) if order["parent_model"] else None,
            source,
            RunStore(Path(order["results"])),
            EngineSettings(**order["settings"]),
            _Lines(),
        )
    except XltError as error:
        _say(event="fault", what=error.what, why=error.why, mend=error.mend, exit_code=int(error.exit_code))
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
