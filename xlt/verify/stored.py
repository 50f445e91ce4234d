"""What lies in a results folder: the grid file, the folder of each run, checked before it is read, and its log."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from xlt.data.perturb import Perturbation
from xlt.data.perturbed import PERTURB
from xlt.data.source import EVALUATED_SPLITS, Source
from xlt.errors import DataFault, IncompleteFault, UsageFault, XltError
from xlt.frozen import Frozen
from xlt.pipeline.checkpoint import known_sizes
from xlt.pipeline.grid import REPEATED
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.spec import Phase, RunSpec, SourceSpec
from xlt.pipeline.store import (
    PROVENANCE,
    Check,
    Provenance,
    RunStore,
    State,
    check_folder,
    listed_weights,
    read_provenance,
    read_spec,
)
from xlt.pipeline.studies import study_names
from xlt.pipeline.study_folder import how_to_run, refuse_study
from xlt.pipeline.tiers import read_tier, tier_names
from xlt.printable import printable
from xlt.strict_json import read_json
from xlt.tasks import own
from xlt.tasks.record import Split
from xlt.verify.log import read_log

ProblemKind = Literal["grid", "run", "spec", "gold", "predictions", "disagreement", "log", "recheck", "replay"]
CellKey = tuple[str, Split, str]
DATA_KEY = re.compile(r"[^/]{1,100}/(train|dev|test)/[^/]{1,300}")
# Where the results lie is written nowhere; who shows a command puts the folder in.
IN_RESULTS = " --results DIR"
AGAIN = "The xlt reproduce command that made the results writes it again and keeps the finished runs."
RUN_FOLDER = re.compile(r"[a-z]+/[^/]{1,200}-[0-9a-f]{12}")


def _name(text: str) -> str:
    """Names become parts of paths, of keys and of what is shown."""
    if "/" in text or len(text) > 200 or not text.isprintable():
        raise ValueError("it is no name")
    return text


def _run_folder(text: str) -> str:
    if not RUN_FOLDER.fullmatch(text) or not text.isprintable():
        raise ValueError("it is no folder of a run, PHASE/NAME-HASH")
    return text


Name = Annotated[str, AfterValidator(_name)]
Folder = Annotated[str, AfterValidator(_run_folder)]
Shown = Annotated[str, AfterValidator(printable)]


class Problem(Frozen):
    """Something in the results that is missing or cannot be trusted."""

    kind: ProblemKind
    """What is concerned: the grid file, a run, its spec, gold, predictions, recomputed numbers, a training log,
    predicting again, or training again."""
    run: Shown
    """The folder of the run; empty if all runs are meant."""
    where: Shown
    """A task, split and language, or a file."""
    what: Shown
    """What is wrong, in words."""
    fix: Shown
    """The command that fixes it."""


class GridRun(Frozen):
    """One run of the grid file."""

    folder: Folder
    """Its folder below ``runs``."""
    hash: Name
    """The hash of its spec."""
    phase: Phase
    """The phase: pretraining, intermediate training, or target tasks."""
    arm: Name
    """The phase-2 model that it is, or starts from; empty in phase 1."""
    train: tuple[Name, ...]
    """The tasks that it is trained on."""
    evaluate: tuple[Name, ...]
    """The tasks that it is scored on."""
    parent: Name | None
    """The hash of the run that it starts from."""


class GridFile(Frozen):
    """``RESULTS/grid.json``: which tier ran on which source with which seed, as which runs."""

    format: Literal[1]
    """The version of this file's form."""
    tier: Name
    """The tier; empty for single runs, which have no grid file."""
    source: SourceSpec
    """The source of its data."""
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    """The seed."""
    runs: tuple[GridRun, ...]
    """The runs."""
    collapsed: tuple[GridRun, ...] = ()
    """First attempts that collapsed; ``runs`` has the second attempts."""
    left_out: dict[Shown, Shown] = {}
    """By arm of the tier, what is not there because its data is absent."""
    parts: tuple[Shown, ...] = ()
    """The parts of the tier that were run, where it has several."""
    model: Shown = ""
    """The backbone that was put in the place of the tier's; empty if none was."""
    options: dict[Name, Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,20}$")]] = {}
    """The options that the command had beside these, with their values."""

    @model_validator(mode="after")
    def _means_one_thing(self) -> Self:
        times = Counter(run.folder for run in (*self.runs, *self.collapsed))
        if twice := [folder for folder, count in times.items() if count > 1]:
            raise ValueError(f"the run {twice[0]} is listed twice")
        if unknown := {*self.options} - {*REPEATED}:
            raise ValueError(f"xlt reproduce repeats no option '{min(unknown)}'")
        for name in ("seed", "limit"):
            value = self.source.settings.get(name, 0)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"the setting '{name}' of the source is no whole number")
        if (perturb := self.source.settings.get(PERTURB)) is not None:
            try:
                Perturbation.parse(str(perturb))
            except UsageFault as fault:
                raise ValueError(f"the setting '{PERTURB}' of the source: {fault.what}") from fault
        return self

    @property
    def command(self) -> str:
        """The command that made the results and that resumes them; DIR stands for the results folder."""
        if not self.tier:
            return "xlt train, xlt evaluate or xlt retrieve, as spec.json says"
        tier = f"--tier {shlex.quote(self.tier if self.tier in tier_names() else f'{self.tier}.toml')}"
        tier += f" --seed {self.seed}" if self.seed else ""
        study, _, size = self.tier.partition("-")
        source = f" --source {shlex.quote(self.source.name)}{self._data_root}"
        # Quoted: who is told to give the command did not write the names.
        limited = f" --limit {limit}" if (limit := self.source.settings.get("limit")) else ""
        name = "FOLDER" if self.model.startswith("folder:") else shlex.quote(self.model)
        model = f" --model {name}" if self.model else ""
        given = "".join(f" --{name}{value and f' {value}'}" for name, value in self.options.items())
        given += " --slurm KEY=VALUE" if "executor" in self.options else ""
        given += own.option({key for run in self.runs for key in (*run.train, *run.evaluate)})
        if self.tier not in tier_names() and study in study_names():  # all its seeds, in the folder above
            tier = f"--study {study} --tier {shlex.quote(size)}"
            return f"xlt reproduce {tier}{source}{limited}{model}{given} --results STUDY"
        return f"xlt reproduce {tier}{source}{limited}{model}{self._parts}{given}{IN_RESULTS}"

    @property
    def verify_command(self) -> str:
        """The command that verifies the results; it finds the source in the grid file."""
        return f"xlt verify{self._data_root}{IN_RESULTS}"

    @property
    def _parts(self) -> str:
        with suppress(XltError):
            if {*self.parts} == read_tier(self.tier).chosen_parts(self.source.name, ()):
                return ""
        return "".join(f" --part {shlex.quote(name)}" for name in self.parts)

    @property
    def _data_root(self) -> str:
        return " --data-root DIR" if self.source.name == "files" else ""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of the grid as found: its state, and spec and provenance where its files can be trusted."""

    entry: GridRun
    state: State
    spec: RunSpec | None = None
    provenance: Provenance | None = None

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


def source_of(results: Path, data_root: Path | None) -> Source:
    """The source that the results were made from, as their grid says; official files are below ``data_root``.

    Raises:
        IncompleteFault: the folder holds no grid.
        DataFault: its grid file cannot be read, or the source has no data.
    """
    return source_in(read_grid(results), data_root)


def source_in(grid: GridFile, data_root: Path | None) -> Source:
    """The source that a grid names; see ``source_of``."""
    settings = grid.source.settings
    try:
        return _opened(grid, settings, data_root)
    except UsageFault as fault:
        if grid.source.name != "world":
            raise
        raise DataFault(
            "The constructed world that grid.json names is not the one that is shipped.",
            why=fault.what,
            fix="Take the version of xlt that made the results. If grid.json was edited: " + AGAIN,
        ) from fault


def _opened(grid: GridFile, settings: dict[str, int | str], data_root: Path | None) -> Source:
    return open_source(
        SourceOptions(
            name=grid.source.name,
            data_root=data_root,
            seed=int(settings.get("seed", 0)),
            limit=int(settings.get("limit", 0)),
            perturb=str(settings.get(PERTURB, "")),
        )
    )


def check_source(grid: GridFile, source: Source) -> None:
    """Raise ``UsageFault`` where the results were made from another source, or from the same with other settings."""
    if (source.name, source.settings) != (grid.source.name, grid.source.settings):
        raise UsageFault(
            f"The results were made from the source '{grid.source.name}' {_settings(grid.source.settings)}.",
            why=f"The source given is '{source.name}' {_settings(source.settings)}.",
            fix=grid.verify_command,
        )


def _settings(settings: dict[str, int | str]) -> str:
    return "(" + (", ".join(f"{key} {value}" for key, value in sorted(settings.items())) or "all rows") + ")"


def read_grid(results: Path) -> GridFile:
    """The grid file of a results folder; ``IncompleteFault`` if there is none, ``DataFault`` if it cannot be read, and
    ``UsageFault`` for the folder of a study, whose seeds have folders of their own."""
    _check_place(results)
    path = results / "grid.json"
    if path.is_symlink() and path.exists():
        raise DataFault("The file grid.json of the results folder is a link.", fix="Put the file itself there.")
    try:
        grid = read_json(path, _GRID_FILE, what="The file grid.json of the results folder cannot be read.", fix=AGAIN)
    except DataFault as fault:
        if isinstance(fault.__cause__, FileNotFoundError):
            refuse_study(results)
            single = any((results / "runs").glob("*"))
            why = ", only single runs, which are no tier's" if single else " and no runs: nothing was run there"
            what = f"The results folder '{results}' holds no grid.json{why}."
            raise IncompleteFault(what, fix=how_to_run(results)) from fault
        raise
    if not grid.tier:
        raise DataFault("The file grid.json of the results folder names no tier.", fix=AGAIN)
    return grid


def _check_place(results: Path) -> None:
    if results.is_dir():
        return
    if not results.exists():
        raise IncompleteFault(
            f"There is no results folder '{results}'.",
            why="Nothing was run there, or its name is another.",
            fix=how_to_run(results),
        )
    unpack = f"tar xzf {shlex.quote(str(results))}, then xlt verify --results seed-N"
    raise UsageFault(
        f"'{results}' is a file; results are a folder.",
        fix=unpack if results.name.endswith((".tar.gz", ".tgz")) else "--results DIR, the folder that holds grid.json",
    )


def read_runs(store: RunStore, grid: GridFile) -> tuple[list[StoredRun], list[Problem]]:
    """Every run of the grid as found, and what is wrong with those that cannot be trusted.

    First attempts that collapsed or diverged may have been cleared away.
    """
    found = [_read_run(store, grid, entry) for entry in grid.runs]
    first = [each for each in (_read_run(store, grid, entry) for entry in grid.collapsed) if each[0].state == "damaged"]
    runs, faults = [run for run, _ in found], [fault for _, fault in (*found, *first) if fault is not None]
    return runs, [*faults, *_other_weights(store, grid, runs)]


def _other_weights(store: RunStore, grid: GridFile, runs: Sequence[StoredRun]) -> Iterator[Problem]:
    """Problems for runs whose provenance names other weights than the manifests list, of their own or their parent."""
    listed = {run.entry.hash: listed_weights(store.path(run.entry.folder)) for run in runs if run.state == "done"}
    for run in runs:
        made = run.provenance
        for whose, said, hash_ in (
            ("its own weights are", made and made.weights, run.entry.hash),
            (
                f"it started from the run {run.entry.parent} when its weights were",
                made and made.parent_weights,
                run.entry.parent,
            ),
        ):
            if said and said != listed.get(hash_ or "", said):
                what = f"By its provenance {whose} others than they are now."
                yield Problem(kind="run", run=run.entry.folder, where=PROVENANCE, what=what, fix=grid.command)


def _read_run(store: RunStore, grid: GridFile, entry: GridRun) -> tuple[StoredRun, Problem | None]:
    folder = store.path(entry.folder)
    links = [each.name for each in (folder.parent.parent, folder.parent) if each.is_symlink()]
    check = (
        Check("damaged", f"the folder '{links[0]}' is a link: its runs lie elsewhere")
        if links
        else check_folder(folder)
    )
    if check.state != "done":
        what = f"The run is {check.state}" + (f": {check.problem.rstrip('.')}." if check.problem else ".")
        lower = f"Lower the learning rate in the tier's file, or choose another seed: {grid.command}"
        fix = lower if check.state == "diverged" else grid.command
        fault = Problem(kind="run", run=entry.folder, where="", what=what, fix=fix)
        return StoredRun(entry, check.state), fault
    try:
        spec, provenance = read_spec(folder), read_provenance(folder)
        _match(grid, entry, spec)
        _trained_to_the_end(folder, spec)
        _right_size(folder, spec)
    except DataFault as error:
        what = " ".join(str(error).split("\n")[:2])
        fault = Problem(kind="spec", run=entry.folder, where="spec.json", what=what, fix=grid.command)
        return StoredRun(entry, "damaged"), fault
    return StoredRun(entry, "done", spec, provenance), None


def _trained_to_the_end(folder: Path, spec: RunSpec) -> None:
    """A training leaves a log; a recipe of so many steps, without early stopping, one of so many lines."""
    wanted, log = int(spec.number("steps")), read_log(folder)
    found = log.lines[-1].step if log else 0
    may_stop = not wanted or spec.recipe.get("evaluate_every") or spec.collapse_after
    if spec.train and (not found if may_stop else found != wanted):
        raise DataFault(f"log.jsonl ends with step {found}; the recipe has {wanted or 'more'} steps.")
    if log and [line.step for line in log.lines] != [*range(1, len(log.lines) + 1)]:
        raise DataFault("log.jsonl does not count its steps from 1 on, one in each line.")


def _right_size(folder: Path, spec: RunSpec) -> None:
    """The model stored, where it was kept, has the shape of a fresh backbone's spec or of a public one's name."""
    path = folder / "model" / "config.json"
    config = read_json(path, _CONFIG) if path.is_file() else {}
    for name, wanted in known_sizes(spec.backbone).items() if config else ():
        if config.get(name) != wanted:
            raise DataFault(f"The stored model has {name} {config.get(name)}; the backbone of the run has {wanted}.")


def _match(grid: GridFile, entry: GridRun, spec: RunSpec) -> None:
    if spec.hash != entry.hash or spec.folder != entry.folder:
        raise DataFault(f"spec.json has the hash {spec.hash}; it is not the spec that names the folder.")
    if unknown := [key for key in spec.data if not DATA_KEY.fullmatch(key) or not key.isprintable()]:
        raise DataFault(f"spec.json names data as '{unknown[0][:100]}', not as task/split/language.")
    listed = {
        "phase": (entry.phase, spec.phase),
        "arm": (entry.arm, spec.arm),
        "train": (entry.train, spec.train),
        "evaluate": (entry.evaluate, spec.evaluate),
        "parent": (entry.parent, spec.parent),
        "source": (grid.source, spec.source),
        "seed": (grid.seed, spec.seed),
    }
    if not grid.tier:
        return  # there is no grid file: all this is the spec's own
    if differing := [name for name, (there, here) in listed.items() if there != here]:
        raise DataFault(f"grid.json and spec.json disagree about: {', '.join(differing)}.")
    place = (entry.phase, entry.arm, entry.train, entry.evaluate)
    if spec.retry and place not in {(run.phase, run.arm, run.train, run.evaluate) for run in grid.collapsed}:
        raise DataFault("The run is a second attempt; grid.json names no first one that collapsed.")
    if spec.parent is not None and spec.parent not in {run.hash for run in grid.runs}:
        raise DataFault(f"The run starts from the run {spec.parent}, which is not in grid.json.")


_GRID_FILE = TypeAdapter(GridFile)
_CONFIG = TypeAdapter(dict[str, Any])
