"""What a tier needs of others: public models and the data of tasks, under their licences."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from xlt.data.files.source import FilesSource
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.checkpoint import checkpoint_folder
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import Task


@dataclass(frozen=True, slots=True)
class TierNeeds:
    """What the runs of a tier take from the hub."""

    tasks: list[Task]
    """The tasks whose data they read, with those that these are trained on."""
    models: list[str]
    """The public models that they start from."""
    licensed: list[Task]
    """Those of the tasks that a run does without where its data is absent: not everybody may have it."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """What of this is not here."""

    tasks: list[Task]
    models: list[str]


def tier_needs(name: str, asked: Collection[str] = ()) -> TierNeeds:
    """What the parts of a tier that are ``asked`` for need, or all parts that are made unless one is named.

    Raises:
        UsageFault: there is no such tier or part, or the tier takes nothing from the hub.
    """
    tier = read_tier(name)
    if "hub" not in tier.sources:
        why = f"It runs on: {', '.join(tier.sources)}."
        raise UsageFault(f"The tier '{name}' takes nothing from the hub.", why=why, fix=f"xlt reproduce --tier {name}")
    plan, parts = tier.plan("hub"), tier.chosen_parts("hub", asked)
    arms = [arm for arm in plan.arms.values() if not arm.part or arm.part in parts]
    named = [get_task(key) for arm in arms for key in (*arm.intermediate, *arm.targets)]
    keys = {key for task in named for key in (task.key, task.trains_on) if key}
    if any(arm.masked_lm for arm in arms):
        keys.add(MASKED_LM.key)
    return TierNeeds(
        tasks=[get_task(key) for key in sorted(keys)],
        models=sorted({(arm.backbone or plan.backbone).name for arm in arms} - {""}),
        licensed=[get_task(key) for key in sorted({key for arm in arms for key in arm.licensed})],
    )


def lacking(needs: TierNeeds, data_root: Path | None) -> Lacking:
    """What was not fetched, by names and sizes; official files below ``data_root`` count."""
    # Imported here: it loads pyarrow.
    from xlt.data.hub.source import HubSource

    files = FilesSource(data_root) if data_root else None
    source, absent = HubSource(files), []
    for model in needs.models:
        try:
            checkpoint_folder(model)
        except DataFault:
            absent.append(model)
    of_user = {task.key for task in needs.tasks if files and any(files.languages(task, split) for split in task.files)}
    missing = [task for task in needs.tasks if task.key not in of_user and not source.has_files(task)]
    return Lacking(missing, absent)
