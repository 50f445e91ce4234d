"""Two results folders beside each other: how far the means of a task lie apart, and what was made differently.

With one seed on each side, rows are resampled, each with the predictions of both sides together: the interval is of the
rows. With several, it is of the seeds, in pairs where both sides have the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xlt.data.source import Source
from xlt.errors import XltError
from xlt.frozen import Frozen
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.tasks.record import Split
from xlt.verify.cells import Cell, MeanKey, Recomputed, read_cells
from xlt.verify.comparison import Matrix, estimate, mean
from xlt.verify.origin import platform_differences
from xlt.verify.recorded import platform_of
from xlt.verify.robustness import INTERVAL, NOTHING, resampled_sums, scored_rows, two_scores
from xlt.verify.singles import single_grids
from xlt.verify.stored import GridFile, Problem, StoredRun, read_grid, source_in

TAIL = 0.025
Over = Literal["", "rows", "seeds", "pairs of seeds"]


class Side(Frozen):
    """One results folder, with one seed."""

    tier: str
    """The tier; empty for single runs."""
    source: str
    """The source of its data."""
    seed: int
    """Its seed."""
    runs: int
    """How many of its runs are whole."""


class Difference(Frozen):
    """The mean of a task over the languages that both have, A minus B."""

    arm: str
    """The phase-2 model."""
    task: str
    """The task."""
    split: Split
    """The split of its data."""
    languages: int
    """How many languages both have."""
    here: float
    """The mean of A, over its seeds."""
    there: float
    """The mean of B, over its seeds."""
    value: float
    """A minus B, in points."""
    low: float | None = None
    """The lower end of its 95 % interval; null where there is none."""
    high: float | None = None
    """The upper end of it."""
    over: Over = ""
    """What the interval is of; empty where there is none."""
    same_predictions: bool
    """Whether both predict the same in every language, seed by seed."""


class Setting(Frozen):
    """Something that was not the same."""

    what: str
    """A field of the runs' specs, or where they were made."""
    here: str
    """What A has."""
    there: str
    """What B has."""
    runs: int
    """In how many runs that both have; 0 where it is of all together."""


class Against(Frozen):
    """Two sets of results, A and B, beside each other."""

    format: Literal[1] = 1
    """The version of this document's form."""
    here: tuple[Side, ...]
    """The seeds of A."""
    there: tuple[Side, ...]
    """The seeds of B."""
    means: tuple[Difference, ...]
    """The means that both have."""
    only_here: tuple[str, ...]
    """The means that A has alone."""
    only_there: tuple[str, ...]
    """The means that B has alone."""
    settings: tuple[Setting, ...]
    """What was not the same."""
    problems: tuple[Problem, ...]
    """What of either cannot be trusted or is missing."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The results of one seed, recomputed."""

    grid: GridFile
    source: Source
    store: RunStore
    recomputed: Recomputed

    @property
    def specs(self) -> dict[str, RunSpec]:
        return {run.entry.folder: run.spec for run in self.recomputed.runs if run.spec}

    def cells(self) -> dict[MeanKey, dict[str, Cell]]:
        found: dict[MeanKey, dict[str, Cell]] = {}
        for cell in self.recomputed.cells:
            found.setdefault(cell.key, {})[cell.language] = cell
        return found


def compare(here: Sequence[Path], there: Sequence[Path], data_root: Path | None = None) -> Against:
    """The results in folders ``here`` (A), one for each seed, beside those ``there`` (B); all is recomputed.

    Raises:
        IncompleteFault: a folder holds no results.
        DataFault: the data of a source is absent.
    """
    ours, theirs = ([each for folder in folders for each in _open(folder, data_root)] for folders in (here, there))
    own, other = ([each.cells() for each in side] for side in (ours, theirs))
    keys, others = ([key for key in side[0] if all(key in each for each in side)] for side in (own, other))
    return Against(
        here=tuple(map(_side, ours)),
        there=tuple(map(_side, theirs)),
        means=tuple(
            _difference(key, ours, theirs, [each[key] for each in own], [each[key] for each in other])
            for key in keys
            if key in others
        ),
        only_here=tuple(".".join(key) for key in keys if key not in others),
        only_there=tuple(".".join(key) for key in others if key not in keys),
        settings=tuple(_settings(ours, theirs)),
        problems=tuple(problem for each in (*ours, *theirs) for problem in each.recomputed.problems),
    )


def _open(folder: Path, data_root: Path | None) -> Iterator[_Opened]:
    root, grids = single_grids(folder)
    for grid in grids or [read_grid(folder)]:
        source, store = source_in(grid, data_root), RunStore(root)
        yield _Opened(grid, source, store, read_cells(store, source, grid))


def _side(opened: _Opened) -> Side:
    whole = sum(run.state == "done" for run in opened.recomputed.runs)
    return Side(tier=opened.grid.tier, source=opened.grid.source.name, seed=opened.grid.seed, runs=whole)


def _difference(
    key: MeanKey,
    ours: Sequence[_Opened],
    theirs: Sequence[_Opened],
    own: Sequence[Mapping[str, Cell]],
    other: Sequence[Mapping[str, Cell]],
) -> Difference:
    shared = [code for code in own[0] if all(code in each for each in (*own, *other))]
    here, there = ([mean([each[code].score for code in shared]) for each in side] for side in (own, other))
    seeds = [each.grid.seed for each in ours]
    paired = seeds == [each.grid.seed for each in theirs]
    same = len(own) == len(other) and all(
        one[code].predictions == two[code].predictions for one, two in zip(own, other, strict=True) for code in shared
    )
    ends: tuple[float, float] | None = None
    over: Over = ""
    if len(own) == len(other) == 1 and not same:
        ends, over = _over_rows(ours[0], theirs[0], own[0], other[0], shared), "rows"
    elif len(own) + len(other) > 2 and not same:
        pairs = [a - b for a, b in zip(here, there, strict=True)] if paired else []
        found = estimate(pairs) if paired else estimate(here, there)
        half = found.half_width(TAIL)
        ends, over = (found.value - half, found.value + half), "pairs of seeds" if paired else "seeds"
    low, high = ends or (None, None)
    arm, task, split = key
    return Difference(
        arm=arm,
        task=task,
        split=split,
        languages=len(shared),
        here=mean(here),
        there=mean(there),
        value=mean(here) - mean(there),
        low=low,
        high=high,
        over=over if ends else "",
        same_predictions=same,
    )


def _over_rows(
    one: _Opened, two: _Opened, own: Mapping[str, Cell], other: Mapping[str, Cell], shared: Sequence[str]
) -> tuple[float, float] | None:
    """The 95 % interval of the rows; none where the two were not scored on the same ones."""
    drawn: list[Matrix] = []
    with suppress(XltError):
        for code in shared:
            a, b = own[code], other[code]
            specs = one.specs[a.run], two.specs[b.run]
            name = f"{a.task}/{a.split}/{code}"
            if specs[0].data[name] != specs[1].data[name]:
                return None
            here = scored_rows(one.store, one.source, specs[0], a.task, a.split, code).parts
            there = scored_rows(two.store, two.source, specs[1], a.task, a.split, code).parts
            ids = dict.fromkeys((*here, *there))
            sums = np.array([(*here.get(id_, NOTHING), *there.get(id_, NOTHING)) for id_ in ids], dtype=np.float64)
            drawn.append(-np.diff(two_scores(resampled_sums(sums)))[:, 0])
        low, high = np.percentile(np.mean(drawn, axis=0), INTERVAL)
        return (float(low), float(high)) if low < high else None  # rows that are all alike say nothing of others
    return None


def _settings(ours: Sequence[_Opened], theirs: Sequence[_Opened]) -> Iterator[Setting]:
    """What differs: of the grids, of the specs of runs that both have, and of where they were made."""
    for what, one, two in (
        ("seed", _joined(each.grid.seed for each in ours), _joined(each.grid.seed for each in theirs)),
        ("tier", _joined(each.grid.tier for each in ours), _joined(each.grid.tier for each in theirs)),
    ):
        if one != two:
            yield Setting(what=what, here=one, there=two, runs=0)
    runs, others = ({_place(run): run for run in each[0].recomputed.runs if run.spec} for each in (ours, theirs))
    found: Counter[tuple[str, str, str]] = Counter()
    for place, run in runs.items():
        if place in others:
            found.update(_differing(_flat(run), _flat(others[place])))
    for (what, one, two), count in found.most_common():
        yield Setting(what=what, here=one, there=two, runs=count)
    own, other = (platform_of([run for each in side for run in each.recomputed.runs]) for side in (ours, theirs))
    for each in platform_differences(own, [other]):
        yield Setting(what=each.what, here=each.here, there=next(iter(each.there)), runs=0)


def _joined(values: Iterator[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values))) or "–"


def _place(run: StoredRun) -> tuple[str, str]:
    return run.entry.phase, run.spec.name if run.spec else ""


def _flat(run: StoredRun) -> dict[str, str]:
    """The fields of a spec by their paths; of the data only which sets of rows differ can be told."""
    assert run.spec is not None
    left_out = {"parent", "name", "seed"}
    found: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                walk(each, f"{path}.{name}" if path else name)
        else:
            found[path] = " ".join(map(str, value)) if isinstance(value, list) else str(value)

    walk({name: value for name, value in run.spec.model_dump(mode="json").items() if name not in left_out}, "")
    return found


def _differing(here: Mapping[str, str], there: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys((*here, *there)):
        one, two = here.get(name, "–"), there.get(name, "–")
        if one != two:
            rows = name.startswith("data.")
            yield (f"rows of {name.removeprefix('data.')}", one[:8], two[:8]) if rows else (name, one, two)
