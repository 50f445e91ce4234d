"""The first picture of the report: every mean that counts, on its band, its verdict told by a shape."""

from __future__ import annotations

import re

from xlt.verify.judge import verify
from xlt.verify.overview import SHAPES, overview
from xlt.verify.report import render

from .tiny_results import shifted


def test_each_mean_is_a_row_with_its_band_its_value_and_the_shape_of_its_verdict(make, recorded) -> None:
    made = make().fill(shifted(-20, "mnli", "xnli"))
    found = verify(made.root, made.source)
    shown = overview(found)
    assert shown is not None
    assert [each.title for each in shown.pictures] == ["baseline", "mnli"]
    counted = [each for each in found.verdicts if not each.diagnostic]
    drawn = "".join(each.svg for each in shown.pictures)
    assert drawn.count('class="margin"') == sum(each.band is not None for each in counted)
    for verdict in counted:
        assert f">{verdict.value:.1f}</text>" in drawn
    assert drawn.count('class="point deviates"') == sum(each.verdict == "deviates" for each in counted) == 1
    assert {word for word, _ in shown.shapes} == {each.verdict for each in counted}


def test_the_value_stands_where_its_axis_says(make, recorded) -> None:
    made = make().fill()
    shown = overview(verify(made.root, made.source))
    assert shown is not None
    svg = shown.pictures[0].svg
    ticks = [float(x) for x in re.findall(r'<line class="rule" x1="([\d.]+)"', svg)]
    drawn = [float(x) for x in re.findall(r'class="point \S+"><circle(?: class="hollow")? cx="([\d.]+)"', svg)]
    drawn += [float(x) + 4 for x in re.findall(r'class="point \S+"><rect x="([\d.]+)"', svg)]
    drawn += [float(x) for x in re.findall(r'class="point \S+"><path d="M([\d.]+),', svg)]
    # DERIVED: the usual run has 54, 48 and 42 of 60 right, 80 % on average; the axis goes from 0 to 100.
    assert any(abs(x - (ticks[0] + 0.8 * (ticks[-1] - ticks[0]))) <= 0.2 for x in drawn)


def test_no_two_verdicts_have_the_same_shape() -> None:
    assert len(set(SHAPES.values())) == len(SHAPES)


def test_the_picture_stands_before_everything_but_the_conclusion(make, recorded) -> None:
    made = make().fill()
    page = render(verify(made.root, made.source), made.root)
    assert page.index('class="conclusion') < page.index('id="overview"') < page.index("<nav") < page.index("<section")


def test_nothing_is_drawn_where_nothing_is_expected(results) -> None:
    assert overview(verify(results.root, results.source)) is None
