"""``xlt evaluate``: the scores of one model on one task.

xlt evaluate pawsx --model results/runs/target/baseline.pawsx-0123456789ab
xlt evaluate xnli --model results/runs/target/mnli.xnli-0123456789ab --language sw --split test
xlt evaluate xnli --model results/runs/target/mnli.xnli-0123456789ab --perturb letter-swap:0.1
"""

from __future__ import annotations

from typing import Annotated

from xlt.cli import options
from xlt.cli.lazy import lazily
from xlt.cli.single_run import make_run

with lazily():
    from xlt.data import perturb as perturbations


def _known_perturbation(text: str) -> str:
    return str(perturbations.Perturbation.parse(text)) if text else ""


Perturb = Annotated[
    str,
    "Perturb rows by KIND, KIND:SEVERITY (0 to 1, by default 0.1) or KIND:SEVERITY:DRAWS, each row in so many ways. "
    "Kinds: letter-swap, letter-drop, diacritics, homoglyphs, case, word-drop, word-swap, word-repeat, code-mixing, "
    "distraction.",
    _known_perturbation,
]


def evaluate(
    task: options.TaskKey,
    model: options.Model,
    data: options.DataOptions,
    chosen: options.ScoringOptions,
    perturb: Perturb = "",
    results: options.Results = options.DEFAULT_RESULTS,
) -> None:
    """Score a trained model on a task, zero-shot in every language."""
    make_run(task, model, data, results, scoring=chosen, perturb=perturb)
