"""The training log of a run, ``log.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter

from xlt.strict_json import parse_json, read_bytes

FELL = 0.95
LEAST_STEPS = 20
Count = Annotated[int, Field(ge=0, le=2**62)]
Loss = Annotated[float, Field(ge=-1e12, le=1e12)]


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


class _Record(BaseModel):
    step: Count
    task: str
    loss: Loss
    tokens: Count
    dev_score: float | None = None


_RECORDS = TypeAdapter(list[_Record])


def read_log(folder: Path) -> Log | None:
    """The log of the run in ``folder``; None if the run trained nothing or the log is not one."""
    try:
        lines = read_bytes(folder / "log.jsonl").splitlines()
        records = _RECORDS.validate_python([parse_json(line) for line in lines])
    except (OSError, ValueError):
        return None
    log = Log(
        steps=tuple(record.step for record in records),
        tasks=tuple(record.task for record in records),
        losses=tuple(record.loss for record in records),
        tokens=sum(record.tokens for record in records),
        dev_scores=tuple((record.step, record.dev_score) for record in records if record.dev_score is not None),
    )
    return log if log.losses else None
