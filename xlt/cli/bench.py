"""``xlt bench``: this package's loops beside those of a library user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xlt.cli.options import (
    DEFAULT_RESULTS,
    DataRoot,
    Debug,
    Json,
    Limit,
    OneTask,
    Results,
    Seed,
    SomeTasks,
    SourceName,
    one_of,
    source_options,
)
from xlt.cli.output import emit, say
from xlt.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from xlt.bench.controls import ControlReport
    from xlt.bench.load import LoadBench
    from xlt.bench.tasks import TaskRow, TaskTable
    from xlt.bench.train import TrainBench
    from xlt.pipeline.spec import Backbone

# The names of xlt.bench.controls, which is slow to import.
CONTROLS = (
    "phase-1-skipped",
    "positions-from-0",
    "shuffled-labels",
    "wrong-layer",
    "attention-across-sequences",
    "languages-swapped",
)


def train(
    task: OneTask = "mnli",
    source: SourceName = "world",
    data_root: DataRoot = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps per row.")] = 20,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Examples per step.")] = 32,
    max_length: Annotated[int, typer.Option("--max-length", min=8, help="Most tokens of an example.")] = 128,
    hidden: Annotated[int, typer.Option("--hidden", min=0, help="Width of the model (0: the smoke tier's).")] = 0,
    layers: Annotated[int, typer.Option("--layers", min=0, help="Its layers (0: the smoke tier's).")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads (0: torch's choice).")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Time packed training steps beside the padded loop of a Hugging Face user.

    A fresh small XLM-R on both sides: same weights, same examples, same AdamW, no dropout, batches made before the
    clock starts. Packing is the only difference, so the expected ratio is slots per token. Loss and gradient norm
    are compared first; if they differ, nothing is timed.
    """
    import torch

    from xlt.bench.batches import Shape
    from xlt.bench.train import bench_train
    from xlt.pipeline.sources import open_source

    if threads:
        torch.set_num_threads(threads)
    opened = open_source(source_options(source, data_root, 0))
    backbone = _backbone(opened.name, hidden, layers)
    say("Training a tokenizer, then timing both sides in turn.")
    result = bench_train(opened, task, backbone, Shape(steps, batch_size, max_length))
    emit(result, lambda console: _show(console, result))


def load(
    task: OneTask = "mnli",
    source: SourceName = "world",
    data_root: DataRoot = None,
    limit: Limit = 0,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="Its name or folder; by default one trained on the source's text.")
    ] = "",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Times that both sides run, in turn.")] = 5,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Time reading, tokenising and packing a task's rows beside datasets.map with the same fast tokenizer.

    The peer gets the same rows, already loaded, and makes token ids only, in memory, in the batch size that is faster
    for it. Rows of which both sides do not make the same ids are left out and counted.
    """
    from xlt.bench.load import bench_load
    from xlt.pipeline.sources import open_source

    options = source_options(source, data_root, limit)
    vocabulary = _backbone(options.name, 0, 0).vocabulary
    say("Comparing the token ids, then timing both sides in turn.")
    result = bench_load(lambda: open_source(options), task, tokenizer, vocabulary, repeats)
    emit(result, lambda console: _show_load(console, result))


def tasks(
    task: SomeTasks = None,
    source: SourceName = "files",
    data_root: DataRoot = None,
    steps: Annotated[
        int, typer.Option("--steps", min=0, help="Steps per training set; 0 reads and trains nothing.")
    ] = 150,
    phase_1_steps: Annotated[int, typer.Option("--phase-1-steps", min=1, help="Steps of masked LM before.")] = 1500,
    seed: Seed = 0,
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Every task on the data at hand: rows, seconds to read and tokenise them, what a small model scores, chance.

    The model is the smoke tier's, trained for a moment: the scores show that data, training and metric work. Its runs
    go to RESULTS/tasks; the same command resumes.
    """
    from xlt.bench.tasks import bench_tasks
    from xlt.cli.progress import GridLines
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import read_tier
    from xlt.train.seeding import deterministic

    deterministic(True)
    table = bench_tasks(
        read_tier("smoke"),
        source_options(source, data_root, 0),
        RunStore(results / "tasks"),
        GridLines(),
        steps=steps,
        phase_1_steps=phase_1_steps,
        keys=task or (),
        seed=seed,
    )
    emit(table, lambda console: _show_tasks(console, table))


def controls(
    control: Annotated[
        list[str] | None,
        typer.Option("--control", help="Only this one (repeatable).", callback=one_of("control", lambda: CONTROLS)),
    ] = None,
    seed: Seed = 0,
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Break the machine in six known ways and see that verify says so.

    Phase 1 is taken from RESULTS of the smoke tier; the broken runs go to RESULTS/controls. Exit code 1: a broken
    machine was called sound.
    """
    from xlt.bench.controls import run_controls
    from xlt.cli.progress import GridLines
    from xlt.pipeline.grid import GridBuilder
    from xlt.pipeline.sources import SourceOptions, open_source
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import read_tier
    from xlt.train.seeding import deterministic

    options, tier = SourceOptions(), read_tier("smoke")
    source = open_source(options)
    grid = GridBuilder(tier, source, seed=seed, precision="fp32").grid()
    deterministic(True)
    report = run_controls(
        control or [], grid, tier, source, options, RunStore(results), results / "controls", GridLines()
    )
    emit(report, lambda console: _show_controls(console, report))
    if not all(each.caught for each in report.controls):
        raise typer.Exit(int(ExitCode.DEVIATES))


def _show_tasks(console: Console, result: TaskTable) -> None:
    from rich.table import Table

    table = Table(
        "task", "rows", "languages", "load, s", "tokenise, s", "k tokens", "split", "score", "chance", "majority"
    )
    for row in result.tasks:
        for number, score in enumerate(row.scores or [None]):
            first = _task_cells(row) if not number else ("",) * 6
            if score is None:
                table.add_row(*first)
                continue
            given = (score.score, score.chance, score.majority)
            table.add_row(*first, score.split, *("-" if value is None else f"{value:.1f}" for value in given))
    console.print(table)
    for row in result.tasks:
        if row.missing:
            console.print(f"{row.task}: {row.missing}", markup=False, soft_wrap=True)
        elif row.folders and row.task not in row.folders:
            console.print(f"{row.task}: read from the folder {', '.join(row.folders)}", markup=False, soft_wrap=True)
    console.print(
        f"Seconds of all rows. Scores in percent (English; retrieval: mean over languages) after "
        f"{result.phase_1_steps} steps of masked LM and {result.steps} of the training set.",
        markup=False,
        soft_wrap=True,
    )


def _task_cells(row: TaskRow) -> tuple[str, ...]:
    if row.missing:
        return row.task, "-", "-", "-", "-", "-"
    counts = [count for languages in row.rows.values() for count in languages.values()]
    known = {language for languages in row.rows.values() for language in languages}
    seconds = ("-" if value is None else f"{value:.2f}" for value in (row.load_s, row.tokenise_s))
    return row.task, str(sum(counts)), str(len(known)), *seconds, f"{row.tokens / 1000:.0f}"


def _show_controls(console: Console, report: ControlReport) -> None:
    for each in report.controls:
        word = "caught" if each.caught else "NOT CAUGHT"
        console.print(f"{word}  {each.name}: {each.about}", markup=False, soft_wrap=True)
        for line in (*each.failed, *each.problems[:3]):
            console.print(f"        {line}", markup=False, soft_wrap=True)


def _backbone(source: str, hidden: int, layers: int) -> Backbone:
    """The smoke tier's small XLM-R, or another width: heads of 64, inner layer four times as wide, as in XLM-R."""
    from xlt.errors import UsageFault
    from xlt.pipeline.tiers import read_tier

    backbone = read_tier("smoke").plan(source).backbone
    changes: dict[str, int | float] = {"num_hidden_layers": layers} if layers else {}
    if hidden:
        heads = max(1, hidden // 64)
        if hidden % heads:
            raise UsageFault(f"--hidden {hidden} is no multiple of 64.", fix=f"--hidden {64 * heads}")
        changes |= {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": 4 * hidden}
    return backbone.model_copy(update={"config": {**backbone.config, **changes}})


def _show(console: Console, result: TrainBench) -> None:
    from rich.table import Table

    sizes = result.model
    table = Table(
        "padding of the peer",
        "ours, ms",
        "peer, ms",
        "peer / ours",
        "10-90 %",
        "expected (slots/token)",
        "tokens/step",
        title=f"Training steps on {result.task} ({result.source}), {result.batch_size} examples each",
    )
    for row in result.rows:
        table.add_row(
            row.name,
            f"{row.ours_s * 1000:.1f}",
            f"{row.peer_s * 1000:.1f}",
            f"{row.ratio:.2f}",
            f"{row.ratio_p10:.2f}-{row.ratio_p90:.2f}",
            f"{row.slots_per_token:.2f}",
            f"{row.tokens_per_step:.0f}",
        )
    console.print(table)
    console.print(
        f"{sizes['layers']} layers, width {sizes['hidden']}, vocabulary {sizes['vocabulary']}, {result.precision}; "
        f"{result.device}, {result.threads} threads; medians of {result.rows[0].steps} interleaved steps.",
        markup=False,
    )
    console.print("Length grouping changes which examples share a batch; both sides get its batches.")


def _show_load(console: Console, result: LoadBench) -> None:
    from rich.table import Table

    table = Table(
        *("ours", "ours, rows/s", "map alone, rows/s", "ours, s", "peer, s", "peer / ours", "10-90 %"),
        title=f"{result.timed_rows} rows of {result.task} ({result.source}), {result.tokens} tokens",
    )
    for row in result.rows:
        table.add_row(
            row.name,
            f"{row.ours_rows_per_s:.0f}",
            f"{row.peer_rows_per_s:.0f}",
            f"{row.ours_s:.3f}",
            f"{row.peer_s:.3f}",
            f"{row.ratio:.2f}",
            f"{row.ratio_p10:.2f}-{row.ratio_p90:.2f}",
        )
    console.print(table)
    console.print(
        f"Vocabulary {result.vocabulary}, at most {result.max_length} tokens; map in batches of "
        f"{result.peer_batch_size}; medians of {result.rows[0].repeats} interleaved repeats; {result.left_out} rows "
        "with other tokens left out.",
        markup=False,
    )
