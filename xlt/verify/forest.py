"""Forest plots as inline SVG, and the gains over the baseline that one shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from xlt.tasks.record import Split
from xlt.verify.chart import WIDTH, Axis
from xlt.verify.judge import Verification
from xlt.verify.literature import read_claims, read_literature
from xlt.verify.paper import Paper, scores_of
from xlt.verify.scores import BASELINE, NINE, Lacking, Scores
from xlt.verify.statistics import Contrast, contrast

ROW, FOOT, SIDE = 30, 34, 10


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
    name, numbers = escape(delta.name), f"{delta.value:+.1f} ({delta.low:+.1f} to {delta.high:+.1f})"
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


def gains(verification: Verification, href: str) -> dict[str, list[Delta]]:
    """The gain of each phase-2 model over the baseline of the same seed on the dev sets: the average of the nine
    target tasks with what the paper says of it, and each of them; ``href`` is where the scores are."""
    scores = scores_of((verification, *verification.further), read_literature(), read_claims())
    found: dict[str, list[Delta]] = {}
    for quantity, tasks in {"average": NINE, **{task: (task,) for task in NINE}}.items():
        for arm in scores.arms:
            if (made := _gain(scores, arm, tasks, "dev")) is None:
                continue
            expected, margin = _expected(verification.paper, arm) if quantity == "average" else (None, 0.0)
            delta = Delta(arm, made.estimate, made.low, made.high, expected, margin, href)
            found.setdefault(quantity, []).append(delta)
    return found


def _gain(scores: Scores, arm: str, tasks: Sequence[str], split: Split) -> Contrast | None:
    try:
        seeds = scores.usable((BASELINE, arm), tasks, split)
        deltas = [scores.deltas(seeds, (arm,), BASELINE, task, split) for task in tasks]
    except Lacking:
        return None
    return contrast(arm, [(1 / len(tasks), each) for each in deltas])


def _expected(paper: Paper | None, arm: str) -> tuple[float | None, float]:
    """What the paper says of the arm's average gain, and the margin; of arms only that a claim was judged with."""
    for each in paper.claims if paper else ():
        judged = {part.name for part in each.parts if part.value is not None}
        for gain in each.claim.gains:
            if arm in gain.arms and gain.name in judged:
                return gain.expected, each.claim.margin
    return None, 0.0
