"""What lies in a results folder: the grid file, and the folder of each run, checked before it is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from xlt.errors import DataFault, IncompleteFault
from xlt.pipeline.grid import EVALUATED_SPLITS
from xlt.pipeline.spec import Phase, RunSpec, SourceSpec
from xlt.pipeline.store import RunStore, State, check_folder, read_spec
from xlt.tasks.record import Split
from xlt.verify.log import read_log

ProblemKind = Literal["grid", "run", "spec", "gold", "predictions", "disagreement", "recheck"]
CellKey = tuple[str, Split, str]


class Frozen(BaseModel):
    """A record that does not change and knows no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Frozen):
    """Something in the results that cannot be trusted: what, where, and what mends it.

    ``where`` is a task, split and language, or a file; ``run`` is a folder, empty if all runs are meant.
    """

    kind: ProblemKind
    run: str
    where: str
    what: str
    mend: str


class GridRun(Frozen):
    """One run of the grid file."""

    folder: str
    hash: str
    phase: Phase
    arm: str
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    parent: str | None


class GridFile(Frozen):
    """``RESULTS/grid.json``: which tier ran on which source with which seed, as which runs.

    ``collapsed`` are first attempts whose place in ``runs`` a second one took; ``left_out`` says by arm of the tier
    what is not there because its data is absent.
    """

    format: Literal[1]
    tier: str
    source: SourceSpec
    seed: int
    runs: tuple[GridRun, ...]
    collapsed: tuple[GridRun, ...] = ()
    left_out: dict[str, str] = {}

    @property
    def command(self) -> str:
        """The command that made the results and that resumes them."""
        seed = f" --seed {self.seed}" if self.seed else ""
        limit = self.source.settings.get("limit")
        options = f"{seed} --source {self.source.name}{self._data_root}" + (f" --limit {limit}" if limit else "")
        return f"xlt reproduce --tier {self.tier}{options}"

    @property
    def verify_command(self) -> str:
        """The command that verifies the results; it finds the source in the grid file."""
        return f"xlt verify{self._data_root}"

    @property
    def _data_root(self) -> str:
        return " --data-root DIR" if self.source.name == "files" else ""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of the grid as found: its state, and spec and provenance where its files can be trusted."""

    entry: GridRun
    state: State
    spec: RunSpec | None = None
    provenance: dict[str, Any] | None = None

    @property
    def cells(self) -> list[CellKey]:
        """Every task, split and language that the run scored; none if its spec cannot be trusted."""
        if self.spec is None:
            return []
        keys = (key.split("/") for key in self.spec.data)
        return sorted(
            (task, split, language)
            for task, split, language in keys
            if task in self.spec.evaluate and split in EVALUATED_SPLITS
        )


def read_grid(results: Path) -> GridFile:
    """The grid file of a results folder.

    Raises:
        IncompleteFault: there is none.
        DataFault: it cannot be read.
    """
    try:
        return GridFile.model_validate_json((results / "grid.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise IncompleteFault(
            "The results folder holds no grid.json: nothing was run there.", mend="xlt reproduce"
        ) from error
    except (OSError, ValueError) as error:
        raise DataFault(
            "The file grid.json of the results folder cannot be read.",
            why=str(error).split("\n")[0],
            mend="xlt reproduce writes it again and keeps the finished runs.",
        ) from error


def read_runs(store: RunStore, grid: GridFile) -> tuple[list[StoredRun], list[Problem]]:
    """Every run of the grid as found, and what is wrong with those that cannot be trusted."""
    runs: list[StoredRun] = []
    problems: list[Problem] = []
    for entry in grid.runs:
        run, fault = _read_run(store, grid, entry)
        runs.append(run)
        if fault is not None:
            problems.append(fault)
    return runs, problems


def _read_run(store: RunStore, grid: GridFile, entry: GridRun) -> tuple[StoredRun, Problem | None]:
    folder = store.path(entry.folder)
    check = check_folder(folder)
    if check.state != "done":
        what = f"The run is {check.state}" + (f": {check.problem}." if check.problem else ".")
        fault = Problem(kind="run", run=entry.folder, where="", what=what, mend=grid.command)
        return StoredRun(entry, check.state), fault
    try:
        spec = read_spec(folder)
        provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
        if not isinstance(provenance, dict):
            raise DataFault("provenance.json holds no record.")
        _match(grid, entry, spec)
        _trained_to_the_end(folder, spec)
        _right_size(folder, spec)
    except (DataFault, OSError, ValueError) as error:
        what = " ".join(str(error).split("\n")[:2])
        fault = Problem(kind="spec", run=entry.folder, where="spec.json", what=what, mend=grid.command)
        return StoredRun(entry, "damaged"), fault
    return StoredRun(entry, "done", spec, provenance), None


def _trained_to_the_end(folder: Path, spec: RunSpec) -> None:
    """A training leaves a log; a recipe of so many steps, without early stopping, one of so many lines."""
    wanted, log = int(spec.recipe.get("steps", 0)), read_log(folder)
    found = log.steps[-1] if log else 0
    may_stop = not wanted or spec.recipe.get("evaluate_every") or spec.collapse_after
    if spec.train and (not found if may_stop else found != wanted):
        raise DataFault(f"log.jsonl ends with step {found}; the recipe has {wanted or 'more'} steps.")


def _right_size(folder: Path, spec: RunSpec) -> None:
    """The model stored, where it was kept, has the shape that the spec of a fresh backbone names."""
    path = folder / "model" / "config.json"
    config = json.loads(path.read_text("utf-8")) if path.is_file() else spec.backbone.config
    for name, wanted in spec.backbone.config.items():
        if config.get(name) != wanted:
            raise DataFault(f"The stored model has {name} {config.get(name)}; the backbone of the run has {wanted}.")


def _match(grid: GridFile, entry: GridRun, spec: RunSpec) -> None:
    if spec.hash != entry.hash or spec.folder != entry.folder:
        raise DataFault(f"spec.json has the hash {spec.hash}; it is not the spec that names the folder.")
    listed = {
        "phase": (entry.phase, spec.phase),
        "arm": (entry.arm, spec.arm),
        "train": (entry.train, spec.train),
        "evaluate": (entry.evaluate, spec.evaluate),
        "parent": (entry.parent, spec.parent),
        "source": (grid.source, spec.source),
        "seed": (grid.seed, spec.seed),
    }
    if differing := [name for name, (there, here) in listed.items() if there != here]:
        raise DataFault(f"grid.json and spec.json disagree about: {', '.join(differing)}.")
    place = (entry.phase, entry.arm, entry.train, entry.evaluate)
    if spec.retry and place not in {(run.phase, run.arm, run.train, run.evaluate) for run in grid.collapsed}:
        raise DataFault("The run is a second attempt; grid.json names no first one that collapsed.")
    if spec.parent is not None and spec.parent not in {run.hash for run in grid.runs}:
        raise DataFault(f"The run starts from the run {spec.parent}, which is not in grid.json.")
