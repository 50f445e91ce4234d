"""The tables of the report, as records that the template only lays out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from xlt.data.world import languages as world_languages
from xlt.evaluate.metrics import Metrics, judged_metrics
from xlt.tasks.catalogue import TASKS, get_task
from xlt.tasks.record import ENGLISH, Split
from xlt.verify.cells import Cell
from xlt.verify.charts import Delta, line_chart
from xlt.verify.claims import PaperTable, read_literature
from xlt.verify.comparison import UNSETTLED, VERDICT_WORDS, VerdictWord, estimate
from xlt.verify.gains import RecordedGain
from xlt.verify.judge import Verification, scores_of
from xlt.verify.looks import CellVerdict
from xlt.verify.paper import Paper
from xlt.verify.scores import BASELINE, NINE, ScoreUnavailable, tasks_of
from xlt.verify.verdicts import Statement, Verdict

METRICS = {"accuracy": "accuracy", "f1": "F1", "exact_match": "EM", "precision": "P", "recall": "R"}


@dataclass(frozen=True, slots=True)
class LanguageTable:
    """One task and split in all its languages: a cell by arm and language."""

    task: str
    split: Split
    arms: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]
    statements: tuple[Statement, ...]

    @property
    def languages(self) -> list[str]:
        """The languages, English first."""
        return sorted({language for _, language in self.cells}, key=lambda code: (code != ENGLISH, code))

    @property
    def metric(self) -> str:
        """What the cells hold, in words; the judged metrics are first, and are named where there are others."""
        names, judged = _order(next(iter(self.cells.values())).metrics, self.task), judged_metrics(get_task(self.task))
        first = " / ".join(METRICS.get(name, name) for name in judged)
        if len(judged) > 1:
            first += " (judged by their mean)"
        elif len(names) > 1:
            first += " (judged)"
        return " / ".join([first, *(METRICS.get(name, name) for name in names[len(judged) :])])

    def gold(self, language: str) -> Cell:
        """A cell of the language: chance, majority and number of examples are the same in all."""
        return next(cell for (_, code), cell in self.cells.items() if code == language)

    def gap(self, arm: str, language: str) -> float | None:
        """How much more than in English the arm has in the language."""
        here, there = self.cells.get((arm, language)), self.cells.get((arm, ENGLISH))
        return here.score - there.score if here and there else None

    @property
    def others(self) -> list[str]:
        """The languages but English, by their distance from it where that is known."""
        return sorted(self.languages[ENGLISH in self.languages :], key=lambda code: distance(code) or 0.0)

    @property
    def transfer(self) -> bool:
        """Whether English is among the languages, with others to compare with it."""
        return len(self.languages) > 1 and ENGLISH in self.languages

    @property
    def chart(self) -> str:
        """The scores by distance from English; empty where too few distances are known."""
        lines: dict[str, list[tuple[float, float]]] = {}
        for arm in self.arms:
            found = [(distance(code), self.cells.get((arm, code))) for code in self.languages]
            lines[arm] = sorted((far, cell.score) for far, cell in found if far is not None and cell)
        if not any(len(points) > 2 for points in lines.values()):
            return ""
        return line_chart(lines, x_label="distance from English", y_label="score", points=True, y_from=0)


def distance(language: str) -> float | None:
    """How far the language is from English, if it is constructed."""
    return world_languages()[language].distance if language in world_languages() else None


def findings(verification: Verification) -> list[tuple[tuple[str, str, str], list[Verdict]]]:
    """What failed or was not judged, by word, reason and fix, failures first."""
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in sorted(verification.verdicts, key=lambda each: VERDICT_WORDS.index(each.verdict)):
        if verdict.verdict in UNSETTLED and not verdict.diagnostic:
            groups.setdefault((verdict.verdict, verdict.reason, verdict.fix), []).append(verdict)
    return list(groups.items())


def diagnostics(verification: Verification) -> dict[str, list[Verdict]]:
    """The means that are shown only, by the reason."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verification.verdicts:
        if verdict.diagnostic:
            found.setdefault(verdict.reason, []).append(verdict)
    return found


def arms(verification: Verification) -> tuple[str, ...]:
    """The phase-2 models in the order of the grid."""
    return tuple(dict.fromkeys(verdict.arm for verdict in verification.verdicts))


def means_rows(
    verification: Verification,
) -> Iterator[tuple[str, Split, list[tuple[Verdict | None, RecordedGain | None]]]]:
    """By task and split the verdict on each arm, and what the arm has over the first one in the recorded seeds."""
    given = {verdict.key: verdict for verdict in verification.verdicts}
    gains = {gain.key: gain for gain in verification.gains}
    for task, split in dict.fromkeys((verdict.task, verdict.split) for verdict in verification.verdicts):
        keys = [(arm, task, split) for arm in arms(verification)]
        yield task, split, [(given.get(key), gains.get(key)) for key in keys]


def trained_elsewhere(verification: Verification) -> dict[str, str]:
    """By the folder of a run that trained nothing and takes the model of another arm: what that was trained on."""
    by_hash = {run.hash: run for run in verification.runs}
    found = {}
    for run in verification.runs:
        parent = by_hash.get(run.parent or "")
        if not run.train and parent and parent.arm and parent.arm != run.arm:
            found[run.folder] = ", ".join(map(task_name, parent.train))
    return found


def language_tables(verification: Verification) -> Iterator[LanguageTable]:
    """One table per task and split that was recomputed, in the order of the means."""
    for task, split in dict.fromkeys((each.task, each.split) for each in verification.verdicts):
        found = [cell for cell in verification.cells if (cell.task, cell.split) == (task, split)]
        if found:
            yield LanguageTable(
                task,
                split,
                tuple(arm for arm in arms(verification) if any(cell.arm == arm for cell in found)),
                {(cell.arm, cell.language): cell for cell in found},
                tuple(each for each in verification.statements if (each.task, each.split) == (task, split)),
            )


def task_name(key: str) -> str:
    """The paper's name of a task."""
    return TASKS[key].name if key in TASKS else key


def metrics_text(metrics: Metrics | None, task: str) -> str:
    """The metrics of a task with one decimal, those first by which it is judged."""
    if metrics is None:
        return "–"
    return " / ".join(f"{metrics[name]:.1f}" for name in _order(metrics, task))


def _order(metrics: Metrics, task: str) -> list[str]:
    judged, known = judged_metrics(get_task(task)), list(METRICS)
    places = {name: place for place, name in enumerate([*judged, *(name for name in known if name not in judged)])}
    return sorted(metrics, key=lambda name: (places.get(name, len(places)), name))


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """A table of the paper: a row per arm, a column per quantity, and by task the cells of single languages.

    ``reasons`` says why cells were not measured: verdict, reason, and the cells.
    """

    table: PaperTable
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[CellVerdict | None, ...]], ...]
    by_language: dict[str, list[CellVerdict]]
    reasons: list[tuple[VerdictWord, str, list[str]]]

    @property
    def unread(self) -> bool:
        """Whether none of its values was read."""
        return all(cell is None or cell.cell.expected is None for _, cells in self.rows for cell in cells)


def printed_tables(paper: Paper) -> list[PrintedTable]:
    """Every table with a cell that was judged; tables with values come first."""
    made = []
    for table in read_literature().tables:
        if cells := [each for each in paper.cells if each.cell.table == table.name]:
            made.append(_printed_table(table, cells))
    return sorted(made, key=lambda each: each.unread)


def _printed_table(table: PaperTable, cells: Sequence[CellVerdict]) -> PrintedTable:
    whole = {(each.cell.arm, each.cell.quantity): each for each in cells if not each.cell.language}
    order = [*(name for row in table.rows for name in (*row.values, *row.unknown)), *table.unknown]
    columns = tuple(name for name in dict.fromkeys(order) if any(quantity == name for _, quantity in whole))
    rows = {row.arm: tuple(whole.get((row.arm, name)) for name in columns) for row in table.rows}
    single = sorted((each for each in cells if each.cell.language), key=lambda each: (each.cell.quantity, each.key))
    missing: dict[tuple[VerdictWord, str], list[str]] = {}
    for each in sorted(whole.values(), key=lambda each: VERDICT_WORDS.index(each.verdict)):
        if each.value is None:
            missing.setdefault((each.verdict, each.reason), []).append(f"{each.cell.arm} {each.cell.quantity}")
    return PrintedTable(
        table,
        columns,
        tuple((arm, found) for arm, found in rows.items() if any(found)),
        {task: list(found) for task, found in groupby(single, key=lambda each: each.cell.quantity)},
        [(*key, names) for key, names in missing.items()],
    )


class SeedLinks:
    """Where the page has the run behind a score, by seed, arm and task, and all scores of each seed.

    ``anchors`` has the runs by folder.
    """

    def __init__(self, verification: Verification, anchors: dict[str, str]) -> None:
        self.runs: dict[tuple[int, str, str], str] = {}
        self.means: dict[int, str] = {}
        for each in verification.seeds:
            self.means[each.seed] = f"means-{each.seed}" if verification.further else "means"
            found = (cell for cell in each.cells if cell.run in anchors)
            self.runs |= {(each.seed, cell.arm, cell.task): anchors[cell.run] for cell in found}

    def of(self, cell: CellVerdict) -> list[tuple[int, str]]:
        """An anchor for each seed of the cell: its run, or where several are behind it, all scores of the seed."""
        arm, tasks = cell.cell.arm, tasks_of(cell.cell.quantity)
        runs = self.runs if len(tasks) == 1 else {}
        return [(seed, runs.get((seed, arm, tasks[0]), self.means[seed])) for seed in cell.seeds]


def differences(paper: Paper, links: SeedLinks) -> list[Delta]:
    """Measured minus printed, for every printed mean that was judged."""
    found = []
    for each in paper.cells:
        printed = each.cell.expected
        if each.value is None or each.low is None or each.high is None or printed is None or each.cell.language:
            continue
        ends, href = (each.low - printed, each.high - printed), f"#{links.of(each)[0][1]}"
        found.append(Delta(each.key, each.value - printed, *ends, 0.0, each.cell.margin, href))
    return found


def gains(verification: Verification, links: SeedLinks) -> dict[str, list[Delta]]:
    """The gain of each arm over the baseline of the same seed on the dev sets: the average of the nine target tasks
    with what the paper says of it, and each of them."""
    scores, href = scores_of(verification), f"#{links.means[verification.seed]}"
    found: dict[str, list[Delta]] = {}
    for quantity in ("average", *NINE):
        for arm in scores.arms:
            try:
                seeds = scores.usable((BASELINE, arm), [quantity], "dev").seeds
                gain = estimate(scores.gains(seeds, (arm,), BASELINE, quantity, "dev"))
            except ScoreUnavailable:
                continue
            half = gain.half_width()
            said = _expected(verification.paper, arm) if quantity == "average" else (None, 0.0)
            delta = Delta(arm, gain.value, gain.value - half, gain.value + half, *said, href)
            found.setdefault(quantity, []).append(delta)
    return found


def _expected(paper: Paper | None, arm: str) -> tuple[float | None, float]:
    """What the paper says of the arm's average gain, and the margin; nothing where the claims were not judged."""
    for each in paper.claims if paper else ():
        for gain in each.claim.gains if each.parts else ():
            if arm in (*gain.arms, *gain.substitutes):
                return gain.expected, each.claim.margin
    return None, 0.0
