"""Making a verified results folder a reference run."""

from __future__ import annotations

import datetime
from pathlib import Path

from xlt.errors import IncompleteFault
from xlt.files import writable, write_text
from xlt.verify.judge import Verification
from xlt.verify.measured import MeasuredMean, Record, device_of, means_of, measured_cells, record_path
from xlt.verify.verdicts import Evidence


def check_whole(verification: Verification, purpose: str) -> None:
    """Refuse what is not fit to be given to others.

    Raises:
        IncompleteFault: runs are missing, damaged or edited, or nothing was scored.
    """
    if verification.problems or "not run" in verification.counts or not verification.cells:
        raise IncompleteFault(
            f"Only complete results without problems can be {purpose}.",
            why=" ".join([*(each.what for each in verification.problems[:1]), f"{verification.summary}."]),
            fix=verification.command,
        )


def record(verification: Verification, artifact: Path, *, today: datetime.date | None = None) -> Path:
    """Write a verification as a reference run below ``artifact/measured`` and return the file.

    Whatever the verdicts are: a series without its outliers would make the bands too narrow.

    Raises:
        IncompleteFault: runs are missing, damaged or edited, or nothing was scored.
    """
    check_whole(verification, "recorded as a reference run")
    cells = measured_cells(verification.cells)
    values = means_of(cells)
    made_by = {state.folder: state for state in verification.runs}
    means = {}
    for verdict in verification.verdicts:
        state, key = made_by[verdict.run], f"{verdict.arm}/{verdict.task}/{verdict.split}"
        guessed = Evidence([cell for cell in verification.cells if key == f"{cell.arm}/{cell.task}/{cell.split}"], None)
        means[key] = MeasuredMean(
            value=values[key], chance=round(guessed.chance, 6), recipe=state.recipe, data=state.data
        )
    entry = Record(
        tier=verification.tier,
        source=verification.source.name,
        seed=verification.seed,
        date=(today or datetime.datetime.now(datetime.UTC).date()).isoformat(),
        platform={**verification.platform, "device": device_of(verification.platform)},
        means=means,
        cells=cells,
    )
    path = record_path(entry, artifact)
    with writable(artifact):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, entry.text())
    return path
