"""The entry point ``xlt``."""

from __future__ import annotations

import contextlib
import gc
import os
import pkgutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer
import xlt_kernels

from xlt.cli import (
    bench,
    doctor,
    evaluate,
    fetch,
    plan,
    report,
    reproduce,
    retrieve,
    score,
    tasks,
    train,
    verify,
    version,
)
from xlt.cli.container import invocation, volume_warning
from xlt.cli.output import report_error, results_only_on_stdout, settings, show_traceback, until_nobody_reads
from xlt.cli.typed import command
from xlt.errors import EnvironmentFault, ExitCode, UsageFault, XltError, package_fault
from xlt.numerics import follow_request
from xlt.stopping import default_signals
from xlt.tasks.own import for_one_command

ABOUT = 'Reproduce "English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer Too" (X-STILTs).'
FIRST_SCREEN = """\
{about}

Three commands to start with:
  {xlt} doctor
      what this machine has and lacks: 10 seconds
  {xlt} reproduce
      all three phases, then verify and report: 9 minutes on 2 cores; with a GPU it says first how long
  {xlt} verify
      recompute every number and judge it: a minute

All commands: {xlt} --help
"""
# What libraries read when they are imported.
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DS_LOG_LEVEL": "error",
    # cuBLAS is deterministic only with a workspace of fixed size, set before CUDA starts.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
TEMPORARY = "Set TMPDIR to a folder that can be written; for a container: docker run --tmpfs /tmp ..."
COMPLETION = {"--install-completion", "--show-completion"}
CLOSED_PIPE = 141  # of what writes for `head`: 128 and the number of SIGPIPE
TYPER_INTERRUPTED = 130  # what typer returns where it has caught the interruption itself

app = typer.Typer(
    name="xlt",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=ABOUT,
    pretty_exceptions_enable=False,
)
of_tasks = typer.Typer(help="Show the catalogue of tasks, and check task files.", rich_markup_mode=None)
of_bench = typer.Typer(help="Measure speed, and which faults verify finds.", rich_markup_mode=None)


def _print_version(value: bool) -> None:
    if value:
        from xlt import __version__
        from xlt.pipeline.provenance import commit

        print(f"xlt {__version__} {commit()}".strip())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def first_screen(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Without a command: what this is and three commands to start with."""
    if context.invoked_subcommand is None:
        print(FIRST_SCREEN.format(about=ABOUT, xlt=invocation()), end="")


def _add(group: typer.Typer, path: str, function: Callable[..., None]) -> None:
    """Add the command ``xlt PATH``; its examples are the lines in the head of its module that begin with that."""
    head = (sys.modules[function.__module__].__doc__ or "").splitlines()
    examples = [line.strip() for line in head if f"{line.strip()} ".startswith(f"xlt {path} ")] or [f"xlt {path}"]
    # The mark keeps typer from joining the lines into a paragraph.
    group.command(path.rpartition(" ")[2], epilog="\b\nExamples:\n  " + "\n  ".join(examples))(command(function))


# A new command is a function in a module of the same name, and one more module in this row.
for module in (doctor, fetch, plan, reproduce, train, evaluate, retrieve, score, verify, report, version):
    name = module.__name__.rpartition(".")[2]
    _add(app, name, getattr(module, name))
_add(app, "submit", score.submit)
for name in ("ls", "show", "check"):
    _add(of_tasks, f"tasks {name}", getattr(tasks, name))
for name in ("cpu", "train", "adversarial", "load", "tasks", "controls"):
    _add(of_bench, f"bench {name}", getattr(bench, name))
for name in bench.WORKLOADS:
    _add(of_bench, f"bench {name}", bench.workload_command(name))
app.add_typer(of_tasks, name="tasks")
app.add_typer(of_bench, name="bench")


def main() -> NoReturn:
    """Run the command line and exit with one of the documented codes."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    follow_request()
    sys.stderr.write(volume_warning())
    code = run(sys.argv[1:])
    # Nothing is left to be saved, and what Python does at its end would show a traceback.
    default_signals()
    # Python looks at its end for garbage among all that was imported: with torch and its libraries that takes a second
    # of a processor, and on a busy machine all of the ten seconds that `docker stop` gives.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code. Standard output receives results and nothing else."""
    # Not by callbacks: an error in the command line itself must already be reported in the form asked for.
    if "_XLT_COMPLETE" in os.environ or COMPLETION & set(arguments):
        app(arguments, prog_name="xlt")  # to a shell that asks what could follow typer answers by itself, and exits
    settings.as_json = "--json" in arguments
    settings.debug = "--debug" in arguments
    prints_help = not arguments or {"-h", "--help", "--version"} & set(arguments)
    try:
        with (
            contextlib.nullcontext() if prints_help else results_only_on_stdout(),
            until_nobody_reads(),
            for_one_command(),
        ):
            return _run(arguments)
    finally:
        settings.as_json = settings.debug = settings.unread = False


def _check_kernel_names() -> None:
    """Refuse an unknown name in XLT_KERNELS: a kernel that was to be left out would stay in."""
    given = os.environ.get("XLT_KERNELS", "").replace(" ", "")
    modules = {module.name for module in pkgutil.iter_modules(xlt_kernels.__path__)}
    known = [f"-{name}" for name in sorted(modules) if f"{name}_triton" in modules]
    if given not in ("", "on", "off") and (unknown := [name for name in given.split(",") if name not in known]):
        raise UsageFault(
            f"XLT_KERNELS names '{unknown[0]}', which is no kernel to leave out.",
            why=f"It is on, off, or of these, joined by commas: {' '.join(known)}.",
            fix="export XLT_KERNELS=on",
        )


def _run(arguments: list[str]) -> int:
    try:
        _check_kernel_names()
        returned = app(arguments, prog_name="xlt", standalone_mode=False)
    except XltError as error:
        report_error(error)
        return int(error.exit_code)
    except SystemExit:  # typer's answer where nobody reads its help
        return CLOSED_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        report_error(UsageFault(error.format_message(), fix=f"{getattr(context, 'command_path', 'xlt')} --help"))
        return int(ExitCode.USAGE)
    except ModuleNotFoundError as error:
        report_error(package_fault(error))
        return int(ExitCode.ENVIRONMENT)
    except MemoryError as error:
        return _unexpected(error, fix="Free memory, or use a smaller --batch-size or more --accumulation.")
    except Exception as error:
        return _unexpected(error, fix="xlt doctor; with --debug the traceback is shown here.")
    if returned == TYPER_INTERRUPTED:
        return _interrupted(arguments)
    return returned if isinstance(returned, int) else int(ExitCode.OK)


def _interrupted(arguments: list[str]) -> int:
    makes_runs = arguments[:1] in (["reproduce"], ["train"], ["evaluate"], ["retrieve"])
    if settings.unread and not makes_runs:
        return CLOSED_PIPE
    kept = " Finished runs are kept; the same command resumes." if makes_runs else ""
    sys.stderr.write(f"\nInterrupted.{kept}\n")
    return int(ExitCode.INCOMPLETE)


def _keep_traceback(error: BaseException) -> str:
    """The path of a file with the traceback: on the volume of a container, which outlives it, if there is one."""
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    volume = os.environ.get("XLT_VOLUME")
    folder = volume if volume and os.path.isdir(volume) and os.access(volume, os.W_OK) else None
    with tempfile.NamedTemporaryFile("wb", dir=folder, prefix="xlt-error-", suffix=".log", delete=False) as log:
        log.write(text)
    return log.name


def _unexpected(error: BaseException, fix: str) -> int:
    """One clear message; the traceback goes to a file, whose path is printed."""
    try:
        where = f"in {_keep_traceback(error)}"
    except OSError as none:
        # Libraries need such a folder, too: this may be why the command failed.
        report_error(EnvironmentFault("There is no folder for temporary files.", why=str(none), fix=TEMPORARY))
        if settings.debug or str(error) != str(none):
            show_traceback(error)
        return int(ExitCode.ENVIRONMENT)
    what = f"{type(error).__name__}: {error}".split("\n")[0]
    report_error(XltError(what, why=f"xlt did not expect this error. The traceback is {where}", fix=fix))
    if settings.debug:
        show_traceback(error)
    return int(ExitCode.ENVIRONMENT)
