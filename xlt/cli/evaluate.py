"""``xlt evaluate``: the scores of one model on one task.

xlt evaluate pawsx --model results/runs/target/baseline.pawsx-0123456789ab
xlt evaluate xnli --model results/runs/target/mnli.xnli-0123456789ab --language sw --split test
"""

from __future__ import annotations

from xlt.cli import options
from xlt.cli.single_run import make_run


def evaluate(
    task: options.TaskKey,
    model: options.Model,
    data: options.DataOptions,
    chosen: options.ScoringOptions,
    results: options.Results = options.DEFAULT_RESULTS,
) -> None:
    """Score a trained model on a task, zero-shot in every language."""
    make_run(task, model, data, results, scoring=chosen)
