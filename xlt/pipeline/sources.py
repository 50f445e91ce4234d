"""Opening a source of rows by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xlt.data.files.source import FilesSource, UserFiles
from xlt.data.perturb import Perturbation
from xlt.data.perturbed import PerturbedSource
from xlt.data.rows import CandidateRow, MiningRow, QueryRow, Row, TextRow
from xlt.data.source import Source
from xlt.data.synonyms import read_synonyms, with_synonyms
from xlt.data.world import WorldSource
from xlt.errors import UsageFault
from xlt.tasks.record import ENGLISH, Split, Task


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How the user named a source. ``seed`` is the seed of the world that results were made from, if it is known;
    ``perturb`` says how evaluation rows are perturbed (see ``Perturbation``)."""

    name: str = "world"
    data_root: Path | None = None
    seed: int | None = None
    limit: int = 0
    perturb: str = ""


class RecipeSource:
    """The rows of another source, as many of them as the recipe of the task that is asked for says."""

    def __init__(self, source: Source, root: Path | None = None) -> None:
        self.name, self.settings, self.languages = source.name, source.settings, source.languages
        self.pretraining_text = source.pretraining_text
        self._source, self._root = source, root

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """Rows evenly spaced over those of the other source: neighbours share a paragraph or a genre, and of parallel
        test sets every language keeps the same rows. Of English training rows, copies with synonyms where asked for;
        they are read below the root."""
        rows, trained = self._source.rows(task, split, language), split == "train"
        most = task.recipe.train_examples if trained else task.recipe.test_examples
        if 0 < most < len(rows):
            rows = _searched(rows, most) or [rows[place * len(rows) // most] for place in range(most)]
        if trained and task.recipe.synonyms and language == ENGLISH:
            return with_synonyms(rows, read_synonyms(self._root), task.recipe.synonyms)
        return rows


class LimitedSource:
    """The first ``limit`` rows of every split of another source, and of its text for phase 1 the first ``lines``, or
    all.

    Mining keeps ``limit`` sentences of either side, first the English ones that translate a foreign one which is kept.
    Of a pool ``limit`` candidates are kept, first the right ones of the queries that are, and of these all.
    """

    def __init__(self, source: Source, limit: int, lines: int | None = None) -> None:
        self.name = source.name
        self.settings: dict[str, int | str] = {**source.settings, "limit": limit}
        self.languages = source.languages
        self._source, self._limit, self._lines = source, limit, lines

    def pretraining_text(self) -> list[TextRow]:
        """The first lines of the text of the other source."""
        return self._source.pretraining_text()[: self._lines]

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """The first rows of the other source."""
        rows = self._source.rows(task, split, language)
        return _searched(rows, self._limit) or rows[: self._limit]


def _searched(rows: Sequence[Row], limit: int) -> list[Row]:
    """The first sentences of either side of a mining set, or queries with candidates; none of another kind of rows."""
    queries = [row for row in rows if isinstance(row, QueryRow)][:limit]
    if queries:
        right = {answer for row in queries for answer in row.answers}
        pool = sorted((row for row in rows if isinstance(row, CandidateRow)), key=lambda row: row.id not in right)
        return [*queries, *pool[: max(limit, len(right))]]
    mined = [row for row in rows if isinstance(row, MiningRow)]
    return list(_first_of_each_side(mined, limit)) if mined else []


def _first_of_each_side(rows: list[MiningRow], limit: int) -> Iterator[MiningRow]:
    foreign = [row for row in rows if not row.english][:limit]
    wanted = {match for row in foreign for match in row.matches}
    english = sorted((row for row in rows if row.english), key=lambda row: row.id not in wanted)
    kept = {row.id for row in english[:limit]}
    for row in foreign:
        # A translation that is not kept cannot be found, and must not count as missed.
        yield replace(row, matches=tuple(match for match in row.matches if match in kept))
    yield from (row for row in rows if row.english and row.id in kept)


def open_source(options: SourceOptions) -> Source:
    """The source that ``options`` name.

    Raises:
        UsageFault: no source or perturbation has that name, or the data root was not given.
    """
    root = lexica = options.data_root
    source: Source
    if options.name == "world":
        source = WorldSource(options.seed)
        lexica = source.root
    elif options.name == "files":
        if root is None:
            raise UsageFault(
                "The source 'files' needs the folder that holds the task files.", fix="Add --data-root DIR."
            )
        source = FilesSource(root)
    elif options.name == "hub":
        # Imported here: it loads pyarrow, for which the processes of other sources would wait.
        from xlt.data.hub.source import HubSource

        source = HubSource(FilesSource(root) if root else None)
    else:
        sources = "Sources: world, files, hub."
        raise UsageFault(f"There is no source '{options.name}'.", why=sources, fix="--source world")
    if root is not None:
        source = UserFiles(source, root)
    whole, source = source, RecipeSource(source, lexica)
    source = LimitedSource(source, options.limit) if options.limit else source
    if not options.perturb:
        return source
    return PerturbedSource(source, whole, Perturbation.parse(options.perturb), lexica)
