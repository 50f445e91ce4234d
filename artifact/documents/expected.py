"""Writes EXPECTED_RESULTS.md from what was recorded: ``make expected``."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import TypeAdapter
from scipy.stats import norm, t

from xlt.artifact import artifact_root
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.tiers import read_tier
from xlt.strict_json import read_json
from xlt.tasks.catalogue import TARGET, TASKS, get_task
from xlt.tasks.record import ENGLISH
from xlt.verify.claims import Claim, PaperTable, read_claims, read_literature
from xlt.verify.evidence import Evidence
from xlt.verify.golden import PHASE_1_STEPS, STEPS, TOLERANCE, golden_folder
from xlt.verify.recorded import ReferenceRun, read_references
from xlt.verify.scores import BEST

from .anchors import anchors
from .characteristics import Series, correlation, failures, not_normal, noticed, upper_bound
from .pocket import pocket

TIER, SOURCE = "smoke", "world"


def read_series() -> Series:
    """What is recorded for the smoke tier on the constructed world.

    Raises:
        ValueError: nothing is recorded, or seeds of different recipes or data lie side by side.
    """
    found = read_references(TIER, SOURCE)
    made = {tuple((name, mean.recipe, mean.data) for name, mean in run.means.items()) for run in found.runs}
    if found.rule is None or len(made) != 1:
        raise ValueError("the recorded seeds are not all of one recipe and of the same data")
    # A seed that was recorded again with other numerics is one draw all the same.
    once = {run.seed: run for run in reversed(found.runs)}
    runs = tuple(once[seed] for seed in sorted(once))
    return Series(replace(found, runs=runs), open_source(SourceOptions(name=SOURCE)))


def seeds(records: Sequence[ReferenceRun]) -> str:
    """Their seeds, a row of successive ones as the first and the last."""
    listed: list[list[int]] = []
    for record in records:
        if listed and record.seed == listed[-1][-1] + 1:
            listed[-1].append(record.seed)
        else:
            listed.append([record.seed])
    return ", ".join(f"{row[0]} to {row[-1]}" if len(row) > 1 else f"{row[0]}" for row in listed)


def spread(values: Sequence[float]) -> str:
    """Mean, lowest and highest."""
    return f"{fmean(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def arms(series: Series) -> list[str]:
    """The arms with target tasks, in the order of the tier."""
    return list(dict.fromkeys(arm for arm, task, _ in series.keys if TASKS[task] in TARGET))


def targets(series: Series) -> list[dict[str, Any]]:
    """Per target task: the means of each arm, and the paired differences to the first with the 95 % interval of their
    mean."""
    base, *others = arms(series)
    rows = []
    for task in TARGET:
        keys = {arm: f"{arm}/{task.key}/test" for arm in (base, *others) if (arm, task.key, "test") in series.keys}
        scores = {arm: [record.means[key].value for record in series.records] for arm, key in keys.items()}
        gains = {arm: _gain(scores[base], scores[arm]) for arm in others if arm in scores}
        rows.append({"task": task.name, "scores": {arm: spread(each) for arm, each in scores.items()}, "gains": gains})
    return rows


def mean_gains(series: Series) -> dict[str, float]:
    """By arm, the mean of its differences to the first over the target tasks that it has and over the seeds."""
    rows = targets(series)
    return {arm: fmean(row["gains"][arm]["mean"] for row in rows if arm in row["gains"]) for arm in arms(series)[1:]}


def _gain(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    differences = [b - a for a, b in zip(before, after, strict=True)]
    half = float(t.ppf(0.975, len(differences) - 1)) * stdev(differences) / len(differences) ** 0.5
    return {"mean": fmean(differences), "half": half}


def languages(series: Series) -> list[dict[str, Any]]:
    """Per language, the baseline's score on each target task over all seeds."""
    found = series.table[(series.table["arm"] == arms(series)[0]) & (series.table["split"] == "test")]
    scores = {key: spread(list(rows)) for key, rows in found.groupby(["language", "task"], sort=False)["value"]}
    return [
        {"language": language, "scores": [scores.get((language, task.key), "–") for task in TARGET]}
        for language in dict.fromkeys(found["language"])
    ]


def above_chance(series: Series) -> list[dict[str, Any]]:
    """Per arm and target task: in how many other languages than English the score is above what guessing exceeds in 1 %
    of cases, mean (least) over all seeds."""
    found = series.table[(series.table["language"] != ENGLISH) & (series.table["split"] == "test")]
    counts = found.groupby(["arm", "task", "seed"])["above_chance"].sum().groupby(["arm", "task"])
    shown = {key: f"{values.mean():.1f} ({values.min()})" for key, values in counts}
    return [{"arm": arm, "counts": [shown.get((arm, task.key), "–") for task in TARGET]} for arm in arms(series)]


def english(series: Series) -> list[dict[str, Any]]:
    """Every English score that a training aims at: mean (range) over all seeds, and what guessing gives."""
    rows = []
    found = series.table[series.table["language"] == ENGLISH]
    for (arm, task, split), scores in found.groupby(["arm", "task", "split"], sort=False):
        if (arm, task, split) in series.keys:
            chance, values = scores["chance"].iloc[0], list(scores["value"])
            row = {"arm": arm, "task": get_task(task).name, "scores": spread(values), "chance": chance}
            rows.append(row | {"above": sum(value >= chance + 25 for value in values)})
    return rows


def bands(series: Series) -> list[dict[str, Any]]:
    """Every mean with its spread, its band, what a guess scores, whether it counts, and the drop that would be noticed.

    They are the bands of a sound run of a new seed.
    """
    verdicts, _ = series.judge(series.records[0], series.records, seed=-1)
    guesses = series.table.groupby(["task", "split"])["chance"].first()
    rows = []
    for each in verdicts:
        name = "/".join(each.key)
        values = [record.means[name].value for record in series.records]
        row: dict[str, Any] = {"key": name, "band": each.band, "judged": not each.diagnostic}
        row |= {"mean": fmean(values), "deviation": stdev(values)}
        row["chance"] = float(guesses[each.task, each.split])
        rows.append(row | {"noticed": noticed(each) if each.band else None})
    return rows


def claims() -> list[dict[str, Any]]:
    """Every claim of the paper: what to run, what is expected, and how many seeds were recorded."""
    rows = []
    for claim in (each for each in read_claims().claims if not each.measured_by):  # the others are anchors
        tier, seeds = claim.tiers[0], range(claim.seeds)
        made = f"xlt reproduce --tier {tier} --data-root DIR --seed $n --results results-$n"
        loop = f"for n in {' '.join(map(str, seeds))}; do {made}; done" if len(seeds) > 1 else made.replace("$n", "0")
        folders = " ".join(f"--results results-{seed}" for seed in seeds)
        judged = f"xlt verify --data-root DIR {folders} --claim {claim.id}"
        trained = read_tier(tier).plan("hub").arms
        tables = [table for table in read_literature().tables if table.name in claim.tables]
        row: dict[str, Any] = {"claim": claim, "commands": (loop, judged), "expected": _expected(claim, tables)}
        row["selection"] = selection(claim, len(trained))
        row["lacking"] = [arm for arm in claim.arms if arm not in trained]
        row["margins"] = [(f"{each.margin:g} in the table {each.name}", each.margin_reason) for each in tables]
        row["margins"] += [(f"{claim.margin:g}", claim.margin_reason)] if claim.margin else []
        row["recorded"] = sum(
            len(read_references(each, source).runs) for each in claim.tiers for source in ("hub", "files")
        )
        rows.append(row)
    return rows


def selection(claim: Claim, arms: int) -> dict[str, Any] | None:
    """What choosing the best arm on dev adds where dev is test: the tasks, to what, and by number of arms and standard
    deviation between seeds the points that it gains by chance where the arms are equally good."""
    if claim.rule != "best" and claim.row != BEST:
        return None
    one_split = [task.name for task in TARGET if "dev" not in task.files]
    part, to = (
        (len(one_split) / len(TARGET), "the mean over nine tasks") if claim.rule == "best" else (1, "each of them")
    )
    added = {
        count: [(sd, part * sd * expected_maximum(count)) for sd in (0.2, 0.35, 0.5)]
        for count in (arms - 1, len(claim.arms) - 1)
    }
    return {"tasks": one_split, "to": to, "added": added}


def expected_maximum(count: int) -> float:
    """By how many standard deviations the highest of so many independent normal values is above their mean."""
    x = np.linspace(-9, 9, 20_001)
    return float(np.trapezoid(x * count * norm.pdf(x) * norm.cdf(x) ** (count - 1), x))


def _expected(claim: Claim, tables: Sequence[PaperTable]) -> str:
    if claim.gains:
        return "; ".join(f"{gain.name} {gain.expected:+.1f}" for gain in claim.gains) + " points"
    if claim.expected:
        return f"{claim.expected:+.1f} points over {claim.reference:.1f} ({claim.reference_source})"
    rows = [row for table in tables for row in table.rows if row.arm == claim.row]
    printed = [f"{name} {value:.1f}" for row in rows for name, value in row.values.items()]
    return ", ".join(printed) or "a sign or an order, no number"


def unreadable() -> list[PaperTable]:
    """The printed tables of which nobody has read a value, or all of them."""
    found = read_literature().tables
    return [each for each in found if each.unverifiable or each.unknown or any(row.unknown for row in each.rows)]


def _json(name: str) -> Any:
    path = artifact_root() / "measured" / name
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _benches() -> list[Mapping[str, Any]]:
    paths = sorted((artifact_root() / "measured" / "bench").glob("train-*.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


def _speeds() -> list[dict[str, Any]]:
    """Every workload that was measured beside peers: what took part, over ours, and what did not."""
    rows = []
    for path in sorted((artifact_root() / "measured" / "bench").glob("*-small.json")):
        for work in json.loads(path.read_text("utf-8"))["workloads"]:
            ours, *others = work["timings"]
            count = work["quantity"]
            if ours["seconds"] is None:
                continue
            ran = [
                f"{each['name']} {each['ratio']:.2f} ({each['ratio_p10']:.2f}–{each['ratio_p90']:.2f})"
                for each in others
                if each["seconds"] is not None
            ]
            slots = f"{count['slots'] / count['tokens']:.2f}" if "slots" in count else "–"
            rows.append({"name": work["name"], "ours": f"{ours['name']}, {1000 * ours['seconds']:.1f}", "slots": slots})
            rows[-1]["others"] = "; ".join(ran)
    return rows


def _file_tasks() -> list[dict[str, Any]]:
    """Every task on real files: rows, seconds, and what the small model scores on its last split."""
    found = _json("bench/tasks-files.json")
    rows = []
    for task in found["tasks"] if found else ():
        counts = [count for languages in task["rows"].values() for count in languages.values()]
        row: dict[str, Any] = {"task": task["task"], "missing": task["missing"], "rows": sum(counts)}
        row["languages"] = len({language for languages in task["rows"].values() for language in languages})
        row["seconds"] = task["load_s"], task["tokenise_s"]
        row["scores"] = [score for score in task["scores"] if score["score"] is not None]
        row["folders"] = [] if task["task"] in task["folders"] else task["folders"]
        rows.append(row)
    return rows


def pages() -> Environment:
    """The templates of the documents."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _golden() -> dict[str, Any]:
    """What golden evidence is made of, and what was measured of it on several machines."""
    folder, found = golden_folder(), _json("golden.json") or {"machines": {}, "environment": {"cpu": "", "commit": ""}}
    held = read_json(folder / "evidence.json", TypeAdapter(Evidence))
    machines = found["machines"]
    return {
        "megabytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6,
        "phase_1_steps": PHASE_1_STEPS,
        "steps": STEPS,
        "cells": len(held.cells),
        "origin": held.origin,
        "tolerances": TOLERANCE,
        "cpu": found["environment"]["cpu"],
        "commit": found["environment"]["commit"],
        "machines": [{"name": name, **its} for name, its in machines.items() if "error" not in its],
        "errors": {name: its["error"] for name, its in machines.items() if "error" in its},
    }


def render() -> str:
    """The text of EXPECTED_RESULTS.md."""
    series = read_series()
    times = tomllib.loads((artifact_root() / "measured" / "times.toml").read_text("utf-8"))
    template = pages().get_template("expected.md.j2")
    return template.render(
        series=series,
        seeds=seeds,
        tasks=[task.name for task in TARGET],
        arms=arms(series),
        gains=mean_gains(series),
        targets=targets(series),
        languages=languages(series),
        above_chance=above_chance(series),
        english=english(series),
        bands=bands(series),
        missed=list(series.missed()),
        failures=failures(series),
        upper_bound=upper_bound,
        not_normal=not_normal(series),
        correlation=correlation(series),
        claims=claims(),
        anchors=anchors(),
        pocket=pocket(),
        unreadable=unreadable(),
        controls=_json(f"{TIER}-{SOURCE}/controls.json"),
        golden=_golden(),
        benches=_benches(),
        speeds=_speeds(),
        file_tasks=_file_tasks(),
        loads=[_json(f"bench/load-files-{task}.json") for task in ("mnli", "squad", "udpos")],
        times=times,
    )


if __name__ == "__main__":
    sys.stdout.write(render())
