"""The results folder of a study: its file as it was, a results folder for each seed, and the answer."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

from xlt.artifact import artifact_root
from xlt.errors import UsageFault
from xlt.files import check_writable, writable, write_bytes
from xlt.pipeline.studies import Study, study_names
from xlt.printable import printable

KEPT = "study.toml"  # the study as it was before its first run
ANSWER = "study.json"


def refuse_changed(study: Study, results: Path) -> bytes:
    """The study's file, unless the folder holds another study or runs of this one as it was before it was changed.

    Raises:
        UsageFault: it does.
    """
    now, path = (artifact_root() / "studies" / f"{study.name}.toml").read_bytes(), results / KEPT
    kept = path.read_bytes() if path.is_file() else now
    if kept != now and (other := _name_of(kept)) != study.name:
        raise UsageFault(
            f"'{results}' holds the study {other}; asked for is {study.name}.",
            why="A study has a folder of its own.",
            fix="Choose another folder: --results DIR",
        )
    if kept != now:
        raise UsageFault(
            f"The study {study.name} is not what it was when the first run in '{results}' was made.",
            why=f"Its file differs from {KEPT} there. What is expected, and how it is decided, is fixed beforehand.",
            fix="Restore artifact/studies, or choose another folder: --results DIR",
        )
    return now


def keep(study: Study, results: Path) -> None:
    """Write the study's file into its results folder, before its first run; for faults see ``refuse_changed`` and
    ``files.writable``."""
    now = refuse_changed(study, results)
    check_writable(results)
    with writable(results):
        results.mkdir(parents=True, exist_ok=True)
        write_bytes(results / KEPT, now)


def study_kept_in(results: Path) -> str:
    """The name of the study whose file a folder holds; empty where it holds none that is among the project's."""
    path = results / KEPT
    name = _name_of(path.read_bytes()) if path.is_file() else ""
    return name if name in study_names() else ""


def _name_of(kept: bytes) -> str:
    """The name of the study whose file this is."""
    try:
        return printable(str(tomllib.loads(kept.decode("utf-8"))["name"]))
    except (ValueError, KeyError):
        return "that its damaged study.toml no longer names"


def refuse_runs_of_a_tier(results: Path) -> None:
    """Raise ``UsageFault`` for a folder that holds the runs of a tier where that of a study is asked for."""
    if (results / "grid.json").is_file():
        study = results.parent / KEPT
        raise UsageFault(
            f"'{results}' holds the runs of {'one seed of a study' if study.is_file() else 'a tier'}.",
            why="A study has a folder of its own, in which each of its seeds is such a folder.",
            fix=f"--results {shlex.quote(str(results.parent if study.is_file() else 'DIR'))}",
        )


def seed_folder(results: Path, seed: int) -> Path:
    """The results folder of one seed of a study."""
    return results / f"seed-{seed}"


def kept_seeds(results: Path) -> list[Path]:
    """The results folders of the seeds that a study's folder holds; none where it is not a study's."""
    seeds = [folder for folder in results.glob("seed-*") if folder.is_dir() and folder.name[5:].isdecimal()]
    seeds.sort(key=lambda folder: int(folder.name[5:]))
    return seeds if any((results / name).is_file() for name in (KEPT, ANSWER)) else []


def refuse_study(results: Path) -> None:
    """Raise ``UsageFault`` for the folder of a study where that of one seed is asked for."""
    if seeds := kept_seeds(results):
        raise UsageFault(
            f"'{results}' holds a study: each of its {len(seeds)} seeds is a results folder.",
            fix=f"--results {shlex.quote(str(seeds[0]))}; xlt verify and xlt report take the study whole",
        )


def how_to_run(results: Path) -> str:
    """What to do about a results folder without runs, also that of a study or of one of its seeds."""
    for folder in (results, results.parent):
        if name := study_kept_in(folder):
            return f"xlt reproduce --study {name} --results {shlex.quote(str(folder))}"
    return f"Name the folder with --results, or: xlt reproduce --results {shlex.quote(str(results))}"
