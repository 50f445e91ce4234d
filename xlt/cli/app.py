"""The entry point ``xlt``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from types import FrameType
from typing import Annotated, NoReturn

import typer

from xlt.cli import bench, catalogue, environment, fetch, grid, report, score, single, verify, workloads
from xlt.cli.container import volume_warning
from xlt.cli.output import report_error, results_only_on_stdout, settings, show_traceback
from xlt.errors import ExitCode, UsageFault, XltError, package_fault

ABOUT = 'Reproduce "English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer Too" (X-STILTs).'
FIRST_SCREEN = f"""\
{ABOUT}

Three commands to start with:
  xlt doctor      what this machine has and lacks            seconds
  xlt reproduce   all three phases, then verify and report   minutes without a GPU
  xlt verify      recompute every number and judge it        seconds

All commands: xlt --help
"""

TYPER_INTERRUPTED = 130  # what typer returns where it has caught the interruption itself

app = typer.Typer(
    name="xlt",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=ABOUT,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        from xlt import __version__
        from xlt.pipeline.provenance import commit

        print(f"xlt {__version__} {commit()}".strip())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def first_screen(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Without a command: what this is and three commands to start with."""
    if context.invoked_subcommand is None:
        print(FIRST_SCREEN, end="")


def _examples(*lines: str) -> str:
    # The mark keeps typer from joining the lines into a paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _register() -> None:
    command = app.command
    command(epilog=_examples("xlt doctor", "xlt doctor --gpu"))(environment.doctor)
    command(
        epilog=_examples(
            "xlt fetch mnli xnli --model xlm-roberta-large",
            "xlt fetch tatoeba --mirror https://hub.example.org",
            "xlt fetch mnli --offline                       # is it here and unchanged?",
        )
    )(fetch.fetch)
    command(
        epilog=_examples(
            "xlt plan",
            "xlt plan --calibrate                           # hours on this machine, from a few steps",
            "xlt plan --source files --data-root DIR        # what is done and what is to do",
        )
    )(grid.plan)
    command(
        epilog=_examples(
            "xlt reproduce                                  # smoke tier: no download",
            "xlt reproduce --source files --data-root DIR   # the same on real text",
            "xlt reproduce --seed 3 --results results-3",
        )
    )(grid.reproduce)
    command(
        epilog=_examples(
            "xlt train mlm --tier smoke",
            "xlt train mnli --tier smoke --model results/runs/pretrain/mlm-0123456789ab",
            "xlt train mnli --model xlm-roberta-large --source files --data-root DIR --gpus 2 --zero 2",
        )
    )(single.train)
    command(epilog=_examples("xlt evaluate pawsx --model results/runs/target/baseline.pawsx-0123456789ab"))(
        single.evaluate
    )
    command(
        epilog=_examples(
            "xlt retrieve tatoeba --model results/runs/intermediate/mnli-0123456789ab --layer 2",
            "xlt retrieve tatoeba --model xlm-roberta-large --layer 14 --source hub",
        )
    )(single.retrieve)
    command(epilog=_examples("xlt score --predictions DIR --labels DIR", "xlt score ... --benchmark xtreme-r --json"))(
        score.score
    )
    command(epilog=_examples("xlt submit --arm baseline --output DIR", "xlt score --predictions DIR --labels LABELS"))(
        score.submit
    )
    command(epilog=_examples("xlt verify", "xlt verify --results results-1 --results results-2 --claim C3"))(
        verify.verify
    )
    command(epilog=_examples("xlt report", "xlt report --results DIR"))(report.report)


def _register_groups() -> None:
    tasks = typer.Typer(help="The catalogue of tasks.", rich_markup_mode=None)
    tasks.command("ls", epilog=_examples("xlt tasks ls"))(catalogue.ls)
    tasks.command("show", epilog=_examples("xlt tasks show xnli"))(catalogue.show)
    tasks.command("check", epilog=_examples("xlt tasks check --data-root DIR --json"))(catalogue.check)
    app.add_typer(tasks, name="tasks")
    benchmarks = typer.Typer(
        help="Measurements: against a library user's loop, and of broken machines.", rich_markup_mode=None
    )
    benchmarks.command(
        "train",
        epilog=_examples("xlt bench train", "xlt bench train --source files --data-root DIR --threads 1 --json"),
    )(bench.train)
    benchmarks.command(
        "load", epilog=_examples("xlt bench load", "xlt bench load --task squad --source files --data-root DIR --json")
    )(bench.load)
    benchmarks.command(
        "tasks",
        epilog=_examples("xlt bench tasks --data-root DIR", "xlt bench tasks --data-root DIR --steps 0 --json"),
    )(bench.tasks)
    benchmarks.command("controls", epilog=_examples("xlt bench controls", "xlt bench controls --control wrong-layer"))(
        bench.controls
    )
    for name in workloads.WORKLOADS:
        benchmarks.command(name, epilog=_examples(f"xlt bench {name}", f"xlt bench {name} --size small --json"))(
            workloads.workload_command(name)
        )
    app.add_typer(benchmarks, name="bench")


_register()
_register_groups()


def main() -> NoReturn:
    """Run the command line and exit with one of the documented codes."""
    signal.signal(signal.SIGTERM, _interrupt)
    _prepare_environment()
    sys.stderr.write(volume_warning())
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code. Standard output receives results and nothing else."""
    # Not by callbacks: an error in the command line itself must already be reported in the form asked for.
    settings.as_json = "--json" in arguments
    settings.debug = "--debug" in arguments
    prints_help = not arguments or {"-h", "--help", "--version"} & set(arguments)
    with contextlib.nullcontext() if prints_help else results_only_on_stdout():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        returned = app(arguments, prog_name="xlt", standalone_mode=False)
    except XltError as error:
        report_error(error)
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        message = error.format_message().replace("Value error, ", "")
        report_error(UsageFault(message, fix=f"{getattr(context, 'command_path', 'xlt')} --help"))
        return int(ExitCode.USAGE)
    except ModuleNotFoundError as error:
        report_error(package_fault(error))
        return int(ExitCode.ENVIRONMENT)
    except MemoryError as error:
        return _unexpected(error, fix="Free memory, or use a smaller --batch-size or more --accumulation.")
    except Exception as error:
        return _unexpected(error, fix="xlt doctor; with --debug the traceback is shown here.")
    if returned == TYPER_INTERRUPTED:
        return _interrupted()
    return returned if isinstance(returned, int) else int(ExitCode.OK)


def _interrupted() -> int:
    sys.stderr.write("\nInterrupted. Finished runs are kept; the same command resumes.\n")
    return int(ExitCode.INCOMPLETE)


def _unexpected(error: BaseException, fix: str) -> int:
    """One clear message; the traceback goes to a file, whose path is printed."""
    with tempfile.NamedTemporaryFile("wb", prefix="xlt-error-", suffix=".log", delete=False) as log:
        log.write("".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
    what = f"{type(error).__name__}: {error}".split("\n")[0]
    report_error(XltError(what, why=f"This was not expected. The traceback is in {log.name}", fix=fix))
    if settings.debug:
        show_traceback(error)
    return int(ExitCode.ENVIRONMENT)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _prepare_environment() -> None:
    """Settings that libraries read when they are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    # cuBLAS is deterministic only with a workspace of fixed size, set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
