"""Where reference runs were made, and in what that differs from where the judged run was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from xlt.frozen import Frozen
from xlt.printable import printable
from xlt.verify.recorded import ITSELF, SAME_SEED, ReferenceRun, ReferenceSet, RunMean, why_incomparable
from xlt.verify.verdicts import Verdict

NAMES = {
    "cpu": "processor",
    "device": "device",
    "numerics": "numerics",
    "cpu_threads": "threads",
    "system": "system",
    "python": "Python",
    "packages": "libraries",
    "engine": "engine",
    "commit": "version of the code",
}


class Origin(Frozen):
    """Something in which reference runs and this run differ."""

    what: str
    """Processor, numerics, threads, libraries, version of the code, and the like."""
    here: str
    """What this run has; of libraries, those that differ somewhere."""
    there: dict[str, int]
    """What reference runs have, and how many of them."""

    def __str__(self) -> str:
        one = len(self.there) == 1
        there = "; ".join(value if one else f"{value} in {count}" for value, count in self.there.items())
        return f"{self.what} {there}, here {self.here}"


def origins(here: Mapping[str, Any], runs: Sequence[ReferenceRun]) -> tuple[Origin, ...]:
    """In what the platform of a run differs from those of reference runs."""
    return platform_differences(here, [run.platform for run in runs])


def platform_differences(here: Mapping[str, Any], platforms: Sequence[Mapping[str, Any]]) -> tuple[Origin, ...]:
    """In what a platform differs from others."""
    found = []
    for name, what in NAMES.items():
        if name == "packages":
            own, *others = _packages([here, *platforms])
        else:
            own, *others = (_text(each.get(name), 12 if name == "commit" else 40) for each in (here, *platforms))
        if any(other != own for other in others):
            found.append(Origin(what=what, here=own, there=dict(Counter(others).most_common())))
    return tuple(found)


def _packages(platforms: Sequence[Mapping[str, Any]]) -> list[str]:
    """The libraries of each platform that are not the same in all."""
    listed = [each.get("packages") for each in platforms]
    versions = [its if isinstance(its, dict) else {"of several runs": its} for its in listed]
    every = dict.fromkeys(name for its in versions for name in its)
    names = [name for name in every if len({str(its.get(name)) for its in versions}) > 1]
    return [", ".join(f"{name} {its.get(name) or '–'}" for name in names) for its in versions]


def _text(value: Any, most: int = 40) -> str:
    """A fact of a platform, at most so many letters of it; several where its runs differ."""
    values = value if isinstance(value, list) else [value]
    return printable(" and ".join("not known" if each in (None, "") else str(each)[:most] for each in values))


def why_not_exact(
    asked: Sequence[RunMean], verdicts: Sequence[Verdict], references: ReferenceSet, here: Mapping[str, Any]
) -> str:
    """Why means are not ``exact``; empty where all are, or nothing is recorded."""
    other = sum(each.verdict != "exact" for each in verdicts)
    if not other or not references.runs:
        return ""
    many = "No mean is" if other == len(verdicts) else f"{other} of {len(verdicts)} means are not"
    seed = asked[0].seed
    whys = {why: run for run in references.runs for why in {why_incomparable(run, each) for each in asked}}
    if (twin := whys.get(SAME_SEED)) is None:
        listed = sorted({run.seed for run in references.runs})
        own = " but for this very run" if ITSELF in whys else ""
        return f"{many} exact: no run of seed {seed} is recorded{own} (recorded: {', '.join(map(str, listed))})."
    place = f"recorded on {twin.date}, made on {_text(twin.platform.get('cpu') or twin.device)}"
    differing = "; ".join(map(str, origins(here, [twin])))
    if not differing:
        return (
            f"{many} exact, although the recorded run of seed {seed} ({place}) was made with the same processor, "
            "libraries and version of the code: look for what has changed."
        )
    return f"{many} exact. The recorded run of seed {seed} ({place}) differs from this one: {differing}."
