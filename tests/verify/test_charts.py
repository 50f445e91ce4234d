"""Charts of any numbers, and forest plots: every number in words, links, the margin, nothing for nothing."""

from __future__ import annotations

import math
import re

import pytest

from xlt.verify.charts import Delta, forest_plot, line_chart


def test_a_row_says_its_numbers_and_links_to_its_runs():
    rows = [Delta("mnli", 7.5, 6.0, 9.0, 8.2, 1.0, "#means"), Delta("<b>", -1.0, -2.0, 0.5)]
    plot = forest_plot(rows, x_label="points & more")
    assert "+7.5 (+6.0 to +9.0), expected +8.2" in plot
    assert "-1.0 (-2.0 to +0.5)</text>" in plot
    # One seed has no interval.
    assert '"end">+2.0</text>' in forest_plot([Delta("a", 2.0, 2.0, 2.0)], x_label="x")
    assert '<a href="#means">mnli</a>' in plot
    assert "&lt;b&gt;" in plot
    assert "points &amp; more" in plot
    assert (plot.count("<circle"), plot.count("<rect"), plot.count('class="zero"')) == (2, 1, 1)


def test_places_are_in_the_order_of_the_values_and_inside_the_picture():
    plot = forest_plot([Delta("a", 1.0, -3.0, 5.0, 2.0, 4.0)], x_label="x")
    measured, expected = (float(re.search(pattern, plot)[1]) for pattern in (r'cx="([\d.]+)"', r'd="M([\d.]+),'))
    zero = float(re.search(r'class="zero" x1="([\d.]+)"', plot)[1])
    low, width = (float(re.search(rf'<rect [^>]*{name}="([\d.]+)"', plot)[1]) for name in ("x", "width"))
    assert 0 <= low < zero < measured < expected < low + width <= 420


def test_points_of_things_that_are_not_in_a_row_are_not_joined_and_differ_in_shape():
    places = [(0.0, 1.0), (0.5, 2.0), (0.5, 3.0)]
    chart = line_chart({"a": places, "b": places, "c": places, "d": places}, x_label="x", y_label="y", points=True)
    assert "<polyline" not in chart
    assert [chart.count(each) for each in ("<circle", "<rect", "<path")] == [6, 3, 3]
    assert {f's{number}"' for number in range(4)} <= set(re.findall(r's\d"', chart))


def test_nothing_is_drawn_for_nothing():
    assert forest_plot([], x_label="x") == ""


@pytest.mark.parametrize(
    "losses", [(0, 0), (0, 5e-324), (1e12, math.nextafter(1e12, 2e12)), (-1e12, 1e12), (1e-300, 0)]
)
def test_a_line_lies_inside_the_picture_whatever_its_numbers_are(losses: tuple[float, float]):
    chart = line_chart({"a": list(enumerate(losses))}, x_label="x", y_label="y")
    places = [tuple(map(float, each.split(","))) for each in re.search(r'points="([^"]+)"', chart)[1].split()]
    assert len(places) == 2
    assert all(0 <= x <= 420 and 0 <= y <= 210 for x, y in places)
