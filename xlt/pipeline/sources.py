"""Opening a source of rows by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from xlt.data.files.source import FilesSource, UserFiles
from xlt.data.rows import MiningRow, Row, TextRow
from xlt.data.source import Source
from xlt.data.world import WorldSource
from xlt.errors import UsageFault
from xlt.tasks.record import Split, Task


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How the user named a source. ``seed`` is the seed of the world that results were made from, if it is known."""

    name: str = "world"
    data_root: Path | None = None
    seed: int | None = None
    limit: int = 0


class _Limited:
    """The first ``limit`` rows of every split of another source; its text for phase 1 stays whole.

    Of mining, ``limit`` sentences of either side, the English ones that translate one of the foreign ones first: only
    what was read is to be found.
    """

    def __init__(self, source: Source, limit: int) -> None:
        self.name = source.name
        self.settings: dict[str, int | str] = {**source.settings, "limit": limit}
        self._source = source
        self._limit = limit

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        return self._source.languages(task, split)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        rows = self._source.rows(task, split, language)
        mined = [row for row in rows if isinstance(row, MiningRow)]
        return list(_first_of_each_side(mined, self._limit)) if mined else rows[: self._limit]

    def pretraining_text(self) -> list[TextRow]:
        return self._source.pretraining_text()


def _first_of_each_side(rows: list[MiningRow], limit: int) -> Iterator[MiningRow]:
    foreign = [row for row in rows if not row.english][:limit]
    wanted = {match for row in foreign for match in row.matches}
    english = sorted((row for row in rows if row.english), key=lambda row: row.id not in wanted)
    read = {row.id for row in english[:limit]}
    for row in foreign:
        yield replace(row, matches=tuple(match for match in row.matches if match in read))
    yield from (row for row in rows if row.english and row.id in read)


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
                fix="Add --data-root DIR.",
            )
        source = FilesSource(options.data_root)
    elif options.name == "hub":
        # Here, because it loads pyarrow, which every worker of the other sources would wait for.
        from xlt.data.hub.source import HubSource

        source = HubSource(FilesSource(options.data_root) if options.data_root else None)
    else:
        raise UsageFault(
            f"There is no source '{options.name}'.", why="Sources: world, files, hub.", fix="--source world"
        )
    if options.data_root is not None:
        source = UserFiles(source, options.data_root)
    return _Limited(source, options.limit) if options.limit else source
