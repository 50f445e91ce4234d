"""``xlt bench checkpoint``: the state of a training written and read, beside DeepSpeed's own plain save of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from xlt.bench.shapes import Size, fresh_model, random_sequences
from xlt.bench.workload import Bench, Candidate, NotRun, bench, check_output, compare
from xlt.data.packing import pack
from xlt.pipeline.resume import RunCheckpoints
from xlt.runtime import start_process_group
from xlt.tasks.record import Recipe
from xlt.train.engine import DeepSpeedEngine, EngineSettings
from xlt.train.loop import BestCheckpoint, StepRecord

EXAMPLES = 8
RECIPE = Recipe(batch_size=EXAMPLES, steps=100)
OURS, PLAIN = "ours", "DeepSpeed's save_checkpoint and load_checkpoint"
HOW = "ours hashes every file and brings it to the disk; DeepSpeed does neither"


def bench_checkpoint(size: Size, rounds: int) -> Bench:
    """Time the state of a training of a random XLM-R, ZeRO stage 0, fp32: weights, moments, counts.

    Ours are checkpoints as runs leave them: safetensors, with a manifest of SHA-256, brought to the disk before the
    name appears; reading verifies the manifest. DeepSpeed's ``save_checkpoint`` pickles, hashes nothing, and does
    not wait until the disk has it.
    """
    start_process_group()
    model = fresh_model(size)
    model.drop_masked_lm_head()
    sequences = random_sequences("mnli", EXAMPLES, size)
    model.add_head("mnli", "pair_classification", ("0", "1", "2"))
    settings = EngineSettings(checkpoint_seconds=0)
    engine = DeepSpeedEngine(model, RECIPE, RECIPE.steps, settings)
    engine.step([pack(sequences, task="mnli", kind="pair_classification", first_position=2)])  # makes the moments
    best, records = BestCheckpoint(None, 0), [StepRecord(1, "mnli", 0.0, 0.0, 0, "")]
    deepspeed = engine._engine
    with TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"

        def write() -> None:
            RunCheckpoints(ours, settings).offer(engine, best, records, milestone=False)

        def read() -> None:
            RunCheckpoints(ours, settings).resume(engine, best)

        def write_plain() -> None:
            shutil.rmtree(theirs, ignore_errors=True)
            deepspeed.save_checkpoint(str(theirs), tag="state")

        def read_plain() -> None:
            deepspeed.load_checkpoint(str(theirs), tag="state")

        wanted = list(engine.weights().values())
        writing = [Candidate(OURS, write), Candidate(PLAIN, write_plain)]
        rows = [compare("write", HOW, writing, rounds=rounds, quantity={"weights": _count(wanted)}, warm_up=1)]
        sizes = {name: _size(path) for name, path in (("ours", ours), ("DeepSpeed", theirs))}
        reading = [_reader(engine, wanted, OURS, read), _reader(engine, wanted, PLAIN, read_plain)]
        rows.append(compare("read", HOW, reading, rounds=rounds, quantity={"weights": _count(wanted)}, warm_up=1))
    return bench("checkpoint", {"size": size, "bytes": sizes}, rows)


def _reader(
    engine: DeepSpeedEngine, wanted: Sequence[Tensor], name: str, read: Callable[[], None]
) -> Candidate | NotRun:
    """The candidate ``read``, if it brings back the weights that were written."""

    def results() -> list[Tensor]:
        with torch.no_grad():
            for each in engine.synced_model().parameters():
                each.zero_()
        read()
        return list(engine.weights().values())

    return check_output(name, read, results, wanted, 0.0)


def _count(tensors: Sequence[Tensor]) -> int:
    return sum(each.numel() for each in tensors)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
