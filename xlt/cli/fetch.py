"""``xlt fetch``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xlt.cli.options import Debug, Json
from xlt.cli.output import emit, say
from xlt.cli.progress import LIVE_INTERVAL, PLAIN_INTERVAL

if TYPE_CHECKING:
    from rich.console import Console

    from xlt.tasks.record import Task


def fetch(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]...", help="The tasks whose data is wanted.")
    ] = None,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Also a model of the hub.")] = "",
    tier: Annotated[str, typer.Option("--tier", help="All that a tier needs of the hub.")] = "",
    mirror: Annotated[
        str | None, typer.Option("--mirror", metavar="URL", help="Another address of the hub (or set HF_ENDPOINT).")
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="Put archives of official releases here, where the hub lacks."),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", help="Of the text for masked LM, only this language (repeatable)."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no network: check what was fetched.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Download data and models from the hub, once; the same command resumes."""
    from pydantic import BaseModel

    from xlt.data.hub.archives import fetch_archives, wanted_archives
    from xlt.data.hub.faults import collecting, raise_collected
    from xlt.data.hub.fetch import FetchedRepository, wanted_data, wanted_model
    from xlt.data.hub.fetch import fetch as fetch_repositories
    from xlt.errors import UsageFault, XltError
    from xlt.tasks.catalogue import get_task

    class Fetched(BaseModel):
        format: Literal[1] = 1
        repositories: list[FetchedRepository] = []
        archives: dict[str, list[str]] = {}

    of_tier, backbone = _tier_needs(tier) if tier else (set[str](), "")
    tasks = [get_task(key) for key in dict.fromkeys([*(keys or ()), *sorted(of_tier)])]
    models = sorted({model, backbone} - {""})
    if not tasks and not models:
        raise UsageFault("Nothing to fetch was named.", fix="xlt fetch mnli xnli --model xlm-roberta-large")
    from_hub, official = _by_origin(tasks, set(keys or ()), data_root)
    wanted = [*wanted_data(from_hub, language or ()), *map(wanted_model, models)]
    lines, result = _Lines(), Fetched()
    collected: list[XltError] = []
    with collecting(collected):
        if wanted:
            result.repositories = fetch_repositories(wanted, lines, mirror=mirror, offline=offline)
    with collecting(collected):
        result.archives = fetch_archives(wanted_archives(official), data_root or Path(), lines, offline=offline)
    raise_collected(collected)

    def render(console: Console) -> None:
        for done in result.repositories:
            text = f"{done.repository} at {done.revision}: {done.files} files, {_size(done.bytes)}, as data.lock says"
            console.print(text, markup=False)
        for address, files in result.archives.items():
            console.print(f"{address}: {len(files)} files in the data root", markup=False)

    emit(result, render)


def _tier_needs(name: str) -> tuple[set[str], str]:
    """The tasks that a tier reads from the hub, those that others train on among them, and its public backbone."""
    from xlt.pipeline.tiers import read_tier
    from xlt.tasks.catalogue import MASKED_LM, get_task

    plan = read_tier(name).plan("hub")
    named = [get_task(key) for arm in plan.arms.values() for key in (*arm.intermediate, *arm.targets)]
    keys = {key for task in named for key in (task.key, task.trains_on) if key}
    if any(arm.masked_lm for arm in plan.arms.values()):
        keys.add(MASKED_LM.key)
    return keys, plan.backbone.name


def _by_origin(tasks: list[Task], asked: set[str], data_root: Path | None) -> tuple[list[Task], list[Task]]:
    """The tasks to take from the hub, and those from official archives; tells their licences."""
    from xlt.data.hub.table import HubTask, read_table

    table = read_table()
    from_hub: list[Task] = []
    official: list[Task] = []
    for task in tasks:
        entry = table.get(task.key, HubTask())
        say(f"{task.name}: licence {task.licence}; {task.address}")
        if data_root and entry.archives:
            official.append(task)
        elif entry.absent and task.key not in asked:
            say(f"  Not fetched: {entry.absent}" + (" Add --data-root DIR." if entry.archives else ""))
        else:
            from_hub.append(task)
            if entry.note:
                say(f"  {entry.note}")
    return from_hub, official


class _Lines:
    """Tells people what is downloaded: a live line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._interval = LIVE_INTERVAL if self._live else PLAIN_INTERVAL
        self._total = self._done = 0
        self._began = self._told = time.monotonic()

    def remark(self, text: str) -> None:
        """What the user should know."""
        say(text)

    def plan(self, files: int, here: int, missing: int, free: int) -> None:
        """How much comes, and how much room there is."""
        self._done, self._total = 0, missing
        say(f"{files} files wanted, {here} of them here and sound.")
        if here < files:
            say(f"To download: {files - here} files, {_size(missing)}. Free on the disk: {_size(free)}.")
        self._began = self._told = time.monotonic()

    def start(self, name: str, missing: int) -> None:
        """The file that comes now."""
        self._tell(f"{name} ({_size(missing)})", last=True)

    def advance(self, count: int) -> None:
        """Bytes that have come; told now and then, with the time left."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= self._interval:
            self._told = now
            left = (now - self._began) / self._done * max(0, self._total - self._done)
            self._tell(f"  {_size(self._done)} of {_size(self._total)}, {left / 60:.0f} min left", last=not self._live)

    def _tell(self, line: str, *, last: bool) -> None:
        start = "\r\x1b[2K" if self._live else ""
        sys.stderr.write(f"{start}{line}" + ("\n" if last else ""))
        sys.stderr.flush()


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
