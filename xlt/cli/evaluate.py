"""``xlt evaluate``: the scores of one model on one task, and what perturbed text costs it.

xlt evaluate pawsx --model results/runs/target/baseline.pawsx-0123456789ab
xlt evaluate xnli --model results/runs/target/mnli.xnli-0123456789ab --language sw --split test
xlt evaluate xnli --model results/runs/target/mnli.xnli-0123456789ab --perturb letter-swap:0.1 --perturb case:0.2
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from xlt.cli import options
from xlt.cli.lazy import lazily
from xlt.cli.output import emit, say, table
from xlt.cli.single_run import RunReport, made_run, make_run

with lazily():
    from xlt.data import perturb as perturbations
    from xlt.data import perturbed
    from xlt.pipeline import store
    from xlt.tasks import catalogue
    from xlt.verify import robustness

if TYPE_CHECKING:
    from rich import table as rich_table


def _known_perturbations(given: options.Names) -> list[str]:
    return list(dict.fromkeys(str(perturbations.Perturbation.parse(text)) for text in given or ()))


Perturb = Annotated[
    list[str] | None,
    "Score perturbed rows too: KIND, KIND:SEVERITY (0.001 to 1; else 0.1, for distraction 1) or "
    "KIND:SEVERITY:DRAWS, each row in so many ways, at random, or KIND:SEVERITY:QUERIES:search, by a search for the "
    "worst of them that asks the model so many times (repeatable). Kinds: letter-swap, letter-drop, diacritics, "
    "homoglyphs, case, word-drop, word-swap, word-repeat, code-mixing, distraction.",
    _known_perturbations,
]


@dataclass(frozen=True, slots=True)
class RobustnessReport:
    """What perturbed text costs a model."""

    runs: tuple[RunReport, ...]
    """The run on clean rows, then those on perturbed ones."""
    degradations: tuple[robustness.Degradation, ...]
    """What the scores lose, by perturbation, split and language."""
    without_lexicon: tuple[str, ...] = ()
    """The languages that code-mixing leaves out, because they have no lexicon."""


def evaluate(
    task: options.TaskKey,
    model: options.Model,
    data: options.DataOptions,
    chosen: options.ScoringOptions,
    perturb: Perturb = None,
    results: options.Results = options.DEFAULT_RESULTS,
) -> None:
    """Score a trained model on a task, zero-shot in every language."""
    if not perturb:
        make_run(task, model, data, results, scoring=chosen)
        return
    for each in perturb:
        perturbations.Perturbation.parse(each).check(catalogue.get_task(task))
    # What cannot be perturbed is refused before clean rows are scored.
    *noisy, clean = (made_run(task, model, data, results, scoring=chosen, perturb=each) for each in (*perturb, ""))
    made, runs = [clean, *noisy], store.RunStore(results)
    found = [each for _, run, source in made for each in robustness.degradations(runs, source, [run])]
    sources = [source for *_, source in noisy if isinstance(source, perturbed.PerturbedSource)]
    left_out = dict.fromkeys(
        each for source in sources for each in source.without_lexicon(catalogue.get_task(task), chosen.language or ())
    )
    reports = tuple(report for report, *_ in made)
    emit(RobustnessReport(reports, tuple(found), tuple(left_out)), [degradation_table(found)])
    if left_out and not chosen.language:
        say(f"Code-mixing left out, for want of {perturbed.LEXICON.format(lang='LANGUAGE')}: {' '.join(left_out)}.")
    for report in reports:
        say(f"A run is in {results / report.folder}")


def degradation_table(found: Sequence[robustness.Degradation]) -> rich_table.Table:
    """A row for each perturbation, model (where there are several), split and language; of text that has no place for
    the noise, nothing is said."""
    models = robustness.models(found)
    columns: tuple[str, ...] = (
        "perturbation",
        "task",
        "language",
        "case",
        "changed, %",
        "clean",
        "perturbed",
        "degradation",
        "95 %",
    )
    rows: Iterable[tuple[object, ...]] = map(_row, found)
    if len(models) > 1:
        columns = ("model", *columns)
        rows = ((models[each.clean_run], *row) for each, row in zip(found, rows, strict=True))
    return table(columns, rows, "Degradation: clean minus perturbed, in points")


def _row(each: robustness.Degradation) -> tuple[object, ...]:
    interval = robustness.NO_INTERVAL.get(each.no_interval) or f"{each.low:z.1f} to {each.high:z.1f}"
    cost = (each.perturbed, each.value, interval) if each.changed else (None, None, None)
    return each.perturbation, f"{each.task} {each.split}", each.language, each.case, each.changed, each.clean, *cost
