"""The public surface: commands, options, exit codes, and a quick start without heavy imports."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from typing import get_args

import pytest
import typer.main

from tests.cli.conftest import Invoke
from xlt.bench import controls, cpu, shapes
from xlt.cli import app as app_module
from xlt.cli import bench, options
from xlt.cli.app import app
from xlt.errors import ExitCode
from xlt.retrieval import search
from xlt.train import engine

COMMON = {"--results", "--json", "--debug"}
SOURCE = {"--source", "--data-root", "--limit", "--tasks"}
ENGINE = {"--engine", "--zero", "--gpus", "--processes", "--accumulation"}
ENGINE |= {"--checkpoint-seconds", "--keep-checkpoints"}
RECIPE = {"--steps", "--epochs", "--learning-rate", "--batch-size"}
WHERE = {"--model", "--tier", "--language", "--split"}
RECHECK = {"--recheck", "--recheck-seed", "--replay", "--replay-seed", "--model"}
OPTIONS = {
    "doctor": COMMON | {"--gpu", "--tier", "--data-root"},
    "fetch": {"--model", "--tier", "--part", "--language", "--mirror", "--data-root", "--offline", "--json", "--debug"},
    "plan": COMMON
    | SOURCE
    | {"--calibrate", "--record", "--engine", "--keep-checkpoints", "--power", "--tier", "--part", "--model", "--seed"}
    | {"--study", "--gpus"},
    "reproduce": COMMON
    | SOURCE
    | ENGINE
    | {"--search", "--shard", "--tier", "--study", "--part", "--model", "--seed", "--golden"}
    | {"--executor", "--slurm", "--nodes", "--dry-run"},
    "train": COMMON
    | SOURCE
    | ENGINE
    | RECIPE
    | {"--dry-run", "--adversarial", "--synonyms", "--source-language", "--model", "--phase", "--tier", "--seed"},
    "evaluate": COMMON | SOURCE | WHERE | {"--search", "--perturb"},
    "retrieve": COMMON
    | SOURCE
    | WHERE
    | {"--layer", "--pooling", "--prefix", "--search", "--readings", "--printed", "--before"},
    "score": {"--predictions", "--labels", "--benchmark", "--seqeval", "--json", "--debug"},
    "submit": COMMON | {"--arm", "--output", "--data-root", "--benchmark"},
    "verify": COMMON
    | {
        "--data-root",
        "--claim",
        "--table",
        "--cell",
        "--all",
        "--expected",
        "--record",
        "--with",
        "--golden",
        "--against",
    }
    | RECHECK,
    "version": {"--json", "--debug"},
    "report": COMMON | {"--data-root", "--ship", "--golden"} | RECHECK,
}


def test_commands_and_options_are_those_documented() -> None:
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    assert set(commands) == {*OPTIONS, "tasks", "bench"}
    assert set(commands["tasks"].commands) == {"ls", "show", "check"}
    timed = {"cpu", "train", "steps", "checkpoint", "mlm", "optimizer", "adversarial", "embed", "retrieval"}
    assert set(commands["bench"].commands) == timed | {"kernels", "load", "controls", "tasks"}
    for name, expected in OPTIONS.items():
        options = {text for option in commands[name].params for text in option.opts if text.startswith("--")}
        assert options == expected, name


def test_a_shell_completes_commands_and_their_options() -> None:
    asked = {"_XLT_COMPLETE": "complete_bash", "COMP_WORDS": "xlt retrieve --re", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "xlt"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["--readings", "--results"], "")
    # A shell is found among the processes above; where tests run, there may be none.
    named = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    given = [*command, "--show-completion", "bash"]
    shown = subprocess.run(given, env=named, capture_output=True, text=True, check=True)
    assert "_XLT_COMPLETE=complete_bash" in shown.stdout


def test_a_command_is_found_in_the_module_of_its_name() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    modules = {name: inspect.unwrap(commands[name].callback).__module__ for name in OPTIONS}
    assert modules == {name: f"xlt.cli.{name}" for name in OPTIONS} | {"submit": "xlt.cli.score"}
    for group in ("tasks", "bench"):
        found = {inspect.unwrap(each.callback).__module__ for each in commands[group].commands.values()}
        assert found == {f"xlt.cli.{group}"}


def test_every_command_shows_examples() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in OPTIONS:
        assert f"xlt {name}" in commands[name].epilog, name


def test_exit_codes_are_those_documented() -> None:
    assert [(code.name, int(code)) for code in ExitCode] == [
        ("OK", 0),
        ("DEVIATES", 1),
        ("USAGE", 2),
        ("ENVIRONMENT", 3),
        ("DATA", 4),
        ("INCOMPLETE", 5),
    ]


def test_the_command_line_loads_nothing_heavy_before_a_command_runs() -> None:
    heavy = {"torch", "transformers", "deepspeed", "faiss", "numpy", "pydantic", "datasets", "sentencepiece"}
    code = f"import sys, xlt.cli.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_command_the_first_screen_says_what_to_type(invoke: Invoke) -> None:
    outcome = invoke()
    assert outcome.code == 0
    assert "xlt reproduce" in outcome.out
    assert len(outcome.out.splitlines()) < 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command"),
        (["reproduce", "--seed", "x"], "--seed"),
        (["evaluate", "xnli"], "--model"),
        (["tasks", "show", "xnlii"], "no task 'xnlii'. Did you mean 'xnli'?"),
        (["reproduce", "--tier", "grand"], "no tier 'grand'"),
        (["reproduce", "--source", "web"], "'web' is not one of 'world', 'files', 'hub'"),
        (["reproduce", "--source", "files"], "--data-root"),
        (["reproduce", "--zero", "9"], "'9' is not one of '0', '1', '2', '3', '3_offload'"),
        (["train", "xnli"], "needs a model"),
        (["train", "mlm"], "--tier smoke"),
        (["train", "tatoeba", "--model", "x"], "has no training data"),
        (["train", "mnli", "--phase", "third", "--model", "x"], "'third' is not one of 'intermediate', 'target'"),
        (["train", "mlm", "--processes", "2", "--gpus", "2"], "exclude each other"),
        (
            ["train", "mlm", "--adversarial", "lbfree"],
            "there is no adversarial method 'lbfree': fgm, pgd, freelb, smart",
        ),
        (["train", "mlm", "--adversarial", "pgd,radius=x"], "'pgd,radius=x' is no adversarial training"),
        (["train", "mlm", "--adversarial", ""], "'' is no adversarial training"),
        (["train", "mlm", "--adversarial", "pgd,steps=2,steps=3"], "steps is given twice"),
        (["train", "mlm", "--adversarial", "pgd,steps"], "'steps' is no setting with a number"),
        (["train", "mlm", "--adversarial", "pgd,steps=1.5"], "steps of pgd is 1.5, not a whole number from 1 to 100"),
        (["train", "mlm", "--adversarial", "fgm,step_size=1e300"], "Fix: --adversarial fgm, with its default settings"),
        (["reproduce", "--shard", "--processes", "1"], "--shard needs several"),
        (["reproduce", "--nodes", "2", "--dry-run"], "are for jobs of SLURM"),
        (["reproduce", "--executor", "slurm", "--nodes", "2"], "Add --shard"),
        (["reproduce", "--executor", "slurm", "--slurm", "a b=c"], "'a b=c' is no parameter of sbatch"),
        (["retrieve", "xnli", "--model", "x"], "not a retrieval task"),
        (["retrieve", "tatoeba", "--model", "x", "--printed", "31.0"], "Add --readings"),
        (
            ["retrieve", "tatoeba", "--model", "x", "--readings", "--printed", "31,0"],
            "neither a number as it is printed nor a table",
        ),
        (["evaluate", "xnli", "--model", "./nowhere"], "There is no folder './nowhere'"),
        (["plan", "--record"], "Add --calibrate"),
        (["reproduce", "--model", "xlt/cli"], "The folder 'xlt/cli' holds no model"),
        (["plan", "--model", "README.md"], "The file 'README.md' holds no model"),
    ],
)
def test_wrong_usage_is_one_clear_message(invoke: Invoke, arguments: list[str], message: str) -> None:
    outcome = invoke(*arguments)
    assert outcome.code == ExitCode.USAGE
    assert message in outcome.err
    assert "Fix:" in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "mnil", "--model", "x"],
        ["train", "mnli", "--model", "x", "--source", "fils"],
        ["train", "mnli", "--model", "x", "--tier", "smok"],
        ["train", "mnli", "--model", "./nowhere"],
        ["evaluate", "xnli", "--model", "x", "--split", "tset"],
        ["evaluate", "xnli", "--model", "x"],
        ["evaluate", "xnli", "--model", "x", "--perturb", "typos"],
        ["retrieve", "tatoeba", "--model", "x", "--search", "fais"],
        ["reproduce", "--engine", "x"],
        ["plan", "--tier", "smok"],
        ["bench", "kernels", "--size", "medium"],
        ["bench", "controls", "--control", "x"],
        ["bench", "cpu", "--row", "x"],
        ["bench", "tasks", "--task", "xnl"],
        ["verify", "--claim", "C99"],
        ["verify", "--table", "nain"],
        ["fetch", "mnil"],
    ],
)
def test_a_typing_error_is_answered_before_anything_slow_is_imported(arguments: list[str]) -> None:
    code = (
        "import sys; from xlt.cli import app; code = app.run(sys.argv[1:]); "
        "slow = {'torch', 'transformers', 'deepspeed', 'faiss', 'scipy'} & set(sys.modules); "
        "print(code, sorted(slow), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stderr.endswith("2 []\n"), done.stderr
    assert "Fix:" in done.stderr


def test_the_names_of_options_are_those_of_what_they_choose() -> None:
    def choices(option: object) -> tuple[str, ...]:
        inner = get_args(get_args(option)[0])
        return tuple(name for each in inner for name in get_args(each) or (each,) if isinstance(name, str))

    assert choices(options.Engine) == ("auto", *get_args(engine.EngineName))
    assert choices(options.Zero) == engine.ZERO_STAGES
    assert choices(options.Search) == get_args(search.SearchEngine)
    assert choices(bench.ModelSize) == get_args(shapes.Size)
    assert tuple(control.name for control in controls.CONTROLS) == bench.CONTROLS
    assert cpu.ROWS == bench.CPU_ROWS


def test_with_json_an_error_is_the_one_document(invoke: Invoke) -> None:
    for arguments in (["train", "xnli", "--json"], ["reproduce", "--json", "--no-such-option"]):
        outcome = invoke(*arguments)
        assert outcome.code == ExitCode.USAGE
        fault = outcome.document["error"]
        assert fault["exit_code"] == 2
        assert fault["what"]
        assert fault["fix"]


def test_missing_results_are_incomplete_and_say_what_to_run(invoke: Invoke, tmp_path: object) -> None:
    for command in ("verify", "report"):
        outcome = invoke(command, "--results", f"{tmp_path}/none")
        assert outcome.code == ExitCode.INCOMPLETE
        assert "xlt reproduce" in outcome.err


def test_a_missing_data_root_is_a_data_error(invoke: Invoke, tmp_path: object) -> None:
    outcome = invoke("reproduce", "--source", "files", "--data-root", f"{tmp_path}/none")
    assert outcome.code == ExitCode.DATA
    assert "none" in outcome.err


def test_more_gpus_than_there_are(invoke: Invoke) -> None:
    outcome = invoke("reproduce", "--gpus", "64")
    assert outcome.code == ExitCode.ENVIRONMENT
    assert "64 GPUs were asked for" in outcome.err


def test_an_interruption_that_typer_caught_is_resumable_too(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "app", lambda *arguments, **options: app_module.TYPER_INTERRUPTED)
    outcome = invoke("reproduce")
    assert outcome.code == ExitCode.INCOMPLETE
    assert "the same command resumes" in outcome.err
