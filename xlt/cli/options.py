"""Options that several commands share, and what they build."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xlt.pipeline.sources import SourceOptions
    from xlt.train.engine import EngineName, EngineSettings, Precision


Json = Annotated[
    bool,
    typer.Option("--json", help="Print exactly one JSON document on standard output."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="The results folder.")]
SourceName = Annotated[
    str,
    typer.Option(
        "--source",
        help="Where the data comes from: world (constructed, no download), files (official release files) or hub "
        "(what xlt fetch brought).",
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
    str, typer.Option("--zero", help="DeepSpeed ZeRO stage: 0, 1, 2, 3 or 3_offload (artifact/deepspeed).")
]
Engine = Annotated[
    str,
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
    str, typer.Option("--search", help="What finds neighbours: faiss, faiss-cpu, torch or mutual; all find the same.")
]
Tier = Annotated[str, typer.Option("--tier", help="The tier: its name, or the path of a TOML file.")]

DEFAULT_RESULTS = Path(os.environ.get("XLT_RESULTS") or "results")


def source_options(name: str, data_root: Path | None, limit: int, seed: int = 0) -> SourceOptions:
    """The source that the options name. The world's seed is that of the tier, not of training."""
    from xlt.pipeline.sources import SourceOptions

    return SourceOptions(name=name, data_root=data_root, seed=seed, limit=limit)


def engine_name(name: str) -> EngineName:
    """The engine of that name."""
    from xlt.errors import UsageFault

    if name not in ("deepspeed", "graph"):
        raise UsageFault(f"There is no engine '{name}'.", mend="--engine deepspeed or graph")
    return name  # type: ignore[return-value]


def engine_settings(zero: str, accumulation: int, engine: EngineName, sharing: int) -> EngineSettings:
    """How runs are computed, each by ``sharing`` processes; the numeric type is that of each run."""
    from xlt.errors import UsageFault
    from xlt.train.engine import ZERO_STAGES, EngineSettings, check_settings

    if zero not in ZERO_STAGES:
        raise UsageFault(f"There is no ZeRO stage '{zero}'.", mend=f"--zero, one of: {', '.join(ZERO_STAGES)}")
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
        raise UsageFault("--gpus and --processes exclude each other.", mend="Give one of them.")
    if gpus > torch.cuda.device_count():
        raise EnvironmentFault(
            f"{gpus} GPUs were asked for and {torch.cuda.device_count()} found.",
            mend="xlt doctor; without a GPU use --processes N.",
        )
    if torch.cuda.is_available():
        default = 1
    return gpus or processes or min(default, os.cpu_count() or 1)


def use_search(name: str) -> None:
    """Search with the engine of that name, in worker processes too.

    Raises:
        UsageFault: there is none, or none of the name that ``XLT_SEARCH`` says.
    """
    from xlt.retrieval.search import search_engine

    engine = search_engine(name)
    if name:
        os.environ["XLT_SEARCH"] = engine
