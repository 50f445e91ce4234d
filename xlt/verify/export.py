"""What verified results are given to others as: an archive of all that verify needs, or a recorded reference run."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from xlt.errors import IncompleteFault
from xlt.files import writable, write_text
from xlt.pipeline.store import MANIFEST, PROVENANCE, SPEC, prediction_name
from xlt.strict_json import read_json
from xlt.verify.comparison import mean
from xlt.verify.judge import Verification
from xlt.verify.recorded import MeasuredCell, MeasuredMean, ReferenceRun, device_of, means_of, reference_path
from xlt.verify.scores import by_mean, table_of

KEPT = (SPEC, "log.jsonl", "metrics.json", PROVENANCE)
_OBJECT = TypeAdapter(dict[str, Any])
README = """\
Results of xlt: the tier {tier} on the source '{source}'. Ids, labels and character offsets: no text of a data set, no
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

    Whatever the verdicts are: a series without its outliers would make the bands too narrow.

    Raises:
        IncompleteFault: runs are missing, damaged or edited, or nothing was scored.
    """
    check_whole(verification, "recorded as a reference run")
    cells = {
        f"{cell.arm}/{cell.task}/{cell.split}/{cell.language}": MeasuredCell(
            metrics={name: round(value, 6) for name, value in cell.metrics.items()},
            above_chance=cell.above_chance,
            predictions=cell.predictions,
        )
        for cell in verification.cells
    }
    values, rows = means_of(cells), by_mean(table_of(verification.cells, verification.seed))
    states = {state.folder: state for state in verification.runs}
    means = {}
    for each in verification.verdicts:
        key, state = (each.arm, each.task, each.split), states[each.run]
        name, guess = "/".join(key), round(mean(rows[key]["chance"]), 6)
        means[name] = MeasuredMean(value=values[name], chance=guess, recipe=state.recipe, data=state.data)
    run = ReferenceRun(
        tier=verification.tier,
        source=verification.source.name,
        seed=verification.seed,
        date=(today or datetime.datetime.now(datetime.UTC).date()).isoformat(),
        platform={**verification.platform, "device": device_of(verification.platform)},
        means=means,
        cells=cells,
    )
    path = reference_path(run, artifact)
    with writable(artifact):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, run.text())
    return path


def ship(verification: Verification, folders: tuple[Path, ...], archive: Path) -> None:
    """Write ``archive``, a gzipped tar with a folder ``seed-N`` for each of the results folders.

    The same results give the same bytes with the same zlib, at any time and on any machine. A file that is left out
    stays in its run's manifest, marked as pruned.

    Raises:
        IncompleteFault: a folder has problems or lacks runs.
    """
    parts = verification.seeds
    for each in parts:
        check_whole(each, "shipped")
    temporary = archive.with_name(archive.name + ".tmp")
    with writable(archive.parent):
        archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            temporary.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(mode="w", fileobj=packed) as tar,
        ):
            _add(tar, "README.txt", _readme(parts).encode())
            for each, results in zip(parts, folders, strict=True):
                for name, content in _files(each, results):
                    _add(tar, f"seed-{each.seed}/{name}", content)
        temporary.replace(archive)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # no owner and no time: the bytes must not depend on them
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _readme(parts: tuple[Verification, ...]) -> str:
    first = parts[0]
    return README.format(
        tier=first.tier,
        source=first.source.name,
        command="; ".join(each.command for each in parts),
        results="".join(f" --results seed-{each.seed}" for each in parts),
        hashes="\n".join(f"  seed-{each.seed}  {each.result_hash}" for each in parts),
    )


def _files(verification: Verification, results: Path) -> Iterator[tuple[str, bytes]]:
    """Names below the results folder, and contents; of predictions, what was recomputed: the rest may be anything."""
    yield "grid.json", (results / "grid.json").read_bytes()
    for run in (*verification.runs, *verification.collapsed):
        folder = results / "runs" / run.folder
        if not (folder / MANIFEST).is_file():
            continue  # a first attempt that was cleared away
        cells = [cell for cell in verification.cells if cell.run == run.folder]
        kept = {*KEPT, *(prediction_name(cell.task, cell.split, cell.language) for cell in cells)}
        manifest = read_json(folder / MANIFEST, _OBJECT)
        for name, entry in sorted(manifest["files"].items()):
            if name in kept:
                yield f"runs/{run.folder}/{name}", (folder / name).read_bytes()
            else:
                entry["pruned"] = True
        yield f"runs/{run.folder}/{MANIFEST}", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
