"""The log of a training, as it is read from a run's folder."""

from __future__ import annotations

import math
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


class Step(BaseModel):
    """One line (see ``xlt.train.loop.StepRecord``)."""

    step: Count
    task: str
    loss: Loss
    tokens: Count
    learning_rate: float = math.nan
    examples: str = ""
    dev_score: float | None = None
    at_chance: bool | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """The lines of a training's log, at least one."""

    lines: tuple[Step, ...]

    @property
    def tokens(self) -> int:
        """The real tokens of all steps."""
        return sum(line.tokens for line in self.lines)

    @property
    def dev_scores(self) -> tuple[tuple[int, float], ...]:
        """The dev scores, each with its step."""
        return tuple((line.step, line.dev_score) for line in self.lines if line.dev_score is not None)

    @property
    def loss_fell(self) -> bool | None:
        """Whether the mean loss of the last tenth of the steps is below 95 % of the mean of the first tenth.

        None with fewer than 20 steps: too few to say.
        """
        losses = [line.loss for line in self.lines]
        if len(losses) < LEAST_STEPS:
            return None
        tenth = len(losses) // 10
        return fmean(losses[-tenth:]) < FELL * fmean(losses[:tenth])


_LINES = TypeAdapter(tuple[Step, ...])


def read_log(folder: Path) -> Log | None:
    """The log of the run in ``folder``; None if the run trained nothing or the log is not one."""
    try:
        lines = _LINES.validate_python([parse_json(line) for line in read_bytes(folder / "log.jsonl").splitlines()])
    except (OSError, ValueError):
        return None
    return Log(lines) if lines else None
