"""All that only a GPU can tell, in three runs of at most eight minutes without compilation, the most uncertain first.

``python -m xlt.bench.gpu --part 1 --out DIR``: each step is a process with a time limit of its own and has a file
``DIR/<step>.json`` as soon as it ends, whatever its end was, so that a step that fails costs the others nothing.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from xlt.errors import package_fault

# Other packages are imported by the steps that need them: one that is absent costs no other step anything.
if TYPE_CHECKING:
    from xlt.bench.shapes import Size
    from xlt.pipeline.estimate import Rate
    from xlt.tasks.record import Kind
    from xlt.train.engine import Engine, EngineName

PART_SECONDS = 480
# On a GPU every part begins with the compilation of Triton's kernels, which does not count: it is kept on the disk.
COMPILE_SECONDS = 90
# The seconds that each step of a part may take.
PARTS: dict[int, dict[str, int]] = {
    1: {"machine": 40, "issue": 70, "B1": 150, "B3": 90, "B2": 80, "B4": 50},
    2: {"tests": 150, "doctor": 120, "kernels": 80, "optimizer": 45, "mlm": 85},
    3: {"embed": 130, "retrieval": 160, "engines": 95, "repeatability": 95},
}
BENCHES = {name: f"xlt.bench.{name}:bench_{name}" for name in ("kernels", "optimizer", "mlm", "embed", "retrieval")}
COMMANDS = {
    "compile": ["-m", "xlt.pipeline.selftest", "--compile"],
    "tests": ["-m", "pytest", "-q", "-m", "gpu", "tests", "--junitxml"],
    "doctor": ["-c", "from xlt.cli.app import main; main()", "doctor", "--gpu", "--json"],
}
ROUNDS: dict[Size, int] = {"small": 2, "large": 5}
BACKBONES: dict[Size, str] = {"small": "small", "large": "xlm-roberta-large"}
# Losses near 1 of two engines: in fp32 sums in another order, amplified by Adam; in bf16 two numbers are 8e-3 apart.
LOSS_TOLERANCE = {"cpu": 5e-5, "cuda": 1.6e-2}
STEPS = 48


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended: ``result`` is what it found (of a benchmark that was stopped the rows that it had timed),
    ``tail`` the end of what it printed."""

    step: str
    state: Literal["done", "failed", "timeout"]
    seconds: float
    limit: int
    result: Any
    tail: str


def measure(part: int, out: Path, size: Size, rounds: int) -> list[Outcome]:
    """Make the steps of ``part`` one after the other, and write what each found below ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    first = {"compile": COMPILE_SECONDS} if torch.cuda.is_available() else {}
    for name, limit in {**first, **PARTS[part]}.items():
        outcome = _step(name, limit, out, size, rounds)
        text = json.dumps({each: getattr(outcome, each) for each in outcome.__slots__}, indent=1) + "\n"
        (out / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name:14} {outcome.state:8} {outcome.seconds:6.1f} of {limit} s", flush=True)
        outcomes.append(outcome)
    for rate in rates(out, size):
        name = f"rate-{'-'.join(rate.device.lower().split())}-{rate.engine}.json"
        (out / name).write_text(rate.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return outcomes


def _step(name: str, limit: int, out: Path, size: Size, rounds: int) -> Outcome:
    found, log = out / f"{name}.found", out / f"{name}.log"
    for left in (found, _rows(found)):
        left.unlink(missing_ok=True)
    own = ["-m", "xlt.bench.gpu", "--do", name, "--size", size, "--rounds", str(rounds), "--out", str(found)]
    command = [sys.executable, *COMMANDS.get(name, own), *([str(out / "tests.xml")] if name == "tests" else [])]
    variables = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if name == "repeatability" else None
    start = time.monotonic()
    with log.open("wb") as stderr, found.with_suffix(".out").open("wb") as stdout:
        # In a session of its own, so that what it started ends with it.
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, env=variables, cwd=_root(), start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    said = found.with_suffix(".out").read_text("utf-8", errors="replace")
    tail = (said + log.read_text("utf-8", errors="replace"))[-3000:]
    result = _parsed(said if name == "doctor" else found.read_text("utf-8") if found.exists() else "")
    if result is None and _rows(found).exists():
        from xlt.bench.workload import kept_rows

        result = kept_rows(_rows(found))
    state: Literal["done", "failed", "timeout"] = "timeout" if code is None else "failed" if code else "done"
    for file in (found, found.with_suffix(".out"), _rows(found)):
        file.unlink(missing_ok=True)
    return Outcome(name, state, round(time.monotonic() - start, 1), limit, result, tail)


def _rows(found: Path) -> Path:
    return found.with_suffix(".rows")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _root() -> Path:
    return Path(__file__).resolve().parent.parent.parent


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
    module, _, function = BENCHES[name].partition(":")
    return getattr(importlib.import_module(module), function)(size, rounds).model_dump(mode="json")


def _smi() -> str:
    """Clocks, power limit and driver, as the driver's own tool says; empty without it."""
    query = "--query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,ecc.mode.current"
    try:
        return subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def rates(out: Path, size: Size) -> list[Rate]:
    """The rates of our engines, for ``artifact/measured``: training from the rows of random batches, inference from
    whole forwards, as far as ``out`` has them."""
    from xlt.bench.steps import DEEPSPEED, OURS, ROWS
    from xlt.pipeline.estimate import Rate
    from xlt.tasks.catalogue import get_task

    training: dict[EngineName, dict[Kind, float]] = {}
    names: dict[str, EngineName] = {OURS: "graph", DEEPSPEED: "deepspeed"}
    device, inference = "", None
    for step in ("B1", "B2", "B3", "embed"):
        path = out / f"{step}.json"
        found: dict[str, Any] = (json.loads(path.read_text("utf-8"))["result"] if path.is_file() else None) or {}
        begin = "B8" if step == "embed" else step
        row = next((each for each in found.get("workloads", ()) if each["name"].startswith(begin)), None)
        if row is None or not row["timings"][0]["seconds"]:
            continue
        if step == "embed":
            inference = row["quantity"]["tokens"] / row["timings"][0]["seconds"]
            continue
        device = found["device"]
        for timing in row["timings"]:
            if timing["seconds"] and (engine := names.get(timing["name"])):
                kind = get_task(ROWS[step]).kind
                training.setdefault(engine, {})[kind] = row["quantity"]["tokens"] / timing["seconds"]
    return [
        Rate(device=device, backbone=BACKBONES[size], engine=engine, training=each, inference=inference)
        for engine, each in training.items()
    ]


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
    return {"steps": STEPS, "losses_equal": losses == again, "weights_that_differ": different}


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
    recipe = Recipe(steps=STEPS, batch_size=32, learning_rate=1e-5 if size == "large" else 5e-4)
    model = fresh_model(size, dropout=dropout)
    model.drop_masked_lm_head()
    model.add_head(task.key, task.kind, len(task.labels))
    settings = EngineSettings(engine=name, precision="bf16" if torch.cuda.is_available() else "fp32")
    sequences = random_sequences(task.key, 8 * recipe.batch_size, size)
    stream = BatchStream(sequences, task, recipe, seed=0, first_position=model.first_position)
    engine: Engine
    if name == "graph":
        engine = captured = GraphEngine(model, recipe, STEPS, settings)
        captured.captures = captured.captures and graphs
    else:
        start_process_group()
        engine = DeepSpeedEngine(model, recipe, STEPS, settings)
    seed_everything(1)
    losses = [engine.step(stream.micro_batches(step, StepShard()))[0] for step in range(STEPS)]
    weights = engine.weights()
    engine.close()
    return torch.stack(losses).tolist(), weights


def main(arguments: Sequence[str]) -> int:
    """Make a part, or (``--do``) one step of it into the file ``--out``; 1 if a step was not done, 3 if a package that
    it needs is absent."""
    parser = argparse.ArgumentParser(prog="python -m xlt.bench.gpu", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--part", type=int, choices=list(PARTS))
    what.add_argument("--do", choices=[name for part in PARTS.values() for name in part if name not in COMMANDS])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=list(ROUNDS), default="large" if torch.cuda.is_available() else "small")
    parser.add_argument("--rounds", type=int, default=0, help="0: 5 of the large model, 2 of the small one")
    chosen = parser.parse_args(arguments)
    rounds = chosen.rounds or ROUNDS[chosen.size]
    try:
        if not chosen.do:
            outcomes = measure(chosen.part, chosen.out.resolve(), chosen.size, rounds)
            return int(any(each.state != "done" for each in outcomes))
        from xlt.bench.workload import keep_rows

        keep_rows(_rows(chosen.out))
        chosen.out.write_text(json.dumps(find(chosen.do, chosen.size, rounds)), encoding="utf-8")
    except ModuleNotFoundError as error:
        fault = package_fault(error)
        print(f"Error: {fault}", file=sys.stderr)
        return int(fault.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
