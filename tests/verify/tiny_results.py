"""A results folder without training: a small source with known gold, and predictions written by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from xlt.data.predictions import Prediction, write_predictions
from xlt.data.rows import Answer, BitextRow, PairRow, Row, SpanRow, TextRow
from xlt.errors import DataFault
from xlt.evaluate.metrics import score
from xlt.pipeline.grid import Grid, GridBuilder
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, write_manifest
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import NLI_LABELS, get_task
from xlt.tasks.record import Split, Task

TIER = """
name = "tiny"
about = "for tests"
[sources.tiny.arms]
baseline = { targets = ["xnli", "xquad", "tatoeba"] }
mnli = { intermediate = ["mnli"], targets = ["xnli", "xquad", "tatoeba"] }
[sources.tiny.backbone]
vocabulary = 100
[sources.tiny.recipes]
default = { evaluate_every = 0 }
xnli = { batch_size = 16 }
"""
RULE = """
format = 1
family_error = 0.01
minimum_seeds = 4
floor = 2.0
reason = "because <it> is so"
"""
EXAMPLES = 60
LANGUAGES = ("en", "de", "qaf")
ANSWER = "zeta"
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
        return [self._row(task, f"{split}-{number}", number, language) for number in range(EXAMPLES)]

    def pretraining_text(self) -> list[TextRow]:
        return [TextRow("0", "text")]

    def _row(self, task: Task, id_: str, number: int, language: str) -> Row:
        text = f"{language} <b>{number}</b>{self.change}"
        if task.kind == "pair_classification":
            return PairRow(id_, text, text, NLI_LABELS[number % 3])
        if task.kind == "span_qa":
            context = f"one two {ANSWER} four five six seven eight nine {number}{self.change}"
            return SpanRow(id_, text, context, (Answer(ANSWER, 8),))
        return BitextRow(id_, text, text)


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
    made = []
    for number, row in enumerate(rows):
        good = number < correct
        if isinstance(row, PairRow):
            wrong = NLI_LABELS[(NLI_LABELS.index(row.label) + 1) % 3]
            made.append(Prediction(row.id, row.label if good else wrong, 0.5))
        elif isinstance(row, SpanRow):
            made.append(Prediction(row.id, (8, 12) if good else (0, 3), 1.5))
        else:
            made.append(Prediction(row.id, row.id if good else rows[number - 1].id, 0.25))
    return made


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
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "grid.json").write_text(self.grid.text(), "utf-8")
        for spec in self.grid.runs:
            with self.store.writing(spec) as folder:
                self._run(spec, folder, quality)
                provenance = {
                    "device": device,
                    "python": "3.11",
                    "packages": {"torch": "2.13.0"},
                    "commit": "c0ffee",
                    "world_size": 1,
                    "seconds": {"train": seconds, "evaluate": 2 * seconds},
                    "peak_memory": {"resident_bytes": 2**30},
                }
                (folder / "provenance.json").write_text(json.dumps(provenance), "utf-8")
        return self

    def _run(self, spec: RunSpec, folder: Path, quality: Quality) -> None:
        metrics: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        for key in spec.data:
            task_key, split, language = key.split("/")
            if task_key not in spec.evaluate or split == "train":
                continue
            task = get_task(task_key)
            rows = self.source.rows(task, split, language)  # type: ignore[arg-type]
            made = predictions(task, rows, quality(spec, task_key, split, language))
            write_predictions(folder / "predictions" / f"{task_key}.{split}.{language}.jsonl.gz", made)
            metrics.setdefault(task_key, {}).setdefault(split, {})[language] = score(task, rows, made)
        (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")
        steps = 40 if spec.train else 0
        lines = [
            {
                "step": n + 1,
                "task": spec.train[0],
                "loss": 2 - n / 40,
                "learning_rate": 1e-3,
                "tokens": 100,
                "examples": "aa",
            }
            for n in range(steps)
        ]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def write_artifact(root: Path) -> Path:
    """An ``artifact/`` folder with one tier and the rule of its bands."""
    (root / "tiers").mkdir(parents=True)
    (root / "expected").mkdir()
    (root / "tiers" / "tiny.toml").write_text(TIER, "utf-8")
    (root / "expected" / "tiny-tiny.toml").write_text(RULE, "utf-8")
    return root


def plan_results(root: Path, *, seed: int = 0, source: TinySource | None = None) -> Results:
    """An empty results folder for the tiny tier; ``XLT_ARTIFACT`` must name its ``artifact/`` folder."""
    source = source or TinySource()
    grid = GridBuilder(read_tier("tiny"), source, seed=seed, precision="fp32").grid()
    return Results(root, grid, source)
