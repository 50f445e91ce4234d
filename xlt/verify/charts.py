"""Line charts and forest plots as inline SVG: the same text for the same numbers, no script, no font, no other file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 36
ROW, FOOT, SIDE = 30, 34, 10  # of a forest plot
MOST_POINTS = 120
STYLES = 9  # lines that report.css can tell apart


Points = Sequence[tuple[float, float]]  # x and y


def line_chart(
    lines: Mapping[str, Points], *, x_label: str, y_label: str, points: bool = False, y_from: float | None = None
) -> str:
    """A chart of lines by their names, or of their ``points`` alone; ``y_from`` fixes the low end of the y axis.

    The lines differ in dash pattern, the points in shape, as well as in colour; long lines are thinned to means over
    equal stretches. Names and labels are escaped.
    """
    lines = {name: _thin(places) for name, places in lines.items() if places}
    if not lines:
        return ""
    xs, ys = zip(*(place for places in lines.values() for place in places), strict=True)
    x_axis = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y_axis = Axis(min(ys) if y_from is None else min(y_from, *ys), max(ys), HEIGHT - BOTTOM, TOP)
    title = escape(f"{y_label} by {x_label}: {', '.join(lines)}")
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">',
        *_grid(x_axis, y_axis),
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) // 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text class="axis" x="12" y="{(TOP + HEIGHT - BOTTOM) // 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {(TOP + HEIGHT - BOTTOM) // 2})">{escape(y_label)}</text>',
        *(
            part
            for number, places in enumerate(lines.values())
            for part in (_marks if points else _line)(places, number, x_axis, y_axis)
        ),
        "</svg>",
    ]
    return "".join(parts)


class Axis:
    """Numbers to places on the page, and round numbers for its ticks."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        span = high - low or abs(high) or 1.0
        # Numbers that are nearly equal, or nearly nothing, leave no room for ticks between them.
        rough = max(span, 1e-9 * max(abs(low), abs(high)), 1e-300) / 4
        magnitude = 10.0 ** math.floor(math.log10(rough))
        self.step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough)
        self.low = math.floor(low / self.step + 1e-9) * self.step
        self.high = max(math.ceil(high / self.step - 1e-9) * self.step, self.low + self.step)
        self.begin, self.end = begin, end

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)

    def ticks(self) -> list[float]:
        count = round((self.high - self.low) / self.step)
        return [self.low + number * self.step for number in range(count + 1)]


def _grid(x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        yield f'<line class="rule" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>'
    for tick in x_axis.ticks():
        x = x_axis.place(tick)
        yield f'<text x="{x}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{tick:.4g}</text>'


def _line(points: Points, number: int, x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    path = " ".join(f"{x_axis.place(x)},{y_axis.place(y)}" for x, y in points)
    yield f'<polyline class="line s{number % STYLES}" points="{path}"/>'


def _marks(points: Points, number: int, x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    yield from (mark(number, x_axis.place(x), y_axis.place(y)) for x, y in points)


def mark(number: int, x: float, y: float) -> str:
    """The mark of one point of the line of that number: a disc, a square, a triangle, and so on in other colours."""
    shapes = (
        f'<circle {{}} cx="{x}" cy="{y}" r="3.5"/>',
        f'<rect {{}} x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>',
        f'<path {{}} d="M{x},{y - 4:.1f} l4,7 l-8,0 z"/>',
    )
    return shapes[number % len(shapes)].format(f'class="mark s{number % STYLES}"')


def _thin(points: Points) -> Points:
    if len(points) <= MOST_POINTS:
        return points
    bounds = [round(number * len(points) / MOST_POINTS) for number in range(MOST_POINTS + 1)]
    stretches = [points[begin:end] for begin, end in pairwise(bounds)]
    return [
        (math.fsum(x for x, _ in part) / len(part), math.fsum(y for _, y in part) / len(part)) for part in stretches
    ]


@dataclass(frozen=True, slots=True)
class Delta:
    """A difference in points with its interval; ``expected`` with the margin on each side, where there is one."""

    name: str
    value: float
    low: float
    high: float
    expected: float | None = None
    margin: float = 0.0
    href: str = ""


def forest_plot(deltas: Sequence[Delta], *, x_label: str) -> str:
    """A line per difference, with its numbers beside it; empty for none. Names, labels and links are escaped."""
    if not deltas:
        return ""
    reach = [0.0, *(x for each in deltas for x in (each.low, each.high))]
    reach += [each.expected + side * each.margin for each in deltas if each.expected is not None for side in (-1, 1)]
    axis = Axis(min(reach), max(reach), SIDE, WIDTH - SIDE)
    height = ROW * len(deltas) + FOOT
    zero, bottom = axis.place(0.0), height - FOOT
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="group" aria-label="{escape(x_label)}">',
        *(_tick(axis.place(tick), tick, bottom) for tick in axis.ticks()),
        f'<line class="zero" x1="{zero}" y1="0" x2="{zero}" y2="{bottom}"/>',
        *(part for number, each in enumerate(deltas) for part in _row(each, ROW * number, axis)),
        f'<text x="{WIDTH // 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _tick(x: float, value: float, bottom: int) -> str:
    line = f'<line class="rule" x1="{x}" y1="0" x2="{x}" y2="{bottom}"/>'
    return f'{line}<text x="{x}" y="{bottom + 13}" text-anchor="middle">{value:+.4g}</text>'


def _row(delta: Delta, top: int, axis: Axis) -> Iterator[str]:
    y = top + 22
    name, numbers = escape(delta.name), f"{delta.value:+.1f}"
    if delta.low < delta.high:
        numbers += f" ({delta.low:+.1f} to {delta.high:+.1f})"
    if delta.expected:
        numbers += f", expected {delta.expected:+.1f}"
    if delta.expected is not None:
        x, (low, high) = axis.place(delta.expected), (axis.place(delta.expected + s * delta.margin) for s in (-1, 1))
        yield f'<rect class="margin" x="{low}" y="{y - 6}" width="{high - low:.1f}" height="12"/>'
        yield f'<path class="expected" d="M{x},{y - 5} l5,5 l-5,5 l-5,-5 z"/>'
    yield f'<line class="whisker" x1="{axis.place(delta.low)}" y1="{y}" x2="{axis.place(delta.high)}" y2="{y}"/>'
    yield f'<circle class="measured" cx="{axis.place(delta.value)}" cy="{y}" r="3.5"/>'
    if delta.href:
        name = f'<a href="{escape(delta.href)}">{name}</a>'
    yield f'<text class="name" x="0" y="{top + 11}">{name}</text>'
    yield f'<text x="{WIDTH}" y="{top + 11}" text-anchor="end">{numbers}</text>'
