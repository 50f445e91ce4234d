"""Reference runs: what one seed of a tier measured, recorded as raw values in ``artifact/measured``."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from xlt.artifact import artifact_root
from xlt.errors import EnvironmentFault
from xlt.evaluate.chance import binomial_bound
from xlt.evaluate.metrics import Metrics, task_score
from xlt.pipeline.spec import RunSpec
from xlt.verify.cells import Cell
from xlt.verify.stored import Frozen, StoredRun

PLATFORM = (
    *("device", "cpu", "cpu_threads", "world_size", "zero", "precision"),
    *("cuda", "system", "python", "packages", "commit"),
)


class MeasuredCell(Frozen):
    """What one cell of a reference run was, and what chance was there."""

    metrics: Metrics
    chance: Metrics
    examples: int
    predictions: str

    @property
    def above_chance(self) -> bool:
        """Whether the reference run knew more than a guess, by the 99 % binomial bound."""
        metric = "accuracy" if "accuracy" in self.metrics else "exact_match"
        return self.metrics[metric] > binomial_bound(self.examples, self.chance[metric] / 100)


class Record(Frozen):
    """A reference run. ``means`` has keys ``arm/task/split``, ``cells`` ``arm/task/split/language``.

    ``data`` and ``recipes`` are hashes of the data fingerprints and of everything in the specs but data and
    seed: a run of other data or other recipes is not compared with it. The date is the only time in it.
    """

    format: Literal[1] = 1
    tier: str
    source: str
    seed: int
    date: str
    platform: dict[str, Any]
    data: str
    recipes: str
    means: dict[str, float]
    cells: dict[str, MeasuredCell]

    @property
    def device(self) -> str:
        """The accelerator, or ``cpu``."""
        return str(self.platform.get("device", ""))

    @model_validator(mode="after")
    def _means_follow_from_cells(self) -> Self:
        if self.means != means_of({key: task_score(cell.metrics) for key, cell in self.cells.items()}):
            raise ValueError("the means are not those of the cells")
        return self

    def text(self) -> str:
        """The JSON that is stored, one line per cell."""
        fields = self.model_dump(mode="json")
        cells = fields.pop("cells")
        lines = ",\n".join(
            f"  {json.dumps(key)}: {json.dumps(cell, sort_keys=True)}" for key, cell in cells.items()
        )
        head = json.dumps(fields, indent=1, ensure_ascii=False).removesuffix("\n}")
        return f'{head},\n "cells": {{\n{lines}\n }}\n}}\n'


def means_of(scores: Mapping[str, float]) -> dict[str, float]:
    """From scores per ``arm/task/split/language`` the mean of each ``arm/task/split``, in the same order."""
    groups: dict[str, list[float]] = {}
    for key, value in scores.items():
        groups.setdefault(key.rpartition("/")[0], []).append(value)
    return {key: round(math.fsum(values) / len(values), 6) for key, values in groups.items()}


def measured_cells(cells: Iterable[Cell]) -> dict[str, MeasuredCell]:
    """Recomputed cells as a record stores them."""
    return {
        f"{cell.arm}/{cell.task}/{cell.split}/{cell.language}": MeasuredCell(
            metrics={name: round(value, 6) for name, value in cell.metrics.items()},
            chance={name: round(value, 6) for name, value in cell.chance.items()},
            examples=cell.examples,
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
            records.append(Record.model_validate_json(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise EnvironmentFault(
                f"The reference run 'artifact/measured/{path.parent.name}/{path.name}' cannot be used.",
                why=str(error).split("\n")[0],
                mend="Restore it from the repository: git checkout -- artifact",
            ) from error
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
            value = (run.provenance or {}).get(name)
            if value is not None and value not in values:
                values.append(value)
        if values:
            facts[name] = values[0] if len(values) == 1 else values
    return facts


def data_of(specs: Iterable[RunSpec]) -> dict[str, str]:
    """The fingerprint of every set of rows that the runs read."""
    return dict(sorted(item for spec in specs for item in spec.data.items()))


def hash_of_data(specs: Iterable[RunSpec]) -> str:
    """One hash of all data fingerprints."""
    return digest(data_of(specs))


def hash_of_recipes(specs: Iterable[RunSpec]) -> str:
    """One hash of everything in the specs but the seed, the data and what follows from them."""
    varying = {"seed", "data", "source", "parent"}
    recipes = [spec.model_dump(mode="json", exclude=varying) for spec in specs]
    return digest(sorted(recipes, key=lambda recipe: (recipe["phase"], recipe["name"])))


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _folder(artifact: Path, tier: str, source: str) -> Path:
    return artifact / "measured" / f"{tier}-{source}"
