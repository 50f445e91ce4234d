"""The report: one HTML page that needs nothing else, and the same verification as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from xlt.pipeline.store import writable, write_text
from xlt.verify.chart import STYLES, Series, line_chart
from xlt.verify.judge import RunState, Verification
from xlt.verify.log import Log, read_log
from xlt.verify.tables import (
    arms,
    english_rows,
    findings,
    language_tables,
    means_rows,
    metrics_text,
    task_name,
)
from xlt.verify.verdicts import VERDICT_WORDS

MARKS = {
    "exact": "✓",
    "reproduced": "✓",
    "consistent": "✓",
    "deviates": "✗",
    "collapsed": "✗",
    "not run": "○",
    "not verifiable": "–",
}
STAGES = ("train", "save", "evaluate")
FILES = ("spec.json", "log.jsonl", "metrics.json", "provenance.json", "MANIFEST.json")
SMOKE = {
    "world": "Constructed languages and a small model made on the spot.",
    "files": "Real text, but a small model made on the spot and a short training.",
}


@dataclass(frozen=True, slots=True)
class RunCard:
    """A run as the report shows it: ``links`` are its files, relative to the report, ``lines`` those of its curve."""

    state: RunState
    title: str
    links: tuple[tuple[str, str], ...]
    log: Log | None
    curve: str
    lines: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per stage."""
        return dict(self.provenance.get("seconds", {}))

    @property
    def memory(self) -> dict[str, float]:
        """Peak memory in GiB, resident and on the device."""
        peak = self.provenance.get("peak_memory", {})
        return {name.removesuffix("_bytes"): value / 2**30 for name, value in peak.items()}


def write_report(verification: Verification, results: Path) -> Path:
    """Write ``report/index.html`` and ``report/report.json`` below ``results``; returns the page.

    The same verification and run folders give the same bytes.
    """
    folder = results / "report"
    document = json.dumps(verification.model_dump(mode="json"), indent=1, ensure_ascii=False)
    with writable(results):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "report.json", document + "\n")
        write_text(folder / "index.html", render(verification, results))
    return folder / "index.html"


def render(verification: Verification, results: Path) -> str:
    """The page as text; logs and provenance are read from the folders of whole runs."""
    environment = Environment(
        loader=PackageLoader("xlt.verify", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "metrics": metrics_text,
        "task_name": task_name,
        "slug": lambda word: word.replace(" ", "-"),
        "thousands": lambda number: f"{number:,}".replace(",", "\u202f"),
    }
    cards = [_card(state, results) for state in verification.runs]
    stages = _stages(cards)
    return environment.get_template("report.html.j2").render(
        verification=verification,
        notice=_notice(verification),
        findings=findings(verification),
        arms=arms(verification),
        means=means_rows(verification),
        tables=language_tables(verification),
        english=english_rows(verification),
        cards=cards,
        anchors={card.state.folder: f"run-{card.state.hash}" for card in cards},
        stages=stages,
        totals={stage: sum(card.seconds.get(stage, 0.0) for card in cards) for stage in stages},
        marks=MARKS,
        words=VERDICT_WORDS,
        styles=STYLES,
    )


def _notice(verification: Verification) -> str:
    if verification.tier != "smoke":
        return ""
    what = SMOKE.get(verification.source.name, "A small model made on the spot.")
    return f"{what} This tier shows that the machine works; its numbers never stand for the paper's."


def _card(state: RunState, results: Path) -> RunCard:
    title = f"{state.phase}: {state.folder.rpartition('/')[2].rpartition('-')[0]}"
    if state.state != "done":
        return RunCard(state, title, (), None, "", (), {})
    folder = results / "runs" / state.folder
    log = read_log(folder)
    lines = _losses(log) if log else []
    curve = line_chart(lines, x_label="step", y_label="loss")
    links = tuple((name, f"../runs/{quote(state.folder)}/{name}") for name in FILES if (folder / name).is_file())
    provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
    return RunCard(state, title, links, log, curve, tuple(each.name for each in lines), provenance)


def _losses(log: Log) -> list[Series]:
    """The losses by step, a line per task."""
    points: dict[str, list[tuple[float, float]]] = {}
    for step, task, loss in zip(log.steps, log.tasks, log.losses, strict=True):
        points.setdefault(task, []).append((float(step), loss))
    return [Series(task_name(task), its) for task, its in sorted(points.items())]


def _stages(cards: Sequence[RunCard]) -> list[str]:
    found = {stage for card in cards for stage in card.seconds}
    return [stage for stage in STAGES if stage in found] + sorted(found - set(STAGES))
