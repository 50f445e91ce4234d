"""Predicting again: what is stored as a model's predictions must be what the stored model says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from random import Random

import torch

from xlt.data.predictions import Prediction, read_predictions
from xlt.data.source import Source
from xlt.errors import EnvironmentFault, UsageFault, XltError
from xlt.pipeline.run import predict_rows
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, prediction_name
from xlt.pipeline.training import load_model
from xlt.runtime import device
from xlt.strict_json import reason
from xlt.train.seeding import deterministic
from xlt.verify.stored import CellKey, GridFile, Problem, StoredRun

# Another processor rounds differently, and a near tie then goes the other way.
LEAST_AGREEMENT = 0.98


def recheck(store: RunStore, source: Source, grid: GridFile, runs: Sequence[StoredRun], count: int) -> list[Problem]:
    """Predict ``count`` cells again from the stored models, taken evenly from all runs that have one, and compare.

    A cell whose predictions agree in less than 98 of 100 is a problem. Nothing is trained: a model that was trained
    wrongly is not found here.

    Raises:
        UsageFault: no model is stored.
    """
    deterministic(True)
    problems: list[Problem] = []
    folders = {
        run.entry.folder: folder for run in runs if run.spec and (folder := _model_folder(store, run.spec, runs))
    }
    if not folders:
        raise UsageFault(
            "There is no model here to predict again with.",
            why="The runs are missing, or their models were left out when the results were shipped.",
            fix=f"{grid.verify_command}, without --recheck",
        )
    for run, keys in _sample([run for run in runs if run.entry.folder in folders], count):
        for where, what in _differences(store, source, run, folders[run.entry.folder], keys):
            problems.append(Problem(kind="recheck", run=run.entry.folder, where=where, what=what, fix=grid.command))
    return problems


def _differences(
    store: RunStore, source: Source, run: StoredRun, folder: Path, keys: Sequence[CellKey]
) -> Iterator[tuple[str, str]]:
    """The cells of a run that the model in ``folder`` predicts otherwise or cannot predict, with what is wrong."""
    assert run.spec is not None
    where = ""
    try:
        model, tokenizer = load_model(folder)
        model.compute_in(device(), run.spec.precision)
        for key in keys:
            where = ".".join(key)
            try:
                task = run.spec.task(key[0])
                rows = source.rows(task, key[1], key[2])
                stored = read_predictions(store.path(run.entry.folder) / prediction_name(*key))
            except XltError:
                continue  # gold or predictions that cannot be read are a problem already
            agreement = _agreement(stored, predict_rows(run.spec, model, tokenizer, task, rows))
            if agreement < LEAST_AGREEMENT:
                yield where, f"The stored model says something else: {agreement:.0%} of the predictions agree."
    except (EnvironmentFault, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # A model, a tokenizer or a recipe that others wrote makes any part of any library fail, and the library of
        # tokenizers does it with an exception that is no Exception.
        yield where, f"The stored model cannot predict ({type(error).__name__}: {reason(error)})."


def _sample(runs: Sequence[StoredRun], count: int) -> Iterator[tuple[StoredRun, list[CellKey]]]:
    """The same cells each time: one after the other from each run, in a shuffled order."""
    random = Random("recheck")
    rounds = zip_longest(*(random.sample(run.cells, len(run.cells)) for run in runs))
    dealt = [(place, key) for keys in rounds for place, key in enumerate(keys) if key][:count]
    for place, run in enumerate(runs):
        if keys := [key for its, key in dealt if its == place]:
            yield run, keys


def _model_folder(store: RunStore, spec: RunSpec, runs: Sequence[StoredRun]) -> Path | None:
    """The folder of the model that made the predictions: the run's own, or the one it starts from; None if pruned."""
    own = spec.hash if spec.train else spec.parent
    folders = (store.path(run.entry.folder) / "model" for run in runs if run.entry.hash == own and run.spec)
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def _agreement(stored: Sequence[Prediction], again: Sequence[Prediction]) -> float:
    one, other = ({(each.id, each.prediction) for each in made} for made in (stored, again))
    return len(one & other) / max(len(one), len(other), 1)
