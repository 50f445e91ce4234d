"""Measure on a GPU what only a GPU can tell, the most uncertain first. It has not run on one: its time is not known.

``python -m xlt.bench.gpu --out DIR [STEP...]`` makes all steps, or those named; ``--part N`` makes those of a part,
which takes at most ten minutes. Each step is a process with a time limit and has a file ``DIR/STEP.json`` as soon as it
ends, so that one that fails or hangs costs the others nothing. While a benchmark runs, ``DIR/STEP.rows`` holds the rows
that are timed, and stays there if this process is killed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xlt.errors import XltError, package_fault
from xlt.files import check_writable, write_text

# Other packages are imported by the steps that need them: one that is absent costs no other step anything.
if TYPE_CHECKING:
    from xlt.bench.shapes import Size
    from xlt.train.batches import BatchStream
    from xlt.train.engine import EngineName

# The seconds that each step may take: 25 minutes in all. The tests compile Triton's kernels, which the disk keeps for
# the others. A step NAME-compiled times the candidates of NAME that torch compiles, which may take all the time there
# is: they are last.
PARTS = (
    {"tests": 280, "engines": 60, "repeatability": 60, "profile": 60},
    {"issue": 60, "B1": 100, "processes": 120, "retrieval": 150, "machine": 30},
    {
        "optimizer": 60, "embed": 80, "B2": 70, "B3": 70, "B4": 50, "kernels": 60, "mlm": 50, "B1-compiled": 90,
        "embed-compiled": 50,
    },
)  # fmt: skip
STEPS: dict[str, int] = {name: seconds for part in PARTS for name, seconds in part.items()}
BENCHES = ("kernels", "optimizer", "mlm", "embed", "retrieval")
COMPILED = "-compiled"
COMMANDS = {"tests": ["-m", "pytest", "-q", "-m", "gpu", "tests", "--junitxml"]}
PROJECT = Path(__file__).resolve().parents[2]
ROUNDS: dict[Size, int] = {"small": 2, "large": 5}
# Losses near 1 of two engines: in fp32 sums in another order, amplified by Adam; in bf16 two numbers are 8e-3 apart.
LOSS_TOLERANCE = {"cpu": 5e-5, "cuda": 1.6e-2}
TRAINED = 48
BATCHES = 8  # of which a training has examples
PACE = ["-m", "xlt.bench.gpu", "--do", "pace"]


def measure(steps: Sequence[str], out: Path, size: Size, rounds: int) -> bool:
    """Make the steps one after the other and write what each found below ``out``; whether all were done."""
    check_writable(out, "--out", "the folder of the measurements")
    out.mkdir(parents=True, exist_ok=True)
    states = set()
    for name in steps:
        outcome = _step(name, out, size, rounds)
        write_text(out / f"{name}.json", json.dumps(outcome, indent=1) + "\n")
        print(f"{name:14} {outcome['state']:8} {outcome['seconds']:6.1f} of {STEPS[name]} s", flush=True)
        states.add(outcome["state"])
    return states == {"done"}


def _step(name: str, out: Path, size: Size, rounds: int) -> dict[str, Any]:
    """How a step ended: ``result`` is what it found (of a benchmark that was stopped, the rows that it had timed),
    ``tail`` the end of what it printed."""
    found, rows = out / f"{name}.found", out / f"{name}.rows"
    own = ["-m", "xlt.bench.gpu", "--do", name, "--size", size, "--rounds", str(rounds), "--out", str(found)]
    command = [sys.executable, *COMMANDS.get(name, own), *([str(out / "tests.xml")] if name == "tests" else [])]
    variables = _variables({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if name == "repeatability" else {})
    start = time.monotonic()
    # In a session of its own, so that what it started ends with it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=variables,
        cwd=PROJECT, start_new_session=True,
    )  # fmt: skip
    try:
        said, errors = process.communicate(timeout=STEPS[name])
        state = "failed" if process.returncode else "done"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, errors = process.communicate()
        state = "timeout"
    result = None
    with suppress(OSError, ValueError):
        result = json.loads(found.read_text("utf-8"))
    if result is None and rows.exists():
        result = json.loads(rows.read_text("utf-8"))
    for file in (found, rows):
        file.unlink(missing_ok=True)
    seconds = round(time.monotonic() - start, 1)
    return {"state": state, "seconds": seconds, "result": result, "tail": (said + errors)[-3000:]}


def _variables(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that finds this project, installed or not."""
    places = [str(PROJECT), str(PROJECT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), **more}


def find(name: str, size: Size, rounds: int) -> Any:
    """What one step finds, as JSON values; in this process."""
    if name in (own := {"engines": compare_engines, "repeatability": repeat, "profile": profile}):
        return own[name](size)
    if name == "processes":
        return side_by_side(size, rounds)
    if name == "pace":
        return pace(size, rounds)
    from xlt.bench.steps import ROWS, bench_steps
    from xlt.bench.workload import ceilings, compiled_peers
    from xlt.pipeline.provenance import environment

    if name == "machine":
        return {**environment(), "ceilings": ceilings().model_dump(), "smi": _smi()}
    compiled_peers("only" if name.endswith(COMPILED) else "without")
    name = name.removesuffix(COMPILED)
    if name in ROWS:
        return bench_steps(size, rounds, rows=(name,)).model_dump(mode="json")
    made = getattr(importlib.import_module(f"xlt.bench.{name}"), f"bench_{name}")(size, rounds)
    return made.model_dump(mode="json")


def _smi() -> str:
    """Clocks, power limit and driver, as the driver's own tool says; empty without it."""
    query = "--query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,ecc.mode.current"
    try:
        return subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def compare_engines(size: Size) -> dict[str, Any]:
    """The losses of one short training without dropout by every engine, and how far they are from the graph engine's.

    DeepSpeed is left out, with the reason, where it cannot start.
    """
    runs: dict[str, Any] = {"graph": _train(size, "graph", dropout=0.0)[0]}
    runs["graph without graphs"] = _train(size, "graph", dropout=0.0, graphs=False)[0]
    try:
        runs["deepspeed"] = _train(size, "deepspeed", dropout=0.0)[0]
    except (ImportError, RuntimeError) as error:
        runs["deepspeed"] = f"not run: {error}"
    tolerance = LOSS_TOLERANCE["cuda" if torch.cuda.is_available() else "cpu"]
    apart = {
        name: max(abs(a - b) for a, b in zip(runs["graph"], losses, strict=True))
        for name, losses in runs.items()
        if name != "graph" and isinstance(losses, list)
    }
    agree = {name: each <= tolerance for name, each in apart.items()}
    return {"losses": runs, "largest_difference": apart, "tolerance": tolerance, "within": agree}


def repeat(size: Size) -> dict[str, Any]:
    """Whether two trainings with dropout in deterministic mode have the same bits."""
    from xlt.train.seeding import deterministic

    deterministic(True)
    (losses, weights), (again, others) = (_train(size, "graph", dropout=0.1) for _ in range(2))
    different = [name for name, value in weights.items() if not torch.equal(value, others[name])]
    return {"steps": TRAINED, "losses_equal": losses == again, "weights_that_differ": different}


def profile(size: Size) -> dict[str, Any]:
    """A training step on MNLI under the profiler, replayed from its graph where there is one: the microseconds of each
    kernel (on a CPU: operation), longest first, with how often it runs, their sum, and those of the whole step."""
    from xlt.train.batches import StepShard

    engine, stream = _training(size, "graph", dropout=0.1)
    batches = stream.micro_batches(0, StepShard())
    for _ in range(3):  # the first compiles, the second is captured
        engine.step(batches)
    gpu = torch.cuda.is_available()
    with torch.profiler.profile() as profiler:
        start = time.perf_counter()
        loss, _ = engine.step(batches)
        loss.item()  # waits for the device
        whole = time.perf_counter() - start
    found = [
        (each.self_device_time_total if gpu else each.self_cpu_time_total, each.count, each.key[:120])
        for each in profiler.key_averages()
        if each.device_type.name == ("CUDA" if gpu else "CPU")
    ]
    found.sort(reverse=True)
    tokens = sum(batch.tokens for batch in batches)
    return {"tokens": tokens, "step_us": 1e6 * whole, "sum_us": sum(us for us, *_ in found), "kernels": found[:80]}


def side_by_side(size: Size, rounds: int) -> dict[str, Any]:
    """Steps per second on MNLI of one process and of two at once on one GPU, in turn or through CUDA's MPS."""
    found = _paces(size, rounds, {"one process": 1, "two processes": 2}, {})
    try:
        with _mps() as variables:
            found |= _paces(size, rounds, {"two processes, MPS": 2}, variables)
    except (OSError, subprocess.CalledProcessError) as error:
        found["two processes, MPS"] = f"not run: {error}"
    return found


def _paces(size: Size, rounds: int, turns: Mapping[str, int], variables: Mapping[str, str]) -> dict[str, Any]:
    """What each process reaches while so many run in a turn; or the error of one that failed.

    The same two processes take all turns: to start one takes longer than to time it.
    """
    with tempfile.TemporaryDirectory(prefix="xlt-bench-") as folder:
        command = [sys.executable, *PACE, "--size", size, "--rounds", str(rounds), "--out", f"{folder}/unread"]
        # Not through a pipe, which a process that nobody reads may fill, and wait.
        errors = [Path(folder, f"errors-{number}") for number in range(max(turns.values()))]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started: list[Any] = []
        for path in errors:
            with path.open("w") as file:
                process = subprocess.Popen(command, cwd=PROJECT, env=_variables(variables), stderr=file, **pipes)
            started.append(process)
        found: dict[str, Any] = {}
        for process in started:
            _answer(process, "ready")
        for name, count in turns.items():
            for process in started[:count]:
                with suppress(BrokenPipeError):
                    process.stdin.write("\n")
                    process.stdin.flush()
            found[name] = [_answer(process, "pace") for process in started[:count]]
            print(name, found[name], flush=True)  # the end of what a step printed is kept, if it is stopped
        for process in started:
            process.communicate()  # with the end of its input it ends
        said = [path.read_text("utf-8")[-1000:] for path in errors]
    failed = [text for text, process in zip(said, started, strict=True) if process.returncode]
    return dict.fromkeys(turns, failed[0]) if failed else found


def _answer(process: Any, word: str) -> float | None:
    """The number after ``word`` in the next line that begins with it, 0 without one; None if the process ends before.
    Libraries print other lines."""
    for line in process.stdout:
        first, _, number = line.strip().partition(" ")
        if first == word:
            return float(number or 0)
    return None


@contextmanager
def _mps() -> Iterator[dict[str, str]]:
    """CUDA's MPS within the block, of this process alone: the variables of those that are to use it.

    Raises:
        OSError: this machine has none.
        subprocess.CalledProcessError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="xlt-mps-") as folder:
        variables = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        control = ["nvidia-cuda-mps-control"]
        subprocess.run([*control, "-d"], env={**os.environ, **variables}, check=True, capture_output=True)
        try:
            yield variables
        finally:
            subprocess.run(control, env={**os.environ, **variables}, input=b"quit\n", check=False, capture_output=True)


def pace(size: Size, rounds: int) -> float:
    """Steps per second on MNLI, over two seconds for each round: says that it is ready, and times a turn for each line
    that it is given."""
    from xlt.train.batches import StepShard

    engine, stream = _training(size, "graph", dropout=0.1, steps=1_000_000)
    batches = [stream.micro_batches(step, StepShard()) for step in range(BATCHES)]
    for _ in range(2):  # each shape runs, and is captured
        losses = [engine.step(batch)[0] for batch in batches]
    losses[-1].item()
    print("ready", flush=True)
    found = 0.0
    for _ in sys.stdin:
        start, steps = time.perf_counter(), 0
        while time.perf_counter() < start + 2 * rounds:
            losses = [engine.step(batch)[0] for batch in batches]
            losses[-1].item()
            steps += len(batches)
        found = steps / (time.perf_counter() - start)
        print("pace", found, flush=True)
    return found


def _train(
    size: Size, name: EngineName, *, dropout: float, graphs: bool = True
) -> tuple[list[float], dict[str, torch.Tensor]]:
    from xlt.train.batches import StepShard
    from xlt.train.seeding import seed_everything

    engine, stream = _training(size, name, dropout=dropout)
    if not graphs:
        engine.captures = False
    seed_everything(1)
    losses = [engine.step(stream.micro_batches(step, StepShard()))[0] for step in range(TRAINED)]
    weights = engine.weights()
    engine.close()
    return torch.stack(losses).tolist(), weights


def _training(size: Size, name: EngineName, *, dropout: float, steps: int = 0) -> tuple[Any, BatchStream]:
    """An engine with a fresh model, for ``TRAINED`` steps or for ``steps``, and batches of MNLI's lengths."""
    from xlt.bench.shapes import fresh_model, random_sequences
    from xlt.runtime import start_process_group
    from xlt.tasks.catalogue import get_task
    from xlt.tasks.record import Recipe
    from xlt.train.batches import BatchStream
    from xlt.train.engine import DeepSpeedEngine, EngineSettings
    from xlt.train.graph import GraphEngine

    task = get_task("mnli")
    recipe = Recipe(steps=steps or TRAINED, batch_size=32, learning_rate=1e-5 if size == "large" else 5e-4)
    model = fresh_model(size, dropout=dropout)
    model.drop_masked_lm_head()
    model.add_head(task.key, task.kind, len(task.labels))
    settings = EngineSettings(engine=name, precision="bf16" if torch.cuda.is_available() else "fp32")
    sequences = random_sequences(task.key, BATCHES * recipe.batch_size, size)
    stream = BatchStream(sequences, task, recipe, seed=0, first_position=model.first_position)
    if name == "deepspeed":
        start_process_group()
    made: Any = GraphEngine if name == "graph" else DeepSpeedEngine
    return made(model, recipe, recipe.steps, settings), stream


def main(arguments: Sequence[str]) -> int:
    """Make the steps, or (``--do``) one in this process into the file ``--out``; 1 if a step was not done, 3 if a
    package that it needs is absent."""
    parser = argparse.ArgumentParser(prog="python -m xlt.bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)}; all unless given")
    parser.add_argument("--part", type=int, choices=range(1, len(PARTS) + 1), help="all steps of this part")
    own = [*(name for name in STEPS if name not in COMMANDS), "pace"]
    parser.add_argument("--do", choices=own, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--size", choices=list(ROUNDS), default="large" if torch.cuda.is_available() else "small")
    parser.add_argument("--rounds", type=int, default=0, help="0: 5 of the large model, 2 of the small one")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.steps if name not in STEPS]:
        parser.error(f"no such step: {', '.join(unknown)}. There are: {', '.join(STEPS)}.")
    rounds = chosen.rounds or ROUNDS[chosen.size]
    try:
        if not chosen.do:
            steps = chosen.steps or list(PARTS[chosen.part - 1] if chosen.part else STEPS)
            return int(not measure(steps, chosen.out.resolve(), chosen.size, rounds))
        from xlt.bench.workload import keep_rows

        keep_rows(chosen.out.with_suffix(".rows"))
        chosen.out.write_text(json.dumps(find(chosen.do, chosen.size, rounds)), encoding="utf-8")
    except (XltError, ModuleNotFoundError) as error:
        fault = error if isinstance(error, XltError) else package_fault(error)
        print(f"Error: {fault}", file=sys.stderr)
        return int(fault.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
