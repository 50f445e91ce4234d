"""How long runs take on a device: by rates that were measured there, or predicted from stated assumptions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from xlt.artifact import artifact_root, read_record
from xlt.frozen import Frozen
from xlt.pipeline.spec import Backbone
from xlt.tasks.record import Kind, Split

if TYPE_CHECKING:
    from xlt.pipeline.estimate import RunEstimate, ScoredRows
    from xlt.pipeline.grid import Grid
    from xlt.pipeline.spec import RunSpec

# The parts that the time of a grid has, in the order in which a run comes to them.
PARTS = ("encoding", "training", "dev", "saving", "evaluation", "retrieval")
BYTES_PER_PARAMETER = 4  # Models are stored in fp32.
STATE_TENSORS = 4  # A training's state: weights, two moments, and the best weights so far.
# The steps between which the share that products reach rises, in tokens.
SMALL_STEP, LARGE_STEP = 1000, 13_000
# A run writes its weights once and reads them to score them; they are hashed for its provenance, for its manifest, and
# by each run that starts from it, which reads them too: as often as there are runs, nearly.
PASSES = {"disk": 3, "hash": 4}
# Seconds by part; a part that nothing is known of is left out.
Seconds = dict[str, float]


@dataclass(frozen=True, slots=True)
class Hours:
    """How long a grid takes on one device without the runs of unknown size; None where nothing says how fast it is.

    Not in it: reading files, and verify and report at the end.
    """

    training: float | None
    """Hours of optimiser steps."""
    dev: float | None
    """Hours of scoring dev sets during the training; early stopping makes them fewer."""
    evaluation: float | None
    """Hours of predictions and scores after the training."""
    retrieval: float | None
    """Hours of sentence vectors, and of the search among them where it is predicted."""
    encoding: float | None
    """Hours of making tokens of text on one CPU thread."""
    saving: float | None
    """Hours of writing, reading and hashing models, and of what a training begins with."""
    floor: float | None = None
    """Hours of the products of the training steps alone at the full rate of the device, below which no code gets."""
    measured: tuple[str, ...] = ()
    """Which of these rest on rates that were measured on the device; the others are predicted from assumptions."""
    calibrated: bool = False
    """Whether the rates were measured now, on this machine."""
    gpu: bool = False
    """Whether the device is a GPU."""
    gpus: int = 0
    """How many GPUs ``on_gpus`` is of; 0 where nobody asked."""
    on_gpus: float | None = None
    """Hours of the whole grid on so many, a run on each at a time; None where one of the parts is not known."""

    @property
    def total(self) -> float | None:
        """All parts together; None where one is not known."""
        parts = [getattr(self, part) for part in PARTS]
        return None if None in parts else sum(parts)


class Rate(Frozen):
    """``artifact/measured/rate-*.json``: real tokens per second that a backbone reached on one device.

    ``xlt plan --calibrate --record`` writes it.
    """

    device: str
    """The model name of the GPU or of the processor."""
    threads: int = 0
    """The CPU threads of a run; 0 on a GPU."""
    backbone: str
    """The name of the backbone; empty for the one that phase 1 trains."""
    weights: int = 0
    """The weights of the matrices of its blocks; 0 where its name says how many they are."""
    engine: Literal["deepspeed", "graph"]
    """What computed the optimiser steps."""
    training: dict[Kind, float] = Field(min_length=1)
    """Tokens per second in training, by kind of task."""
    inference: float | None = None
    """Tokens per second of predictions."""
    encoding: dict[Kind, float] = {}
    """Tokens per second that one CPU thread makes of text, by kind of task."""
    gpu: bool = False
    """Whether the device is a GPU."""
    side_by_side: int = 1
    """How many runs reach these rates at once; phase 1 is always alone."""

    @property
    def where(self) -> str:
        """The device and what it did there, in words."""
        runs = "one run" if self.side_by_side == 1 else f"{self.side_by_side} runs"
        cpu = f", {self.threads} thread{'s' * (self.threads > 1)}, {runs} at a time" if self.threads else ""
        return f"{self.device}{cpu}, {self.engine} engine"

    def seconds(self, spec: RunSpec, run: RunEstimate) -> Seconds:
        """How long those parts of a run take that have rates."""
        found = {}
        if {*run.kinds} <= {*self.training}:
            found["training"] = run.work * sum(tokens / self.training[kind] for kind, tokens in run.kinds.items())
        if {*run.encoded} <= {*self.encoding}:
            found["encoding"] = sum(tokens / self.encoding[kind] for kind, tokens in run.encoded.items())
        if self.inference is not None:
            mined = run.scored["retrieval"].tokens if "retrieval" in run.scored else 0
            found["dev"] = (run.dev_tokens or 0) / self.inference
            found["evaluation"] = ((run.evaluation_tokens or 0) - mined) / self.inference
            found["retrieval"] = mined / self.inference
        return found


class Stated(Frozen):
    """A number that predictions rest on."""

    value: float = Field(ge=0)
    """The number, in the unit that the file names."""
    source: str = Field(min_length=1)
    """Where it is from."""


class MinedSizes(Frozen):
    """How many sentences of either side are mined."""

    source: str
    """Where the numbers are from."""
    dev: dict[str, tuple[int, int]]
    """The foreign and the English sentences of the dev sets, by language."""
    test: dict[str, tuple[int, int]]
    """The same of the test sets."""

    def of(self, split: Split, language: str) -> tuple[int, int]:
        """The sentences of a set on either side."""
        return (self.dev if split == "dev" else self.test)[language]


class Assumptions(Frozen):
    """``artifact/expected/hours-*.toml``: what hours on a device are predicted from until somebody has timed it there.

    The file says what each number is, and in which unit.
    """

    device: str
    backbone: str
    products: Stated
    small_share: Stated
    large_share: Stated
    inference_share: Stated
    token_seconds: Stated
    gap_seconds: Stated
    optimizer_seconds: Stated
    operations: Stated
    operation_seconds: Stated
    reads: Stated
    read_seconds: Stated
    pass_seconds: Stated
    search: Stated
    disk: Stated
    hash: Stated
    start_seconds: Stated
    encoding: dict[Kind, Stated]
    row_seconds: dict[Kind, Stated]
    mined: MinedSizes

    def seconds(self, spec: RunSpec, run: RunEstimate, *, engine: str) -> Seconds:
        """How long each part of a run takes with that engine."""
        weights, (layers, width, _) = block_weights(spec.backbone), shape(spec.backbone)
        mined = run.scored.get("retrieval")
        retrieval = 0.0
        if mined:
            # Both ways, a product and a sum for each number of a vector.
            found = 4 * width * mined.pairs / self.search.value
            retrieval = spec.backbone.retrieval_layer / layers * self._read("retrieval", mined, weights) + found
        return {
            **self.host_seconds(spec, run),
            "training": sum(
                steps * self.step_seconds(run.kinds[kind] / steps, weights, engine, run.work)
                for kind, steps in run.steps.items()
            ),
            "dev": run.dev_scores * sum(self._read(kind, each, weights) for kind, each in run.dev.items()),
            "evaluation": sum(self._read(*each, weights) for each in run.scored.items() if each[0] != "retrieval"),
            "retrieval": retrieval,
        }

    def host_seconds(self, spec: RunSpec, run: RunEstimate) -> Seconds:
        """How long the parts take that need no accelerator."""
        pairs = self.encoding["pair_classification"]
        rates = {kind: self.encoding.get(kind, pairs).value for kind in run.encoded}
        _, width, vocabulary = shape(spec.backbone)
        size = BYTES_PER_PARAMETER * (block_weights(spec.backbone) + vocabulary * width)
        moved = size * (PASSES["disk"] / self.disk.value + PASSES["hash"] / self.hash.value)
        return {
            "encoding": sum(tokens / rates[kind] for kind, tokens in run.encoded.items()),
            "saving": moved + self.start_seconds.value if spec.train else 0.0,
        }

    def step_seconds(self, tokens: float, weights: int, engine: str, work: float = 1.0) -> float:
        """How long an optimiser step on so many tokens takes, whose passes are so much ``work`` in standard ones."""
        along = math.log(min(max(tokens, SMALL_STEP), LARGE_STEP) / SMALL_STEP) / math.log(LARGE_STEP / SMALL_STEP)
        share = self.small_share.value + along * (self.large_share.value - self.small_share.value)
        products = 6 * weights * tokens / (self.products.value * share)
        passes = products + tokens * self.token_seconds.value + self.gap_seconds.value
        device = work * passes + self.optimizer_seconds.value
        # Without a graph the device waits for the host, which issues one operation after another.
        host = work * self.operations.value * self.operation_seconds.value
        host += self.reads.value * self.read_seconds.value
        return max(device, host) if engine == "deepspeed" else device

    def _read(self, kind: Kind, rows: ScoredRows, weights: int) -> float:
        products = 2 * weights * rows.tokens / (self.products.value * self.inference_share.value)
        of_row = self.row_seconds[kind].value if kind in self.row_seconds else 0.0
        return products + rows.passes * self.pass_seconds.value + rows.rows * of_row


def read_assumptions() -> list[Assumptions]:
    """All of them, by device; ``EnvironmentFault`` for a damaged file."""
    return [
        read_record(Assumptions, *path.parts[-2:]) for path in sorted(artifact_root().glob("expected/hours-*.toml"))
    ]


def all_hours(
    backbone: Backbone,
    rates: Sequence[tuple[Rate, bool]],
    grid: Grid,
    runs: Sequence[RunEstimate],
    *,
    by_size: bool,
    gpus: int = 0,
) -> dict[str, Hours]:
    """The time of ``grid`` by each of the rates (with whether it was measured now) of that backbone, and by assumptions
    about devices that none of them is of. ``by_size`` and ``gpus`` as in ``estimate``."""
    assumed = read_assumptions()
    found: dict[str, Hours] = {}
    for rate, now in _rates_of(backbone, rates, by_size=by_size):
        own = _repository(rate.backbone) == _repository(backbone.name)
        measured = [rate.seconds(*each) for each in zip(grid.runs, runs, strict=True)]
        hosts = [assumed[0].host_seconds(*each) if assumed else {} for each in zip(grid.runs, runs, strict=True)]
        seconds = [{**host, **its} for host, its in zip(hosts, measured, strict=True)]
        found[f"{rate.where}{', calibrated now' if now else ''}"] = _hours(
            seconds,
            [1 if spec.phase == "pretrain" else rate.side_by_side for spec in grid.runs],
            measured=tuple(part for part in PARTS if own and all(part in its for its in measured)),
            calibrated=now,
            gpu=rate.gpu,
            **_on_gpus(grid.runs, seconds, gpus if rate.gpu else 0),
        )
    timed = {rate.device for rate, _ in rates if _repository(rate.backbone) == _repository(backbone.name)}
    for each in assumed if {spec.backbone.name for spec in grid.runs} == {backbone.name} else ():
        if each.device in timed or _repository(each.backbone) != _repository(backbone.name):
            continue
        operations = 6 * block_weights(backbone) * sum(run.tokens or 0 for run in runs)
        for engine in ("graph", "deepspeed"):
            seconds = [each.seconds(*its, engine=engine) for its in zip(grid.runs, runs, strict=True)]
            floor = operations / each.products.value / 3600
            several = _on_gpus(grid.runs, seconds, gpus)
            found[f"{each.device}, {engine} engine, predicted"] = _hours(
                seconds, [1] * len(runs), floor=floor, gpu=True, **several
            )
    return found


def _on_gpus(runs: Sequence[RunSpec], seconds: Sequence[Seconds], gpus: int) -> dict[str, Any]:
    whole = all({*PARTS} <= {*its} for its in seconds)
    took = makespan(runs, [sum(its.values()) for its in seconds], gpus) if whole and gpus else None
    return {"gpus": gpus, "on_gpus": None if took is None else took / 3600}


def makespan(runs: Sequence[RunSpec], seconds: Sequence[float], devices: int) -> float:
    """Seconds until all runs are made as the executor makes them: in their order, each when the run that it starts from
    is done and a device is free, and phase 1 before all others."""
    now, waiting, busy = 0.0, [*zip(runs, seconds, strict=True)], list[tuple[float, str]]()
    unfinished = {run.hash for run in runs}
    while waiting or busy:
        ready = [each for each in waiting if each[0].parent not in unfinished]
        alone = 1 if ready and ready[0][0].phase == "pretrain" else devices
        for each in ready[: max(0, alone - len(busy))]:
            waiting.remove(each)
            heappush(busy, (now + each[1], each[0].hash))
        now, done = heappop(busy)
        unfinished.remove(done)
    return now


def _hours(seconds: Sequence[Seconds], at_once: Sequence[int], **facts: Any) -> Hours:
    def total(part: str) -> Any:
        if not all(part in its for its in seconds):
            return None
        return sum(its[part] / n for its, n in zip(seconds, at_once, strict=True)) / 3600

    return Hours(**{part: total(part) for part in PARTS}, **facts)


def _rates_of(backbone: Backbone, rates: Sequence[tuple[Rate, bool]], *, by_size: bool) -> Iterator[tuple[Rate, bool]]:
    """The rates of that model; with ``by_size`` those of others in proportion, where it has none."""
    own = [(rate, now) for rate, now in rates if _repository(rate.backbone) == _repository(backbone.name)]
    yield from own
    for rate, now in rates if by_size and not own else ():
        known = rate.weights or block_weights(Backbone(name=rate.backbone))
        if known and (size := block_weights(backbone)):
            changes = {
                "device": f"{rate.device} (predicted by size from {_told(rate.backbone)})",
                "training": {kind: value * known / size for kind, value in rate.training.items()},
                "inference": rate.inference and rate.inference * known / size,
            }
            yield rate.model_copy(update=changes), now


def _told(backbone: str) -> str:
    return "another model" if backbone.startswith("folder:") else backbone


def _repository(name: str) -> str:
    from xlt.data.hub.table import hub_model

    return hub_model(name).repository


def shape(backbone: Backbone) -> tuple[int, int, int]:
    """The layers, the width and the vocabulary of an encoder; zeros where they are not known."""
    from xlt.data.hub.table import hub_model

    model = hub_model(backbone.name)
    sizes: Mapping[str, int | float] = model.config if backbone.name else backbone.config
    vocabulary = sizes.get("vocab_size") or model.pieces or backbone.vocabulary
    layers = sizes.get("num_hidden_layers") or sizes.get("n_layer", 0)  # BLOOM's
    return int(layers), int(sizes.get("hidden_size", 0)), int(vocabulary)


def block_weights(backbone: Backbone) -> int:
    """The weights of the matrices of an encoder's blocks, which nearly all computing is; 0 if they are not known."""
    layers, width, _ = shape(backbone)
    return weights_of(layers, width)


def weights_of(layers: int, width: int) -> int:
    """The weights of the matrices of so many blocks."""
    # Of a block 4 matrices of attention, and 2 that widen four times and narrow again.
    return 12 * layers * width**2
