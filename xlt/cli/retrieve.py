"""``xlt retrieve``: translations found with an encoder as it is.

xlt retrieve tatoeba --model results/runs/intermediate/mnli-0123456789ab --layer 2
xlt retrieve tatoeba --model xlm-roberta-large --layer 14 --source hub
xlt retrieve tatoeba --model ./multilingual-e5-small --layer 12 --prefix "query: " --source files --data-root DIR
xlt retrieve tatoeba --model xlm-roberta-large --source hub --readings --printed 31.0
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from xlt.cli import options
from xlt.cli.readings import show_readings
from xlt.cli.single_run import make_run
from xlt.errors import UsageFault
from xlt.tasks.catalogue import get_task


def retrieve(
    task: options.TaskKey,
    model: options.Model,
    data: options.DataOptions,
    chosen: options.ScoringOptions,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer", metavar="N", min=1, help="Pool the output of block N. Default: the model's own choice."
        ),
    ] = None,
    pooling: Annotated[
        Literal["mean", "first", "last"] | None,
        "A sentence's vector: the mean over its tokens, or its first or last one. Default: the model's own, or mean.",
    ] = None,
    prefix: Annotated[
        str | None, "Put this before every sentence, as E5 wants it: 'query: '. Default: the model's own choice."
    ] = None,
    readings: Annotated[
        bool, "Score every reading: each layer, pooling, direction, margin, centring and whitening, from one pass."
    ] = False,
    printed: Annotated[
        str,
        "With --readings, show first those that are nearest to this number (31.0), or to the languages of this table "
        "of published values (replication).",
    ] = "",
    before: Annotated[str, "With --readings, compare every layer with this model: --model before its training."] = "",
    results: options.Results = options.DEFAULT_RESULTS,
) -> None:
    """Find translations by an encoder's sentence vectors.

    A sentence's vector is the mean over its tokens at a middle layer, if nothing else is asked for. The search is
    exact.
    """
    if get_task(task).kind != "retrieval":
        raise UsageFault(f"'{task}' is not a retrieval task.", fix=f"xlt evaluate {task} --model MODEL")
    asked = {"retrieval_layer": layer, "pooling": pooling, "prefix": prefix}
    retrieval = {name: value for name, value in asked.items() if value is not None}
    if readings and get_task(task).metric == "map20":
        raise UsageFault(f"'{task}' has no readings: these are of pairs of translations.", fix="Leave --readings away.")
    if readings:
        show_readings(task, model, data, chosen, results, retrieval=retrieval, printed=printed, before=before)
        return
    if printed or before:
        raise UsageFault("--printed and --before are compared with readings.", fix="Add --readings.")
    make_run(task, model, data, results, scoring=chosen, retrieval=retrieval)
