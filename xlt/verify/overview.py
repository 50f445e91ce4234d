"""A picture of every mean on what was expected of it: the first thing that the report shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from xlt.verify.charts import Axis
from xlt.verify.comparison import VERDICT_WORDS, VerdictWord
from xlt.verify.judge import Verification
from xlt.verify.tables import task_name

WIDTH, RIGHT, ROW, FOOT = 420, 44, 22, 18
LETTER, WIDEST_NAME = 7.2, 210  # of the font of charts, in pixels: more than the average, for names in capitals
# A verdict is told by its shape, so that it need not be told by its colour.
SHAPES: dict[VerdictWord, str] = {
    "exact": '<circle cx="{x}" cy="{y}" r="4.5"/>',
    "reproduced": '<rect x="{left}" y="{top}" width="8" height="8"/>',
    "consistent": '<path d="M{x},{above} l5.5,5.5 l-5.5,5.5 l-5.5,-5.5 z"/>',
    "deviates": '<path class="cross" d="M{left},{top} l8,8 m0,-8 l-8,8"/>',
    "collapsed": '<path d="M{left},{top} l8,0 l-4,8 z"/>',
    "not verifiable": '<circle class="hollow" cx="{x}" cy="{y}" r="4"/>',
}


@dataclass(frozen=True, slots=True)
class MeanRow:
    """A mean, its values and verdicts by seed, and the band around what was expected."""

    name: str
    points: tuple[tuple[float, VerdictWord], ...]
    expected: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Picture:
    """The means of one phase-2 model."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The pictures of all models, what their bands are, and the verdicts in them with the shape of each."""

    pictures: tuple[Picture, ...]
    bands: str
    shapes: tuple[tuple[VerdictWord, str], ...]


def overview(verification: Verification) -> Overview | None:
    """Pictures of the means that were judged: by what the paper prints where it was judged, else by recorded runs.

    None where nothing was expected of any mean.
    """
    paper = verification.paper
    cited = [each for each in paper.cells if each.cell.expected is not None and not each.cell.language] if paper else []
    groups: dict[str, list[MeanRow]] = {}
    if printed := [each for each in cited if each.value is not None]:
        bands = "the printed value with its margin"
        for each in printed:
            cell, value, expected = each.cell, each.value or 0.0, each.cell.expected or 0.0
            row = MeanRow(
                _short(cell.quantity),
                ((value, each.verdict),),
                expected,
                expected - cell.margin,
                expected + cell.margin,
            )
            groups.setdefault(f"{cell.arm} ({cell.table})", []).append(row)
    else:
        bands = "what the recorded seeds let expect; where it is absent, they reach so low that it would tell nothing"
        for arm, row in _recorded(verification):
            groups.setdefault(arm, []).append(row)
        if not any(row.expected is not None for rows in groups.values() for row in rows):
            return None
    words = {word for rows in groups.values() for row in rows for _, word in row.points}
    shapes = tuple((word, _shape(word, 8, 8)) for word in reversed(VERDICT_WORDS) if word in words)
    return Overview(tuple(Picture(arm, _picture(arm, rows)) for arm, rows in groups.items()), bands, shapes)


def _recorded(verification: Verification) -> Iterator[tuple[str, MeanRow]]:
    """The means that count, in the order of the first seed, with the values of all seeds and the band of the first."""
    for verdict in verification.verdicts:
        same = [other for each in verification.seeds for other in each.verdicts if other.key == verdict.key]
        points = tuple((other.value, other.verdict) for other in same if other.value is not None)
        if points and not verdict.diagnostic:
            band, split = verdict.band, "" if verdict.split == "test" else f" {verdict.split}"
            ends = (band.mean, band.low, band.high) if band else (None, 0.0, 0.0)
            yield verdict.arm, MeanRow(f"{_short(verdict.task)}{split}", points, *ends)


def _short(quantity: str) -> str:
    task, slash, metric = quantity.partition("/")
    return task_name(task).partition(" (")[0].removesuffix("-GoldP").removesuffix(" 2.5") + slash + metric


def _picture(arm: str, rows: list[MeanRow]) -> str:
    left = min(WIDEST_NAME, 12 + LETTER * max(len(row.name) for row in rows))
    axis, height = Axis(0.0, 100.0, left, WIDTH - RIGHT), ROW * len(rows) + FOOT
    bottom = height - FOOT
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(arm)}: each mean on its band; the numbers are in the tables below">',
        *(_tick(axis.place(tick), tick, bottom) for tick in axis.ticks()),
        *(part for number, row in enumerate(rows) for part in _row(row, ROW * number + ROW // 2, axis)),
        "</svg>",
    ]
    return "".join(parts)


def _tick(x: float, value: float, bottom: int) -> str:
    line = f'<line class="rule" x1="{x}" y1="0" x2="{x}" y2="{bottom}"/>'
    return f'{line}<text x="{x}" y="{bottom + 13}" text-anchor="middle">{value:.4g}</text>'


def _row(row: MeanRow, y: int, axis: Axis) -> Iterator[str]:
    if row.expected is not None:
        low, high = (axis.place(min(100.0, max(0.0, end))) for end in (row.low, row.high))
        middle = axis.place(min(100.0, max(0.0, row.expected)))
        yield f'<rect class="margin" x="{low}" y="{y - 7}" width="{high - low:.1f}" height="14"/>'
        yield f'<line class="middle" x1="{middle}" y1="{y - 7}" x2="{middle}" y2="{y + 7}"/>'
    for value, word in row.points:
        yield _shape(word, axis.place(value), y)
    yield f'<text class="name" x="{axis.begin - 8:.1f}" y="{y + 4}" text-anchor="end">{escape(row.name)}</text>'
    if len(row.points) == 1:
        yield f'<text class="name" x="{WIDTH}" y="{y + 4}" text-anchor="end">{row.points[0][0]:.1f}</text>'


def _shape(word: VerdictWord, x: float, y: float) -> str:
    shape = SHAPES.get(word, SHAPES["not verifiable"])
    drawn = shape.format(x=x, y=y, left=round(x - 4, 1), top=y - 4, above=y - 5.5)
    return f'<g class="point {word.replace(" ", "-")}">{drawn}</g>'
