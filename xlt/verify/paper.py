"""The verdicts on the paper's claims and on the printed cells, over the verified results of one seed or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xlt.frozen import Frozen
from xlt.pipeline.spec import Backbone
from xlt.verify.literature import Claim, Claims, Literature, Printed
from xlt.verify.printed import CellVerdict, judge_printed
from xlt.verify.rules import Part, judge_parts, worst
from xlt.verify.scores import BASELINE, Languages, Scores
from xlt.verify.verdicts import VERDICT_WORDS, VerdictWord

if TYPE_CHECKING:
    from xlt.tasks.record import Split
    from xlt.verify.judge import Verification


class ClaimVerdict(Frozen):
    """What is said about one claim of the paper; ``fix`` is the command that runs what it lacks, with its cost."""

    claim: Claim
    verdict: VerdictWord
    reason: str
    parts: tuple[Part, ...] = ()
    fix: str = ""


class Paper(Frozen):
    """The claims of the tier and all printed cells, failures first, judged over ``seeds``."""

    seeds: tuple[int, ...]
    claims: tuple[ClaimVerdict, ...]
    cells: tuple[CellVerdict, ...]

    @property
    def summary(self) -> str:
        """How many hold, in words."""
        good = ("consistent", "reproduced", "exact")
        claims = sum(each.verdict in good for each in self.claims)
        cells = [each for each in self.cells if each.cell.expected is not None]
        held = sum(each.verdict in good for each in cells)
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        unread = len(self.cells) - len(cells)
        return (
            f"{claims} of {len(self.claims)} claims and {held} of {len(cells)} printed cells hold ({seeds}; "
            f"{unread} cells have no value that was read)"
        )


def judge_paper(
    verifications: Sequence[Verification],
    backbone: Backbone,
    claims: Claims,
    literature: Literature,
    cells: Sequence[Printed],
) -> Paper:
    """Judge the claims and the printed cells over the seeds of one tier."""
    first = verifications[0]
    asked = [claim for claim in claims.claims if first.tier in claim.tiers]
    seeds = tuple(verification.seed for verification in verifications)
    if why := _unfit(first, backbone, claims):
        return Paper(
            seeds=seeds,
            claims=tuple(ClaimVerdict(claim=claim, verdict="not verifiable", reason=why) for claim in asked),
            cells=tuple(CellVerdict(key=each.key, cell=each, verdict="not verifiable", reason=why) for each in cells),
        )
    scores = scores_of(verifications, literature, claims)
    judged = judge_printed(cells, scores, backbone.retrieval_layer, first.command)
    given = [_judge(claim, judge_parts(claim, scores, judged), first.command) for claim in asked]
    return Paper(
        seeds=seeds,
        claims=tuple(sorted(given, key=lambda each: VERDICT_WORDS.index(each.verdict))),
        cells=tuple(sorted(judged, key=lambda each: VERDICT_WORDS.index(each.verdict))),
    )


def _unfit(verification: Verification, backbone: Backbone, claims: Claims) -> str:
    """Why nothing of the paper can be judged by these results; empty if it can."""
    if backbone.name != claims.backbone:
        return f"the claims are about {claims.backbone}; the results are of {backbone.name}"
    if limit := verification.source.settings.get("limit"):
        return f"the results are of the first {limit} rows of each split (--limit)"
    return ""


def scores_of(verifications: Sequence[Verification], literature: Literature, claims: Claims) -> Scores:
    """The recomputed cells of all seeds, less those of runs that are not what their name says."""
    cells: dict[tuple[int, str, str, Split], Languages] = {}
    for each in verifications:
        for cell in each.cells:
            cells.setdefault((each.seed, cell.arm, cell.task, cell.split), {})[cell.language] = cell
    seeds = tuple(each.seed for each in verifications)
    return Scores(cells, seeds, literature.languages, dict(_strangers(verifications, claims)))


def _strangers(verifications: Sequence[Verification], claims: Claims) -> Iterator[tuple[tuple[str, str], str]]:
    """Arms that are named in the claims and were trained on something else, and what runs unlike the tier scored."""
    for verification in verifications:
        for run in verification.runs:
            if how := verification.unlike_tier.get(run.folder):
                yield from (((run.arm, task), f"{run.folder}: {how}") for task in run.evaluate)
        trained = {run.arm: run.train for run in verification.runs if run.phase == "intermediate"}
        for arm, tasks in claims.arms.items():
            given = trained.get(arm, ())
            if set(given) != set(tasks) and (arm in trained or arm == BASELINE):
                yield (arm, ""), f"'{arm}' was trained on {', '.join(given) or 'nothing'} here"


def _judge(claim: Claim, parts: Sequence[Part], command: str) -> ClaimVerdict:
    word = worst([part.verdict for part in parts if part.decides])
    reasons = [f"{part.name}: {part.reason}" for part in parts if part.decides and part.verdict == word]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    lacks = word in ("not run", "not verifiable")
    seeds = f", {claim.seeds} seeds, each into its own --results DIR" if claim.seeds > 1 else ""
    return ClaimVerdict(
        claim=claim,
        verdict=word,
        reason=f"{reasons[0]}{more}",
        parts=tuple(parts),
        fix=f"{command}{seeds} (each: {claim.cost})" if lacks else "",
    )
