"""One run from start to manifest: training, then predictions of every split and language, and their metrics."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.encodings import encodings_folder, keeping
from xlt.data.perturbed import PerturbedSource, predicted_rows
from xlt.data.predictions import Prediction, write_predictions
from xlt.data.source import EVALUATED_SPLITS, Source, needs_dev
from xlt.errors import DivergedFault, UsageFault
from xlt.evaluate.metrics import Scored, score
from xlt.evaluate.predict import predict
from xlt.evaluate.worst_case import worst_case
from xlt.files import write_text
from xlt.model.encoder import PackedModel
from xlt.pipeline.memory import RegularTrim, peak_memory, release, reset_peak, train_in_parts
from xlt.pipeline.provenance import environment
from xlt.pipeline.resume import RunCheckpoints
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import METRICS, PROVENANCE, RunStore, StoredMetrics, prediction_name, weight_digests
from xlt.pipeline.training import TrainedModel, evaluation_tokens, load_model, train_run
from xlt.retrieval.embed import embed, encode_sentences
from xlt.retrieval.mining import mine_translations
from xlt.retrieval.ranking import rank
from xlt.retrieval.search import Progress as SearchProgress
from xlt.retrieval.search import Vectors, search_engine
from xlt.retrieval.tatoeba import retrieve
from xlt.runtime import device, start_process_group, stop_process_group
from xlt.tasks.record import Split, Task
from xlt.train.engine import EngineSettings
from xlt.train.loop import StepRecord


class Progress(Protocol):
    """Who is told how far a run is."""

    def step(self, record: StepRecord, steps: int) -> None:
        """One optimiser step of ``steps`` is done."""

    def cell(self, task: str, split: str, language: str) -> None:
        """The predictions for one task, split and language begin; in a long search, how far it is is told here too."""


def execute_run(
    spec: RunSpec,
    parent_model: Path | None,
    source: Source,
    store: RunStore,
    settings: EngineSettings,
    progress: Progress,
) -> None:
    """Train and score as ``spec`` says, into its folder of ``store``.

    In a process group of several all train, and only the first writes and scores. A training that diverges leaves its
    log and its provenance, which says so, and neither a model nor scores. What a public model's tokenizer makes
    of the rows is kept on the disk; one that was trained on the spot is rarely met again, and its sets are small.
    """
    start_process_group()
    settings = replace(settings, precision=spec.precision, engine=spec.engine)
    checkpoints = RunCheckpoints(store.path(f"{spec.folder}.checkpoints"), settings)
    with keeping(encodings_folder() if spec.backbone.name else None):
        if torch.distributed.get_rank() != 0:
            with tempfile.TemporaryDirectory() as tokenizer_folder:
                place = Path(tokenizer_folder)
                with suppress(DivergedFault):  # process 0 writes that down
                    train_run(spec, parent_model, source, place, settings, lambda *_: None, checkpoints)
            stop_process_group()
            return
        release()
        reset_peak()
        seconds: dict[str, float] = {}
        lap = partial(_lap, seconds, time.perf_counter())
        world = torch.distributed.get_world_size()
        with store.writing(spec) as folder:
            documents: dict[str, Any] = {}
            try:
                model, tokenizer, made = _train(
                    spec, parent_model, source, folder, settings, progress, lap, checkpoints
                )
                documents[METRICS] = score_run(spec, model, tokenizer, source, folder, progress.cell)
                lap("evaluate")
            except DivergedFault as fault:
                made = _given_up(fault, folder)
            documents[PROVENANCE] = {
                **environment(),
                "world_size": world,
                **asdict(settings),
                **made,
                "seconds": seconds,
                "peak_memory": peak_memory(),
                **_weights(folder, parent_model if spec.parent else None),
                **checkpoints.provenance(),
            }
            for name, document in documents.items():
                write_text(folder / name, json.dumps(document, indent=1, sort_keys=True) + "\n")
            checkpoints.move_kept(folder)
        checkpoints.remove()


def _given_up(fault: DivergedFault, folder: Path) -> dict[str, Any]:
    """What provenance says of a training that came to nothing; of its model nothing stays."""
    if torch.distributed.get_world_size() > 1:
        stop_process_group()
    shutil.rmtree(folder / "model", ignore_errors=True)
    return {"diverged": fault.what}


def _lap(seconds: dict[str, float], began: float, name: str) -> None:
    seconds[name] = round(time.perf_counter() - began - sum(seconds.values()), 3)


class _Pace:
    """How long a step takes, from the first one on of which the end was seen: what is compiled is not in it."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last = 0, 0.0

    def tell(self, step: int) -> None:
        """A step is done. One that was done before begins the count anew: the training had to go back to it."""
        self._last = step, time.perf_counter()
        if self._first is None or step <= self._first[0]:
            self._first = self._last

    def provenance(self) -> dict[str, float]:
        """What a run's provenance says of it; nothing where fewer than two steps were made."""
        if self._first is None or self._last[0] <= self._first[0]:
            return {}
        (first, began), (last, ended) = self._first, self._last
        return {"seconds_per_step": round((ended - began) / (last - first), 6)}


def _train(
    spec: RunSpec,
    parent_model: Path | None,
    source: Source,
    folder: Path,
    settings: EngineSettings,
    progress: Progress,
    lap: Callable[[str], None],
    checkpoints: RunCheckpoints,
) -> tuple[PackedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """Train as ``spec`` says, if it trains: the stored model and its tokenizer, and what its provenance says of it.

    ``lap`` is told the end of each stage.
    """
    trim, pace = RegularTrim(), _Pace()

    def attempt(settings: EngineSettings) -> TrainedModel:
        checkpoints.settings = settings
        with (folder / "log.jsonl").open("w", encoding="utf-8") as log:

            def on_step(record: StepRecord, steps: int) -> None:
                log.write(json.dumps(record.as_json()) + "\n")
                if record.step >= checkpoints.begin:  # those before are told again, for the log alone
                    progress.step(record, steps)
                    pace.tell(record.step)
                trim()

            return train_run(spec, parent_model, source, folder / "model", settings, on_step, checkpoints)

    result = train_in_parts(settings, spec.training_recipe().batch_size, attempt)
    if torch.distributed.get_world_size() > 1:
        # The others have nothing left to do; scoring may take longer than they would wait.
        stop_process_group()
    lap("train")
    model, tokenizer, trained = result.model, result.tokenizer, result.trained
    made: dict[str, Any] = {"packed": model.packed, "steps": trained.step if trained else 0}
    if trained is not None:
        made |= {"collapsed": trained.collapsed} if spec.collapse_after else {}
        made |= pace.provenance()
        if (parts := checkpoints.settings.accumulation) != settings.accumulation:
            made |= {"accumulation": parts, "accumulation_asked": settings.accumulation}
        model.save(str(folder / "model"), state_dict=trained.weights)
        tokenizer.save_pretrained(str(folder / "model"))
        # What is scored is what was stored; what trained it is given up first, so that both do not add up.
        del result, model, trained
        release()
        model, _ = load_model(folder / "model")
        lap("save")
    return model, tokenizer, made


def _weights(folder: Path, parent_model: Path | None) -> dict[str, dict[str, str]]:
    """What ties a run to its parent: the runs of two arms cannot be exchanged unseen."""
    own = weight_digests(folder / "model")
    parents = {"parent_weights": weight_digests(parent_model)} if parent_model else {}
    return {"weights": own, **parents}


def score_run(
    spec: RunSpec,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    folder: Path,
    on_cell: Callable[[str, str, str], None],
) -> StoredMetrics:
    """Predict and score everything the run evaluates; predictions are written below ``folder``.

    Returns the metrics in percent. ``on_cell`` is told the task, split and language that come next, and during a long
    search with the language how far it is.
    """
    search_engine()  # an unknown one is refused before anything is computed
    # The vectors of mining lie beside the folder until everything is scored: another attempt at the run begins with an
    # empty folder, and need not make them again.
    vectors = folder.with_name(f"{folder.name}.vectors")
    metrics: StoredMetrics = {}
    dev: dict[tuple[str, str], Scored] = {}
    (folder / "predictions").mkdir(exist_ok=True)
    model.compute_in(device(), spec.precision)
    for key, split, language in _cells(spec):
        on_cell(key, split, language)
        task = spec.task(key)
        rows = source.rows(task, split, language)
        told = partial(_tell_search, on_cell, key, split, language)
        ask = partial(predict_rows, spec, model, tokenizer, task, keep=vectors, progress=told)
        if isinstance(source, PerturbedSource) and source.perturbation.search:
            predictions = worst_case(rows, task, language, source.perturber(task, split, language), ask)
            rows = predicted_rows(source, task, split, language, rows, predictions)
        else:
            predictions = ask(rows)
        write_predictions(folder / prediction_name(key, split, language), predictions)
        if needs_dev(task, split) and (key, language) not in dev:
            raise UsageFault(
                f"'{key}' is scored with the threshold that is best on its dev split.",
                fix="Leave --split away, or add --split dev.",
            )
        values = score(task, rows, predictions, language, dev.get((key, language)))
        if split == "dev":
            dev[key, language] = rows, predictions
        metrics.setdefault(key, {}).setdefault(split, {})[language] = values
    shutil.rmtree(vectors, ignore_errors=True)
    return metrics


def _tell_search(
    on_cell: Callable[[str, str, str], None], key: str, split: str, language: str, what: str, done: int, of: int
) -> None:
    on_cell(key, split, f"{language}: {done} of {of} {what}")


def _cells(spec: RunSpec) -> Iterator[tuple[str, Split, str]]:
    """Every task, split and language that a run evaluates, as its ``data`` lists them: dev before test."""
    for name in spec.data:
        key, split, language = name.split("/")
        if key in spec.evaluate and split in EVALUATED_SPLITS:
            yield key, cast(Split, split), language


def predict_rows(
    spec: RunSpec,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Sequence[Any],
    *,
    keep: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> list[Prediction]:
    """What the run's model says about the rows of one task, split and language.

    Mining and ranking keep their vectors in the folder ``keep`` and tell their ``progress``: what is done, and how much
    of it.
    """
    tokens, where = evaluation_tokens(), device()
    if task.kind != "retrieval":
        return predict(model, rows, task, tokenizer, max_tokens=tokens, device=where)

    def vectors(texts: Sequence[str], keep: Path | None = None, progress: SearchProgress | None = None) -> Vectors:
        read = spec.backbone
        sequences = encode_sentences([read.prefix + text for text in texts], tokenizer, task.recipe.max_length)
        return embed(
            model,
            sequences,
            layer=read.retrieval_layer,
            pooling=read.pooling,
            max_tokens=tokens,
            device=where,
            keep=keep,
            progress=progress,
        )

    if task.metric == "mining_f1":
        return mine_translations(rows, partial(vectors, keep=keep), progress)
    if task.metric == "map20":
        # What is kept of the first language is the pool of the next.
        return rank(rows, partial(vectors, keep=keep), progress)
    return retrieve(rows, vectors)
