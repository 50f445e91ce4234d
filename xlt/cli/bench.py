"""``xlt bench``: how fast this package is beside other code, and which faults verify finds.

xlt bench train
xlt bench train --source files --data-root DIR --threads 1 --json
xlt bench load
xlt bench load --task squad --source files --data-root DIR --json
xlt bench tasks --data-root DIR
xlt bench tasks --data-root DIR --steps 0 --json
xlt bench controls
xlt bench controls --control wrong-layer
xlt bench steps --size small --json
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer

from xlt.cli import options
from xlt.cli.lazy import lazily
from xlt.cli.output import Shown, emit, say, table
from xlt.errors import ExitCode, UsageFault
from xlt.numerics import request_portable

with lazily():
    import torch

    from xlt import files
    from xlt.bench import adversarial as adversaries
    from xlt.bench import batches, shapes, workload
    from xlt.bench import controls as faults
    from xlt.bench import cpu as cpu_bench
    from xlt.bench import load as loading
    from xlt.bench import tasks as catalogue
    from xlt.bench import train as training
    from xlt.cli import progress
    from xlt.pipeline import grid, sources, spec, store, tiers
    from xlt.train import seeding

# The names of xlt.bench.controls, which is slow to import.
CONTROLS = (
    *("phase-1-lost", "positions-from-0", "shuffled-labels", "wrong-layer", "attention-across-sequences"),
    *("languages-swapped", "pooling-ignored", "first-row-dropped", "header-as-data", "labels-in-another-order"),
    *("pairs-cut-short", "no-schedule", "another-seed"),
)
_known_control = options.one_of("control", lambda: CONTROLS)
CPU_ROWS = ("dynamic padding", "length grouping", "sentence vectors")  # of xlt.bench.cpu, which is slow to import too
_known_row = options.one_of("row", lambda: CPU_ROWS)
# By the name of a command: its rounds, and what its help says. The function bench_NAME in xlt/bench/NAME.py measures.
WORKLOADS = {
    "kernels": (20, "Time every kernel, forward and backward."),
    "mlm": (20, "Time masked-LM steps with a head that reads only the masked positions."),
    "optimizer": (20, "Time AdamW updates, of the word embeddings that are used and of all of them."),
    "checkpoint": (5, "Time writing and reading the state of a training beside DeepSpeed's own."),
    "steps": (10, "Time whole training steps of each engine beside padded loops."),
    "embed": (10, "Time sentence vectors of packed batches beside padded ones."),
    "retrieval": (5, "Time neighbours in both directions, from one product or two."),
}
ModelSize = Annotated[
    Literal["small", "large"] | None,
    "large is XLM-R Large with random weights, small has three narrow layers. Default: large on a GPU.",
]


def workload_command(name: str) -> Callable[..., None]:
    """The command ``xlt bench NAME``."""
    default_rounds, about = WORKLOADS[name]

    def measure(
        size: ModelSize = None,
        rounds: Annotated[int, "Timed rounds; in each, all candidates take their turn."] = default_rounds,
        threads: options.Threads = 0,
    ) -> None:
        _use_threads(threads)
        size = size or shapes.default_size()
        say("Comparing what the candidates compute, then timing them in turn.")
        _show(getattr(import_module(f"xlt.bench.{name}"), f"bench_{name}")(size, rounds))

    measure.__doc__ = f"{about}\n\nA candidate that computes something else is not timed."
    return measure


def adversarial(
    size: ModelSize = None,
    rounds: Annotated[int, "Timed rounds; in each, all methods take their turn."] = 10,
    threads: options.Threads = 0,
) -> None:
    """Time steps of every method of adversarial training beside standard ones.

    Shows passes, time and memory of each method with its defaults. They learn different things: nothing is compared.
    """
    _use_threads(threads)
    _show(adversaries.bench_adversarial(size or shapes.default_size(), rounds))


def _show(result: workload.Bench) -> None:
    emit(result, _workloads(result))
    if not result.sound:
        raise typer.Exit(int(ExitCode.ENVIRONMENT))


def _use_threads(count: int) -> None:
    if count:
        torch.set_num_threads(count)


def _workloads(result: workload.Bench) -> Shown:
    columns = ("", "ms", "10-90 %", "times ours", "10-90 %", "peak GiB", "operations", "reads")
    for row in result.workloads:
        yield table(columns, (_timing(each) for each in row.timings if each.seconds is not None), _rates(row))
        if row.about:
            yield row.about
        yield from (f"  not run: {each.name} ({each.not_run})" for each in row.timings if each.not_run)
    limits = result.ceilings
    yield (
        f"{result.device} ({result.cpu}), {result.threads} threads. Measured ceilings: {limits.dtype} matrix product "
        f"{limits.matmul_flop_per_s / 1e12:.2f} TFLOP/s, copy {limits.copy_bytes_per_s / 1e9:.1f} GB/s."
    )
    if (result.load or 0) > result.threads + 1:
        yield f"The machine was busy with other work (load {result.load}): ratios mean something, times do not."


def _rates(row: workload.Workload) -> str:
    seconds = row.timings[0].seconds or 0.0
    rates = [f"{amount / seconds:,.4g} {what}/s" for what, amount in row.quantity.items() if seconds]
    share = [f"{100 * row.share:.0f} % of the {row.ceiling} ceiling"] if row.share is not None else []
    return f"{row.name}: {'; '.join([*rates, *share]) or 'no rate'}; medians of {row.rounds}"


def _timing(each: workload.Timing) -> tuple[str | None, ...]:
    median, low, high = (f"{1000 * (value or 0):.3g}" for value in (each.seconds, each.seconds_p10, each.seconds_p90))
    peak = f"{each.peak_bytes / 2**30:.2f}" if each.peak_bytes else None
    ratio, spread = f"{each.ratio:.2f}", f"{each.ratio_p10:.2f}-{each.ratio_p90:.2f}"
    issued = [None if value is None else f"{value:,.0f}" for value in (each.operations, each.reads)]
    return each.name, median, f"{low}-{high}", ratio, spread, peak, *issued


def cpu(
    row: Annotated[list[str] | None, "Only this row (repeatable).", _known_row] = None,
    model: Annotated[Path | None, typer.Option("--model", metavar="FOLDER", help="Weights. Default: random.")] = None,
    rounds: Annotated[int, "Timed rounds; in each, all candidates take their turn."] = 3,
    threads: options.Threads = 0,
) -> None:
    """Time a small encoder with a large vocabulary on a CPU.

    Its training steps are packed, on the rows of the word embeddings that are used, beside Hugging Face's; its sentence
    vectors beside sentence-transformers'. All compute with oneDNN's products and with those that torch chooses. A
    candidate that computes something else is not timed.
    """
    _use_threads(threads)
    say("Comparing what the candidates compute, then timing them in turn.")
    _show(cpu_bench.bench_cpu(rounds, model, row or CPU_ROWS))


def train(
    task: options.OneTask = "mnli",
    source: options.SourceName = "world",
    data_root: options.DataRoot = None,
    steps: Annotated[int, "Timed steps per row."] = 20,
    batch_size: Annotated[int, "Examples per step."] = 32,
    max_length: Annotated[int, typer.Option("--max-length", metavar="N", min=8, help="Most tokens per example.")] = 128,
    hidden: Annotated[int, "Width of the model. Default: the smoke tier's."] = 0,
    layers: Annotated[int, "Its layers. Default: the smoke tier's."] = 0,
    threads: options.Threads = 0,
) -> None:
    """Time packed training steps beside Hugging Face's padded ones.

    Both train a fresh small XLM-R with the same weights, the same examples and the same AdamW, without dropout, on
    batches made before the clock starts. Packing is the only difference, so the expected ratio is slots per token.
    Loss and gradient norm are compared first; if they differ, nothing is timed.
    """
    _use_threads(threads)
    opened = sources.open_source(options.DataOptions(source, data_root).source_options())
    backbone = _backbone(opened.name, hidden, layers)
    say("Training a tokenizer, then timing packed and padded steps in turn.")
    _show(training.bench_train(opened, task, backbone, batches.Shape(steps, batch_size, max_length)))


def load(
    data: options.DataOptions,
    task: options.OneTask = "mnli",
    tokenizer: Annotated[str, "Its name or folder. Default: one trained on the source's text."] = "",
    repeats: Annotated[int, "Timed rounds; in each, all candidates take their turn."] = 5,
) -> None:
    """Time reading, tokenising and packing beside datasets.map.

    Both use the same fast tokenizer. datasets.map gets rows that are already loaded and makes token ids only, in
    memory, in batches of two sizes. Rows for which the two do not make the same ids are left out and counted.
    """
    named = data.source_options()
    vocabulary = _backbone(named.name, 0, 0).vocabulary
    say("Comparing the token ids, then timing all candidates in turn.")
    _show(loading.bench_load(lambda: sources.open_source(named), task, tokenizer, vocabulary, repeats))


def tasks(
    task: options.SomeTasks = None,
    source: options.SourceName = "files",
    data_root: options.DataRoot = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=0, help="Steps per training set; 0: none.")] = 150,
    phase_1_steps: Annotated[int, "Steps of masked LM before that."] = 1500,
    seed: options.Seed = 0,
    results: options.Results = options.DEFAULT_RESULTS,
) -> None:
    """Read every task, and train the small model on it briefly.

    Shows rows, seconds to read and tokenise them, score and chance. The model is the small one of the smoke tier: the
    scores show that data, training and metric work. Its runs go to RESULTS/tasks; the same command resumes.
    """
    files.check_writable(results / "tasks")
    seeding.deterministic(True)
    named, runs = options.DataOptions(source, data_root).source_options(), store.RunStore(results / "tasks")
    given = {"steps": steps, "phase_1_steps": phase_1_steps, "seed": seed}
    with progress.RunBars() as shown:
        result = catalogue.bench_tasks(tiers.read_tier("smoke"), named, runs, shown, keys=task or (), **given)
    emit(result, _tasks(result))


def _tasks(result: catalogue.TaskTable) -> Shown:
    about = ("task", "rows", "languages", "load, s", "tokenise, s", "k tokens")
    rows = (cells for row in result.tasks for cells in _task_rows(row))
    yield table((*about, "split", "score", "chance", "majority"), rows)
    for row in result.tasks:
        if row.missing:
            yield f"{row.task}: {row.missing}"
        elif row.folders and row.task not in row.folders:
            yield f"{row.task}: read from the folder {', '.join(row.folders)}"
    yield (
        "Seconds count all rows. Scores are percentages (English; retrieval: mean over languages) after "
        f"{result.phase_1_steps} steps of masked LM and {result.steps} of the training set."
    )


def _task_rows(row: catalogue.TaskRow) -> Iterator[tuple[object, ...]]:
    """A row per split that is scored; the first one describes the task too."""
    count = sum(rows for languages in row.rows.values() for rows in languages.values())
    languages = {language for languages in row.rows.values() for language in languages}
    seconds = [None if value is None else f"{value:.2f}" for value in (row.load_s, row.tokenise_s)]
    about = [row.task, *([None] * 5 if row.missing else [count, len(languages), *seconds, round(row.tokens / 1000)])]
    for score in row.scores:
        yield *about, score.split, score.score, score.chance, score.majority
        about = [""] * len(about)
    if not row.scores:
        yield *about, "", "", "", ""


def controls(
    control: Annotated[list[str] | None, "Only this fault (repeatable).", _known_control] = None,
    seed: options.Seed = 0,
    results: options.Results = options.DEFAULT_RESULTS,
) -> None:
    """Put known faults in, one at a time, and check that verify finds each while it is in: some 40 minutes for all.

    Phase 1 is taken from RESULTS of the smoke tier; the faulty runs go to RESULTS/controls. Exit code 1: verify did not
    find a fault.
    """
    files.check_writable(results / "controls")
    request_portable()  # as the smoke tier does
    named, tier = sources.SourceOptions(), tiers.read_tier("smoke")
    source = sources.open_source(named)
    runs = grid.GridBuilder(tier, source, seed=seed, precision="fp32").grid()
    seeding.deterministic(True)
    with progress.RunBars() as shown:
        kept, faulty = store.RunStore(results), results / "controls"
        report = faults.run_controls(control or [], runs, tier, source, named, kept, faulty, shown)
    emit(report, _controls(report))
    if not all(each.caught_by for each in report.controls):
        raise typer.Exit(int(ExitCode.DEVIATES))


def _controls(report: faults.ControlReport) -> Shown:
    for each in report.controls:
        yield f"{' and '.join(each.caught_by) or 'NOT CAUGHT'}  {each.name}: {each.about}"
        yield from (f"        {line}" for line in (*each.golden[:3], *each.failed))


def _backbone(source: str, hidden: int, layers: int) -> spec.Backbone:
    """The smoke tier's small XLM-R, or another width: heads of 64, inner layer four times as wide, as in XLM-R."""
    backbone = tiers.read_tier("smoke").plan(source).backbone
    changes: dict[str, int | float] = {"num_hidden_layers": layers} if layers else {}
    if hidden:
        heads = max(1, hidden // 64)
        if hidden % heads:
            raise UsageFault(f"--hidden {hidden} is not a multiple of 64.", fix=f"--hidden {64 * heads}")
        changes |= {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": 4 * hidden}
    return backbone.model_copy(update={"config": {**backbone.config, **changes}})
