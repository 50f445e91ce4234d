"""The whole state of a training after a step: with it, the same command goes on as if it had never stopped."""

from __future__ import annotations

import json
import random
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlt.runtime import device

if TYPE_CHECKING:
    from xlt.train.engine import Engine
    from xlt.train.loop import BestCheckpoint, StepRecord

STATE = "state.json"
BEST = "best.safetensors"
ENGINE = "engine.safetensors"


class Checkpoints(Protocol):
    """Where the loop leaves the state of a training, and finds the one that it goes on from."""

    kept: Collection[int]
    """The steps (1-based) whose states stay when the run is complete."""

    def keep(self, steps: int) -> None:
        """Choose the steps to be kept of a training of so many ``steps``."""

    def resume(self, engine: Engine, best: BestCheckpoint) -> list[StepRecord]:
        """Bring ``engine``, ``best`` and all generators to the newest whole checkpoint; the records up to it.

        Without a checkpoint nothing changes, and there are no records. Every process calls it.
        """

    def offer(self, engine: Engine, best: BestCheckpoint, records: Sequence[StepRecord], *, milestone: bool) -> bool:
        """Write the state after the last of ``records`` if it is time to; whether training was asked to stop there.

        ``milestone`` says that the model was scored at this step, or that training ends with it. Every process calls
        it.
        """


def save_state(
    folder: Path, engine: Engine, best: BestCheckpoint, records: Sequence[StepRecord], rank: int, written: Path | None
) -> None:
    """Write the state of a training into an empty folder: each process its own generators, process 0 the rest.

    ``written`` is an earlier checkpoint whose best weights are still the best: they are linked, not written again.
    """
    engine.save(folder)
    save_file(_generators(), folder / f"generators-{rank}.safetensors")
    if rank:
        return
    found = {"step": len(records), "best": best.state(), "records": [record.as_json() for record in records]}
    (folder / STATE).write_text(json.dumps(found) + "\n", "utf-8")
    if best.weights is None:
        return
    if written:
        try:
            (folder / BEST).hardlink_to(written / BEST)
        except OSError:  # a file system without links
            shutil.copyfile(written / BEST, folder / BEST)
    else:
        # A copy: tensors that share memory are refused.
        save_file({name: value.detach().to("cpu", copy=True) for name, value in best.weights.items()}, folder / BEST)


def load_state(folder: Path, engine: Engine, best: BestCheckpoint, rank: int) -> list[dict[str, Any]]:
    """Bring ``engine``, ``best`` and this process's generators to the state in ``folder``; its records as JSON."""
    found = json.loads((folder / STATE).read_text("utf-8"))
    engine.load(folder, found["step"])
    best.restore(found["best"], load_file(folder / BEST) if (folder / BEST).exists() else None)
    own = folder / f"generators-{rank}.safetensors"
    # All processes begin with the same generators: one that was not there takes those of process 0.
    _set_generators(load_file(own if own.exists() else folder / "generators-0.safetensors"))
    records: list[dict[str, Any]] = found["records"]
    return records


class TrainedParameter(NamedTuple):
    """A parameter as an optimiser sees it."""

    name: str
    """Its name in the model."""
    weight: Tensor
    """What the optimiser updates, fp32: the parameter, or its master where the parameter is rounded."""
    rounded: Tensor | None
    """The parameter, where it is rounded."""
    moments: dict[str, Tensor]
    """The optimiser's own tensors of it, which may be made at its first step."""


def save_optimizer(folder: Path, parts: Iterable[TrainedParameter]) -> None:
    """Write the weights and the moments of all parameters, by their names."""
    tensors: dict[str, Tensor] = {}
    for name, weight, _, moments in parts:
        for kind, value in [("weight", weight), *moments.items()]:
            # A copy: tensors that share memory are refused, and what was gathered from all processes is freed.
            tensors[f"{kind}/{name}"] = value.detach().to("cpu", copy=True)
    save_file(tensors, folder / ENGINE)


def stored_parameters(folder: Path) -> dict[str, dict[str, Tensor]]:
    """What ``save_optimizer`` wrote: of each parameter its ``weight`` and its moments."""
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in load_file(folder / ENGINE).items():
        kind, _, name = key.partition("/")
        found[name][kind] = value
    return found


@torch.no_grad()
def load_optimizer(folder: Path, parts: Iterable[TrainedParameter]) -> None:
    """Read what ``save_optimizer`` wrote into the tensors that are there, which a CUDA graph may hold."""
    found = stored_parameters(folder)
    for name, weight, rounded, moments in parts:
        weight.copy_(found[name].pop("weight"))
        if rounded is not None:
            rounded.copy_(weight)
        for kind, value in found[name].items():
            if kind in moments:
                moments[kind].copy_(value)
            else:
                moments[kind] = value.to(weight)


def _generators() -> dict[str, Tensor]:
    version, words, gauss = random.getstate()
    assert (version, gauss) == (3, None)
    legacy: Any = np.random.get_state()
    _, keys, place, *cached = legacy
    assert not any(cached)
    found = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words),
        "numpy": torch.from_numpy(np.append(keys.astype(np.int64), place)),
    }
    if device().type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device())
    return found


def _set_generators(found: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(found["torch"])
    random.setstate((3, tuple(found["python"].tolist()), None))
    *keys, place = found["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), place, 0, 0.0))
    if device().type == "cuda":
        torch.cuda.set_rng_state(found["cuda"], device())
