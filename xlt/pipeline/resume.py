"""The checkpoints of a training that is under way: folders beside the run's own, each whole or not there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError

from xlt.errors import DataFault
from xlt.files import publish, write_text
from xlt.frozen import Frozen
from xlt.pipeline.provenance import environment
from xlt.pipeline.store import check_folder, write_manifest
from xlt.runtime import device
from xlt.stopping import stop_request
from xlt.strict_json import read_json, reason
from xlt.train.engine import Engine, EngineSettings
from xlt.train.loop import BestCheckpoint, StepRecord
from xlt.train.state import load_state, save_state

NEWEST = 2
"""How many are there while a training runs, so that one is left if the newest is damaged."""
MADE_BY = "made-by.json"
KEPT = "checkpoints"
GRACE_SECONDS = 6.0
"""Of the ten that `docker stop` gives."""


class MadeBy(Frozen):
    """What wrote a checkpoint."""

    world_size: int
    """How many processes shared the training."""
    zero: str
    """The ZeRO stage."""
    engine: str
    """What computed the steps."""
    accumulation: int
    """The micro-batches of a step."""
    commit: str
    """The commit of xlt."""
    device: str
    """The accelerator, or ``cpu``."""
    numerics: str
    """How the CPU computed."""
    cpu_threads: int
    """The CPU threads of torch."""
    packages: dict[str, str]
    """The versions of the packages that matter to the numbers."""


_MADE_BY = TypeAdapter(MadeBy)


class RunCheckpoints:
    """The checkpoints of one run's training, in ``folder``: ``step-00000120`` is the state after 120 steps.

    One is written at intervals of time, and at a dev score and at the end if a tenth of one has passed. Process 0
    decides. A checkpoint is written under another name, brought to the disk with a manifest of its files' hashes,
    and then renamed; the newest one whose manifest holds is the one to go on from.
    """

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        self.folder = folder
        self.kept: Collection[int] = ()
        self.seconds = 0.0
        """How long all of them took."""
        self.size = 0
        """The bytes of the largest one."""
        self.resumed: list[dict[str, object]] = []
        """The step that training went on from, and what had changed since the checkpoint was written."""
        self.begin = 0
        """The step that training goes on from, the last of those that it tells again."""
        self.settings = settings
        """How the training is computed; a device that is short of memory changes it."""
        self._rank, self._world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._last, self._longest = time.monotonic(), 0.0
        self._best: Path | None = None  # the newest checkpoint that holds the best weights, and their step
        self._best_step = 0

    def resume(self, engine: Engine, best: BestCheckpoint) -> list[StepRecord]:
        """See ``Checkpoints``.

        Another number of processes, ZeRO stage or engine goes on from it too: the batches are the same.

        Raises:
            DataFault: its files are whole, and not the state of this training.
        """
        self.begin = found = self._agreed(self._newest() if self._rank == 0 else 0)
        if not found:
            return []
        place = self._place(found)
        self._note_changes(found, place)
        try:
            records = [StepRecord(**each) for each in load_state(place, engine, best, self._rank)]
        except (OSError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, SafetensorError) as error:
            what = f"The checkpoint '{place.name}' of '{self.folder.name}' is no state of this training."
            raise DataFault(what, why=f"{reason(error)}.", fix=f"rm -r '{place}'") from error
        self._best, self._best_step = place, best.step
        return records

    def offer(self, engine: Engine, best: BestCheckpoint, records: Sequence[StepRecord], *, milestone: bool) -> bool:
        """See ``Checkpoints``."""
        step = records[-1].step
        passed = time.monotonic() - self._last
        due = step in self.kept or passed >= self.settings.checkpoint_seconds / (10 if milestone else 1)
        stop = stop_request.asked
        # Who asks to stop may not wait: without the time for another one the last checkpoint stands.
        fits = stop and self._longest <= GRACE_SECONDS
        answer = self._agreed(2 * stop + (due or fits))
        if answer & 1:
            self._write(engine, best, records)
        return answer >= 2

    def _write(self, engine: Engine, best: BestCheckpoint, records: Sequence[StepRecord]) -> None:
        began = time.monotonic()
        place = self._place(records[-1].step)
        temporary = place.with_name(f"{place.name}.tmp")
        if self._rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self._meet()
        written = self._best if best.weights is not None and best.step == self._best_step else None
        save_state(temporary, engine, best, records, self._rank, written)
        self._meet()
        if self._rank == 0:
            write_text(temporary / MADE_BY, self._made_by().model_dump_json(indent=1) + "\n")
            for path in temporary.rglob("*.safetensors"):  # the library's files are readable for their owner alone
                shutil.copymode(temporary / MADE_BY, path)
            write_manifest(temporary)
            shutil.rmtree(place, ignore_errors=True)
            publish(temporary, place)
            self.size = max(self.size, sum(path.stat().st_size for path in place.rglob("*") if path.is_file()))
            self._remove_old()
        self._best, self._best_step = place, best.step
        self._meet()
        self._last = time.monotonic()
        self.seconds += self._last - began
        self._longest = max(self._longest, self._last - began)

    def keep(self, steps: int) -> None:
        """Keep as many states as the settings say, spread over ``steps``.

        The start follows from the parent's model and the seed, and the end is the run's own model.
        """
        count = self.settings.keep_checkpoints
        self.kept = {step for part in range(1, count + 1) if 0 < (step := part * steps // (count + 1)) < steps}

    def move_kept(self, run: Path) -> None:
        """Move those that are kept into the folder of the run."""
        for step in sorted(self.kept):
            if self._place(step).is_dir():
                (run / KEPT).mkdir(exist_ok=True)
                self._place(step).rename(run / KEPT / self._place(step).name)

    def remove(self) -> None:
        """Remove all that are left: the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def provenance(self) -> dict[str, object]:
        """What a run's provenance says of its checkpoints."""
        found: dict[str, object] = {}
        if self.size:
            found["checkpoints"] = {"bytes": self.size, "seconds": round(self.seconds, 3)}
        if self.resumed:
            found["resumed"] = self.resumed
        return found

    def _steps(self) -> list[int]:
        """The steps of all that are there, the newest first."""
        names = [path.name.removeprefix("step-") for path in self.folder.glob("step-*") if path.is_dir()]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _newest(self) -> int:
        return next((step for step in self._steps() if check_folder(self._place(step)).state == "done"), 0)

    def _remove_old(self) -> None:
        for step in [step for step in self._steps() if step not in self.kept][NEWEST:]:
            shutil.rmtree(self._place(step), ignore_errors=True)

    def _place(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _made_by(self) -> MadeBy:
        its = environment()
        own = {name: its[name] for name in ("commit", "device", "numerics", "cpu_threads", "packages")}
        used = self.settings
        return MadeBy(world_size=self._world, zero=used.zero, engine=used.engine, accumulation=used.accumulation, **own)

    def _note_changes(self, step: int, place: Path) -> None:
        then, now = read_json(place / MADE_BY, _MADE_BY).model_dump(), self._made_by().model_dump()
        changed = {name: [value, now[name]] for name, value in then.items() if value != now[name]}
        self.resumed.append({"step": step, "changed": changed})

    def _agreed(self, value: int) -> int:
        """What process 0 says."""
        if self._world == 1:
            return value
        told = torch.tensor([value], device=device())
        torch.distributed.broadcast(told, 0)
        return int(told)

    def _meet(self) -> None:
        if self._world > 1:
            torch.distributed.barrier()
