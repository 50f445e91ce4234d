"""Reference runs: what one seed of a tier measured, recorded as raw values in ``artifact/measured``."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, model_validator

from xlt.artifact import RESTORE, artifact_root
from xlt.errors import DataFault, EnvironmentFault, UsageFault
from xlt.evaluate.metrics import Metrics, task_score
from xlt.frozen import Frozen
from xlt.strict_json import read_json
from xlt.tasks.catalogue import get_task
from xlt.verify.cells import Cell
from xlt.verify.stored import StoredRun

PLATFORM = (
    *("device", "cpu", "cpu_threads", "world_size", "engine", "zero", "precision"),
    *("cuda", "system", "python", "packages", "commit"),
)


class MeasuredCell(Frozen):
    """What one cell of a reference run was, and whether it was above chance (see ``Cell``)."""

    metrics: Metrics
    above_chance: bool
    predictions: str


class MeasuredMean(Frozen):
    """The mean of the languages of one task and split, that of guesses, and the lineage of the run that it is from."""

    value: float
    chance: float
    recipe: str
    data: str


class Record(Frozen):
    """A reference run. ``means`` (those that are judged) has keys ``arm/task/split``, ``cells`` has
    ``arm/task/split/language``. The date is the only time in it.
    """

    format: Literal[1] = 1
    tier: str
    source: str
    seed: int
    date: str
    platform: dict[str, Any]
    means: dict[str, MeasuredMean]
    cells: dict[str, MeasuredCell]

    @property
    def device(self) -> str:
        """The accelerator, or ``cpu``."""
        return str(self.platform.get("device", ""))

    def score(self, cell: str) -> float | None:
        """The task's score of one cell, ``arm/task/split/language``; None where there is none."""
        measured = self.cells.get(cell)
        return task_score(get_task(cell.split("/")[1]), measured.metrics) if measured else None

    @model_validator(mode="after")
    def _means_follow_from_cells(self) -> Self:
        try:
            values = means_of(self.cells)
        except (LookupError, UsageFault) as error:
            raise ValueError("a cell is not of a task and a metric that are known") from error
        if any(mean.value != values.get(key) for key, mean in self.means.items()):
            raise ValueError("the means are not those of the cells")
        return self

    def text(self) -> str:
        """The JSON that is stored, one line per mean and per cell."""
        fields = self.model_dump(mode="json")
        parts = [
            f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
            for name, value in fields.items()
            if name not in ("means", "cells")
        ]
        for name in ("means", "cells"):
            lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in fields[name].items())
            parts.append(f' "{name}": {{\n{lines}\n }}')
        return "{\n" + ",\n".join(parts) + "\n}\n"


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a run and all runs that it starts from were made with, as two hashes.

    Two runs of one lineage differ in their seed only: ``data`` covers the fingerprints of all data read,
    ``recipe`` everything else in the specs.
    """

    recipe: str
    data: str


def lineages(runs: Sequence[StoredRun]) -> dict[str, Lineage]:
    """The lineage of each run by folder; none for a run that is not whole or starts from one that is not."""
    by_hash: dict[str, Lineage] = {}
    found: dict[str, Lineage] = {}
    for run in runs:
        parent = by_hash.get(run.entry.parent or "")
        if run.spec is None or (run.entry.parent and parent is None):
            continue
        seedless = {"seed", "retry", "data", "source", "parent"}
        recipe = {name: value for name, value in run.spec.identity().items() if name not in seedless}
        lineage = Lineage(
            digest([recipe, parent.recipe if parent else ""]),
            digest([run.spec.data, parent.data if parent else ""]),
        )
        by_hash[run.entry.hash] = found[run.entry.folder] = lineage
    return found


def means_of(cells: Mapping[str, MeasuredCell]) -> dict[str, float]:
    """The mean of each ``arm/task/split`` over its languages, in the order of the cells."""
    groups: dict[str, list[float]] = {}
    for key, cell in cells.items():
        groups.setdefault(key.rpartition("/")[0], []).append(task_score(get_task(key.split("/")[1]), cell.metrics))
    return {key: round(math.fsum(values) / len(values), 6) for key, values in groups.items()}


def measured_cells(cells: Iterable[Cell]) -> dict[str, MeasuredCell]:
    """Recomputed cells as a record stores them."""
    return {
        f"{cell.arm}/{cell.task}/{cell.split}/{cell.language}": MeasuredCell(
            metrics={name: round(value, 6) for name, value in cell.metrics.items()},
            above_chance=cell.above_chance,
            predictions=cell.predictions,
        )
        for cell in cells
    }


def read_records(tier: str, source: str) -> list[Record]:
    """The reference runs recorded for a tier on a source, by file name; none if there is no folder.

    Raises:
        EnvironmentFault: one of them cannot be read or contradicts itself.
    """
    records = []
    for path in sorted(_folder(artifact_root(), tier, source).glob("seed-*.json")):
        try:
            records.append(read_json(path, _RECORD))
        except DataFault as fault:
            raise EnvironmentFault(
                f"The reference run 'artifact/measured/{path.parent.name}/{path.name}' cannot be used.",
                why=fault.why,
                fix=RESTORE,
            ) from fault
    return records


def record_path(record: Record, artifact: Path) -> Path:
    """``seed-<n>.json`` for the CPU, ``seed-<n>-<device>.json`` for an accelerator."""
    device = re.sub(r"[^a-z0-9]+", "-", record.device.lower()).strip("-")
    suffix = "" if device == "cpu" else f"-{device}"
    return _folder(artifact, record.tier, record.source) / f"seed-{record.seed}{suffix}.json"


def platform_of(runs: Sequence[StoredRun]) -> dict[str, Any]:
    """Where the runs were made, from their own provenance; a list where they differ."""
    facts: dict[str, Any] = {}
    for name in PLATFORM:
        values: list[Any] = []
        for run in runs:
            value = getattr(run.provenance, name, None)
            if value is not None and value != {} and value not in values:
                values.append(value)
        if values:
            facts[name] = values[0] if len(values) == 1 else values
    return facts


def device_of(platform: Mapping[str, Any]) -> str:
    """The accelerator's name or ``cpu``; all of them where the runs differ."""
    device = platform.get("device", "unknown")
    return " and ".join(device) if isinstance(device, list) else str(device)


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _folder(artifact: Path, tier: str, source: str) -> Path:
    return artifact / "measured" / f"{tier}-{source}"
