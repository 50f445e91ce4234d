"""Predicting again: what is stored as a model's predictions must be what the stored model says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from random import Random
from typing import Any

import torch

from xlt.data.perturbed import predicted_rows
from xlt.data.predictions import Prediction, read_predictions
from xlt.data.source import Source
from xlt.errors import EnvironmentFault, XltError
from xlt.pipeline.checkpoint import checkpoint_folder, identified
from xlt.pipeline.run import predict_rows
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, check_folder, prediction_name
from xlt.pipeline.training import load_model
from xlt.runtime import device
from xlt.strict_json import reason
from xlt.tasks.catalogue import get_task
from xlt.train.seeding import deterministic
from xlt.verify.checks import Recheck
from xlt.verify.stored import CellKey, GridFile, Problem, StoredRun

# Another processor rounds differently, and a near tie then goes the other way: of 7,040 predictions in fp32 none did
# between SSE2 and AVX-512, and no score differed by more than 0.06 %. Of bf16 nothing is measured yet, so that it is
# held to less, and its scores to nothing.
LEAST_AGREEMENT = {"fp32": 0.998, "bf16": 0.98}
SCORES_APART = {"fp32": 0.01, "bf16": math.inf}
# Of a public model: what a large one predicts in minutes on a CPU.
SAMPLED_CELLS, SAMPLED_ROWS = 8, 100
RUN_HASH = re.compile("[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class _Found:
    """How many predictions of a cell there are, and how many of them the model does not make; or why it makes none."""

    run: StoredRun
    key: CellKey
    predictions: int
    differing: int
    failure: str = ""

    @property
    def split(self) -> tuple[str, str, str]:
        return self.run.entry.folder, *self.key[:2]


def recheck(
    store: RunStore, source: Source, grid: GridFile, runs: Sequence[StoredRun], count: int | None, seed: int
) -> tuple[Recheck | None, list[Problem]]:
    """Predict ``count`` cells again from the stored models, drawn evenly from all runs that have one, and compare.

    Without a ``count`` all cells of a backbone made on the spot, and of a public one a sample of some rows of some
    cells. Nothing is trained: a model that was trained wrongly is not found here. None where no model is stored.
    """
    folders = {run.entry.folder: folder for run in runs if run.spec and (folder := find_model(store, run.spec, runs))}
    if not folders or count == 0:
        return None, []
    deterministic(True)
    there = [run for run in runs if run.entry.folder in folders]
    sampled = count is None and any(run.spec and run.spec.backbone.name for run in there)
    keys = {run.entry.folder: [key for key in run.cells if not sampled or _is_short(key)] for run in there}
    total = sum(len(run.cells) for run in there)
    if count is None:
        count = SAMPLED_CELLS if sampled else total
    random = Random(seed)
    found: list[_Found] = []
    for run, drawn in _sample(there, keys, count, random):
        rows = SAMPLED_ROWS if sampled else None
        found += _predicted(store, source, run, folders[run.entry.folder], drawn, rows, random)
    compared, differing = (sum(getattr(each, name) for each in found) for name in ("predictions", "differing"))
    done = Recheck(
        cells=sum(bool(each.predictions) for each in found),
        of=total,
        predictions=compared,
        agreement=100 * (1 - differing / compared) if compared else 0.0,
        rows=SAMPLED_ROWS if sampled else None,
        seed=seed if sampled or count < total else None,
    )
    return done, list(_problems(found, grid))


def _is_short(key: CellKey) -> bool:
    """Whether a sample of the rows can be predicted alone: mining and ranking need all texts, which are many."""
    return get_task(key[0]).metric not in ("mining_f1", "map20")


def _problems(found: Sequence[_Found], grid: GridFile) -> Iterator[Problem]:
    """What cannot be predicted, and the cells that differ where too much differs in all languages together."""
    for (folder, *_), group in groupby(found, lambda each: each.split):
        cells = list(group)
        for each in cells:
            if each.failure:
                where = ".".join(each.key)
                yield Problem(kind="recheck", run=folder, where=where, what=each.failure, fix=grid.command)
        spec = cells[0].run.spec
        assert spec is not None
        all_of, differing = sum(each.predictions for each in cells), sum(each.differing for each in cells)
        # One near tie may always fall the other way.
        if differing <= max(1.0, (1 - LEAST_AGREEMENT[spec.precision]) * all_of):
            continue
        for each in cells:
            if each.differing:
                share = 1 - each.differing / each.predictions
                what = f"The stored model says something else: {share:.1%} of the predictions agree."
                yield Problem(kind="recheck", run=folder, where=".".join(each.key), what=what, fix=grid.command)


def _predicted(
    store: RunStore,
    source: Source,
    run: StoredRun,
    folder: Path,
    keys: Sequence[CellKey],
    sampled: int | None,
    random: Random,
) -> Iterator[_Found]:
    """The cells of a run, compared with what the model in ``folder`` says, of all rows or of some sampled ones."""
    assert run.spec is not None
    key = keys[0]
    try:
        model, tokenizer = load_model(folder)
        model.compute_in(device(), run.spec.precision)
        for key in keys:
            try:
                task = run.spec.task(key[0])
                rows = source.rows(task, key[1], key[2])
                stored = read_predictions(store.path(run.entry.folder) / prediction_name(*key))
                rows = predicted_rows(source, task, key[1], key[2], rows, stored)
            except XltError:
                continue  # gold or predictions that cannot be read are a problem already
            if sampled and task.kind != "retrieval" and len(rows) > sampled:
                rows = random.sample(rows, sampled)
                stored = _only(stored, rows)
            again = predict_rows(run.spec, model, tokenizer, task, rows)
            yield _Found(run, key, max(len(stored), len(again)), _differing(stored, again, run.spec))
    except (EnvironmentFault, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # A model, a tokenizer or a recipe that others wrote makes any part of any library fail, and the library of
        # tokenizers does it with an exception that is no Exception.
        yield _Found(run, key, 0, 0, f"The stored model cannot predict ({type(error).__name__}: {reason(error)}).")


def _only(stored: Sequence[Prediction], rows: Sequence[Any]) -> list[Prediction]:
    ids = {row.id for row in rows}
    return [each for each in stored if each.id in ids]


def _sample(
    runs: Sequence[StoredRun], keys: dict[str, list[CellKey]], count: int, random: Random
) -> Iterator[tuple[StoredRun, list[CellKey]]]:
    """Cells from all runs in turn, in a shuffled order; of each run then in the order of its cells."""
    rounds = zip_longest(*(random.sample(its, len(its)) for its in (keys[run.entry.folder] for run in runs)))
    dealt = [(place, key) for each in rounds for place, key in enumerate(each) if key][:count]
    for place, run in enumerate(runs):
        if drawn := [key for its, key in dealt if its == place]:
            yield run, sorted(drawn)


def find_model(store: RunStore, spec: RunSpec, runs: Sequence[StoredRun]) -> Path | None:
    """The folder of the model that made the predictions: the run's own, or the one it starts from; None if it is not
    here."""
    own = spec.hash if spec.train else spec.parent
    if own is None:
        with suppress(XltError):  # it was not fetched, or is another now
            unread = spec.backbone.model_copy(update={"digest": "", "revision": ""})
            return checkpoint_folder(unread.name) if identified(unread).digest == spec.backbone.digest else None
        return None
    folders = [store.path(run.entry.folder) for run in runs if run.entry.hash == own and run.spec]
    if not folders and RUN_HASH.fullmatch(own):
        # A single run may start from one that is not verified with it.
        folders = [path for path in store.root.glob(f"runs/*/*-{own}") if check_folder(path).state == "done"]
    return next((folder / "model" for folder in folders if (folder / "model" / "config.json").is_file()), None)


def _differing(stored: Sequence[Prediction], again: Sequence[Prediction], spec: RunSpec) -> int:
    """How many predictions one of the two lists lacks, or has with another score."""
    apart, said = SCORES_APART[spec.precision], {each.id: each for each in again}
    agreeing = 0
    for each in stored:
        other = said.get(each.id)
        if other is not None and other.prediction == each.prediction:
            agreeing += math.isclose(each.score, other.score, rel_tol=apart, abs_tol=apart)
    return max(len(stored), len(again)) - agreeing
