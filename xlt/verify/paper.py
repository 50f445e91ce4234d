"""The verdicts on the paper's claims and on the printed values, over the verified results of one seed or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from xlt.frozen import Frozen
from xlt.verify.claims import Claim, Printed
from xlt.verify.comparison import VERDICT_WORDS, VerdictWord, worst
from xlt.verify.looks import CellVerdict, Part
from xlt.verify.printed import beside_printed, judge_printed
from xlt.verify.rules import judge_parts
from xlt.verify.scores import Scores
from xlt.verify.siblings import other_seed
from xlt.verify.verdicts import Judged, count_verdicts

Found = TypeVar("Found", bound=Judged)
ALWAYS_COUNTED: tuple[VerdictWord, ...] = ("reproduced", "consistent", "deviates", "not verifiable")


class ClaimVerdict(Judged):
    """What is said about one claim of the paper: the most severe of the verdicts on the parts that decide it."""

    claim: Claim
    """The claim."""
    parts: tuple[Part, ...] = ()
    """The things that it says, each with a verdict."""
    fix: str = ""
    """The command that runs what it lacks, with the cost."""
    beside: str = ""
    """Where printed values are judged: what was measured beside them, in words."""
    optional: bool = False
    """Whether a part of the tier measures it that need not be run: then it is no gap that it was not."""


class Paper(Frozen):
    """What is said about the paper."""

    seeds: tuple[int, ...]
    """The seeds that it was judged over."""
    claims: tuple[ClaimVerdict, ...]
    """The claims that are about this tier, failures first."""
    cells: tuple[CellVerdict, ...]
    """All printed values, failures first."""

    @property
    def of_anchors(self) -> bool:
        """Whether it is about what others printed, and not about the paper."""
        return any(each.optional for each in self.claims)

    @property
    def words(self) -> set[VerdictWord]:
        """The verdicts on the claims, without that on a part of the tier which was not run."""
        return {each.verdict for each in self.claims if not (each.optional and each.verdict == "not run")}

    @property
    def summary(self) -> str:
        """How many got which verdict, in words: only what is reproduced is said to be so."""
        read = [each for each in self.cells if each.cell.expected is not None]
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        counts = [f"claims: {_counted(self.claims)}"] if self.claims else []
        counts += [f"printed cells: {_counted(read)}"] if read else []
        judged = [*self.cells, *(part for claim in self.claims for part in claim.parts)]
        lost = {why for each in judged for why in each.left_out}
        notes = [seeds, f"{len(self.cells) - len(read)} cells have no value that was read"]
        notes += [f"left out somewhere: {len(lost)} trainings or scores of single seeds"] if lost else []
        return f"{'; '.join(counts)} ({'; '.join(notes)})"


def _counted(found: Sequence[Judged]) -> str:
    """The counts of all words that a comparison with the paper may get, the others only where there are some."""
    counts = dict.fromkeys(ALWAYS_COUNTED, 0) | count_verdicts(found)
    names = {word: "not told apart" if word == "consistent" else word for word in counts}
    return ", ".join(f"{names[word]} {counts[word]}" for word in reversed(VERDICT_WORDS) if word in counts)


def judge_paper(scores: Scores, asked: Sequence[Claim], cells: Sequence[Printed], layer: int, command: str) -> Paper:
    """Judge the claims and the printed values; ``layer`` is the block that was pooled for retrieval."""
    given = [judge_claim(claim, scores, cells, layer, command) for claim in asked]
    judged = judge_printed(cells, scores, layer, command)
    return Paper(seeds=scores.seeds, claims=failures_first(given), cells=failures_first(judged))


def not_judged(seeds: tuple[int, ...], asked: Sequence[Claim], cells: Sequence[Printed], why: str) -> Paper:
    """All claims and printed values as not verifiable, for one reason."""
    return Paper(
        seeds=seeds,
        claims=tuple(ClaimVerdict(claim=claim, verdict="not verifiable", reason=why) for claim in asked),
        cells=tuple(CellVerdict(key=each.key, cell=each, verdict="not verifiable", reason=why) for each in cells),
    )


def failures_first(found: Iterable[Found]) -> tuple[Found, ...]:
    """Verdicts in the order in which people want to read them."""
    return tuple(sorted(found, key=lambda each: VERDICT_WORDS.index(each.verdict)))


def judge_claim(claim: Claim, scores: Scores, cells: Sequence[Printed], layer: int, command: str) -> ClaimVerdict:
    """The verdict on a claim; ``layer`` is the block that was pooled for retrieval, ``command`` runs what it lacks."""
    parts = judge_parts(claim, scores, cells, layer)
    word = worst([part.verdict for part in parts if part.decides])
    reasons = [f"{part.name}: {part.reason}" for part in parts if part.decides and part.verdict == word]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    lacks = word in ("not run", "not verifiable")
    if claim.seeds > 1:
        command = f"{other_seed(command)}, {claim.seeds} seeds, each into a folder of its own"
    return ClaimVerdict(
        claim=claim,
        verdict=word,
        reason=f"{reasons[0]}{more}",
        parts=tuple(parts),
        fix=f"{command} (each: {claim.cost})" if lacks else "",
        beside=beside_printed(parts, cells),
    )
