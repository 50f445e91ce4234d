"""Opening a source of rows by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xlt.data.files.part import DataFile
from xlt.data.files.pretraining import pretraining_sentences
from xlt.data.files.source import FilesSource
from xlt.data.files.text import read_lines
from xlt.data.rows import Row, TextRow
from xlt.data.source import Source
from xlt.data.world.source import WorldSource
from xlt.errors import DataFault, UsageFault
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split, Task

GIVEN = ("translated", "text")
ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How the user named a source."""

    name: str = "world"
    data_root: Path | None = None
    seed: int = 0
    limit: int = 0


class _Limited:
    """The first ``limit`` rows of every split of another source; its text for phase 1 stays whole."""

    def __init__(self, source: Source, limit: int) -> None:
        self.name = source.name
        self.settings: dict[str, int | str] = {**source.settings, "limit": limit}
        self._source = source
        self._limit = limit

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        return self._source.languages(task, split)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        return self._source.rows(task, split, language)[: self._limit]

    def pretraining_text(self) -> list[TextRow]:
        return self._source.pretraining_text()


class _WithGiven:
    """Another source and what the user put beside the official files, below the data root.

    ``translated/LANGUAGE`` holds machine-translated training sets in the layout of the data root itself, and
    ``text/LANGUAGE.txt`` lines of text, which then are all the text for masked LM. A sentence of a test split is left
    out of it.
    """

    def __init__(self, source: Source, root: Path) -> None:
        self.name = source.name
        self.settings = source.settings
        self._source = source
        folders = sorted(path for path in (root / "translated").glob("*") if path.is_dir() and path.name != ENGLISH)
        self._translated = {folder.name: FilesSource(folder) for folder in folders}
        self._texts = sorted([*(root / "text").glob("*.txt"), *(root / "text").glob("*.txt.gz")])

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        translated = self._translated.items() if split == "train" else ()
        given = (language for language, files in translated if files.languages(task, split))
        return (*self._source.languages(task, split), *given)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        if split == "train" and language in self._translated:
            return self._translated[language].rows(task, split, ENGLISH)
        return self._source.rows(task, split, language)

    def pretraining_text(self) -> list[TextRow]:
        if not self._texts:
            return self._source.pretraining_text()
        return pretraining_sentences(map(_text_of, self._texts), self._test_rows())

    def _test_rows(self) -> Iterator[Row]:
        for task in TASKS.values():
            for language in self._source.languages(task, "test"):
                with suppress(DataFault):  # not fetched, so that nothing can be scored on it either
                    yield from self._source.rows(task, "test", language)


def _text_of(path: Path) -> tuple[str, list[Row]]:
    shown = f"text/{path.name}"
    lines = read_lines(DataFile(path, shown, "from where you had it"))
    return shown.partition(".")[0], [TextRow(f"{number}", line) for number, line in enumerate(lines, start=1)]


def open_source(options: SourceOptions) -> Source:
    """The source that ``options`` name.

    Raises:
        UsageFault: no source has that name, or its data root was not given.
    """
    source: Source
    if options.name == "world":
        source = WorldSource(options.seed)
    elif options.name == "files":
        if options.data_root is None:
            raise UsageFault(
                "The source 'files' needs the folder that holds the task files.",
                mend="Add --data-root DIR.",
            )
        source = FilesSource(options.data_root)
    elif options.name == "hub":
        # Here, because it loads pyarrow, which every worker of the other sources would wait for.
        from xlt.data.hub.source import HubSource

        source = HubSource(FilesSource(options.data_root) if options.data_root else None)
    else:
        raise UsageFault(
            f"There is no source '{options.name}'.", why="Sources: world, files, hub.", mend="--source world"
        )
    if options.data_root is not None and any((options.data_root / name).is_dir() for name in GIVEN):
        source = _WithGiven(source, options.data_root)
    return _Limited(source, options.limit) if options.limit else source
