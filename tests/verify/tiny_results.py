"""A results folder without training: a small source with known gold, and predictions written by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from xlt.data.predictions import Prediction
from xlt.data.rows import Row, TextRow
from xlt.errors import DataFault
from xlt.pipeline.grid import Grid, GridBuilder
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, write_manifest
from xlt.pipeline.tiers import read_tier
from xlt.tasks.record import Split, Task

from .built import made_row, said, write_results

TIER = """
name = "tiny"
about = "for tests"
[sources.tiny.arms]
baseline = { targets = ["xnli", "xquad", "tatoeba"] }
mnli = { intermediate = ["mnli"], targets = ["xnli", "xquad", "tatoeba"] }
[sources.tiny.backbone]
vocabulary = 100
[sources.tiny.recipes]
default = { evaluate_every = 0, steps = 40 }
xnli = { batch_size = 16 }
"""
RULE = """
format = 1
family_error = 0.01
overall_error = 0.005
least_loss = 0.5
minimum_seeds = 4
floor = 2.0
reason = "because <it> is so"
"""
EXAMPLES = 60
LANGUAGES = ("en", "de", "qaf")
# How many of 60 examples a run gets right, by language.
RIGHT = {"en": 54, "de": 48, "qaf": 42}
Quality = Callable[[RunSpec, str, str, str], int]


@dataclass
class TinySource:
    """Rows of four tasks in three languages; ``change`` makes other rows."""

    name: str = "tiny"
    settings: dict[str, int | str] = field(default_factory=dict)
    change: str = ""
    absent: tuple[str, ...] = ()

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        held: dict[str, dict[str, tuple[str, ...]]] = {
            "mnli": {"train": ("en",), "dev": ("en",)},
            "squad": {"train": ("en",)},
            "xnli": {"dev": LANGUAGES, "test": LANGUAGES},
            "xquad": {"test": LANGUAGES},
            "tatoeba": {"test": LANGUAGES[1:]},
        }
        return held.get(task.key, {}).get(split, ())

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        if language in self.absent:
            raise DataFault(f"There is no file of '{language}'.", fix="xlt tasks check")
        return [
            made_row(task, f"{split}-{number}", number, f"{language} <b>{number}</b>{self.change}")
            for number in range(EXAMPLES)
        ]

    def pretraining_text(self) -> list[TextRow]:
        return [TextRow("0", "text")]


def right(spec: RunSpec, task: str, split: str, language: str) -> int:
    """The usual number of right predictions."""
    return RIGHT[language]


def shifted(by: int, arm: str = "", task: str = "") -> Quality:
    """Every number of right predictions moved by ``by``, of one arm and task or of all."""

    def quality(spec: RunSpec, key: str, split: str, language: str) -> int:
        meant = arm in ("", spec.arm) and task in ("", key)
        return max(0, min(60, RIGHT[language] + (by if meant else 0)))

    return quality


def predictions(task: Task, rows: list[Row], correct: int) -> list[Prediction]:
    """Predictions of which the first ``correct`` are right."""
    return said(task, rows, [2 * (number < correct) for number in range(len(rows))])


@dataclass
class Results:
    """A results folder with its grid and source."""

    root: Path
    grid: Grid
    source: TinySource

    @property
    def store(self) -> RunStore:
        return RunStore(self.root)

    def run(self, name: str) -> Path:
        """The folder of the run of that name."""
        return self.store.path(next(run.folder for run in self.grid.runs if run.name == name))

    def seal(self, name: str) -> None:
        """Write the manifest of a run again, as a careful forger would."""
        write_manifest(self.run(name))

    def remove(self, name: str) -> None:
        """Remove a run."""
        shutil.rmtree(self.run(name))

    def fill(self, quality: Quality = right, *, seconds: float = 1.0, device: str = "cpu") -> Results:
        """Write the grid and all its runs."""
        provenance = {
            "device": device,
            "python": "3.11",
            "packages": {"torch": "2.13.0"},
            "commit": "c0ffee",
            "world_size": 1,
            "seconds": {"train": seconds, "evaluate": 2 * seconds},
            "peak_memory": {"resident_bytes": 2**30},
        }

        def predict(spec: RunSpec, task: Task, split: Split, language: str, rows: list[Row]) -> list[Prediction]:
            return predictions(task, rows, quality(spec, task.key, split, language))

        write_results(self.root, self.grid, self.source, predict, provenance)
        return self


def write_artifact(root: Path) -> Path:
    """An ``artifact/`` folder with one tier and the rule of its bands."""
    (root / "tiers").mkdir(parents=True)
    (root / "expected").mkdir()
    for name in ("differences.toml", "languages.toml"):
        shutil.copy(Path(__file__).parents[2] / "artifact" / name, root)
    (root / "tiers" / "tiny.toml").write_text(TIER, "utf-8")
    (root / "expected" / "tiny-tiny.toml").write_text(RULE, "utf-8")
    return root


def plan_results(root: Path, *, seed: int = 0, source: TinySource | None = None) -> Results:
    """An empty results folder for the tiny tier; ``XLT_ARTIFACT`` must name its ``artifact/`` folder."""
    source = source or TinySource()
    grid = GridBuilder(read_tier("tiny"), source, seed=seed, precision="fp32").grid()
    return Results(root, grid, source)
