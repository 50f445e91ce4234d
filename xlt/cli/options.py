"""Options that several commands share, and what they build."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from xlt.pipeline.sources import SourceOptions
    from xlt.train.engine import EngineName, EngineSettings, Precision


Names = str | list[str] | None


def one_of(noun: str, names: Callable[[], Iterable[str]]) -> Callable[[Names], Names]:
    """The callback of an option that takes one of ``names`` or several: a typing error is answered at once, before
    anything slow is imported or computed."""

    def check(given: Names) -> Names:
        from xlt.errors import UsageFault

        for name in [given] if isinstance(given, str) else given or ():
            if name not in (known := list(names())):
                close = get_close_matches(name, known, n=1)
                meant = f" Did you mean '{close[0]}'?" if close else ""
                raise UsageFault(
                    f"There is no {noun} '{name}'.{meant}",
                    why=f"There are: {', '.join(known)}.",
                    fix=f"Name one of these: {close[0] if close else known[0]}",
                )
        return given

    return check


def _tasks() -> Iterable[str]:
    from xlt.tasks.catalogue import TASKS

    return TASKS


def _known_tier(name: str) -> str:
    from xlt.pipeline.tiers import read_tier

    if name:
        read_tier(name)
    return name


Json = Annotated[
    bool,
    typer.Option("--json", help="Print exactly one JSON document on standard output."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="The results folder.")]
_known_task, _known_split = one_of("task", _tasks), one_of("split", lambda: ("dev", "test"))
TaskKey = Annotated[str, typer.Argument(metavar="TASK", help="The key of a task: xlt tasks ls.", callback=_known_task)]
OneTask = Annotated[str, typer.Option("--task", help="The task whose rows are used.", callback=_known_task)]
SomeTasks = Annotated[
    list[str] | None, typer.Option("--task", help="Only this task (repeatable).", callback=_known_task)
]
SourceName = Annotated[
    Literal["world", "files", "hub"] | None,
    typer.Option(
        "--source",
        help="Where the data comes from: world (constructed, no download), files (official release files) or hub "
        "(what xlt fetch brought). Default: the first of the tier, or that of the run given as --model.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="The folder with the official task files: for --source files, and for what the hub lacks.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Use the first N rows of every split (0: all).")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The seed of training.")]
Zero = Annotated[
    Literal["0", "1", "2", "3", "3_offload"],
    typer.Option("--zero", help="DeepSpeed ZeRO stage (artifact/deepspeed)."),
]
Engine = Annotated[
    Literal["deepspeed", "graph"],
    typer.Option("--engine", help="What trains: deepspeed, or graph (one GPU per run, each step one CUDA graph)."),
]
Gpus = Annotated[
    int, typer.Option("--gpus", min=0, help="Use N GPUs of this machine: one run on each, or all on one run (--shard).")
]
Processes = Annotated[
    int, typer.Option("--processes", min=0, help="The same with N processes on the CPU (0: as the tier says).")
]
Accumulation = Annotated[int, typer.Option("--accumulation", min=1, help="Micro-batches per step, for less memory.")]
Search = Annotated[
    Literal["faiss", "faiss-cpu", "torch", "mutual"] | None,
    typer.Option("--search", help="What finds neighbours; all find the same. Default: XLT_SEARCH, else faiss."),
]
Tier = Annotated[
    str, typer.Option("--tier", help="The tier: its name, or the path of a TOML file.", callback=_known_tier)
]
RecipeTier = Annotated[
    str, typer.Option("--tier", help="Take the recipe of this tier instead of the catalogue's.", callback=_known_tier)
]
Splits = Annotated[
    list[str] | None,
    typer.Option("--split", help="Only this split: dev or test (repeatable).", callback=_known_split),
]

DEFAULT_RESULTS = Path(os.environ.get("XLT_RESULTS") or "results")


def source_options(name: str | None, data_root: Path | None, limit: int) -> SourceOptions:
    """The source that the options name."""
    from xlt.pipeline.sources import SourceOptions

    return SourceOptions(name=name or "world", data_root=data_root, limit=limit)


def engine_settings(zero: str, accumulation: int, engine: EngineName, sharing: int) -> EngineSettings:
    """How runs are computed, each by ``sharing`` processes; the numeric type is that of each run."""
    from xlt.train.engine import EngineSettings, check_settings

    settings = EngineSettings(zero=zero, accumulation=accumulation, engine=engine)
    check_settings(settings, sharing)
    return settings


def precision() -> Precision:
    """The numeric type of this machine: bf16 on a GPU, fp32 on a CPU."""
    import torch

    return "bf16" if torch.cuda.is_available() else "fp32"


def process_count(gpus: int, processes: int, default: int = 1) -> int:
    """How many processes to use; unless asked for, one on a GPU and ``default`` on a CPU, if it has as many cores.

    Raises:
        EnvironmentFault: more GPUs are asked for than there are.
    """
    import torch

    from xlt.errors import EnvironmentFault, UsageFault

    if gpus and processes:
        raise UsageFault("--gpus and --processes exclude each other.", fix="Give one of them.")
    if gpus > torch.cuda.device_count():
        raise EnvironmentFault(
            f"{gpus} GPUs were asked for and {torch.cuda.device_count()} found.",
            fix="xlt doctor; without a GPU use --processes N.",
        )
    if torch.cuda.is_available():
        default = 1
    return gpus or processes or min(default, os.cpu_count() or 1)


def use_search(name: str | None) -> None:
    """Search with the engine of that name, in worker processes too.

    Raises:
        UsageFault: there is none of the name that ``XLT_SEARCH`` says.
    """
    from xlt.retrieval.search import search_engine

    engine = search_engine(name)
    if name:
        os.environ["XLT_SEARCH"] = engine
