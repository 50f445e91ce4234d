"""What a verification looked at beyond the scores, and what it did not: logs, weights, predictions made again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlt.data.source import Source
from xlt.errors import UsageFault
from xlt.frozen import Frozen
from xlt.pipeline.store import SPEC, RunStore
from xlt.printable import counted
from xlt.verify.cells import Recomputed, copied_predictions
from xlt.verify.singles import perturbed_grids
from xlt.verify.stored import GridFile, Problem, StoredRun
from xlt.verify.tier import smaller_runs

if TYPE_CHECKING:
    from xlt.verify.trainings import Examples

NO_TRAINING = (
    "training: nothing was made again (--replay K), so that the other losses in the logs are as the results say"
)
NO_ORIGIN = "origin: nothing in a folder without a signature proves who made it, or that all of it is not made up"


class Recheck(Frozen):
    """What the stored models were made to predict again."""

    cells: int
    """How many cells."""
    of: int
    """How many cells have a stored model."""
    predictions: int
    """How many predictions were compared."""
    agreement: float
    """How many of them are the stored ones, scores included, in percent."""
    rows: int | None
    """At most how many rows of a cell were predicted; null where all were."""
    seed: int | None
    """The seed that cells and rows were drawn with; null where all were predicted."""


class Replay(Frozen):
    """What was trained again."""

    stretches: int
    """How many stretches of trainings, each from one state that is known to the next."""
    of: int
    """How many of them can be trained again."""
    steps: int
    """How many steps were made."""
    only_begun: int
    """Of how many only the first steps were made, because another platform's rounding grows with every step."""
    identical: int
    """How many stretches gave the stored bits: weights, moments, random states and log."""
    apart: float | None
    """How far the weights at an end were from those stored, as a share of the way that the stretch moved them; null
    where the two cannot be compared."""
    platforms: tuple[str, ...]
    """In what this platform differs from those of the runs; empty where every bit must be the same."""
    seed: int
    """The seed that they were drawn with."""
    chances: dict[str, float]
    """The probability that one of the forged stretches was drawn, by the share of all that are forged."""


class Checks(Frozen):
    """What was checked, in words, and what was not."""

    checked: tuple[str, ...]
    """What was checked, with how many there are; what was found wrong is among the problems."""
    not_checked: tuple[str, ...]
    """What was not checked, and why."""
    recheck: Recheck | None
    """What was predicted again; null where nothing was."""
    replay: Replay | None = None
    """What was trained again; null where nothing was."""


@dataclass(frozen=True, slots=True)
class Again:
    """What is to be made again: predictions of so many ``cells`` (None: as many as take about a minute), and so many
    ``stretches`` of trainings, each drawn with a seed. ``tell`` is told what comes next."""

    cells: int | None = 0
    seed: int | None = None
    stretches: int = 0
    stretch_seed: int | None = None
    tell: Callable[[str], None] = lambda line: None


NOTHING_AGAIN = Again()


@dataclass
class _Notes:
    """What was looked at so far."""

    checked: list[str]
    left_out: list[str]
    problems: list[Problem]
    recheck: Recheck | None = None
    replay: Replay | None = None


def check_deeper(
    store: RunStore, source: Source, grid: GridFile, recomputed: Recomputed, again: Again
) -> tuple[Checks, list[Problem]]:
    """Check logs and weights, predict again, and say what was looked at.

    Raises:
        UsageFault: cells are to be predicted again, and no model is stored.
    """
    runs = recomputed.runs
    whole = sum(run.state == "done" for run in runs)
    notes = _Notes(
        checked=[
            f"files: size and SHA-256 of every file that is here, of {whole} of {counted(len(runs), 'run')}",
            f"scores: {counted(len(recomputed.cells), 'cell')} computed anew from predictions and gold labels",
            *_weights(runs),
        ],
        left_out=[*_beside(store, grid), *_unchained(runs)],
        problems=[*smaller_runs(grid, source, runs), *copied_predictions(grid, recomputed)],
    )
    try:
        _check_with_torch(notes, store, source, grid, runs, again)
    except ModuleNotFoundError as error:
        if again.cells or again.stretches:
            raise
        notes.left_out.append(f"training logs and predictions: the Python package '{error.name}' is not installed")
    untrained = () if notes.replay else (NO_TRAINING,)
    not_checked = (*notes.left_out, *_without_model(store, runs), *untrained, NO_ORIGIN)
    checks = Checks(checked=tuple(notes.checked), not_checked=not_checked, recheck=notes.recheck, replay=notes.replay)
    return checks, notes.problems


def _check_with_torch(
    notes: _Notes, store: RunStore, source: Source, grid: GridFile, runs: Sequence[StoredRun], again: Again
) -> None:
    # They import torch, which the rest of verification does not need.
    from xlt.verify.losses import check_losses
    from xlt.verify.recheck import recheck
    from xlt.verify.trainings import Examples, check_logs

    examples = Examples(store, source, runs)
    trained = sum(bool(run.spec and run.spec.train) for run in runs)
    if trained:
        logs = check_logs(store, grid, runs, examples)
        notes.problems += logs.problems
        notes.checked.append(
            f"training logs: {logs.count} of {trained}, each step with the task, the examples and the learning rate "
            "that spec, seed and data give it"
        )
        silent = trained - logs.count - len(logs.problems)
        notes.left_out += [f"training logs of {silent}: {why}" for why in logs.left_out]
    if again.stretches:
        _replay(notes, store, grid, runs, examples, again)
    if again.cells == 0:
        notes.left_out.append("predictions: the stored models were not asked again (--recheck)")
        return
    seed = secrets.randbelow(2**32) if again.seed is None else again.seed
    done, found = recheck(store, source, grid, runs, again.cells, seed)
    notes.problems += found
    notes.recheck = done
    if done is None and again.cells:
        raise UsageFault(
            "There is no model here to predict again with.",
            why="The runs are missing, or their models were left out when the results were shipped.",
            fix="Give the same command without --recheck.",
        )
    if done:
        drawn = "" if done.rows is None else f", at most {done.rows} rows of each"
        drawn += "" if done.seed is None else f", drawn with --recheck-seed {done.seed}"
        notes.checked.append(
            f"predictions: {done.cells} of {counted(done.of, 'cell')} predicted again from the stored models{drawn}; "
            f"{done.agreement:.2f} % of {done.predictions} agree"
        )
    if done and trained:
        count, contradicted = check_losses(store, grid, runs, examples)
        notes.problems += contradicted
        if count:
            what = f"the first and the last of {count} of {trained} trainings, from the weights before and after"
            notes.checked.append(f"losses: {what}")
        if count < trained:
            why = "their weights before or after are not here, or they have dropout or are of bf16"
            notes.left_out.append(f"losses of {trained - count} trainings: {why}")
    if absent := sum(len(run.cells) for run in runs) - (done.of if done else 0):
        notes.left_out.append(f"predictions of {counted(absent, 'cell')}: the model that made them is not here")


def _replay(
    notes: _Notes, store: RunStore, grid: GridFile, runs: Sequence[StoredRun], examples: Examples, again: Again
) -> None:
    from xlt.verify.replay import replay

    seed = secrets.randbelow(2**32) if again.stretch_seed is None else again.stretch_seed
    done, found, left_out = replay(store, grid, runs, examples, again.stretches, seed, again.tell)
    notes.problems += found
    notes.left_out += left_out
    notes.replay = done
    if done is None:
        raise UsageFault(
            "There is no training here that can be made again.",
            why=left_out[0] if left_out else "No whole run here trained anything.",
            fix="Give the same command without --replay.",
        )
    same = f"{done.identical} bit for bit"
    if done.platforms:
        same += f"; other bits would be no forgery here, where they may depend on {'; '.join(done.platforms)}"
        same += "" if not done.apart else f", and weights are at most {done.apart:.2g} of their way off"
    if done.only_begun:
        same += f"; of {done.only_begun} only the losses of the first steps, as long as they can be compared there"
    chances = done.chances.items()
    odds = ", ".join(f"{100 * chance:.0f} % if {100 * float(share):g} % are forged" for share, chance in chances)
    drawn = "all there are" if done.stretches == done.of else f"a forged one is among them with {odds}"
    notes.checked.append(
        f"training: {done.stretches} of {done.of} stretches made again, drawn with --replay-seed {done.seed}, "
        f"{done.steps} steps: {same}; {drawn}"
    )


def _beside(store: RunStore, grid: GridFile) -> Iterator[str]:
    noisy = perturbed_grids(store.root, grid) if grid.tier else []  # these are verified with the tier's
    listed = {run.folder for runs in (grid.runs, grid.collapsed, *(each.runs for each in noisy)) for run in runs}
    there = {"/".join(path.parts[-3:-1]) for path in store.root.glob(f"runs/*/*/{SPEC}")}
    if grid.tier and there - listed:
        yield (
            f"{len(there - listed)} other runs in this folder, which are not of its tier, such as "
            f"{min(there - listed)}: xlt verify --results FOLDER_OF_THE_RUN"
        )


def _weights(runs: Sequence[StoredRun]) -> Iterator[str]:
    tied = sum(run.entry.parent in _whole(runs) for run in _saying(runs))
    if tied:
        yield f"weights: {tied} runs start from the weights that the manifest of their parent lists"


def _saying(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs that say which weights they started from."""
    return [run for run in runs if run.provenance and run.provenance.parent_weights]


def _whole(runs: Sequence[StoredRun]) -> set[str | None]:
    return {run.entry.hash for run in runs if run.state == "done"}


def _unchained(runs: Sequence[StoredRun]) -> Iterator[str]:
    alone = sum(run.entry.parent not in _whole(runs) for run in _saying(runs))
    if alone:
        yield f"weights: {alone} runs start from runs that are not verified with them"
    silent = sum(bool(run.entry.parent and run.provenance and not run.provenance.parent_weights) for run in runs)
    if silent:
        yield f"weights: {silent} runs do not say which weights they started from; they are of an earlier version"


def _without_model(store: RunStore, runs: Sequence[StoredRun]) -> Iterator[str]:
    trained = [run.entry.folder for run in runs if run.spec and run.spec.train]
    missing = sum(not (store.path(folder) / "model" / "config.json").is_file() for folder in trained)
    if missing:
        yield (
            f"models: those of {missing} of {len(trained)} trained runs are not here: they cannot predict again, and "
            "their size cannot be checked"
        )
