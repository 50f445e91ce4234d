"""Reference runs: what one seed of a tier measured, recorded in ``artifact/measured``, and which of them fit a run."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field, TypeAdapter, model_validator

from xlt.artifact import RESTORE, artifact_root, read_record
from xlt.errors import DataFault, EnvironmentFault, UsageFault
from xlt.evaluate.metrics import Metrics, task_score
from xlt.frozen import Frozen
from xlt.strict_json import read_json
from xlt.tasks.catalogue import get_task
from xlt.verify.cells import Cell, MeanKey
from xlt.verify.comparison import mean
from xlt.verify.stored import StoredRun

PLATFORM = (
    *("device", "cpu", "cpu_threads", "numerics", "world_size", "engine", "zero", "precision"),
    *("cuda", "system", "python", "packages", "commit"),
)
SAME_SEED = "with the seed of this run"
ITSELF = "recorded from this very run"
TWIN = "of a seed that another one stands for"


class MeasuredCell(Frozen):
    """One cell of a reference run."""

    metrics: Metrics
    """Its metrics in percent, to six decimals."""
    above_chance: bool
    """Whether they are above what guessing reaches (see ``Cell``)."""
    predictions: str
    """The SHA-256 of the predictions."""


class MeasuredMean(Frozen):
    """The mean over the languages of one task and split of a reference run."""

    value: float
    """The mean of the task's scores, in percent."""
    chance: float
    """The mean that a guess scores."""
    recipe: str
    """The hash of all that the run and those that it starts from were made with, but seed and data."""
    data: str
    """The hash of the fingerprints of all data that they read."""
    execution: str = ""
    """The hash of the provenance of the run that was scored, times included: it tells the run from a repetition of it.
    Empty in records that are older than this field."""


class ReferenceRun(Frozen):
    """One recorded seed: raw values, and no time in it but the date."""

    format: Literal[1] = 1
    """The version of this file's form."""
    tier: str
    """The tier that was run."""
    source: str
    """The source of its data."""
    seed: int
    """Its seed."""
    date: str
    """The day on which it was recorded."""
    platform: dict[str, Any]
    """Where it was made: processor, device, versions, commit."""
    means: dict[str, MeasuredMean]
    """The means that are judged, by ``arm/task/split``."""
    cells: dict[str, MeasuredCell]
    """All cells, by ``arm/task/split/language``."""

    @property
    def device(self) -> str:
        """The accelerator, or ``cpu``."""
        return str(self.platform.get("device", ""))

    def score(self, name: str) -> float | None:
        """The task's score of one cell; None where there is none."""
        cell = self.cells.get(name)
        return task_score(get_task(name.split("/")[1]), cell.metrics) if cell else None

    def languages(self, name: str) -> dict[str, MeasuredCell]:
        """The cells of the mean ``name`` by language."""
        return {key.rpartition("/")[2]: cell for key, cell in self.cells.items() if key.rpartition("/")[0] == name}

    @model_validator(mode="after")
    def _means_follow_from_cells(self) -> Self:
        try:
            values = means_of(self.cells)
        except (LookupError, UsageFault) as error:
            raise ValueError("a cell is not of a task and a metric that are known") from error
        if any(each.value != values.get(key) for key, each in self.means.items()):
            raise ValueError("the means do not follow from the cells")
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


class BandRule(Frozen):
    """How a run is compared with reference runs, fixed before any run in ``artifact/expected/TIER-SOURCE.toml``."""

    format: int = Field(ge=1, le=1)
    """The version of this file's form."""
    family_error: float = Field(gt=0, lt=1)
    """The chance that a sound run fails in at least one of all that is looked at."""
    overall_error: float = Field(gt=0, lt=1)
    """The part of it that the one test of all means together takes; the bands have the rest."""
    least_loss: float = Field(gt=0, lt=1)
    """The share of what lies above a guess whose loss a band must show; a mean whose band would not is shown only."""
    minimum_seeds: int = Field(ge=3)
    """How many reference runs are needed."""
    floor: float = Field(ge=0)
    """The difference in points up to which nothing is said to deviate, however close the reference runs lie."""
    reason: str = Field(min_length=1)
    """Why so, in words."""

    @property
    def bands_error(self) -> float:
        """The chance that a sound run fails in at least one band."""
        return self.family_error - self.overall_error

    @model_validator(mode="after")
    def _leaves_something_to_the_bands(self) -> Self:
        if self.overall_error >= self.family_error:
            raise ValueError("overall_error leaves nothing of family_error to the bands")
        return self


@dataclass(frozen=True, slots=True)
class RunMean:
    """A mean of one run as it is judged, with its ``rows`` of the table of scores, one for each language.

    A reference run must share its ``device``, and ``recipe`` and ``data``: the hashes of a ``MeasuredMean``, empty
    where a run that it starts from is not whole. ``execution``, as there, is what it must not share: no run is a
    reference for itself. ``numerics`` is how its run rounds, as in its provenance. ``why_incomparable`` says why it is
    compared with nothing, if so.
    """

    key: MeanKey
    rows: pd.DataFrame
    seed: int
    device: str
    recipe: str
    data: str
    execution: str = ""
    numerics: str | None = None
    run: str = ""
    loss_fell: bool | None = None
    why_incomparable: str = ""

    @property
    def name(self) -> str:
        """What it is called in the reference runs."""
        return "/".join(self.key)


@dataclass(frozen=True, slots=True)
class References:
    """The reference runs that fit a mean; ``about`` says which, or why there are too few and it holds none.

    ``same_seed`` are other, recorded runs of the same seed. They are never among the others, but their predictions can
    be the very same.
    """

    runs: tuple[ReferenceRun, ...]
    about: str
    same_seed: tuple[ReferenceRun, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """All reference runs of a tier on a source, by seed, and the rule by which one compares with them."""

    tier: str
    source: str
    rule: BandRule | None
    runs: tuple[ReferenceRun, ...]

    def fitting(self, asked: RunMean) -> References:
        """The runs of the same recipe, data and device for a mean, without those of the same seed; one of each seed."""
        if not self.tier:
            return References((), "no values are expected of single runs")
        if self.rule is None:
            return References((), f"no values are expected for the tier '{self.tier}' on the source '{self.source}'")
        if not asked.recipe:
            return References((), "the run that it starts from is not whole")
        reasons: list[str] = []
        # Two runs of one seed are nearly the same draw: of those, one that rounds as the judged run does stands first.
        order = sorted(self.runs, key=lambda run: (run.seed, run.platform.get("numerics") != asked.numerics))
        seeds = set()
        for run in order:
            why = why_incomparable(run, asked)
            reasons.append(why or (TWIN if run.seed in seeds else ""))
            seeds |= set() if why else {run.seed}
        found = tuple(run for run, why in zip(order, reasons, strict=True) if not why)
        same_seed = tuple(run for run, why in zip(order, reasons, strict=True) if why == SAME_SEED)
        others = "; ".join(f"{count} {why}" for why, count in sorted(Counter(filter(None, reasons)).items()))
        tail = f" (left out: {others})" if others else ""
        if len(found) < self.rule.minimum_seeds:
            enough = f"{len(found)} of at least {self.rule.minimum_seeds} reference runs"
            head = enough if found else "no reference runs yet"
            return References((), f"{head} for '{asked.device}'{tail}", same_seed)
        listed = ", ".join(str(run.seed) for run in found)
        about = f"{len(found)} reference runs on '{asked.device}', seeds {listed}{tail}"
        return References(found, about, same_seed)


def why_incomparable(run: ReferenceRun, asked: RunMean) -> str:
    """Why a reference run is no part of what a mean is compared with; empty if it is."""
    measured = run.means.get(asked.name)
    if measured is None or measured.recipe != asked.recipe:
        return "recorded with another recipe"
    if measured.data != asked.data:
        return "recorded on other data"
    if run.device != asked.device:
        return "recorded on another device"
    if run.seed != asked.seed:
        return ""
    return ITSELF if measured.execution and measured.execution == asked.execution else SAME_SEED


def read_references(tier: str, source: str) -> ReferenceSet:
    """The rule and the reference runs of a tier on a source; a rule is only where values are expected.

    Raises:
        EnvironmentFault: a file of them cannot be read or contradicts itself.
    """
    name = f"{tier}-{source}.toml"
    rule = read_record(BandRule, "expected", name) if (artifact_root() / "expected" / name).is_file() else None
    runs = []
    for path in (artifact_root() / "measured" / f"{tier}-{source}").glob("seed-*.json"):
        try:
            runs.append(read_json(path, REFERENCE_RUN))
        except DataFault as fault:
            raise EnvironmentFault(
                f"The reference run 'artifact/measured/{path.parent.name}/{path.name}' cannot be used.",
                why=fault.why,
                fix=RESTORE,
            ) from fault
    return ReferenceSet(tier, source, rule, tuple(sorted(runs, key=_order)))


REFERENCE_RUN = TypeAdapter(ReferenceRun)


def _order(run: ReferenceRun) -> tuple[int, str, bool]:
    """By seed and device, native numerics before others: of one seed the first stands for it in a band."""
    return run.seed, run.device, _numerics(run) != "native"


def _numerics(run: ReferenceRun) -> str:
    """How a reference run computed on a CPU; those that are older than the choice are native."""
    return str(run.platform.get("numerics", "native"))


def reference_path(run: ReferenceRun, artifact: Path) -> Path:
    """``seed-<n>.json`` for the CPU, ``seed-<n>-<numerics>.json`` for it with others than native ones, and
    ``seed-<n>-<device>.json`` for an accelerator."""
    device = re.sub(r"[^a-z0-9]+", "-", run.device.lower()).strip("-")
    numerics = _numerics(run)
    other = f"-{numerics}" if numerics != "native" else ""
    suffix = other if device == "cpu" else f"-{device}"
    return artifact / "measured" / f"{run.tier}-{run.source}" / f"seed-{run.seed}{suffix}.json"


def measured_cells(cells: Sequence[Cell]) -> dict[str, MeasuredCell]:
    """What is recorded of recomputed cells."""
    return {
        "/".join((*cell.key, cell.language)): MeasuredCell(
            metrics={name: round(value, 6) for name, value in cell.metrics.items()},
            above_chance=cell.above_chance,
            predictions=cell.predictions,
        )
        for cell in cells
    }


def means_of(cells: Mapping[str, MeasuredCell]) -> dict[str, float]:
    """The mean of each ``arm/task/split`` over its languages."""
    groups: dict[str, list[float]] = {}
    for key, cell in cells.items():
        groups.setdefault(key.rpartition("/")[0], []).append(task_score(get_task(key.split("/")[1]), cell.metrics))
    return {key: round(mean(values), 6) for key, values in groups.items()}


def lineages(runs: Sequence[StoredRun]) -> dict[str, tuple[str, str]]:
    """By folder, the hashes of recipe and data of each run with those that it starts from (see ``MeasuredMean``).

    Two runs of equal hashes differ in their seed only. A run that is not whole, or starts from one, has none.
    """
    by_hash: dict[str, tuple[str, str]] = {"": ("", "")}
    found: dict[str, tuple[str, str]] = {}
    for run in runs:
        parent = by_hash.get(run.entry.parent or "")
        if run.spec is None or parent is None:
            continue
        seedless = {"seed", "retry", "data", "source", "parent"}
        recipe = {name: value for name, value in run.spec.identity().items() if name not in seedless}
        hashes = digest([recipe, parent[0]]), digest([run.spec.data, parent[1]])
        by_hash[run.entry.hash] = found[run.entry.folder] = hashes
    return found


def execution_of(run: StoredRun) -> str:
    """The hash that tells a run from a repetition of it (see ``MeasuredMean``); empty if its provenance is unknown."""
    return digest(run.provenance.model_dump(mode="json", exclude_unset=True)) if run.provenance else ""


def platform_of(runs: Sequence[StoredRun]) -> dict[str, Any]:
    """Where the runs were made, from their own provenance; a list where they differ."""
    facts: dict[str, Any] = {}
    for name in PLATFORM:
        found = [getattr(run.provenance, name, None) for run in runs]
        if values := [each for place, each in enumerate(found) if each not in (None, {}, *found[:place])]:
            facts[name] = values[0] if len(values) == 1 else values
    return facts


def device_of(platform: Mapping[str, Any]) -> str:
    """The accelerator's name or ``cpu``; all of them where the runs differ."""
    device = platform.get("device", "unknown")
    return " and ".join(device) if isinstance(device, list) else str(device)


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
