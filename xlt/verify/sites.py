"""Reference runs that others give: which of them count, and what each place where runs were made does to the verdicts.

Whoever gives a file could have written it. What can be seen is seen: the same predictions under another seed or from
another place, and numbers that do not follow from each other. An archive with predictions is recomputed; of a record
without them nothing more can be seen, and it is marked so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from xlt.errors import DataFault, UsageFault
from xlt.frozen import Frozen
from xlt.printable import printable
from xlt.verify.comparison import VerdictWord
from xlt.verify.overall import judge_together
from xlt.verify.recorded import ITSELF, SAME_SEED, ReferenceRun, ReferenceSet, RunMean, why_incomparable
from xlt.verify.stored import Shown
from xlt.verify.verdicts import Verdict, judge_means

FEW = 3


class AddedFile(Frozen):
    """A reference run that was given with ``--with``."""

    file: Shown
    """The name of the file, and of the folder in an archive."""
    sha256: str
    """The SHA-256 of the file."""
    seed: int
    """Its seed."""
    site: Shown
    """Where it was made: the accelerator, or without one the processor."""
    evidence: Literal["recomputed", "taken on trust"]
    """Whether its numbers were recomputed from predictions and gold, or it is a record without predictions."""
    counted: bool = True
    """Whether it is among the reference runs."""
    why: Shown = ""
    """Why it is not; empty if it is."""


class SiteCheck(Frozen):
    """What the verdicts would be without the reference runs of one site."""

    site: Shown
    """The accelerator, or without one the processor."""
    runs: int
    """How many reference runs were made there."""
    overall: VerdictWord | None
    """The verdict on all means together without them; null where nothing is expected."""
    changed: dict[str, tuple[str, str]]
    """By mean the verdicts that change: with all runs, and without these."""

    @property
    def summary(self) -> str:
        """The same in a sentence; many means that change alike are counted."""
        groups: dict[tuple[str, str], list[str]] = {}
        for name, words in self.changed.items():
            groups.setdefault(words, []).append(name)
        parts = [
            f"{', '.join(names) if len(names) <= FEW else f'{len(names)} means'} {one} → {other}"
            for (one, other), names in groups.items()
        ]
        runs = f"{self.runs} reference run{'s' if self.runs > 1 else ''}"
        said = f"Without the {runs} of {self.site}: {'; '.join(parts) or 'no verdict on a mean changes'}"
        return f"{said}; all means together {self.overall}" if self.overall else said


@dataclass(frozen=True, slots=True)
class AddedRun:
    """A reference run that was given, and what is said of its file."""

    run: ReferenceRun
    file: AddedFile


def site_of(platform: Mapping[str, Any]) -> str:
    """The accelerator, or without one the processor; all of them where runs differ."""
    device, cpu = (platform.get(name) or "not known" for name in ("device", "cpu"))
    made_on = cpu if device == "cpu" else device
    return printable(" and ".join(map(str, made_on)) if isinstance(made_on, list) else str(made_on))


def merge(
    references: ReferenceSet, added: Sequence[AddedRun], asked: Sequence[RunMean], own: ReferenceRun
) -> tuple[ReferenceSet, tuple[AddedFile, ...]]:
    """The reference runs with those that were added and fit; ``own`` is the run that is judged, written as a record.

    Raises:
        DataFault: a run has predictions of another one under another seed or from another place.
        UsageFault: a run is of another tier or source.
    """
    known = [("the run that is judged", own)]
    known += [(f"the recorded run of seed {run.seed}", run) for run in references.runs]
    runs, files = list(references.runs), []
    for each in added:
        why = _why_not_counted(each, known, runs, asked)
        files.append(each.file.model_copy(update={"counted": not why, "why": why}))
        known.append((each.file.file, each.run))
        runs += [] if why else [each.run]
    return replace(references, runs=tuple(runs)), tuple(files)


def _why_not_counted(
    added: AddedRun, known: Iterable[tuple[str, ReferenceRun]], runs: Sequence[ReferenceRun], asked: Sequence[RunMean]
) -> str:
    run, name = added.run, added.file.file
    for whose, other in known:
        if (run.tier, run.source) != (other.tier, other.source):
            raise UsageFault(
                printable(f"'{name}' is of the tier '{run.tier}' on '{run.source}'."),
                why=f"The results are of the tier '{other.tier}' on '{other.source}'.",
                fix="Leave it out.",
            )
        if why := _repeats(run, other, whose, name):
            return why
    incomparable = [why_incomparable(run, each) for each in asked]
    if SAME_SEED in incomparable or ITSELF in incomparable:
        return "it has the seed of the run that is judged"
    if incomparable and all(incomparable):
        return incomparable[0]
    if any((other.seed, other.device) == (run.seed, run.device) for other in runs):
        return f"seed {run.seed} is there already, and two runs of one seed are nearly the same draw"
    return ""


def _repeats(run: ReferenceRun, other: ReferenceRun, whose: str, name: str) -> str:
    """What a run repeats, in words; empty if nothing.

    A prediction has its score in it: of two runs, not even one cell has all predictions the same by chance, if it is
    not one in which every prediction is right, and may be as sure as can be.
    """
    faulty = {key: cell for key, cell in run.cells.items() if min(cell.metrics.values()) < 100}
    shared = [key for key, cell in faulty.items() if key in other.cells and _same(cell, other.cells[key])]
    if not shared:
        return ""
    fix = "Leave it out, and ask whoever gave it."
    if run.seed != other.seed:
        what = f"'{name}' has the seed {run.seed} and the predictions of {whose} (seed {other.seed})."
        raise DataFault(what, why=f"Equal are those of {_some(shared)}: no two seeds say the same.", fix=fix)
    if any(faulty[key].metrics != other.cells[key].metrics for key in shared):
        raise DataFault(f"'{name}' gives other numbers to the same predictions as {whose}.", why=_some(shared), fix=fix)
    if len(shared) < len(faulty):
        what = f"'{name}' has some predictions of {whose}, and others of its own."
        raise DataFault(what, why=f"Equal are those of {_some(shared)}: two runs agree in all or in none.", fix=fix)
    if site_of(run.platform) == site_of(other.platform):
        return f"it is {whose}"
    if {run.platform.get("numerics"), other.platform.get("numerics")} == {"portable"}:
        return f"it repeats {whose} to the last bit on {site_of(run.platform)}, which is no new draw"
    raise DataFault(
        f"'{name}' has the predictions of {whose} from another place.",
        why=f"It says {site_of(run.platform)}, that one {site_of(other.platform)}: without portable numerics, two "
        "kinds of processor never agree in all.",
        fix=fix,
    )


def _same(one: Any, another: Any) -> bool:
    return bool(one.predictions == another.predictions)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def leave_one_site_out(
    asked: Sequence[RunMean], references: ReferenceSet, verdicts: Sequence[Verdict]
) -> tuple[SiteCheck, ...]:
    """For each site of the reference runs that fit, the verdicts without its runs."""
    fitting = [run for run in references.runs if any(not why_incomparable(run, each) for each in asked)]
    found = []
    for site in dict.fromkeys(site_of(run.platform) for run in fitting):
        others = replace(references, runs=tuple(run for run in references.runs if site_of(run.platform) != site))
        without, _ = judge_means(asked, others)
        overall = judge_together(asked, others, without)
        pairs = zip(verdicts, without, strict=True)
        words = {"/".join(one.key): (_said(one), _said(other)) for one, other in pairs if one.verdict != "exact"}
        found.append(
            SiteCheck(
                site=site,
                runs=sum(site_of(run.platform) == site for run in fitting),
                overall=overall.verdict if overall else None,
                changed={name: pair for name, pair in words.items() if pair[0] != pair[1]},
            )
        )
    return tuple(found)


def _said(verdict: Verdict) -> str:
    return "shown only" if verdict.diagnostic else verdict.verdict
