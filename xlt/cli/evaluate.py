"""``xlt evaluate``: the scores of one model on one task, and what perturbed text costs it.

xlt evaluate pawsx --model results/runs/target/baseline.pawsx-0123456789ab
xlt evaluate xnli --model results/runs/target/mnli.xnli-0123456789ab --language sw --split test
xlt evaluate xnli --model results/runs/target/mnli.xnli-0123456789ab --perturb letter-swap:0.1 --perturb case:0.2
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from xlt.cli import options
from xlt.cli.lazy import lazily
from xlt.cli.output import emit, say, table
from xlt.cli.single_run import RunReport, made_run, make_run

with lazily():
    from xlt.data import perturb as perturbations
    from xlt.pipeline import store
    from xlt.tasks import catalogue
    from xlt.verify import robustness

if TYPE_CHECKING:
    from rich import table as rich_table


def _known_perturbations(given: options.Names) -> list[str]:
    return list(dict.fromkeys(str(perturbations.Perturbation.parse(text)) for text in given or ()))


Perturb = Annotated[
    list[str] | None,
    "Score perturbed rows too: KIND, KIND:SEVERITY (0 to 1; else 0.1, for distraction 1) or KIND:SEVERITY:DRAWS, each "
    "row in so many ways (repeatable). Kinds: letter-swap, letter-drop, diacritics, homoglyphs, case, word-drop, "
    "word-swap, word-repeat, code-mixing, distraction.",
    _known_perturbations,
]


@dataclass(frozen=True, slots=True)
class RobustnessReport:
    """What perturbed text costs a model."""

    runs: tuple[RunReport, ...]
    """The run on clean rows, then those on perturbed ones."""
    degradations: tuple[robustness.Degradation, ...]
    """What the scores lose, by perturbation, split and language."""


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
    made = [made_run(task, model, data, results, scoring=chosen, perturb=each) for each in ("", *perturb)]
    runs = store.RunStore(results)
    found = [each for _, run, source in made for each in robustness.degradations(runs, source, [run])]
    emit(RobustnessReport(tuple(report for report, *_ in made), tuple(found)), [degradation_table(found)])
    for report, *_ in made:
        say(f"A run is in {results / report.folder}")


def degradation_table(found: Iterable[robustness.Degradation]) -> rich_table.Table:
    """A row for each perturbation, split and language; of text that has no place for the noise, nothing is said."""
    columns = ("perturbation", "task", "language", "case", "changed, %", "clean", "perturbed", "degradation", "95 %")
    return table(columns, map(_row, found), "Degradation: clean minus perturbed, in points")


def _row(each: robustness.Degradation) -> tuple[object, ...]:
    cost = (each.perturbed, each.value, f"{each.low:z.1f} to {each.high:z.1f}") if each.changed else (None, None, None)
    return each.perturbation, f"{each.task} {each.split}", each.language, each.case, each.changed, each.clean, *cost
