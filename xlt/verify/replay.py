"""Training again: pieces of trainings, drawn at random, must give the weights and the log that are stored."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor

from xlt.data.encodings import encodings_folder, keeping
from xlt.data.source import Source
from xlt.errors import EnvironmentFault, XltError
from xlt.pipeline.provenance import environment
from xlt.pipeline.resume import KEPT
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import Provenance, RunStore, describe, listed_digests, listed_weights, weight_digests
from xlt.pipeline.training import load_model, train_run
from xlt.printable import counted
from xlt.runtime import start_process_group
from xlt.stopping import stop_request
from xlt.strict_json import read_json, reason
from xlt.train.engine import Engine, EngineSettings
from xlt.train.loop import BestCheckpoint, StepRecord
from xlt.train.seeding import deterministic
from xlt.train.state import ENGINE, STATE, load_state, save_state
from xlt.verify.checks import Replay
from xlt.verify.log import Log, Step, read_log
from xlt.verify.recheck import find_model
from xlt.verify.stored import GridFile, Problem, StoredRun
from xlt.verify.trainings import OTHER_DATA, Examples, OtherData

# Another platform rounds otherwise from the first step on, and training carries that along. In fp32, between portable,
# native and fast numerics (artifact/LOG.md, 2026-11-30), losses differed by less than 1e-6 of themselves in the first
# 100 steps and by 1e-4 in 200, weights by 0.1 % of their way, and by 0.4 % over 10 steps of a tiny model; after 300
# steps both went ways of their own. Another seed, or fewer steps, take weights ten times as far (the tests of this).
CLOSE_STEPS = 100
WEIGHTS_APART = 0.05
LOSSES_APART = 0.01
SHARING = {"world_size", "zero", "engine", "accumulation"}
FORGED_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)
"""For these shares of forged stretches a report says how likely one of them is drawn."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The steps ``begin`` + 1 to ``end`` of a run's training, between two states that are known.

    A training begins with its parent's model and its seed, and ends with the model of the run.
    """

    run: StoredRun
    begin: int
    end: int
    log: Log
    """That of the whole training."""

    @property
    def seconds(self) -> float:
        """About how long its steps took where the run was made; NaN if the run does not say.

        Of a run that did not time its steps it is their part of the whole training, loading and compilation included.
        """
        made, steps = self.run.provenance, self.end - self.begin
        if made is None:
            return math.nan
        if made.seconds_per_step is not None:
            return made.seconds_per_step * steps
        return made.seconds.get("train", math.nan) * steps / len(self.log.lines)

    @property
    def words(self) -> str:
        """What it is called."""
        return f"steps {self.begin + 1} to {self.end}"


def chance_of_finding(of: int, drawn: int, forged: int) -> float:
    """The probability that at least one of ``forged`` stretches is among ``drawn`` of ``of``, all equally likely."""
    return 1 - math.comb(of - forged, drawn) / math.comb(of, drawn)


def replay(
    store: RunStore,
    grid: GridFile,
    runs: Sequence[StoredRun],
    examples: Examples,
    count: int,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[Replay | None, list[Problem], list[str]]:
    """Train ``count`` stretches again, drawn with ``seed`` from those of all runs, and compare.

    Returns what was done (None if nothing can be), what contradicts it, and what cannot be trained again, in words.
    ``tell`` is told what comes next.
    """
    problems, stretches, left_out = list[Problem](), list[Stretch](), dict[str, int]()
    for run in runs:
        if run.spec is None or not run.spec.train:
            continue
        problems += _other_records(store, grid, run)
        if why := _cannot(store, examples, run, runs):
            left_out[why] = left_out.get(why, 0) + 1
        else:
            stretches += stretches_of(store, run)
    words = [f"training of {counted(number, 'run')}, not made again: {why}" for why, number in left_out.items()]
    if not stretches:
        return None, problems, words
    drawn = sorted(Random(seed).sample(range(len(stretches)), min(count, len(stretches))))
    chosen = [stretches[place] for place in drawn]
    tell(f"Training {len(chosen)} of {len(stretches)} stretches again, {_cost(chosen)}.")
    found = []
    for each in chosen:
        tell(f"  {each.run.entry.folder}: {each.words}")
        found.append(_compared(store, examples.source, each, runs))
    if rest := len(stretches) - len(chosen):
        words.append(f"training: the other {rest} of {len(stretches)} stretches were not made again (--replay N)")
    done = Replay(
        stretches=len(chosen),
        of=len(stretches),
        steps=sum(each.steps for each in found),
        only_begun=sum(each.only_begun for each in found),
        identical=sum(each.identical for each in found),
        apart=apart if math.isfinite(apart := max(each.apart for each in found)) else None,
        platforms=tuple(dict.fromkeys(each.platform for each in found if each.platform)),
        seed=seed,
        chances={
            f"{share:g}": chance_of_finding(len(stretches), len(chosen), math.ceil(share * len(stretches)))
            for share in FORGED_SHARES
        },
    )
    for stretch, compared in zip(chosen, found, strict=True):
        folder, where, fix = stretch.run.entry.folder, stretch.words, grid.command
        problems += [Problem(kind="replay", run=folder, where=where, what=what, fix=fix) for what in compared.wrong]
    return done, problems, words


def _cost(chosen: Sequence[Stretch]) -> str:
    """How many steps they have, and what is known of their time, in words."""
    steps, seconds = sum(each.end - each.begin for each in chosen), sum(each.seconds for each in chosen)
    if math.isnan(seconds):
        return counted(steps, "step")
    timed = all(each.run.provenance and each.run.provenance.seconds_per_step is not None for each in chosen)
    share = "loading and compilation not counted" if timed else "with their part of loading and compilation"
    return f"{counted(steps, 'step')}: {math.ceil(seconds)} seconds where they were made, {share}"


def stretches_of(store: RunStore, run: StoredRun) -> Iterator[Stretch]:
    """The stretches of a training, from one kept state to the next: the whole training where none was kept."""
    folder = store.path(run.entry.folder)
    if log := read_log(folder):
        ends = [step for step in sorted(_kept(folder)) if 0 < step < len(log.lines)]
        for begin, end in zip([0, *ends], [*ends, len(log.lines)], strict=True):
            yield Stretch(run, begin, end, log)


def _kept(folder: Path) -> dict[int, Path]:
    """The kept states of a run's training by their steps; a whole manifest lists each of their files."""
    names = {path.name.removeprefix("step-"): path for path in (folder / KEPT).glob("step-*")}
    return {int(name): path for name, path in names.items() if name.isdecimal() and (path / STATE).is_file()}


def _cannot(store: RunStore, examples: Examples, run: StoredRun, runs: Sequence[StoredRun]) -> str:
    """Why a run cannot be trained again here; empty if it can."""
    made = run.provenance
    assert run.spec is not None
    if made is None or made.accumulation is None or made.zero is None:
        return "their provenance does not say how they were computed"
    if made.diverged:
        return "they diverged, and no model came of them"
    if made.zero != "0" or made.world_size != 1:
        return "several processes shared them, or ZeRO divided their states"
    if SHARING & _changed(made):
        return "what shared their work changed in the middle of them, memory having run out or by request"
    if run.spec.precision == "bf16" and difference(made):
        return "they are of bf16, and what the rounding of another platform does to that was not measured"
    if difference(made) and not (store.path(run.entry.folder) / "model" / "config.json").is_file():
        return "their models were left out, and hashes of them tell something on the same platform alone"
    if (run.spec.parent or run.spec.backbone.name) and _starting_model(store, run.spec, runs) is None:
        given = " (--model FOLDER)" if run.spec.backbone.name.startswith("folder:") else ""
        return f"the model that they start from is not here{given}"
    try:
        examples.check(run.spec)
    except OtherData:
        return OTHER_DATA.rstrip(".")
    except XltError as fault:
        return fault.what
    return ""


def _starting_model(store: RunStore, spec: RunSpec, runs: Sequence[StoredRun]) -> Path | None:
    """The folder of the model that a training starts from; None for one made on the spot, or if it is not here."""
    if not spec.parent and not spec.backbone.name:
        return None
    return find_model(store, spec.model_copy(update={"train": ()}), runs)


def _other_records(store: RunStore, grid: GridFile, run: StoredRun) -> Iterator[Problem]:
    """Problems for kept states that tell of other steps than the log does."""
    folder = store.path(run.entry.folder)
    log = read_log(folder)
    for step, place in sorted(_kept(folder).items()):
        what = ""
        try:
            records = read_json(place / STATE, _RECORDS)["records"]
            steps = [Step.model_validate(record) for record in records]
            if log and steps != [*log.lines[:step]]:
                what = "The state that was kept tells of other steps than log.jsonl."
        except (XltError, KeyError, TypeError, ValueError) as error:
            what = f"The state that was kept cannot be read: {reason(error)}."
        if what:
            yield Problem(
                kind="replay", run=run.entry.folder, where=f"{KEPT}/{place.name}", what=what, fix=grid.command
            )


_RECORDS = TypeAdapter(dict[str, Any])


class _EndOfStretchError(Exception):
    """Ends a training at the end of a stretch."""


class _StretchCheckpoints:
    """Begins a training at a kept state, if one is given, and ends it after a step, with its state in ``folder``."""

    def __init__(self, begin: Path | None, end: int | None, folder: Path) -> None:
        self.kept: Collection[int] = () if end is None else (end,)
        self.before: dict[str, Tensor] = {}
        self.after: dict[str, Tensor] = {}
        self.folder = folder
        self._begin = begin

    def keep(self, steps: int) -> None:
        """See ``Checkpoints``."""

    def resume(self, engine: Engine, best: BestCheckpoint) -> list[StepRecord]:
        """See ``Checkpoints``."""
        records = [StepRecord(**each) for each in load_state(self._begin, engine, best, 0)] if self._begin else []
        self.before = engine.weights()
        return records

    def offer(self, engine: Engine, best: BestCheckpoint, records: Sequence[StepRecord], *, milestone: bool) -> bool:
        """See ``Checkpoints``."""
        if records[-1].step in self.kept:
            self.after = engine.weights()
            self.folder.mkdir()
            save_state(self.folder, engine, best, records, 0, None)
            raise _EndOfStretchError
        return stop_request.asked


@dataclass(frozen=True, slots=True)
class _Compared:
    """A stretch that was made again beside what is stored."""

    wrong: tuple[str, ...]
    steps: int = 0
    platform: str = ""
    """In what this platform differs from that of the run; empty if in nothing."""
    identical: bool = False
    apart: float = 0.0
    """How far the weights are from those stored, as a share of the way that the stretch moved them."""
    only_begun: bool = False
    """Whether only its first steps were made."""


def _compared(store: RunStore, source: Source, stretch: Stretch, runs: Sequence[StoredRun]) -> _Compared:
    try:
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            threads = torch.get_num_threads()
            stack.callback(torch.set_num_threads, threads)
            return _made_again(store, source, stretch, runs, scratch)
    except (EnvironmentFault, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # as in predicting again: what others wrote makes any part of any library fail
        return _Compared((f"They cannot be made again ({type(error).__name__}: {reason(error)}).",))


def _made_again(
    store: RunStore, source: Source, stretch: Stretch, runs: Sequence[StoredRun], scratch: Path
) -> _Compared:
    run, made = stretch.run, stretch.run.provenance
    spec = run.spec
    assert spec is not None
    assert made is not None
    deterministic(True)
    start_process_group()
    if made.cpu_threads:
        torch.set_num_threads(made.cpu_threads)  # the order of sums depends on it
    folder = store.path(run.entry.folder)
    kept, platform = _kept(folder), difference(made)
    model = _starting_model(store, spec, runs)
    settings = EngineSettings(precision=spec.precision, accumulation=made.accumulation or 1, engine=spec.engine)
    records: list[StepRecord] = []
    # The last stretch ends as the training does: with the model, whatever state lies beside it.
    end = stretch.end if stretch.end < len(stretch.log.lines) else None
    if only_begun := bool(platform) and stretch.end - stretch.begin > CLOSE_STEPS:
        end = stretch.begin + CLOSE_STEPS
    checkpoints = _StretchCheckpoints(kept.get(stretch.begin), end, scratch / "state")
    with keeping(encodings_folder() if spec.backbone.name else None):
        try:
            ended = train_run(
                spec, model, source, scratch / "model", settings, lambda record, _: records.append(record), checkpoints
            )
        except _EndOfStretchError:
            ended = None
    new = [Step(**each.as_json()) for each in records[stretch.begin :]]
    old = stretch.log.lines[stretch.begin : end or stretch.end]
    wrong = [*_other_steps(old, new, exact=not platform)]
    if only_begun:
        return _Compared(tuple(wrong), len(new), platform, only_begun=True)
    if ended is None:
        place = kept[stretch.end].name
        own = {f"{KEPT}/{place}/{path.name}": describe(path)["sha256"] for path in checkpoints.folder.iterdir()}
        listed = {name: digest for name, digest in listed_digests(folder).items() if name in own}
        after = checkpoints.after
    else:
        assert ended.trained is not None
        ended.model.save(str(scratch / "model"), state_dict=ended.trained.weights)
        own, listed = weight_digests(scratch / "model"), listed_weights(folder)
        after = ended.trained.weights
    same, apart = own == listed, 0.0
    if not same:  # the stored weights need not be here where their hashes are enough
        state = kept[stretch.end] / ENGINE if ended is None else None
        stored = _weights(state) if state else dict(load_model(folder / "model")[0].named_parameters())
        apart = _apart(checkpoints.before, after, stored)
    if apart > WEIGHTS_APART or not (same or platform):
        how = "" if platform else " on the same platform"
        wrong.append(f"Made again{how}, they give other weights, {apart:.3g} of the way from those stored.")
    return _Compared(tuple(wrong), len(new), platform, same and not wrong, apart)


def _weights(path: Path) -> dict[str, Tensor]:
    """The weights among an optimiser's tensors."""
    return {name.removeprefix("weight/"): each for name, each in load_file(path).items() if name.startswith("weight/")}


@torch.no_grad()
def _apart(before: Mapping[str, Tensor], after: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> float:
    """The distance between two ends of a stretch, as a share of the distance between its begin and the one stored."""
    if after.keys() != stored.keys() or any(stored[name].shape != each.shape for name, each in after.items()):
        return math.inf
    between = math.hypot(*(float((each - stored[name]).norm()) for name, each in after.items()))
    # A training that has only the rows of the vocabulary that it reads ends with all of them.
    same = [name for name, each in before.items() if each.shape == stored[name].shape]
    moved = math.hypot(*(float((stored[name] - before[name]).norm()) for name in same))
    return between / moved if math.isfinite(between) and moved else math.inf


def _other_steps(old: Sequence[Step], new: Sequence[Step], *, exact: bool) -> Iterator[str]:
    """The first step that the log tells otherwise."""
    for one, other in zip_longest(old, new):
        if one is None or other is None:
            yield f"Made again, training goes {'on after' if one is None else 'only to'} step {(one or other).step}."
            return
        same = one == other if exact else _alike(one, other)
        if not same:
            yield (
                f"By log.jsonl the loss of step {one.step} is {one.loss:.6g}; made again it is {other.loss:.6g}."
                if one.loss != other.loss
                else f"By log.jsonl step {one.step} is another than made again, its loss aside."
            )
            return


def _alike(one: Step, other: Step) -> bool:
    same = all(getattr(one, name) == getattr(other, name) for name in ("step", "task", "tokens", "examples"))
    return same and math.isclose(one.loss, other.loss, rel_tol=LOSSES_APART)


def _changed(made: Provenance) -> set[str]:
    """What was another at some checkpoint that a training went on from."""
    return {name for each in made.resumed for name in each.changed}


def difference(made: Provenance) -> str:
    """In what this platform differs from that of a run, as far as bits depend on it; empty if in nothing."""
    here, changed = environment(), _changed(made)
    names = ("commit", "device", "cuda", "packages", "numerics")
    differ = [name for name in names if name in changed or getattr(made, name) != here[name]]
    if here["device"] == "cpu" and here["numerics"] != "portable":
        # Even of one name: a virtual machine's often does not tell its instructions.
        differ.append("cpu")
    return ", ".join(differ)
