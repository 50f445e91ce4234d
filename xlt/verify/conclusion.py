"""What a verification comes to, in the first sentences of its report."""

from __future__ import annotations

from collections.abc import Iterator

from xlt.errors import ExitCode
from xlt.verify.comparison import FAILED
from xlt.verify.evidence import summary
from xlt.verify.judge import Verification

HEADLINES = {
    ExitCode.OK: "Passed",
    ExitCode.DEVIATES: "Failed",
    ExitCode.DATA: "Not verified: the gold data is not that of the results",
    ExitCode.INCOMPLETE: "Nothing is shown yet",
}


def headline(found: Verification) -> str:
    """Passed or not, with the exit code of ``xlt verify``."""
    if not found.tier and found.exit_code == ExitCode.OK:
        return f"Recomputed, and nothing is expected of single runs (exit code {found.exit_code})"
    return f"{HEADLINES[ExitCode(found.exit_code)]} (exit code {found.exit_code})"


def conclusions(found: Verification) -> Iterator[str]:
    """What that means: what failed or is missing, else what was shown and what was not."""
    seeds = found.seeds
    if found.golden:
        yield summary(found.golden)
    if problems := sum(len(each.problems) for each in seeds):
        yield f"{problems} problem{'s' if problems > 1 else ''}: something is damaged, missing, was edited or diverged."
    if missing := sum(run.state in ("absent", "unfinished") for each in seeds for run in each.runs):
        yield f"{missing} run{'s are' if missing > 1 else ' is'} not there."
    if failed := sum(verdict.verdict in FAILED for each in seeds for verdict in each.verdicts):
        yield f"{failed} of the means over languages deviate or collapsed."
    for each in seeds:
        named = f" of seed {each.seed}" if found.further else ""
        if each.overall and each.overall.verdict in FAILED:
            yield f"All means{named} together deviate: {each.overall.reason}."
    if found.nothing_judged:
        yield f"Nothing was judged, which is no success: {found.nothing_judged}."
    for each in seeds if found.paper is None else ():
        yield from _shown(each, f" of seed {each.seed}" if found.further else "")


def _shown(found: Verification, named: str) -> Iterator[str]:
    """What the verdicts on means are evidence of."""
    total, exact = len(found.verdicts), found.counts.get("exact", 0)
    if total and exact == total:
        yield f"Every prediction{named} is that of the recorded run of this seed: this machine computes what that did."
        return
    judged = sum(found.counts.get(word, 0) for word in ("reproduced", "consistent"))
    if judged:
        yield (
            f"{judged} of {total} means{named} lie where the recorded seeds say that a sound run lies. It shows no "
            "more than that no fault is seen: EXPECTED_RESULTS.md says how large a fault would be."
        )
    if found.overall and found.overall.verdict == "consistent":
        yield f"All means{named} together: {found.overall.reason}."
    if shown := sum(verdict.diagnostic for verdict in found.verdicts):
        yield f"{shown} means{named} are shown only: their bands would not show the loss of half of what was learnt."
    if found.not_exact:
        yield found.not_exact
