"""What verified results are given to others as: an archive that verify needs, a reference run."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from xlt.artifact import RESTORE
from xlt.errors import IncompleteFault, UsageFault
from xlt.files import writable, write_text
from xlt.pipeline.store import MANIFEST, PROVENANCE, SPEC, prediction_name, read_spec
from xlt.pipeline.study_folder import ANSWER, KEPT, kept_seeds, study_kept_in
from xlt.strict_json import read_json
from xlt.verify import recorded
from xlt.verify.comparison import mean
from xlt.verify.judge import Verification
from xlt.verify.scores import by_mean, table_of
from xlt.verify.siblings import other_seed
from xlt.verify.singles import perturbed_grids
from xlt.verify.stored import read_grid

OF_RUNS = (SPEC, "log.jsonl", "metrics.json", PROVENANCE)
_OBJECT = TypeAdapter(dict[str, Any])
README = """\
Results of xlt: {tier} on the source '{source}'. Ids, labels and character offsets: no text of a data set, no
models. Made by: {command}

Verify them with your own copy of the data (xlt fetch, or --data-root DIR):
  xlt verify{results}
It recomputes every number from the predictions. What it cannot check without the models: whether they say the same
again (--recheck), and how large they were.

result_hash, if the same version of xlt verifies:
{hashes}
"""


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

    Whatever the verdicts are: a series without its outliers would make the bands too narrow. A run that was recorded
    before is left as it is.

    Raises:
        IncompleteFault: runs are missing, damaged or edited, or nothing was scored.
        UsageFault: another run of the seed is recorded.
    """
    if not verification.tier:
        raise UsageFault("Single runs are no reference for a tier.", fix="xlt reproduce, then xlt verify --record")
    check_whole(verification, "recorded as a reference run")
    run = reference_run(verification, (today or datetime.datetime.now(datetime.UTC).date()).isoformat())
    path = recorded.reference_path(run, artifact)
    if path.exists():
        before = read_json(path, recorded.REFERENCE_RUN, fix=RESTORE)
        # The day on which the same run was recorded first is kept.
        if path.read_text("utf-8") != run.model_copy(update={"date": before.date}).text():
            raise UsageFault(
                f"The seed {run.seed} is already recorded, as artifact/{path.relative_to(artifact)}.",
                why=f"That run was made on {before.platform.get('cpu', before.device)} and recorded on {before.date}. "
                "What is recorded is never overwritten.",
                fix=f"Record a seed that has no file there: {other_seed(verification.command)}",
            )
        return path
    with writable(artifact, "", "the folder of recorded runs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, run.text())
    return path


def reference_run(verification: Verification, date: str) -> recorded.ReferenceRun:
    """A whole verification as a reference run that was recorded on a day."""
    cells = recorded.measured_cells(verification.cells)
    values, rows = recorded.means_of(cells), by_mean(table_of(verification.cells, verification.seed))
    states = {state.folder: state for state in verification.runs}
    means = {}
    for each in verification.verdicts:
        state, name, guess = states[each.run], "/".join(each.key), round(mean(rows[each.key]["chance"]), 6)
        how = {"recipe": state.recipe, "data": state.data, "execution": state.execution}
        means[name] = recorded.MeasuredMean(value=values[name], chance=guess, **how)
    return recorded.ReferenceRun(
        tier=verification.tier,
        source=verification.source.name,
        seed=verification.seed,
        date=date,
        platform={**verification.platform, "device": recorded.device_of(verification.platform)},
        means=means,
        cells=cells,
    )


def ship(verification: Verification, folders: tuple[Path, ...], archive: Path) -> None:
    """Write ``archive``, a gzipped tar with a folder ``seed-N`` for each of the results folders, and of a study whose
    seeds these all are its file and its answer.

    The same results give the same bytes with the same zlib, at any time and on any machine. A file that is left out
    stays in its run's manifest, marked as pruned.

    Raises:
        IncompleteFault: a folder has problems or lacks runs.
    """
    parts = verification.seeds
    for each in parts:
        check_whole(each, "shipped")
    temporary = archive.with_name(archive.name + ".tmp")
    with writable(archive.parent, "--ship", "the folder of the archive"):
        archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            temporary.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(mode="w", fileobj=packed) as tar,
        ):
            study = _study(folders)
            _add(tar, "README.txt", _readme(parts, whole_study=bool(study)).encode())
            for path in study:
                _add(tar, path.name, path.read_bytes())
            for each, results in zip(parts, folders, strict=True):
                for name, content in _files(each, results):
                    _add(tar, f"seed-{each.seed}/{name}", content)
        temporary.replace(archive)


def ship_one(verification: Verification, results: Path) -> Path:
    """Write the archive of one seed into its results folder, named by seed and result hash, and return it.

    Raises:
        IncompleteFault: there are problems, or runs are missing.
    """
    name = f"{verification.tier}-{verification.source.name}-seed-{verification.seed}-{verification.result_hash[:12]}"
    ship(verification, (results,), results / f"{name}.tar.gz")
    return results / f"{name}.tar.gz"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # no owner and no time: the bytes must not depend on them
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _study(folders: tuple[Path, ...]) -> list[Path]:
    """The file and the answer of the study of which these folders are all seeds; none where they are not."""
    place = folders[0].parent
    whole = study_kept_in(place) and {*kept_seeds(place)} == {*folders} and (place / ANSWER).is_file()
    return [place / KEPT, place / ANSWER] if whole else []


def _readme(parts: tuple[Verification, ...], *, whole_study: bool) -> str:
    first = parts[0]
    seeds = "".join(f" --results seed-{seed}" for seed in dict.fromkeys(each.seed for each in parts))
    return README.format(
        tier=f"the tier {first.tier}" if first.tier else "single runs",
        source=first.source.name,
        command="; ".join(dict.fromkeys(each.command for each in parts)),
        results=" --results ." if whole_study else seeds,
        hashes="\n".join(f"  seed-{each.seed}  {each.result_hash}" for each in parts),
    )


def _files(verification: Verification, results: Path) -> Iterator[tuple[str, bytes]]:
    """Names below the results folder, and contents; of predictions, what was recomputed: the rest may be anything."""
    if verification.tier:  # single runs have none
        yield "grid.json", (results / "grid.json").read_bytes()
    for run in (*verification.runs, *verification.collapsed):
        if not (results / "runs" / run.folder / MANIFEST).is_file():
            continue  # a first attempt that was cleared away
        cells = [cell for cell in verification.cells if cell.run == run.folder]
        yield from _of_run(
            results, run.folder, {prediction_name(cell.task, cell.split, cell.language) for cell in cells}
        )
    grids = perturbed_grids(results, read_grid(results)) if verification.tier else []
    for folder in (run.folder for grid in grids for run in grid.runs):
        names = read_spec(results / "runs" / folder).data
        yield from _of_run(results, folder, {prediction_name(*name.split("/")) for name in names})


def _of_run(results: Path, name: str, predictions: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Names below the results folder, and contents, of what is handed over of the run ``name``."""
    folder = results / "runs" / name
    manifest = read_json(folder / MANIFEST, _OBJECT)
    for file, entry in sorted(manifest["files"].items()):
        if file in OF_RUNS or file in predictions:
            yield f"runs/{name}/{file}", (folder / file).read_bytes()
        else:
            entry["pruned"] = True
    yield f"runs/{name}/{MANIFEST}", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
