"""The report: one HTML page that needs nothing else, the same verification as JSON, and an RO-Crate of the grid.

As a program it prints the JSON schema of ``report.json``: ``python -m xlt.verify.report``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xlt.data.world import languages as world_languages
from xlt.errors import UsageFault
from xlt.files import writable, write_bytes, write_text
from xlt.pipeline.store import Provenance, read_provenance
from xlt.verify import tables
from xlt.verify.cells import collapsed_cells
from xlt.verify.charts import STYLES, Points, forest_plot, line_chart, mark
from xlt.verify.comparison import VERDICT_WORDS
from xlt.verify.conclusion import conclusions, headline
from xlt.verify.crate import CRATE, crate
from xlt.verify.heat import gap_tables, read_languages, score_tables
from xlt.verify.judge import RunState, Verification
from xlt.verify.layers import Layers, read_layers
from xlt.verify.log import Log, read_log
from xlt.verify.overview import overview
from xlt.verify.pages import environment
from xlt.verify.robustness import NO_INTERVAL, models
from xlt.verify.verdicts import count_verdicts

MARKS = dict(zip(VERDICT_WORDS, "✗✗○–≈✓✓", strict=True))
STAGES = ("train", "save", "evaluate")
FILES = ("spec.json", "log.jsonl", "metrics.json", "provenance.json", "MANIFEST.json")
SMOKE = {
    "world": "Constructed languages and a small model made on the spot.",
    "files": "Real text, but a small model made on the spot and a short training.",
}
CONSTRUCTED = "constructed"


@dataclass(frozen=True, slots=True)
class RunCard:
    """A run as the report shows it: ``links`` lead to its files, ``lines`` name the lines of its curve."""

    state: RunState
    title: str
    links: tuple[tuple[str, str], ...]
    log: Log | None
    curve: str
    lines: tuple[str, ...]
    provenance: Provenance | None

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per stage."""
        return self.provenance.seconds if self.provenance else {}


@dataclass(frozen=True, slots=True)
class SeedReport:
    """One seed of the report: its verification and its runs. Their files lie below ``base``; if empty, without links.

    ``suffix`` and ``ids`` make its headings and anchors differ from other seeds'.
    """

    verification: Verification
    cards: tuple[RunCard, ...]
    suffix: str
    ids: str
    base: str
    layers: Layers

    @property
    def collapsed(self) -> Iterator[tuple[str, str, str]]:
        """The runs that collapsed: their folder, the folder of the second attempt, and the link to the log."""
        runs = {(run.phase, run.arm, run.train, run.evaluate): run.folder for run in self.verification.runs}
        for first in self.verification.collapsed:
            second = runs.get((first.phase, first.arm, first.train, first.evaluate), "")
            yield first.folder, second, f"{self.base}/{quote(first.folder)}/log.jsonl" if self.base else ""


def write_report(verification: Verification, *folders: Path) -> Path:
    """Write report, scores and crate below the first of the results folders, one for each seed; returns the page.

    The same verification and run folders give the same bytes.

    Raises:
        UsageFault: the report would be written elsewhere, or something is in its way.
        EnvironmentFault: it cannot be written.
    """
    results = folders[0]
    folder = results / "report"
    if folder.is_symlink():
        raise UsageFault(f"'{folder}' is a link: the report would be written elsewhere.", fix=f"rm '{folder}'")
    document = json.dumps(verification.model_dump(mode="json"), indent=1, ensure_ascii=False)
    with writable(results):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "report.json", document + "\n")
        write_text(folder / "index.html", render(verification, *folders))
        # In the documents "chance" is a random guess alone; this column is the better of that and the majority.
        table = verification.table.rename(columns={"chance": "guess"})
        write_text(folder / "cells.csv", table.to_csv(index=False, lineterminator="\n"))
        write_bytes(folder / "cells.parquet", table.to_parquet(index=False))
        write_text(results / CRATE, json.dumps(crate(verification, results), indent=1, ensure_ascii=False) + "\n")
    return folder / "index.html"


def schema() -> str:
    """The JSON schema of ``report.json``."""
    return json.dumps(Verification.model_json_schema(mode="serialization"), indent=1) + "\n"


def render(verification: Verification, *folders: Path) -> str:
    """The page as text; logs and provenance are read from the folders of whole runs."""
    templates = environment()
    templates.filters |= {
        "metrics": tables.metrics_text,
        "task_name": tables.task_name,
        "slug": lambda word: word.replace(" ", "-"),
        "thousands": lambda number: f"{number:,}".replace(",", "\u202f"),
    }
    seeds, parts = verification.seeds, _parts(verification, folders)
    cards = [card for part in parts for card in part.cards]
    anchors = {card.state.folder: f"run-{card.state.hash}" for card in cards}
    stages = _stages(cards)
    return templates.get_template("report.html.j2").render(
        title=f"{verification.tier.capitalize()} tier" if verification.tier else "Single runs",
        verification=verification,
        parts=parts,
        cards=cards,
        anchors=anchors,
        notices=list(_notices(verification)),
        constructed=CONSTRUCTED in verification.source.settings,
        seeds=f"seed{'s' if len(seeds) > 1 else ''} {', '.join(str(each.seed) for each in seeds)}",
        problems=[problem for each in seeds for problem in each.problems],
        verdicts=[verdict for each in seeds for verdict in each.verdicts],
        notes=list(dict.fromkeys(f"The tier's {arm}: {why}." for each in seeds for arm, why in each.left_out.items())),
        collapsed=[run for part in parts for run in part.collapsed],
        one_answer=collapsed_cells(cell for part in parts for cell in part.verification.cells),
        robustness=[found for each in seeds for found in each.robustness],
        no_interval=NO_INTERVAL,
        noisy_models=models(found for each in seeds for found in each.robustness),
        deviations=list({name: found for each in seeds for name, found in each.deviations.items()}.values()),
        paper=_paper(verification, anchors),
        made=tables,
        score_tables=score_tables,
        gap_tables=gap_tables,
        languages=read_languages(),
        headline=headline(verification),
        overview=overview(verification),
        conclusions=list(conclusions(verification)),
        mark=mark,
        constructed_languages=world_languages(),
        stages=stages,
        totals={stage: sum(card.seconds.get(stage, 0.0) for card in cards) for stage in stages},
        count=count_verdicts,
        marks=MARKS,
        styles=STYLES,
    )


def _parts(verification: Verification, folders: Sequence[Path]) -> list[SeedReport]:
    """The seeds of the report; files of another seed are linked if its folder lies beside the first one."""
    several = bool(verification.further)
    parts: list[SeedReport] = []
    for each, folder in zip(verification.seeds, folders, strict=True):
        beside = folder.resolve().parent == folders[0].resolve().parent
        sibling = f"../../{quote(os.fsencode(folder.resolve().name))}/runs" if beside else ""
        base = "../runs" if folder == folders[0] else sibling
        cards = tuple(_card(state, folder, base) for state in each.runs)
        suffix, ids = (f", seed {each.seed}", f"-{each.seed}") if several else ("", "")
        if several and not each.tier:  # single runs may be of one seed and several sources
            suffix, ids = f"{suffix}, {each.source.name}", f"-{len(parts)}"
        layers = read_layers(folder, {state.hash: state.arm for state in each.runs})
        parts.append(SeedReport(each, cards, suffix, ids, base, layers))
    return parts


def _paper(verification: Verification, anchors: dict[str, str]) -> dict[str, Any] | None:
    """What the page shows of the paper: verdicts, printed tables and forest plots."""
    if verification.paper is None:
        return None
    links = tables.SeedLinks(verification, anchors)
    return {
        "judged": verification.paper,
        "tables": tables.printed_tables(verification.paper),
        "links": links.of,
        "means_of": lambda seeds: [(seed, links.means[seed]) for seed in seeds],
        "gains": {
            name: forest_plot(deltas, x_label="points over the baseline")
            for name, deltas in tables.gains(verification, links).items()
        },
        "differences": forest_plot(tables.differences(verification.paper, links), x_label="measured minus printed"),
    }


def _notices(verification: Verification) -> Iterator[str]:
    """What must be known before any number is read."""
    if CONSTRUCTED in verification.source.settings:
        yield "CONSTRUCTED: no model made these results. They were written by a program, to show what a report says."
    if verification.tier == "smoke":
        what = SMOKE.get(verification.source.name, "A small model made on the spot.")
        yield (
            f"{what} The smoke tier checks that the pipeline runs end to end. Its scores are not comparable with the "
            "paper's, and no gain from intermediate training is to be expected of so small a model."
        )
    if limit := verification.source.settings.get("limit"):
        yield f"Only the first {limit} rows of each split were read (--limit)."
    for each in verification.seeds:
        if each.tier_mismatches:
            what = f"{len(each.tier_mismatches)} of {len(each.runs)} runs of seed {each.seed} are not made as it says"
            yield f"Not the tier '{each.tier}': {what}, or start from such a one (see Problems)."


def _card(state: RunState, results: Path, base: str) -> RunCard:
    method = f" ({state.adversarial})" if state.adversarial else ""
    title = f"{state.phase}: {state.folder.rpartition('/')[2].rpartition('-')[0]}{method}"
    if state.state != "done":
        return RunCard(state, title, (), None, "", (), None)
    folder = results / "runs" / state.folder
    log = read_log(folder)
    lines = _losses(log) if log else {}
    curve = line_chart(lines, x_label="step", y_label="loss")
    links = tuple(
        (name, f"{base}/{quote(state.folder)}/{name}") for name in FILES if base and (folder / name).is_file()
    )
    return RunCard(state, title, links, log, curve, tuple(lines), read_provenance(folder))


def _losses(log: Log) -> dict[str, Points]:
    """The losses by step, a line per task."""
    points: dict[str, list[tuple[float, float]]] = {}
    for line in log.lines:
        points.setdefault(line.task, []).append((float(line.step), line.loss))
    return {tables.task_name(task): its for task, its in sorted(points.items())}


def _stages(cards: Sequence[RunCard]) -> list[str]:
    found = {stage for card in cards for stage in card.seconds}
    return [stage for stage in STAGES if stage in found] + sorted(found - set(STAGES))


if __name__ == "__main__":
    print(schema(), end="")
