"""Results of several seeds that are to be judged together: they must differ in the seed, and in nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from xlt.errors import UsageFault
from xlt.verify.cells import same_predictions

if TYPE_CHECKING:
    from xlt.verify.judge import Verification


def check_siblings(verifications: Sequence[Verification]) -> None:
    """Refuse verifications that are not different seeds of one tier, source, recipe and data, or are copies."""
    for other in verifications[1:]:
        _check_sibling(verifications[0], other)
    if len({each.seed for each in verifications}) < len(verifications):
        raise UsageFault("Two of the results folders are of one seed.", fix="Give each seed once.")
    for one, another in combinations(verifications, 2):
        _check_no_copy(one, another)


def _check_sibling(first: Verification, other: Verification) -> None:
    ours, theirs = (
        {(run.arm, run.evaluate): (run.recipe, run.data) for run in each.runs if run.recipe} for each in (first, other)
    )
    same = (first.tier, first.source, first.backbone) == (other.tier, other.source, other.backbone)
    if not same or any(ours[key] != theirs[key] for key in ours.keys() & theirs.keys()):
        raise UsageFault(
            f"The results of seed {other.seed} are not another seed of the same experiment as seed {first.seed}.",
            why="Tier, source, backbone, recipe or data differ.",
            fix="Give folders that differ in nothing but the seed.",
        )


def _check_no_copy(one: Verification, another: Verification) -> None:
    """Refuse two seeds of which a training has the same predictions: copies of one seed show no spread."""
    trained = {run.folder for each in (one, another) for run in each.runs if run.train or run.parent}
    for run, other in same_predictions(one.cells, another.cells, trained):
        raise UsageFault(
            f"The results of seed {another.seed} are a copy of those of seed {one.seed}.",
            why=f"Every prediction of the run {other} is that of {run}, and two trainings never agree in all.",
            fix=f"Leave one out. Another seed: {other_seed(one.command)}",
        )


def other_seed(command: str) -> str:
    """The command that makes the same results with another seed."""
    return f"{re.sub(r' --seed [0-9]+', '', command)} --seed N"
