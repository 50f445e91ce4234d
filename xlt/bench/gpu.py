"""Measure on a GPU what only a GPU can tell, the most uncertain first. It has not run on one: its time is not known.

``python -m xlt.bench.gpu --out DIR [STEP...]`` makes all steps, or those named. Each step is a process with a time
limit and has a file ``DIR/STEP.json`` as soon as it ends, so that one that fails or hangs costs the others nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xlt.errors import package_fault

# Other packages are imported by the steps that need them: one that is absent costs no other step anything.
if TYPE_CHECKING:
    from xlt.bench.shapes import Size
    from xlt.train.engine import EngineName

# The seconds that each step may take; the first compiles Triton's kernels, which the disk keeps for the others.
STEPS = {
    "compile": 300, "machine": 60, "issue": 90, "B1": 150, "B3": 120, "B2": 120, "B4": 90, "tests": 300, "doctor": 300,
    "kernels": 120, "optimizer": 90, "mlm": 120, "embed": 150, "retrieval": 180, "engines": 120, "repeatability": 120,
}  # fmt: skip
BENCHES = ("kernels", "optimizer", "mlm", "embed", "retrieval")
COMMANDS = {
    "compile": ["-m", "xlt.pipeline.selftest", "--compile"],
    "tests": ["-m", "pytest", "-q", "-m", "gpu", "tests", "--junitxml"],
    "doctor": ["-c", "from xlt.cli.app import main; main()", "doctor", "--gpu", "--json"],
}
ROUNDS: dict[Size, int] = {"small": 2, "large": 5}
# Losses near 1 of two engines: in fp32 sums in another order, amplified by Adam; in bf16 two numbers are 8e-3 apart.
LOSS_TOLERANCE = {"cpu": 5e-5, "cuda": 1.6e-2}
TRAINED = 48


def measure(steps: Sequence[str], out: Path, size: Size, rounds: int) -> bool:
    """Make the steps one after the other and write what each found below ``out``; whether all were done."""
    out.mkdir(parents=True, exist_ok=True)
    states = set()
    for name in steps:
        outcome = _step(name, out, size, rounds)
        (out / f"{name}.json").write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
        print(f"{name:14} {outcome['state']:8} {outcome['seconds']:6.1f} of {STEPS[name]} s", flush=True)
        states.add(outcome["state"])
    return states == {"done"}


def _step(name: str, out: Path, size: Size, rounds: int) -> dict[str, Any]:
    """How a step ended: ``result`` is what it found (of a benchmark that was stopped, the rows that it had timed),
    ``tail`` the end of what it printed."""
    found, rows = out / f"{name}.found", out / f"{name}.rows"
    own = ["-m", "xlt.bench.gpu", "--do", name, "--size", size, "--rounds", str(rounds), "--out", str(found)]
    command = [sys.executable, *COMMANDS.get(name, own), *([str(out / "tests.xml")] if name == "tests" else [])]
    variables = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if name == "repeatability" else None
    start = time.monotonic()
    # In a session of its own, so that what it started ends with it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=variables,
        cwd=Path(__file__).resolve().parents[2], start_new_session=True,
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
        result = json.loads(said if name == "doctor" else found.read_text("utf-8"))
    if result is None and rows.exists():
        result = json.loads(rows.read_text("utf-8"))
    for file in (found, rows):
        file.unlink(missing_ok=True)
    seconds = round(time.monotonic() - start, 1)
    return {"state": state, "seconds": seconds, "result": result, "tail": (said + errors)[-3000:]}


def find(name: str, size: Size, rounds: int) -> Any:
    """What one step finds, as JSON values; in this process."""
    from xlt.bench.steps import ROWS, bench_steps
    from xlt.bench.workload import ceilings
    from xlt.pipeline.provenance import environment

    if name == "machine":
        return {**environment(), "ceilings": ceilings().model_dump(), "smi": _smi()}
    if name == "engines":
        return compare_engines(size)
    if name == "repeatability":
        return repeat(size)
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


def _train(
    size: Size, name: EngineName, *, dropout: float, graphs: bool = True
) -> tuple[list[float], dict[str, torch.Tensor]]:
    from xlt.bench.shapes import fresh_model, random_sequences
    from xlt.runtime import start_process_group
    from xlt.tasks.catalogue import get_task
    from xlt.tasks.record import Recipe
    from xlt.train.batches import BatchStream, StepShard
    from xlt.train.engine import DeepSpeedEngine, EngineSettings
    from xlt.train.graph import GraphEngine
    from xlt.train.seeding import seed_everything

    task = get_task("mnli")
    recipe = Recipe(steps=TRAINED, batch_size=32, learning_rate=1e-5 if size == "large" else 5e-4)
    model = fresh_model(size, dropout=dropout)
    model.drop_masked_lm_head()
    model.add_head(task.key, task.kind, len(task.labels))
    settings = EngineSettings(engine=name, precision="bf16" if torch.cuda.is_available() else "fp32")
    sequences = random_sequences(task.key, 8 * recipe.batch_size, size)
    stream = BatchStream(sequences, task, recipe, seed=0, first_position=model.first_position)
    if name == "deepspeed":
        start_process_group()
    engine: Any = (GraphEngine if name == "graph" else DeepSpeedEngine)(model, recipe, TRAINED, settings)
    if not graphs:
        engine.captures = False
    seed_everything(1)
    losses = [engine.step(stream.micro_batches(step, StepShard()))[0] for step in range(TRAINED)]
    weights = engine.weights()
    engine.close()
    return torch.stack(losses).tolist(), weights


def main(arguments: Sequence[str]) -> int:
    """Make the steps, or (``--do``) one in this process into the file ``--out``; 1 if a step was not done, 3 if a
    package that it needs is absent."""
    parser = argparse.ArgumentParser(prog="python -m xlt.bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)}; all unless given")
    parser.add_argument("--do", choices=[name for name in STEPS if name not in COMMANDS], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--size", choices=list(ROUNDS), default="large" if torch.cuda.is_available() else "small")
    parser.add_argument("--rounds", type=int, default=0, help="0: 5 of the large model, 2 of the small one")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.steps if name not in STEPS]:
        parser.error(f"no such step: {', '.join(unknown)}. There are: {', '.join(STEPS)}.")
    rounds = chosen.rounds or ROUNDS[chosen.size]
    try:
        if not chosen.do:
            return int(not measure(chosen.steps or list(STEPS), chosen.out.resolve(), chosen.size, rounds))
        from xlt.bench.workload import keep_rows

        keep_rows(chosen.out.with_suffix(".rows"))
        chosen.out.write_text(json.dumps(find(chosen.do, chosen.size, rounds)), encoding="utf-8")
    except ModuleNotFoundError as error:
        fault = package_fault(error)
        print(f"Error: {fault}", file=sys.stderr)
        return int(fault.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
