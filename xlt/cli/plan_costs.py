"""How ``xlt plan`` shows what runs cost: tokens, time, memory, disk and download."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xlt.cli.lazy import lazily
from xlt.cli.output import Shown, table

with lazily():
    from xlt.pipeline import estimate as costs
    from xlt.pipeline import hours as durations
    from xlt.pipeline import parts

# The rows of the table of hours.
TIMED = {
    "steps": "optimiser steps",
    "tokens": "training tokens",
    "floor": "floor of training: its products alone",
    "training": "training",
    "dev": "dev scores, at most",
    "evaluation": "predictions and scores",
    "retrieval": "retrieval",
    "encoding": "tokens of text, one thread",
    "saving": "models written, read, hashed",
    "total": "all",
}


def part_lines(found: Iterable[parts.PartCost]) -> Iterator[str]:
    """What each part is and costs, in two lines; where nobody timed it on a GPU, it is said."""
    for each in found:
        cost = each.estimate
        asked = " (only when it is named)" if each.on_request else ""
        yield f"Part {each.name}{asked}: {each.about}."
        examples = [run.examples for run in cost.runs]
        count = "nothing is trained"
        if None in examples:
            count = "training tokens not known before the data is here"
        elif total := sum(known or 0 for known in examples):
            tokens = "tokens not known yet" if cost.unknown_runs else f"{tokens_told(cost.training_tokens)} tokens"
            count = f"{total:,} training examples, {tokens}"
        yield f"  {each.backbone}; {count}; {times(cost)}"


def times(cost: costs.Estimate) -> str:
    """How long one seed takes by each device and engine, and whether anybody timed it on a GPU, on one line."""
    hours = [f"{_in_all(took)} on {on}" for on, took in cost.hours.items()]
    timed = any(took.gpu for took in cost.hours.values())
    return "; ".join(hours if timed else [*hours, "not timed on a GPU yet"])


def _in_all(took: durations.Hours) -> str:
    training = f"training {hours_told(took.training)}, " if took.training else ""
    several = f", by {took.gpus} GPUs {hours_told(took.on_gpus)}" if took.gpus else ""
    how = ", measured" if took.measured and not took.calibrated else ""
    return f"{training}all {hours_told(took.total)}{several}{how}"


def cost_lines(cost: costs.Estimate, what: str = "One seed", rates: str = ": xlt plan --calibrate") -> Shown:
    """What the whole grid costs, if nothing of it is done yet; ``rates`` tells how those get known that are not."""
    unknown = len(cost.unknown_runs)
    tokens = [tokens_told(cost.training_tokens) or "none"] if cost.training_tokens or not unknown else []
    if unknown:
        why = f"their data is not here, or the tokenizer not made yet{rates}"
        tokens.append(f"unknown for {unknown} of {len(cost.runs)} runs: {why}")
    if tabled := cost.by_table:
        guessed = [key for key, basis in tabled.items() if basis == "estimate"]
        tokens.append(f"rows of {len(tabled)} tasks as long as those in artifact/measured/tokens.json")
        if guessed:
            tokens.append(f"an estimate for {', '.join(guessed)}: other text or lengths were counted")
    memory = [f"{size / 1e9:.0f} GB (ZeRO {stage})" for stage, size in cost.gpu_bytes.items()]
    disk = "unknown" if cost.disk_bytes is None else f"{cost.disk_bytes / 1e9:.0f} GB"
    download = [f"{cost.download_bytes / 1e9:.2f} GB"] if cost.download_bytes or not cost.unknown_downloads else []
    if cost.unknown_downloads:
        download.append(f"not known before the fetch: {', '.join(cost.unknown_downloads)}")
    yield f"{what} costs, from the beginning:"
    yield f"  training tokens  {'; '.join(tokens)}"
    yield f"  time             {'see the table below' if cost.hours else f'not measured here yet{rates}'}"
    yield f"  GPU memory       {'; '.join(memory) or f'not measured{rates} on a GPU'}"
    states = f", and {2 * cost.state_bytes / 1e9:.0f} GB in a training" if cost.state_bytes else ""
    yield f"  disk             {disk} for {cost.models} models in fp32{states}"
    yield f"  download         {'; '.join(download)}"
    if cost.hours:
        yield from _time(cost, what.lower())


def _time(cost: costs.Estimate, what: str) -> Shown:
    """How long each part of the work takes on each device, and how much it is."""
    runs, found = cost.runs, cost.hours
    scored = [(kind, each) for run in runs for kind, each in run.scored.items()]
    tested = sum(each.rows for kind, each in scored if kind != "retrieval")
    mined = sum(each.rows for kind, each in scored if kind == "retrieval")
    sizes = {
        "steps": f"{sum(sum(run.steps.values()) for run in runs):,.0f}",
        "tokens": tokens_told(cost.training_tokens),
        "dev": f"{sum(run.dev_scores for run in runs):,} scores",
        "evaluation": f"{tested:,} rows",
        "retrieval": f"{mined:,} sentences or pairs",
        "encoding": f"{tokens_told(sum(sum(run.encoded.values()) for run in runs)) or 'no'} tokens",
        "saving": f"{cost.models} models",
    }
    rows = [
        (label, sizes.get(part), *(_marked(part, each) for each in found.values())) for part, label in TIMED.items()
    ]
    yield table(("part", "size", *found), rows, f"Time that {what} takes, one part after another")
    for on, took in found.items():
        if took.gpus and took.gpu:
            told = hours_told(took.on_gpus)
            mark = " *" if took.on_gpus is not None and not {*durations.PARTS} <= {*took.measured} else ""
            yield f"  on {took.gpus} GPUs        {told}{mark} on {on}: a run on each, in the order of the table above"
    yield "  * predicted from the assumptions in artifact/expected/hours-*.toml, not measured on that device"
    if without := dict.fromkeys((*cost.unknown_runs, *cost.unscored_runs)):
        yield f"  without {len(without)} runs of unknown size: {', '.join(without)}"


def _marked(part: str, hours: durations.Hours) -> str | None:
    if not hasattr(hours, part) or (part == "floor" and hours.floor is None):
        return None
    shown = hours_told(getattr(hours, part))
    measured = part in hours.measured or (part == "total" and {*durations.PARTS} <= {*hours.measured})
    return shown if measured or shown == "unknown" else f"{shown} *"


def hours_told(hours: float | None) -> str:
    """Hours in words, in minutes where they are few."""
    if hours is None:
        return "unknown"
    if 0 < 60 * hours < 0.05:
        return "under 0.1 min"
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def tokens_told(count: int | None) -> str | None:
    """Tokens in words; None for none at all."""
    if count is None:
        return "unknown"
    # Rows are counted or published; their mean length is measured on a sample.
    return f"≈ {count / 1e6:.1f} M" if count else None
