"""The training log of a run, ``log.jsonl``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

FELL = 0.95
LEAST_STEPS = 20


@dataclass(frozen=True, slots=True)
class Log:
    """Steps, their tasks and losses, and real tokens of a training, and the dev scores by step."""

    steps: tuple[int, ...]
    tasks: tuple[str, ...]
    losses: tuple[float, ...]
    tokens: int
    dev_scores: tuple[tuple[int, float], ...]

    @property
    def loss_fell(self) -> bool | None:
        """Whether the mean loss of the last tenth of the steps is below 95 % of that of the first tenth.

        None with fewer than 20 steps: too few to say.
        """
        if len(self.losses) < LEAST_STEPS:
            return None
        tenth = len(self.losses) // 10
        return fmean(self.losses[-tenth:]) < FELL * fmean(self.losses[:tenth])


def read_log(folder: Path) -> Log | None:
    """The log of the run in ``folder``; None if the run trained nothing or the log is not one."""
    try:
        lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        log = Log(
            steps=tuple(int(record["step"]) for record in records),
            tasks=tuple(str(record["task"]) for record in records),
            losses=tuple(float(record["loss"]) for record in records),
            tokens=sum(int(record["tokens"]) for record in records),
            dev_scores=tuple((int(r["step"]), float(r["dev_score"])) for r in records if "dev_score" in r),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return log if log.losses else None
