"""What machines do to a run while it is made and afterwards: nothing is lost, and nothing damaged counts."""

from __future__ import annotations

import errno
import gzip
import random
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.errors import EnvironmentFault
from xlt.model.encoder import PackedModel
from xlt.pipeline import resume
from xlt.pipeline import run as running
from xlt.pipeline import store as stores
from xlt.pipeline.run import execute_run
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, check_folder, read_provenance, read_spec
from xlt.train.engine import EngineSettings

EVERY_STEP = EngineSettings(checkpoint_seconds=1e-9)


@pytest.fixture(scope="module")
def spec(tiny_grid: TinyGrid) -> RunSpec:
    """A training of six steps, scored on what it was trained on and on nothing else."""
    start = next(run for run in tiny_grid.grid().runs if run.name == "mlm")
    return start.model_copy(update={"recipe": {**start.recipe, "steps": 6}})


@pytest.fixture(scope="module")
def quiet(spec: RunSpec, tiny_grid: TinyGrid, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run comes to that nothing happened to."""
    store = RunStore(tmp_path_factory.mktemp("quiet"))
    execute_run(spec, None, tiny_grid.source, store, EVERY_STEP, Watcher())
    return outcome(store.path(spec.folder))


def outcome(folder: Path) -> dict[str, Any]:
    predictions = {path.name: gzip.decompress(path.read_bytes()) for path in (folder / "predictions").iterdir()}
    return {
        "weights": read_provenance(folder).weights,
        "log": (folder / "log.jsonl").read_text("utf-8"),
        "predictions": predictions,
        "beside": sorted(path.name for path in folder.parent.iterdir()),
    }


def full_disk(after: int, does: Callable[..., Any]) -> Callable[..., Any]:
    """A function that so often does what it does, and then finds the disk full, as Python says it or a library."""
    errors = cycle([OSError(errno.ENOSPC, "no"), SafetensorError("No space left on device (os error 28)")])
    left = iter(range(after))

    def limited(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise next(errors)
        return does(*arguments, **options)

    return limited


FULL: dict[str, tuple[object, str, int]] = {
    "the first checkpoint": (resume, "save_state", 0),
    "a later checkpoint": (resume, "save_state", 3),
    "the manifest of a checkpoint": (resume, "write_manifest", 2),
    "the model": (PackedModel, "save", 0),
    "a file of the run": (running, "write_text", 0),
    "the manifest of the run": (stores, "write_manifest", 0),
}


@pytest.mark.parametrize("when", FULL)
def test_a_full_disk_is_told_and_the_same_command_goes_on_to_the_same_bits(
    when: str,
    spec: RunSpec,
    quiet: dict[str, Any],
    tiny_grid: TinyGrid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, (place, name, after) = RunStore(tmp_path), FULL[when]
    with monkeypatch.context() as disk:
        disk.setattr(place, name, full_disk(after, getattr(place, name)))
        with pytest.raises(EnvironmentFault, match="is full"):
            execute_run(spec, None, tiny_grid.source, store, EVERY_STEP, Watcher())
    assert store.check(spec).state == "unfinished"
    execute_run(spec, None, tiny_grid.source, store, EVERY_STEP, Watcher())
    assert outcome(store.path(spec.folder)) == quiet


class StoppedError(Exception):
    """What stands for the end of a process."""


class Stopping(Watcher):
    """Ends at a step."""

    def step(self, record: Any, steps: int) -> None:
        if record.step == 4:
            raise StoppedError


def test_a_results_folder_may_be_moved_while_a_training_is_interrupted_and_the_clock_may_jump(
    spec: RunSpec, quiet: dict[str, Any], tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, jumps = time.time(), random.Random(0)
    monkeypatch.setattr(time, "time", lambda: now + jumps.uniform(-1e9, 1e9))
    with pytest.raises(StoppedError):
        execute_run(spec, None, tiny_grid.source, RunStore(tmp_path / "one"), EVERY_STEP, Stopping())
    (tmp_path / "one").rename(tmp_path / "another")
    store, watcher = RunStore(tmp_path / "another"), Watcher()
    execute_run(spec, None, tiny_grid.source, store, EVERY_STEP, watcher)
    assert outcome(store.path(spec.folder)) == quiet
    assert watcher.steps == [3, 4, 5, 6]  # what was made before is told to the log alone
    assert not (tmp_path / "one").exists()


def flips(content: bytes) -> Iterator[bytes]:
    """The content with one bit changed, here and there."""
    draw = random.Random(len(content))
    for _ in range(8):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield bytes(changed)


def cuts(content: bytes) -> Iterator[bytes]:
    """The content with its end missing."""
    yield from (content[:-2], content[: len(content) // 2], b"")  # the last byte may be a newline that says nothing


@pytest.mark.parametrize("damage", [flips, cuts])
def test_no_damaged_file_of_a_run_or_a_checkpoint_counts(
    damage: Callable[[bytes], Iterator[bytes]],
    finished: tuple[RunStore, Watcher],
    spec: RunSpec,
    tiny_grid: TinyGrid,
    tmp_path: Path,
) -> None:
    with pytest.raises(StoppedError):
        execute_run(spec, None, tiny_grid.source, RunStore(tmp_path), EVERY_STEP, Stopping())
    checkpoint = next((tmp_path / "runs").glob("*/*.checkpoints/step-00000003"))
    run = next((finished[0].root / "runs" / "target").glob("mnli.xnli-*"))
    kinds = set()
    for folder, its in ((checkpoint, None), (run, read_spec(run))):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            for changed in damage(content):
                path.write_bytes(changed)
                assert check_folder(folder, its).state == "damaged", path.name
            path.write_bytes(content)
            kinds.add(path.name)
        assert check_folder(folder, its).state == "done"
    assert {
        "state.json",
        "generators-0.safetensors",
        "engine.safetensors",
        "made-by.json",
        "model.safetensors",
    } <= kinds
    assert {"spec.json", "log.jsonl", "metrics.json", "provenance.json", "MANIFEST.json", "tokenizer.json"} <= kinds
