"""The source that reads what ``xlt fetch`` has downloaded from the hub."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from xlt.data.files.pretraining import groups, pretraining_sentences
from xlt.data.files.source import FilesSource
from xlt.data.hub.lock import LockedRepository, cached, matching, read_lock
from xlt.data.hub.parquet import read_rows
from xlt.data.hub.table import HubFiles, HubTask, languages, on_hub, parts, read_table
from xlt.data.rows import Row, TextRow
from xlt.data.source import NotFetched
from xlt.tasks.catalogue import MASKED_LM
from xlt.tasks.record import Split, Task


class HubSource:
    """Rows from the parquet files of the locked revisions in the hub's cache; it never uses the network.

    A task that the hub lacks, or has with a deviation, is read from the official files if the user has them.
    """

    def __init__(self, files: FilesSource | None = None) -> None:
        """Reads the table of the hub and the lock."""
        self.name = "hub"
        self.settings: dict[str, int | str] = {}
        self._files = files
        self._table = read_table()
        self._lock = read_lock()
        self._read: dict[tuple[str, Split, str], list[Row]] = {}

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages in which the hub has that split, fetched or not, in the task's order."""
        if files := self._files_of(task):
            return files.languages(task, split)
        entry = self._table.get(task.key)
        return languages(entry, task, split) if entry else ()

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language, in the order of the files; each file is read once."""
        if files := self._files_of(task):
            return files.rows(task, split, language)
        key = (task.key, split, language)
        if key not in self._read:
            entry = on_hub(self._table, task)
            found = parts(entry, task, split, language)
            rows: list[Row] = []
            for number, part in enumerate(found, start=1):
                prefix = split if len(found) == 1 else f"{split}-{number}"
                rows += read_rows(self._paths(part, task), task.kind, entry, part, prefix)
            self._read[key] = rows
        return list(self._read[key])

    def has_files(self, task: Task) -> bool:
        """Whether all files of a task were fetched, of the text for phase 1 those of a language."""
        entry = self._table.get(task.key)
        if entry is None or entry.absent:
            return False
        cells = [(split, language) for split in task.files for language in languages(entry, task, split)]
        found = (self._is_here(entry, task, split, language) for split, language in cells)
        return any(found) if task.key == MASKED_LM.key else all(found)

    def _is_here(self, entry: HubTask, task: Task, split: Split, language: str) -> bool:
        with suppress(NotFetched):
            return all(self._paths(part, task) for part in parts(entry, task, split, language))
        return False

    def pretraining_text(self) -> list[TextRow]:
        """The sentences of the corpus for masked LM in the languages that were fetched; where none was, those of the
        fetched training and development files, as the source ``files`` draws them."""
        corpus = list(groups(self, "train", tasks=[MASKED_LM]))
        return pretraining_sentences(corpus or groups(self, "train", "dev"), groups(self, "test"))

    def _files_of(self, task: Task) -> FilesSource | None:
        entry = self._table.get(task.key)
        whole = entry and not entry.absent and not entry.note
        files = None if whole else self._files
        return files if files and any(files.languages(task, split) for split in task.files) else None

    def _paths(self, part: HubFiles, task: Task) -> list[Path]:
        """The files of the part, all of which must be there with their locked size."""
        locked = self._lock.datasets.get(part.repository, LockedRepository(revision=""))
        sizes = {
            cached("dataset", part.repository, locked.revision, name): locked.files[name].size
            for name in matching(locked.files, part.path)
        }
        archives = self._table[task.key].archives
        if not sizes or any(not path.is_file() or path.stat().st_size != size for path, size in sizes.items()):
            raise NotFetched(
                f"The data of {task.name} was not fetched: {part.path} of {part.repository}.",
                why="The source 'hub' reads the files that data.lock names from the hub's cache (HF_HOME).",
                fix=f"xlt fetch {task.key}"
                + (
                    "; or, if its official files were fetched: --data-root DIR, the folder they are in" * bool(archives)
                ),
            )
        return list(sizes)
