"""What people see of a verification: failures and a summary first, all of it where it is asked for."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from xlt.cli.evaluate import degradation_table
from xlt.cli.lazy import lazily
from xlt.cli.output import Shown
from xlt.cli.output import table as table_of
from xlt.printable import counted
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH

with lazily():
    from rich import table as rich_table

    from xlt.evaluate import metrics
    from xlt.verify import cells, comparison, evidence, judge, looks, paper, robustness, tables, verdicts

MOST_PROBLEMS = 5
MOST_FAILURES = 10
FEW_CLAIMS = 2
WIDTH = 80
ARMS_IN_A_TABLE = 3  # as many as fit beside the name of a task
FAILURES = ("deviates", "collapsed", "not run")
FAILED = FAILURES[:2]
NO_CLAIMS = "The paper's claims are about XLM-R Large: xlt reproduce --tier core"
SINGLE = "Nothing is expected of single runs: their scores stand beside those of a guess, and decide nothing."
IN_RESULTS = " --results DIR"
NOT_RUN = "What was not run:"


def short(verification: judge.Verification, code: str) -> Shown:
    """What fails, then a summary of about ten lines of at most 80 letters; of what nothing is expected, the scores."""
    seeds = verification.seeds
    yield from _failing_checks(verification.golden)
    for each in seeds:
        fails = each.problems or _failing(each) or cells.collapsed_cells(each.cells)
        yield from (f"Seed {each.seed}",) if len(seeds) > 1 and fails else ()
        yield from _problems(each)  # as they are: what is searched for in them is not to be folded
        failing = [f"{each.verdict}  {_why(each)}" for each in _failing(each)]
        yield from failing[:MOST_FAILURES]
        yield from (f"({len(failing) - MOST_FAILURES} more: --all)",) if len(failing) > MOST_FAILURES else ()
        yield from dict.fromkeys(f"{NOT_RUN} {one.fix}" for one in _failing(each) if one.verdict == "not run")
    yield from _claims_in_short(verification.paper) if verification.paper else ()
    for each in seeds:
        yield from _scores(each, by_cell=False) if verification.nothing_judged or not verification.tier else ()
        lost = [one for one in each.robustness if one.language == robustness.MEAN] or each.robustness
        yield from [degradation_table(lost)] if lost else ()
    yield from _summary(verification, code)


def _claims_in_short(found: paper.Paper) -> Iterator[str]:
    """A sentence for each claim, those that fail first, with the reason; none for parts that need not be run."""
    shown = [each for each in found.claims if not (each.optional and each.verdict == "not run")]
    for each in sorted(shown, key=lambda claim: claim.verdict not in FAILED):
        why = f" {each.reason[:1].upper()}{each.reason[1:]}." if each.verdict in FAILED else ""
        yield from folded(f"{each.verdict}  {each.claim.id}  {each.claim.statement}{why}")


def _summary(verification: judge.Verification, code: str) -> Shown:
    seeds = verification.seeds
    for each in seeds:
        what = f"Tier {each.tier}" if each.tier else "Single runs"
        whole = sum(run.state == "done" for run in each.runs)
        # Of single runs there may be several sources.
        settings = "" if each.tier else "".join(f", {name} {value}" for name, value in each.source.settings.items())
        runs = counted(len(each.runs), "run")
        yield f"{what}, source {each.source.name}{settings}, seed {each.seed}: {whole} of {runs} whole."
        yield from [f"Verdicts: {each.summary}."] if each.summary else ()
        if each.overall and each.overall.verdict != "exact":
            yield from folded(f"All means together: {each.overall.verdict}: {each.overall.reason}.")
        yield from folded(each.not_exact) if each.not_exact else ()
        for text in (*_added(each), *(f"{site.summary}." for site in each.sites)):
            yield from folded(text)
        yield f"result_hash {each.result_hash}"
    if checks := verification.checks:
        yield from folded(f"Checked: {', '.join(map(_name_of, checks.checked))}.")
        for made in (each for each in checks.checked if " again" in each):  # and with which seed it was drawn
            yield from folded(f"  {made}.")
        yield from folded(f"Not checked: {', '.join(map(_name_of, checks.not_checked))}.")
    if verification.paper:
        yield from folded(f"{_of(verification.paper)}: {verification.paper.summary}.")
    if verification.golden:
        yield from folded(evidence.summary(verification.golden))
    if verification.paper is None:
        yield from folded(NO_CLAIMS if verification.tier else SINGLE)
    if verification.study_answer:
        yield from folded(f"Study: its tests made anew say what study.json says. {verification.study_answer}")
    if verification.nothing_judged:
        yield from folded(f"Nothing was judged (exit code {code}): {verification.nothing_judged}.")
    yield f"Every mean, claim and check: xlt verify --all{IN_RESULTS}"


def folded(text: str) -> Iterator[str]:
    """The text in lines of at most 80 letters, of which all but the first are indented. Words are never cut."""
    yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _name_of(check: str) -> str:
    return check.partition(":")[0]


def _of(found: paper.Paper) -> str:
    return "Published anchors" if found.of_anchors else "The paper"


def _failing(verification: judge.Verification) -> list[verdicts.Verdict]:
    return [each for each in verification.verdicts if each.verdict in FAILURES and not each.diagnostic]


def _why(verdict: verdicts.Verdict) -> str:
    band = f", expected {verdict.band.low:.1f} to {verdict.band.high:.1f}" if verdict.band else ""
    value = f" {verdict.value:.1f}{band}" if verdict.value is not None else ""
    return f"{' '.join(verdict.key)}{value}: {verdict.reason}"


def everything(verification: judge.Verification, code: str, *, by_cell: bool = False, printed: bool = False) -> Shown:
    """Every mean, claim and check, failures first. ``by_cell``: each score by itself; ``printed``: printed cells too
    that could not be judged."""
    yield from _failing_checks(verification.golden)
    for each in verification.seeds:
        if verification.further:
            yield f"Seed {each.seed}"
        yield from _seed(each, by_cell=by_cell)
    yield from _paper(verification.paper, printed=printed)
    yield from _original(verification) if verification.paper else ()
    if verification.golden:
        yield evidence.summary(verification.golden)
    if verification.paper is None:
        yield NO_CLAIMS if verification.tier else SINGLE
    if verification.study_answer:
        yield f"Study: its tests made anew say what study.json says. {verification.study_answer}"
    if verification.nothing_judged:
        yield f"Nothing was judged (exit code {code}): {verification.nothing_judged}."


def _failing_checks(golden: Sequence[evidence.GoldenCheck]) -> Shown:
    yield from (f"GOLDEN   {check.name}: {check.what}" for check in golden if not check.holds)


def _original(verification: judge.Verification) -> Shown:
    yield from [f"{verification.original.summary}."] if verification.original else []


def _problems(verification: judge.Verification) -> Iterator[str]:
    by_fix: dict[str, list[str]] = {}
    for problem in verification.problems:
        by_fix.setdefault(problem.fix, []).append(f"{problem.run} {problem.where}".strip() + f": {problem.what}")
    for fix, found in by_fix.items():
        more = [f"({len(found) - MOST_PROBLEMS} more like these: --json)"] if len(found) > MOST_PROBLEMS else []
        yield from (f"PROBLEM  {line}" for line in (*found[:MOST_PROBLEMS], *more))
        yield f"         → {fix}"
    for each in cells.collapsed_cells(verification.cells):
        yield f"COLLAPSED  {each.collapse}"


def _seed(verification: judge.Verification, *, by_cell: bool) -> Shown:
    yield from _problems(verification)
    if verification.verdicts:
        yield from _scores(verification, by_cell=by_cell)
        title = "Verdicts on the means over all languages, of which these cells are part" if by_cell else "Verdicts"
        columns = ("verdict", "arm", "task", "split", "mean", "expected", "why")
        yield table_of(columns, _verdicts(verification, by_cell=by_cell), title)
        not_run = dict.fromkeys(verdict.fix for verdict in verification.verdicts if verdict.verdict == "not run")
        yield from (f"{NOT_RUN} {fix}" for fix in not_run)
        if verification.overall and verification.overall.verdict != "exact":
            yield f"All means together: {verification.overall.verdict}: {verification.overall.reason}."
        yield from verification.references
        yield from _references(verification)
        yield from _original(verification) if verification.paper is None else ()
        yield f"Verdicts: {verification.summary}.  result_hash {verification.result_hash}"
    if verification.robustness:
        yield degradation_table(verification.robustness)
    if verification.checks:
        yield from (f"Checked: {each}." for each in verification.checks.checked)
        yield from (f"Not checked: {each}." for each in verification.checks.not_checked)


def _references(verification: judge.Verification) -> Shown:
    """Where the reference runs are from, and what was added to them."""
    if verification.not_exact:
        yield verification.not_exact
    if verification.origins:
        yield f"The reference runs differ from this run: {'; '.join(map(str, verification.origins))}."
    yield from _added(verification)
    yield from (f"{site.summary}." for site in verification.sites)


def _added(verification: judge.Verification) -> Iterator[str]:
    for each in verification.added:
        counted = f"not counted: {each.why}" if each.why else "counted"
        yield f"Added: {each.file}, seed {each.seed}, {each.site}, {each.evidence}, {counted}. SHA-256 {each.sha256}"


def _scores(verification: judge.Verification, *, by_cell: bool) -> Iterator[rich_table.Table]:
    """The scores of the cells that were asked for, each by itself, or those of all tasks in short, some arms each."""
    if by_cell:
        shown = ("arm", "task", "split", "language", "score", "guess", "above chance", "examples")
        yield table_of(shown, map(_cell, verification.cells), "Scores; guess: the better of chance and majority")
        return
    arms = tables.arms(verification)
    for first in range(0, len(arms), ARMS_IN_A_TABLE):
        some = arms[first : first + ARMS_IN_A_TABLE]
        columns = ("task", "languages", "chance", "majority", *some)
        yield table_of(columns, _means(verification, some), "Mean/English/languages above chance (99 %)")


def _cell(cell: cells.Cell) -> tuple[object, ...]:
    guess = metrics.task_score(get_task(cell.task), cell.guess)
    place = (cell.arm, cell.task, cell.split, cell.language)
    return *place, cell.score, guess, "yes" if cell.above_chance else "no", cell.examples


def _means(verification: judge.Verification, arms: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """A row per task that is judged: mean over languages, English, and how many languages are above chance."""
    for table in tables.language_tables(verification):
        task, gold = get_task(table.task), [table.gold(code) for code in table.languages]
        chance = comparison.mean([metrics.task_score(task, cell.chance) for cell in gold])
        majorities = [metrics.task_score(task, cell.majority) for cell in gold if cell.majority]
        majority = comparison.mean(majorities) if majorities else None
        by_arm = ([cell for cell in table.cells.values() if cell.arm == arm] for arm in arms)
        yield f"{table.task} {table.split}", len(gold), chance, majority, *map(_in_short, by_arm)


def _in_short(found: list[cells.Cell]) -> str | None:
    if not found:
        return None
    english = next((f"{cell.score:.1f}" for cell in found if cell.language == ENGLISH), "–")
    above = sum(cell.above_chance for cell in found)
    return f"{comparison.mean([cell.score for cell in found]):.1f}/{english}/{above}"


def _verdicts(verification: judge.Verification, *, by_cell: bool) -> Iterator[tuple[object, ...]]:
    """A row per mean over languages that counts, failures first; those that are exact for the same reason in one row,
    unless cells were asked for, and those that do not count in another."""
    exact = Counter(each.reason for each in verification.verdicts if each.verdict == "exact" and not by_cell)
    for each in sorted(verification.verdicts, key=lambda verdict: verdict.verdict not in FAILURES):
        if each.diagnostic or (each.verdict == "exact" and not by_cell):
            continue
        expected = each.band and f"{each.band.low:.1f} to {each.band.high:.1f}"
        yield each.verdict, *each.key, each.value, expected, each.reason
    for reason, count in exact.items():
        yield "exact", f"{count} means", "", "", None, None, f"{reason} (their values are in the table above)"
    for reason, shown in tables.diagnostics(verification).items():
        yield "–", f"{len(shown)} more", "", "", None, None, f"{reason} (their values are in the table above)"


def _paper(found: paper.Paper | None, *, printed: bool) -> Shown:
    """The claims, with their parts where few are asked for, and the printed cells, failures first; then the counts."""
    if found is None:
        return
    # Parts of a tier that were not run: few of them were asked for by name.
    absent = [each for each in found.claims if each.optional and each.verdict == "not run"]
    if shown := [each for each in found.claims if each not in absent or len(found.claims) <= FEW_CLAIMS]:
        columns = ("verdict", "claim", "measured", "expected", "why")
        title = "Published anchors" if found.of_anchors else "The paper's claims, and published anchors"
        yield table_of(columns, _claims(shown), title)
        yield from (f"{each.claim.id}: {each.beside}." for each in shown if each.beside)
    # A table has dozens of languages: where all are well, their mean says so.
    asked = printed or bool(found.claims)
    listed = [each for each in found.cells if each.verdict == "deviates" or not each.cell.language or not found.claims]
    listed = [each for each in listed if each.cell.expected is not None or not found.claims] if asked else []
    if listed:
        columns = ("verdict", "cell", "measured", "printed", "why")
        cited = ((each.verdict, each.key, _measured(each), each.cell.expected, each.reason) for each in listed)
        yield table_of(columns, cited, "Printed cells")
    for fix in dict.fromkeys(each.fix for each in shown if each.fix):
        yield f"{', '.join(each.claim.id for each in shown if each.fix == fix)}: {fix}"
    if rest := [each for each in absent if each not in shown]:
        names = ", ".join(sorted(each.claim.id for each in rest))
        yield f"Not run, each a part of the tier by itself: {names}. For example: {rest[0].fix}"
    yield f"{_of(found)}: {found.summary}."


def _claims(found: Sequence[paper.ClaimVerdict]) -> Iterator[tuple[object, ...]]:
    for each in found:
        yield each.verdict, f"{each.claim.id}  {each.claim.statement}", "", "", each.reason
        for part in each.parts if len(found) <= FEW_CLAIMS else ():
            verdict = part.verdict if part.decides else f"({part.verdict})"
            yield verdict, f"    {part.name}", _measured(part), part.expected, part.reason


def _measured(found: looks.Part | looks.CellVerdict) -> str | None:
    if found.value is None or found.low is None or found.high is None:
        return None
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"
