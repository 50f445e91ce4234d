"""The small grid on real languages in EXPECTED_RESULTS.md: what was recorded of it, as found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

from xlt.tasks.catalogue import TARGET
from xlt.tasks.record import ENGLISH
from xlt.verify.recorded import ReferenceRun, read_references

TIER, SOURCE, BASELINE = "pocket", "files", "baseline"


def pocket() -> dict[str, Any] | None:
    """The recorded seeds of the grid on the official files; None where nothing is recorded.

    Raises:
        ValueError: seeds of different recipes or data lie side by side.
    """
    runs = [run for run in read_references(TIER, SOURCE).runs if f"{BASELINE}/xnli/test" in run.means]
    if not runs:
        return None
    made = [{name: (mean.recipe, mean.data) for name, mean in run.means.items()} for run in runs]
    if any(one != other for one, other in pairwise(made)):
        raise ValueError("the recorded seeds of the pocket tier are not all of one recipe and of the same data")
    arms = list(
        dict.fromkeys(name.split("/")[0] for name in runs[0].means if f"{name.split('/')[0]}/xnli/test" in made[0])
    )
    rows: list[dict[str, Any]] = []
    for task in TARGET:
        # The parts of the official files hold no test set of MLQA.
        split = "test" if f"{BASELINE}/{task.key}/test" in made[0] else "dev"
        found = {arm: [run.means[f"{arm}/{task.key}/{split}"].value for run in runs] for arm in arms}
        name = f"{BASELINE}/{task.key}/{split}"
        rows.append(
            {
                "task": task.name if split == "test" else f"{task.name} ({split})",
                "guess": runs[0].means[name].chance,
                "languages": len(runs[0].languages(name)),
                "gap": _gap(runs, name),
                "scores": found,
                "gains": {arm: paired(found[BASELINE], found[arm]) for arm in arms[1:]},
            }
        )
    averages = {arm: [fmean(row["scores"][arm][place] for row in rows) for place in range(len(runs))] for arm in arms}
    gains = {arm: paired(averages[BASELINE], averages[arm]) for arm in arms[1:]}
    rows.append({"task": "mean of the nine", "languages": 0, "gap": None, "scores": averages, "gains": gains})
    return {"runs": runs, "arms": arms, "rows": rows, "platform": runs[0].platform}


def paired(before: Sequence[float], after: Sequence[float]) -> dict[str, float | None]:
    """The mean of the differences, seed by seed, and the half width of its 95 % interval (t; None for one seed)."""
    differences = [b - a for a, b in zip(before, after, strict=True)]
    half = None
    if len(differences) > 1:
        half = float(t.ppf(0.975, len(differences) - 1)) * stdev(differences) / len(differences) ** 0.5
    return {"mean": fmean(differences), "half": half}


def _gap(runs: Sequence[ReferenceRun], name: str) -> float | None:
    """English less the mean of the other languages of a recorded mean, over all seeds; None without English."""
    gaps = []
    for run in runs:
        scores = {code: run.score(f"{name}/{code}") for code in run.languages(name)}
        others = [score for code, score in scores.items() if code != ENGLISH and score is not None]
        if scores.get(ENGLISH) is None or not others:
            return None
        gaps.append((scores[ENGLISH] or 0.0) - fmean(others))
    return fmean(gaps)
