"""The options that several commands share, singly and in groups, and what they build.

An option is a parameter of a command annotated with its type, its help, and perhaps a check of its value;
``xlt.cli.typed`` makes of that what typer wants.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import typer

from xlt.cli.lazy import lazily
from xlt.cli.output import say
from xlt.errors import EnvironmentFault, UsageFault
from xlt.tasks import own

with lazily():
    import torch

    from xlt.pipeline import cluster, memory, parts, single, sources, studies, tiers
    from xlt.retrieval import search as searches
    from xlt.tasks import catalogue
    from xlt.train import engine as engines
    from xlt.verify import checks

Names = str | list[str] | None
MOST_PROCESSES = 1024
MOST_MICRO_BATCHES = 4096
DEFAULT_RESULTS = Path(os.environ.get("XLT_RESULTS") or "results")


def one_of(noun: str, names: Callable[[], Iterable[str]]) -> Callable[[Names], Names]:
    """The check of an option that takes one of ``names`` or several: a typing error is answered at once, before
    anything slow is imported or computed."""

    def check(given: Names) -> Names:
        for name in [given] if isinstance(given, str) else given or ():
            if name not in (known := list(names())):
                close = get_close_matches(name, known, n=1)
                meant = f" Did you mean '{close[0]}'?" if close else ""
                raise UsageFault(
                    f"There is no {noun} '{name}'.{meant}",
                    why=f"There are: {', '.join(known)}.",
                    fix=f"Use '{close[0]}'." if close else "Use one of these names.",
                )
        return given

    return check


def _known_tier(name: str) -> str:
    if name:
        tiers.read_tier(name)
    return name


def _folder(results: Path) -> Path:
    if results.is_file():
        raise UsageFault(f"'{results}' is a file; results are a folder.", fix="--results DIR")
    return results


_known_study = one_of("study", lambda: studies.study_names())
_known_task = one_of("task", lambda: catalogue.TASKS)
TaskKey = Annotated[str, typer.Argument(metavar="TASK", help="A task by its key: xlt tasks ls.", callback=_known_task)]
OneTask = Annotated[str, "Use the rows of this task.", _known_task]
SomeTasks = Annotated[list[str] | None, "Only this task (repeatable).", _known_task]
Model = Annotated[str, "The folder of a run or of a saved model, or the name of a model on the hub."]
Results = Annotated[Path, "The results folder.", _folder]
Folders = Annotated[list[Path] | None, "The results folder; one for each seed."]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="The seed of training.")]
Threads = Annotated[int, "Use N CPU threads. Default: as many as torch chooses."]
Parts = Annotated[list[str] | None, "Only this part of the tier, if it has parts (repeatable)."]
InsteadOf = Annotated[str, "Start from this model instead of the tier's: a saved model's folder, or a hub name."]
Tier = Annotated[str, "The name of a tier, or the path of a TOML file.", _known_tier]
RecipeTier = Annotated[str, "Use the recipe of this tier. Default: the catalogue's recipe.", _known_tier]
SourceName = Annotated[
    Literal["world", "files", "hub"] | None,
    "Read rows from world (constructed languages, no download), files (official task files in --data-root) or hub "
    "(what xlt fetch downloaded). Default: the tier's first source, or that of the run given as --model.",
]
DataRoot = Annotated[
    Path | None, "The folder of official task files, for --source files and for tasks that the hub does not carry."
]
Limit = Annotated[int, "Use the first N rows of every split. Default: all."]
Engine = Annotated[
    Literal["auto", "deepspeed", "graph"],
    "Replay each step as one CUDA graph (graph), or make it as DeepSpeed does. auto: graph where a run has one GPU, "
    "without ZeRO and accumulation.",
]
Zero = Annotated[Literal["0", "1", "2", "3", "3_offload"], "The ZeRO stage of DeepSpeed."]
Study = Annotated[str, "This study, in the size of the tier.", lambda name: _known_study(name) if name else name]
Search = Annotated[
    Literal["faiss", "faiss-cpu", "torch", "mutual"] | None,
    "Find neighbours with this engine; all engines find the same. Default: XLT_SEARCH, else faiss.",
]


def _own_tasks(files: list[Path] | None) -> list[Path] | None:
    own.add_files(files or ())
    return files


# Read before the others, whose names of tasks may be of these.
OwnTasks = Annotated[
    list[Path] | None,
    typer.Option(
        "--tasks",
        metavar="FILE",
        is_eager=True,
        callback=_own_tasks,
        envvar=own.SWITCH,
        show_envvar=False,
        help="Use the tasks in this TOML file too (repeatable). Default: the files that XLT_TASKS names.",
    ),
]


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Where the rows come from, and how many of them are used."""

    source: SourceName = None
    data_root: DataRoot = None
    limit: Limit = 0
    tasks: OwnTasks = None

    def source_options(self, default: str = "") -> sources.SourceOptions:
        """The source; the default one, else the world, if none is named.

        Raises:
            UsageFault: the world, which reads no other files, and a folder of files.
        """
        name = self.source or default or "world"
        if name == "world" and self.data_root:
            raise UsageFault(
                f"The source 'world' does not read --data-root {self.data_root}.",
                fix="Add --source files, or leave --data-root out.",
            )
        return sources.SourceOptions(name=name, data_root=self.data_root, limit=self.limit)


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """What a model is scored on, and how."""

    language: Annotated[list[str] | None, "Only this language (repeatable)."] = None
    split: Annotated[
        list[str] | None, "Only this split, dev or test (repeatable).", one_of("split", lambda: ("dev", "test"))
    ] = None
    search: Search = None
    tier: RecipeTier = ""


@dataclass(frozen=True, slots=True)
class AgainOptions:
    """What a verification makes again from what is stored."""

    recheck: Annotated[
        int | None,
        typer.Option(
            "--recheck",
            metavar="N",
            min=0,
            help="Predict N cells again from the stored models and compare; 0: none. Default: all of a small model "
            "made on the spot, a random sample of a public one.",
        ),
    ] = None
    recheck_seed: Annotated[
        int | None,
        typer.Option("--recheck-seed", metavar="N", min=0, help="Draw the sample of an earlier verification."),
    ] = None
    replay: Annotated[
        int,
        typer.Option(
            "--replay",
            metavar="K",
            min=0,
            help="Train K stretches of trainings again, drawn at random, and compare weights and log. A stretch is "
            "a whole training, or what lies between two states that --keep-checkpoints kept.",
        ),
    ] = 0
    replay_seed: Annotated[
        int | None, typer.Option("--replay-seed", metavar="N", min=0, help="Draw the stretches with this seed.")
    ] = None
    model: Annotated[str, "The model in a folder that the results started from, which they name by its digest."] = ""

    def __post_init__(self) -> None:
        if self.replay_seed is not None and not self.replay:
            raise UsageFault("--replay-seed draws stretches, and none were asked for.", fix="Add --replay K.")

    def again(self) -> checks.Again:
        """What is to be made again. A model that was given is found by its digest from now on."""
        if self.model:
            single.backbone_name(self.model)
        return checks.Again(self.recheck, self.recheck_seed, self.replay, self.replay_seed, say)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What trains, and on how many devices."""

    engine: Engine = "auto"
    zero: Zero = "0"
    gpus: Annotated[int, "Use N GPUs of this machine. Default: one, if there is one."] = 0
    processes: Annotated[
        int,
        "Use N processes, on the CPU or on one GPU that holds them. Default on a CPU: as many as the tier says and "
        "memory allows, else one.",
    ] = 0
    accumulation: Annotated[
        int,
        "Compute each step in N micro-batches, to save memory. Default on a CPU: as many as the tier says, else one.",
    ] = 0
    checkpoint_seconds: Annotated[int, "Write the state of a training this often; it goes on from there."] = 600
    keep_checkpoints: Annotated[int, "Keep N states of each training, spread over it, in the run's folder."] = 0

    def __post_init__(self) -> None:
        for name, most, why in (
            ("gpus", MOST_PROCESSES, "Each GPU has a process of its own."),
            ("processes", MOST_PROCESSES, "Each needs a processor and memory of its own."),
            ("accumulation", MOST_MICRO_BATCHES, "A step has at most as many micro-batches as it has examples."),
        ):
            if (asked := getattr(self, name)) > most:
                raise UsageFault(f"--{name} {asked} is more than {most}.", why=why, fix=f"--{name} N, with fewer.")

    def settings(self, sharing: int, micro_batches: int = 1, *, elsewhere: bool = False) -> engines.EngineSettings:
        """How runs are computed, each by ``sharing`` processes. Each run says its numeric type itself.

        ``micro_batches`` are those of a step that the tier has for a CPU; processes that share a step have a part each.
        ``elsewhere`` says that what this machine has decides nothing.

        Raises:
            UsageFault: the engine cannot do that, or there are GPUs, but not one for each process.
        """
        if sharing > (gpus := torch.cuda.device_count()) > 0 and not elsewhere:
            raise UsageFault(
                f"{sharing} processes cannot share a run on {gpus} GPU{'s' * (gpus > 1)}: each needs one of its own.",
                fix="Independent runs can share a GPU: xlt reproduce --processes N, without --shard.",
            )
        whole = bool(self.gpus if elsewhere else torch.cuda.is_available()) or self.engine == "graph"
        accumulation = self.accumulation or (1 if whole else max(1, micro_batches // sharing))
        settings = engines.EngineSettings(
            zero=self.zero,
            accumulation=accumulation,
            checkpoint_seconds=self.checkpoint_seconds,
            keep_checkpoints=self.keep_checkpoints,
        )
        if self.engine == "auto" and elsewhere:
            return settings  # by DeepSpeed: no self-test has shown there that graphs give the same
        if self.engine == "auto":
            return replace(settings, engine=engines.best_engine(settings, sharing))
        settings = replace(settings, engine=self.engine)
        engines.check_settings(settings, sharing)
        return settings

    def process_count(self, default: int = 1) -> int:
        """How many processes to use; unless asked for, one on a GPU and ``default`` on a CPU, if it has the cores.

        Raises:
            EnvironmentFault: more GPUs are asked for than there are.
        """
        if self.gpus and self.processes:
            raise UsageFault("--gpus and --processes exclude each other.", fix="Give one of them.")
        if self.gpus > torch.cuda.device_count():
            raise EnvironmentFault(
                f"{self.gpus} GPUs were asked for, but this machine has {torch.cuda.device_count()}.",
                fix="xlt doctor; without a GPU use --processes N.",
            )
        if torch.cuda.is_available():
            default = 1
        return self.gpus or self.processes or min(default, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Where the runs of a tier are made."""

    executor: Annotated[
        Literal["processes", "slurm"],
        "Make runs in processes of this machine, or each as a job of SLURM, to which --gpus then belongs.",
    ] = "processes"
    slurm: Annotated[
        list[str] | None,
        "A parameter of sbatch as KEY=VALUE, such as partition=gpu, or python=COMMAND that starts Python (repeatable).",
    ] = None
    nodes: Annotated[int, "Share each training over N machines, with --executor slurm and --shard."] = 1
    dry_run: Annotated[
        bool, "Make nothing: print the runs and what they cost, or with --executor slurm what would be submitted."
    ] = False

    def queue(self, engine: EngineOptions, *, shard: bool) -> cluster.Queue | None:
        """The queue that runs are put into, and what each asks for; None where this machine makes them.

        Raises:
            UsageFault: the options do not fit each other, or a parameter is none.
        """
        if self.executor == "processes":
            if self.slurm or self.nodes > 1:
                raise UsageFault("--slurm and --nodes are for jobs of SLURM.", fix="Add --executor slurm.")
            return None
        if self.nodes > 1 and not shard:
            raise UsageFault("--nodes shares each training over several machines.", fix="Add --shard, or leave it out.")
        if engine.gpus and engine.processes:
            raise UsageFault("--gpus and --processes exclude each other.", fix="Give one of them.")
        parameters: dict[str, str | bool] = {}
        for each in self.slurm or ():
            key, equals, value = each.partition("=")
            if not re.fullmatch(r"[a-z][a-z_-]*", key) or not value.isprintable() or bool(equals) != bool(value):
                raise UsageFault(f"'{each}' is no parameter of sbatch.", fix="--slurm KEY=VALUE, or --slurm KEY")
            parameters[key] = value or True
        processes = (engine.gpus or engine.processes or 1) if shard else 1
        return cluster.Queue(parameters, self.nodes, processes, min(engine.gpus, processes))


def precision(queue: cluster.Queue | None = None) -> engines.Precision:
    """The numeric type of this machine, or of those of a ``queue``: bf16 on a GPU, fp32 on a CPU."""
    return "bf16" if (queue.gpus if queue else torch.cuda.is_available()) else "fp32"


def runs_at_once(
    tier: tiers.Tier, source: str, chosen: Collection[str], model: str, engine: EngineOptions | None = None
) -> tuple[int, str]:
    """How many runs of the ``chosen`` parts of the tier are made in parallel, and why, in words; ``model`` is the name
    of the backbone in the place of the tier's, if any.

    Raises:
        EnvironmentFault: more GPUs are asked for than there are.
    """
    asked = engine or EngineOptions()
    if asked.gpus or asked.processes:
        return asked.process_count(), "as asked"
    if torch.cuda.is_available():
        return asked.process_count(), "on one GPU"
    larger = bool(model) and parts.may_be_larger(model, tier.plan(source))
    return tier.runs_at_once(source, chosen, cores=os.cpu_count() or 1, free=memory.free_memory(), larger=larger)


def use_search(name: str | None) -> None:
    """Search with the engine of that name, in worker processes too.

    Raises:
        UsageFault: there is none of the name that ``XLT_SEARCH`` says.
    """
    engine = searches.search_engine(name)
    if name:
        os.environ["XLT_SEARCH"] = engine
