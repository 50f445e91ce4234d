"""The smoke tier, killed, stopped, starved and damaged at random beside a quiet one: ``make soak``.

Every attempt is the same command in a process of its own, in which one fault strikes at a point that is drawn: a stage
of the work, and how many of its steps or files come first. The next attempt goes on from what is there. A grid that is
complete must have the ``result_hash`` of a quiet one.

python -m tests.soak                   # half an hour, and 50 faults at least
python -m tests.soak --short           # a tier of a few seconds, 50 faults
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STAGES = ("planning", "training", "saving", "storing", "predicting", "completing", "reporting")
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
FULL = "disk full"
DAMAGE = ("bit flip", "truncation", "removal", "move")
# How a command that a fault has struck may end: killed, incomplete, or with an error of its environment. A signal that
# comes when the work is done, while Python ends, kills it.
ENDS = {
    "SIGKILL": {-signal.SIGKILL},
    "SIGTERM": {5, -signal.SIGTERM},
    "SIGINT": {5, -signal.SIGINT},
    FULL: {3},
}
SHORT = """
name = "short"
about = "A few steps of everything"
threads = 1
[sources.world.arms.baseline]
targets = ["tatoeba"]
[sources.world.arms.mnli]
intermediate = ["mnli"]
targets = ["xquad"]
[sources.world.backbone]
vocabulary = 300
retrieval_layer = 1
[sources.world.backbone.config]
num_hidden_layers = 1
hidden_size = 32
num_attention_heads = 2
intermediate_size = 64
max_position_embeddings = 130
hidden_dropout_prob = 0.1
attention_probs_dropout_prob = 0.1
[sources.world.recipes]
default = { learning_rate = 5e-4, steps = 40, batch_size = 8, max_length = 128, evaluate_every = 0 }
mlm = { learning_rate = 1.5e-3, steps = 80 }
"""


class Point(NamedTuple):
    """Where a fault strikes in a process, and which."""

    fault: str
    """One of ``SIGNALS``, or a full disk; empty for none."""
    stage: str
    """One of ``STAGES``."""
    count: int
    """At which of its events, from 1."""


class Hook:
    """Counts what a process does to its results, stage by stage, and strikes at a point."""

    def __init__(self, point: Point, results: Path, notes: Path) -> None:
        self._point, self._results, self._notes = point, results, notes
        self._counts: Counter[str] = Counter()
        self._full = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        if event in ("open", "os.mkdir", "os.rename", "os.remove") and isinstance(arguments[0], str | os.PathLike):
            path = Path(os.path.abspath(arguments[0]))
            if path.is_relative_to(self._results):
                self.count(_stage(path.relative_to(self._results).as_posix()))
                if self._full and event in ("open", "os.mkdir"):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def count(self, stage: str) -> None:
        """One more event of a stage."""
        self._counts[stage] += 1
        if stage == "training":
            self._note("steps", "+")
        if (stage, self._counts[stage]) != self._point[1:] or not self._point.fault:
            return
        self._note("struck", self._point.fault)
        if self._point.fault == FULL:
            self._full = True
        else:
            os.kill(os.getpid(), SIGNALS[self._point.fault])

    def finish(self) -> None:
        """Tell what was counted."""
        self._note("counts", json.dumps(self._counts))

    def _note(self, name: str, text: str) -> None:
        with (self._notes / name).open("a", encoding="utf-8") as stream:
            stream.write(text)


def _stage(name: str) -> str:
    """The stage in which a file below the results is written."""
    if not name.startswith("runs/"):
        return "planning" if name.startswith("grid.json") or "/" not in name else "reporting"
    if ".checkpoints" in name:
        return "saving"
    below = name.split("/")[3:]
    return {"model": "storing", "predictions": "predicting"}.get(below[0] if below else "", "completing")


def attempt(point: Point, results: Path, notes: Path, arguments: list[str]) -> None:
    """Be the command, and have the fault strike."""
    from xlt.__main__ import main
    from xlt.train.engine import DeepSpeedEngine

    hook, step = Hook(point, results, notes), DeepSpeedEngine.step

    def counted(self: DeepSpeedEngine, batches: Any) -> Any:
        hook.count("training")
        return step(self, batches)

    DeepSpeedEngine.step = counted  # type: ignore[method-assign]
    sys.argv = ["xlt", *arguments]
    try:
        main()
    finally:
        hook.finish()


class Soak:
    """Attempts at one grid after another, and what came of them."""

    def __init__(self, root: Path, options: list[str], seed: int) -> None:
        self._root, self._options, self._draw = root, options, random.Random(seed)
        self.table: Counter[tuple[str, str, str]] = Counter()
        """How often a fault struck, by its name, its stage and what came of it."""
        self.complete = self.equal = 0
        self.unexpected: list[str] = []
        self.said = ""

    @property
    def faults(self) -> int:
        """How many have struck."""
        return sum(self.table.values())

    def run(self, least: int, seconds: float) -> None:
        """Make a quiet grid, then others, until so many faults have struck and so much time has passed."""
        notes, began = self._notes("quiet"), time.monotonic()
        quiet = self._root / "quiet"
        if code := self._attempt(Point("", "", 0), quiet):
            sys.exit(f"The quiet grid ended with exit code {code}:\n{self.said}")
        self.hash, self.counts = _result_hash(quiet), json.loads((notes / "counts").read_text("utf-8"))
        self.quiet_steps = (notes / "steps").stat().st_size
        results = self._fresh()
        while self.faults < least or time.monotonic() - began < seconds:
            results = self._damage(results) if self._draw.random() < 0.15 else results
            print(f"{self.faults} faults, {self.complete} grids complete", file=sys.stderr)
            if self._strike(results):
                self._compare(results)
                results = self._damage(results) if self._draw.random() < 0.5 else self._fresh()
        while self._attempt(Point("", "", 0), results):
            self.unexpected.append(f"no fault, and yet: {self.said[-500:]}")
        self._compare(results)

    def _strike(self, results: Path) -> bool:
        """An attempt with a fault; whether the grid is complete after it."""
        stage = self._draw.choice(STAGES)
        most = max(1, self.counts.get(stage, 1) // 3)
        point = Point(self._draw.choice([*SIGNALS, FULL]), stage, self._draw.randint(1, most))
        code = self._attempt(point, results)
        if (self._notes(results.name) / "struck").exists():
            (self._notes(results.name) / "struck").unlink()
            self.table[point.fault, stage, f"exit code {code}"] += 1
            if code not in ENDS[point.fault] | {0}:
                self.unexpected.append(f"{point}: exit code {code}: {self.said[-500:]}")
        elif code:
            self.unexpected.append(f"{point} did not strike, and yet exit code {code}: {self.said[-500:]}")
        return code == 0

    def _damage(self, results: Path) -> Path:
        """Change, cut off or remove a file, or move the folder; the folder as it is called then."""
        files = [path for path in sorted(results.rglob("*")) if path.is_file() and "report" not in path.parts]
        if not files:
            return results
        kind, path = self._draw.choice(DAMAGE), self._draw.choice(files)
        if kind == "move":
            self.table[kind, "between attempts", "went on"] += 1
            return results.rename(self._root / f"moved-{self.faults}")
        self.table[kind, path.suffix.lstrip(".") or path.name, "went on"] += 1
        content = bytearray(path.read_bytes())
        if kind == "removal":
            path.unlink()
        elif kind == "truncation":
            path.write_bytes(content[: len(content) // 2])
        elif content:
            content[self._draw.randrange(len(content))] ^= 1 << self._draw.randrange(8)
            path.write_bytes(content)
        return results

    def _attempt(self, point: Point, results: Path) -> int:
        own = [*point[:2], str(point.count), str(results), str(self._notes(results.name))]
        command = ["reproduce", *self._options, "--no-golden", "--processes", "1", "--checkpoint-seconds", "1"]
        process = subprocess.run(
            [sys.executable, "-m", "tests.soak", "--attempt", *own, *command, "--results", str(results)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.said = process.stderr
        return process.returncode

    def _compare(self, results: Path) -> None:
        self.complete += 1
        self.equal += _result_hash(results) == self.hash

    def _fresh(self) -> Path:
        return self._root / f"grid-{self.complete}-{self.faults}"

    def _notes(self, name: str) -> Path:
        folder = self._root / "notes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def steps(self) -> int:
        """How many training steps all attempts but the quiet one computed."""
        return sum(path.stat().st_size for path in self._root.glob("notes/*/steps")) - self.quiet_steps

    def document(self) -> dict[str, Any]:
        """The fault table and what it comes to."""
        rows = [
            {"fault": fault, "where": where, "outcome": outcome, "times": times}
            for (fault, where, outcome), times in sorted(self.table.items())
        ]
        return {
            "faults": self.faults,
            "rows": rows,
            "grids_complete": self.complete,
            "with_the_hash_of_the_quiet_one": self.equal,
            "result_hash": self.hash,
            "steps_of_the_quiet_grid": self.quiet_steps,
            "steps_of_all_attempts": self.steps(),
            "unexpected": self.unexpected,
        }


def _result_hash(results: Path) -> str:
    found: str = json.loads((results / "report" / "report.json").read_text("utf-8"))["result_hash"]
    return found


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for row in document["rows"]:
        yield f"{row['fault']:12} {row['where']:20} {row['times']:4}  {row['outcome']}"
    yield f"{document['faults']} faults; lost: nothing in {document['with_the_hash_of_the_quiet_one']} of " + (
        f"{document['grids_complete']} complete grids, whose result_hash is that of the quiet one"
    )
    steps, quiet = document["steps_of_all_attempts"], document["steps_of_the_quiet_grid"]
    yield f"{steps} training steps in all; a quiet grid has {quiet}"
    yield from document["unexpected"]


def main() -> None:
    """Soak, print the fault table as text and, on standard output, as JSON; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="smoke")
    parser.add_argument("--short", action="store_true", help="a tier of a few seconds in the place of smoke")
    parser.add_argument("--faults", type=int, default=50, metavar="N", help="at least so many")
    parser.add_argument("--seconds", type=float, metavar="N", help="at least so long; 1800, or 0 with --short")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="xlt-soak-"))
    options = ["--tier", given.tier]
    if given.short:
        (root / "short.toml").write_text(SHORT, "utf-8")
        options = ["--tier", str(root / "short.toml"), "--limit", "40"]
    seconds = given.seconds if given.seconds is not None else 0.0 if given.short else 1800.0
    soak = Soak(root, options, given.seed)
    soak.run(given.faults, seconds)
    document = soak.document()
    print(*_lines(document), sep="\n", file=sys.stderr)
    print(json.dumps(document, indent=1))
    lost = soak.unexpected or soak.equal < soak.complete
    if not lost:
        shutil.rmtree(root)
    sys.exit(f"What is left lies in {root}" if lost else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attempt"]:
        fault, stage, count, results, notes, *arguments = sys.argv[2:]
        attempt(Point(fault, stage, int(count)), Path(results), Path(notes), arguments)
    else:
        main()
