"""Runs of ``xlt train``, ``xlt evaluate`` and ``xlt retrieve``: no grid file lists them, each says what it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from xlt.errors import DataFault
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import SPEC, read_spec
from xlt.verify.stored import RUN_FOLDER, GridFile, GridRun


def single_grids(results: Path) -> tuple[Path, list[GridFile]]:
    """The results folder, and its single runs as grids without a tier, one for each source and seed.

    ``results`` may also be the folder of one run, beside which others may be a grid's. No grids where a grid file says
    what was run, or nothing was.

    Raises:
        DataFault: a spec cannot be read.
    """
    if (results / SPEC).is_file():
        folder = results.resolve()
        root, folders = folder.parents[2], [folder]
    else:
        grid = results / "grid.json"
        root, folders = results, [path.parent for path in sorted(results.glob(f"runs/*/*/{SPEC}"))]
        if grid.exists() or grid.is_symlink():
            return root, []
    specs = [read_spec(folder) for folder in folders]
    for folder, spec in zip(folders, specs, strict=True):
        place = "/".join(folder.parts[-2:])
        if spec.folder != place or not RUN_FOLDER.fullmatch(place):
            raise DataFault(
                f"The spec of the run '{place}' is not the one that names its folder.",
                fix="Give the command that made the run again, and remove this folder.",
            )
    times = Counter(spec.name for spec in specs)
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(f"{spec.source.model_dump_json()} {spec.seed}", []).append(spec)
    return root, sorted((_grid(group, times) for group in groups.values()), key=lambda grid: grid.seed)


def _grid(specs: list[RunSpec], times: Counter[str]) -> GridFile:
    runs = tuple(
        GridRun(
            folder=spec.folder,
            hash=spec.hash,
            phase=spec.phase,
            # Each is a model of its own: what it is called tells it from the others.
            arm=spec.name if times[spec.name] == 1 else f"{spec.name}-{spec.hash}",
            train=spec.train,
            evaluate=spec.evaluate,
            parent=spec.parent,
        )
        for spec in specs
    )
    return GridFile(format=1, tier="", source=specs[0].source, seed=specs[0].seed, runs=runs)
