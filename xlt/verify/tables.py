"""The tables of the report, as records that the template only lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlt.data.world import languages as world_languages
from xlt.evaluate.metrics import Metrics
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split
from xlt.verify.cells import Cell
from xlt.verify.chart import Series, line_chart
from xlt.verify.judge import Verification
from xlt.verify.verdicts import VERDICT_WORDS, Statement, Verdict

SOUND = ("consistent", "reproduced", "exact")
METRICS = {"accuracy": "accuracy", "f1": "F1", "exact_match": "EM", "precision": "P", "recall": "R"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was said about several means."""

    word: str
    reason: str
    fix: str
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class MeansRow:
    """The verdicts on one task and split, one per arm; None where an arm does not have it."""

    task: str
    split: Split
    verdicts: tuple[Verdict | None, ...]

    @property
    def gains(self) -> tuple[float | None, ...]:
        """How much more each arm has than the first one."""
        values = [verdict.value if verdict else None for verdict in self.verdicts]
        first = values[0]
        return (None, *(None if first is None or value is None else value - first for value in values[1:]))


@dataclass(frozen=True, slots=True)
class LanguageRow:
    """One language of one task and split: gold facts, and the cell of each arm."""

    language: str
    name: str
    cells: tuple[Cell | None, ...]
    gaps: tuple[float | None, ...]

    @property
    def gold(self) -> Cell:
        """A cell of the row: chance, majority and number of examples are the same in all."""
        return next(cell for cell in self.cells if cell is not None)

    @property
    def distance(self) -> float | None:
        """How far the language is from English, if it is constructed."""
        constructed = world_languages().get(self.language)
        return constructed.distance if constructed else None


@dataclass(frozen=True, slots=True)
class EnglishRow:
    """A task with English alone, and the cell of each arm."""

    task: str
    split: Split
    metric: str
    row: LanguageRow


@dataclass(frozen=True, slots=True)
class LanguageTable:
    """All languages of one task and split, English first; ``transfer`` says that there is a gap to show."""

    task: str
    split: Split
    metric: str
    arms: tuple[str, ...]
    rows: tuple[LanguageRow, ...]
    statements: tuple[Statement, ...]
    chart: str

    @property
    def transfer(self) -> bool:
        """Whether English is among the languages, with others to compare with it."""
        return len(self.rows) > 1 and any(row.language == "en" for row in self.rows)

    @property
    def by_distance(self) -> list[LanguageRow]:
        """The rows by distance from English where it is known."""
        return sorted(self.rows, key=lambda row: -1.0 if row.language == "en" else row.distance or 0.0)


def findings(verification: Verification) -> list[Finding]:
    """The verdicts that are not sound, those with one reason together, failures first."""
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for word in VERDICT_WORDS:
        for verdict in verification.verdicts:
            if verdict.verdict == word and word not in SOUND:
                groups.setdefault((word, verdict.reason, verdict.fix), []).append(verdict)
    return [Finding(*key, tuple(verdicts)) for key, verdicts in groups.items()]


def arms(verification: Verification) -> tuple[str, ...]:
    """The phase-2 models in the order of the grid."""
    return tuple(dict.fromkeys(verdict.arm for verdict in verification.verdicts))


def means_rows(verification: Verification) -> list[MeansRow]:
    """One row per task and split, one verdict per arm."""
    given = {(verdict.arm, verdict.task, verdict.split): verdict for verdict in verification.verdicts}
    keys = dict.fromkeys((verdict.task, verdict.split) for verdict in verification.verdicts)
    names = arms(verification)
    return [MeansRow(task, split, tuple(given.get((arm, task, split)) for arm in names)) for task, split in keys]


def language_tables(verification: Verification) -> list[LanguageTable]:
    """One table per task and split that was recomputed in several languages, in the order of the means."""
    groups = _recomputed(verification)
    return [
        _language_table(verification, *key, cells)
        for key, cells in groups.items()
        if {cell.language for cell in cells} != {"en"}
    ]


def english_rows(verification: Verification) -> list[EnglishRow]:
    """One row per task and split that was recomputed in English alone, with all arms."""
    names = arms(verification)
    return [
        EnglishRow(task, split, _metric(cells), _language_row("en", names, {(cell.arm, "en"): cell for cell in cells}))
        for (task, split), cells in _recomputed(verification).items()
        if {cell.language for cell in cells} == {"en"}
    ]


def _recomputed(verification: Verification) -> dict[tuple[str, Split], list[Cell]]:
    groups: dict[tuple[str, Split], list[Cell]] = {(each.task, each.split): [] for each in verification.verdicts}
    for cell in verification.cells:
        groups.get((cell.task, cell.split), []).append(cell)
    return {key: cells for key, cells in groups.items() if cells}


def _metric(cells: Sequence[Cell]) -> str:
    return " / ".join(METRICS.get(name, name) for name in _order(cells[0].metrics))


def _language_table(verification: Verification, task: str, split: Split, cells: Sequence[Cell]) -> LanguageTable:
    names = tuple(arm for arm in arms(verification) if any(cell.arm == arm for cell in cells))
    by_place = {(cell.arm, cell.language): cell for cell in cells}
    languages = sorted({cell.language for cell in cells}, key=lambda code: (code != "en", code))
    rows = tuple(_language_row(code, names, by_place) for code in languages)
    statements = [each for each in verification.statements if (each.task, each.split) == (task, split)]
    return LanguageTable(
        task=task,
        split=split,
        metric=_metric(cells),
        arms=names,
        rows=rows,
        statements=tuple(statements),
        chart=_distance_chart(names, rows),
    )


def _language_row(code: str, names: Sequence[str], by_place: dict[tuple[str, str], Cell]) -> LanguageRow:
    found = tuple(by_place.get((arm, code)) for arm in names)
    english = [by_place.get((arm, "en")) for arm in names]
    gaps = tuple(
        here.score - there.score if here and there else None for here, there in zip(found, english, strict=True)
    )
    constructed = world_languages().get(code)
    name = constructed.name if constructed else ""
    return LanguageRow(code, name, found, gaps)


def _distance_chart(names: Sequence[str], rows: Sequence[LanguageRow]) -> str:
    series = []
    for number, arm in enumerate(names):
        points = [
            (row.distance, cell.score)
            for row in rows
            if row.distance is not None and (cell := row.cells[number]) is not None
        ]
        series.append(Series(arm, sorted(points)))
    if not any(len(each.points) > 2 for each in series):
        return ""
    return line_chart(series, x_label="distance from English", y_label="score", marks=True, y_from=0)


def task_name(key: str) -> str:
    """The paper's name of a task."""
    return TASKS[key].name if key in TASKS else key


def metrics_text(metrics: Metrics | None) -> str:
    """The metrics with one decimal, F1 before exact match."""
    if metrics is None:
        return "–"
    return " / ".join(f"{metrics[name]:.1f}" for name in _order(metrics))


def _order(metrics: Metrics) -> list[str]:
    return sorted(metrics, key=lambda name: (list(METRICS).index(name) if name in METRICS else 9, name))
