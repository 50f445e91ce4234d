"""``RESULTS/study.html``: the answer of a study as one page without a script."""

from __future__ import annotations

from pathlib import Path

from xlt.files import writable, write_text
from xlt.verify.charts import Delta, forest_plot
from xlt.verify.pages import environment
from xlt.verify.study import StudyAnswer

PAGE = "study.html"
LABELS = {"points": "points, mean over seeds with its 95 % interval", "correlation": "correlation, likewise"}


def render(found: StudyAnswer) -> str:
    """The page; the same answer gives the same bytes."""
    charts = {
        unit: forest_plot(
            [
                Delta(test.name, test.value, test.low, test.high)
                for test in found.tests
                if test.unit == unit and test.value is not None and test.low is not None and test.high is not None
            ],
            x_label=label,
        )
        for unit, label in LABELS.items()
    }
    return (
        environment()
        .get_template("study.html.j2")
        .render(found=found, charts=[each for each in charts.values() if each])
    )


def write_page(found: StudyAnswer, results: Path) -> None:
    """Write ``RESULTS/study.html``."""
    with writable(results):
        write_text(results / PAGE, render(found))
