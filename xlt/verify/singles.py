"""Runs of ``xlt train``, ``xlt evaluate`` and ``xlt retrieve``: no grid file lists them, each says what it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from xlt.data.perturbed import PERTURB
from xlt.errors import DataFault
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import SPEC, read_spec
from xlt.verify.stored import RUN_FOLDER, GridFile, GridRun, read_grid


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
    return root, _grids(specs)


def tasks_in(results: Path) -> list[str]:
    """The tasks that the runs of a results folder, or the run whose folder it is, train on or score.

    Raises:
        DataFault: a spec or the grid file cannot be read.
        IncompleteFault: nothing was run.
    """
    grids = single_grids(results)[1] or [read_grid(results)]
    return [task for grid in grids for run in grid.runs for task in (*run.evaluate, *run.train)]


def perturbed_grids(results: Path, grid: GridFile) -> list[GridFile]:
    """The evaluations on perturbed rows that lie beside the runs of a tier's ``grid``, of the same source: those of
    ``xlt evaluate --perturb`` and of studies. What cannot be read is nothing that the grid promises."""
    own, specs = {run.folder for run in grid.runs}, []
    for path in sorted(results.glob(f"runs/*/*/{SPEC}")):
        place = "/".join(path.parent.parts[-2:])
        with suppress(DataFault):
            spec = read_spec(path.parent)
            settings = {name: value for name, value in spec.source.settings.items() if name != PERTURB}
            clean = grid.source.model_copy(update={"settings": settings}) == grid.source
            if PERTURB in spec.source.settings and clean and spec.folder == place and place not in own:
                specs.append(spec)
    return _grids(specs)


def _grids(specs: Sequence[RunSpec]) -> list[GridFile]:
    times = Counter(spec.name for spec in specs)
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(f"{spec.source.model_dump_json()} {spec.seed}", []).append(spec)
    return sorted((_grid(group, times) for group in groups.values()), key=lambda grid: grid.seed)


def _grid(specs: Sequence[RunSpec], times: Counter[str]) -> GridFile:
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
