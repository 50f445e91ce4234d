"""Golden evidence: what a small trained model must give on any machine, and the first losses of every kind of training.

Scores of a whole training say little about another machine: rounding grows until, after a thousand steps, everything is
another draw. Here nothing has time to grow. A checkpoint in ``artifact/golden`` reads a fixed sample of each task, and
every training of the smoke tier takes its first steps from it (phase 1 from its own beginning), through the code that
makes the runs. What must come out was computed in fp64 by the library's own padded model and a plain loop
(``artifact/documents/golden.py``): neither packing nor DeepSpeed has a part in it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from xlt.artifact import RESTORE, artifact_root
from xlt.data.packing import PackedBatch, pack
from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow
from xlt.data.source import Source, evaluated
from xlt.model.encoder import PackedModel, inference
from xlt.pipeline.grid import Grid, GridBuilder
from xlt.pipeline.run import predict_rows
from xlt.pipeline.sources import LimitedSource, SourceOptions, open_source
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import read_tier, use_threads
from xlt.pipeline.training import Prepared, load_model, prepare
from xlt.retrieval.embed import encode_sentences
from xlt.runtime import device, start_process_group
from xlt.strict_json import read_json
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe, Split
from xlt.train.batches import StepShard
from xlt.train.engine import EngineSettings
from xlt.train.loop import StepRecord, train
from xlt.train.seeding import deterministic
from xlt.verify.evidence import Evidence, GoldenBatch, GoldenCell, GoldenCheck, GoldenStep

# fp32 against fp64. The largest differences seen on four kinds of processors, and the smallest that a fault makes, are
# in artifact/measured/golden.json: each tolerance lies between them, far from both.
# Of the predictions, 1 of 500 may be another one: two answers can be so close that rounding decides.
TOLERANCE = {"hidden states": 1e-5, "gradients": 1e-5, "losses": 1e-5, "scores": 1e-4, "predictions": 0.002}
ROWS = 40
LANGUAGES = ("en", "qaa", "qad", "qah")
PHASE_1_STEPS, STEPS = 40, 12


@cache
def golden_world() -> Source:
    """The constructed world, whatever the results are of."""
    return open_source(SourceOptions(name="world"))


def golden_folder() -> Path:
    """The checkpoint ``model`` and what it must give, ``evidence.json`` and ``states.safetensors``."""
    return artifact_root() / "golden"


def golden_grid() -> Grid:
    """The smoke tier's runs on the constructed world with seed 0."""
    return GridBuilder(read_tier("smoke"), golden_world(), seed=0, precision="fp32", fingerprints=False).grid()


def golden_trainings() -> list[RunSpec]:
    """One training of each kind: phase 1, both of phase 2, and each of the baseline's targets."""
    return [run for run in golden_grid().runs if run.train and (run.phase != "target" or run.arm == "baseline")]


def golden_start(spec: RunSpec, scratch: Path) -> tuple[Prepared, int]:
    """What a golden training starts from, the checkpoint or in phase 1 a fresh model, and how many steps it takes."""
    if spec.phase == "pretrain":
        return prepare(spec, None, golden_world(), scratch), PHASE_1_STEPS
    return prepare(spec, golden_folder() / "model", golden_world(), scratch), STEPS


def golden_schedule(start: Prepared, seed: int, rate: Callable[[Recipe, int, int], float]) -> tuple[GoldenBatch, ...]:
    """What steps from the first to the last of a training are made of; ``rate`` gives the learning rate of a step
    (0-based) of so many."""
    stream, steps = start.stream, start.stream.steps
    places = sorted({0, steps // 50, steps // 10, steps // 2, steps - steps // 10, steps - 1})
    rates = [rate(stream.recipe, place, steps) for place in places]
    return tuple(
        GoldenBatch(seed=seed, step=place + 1, learning_rate=each, examples=stream.digest(place))
        for place, each in zip(places, rates, strict=True)
    )


def golden_schedules(
    spec: RunSpec, start: Prepared, scratch: Path, rate: Callable[[Recipe, int, int], float]
) -> tuple[GoldenBatch, ...]:
    """The schedule of a training; of the shortest one that of another seed too."""
    found = golden_schedule(start, spec.seed, rate)
    if spec.train != ("udpos",):
        return found
    other = spec.model_copy(update={"seed": spec.seed + 1})
    return (*found, *golden_schedule(golden_start(other, scratch)[0], other.seed, rate))


def golden_cells() -> dict[str, RunSpec]:
    """The cells whose predictions are compared, ``task/split/language``, each with a run that has its recipe."""
    cells: dict[str, RunSpec] = {}
    for run in golden_grid().runs:
        for key in run.evaluate if run.arm in ("baseline", "multi") else ():
            scored = evaluated(get_task(key), golden_world())
            last = scored[-1][0]  # the test split, where there is one
            for language in (code for split, code in scored if split == last and code in LANGUAGES):
                cells.setdefault(f"{key}/{last}/{language}", run)
    return cells


def golden_predictions(
    run: RunSpec, cell: str, model: PackedModel, tokenizer: PreTrainedTokenizerBase
) -> list[Prediction]:
    """What a model with the checkpoint's heads predicts for the first rows of a cell."""
    key, split, language = cell.split("/")
    rows = LimitedSource(golden_world(), ROWS).rows(run.task(key), cast(Split, split), language)
    return predict_rows(run, model, tokenizer, run.task(key), rows)


def golden_batch(model: PackedModel, tokenizer: PreTrainedTokenizerBase) -> PackedBatch:
    """Sentences of all languages in one row: the hidden states of every block are compared on them."""
    task, world = get_task("tatoeba"), golden_world()
    rows = [row for code in world.languages(task, "test") for row in world.rows(task, "test", code)[:2]]
    texts = [row.foreign for row in rows if isinstance(row, BitextRow)]
    sequences = encode_sentences(texts, tokenizer, task.recipe.max_length)
    return pack(sequences, task=task.key, kind=task.kind, first_position=model.first_position)


def gradient_norms(model: PackedModel, batch: PackedBatch) -> dict[str, float]:
    """The norm of the gradient of one batch in each part of the model: embeddings, blocks, heads."""
    model.zero_grad(set_to_none=True)
    loss, _ = model(batch.to(model.device))
    loss.backward()
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            part = ".".join(name.split(".")[: 4 if ".layer." in name else 2])
            squares[part] = squares.get(part, 0.0) + float(parameter.grad.double().square().sum())
    model.zero_grad(set_to_none=True)
    return {part: math.sqrt(square) for part, square in squares.items()}


def check_golden() -> list[GoldenCheck]:
    """Compute all of it on this machine, in fp32, and compare.

    Raises:
        DataFault: the file of what must come out cannot be read.
    """
    evidence = read_json(golden_folder() / "evidence.json", TypeAdapter(Evidence), fix=RESTORE)
    deterministic(True)
    use_threads(1)
    start_process_group()
    parts: dict[str, Callable[[], Iterator[GoldenCheck]]] = {"the checkpoint": partial(_check_checkpoint, evidence)}
    parts |= {f"the training {spec.name}": partial(_check_training, evidence, spec) for spec in golden_trainings()}
    checks: list[GoldenCheck] = []
    for name, part in parts.items():
        try:
            checks += part()
        except Exception as error:  # whatever is broken is what is looked for
            what = f"it cannot be computed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            checks.append(GoldenCheck(name=name, holds=False, difference=None, tolerance=0.0, what=what))
    return checks


def _check_checkpoint(evidence: Evidence) -> Iterator[GoldenCheck]:
    model, tokenizer = load_model(golden_folder() / "model")
    model.compute_in(device(), "fp32")
    states, batch = load_file(golden_folder() / "states.safetensors"), golden_batch(model, tokenizer)
    if states.keys() != {str(layer) for layer in range(model.backbone.config.num_hidden_layers + 1)}:
        raise ValueError("states.safetensors does not hold the hidden states of every block")
    yield _check_storage(model)
    with inference(model, device()):
        for layer, wanted in enumerate(states[str(number)] for number in range(len(states))):
            found = model.hidden_states(batch.to(device()), layer).cpu()
            difference = _relative(found, wanted) if found.shape == wanted.shape else math.inf
            yield _check(f"hidden states of block {layer}", difference, "hidden states")
    cells, golden = golden_cells(), evidence.cells
    if cells.keys() != golden.keys():
        raise ValueError(f"the cells are others: {', '.join(sorted(cells.keys() ^ golden.keys())[:5])}")
    made = {cell: golden_predictions(run, cell, model, tokenizer) for cell, run in cells.items()}
    yield from _check_predictions(made, golden)


def _check_storage(model: PackedModel) -> GoldenCheck:
    """Weights that are saved and loaded are the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        again = PackedModel.load(folder).state_dict()
    other = [name for name, weight in model.state_dict().items() if not weight.cpu().equal(again[name])]
    what = f"{len(other)} weights are others, such as {other[0]}" if other else ""
    return GoldenCheck(
        name="storage of weights", holds=not other, difference=float(len(other)), tolerance=0.0, what=what
    )


def _check_predictions(found: dict[str, list[Prediction]], golden: dict[str, GoldenCell]) -> Iterator[GoldenCheck]:
    """The predictions of each task over all its cells, and how sure the model is of those that are the same."""
    for task in dict.fromkeys(cell.split("/")[0] for cell in golden):
        same, count, scores = 0, 0, 0.0
        for cell in (cell for cell in golden if cell.split("/")[0] == task):
            wanted, given = golden[cell], {each.id: each for each in found[cell]}
            count += max(len(wanted.ids), len(given))
            for id_, prediction, score in zip(wanted.ids, wanted.predictions, wanted.scores, strict=True):
                if id_ in given and given[id_].prediction == prediction:
                    same += 1
                    scores = max(scores, abs(given[id_].score - score) / max(1.0, abs(score)))
        yield _check(f"predictions of {task}", 1 - same / max(count, 1), "predictions")
        yield _check(f"scores of {task}", scores, "scores")


def _check_training(evidence: Evidence, spec: RunSpec) -> Iterator[GoldenCheck]:
    """The gradient of the first batch, then the first steps through the training loop and DeepSpeed."""
    golden = evidence.trainings[spec.name]
    with tempfile.TemporaryDirectory() as scratch:
        start, count = golden_start(spec, Path(scratch))
        schedule = golden_schedules(spec, start, Path(scratch), _rate)
    model = start.model.compute_in(device(), "fp32")
    model.train()
    norms, wanted = gradient_norms(model, start.stream.micro_batches(0, StepShard())[0]), evidence.gradients[spec.name]
    apart = max((abs(norms.get(part, 0.0) - norm) for part, norm in wanted.items()), default=math.inf)
    yield _check(f"gradients of {spec.name}", apart / max(wanted.values()), "gradients")
    records: list[StepRecord] = []

    def on_step(record: StepRecord) -> None:
        records.append(record)
        if len(records) == count:
            raise _Enough

    with suppress(_Enough):
        train(model, start.stream, EngineSettings(), on_step=on_step)
    what = _other_step(records, golden) or _other_batch(schedule, evidence.schedules[spec.name])
    yield GoldenCheck(
        name=f"batches of {spec.name}", holds=not what, difference=float(bool(what)), tolerance=0, what=what
    )
    yield _check(f"first losses of {spec.name}", _losses_apart(records, golden), "losses")


def _rate(recipe: Recipe, step: int, steps: int) -> float:
    return recipe.learning_rate * recipe.learning_rate_factor(step, steps)


def _other_batch(found: Sequence[GoldenBatch], golden: Sequence[GoldenBatch]) -> str:
    """The first step of the whole training that is made of something else."""
    if [(each.seed, each.step) for each in found] != [(each.seed, each.step) for each in golden]:
        return "it has another number of steps"
    for one, other in zip(found, golden, strict=True):
        where = f"in step {one.step} of seed {one.seed}"
        if one.examples != other.examples:
            return f"{where} the examples are {one.examples}, not {other.examples}"
        if not math.isclose(one.learning_rate, other.learning_rate, rel_tol=1e-9, abs_tol=1e-15):
            return f"{where} the learning rate is {one.learning_rate:g}, not {other.learning_rate:g}"
    return ""


class _Enough(Exception):
    """The first steps are done."""


def _check(name: str, difference: float, kind: str) -> GoldenCheck:
    tolerance, number = TOLERANCE[kind], math.isfinite(difference)
    holds = number and difference <= tolerance
    what = "" if holds else f"{kind} differ by {difference:.1e}, and {tolerance:.0e} is allowed"
    return GoldenCheck(
        name=name, holds=holds, difference=difference if number else None, tolerance=tolerance, what=what
    )


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).abs().max() / wanted.double().abs().max())


def _losses_apart(records: Sequence[StepRecord], golden: Sequence[GoldenStep]) -> float:
    apart = [abs(one.loss - other.loss) / abs(other.loss) for one, other in zip(records, golden, strict=False)]
    return max(apart) if len(records) == len(golden) and not any(map(math.isnan, apart)) else math.inf


def _other_step(records: Sequence[StepRecord], golden: Sequence[GoldenStep]) -> str:
    """The first step that is of another task, of other examples, or taken with another learning rate."""
    for one, other in zip(records, golden, strict=False):
        for name in ("task", "examples", "tokens"):
            if getattr(one, name) != getattr(other, name):
                return f"in step {one.step} the {name} are {getattr(one, name)}, not {getattr(other, name)}"
        if not math.isclose(one.learning_rate, other.learning_rate, rel_tol=1e-9):
            return f"in step {one.step} the learning rate is {one.learning_rate:g}, not {other.learning_rate:g}"
    return ""
