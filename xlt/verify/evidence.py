"""The records of golden evidence (see ``golden``), without what computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from xlt.errors import ExitCode
from xlt.frozen import Frozen


class GoldenStep(Frozen):
    """One step of a training."""

    task: str
    """The task of its batch."""
    loss: float
    """The mean loss of the batch."""
    learning_rate: float
    """The learning rate."""
    tokens: int
    """The tokens of the batch."""
    examples: str
    """A short hash of the ids of its examples."""


class GoldenBatch(Frozen):
    """What a step of a training is made of, without taking it."""

    seed: int
    """The seed of the training."""
    step: int
    """The step, from 1."""
    learning_rate: float
    """The learning rate."""
    examples: str
    """A short hash of the ids of its examples."""


class GoldenCell(Frozen):
    """Predictions for the first rows of one task, split and language."""

    ids: tuple[str, ...]
    """The ids of the rows."""
    predictions: tuple[str | tuple[int, int], ...]
    """What is predicted of each (see ``Prediction``)."""
    scores: tuple[float, ...]
    """How sure the model is."""


class Evidence(Frozen):
    """``artifact/golden/evidence.json``: what must come out."""

    format: Literal[1] = 1
    """The version of this file's form."""
    origin: str
    """How it was computed."""
    trainings: dict[str, tuple[GoldenStep, ...]]
    """The first steps of each training, by the name of its run."""
    schedules: dict[str, tuple[GoldenBatch, ...]]
    """Learning rate and examples of steps spread over the whole of each training, and of the same with another seed."""
    gradients: dict[str, dict[str, float]]
    """The norm of the first step's gradient in each part of the model, by the name of the run."""
    cells: dict[str, GoldenCell]
    """Predictions of the checkpoint, by ``task/split/language``."""


class GoldenCheck(Frozen):
    """A comparison of what this machine and this code compute with what must come out."""

    name: str
    """What was computed."""
    holds: bool
    """Whether it is what must come out."""
    difference: float | None
    """The largest relative difference, or the share of predictions that differ; null where no number came out."""
    tolerance: float
    """Up to which difference it holds."""
    what: str = ""
    """What differs, in words; empty where nothing does."""


def summary(checks: Sequence[GoldenCheck]) -> str:
    """All checks in a sentence."""
    if failed := [check for check in checks if not check.holds]:
        first = f"{failed[0].name}: {failed[0].what}"
        which = f"{len(failed)} of {len(checks)} checks fail"
        return f"Golden evidence: {which}; this machine or this code computes something else ({first})."
    shares = {check.name: (check.difference or 0.0) / check.tolerance for check in checks if check.tolerance}
    nearest = max(shares, key=shares.__getitem__)
    return f"Golden evidence: all {len(checks)} checks hold (at most {shares[nearest]:.0%} of a tolerance: {nearest})."


def golden_code(checks: Sequence[GoldenCheck]) -> ExitCode:
    """The exit code that follows: whatever else was found, a machine that computes wrongly is no success."""
    return ExitCode.OK if all(check.holds for check in checks) else ExitCode.DEVIATES
