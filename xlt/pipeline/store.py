"""The results folder: one folder per run, complete only when its manifest, written last, agrees with its files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, TypeAdapter

from xlt.errors import DataFault, EnvironmentFault, UsageFault
from xlt.files import locked, writable, write_text
from xlt.frozen import Frozen
from xlt.numerics import Numerics
from xlt.pipeline.spec import RunSpec
from xlt.printable import printable
from xlt.strict_json import read_json, reason, regular

MANIFEST = "MANIFEST.json"
SPEC = "spec.json"
NUMERICS: tuple[Numerics, ...] = get_args(Numerics)
PROVENANCE = "provenance.json"
METRICS = "metrics.json"
StoredMetrics = dict[str, dict[str, dict[str, dict[str, StrictFloat]]]]
State = Literal["done", "diverged", "unfinished", "absent", "damaged"]
# Bounds, because others may have written the file: a report shows these values.
Words = Annotated[str, Field(max_length=200), AfterValidator(printable)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Amount = Annotated[int | float, Field(ge=0, le=1e30)]


class Resumption(BaseModel):
    """A training that went on from a checkpoint."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    step: Count
    """The step that it went on from."""
    changed: dict[Words, Any] = {}
    """By name, what the checkpoint was made with and what went on."""


class Provenance(BaseModel):
    """What is read of ``provenance.json``. Every field may be absent, and the file may hold more."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    python: Words | None = None
    """The version of Python."""
    system: Words | None = None
    """The operating system and the kind of processor."""
    packages: dict[Words, Words] = {}
    """The versions of the packages that matter to the numbers."""
    commit: Words | None = None
    """The commit of xlt, with ``+changes`` if files differed from it."""
    device: Words | None = None
    """The model name of the accelerator, or ``cpu``."""
    cuda: Words | None = None
    """The version of CUDA that torch was built with."""
    cpu_threads: Count | None = None
    """The CPU threads that torch computed with."""
    numerics: Words | None = None
    """``portable`` where libraries were held to what every x86-64 processor with AVX2 has, else ``native``."""
    cpu: Words | None = None
    """The model name of the processor."""
    world_size: Count | None = None
    """The number of processes that shared the training."""
    zero: Words | None = None
    """The ZeRO stage, and whether states were offloaded."""
    accumulation: Count | None = None
    """The number of micro-batches per step, at the end."""
    resumed: tuple[Resumption, ...] = ()
    """Where it went on after an interruption."""
    precision: Words | None = None
    """The numeric type, as in the spec."""
    engine: Words | None = None
    """What computed the optimiser steps, as in the spec."""
    seconds: dict[Words, Amount] = {}
    """Wall-clock seconds by stage."""
    seconds_per_step: Amount | None = None
    """What a step of the training took by the clock, dev scores included, without the first: no compilation is in it.
    Runs that are older than this field have none."""
    peak_memory: dict[Words, Amount] = {}
    """The largest memory use during the run in bytes, resident and on the accelerator (``peak_memory``)."""
    collapsed: bool = False
    """Whether no English dev score was above chance."""
    diverged: Words = ""
    """Since when its numbers were none or without bounds, where they were: the run has no model and no scores then."""
    weights: dict[Words, Words] = {}
    """The SHA-256 of each file of weights that the run wrote. Runs that are older than this field have none."""
    parent_weights: dict[Words, Words] = {}
    """The same of the run that it starts from, as they were then."""


@dataclass(frozen=True, slots=True)
class Check:
    """The state of a run's folder and, where it is damaged or diverged, why."""

    state: State
    problem: str = ""

    @property
    def ended(self) -> bool:
        """Whether the run is not to be made: it is done, or came to nothing."""
        return self.state in ("done", "diverged")


class RunStore:
    """The runs below ``root`` (RESULTS)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, folder: str) -> Path:
        """The folder of a run, given as ``RunSpec.folder``."""
        return self.root / "runs" / folder

    def check(self, spec: RunSpec) -> Check:
        """Whether the run of ``spec`` is there and whole. Every file is hashed."""
        return check_folder(self.path(spec.folder), spec)

    def collapsed(self, spec: RunSpec) -> bool:
        """Whether the run was made and its provenance says that no dev score was above chance, or that it diverged."""
        made = self._provenance(spec)
        return (bool(spec.collapse_after) and made.collapsed) or bool(made.diverged)

    def failure(self, spec: RunSpec) -> str:
        """Why nothing came of a run that was made, in words; empty if something did."""
        if diverged := self._provenance(spec).diverged:
            return f"it diverged: {diverged.rstrip('.')}"
        return "it collapsed: it is at chance on English dev" if self.collapsed(spec) else ""

    def diverged(self, spec: RunSpec) -> bool:
        """Whether the run was made and its provenance says that it diverged."""
        return bool(self._provenance(spec).diverged)

    def _provenance(self, spec: RunSpec) -> Provenance:
        """That of a run that was made; an empty one for all others, and for damaged ones: those will be made again."""
        folder = self.path(spec.folder)
        with suppress(DataFault):
            if (folder / MANIFEST).is_file():
                return read_provenance(folder)
        return Provenance()

    def numerics(self) -> Numerics:
        """How the first run computed that says so; native if none does."""
        for path in sorted(self.root.glob(f"runs/*/*/{PROVENANCE}")):
            with suppress(DataFault):
                made = read_provenance(path.parent).numerics
                if found := [name for name in NUMERICS if name == made]:
                    return found[0]
        return "native"

    @contextmanager
    def writing(self, spec: RunSpec) -> Iterator[Path]:
        """A fresh folder for the run; its manifest is written when the block ends without an error.

        Whatever an interrupted attempt left there is removed first.

        Raises:
            EnvironmentFault: the disk is full, the folder cannot be written, or another process is writing it.
        """
        folder = self.path(spec.folder)
        with writable(self.root), _held(folder, spec):
            write_text(folder / SPEC, spec.canonical() + "\n")
            yield folder
            write_manifest(folder)


@contextmanager
def _held(folder: Path, spec: RunSpec) -> Iterator[None]:
    """An empty folder of this process alone: another one that wants it is refused until the block ends."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = ExitStack()
        lock.enter_context(locked(folder))
    except BlockingIOError as error:
        raise EnvironmentFault(
            f"Another process is making the run '{folder.name}' in this results folder.",
            fix="Give the same command again when that process has ended: it finds the run made.",
        ) from error
    with lock:
        if check_folder(folder, spec).ended:
            # By another process, after this one had looked: what starts from the run may be reading it.
            raise EnvironmentFault(
                f"Another process has made the run '{folder.name}' in this results folder.",
                fix="Give the same command again: it finds the run made.",
            )
        _empty(folder)
        yield


def _empty(folder: Path) -> None:
    # The folder itself stays: the lock is on it.
    for path in list(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            continue
        try:
            shutil.rmtree(path, ignore_errors=True)
        except RecursionError as error:
            raise DataFault(f"'{path}' is too deep to be removed from here.", fix=f"rm -r '{path}'") from error


def write_manifest(folder: Path) -> None:
    """List every file of ``folder`` with size and SHA-256. The list appears in one step, after all that it lists."""
    files = {path.relative_to(folder).as_posix(): describe(path) for path in _files(folder)}
    write_text(folder / MANIFEST, json.dumps({"format": 1, "files": files}, indent=1, sort_keys=True) + "\n")


def describe(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def weight_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of weights in a model's folder."""
    return {path.name: describe(path)["sha256"] for path in sorted(folder.glob("*.safetensors"))}


def listed_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that the manifest of a run lists, those that were pruned included.

    Raises:
        DataFault: it has no manifest.
    """
    return {name: entry.sha256 for name, entry in sorted(read_json(folder / MANIFEST, _MANIFEST).files.items())}


def listed_weights(folder: Path) -> dict[str, str]:
    """The same of the files of weights in its model."""
    listed = listed_digests(folder)
    names = [name for name in listed if name.startswith("model/") and name.endswith(".safetensors")]
    return {name.removeprefix("model/"): listed[name] for name in names}


def check_folder(folder: Path, spec: RunSpec | None = None) -> Check:
    """Whether a run's folder is whole: manifest there, no file missing, changed or added, spec as expected.

    A whole one is done, or by its provenance diverged.
    """
    try:
        if not folder.is_dir():
            return Check("absent")
        if folder.is_symlink():
            return Check("damaged", "its folder is a link, and a run holds its own files")
        if not (folder / MANIFEST).is_file():
            return Check("unfinished", "it has no manifest")
        problem = _damage(folder, spec)
    except DataFault as fault:
        problem = ": ".join(each.rstrip(".") for each in (fault.what, fault.why) if each)
    except OSError as error:
        problem = f"the folder cannot be read: {reason(error)}"
    if problem:
        return Check("damaged", printable(problem))
    with suppress(DataFault):  # checkpoints are such folders, too, and have none
        if diverged := read_provenance(folder).diverged:
            return Check("diverged", diverged)
    return Check("done")


def _damage(folder: Path, spec: RunSpec | None) -> str:
    """The first thing that is wrong with a run's folder; empty if nothing is."""
    listed = read_json(folder / MANIFEST, _MANIFEST).files
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name, entry in sorted(listed.items()):
        if problem := _difference(name, present.get(name), entry):
            return problem
    if extra := sorted(set(present) - set(listed)):
        return f"{extra[0]} is not in the manifest"
    # Not by its text: a spec of an earlier version lacks the fields that were added since, at their defaults.
    if spec is not None and read_spec(folder).identity() != spec.identity():
        return f"{SPEC} is not the one that names the folder"
    return ""


def _below(name: str) -> str:
    """The name of a file below the folder, written in the one way that leads nowhere else."""
    if {"", ".", ".."} & {*name.split("/")} or not name.isprintable():
        raise ValueError("it is no name of a file of the run")
    return name


class _Entry(Frozen):
    size: int
    sha256: str
    pruned: bool = False


class _Manifest(Frozen):
    format: Literal[1]
    files: dict[Annotated[str, AfterValidator(_below)], _Entry]


def _difference(name: str, path: Path | None, entry: _Entry) -> str:
    """How a file differs from its entry in the manifest; empty if it does not."""
    if path is None:
        return "" if entry.pruned else f"{name} is missing"
    if path.is_symlink():
        return f"{name} cannot be read: it is a link, and a run holds its own files"
    try:
        found = describe(regular(path))
    except (OSError, ValueError) as error:
        return f"{name} cannot be read: {reason(error)}"
    if found["size"] != entry.size:
        return f"{name} has {found['size']} bytes, not {entry.size}"
    return "" if found["sha256"] == entry.sha256 else f"{name} was changed after the run"


_AGAIN = "Remove the run's folder and give the same command again."
_MANIFEST = TypeAdapter(_Manifest)
_RUN_SPEC = TypeAdapter(RunSpec)
_METRICS = TypeAdapter(StoredMetrics)
_PROVENANCE = TypeAdapter(Provenance)


def read_spec(folder: Path) -> RunSpec:
    """The spec stored in a run's folder; ``DataFault`` if there is none that can be read."""
    what = f"'{folder.name}' is not a run of xlt: its {SPEC} cannot be read."
    fix = "Give the folder of a run, RESULTS/runs/PHASE/NAME-HASH."
    spec = read_json(folder / SPEC, _RUN_SPEC, what=what, fix=fix)
    try:
        spec.training_recipe()
    except (TypeError, ValueError) as error:
        raise DataFault(what, why=printable(f"Its recipe is none: {error}")[:300], fix=fix) from error
    try:
        spec.add_tasks()
    except ValueError as error:
        raise DataFault(what, why=printable(f"A record of a task is none: {error}")[:300], fix=fix) from error
    except UsageFault as fault:
        raise DataFault(printable(fault.what), why=printable(fault.why), fix=fault.fix) from fault
    return spec


def read_metrics(folder: Path) -> StoredMetrics:
    """The metrics stored in a run's folder; ``DataFault`` if there are none, or their file has another form."""
    form = "{task: {split: {language: {metric: number}}}}"
    return read_json(folder / METRICS, _METRICS, what=f"{METRICS} cannot be read as {form}.", fix=_AGAIN)


def read_provenance(folder: Path) -> Provenance:
    """The provenance stored in a run's folder; ``DataFault`` if there is none that can be read."""
    return read_json(folder / PROVENANCE, _PROVENANCE, fix=_AGAIN)


def prediction_name(task: str, split: str, language: str) -> str:
    """The file of the predictions of one task, split and language, below a run's folder."""
    return f"predictions/{task}.{split}.{language}.jsonl.gz"


def _files(folder: Path) -> Iterator[Path]:
    """Everything below a run's folder that is no folder itself, links and pipes included, without its manifest."""
    found: list[Path] = []
    folders = [folder]
    while folders:  # not by recursion: a stranger's folder may be deeper than the stack
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else found).append(Path(entry.path))
    return (path for path in sorted(found) if path != folder / MANIFEST)
