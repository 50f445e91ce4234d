"""Opening a source of rows by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xlt.data.files.source import FilesSource
from xlt.data.rows import Row, TextRow
from xlt.data.source import Source
from xlt.data.world.source import WorldSource
from xlt.errors import UsageFault
from xlt.tasks.record import Split, Task


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
    return _Limited(source, options.limit) if options.limit else source
