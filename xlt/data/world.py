"""The source ``world``: constructed languages with exact gold, shipped as a data set in ``artifact/world``.

Its files are in the official layouts of the tasks, so that the smoke tier goes through the same readers as real data.
``python -m artifact.world.generator`` writes them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from xlt.artifact import RESTORE, artifact_root, read_json
from xlt.data.files.source import FilesSource
from xlt.data.rows import MiningRow, Row, TextRow
from xlt.data.source import lacks
from xlt.errors import EnvironmentFault, UsageFault
from xlt.tasks.record import Split, Task

TEXT = "mlm/train.jsonl"
MINING_ORDER = "bucc2018/{lang}-en/{split}.order.txt"


@dataclass(frozen=True, slots=True)
class Language:
    """A language of the world; ``distance`` from English is 0 for English itself and at most 1."""

    name: str
    distance: float


@cache
def _about(root: Path) -> dict[str, Any]:
    """``world.json``: the settings of the world, its languages, own files of tasks, and the SHA-256 of every file."""
    return read_json(root.name, "world.json")


def _root() -> Path:
    return artifact_root() / "world"


def languages() -> dict[str, Language]:
    """The languages of the world by their codes, English first; none where no world is shipped."""
    if not _root().is_dir():
        return {}
    return {code: Language(**fields) for code, fields in _about(_root())["languages"].items()}


def in_world(task: Task, about: Mapping[str, Any]) -> Task:
    """The record of ``task`` with the languages, files and layout that the world has of it."""
    own = about["tasks"].get(task.key, {})
    return replace(
        task,
        languages=tuple(about["languages"]),
        files={**task.files, **own.get("files", {})},
        layout=own.get("layout", task.layout),
    )


class WorldSource:
    """Rows of the constructed world. The items of a split are the same in every language."""

    name = "world"
    root: Path
    """The folder that holds its files."""

    def __init__(self, seed: int | None = None) -> None:
        """Opens the data set, which must be the world of ``seed`` if one is given.

        Raises:
            UsageFault: the shipped world has another seed.
            EnvironmentFault: a file of the data set is missing or altered.
        """
        self._about = _about(_root())
        self.settings: dict[str, int | str] = dict(self._about["settings"])
        if seed not in (None, self.settings["seed"]):
            raise UsageFault(
                f"The world of seed {seed} is not there: 'artifact/world' holds that of seed {self.settings['seed']}.",
                fix=f"Write it in the place of the other one: python -m artifact.world.generator --seed {seed}",
            )
        self.root = _root() / "data"
        for name, digest in self._about["sha256"].items():
            path = self.root / name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                state = "altered" if path.is_file() else "missing"
                raise EnvironmentFault(f"The file 'artifact/world/data/{name}' is {state}.", fix=RESTORE)
        self._files = FilesSource(self.root)

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages in which the world has that split; none where it lacks the task or the split."""
        return self._files.languages(in_world(task, self._about), split)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language.

        Raises:
            UsageFault: the world has no such task, split or language.
        """
        if language not in (present := self.languages(task, split)):
            raise lacks("The world", task, split, language, present)
        rows = self._files.rows(in_world(task, self._about), split, language)
        if isinstance(rows[0], MiningRow):
            # BUCC has a file for each side, while the rows of the world are in one random order.
            order = _lines(self.root / f"{MINING_ORDER.format(lang=language, split=split)}.gz")
            place = {name: number for number, name in enumerate(order)}
            return sorted(rows, key=lambda row: place[row.id])
        # Where a layout has no ids, its reader numbers the rows from 1; ids of the world name the task, too.
        numbered = rows[0].id.startswith(f"{split}-")
        return [replace(row, id=f"{task.key}-{split}-{n}") for n, row in enumerate(rows)] if numbered else rows

    def pretraining_text(self) -> list[TextRow]:
        """Lines in all languages, shuffled; each is in one language and states known facts or invented ones."""
        return [TextRow(**json.loads(line)) for line in _lines(self.root / f"{TEXT}.gz")]


def _lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")
