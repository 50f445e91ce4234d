"""One run outside a tier's grid: train, evaluate or retrieve with a model of the user's choice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xlt.data.perturbed import PERTURB
from xlt.data.source import Source
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.checkpoint import checkpoint_folder, given_model, identified
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.spec import Backbone, Phase, RunSpec, Setting
from xlt.pipeline.store import SPEC, check_folder, read_spec
from xlt.pipeline.tiers import SourcePlan, Tier
from xlt.tasks.catalogue import INTERMEDIATE, MASKED_LM, PACKAGED, get_task
from xlt.tasks.record import ENGLISH
from xlt.tasks.xtreme_r import XTREME_R_TRAINING

if TYPE_CHECKING:
    from xlt.train.engine import EngineName, Precision


@dataclass(frozen=True, slots=True)
class StartingModel:
    """A model that the user named: its folder and backbone; of a run also the hash and the name of its source."""

    folder: Path
    backbone: Backbone
    parent: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class SingleOptions:
    """What the user may set for one run.

    ``recipe`` changes the tier's recipe, or the catalogue's without a tier; ``retrieval`` changes fields of the
    backbone: ``retrieval_layer``, ``pooling``, ``prefix``. ``source_language`` is what is trained in, if not English.
    """

    tier: Tier | None
    seed: int
    precision: Precision
    recipe: Mapping[str, Setting] = field(default_factory=dict)
    retrieval: Mapping[str, int | str] = field(default_factory=dict)
    languages: Collection[str] = ()
    splits: Collection[str] = ()
    engine: EngineName = "deepspeed"
    source_language: str = ""


def check_name(model: str) -> None:
    """Raise ``UsageFault`` if the name is a path, and no model lies there."""
    folder = Path(model)
    if any((folder / name).is_file() for name in (SPEC, "config.json")):
        return
    if folder.exists():
        raise UsageFault(
            f"The {'folder' if folder.is_dir() else 'file'} '{model}' holds no model.",
            why="A model is the folder of a run (with spec.json) or what save_pretrained writes (with config.json).",
            fix="Name such a folder, or a model of the hub: --model xlm-roberta-large",
        )
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UsageFault(
            f"There is no folder '{model}'.",
            why="A model is a folder, or a name on the hub: NAME or OWNER/NAME.",
            fix="Correct the path, or name a model of the hub: --model xlm-roberta-large",
        )


def backbone_name(model: str) -> str:
    """What a backbone is called that stands in the place of a tier's: a folder by its digest, and of a run it is the
    model that the run trained; a hub name as it is, whether it was fetched or not.

    Raises:
        DataFault: the folder holds no complete model.
        UsageFault: it is neither a folder with a model nor a hub name.
    """
    folder = Path(model)
    if any((folder / name).is_file() for name in (SPEC, "config.json")):
        return given_model(find_model(model).folder).name
    check_name(model)
    return model


def find_model(model: str) -> StartingModel:
    """The model in a run's folder, in a ``save_pretrained`` folder, or a public one by its hub name.

    Raises:
        DataFault: the folder holds no complete model, or the public one was not fetched.
        UsageFault: it is neither a folder nor a hub name.
    """
    folder = Path(model)
    if (folder / SPEC).is_file():
        spec = read_spec(folder)
        check = check_folder(folder, spec)
        if check.state != "done" or not (folder / "model").is_dir():
            lacks = "Its model is not here: results are handed over without models." if spec.train else ""
            raise DataFault(
                f"The run in '{model}' has no usable model.",
                why=check.problem or lacks or "It is an evaluation: it trained nothing.",
                fix="Name a run that has its model, or make the results anew: xlt reproduce --results DIR",
            )
        return StartingModel(folder / "model", spec.backbone, spec.hash, spec.source.name)
    if (folder / "config.json").is_file():
        if not any(folder.glob("*.safetensors")):
            raise DataFault(
                f"'{model}' holds no safetensors weights.",
                fix="Save the model with save_pretrained(folder); pickled weights are never loaded.",
            )
        return StartingModel(folder, given_model(folder))
    check_name(model)
    return StartingModel(checkpoint_folder(model), identified(Backbone(name=model)))


def check_use(task_key: str, *, has_model: bool, train: bool) -> None:
    """Raise ``UsageFault`` if the task cannot be used this way: trained or only scored, with a model or without."""
    if get_task(task_key).kind == "retrieval" and train:
        raise UsageFault(
            f"'{task_key}' has no training data: retrieval uses the encoder as it is.",
            fix=f"xlt retrieve {task_key} --model MODEL",
        )
    if not has_model and task_key != MASKED_LM.key:
        raise UsageFault(
            f"'{task_key}' needs a model to start from.",
            fix="Add --model with a run's folder, a saved model, or xlm-roberta-large.",
        )


def single_spec(
    phase: Phase | None,
    task_key: str,
    source: Source,
    start: StartingModel | None,
    options: SingleOptions,
    *,
    train: bool,
) -> RunSpec:
    """The spec of one run. Without a ``start`` only phase 1 (``mlm``) can be trained, on the tier's fresh backbone.

    Texts are cut where the model has no more positions.

    Raises:
        DataFault: the model and its tokenizer do not belong together.
        UsageFault: the task or the model cannot be used this way.
    """
    task = get_task(task_key)
    trained = task.trains_on or task_key
    check_use(task_key, has_model=start is not None, train=train)
    tier = _tier((task_key, trained), source.name, start, options)
    builder = GridBuilder(tier, source, seed=options.seed, precision=options.precision, engine=options.engine)
    if train and (language := options.source_language) and language not in source.languages(get_task(trained), "train"):
        raise DataFault(
            f"There is no training set of '{trained}' in the language '{language}'.",
            why=f"Training sets of other languages lie in translated/{language} below the data root, "
            "in the layout of the official files.",
            fix=f"Put it there, or leave --source-language {language} out.",
        )
    in_english = task not in PACKAGED and task.languages == (ENGLISH,)
    is_intermediate = in_english or task in (*INTERMEDIATE, *XTREME_R_TRAINING)
    default: Phase = "pretrain" if start is None else "intermediate" if is_intermediate else "target"
    # A colon is no character for the names of files.
    perturbed = str(source.settings.get(PERTURB, "")).replace(":", "-")
    name = ".".join(filter(None, ("train" if train else "evaluate", task_key, perturbed)))
    return builder.spec(
        *(phase or default, name, task_key),
        train=(trained,) if train else (),
        evaluate=() if task_key == MASKED_LM.key else (task_key,),
        parent=start.parent if start else None,
        languages=options.languages,
        splits=options.splits,
        translated=[options.source_language] if train and options.source_language else [],
    )


def _layer(start: StartingModel, backbone: Backbone, options: SingleOptions) -> int:
    """The block that sentence vectors are of; of a model with fewer blocks than its record asks for the last one.

    Raises:
        UsageFault: the user asked for a block that there is not.
    """
    from xlt.pipeline.training import block_count

    blocks, layer = block_count(start.folder), backbone.retrieval_layer
    if layer > blocks and "retrieval_layer" in options.retrieval:
        raise UsageFault(f"There is no block {layer}: the model has {blocks}.", fix=f"--layer, from 1 to {blocks}.")
    return min(layer, blocks)


def _tier(keys: tuple[str, str], source: str, start: StartingModel | None, options: SingleOptions) -> Tier:
    """A tier of one run of the first of two tasks, trained on the second: the recipes of the tier named, if any, with
    the user's changes."""
    plan = SourcePlan(backbone=Backbone())
    if options.tier:
        plan = options.tier.plan(source)
    elif start is None:
        why = "Phase 1 trains a small backbone, which a tier describes."
        raise UsageFault("No tier was given.", why=why, fix="Add --tier smoke.")
    backbone = start.backbone if start else plan.backbone
    backbone = backbone.model_copy(update=options.retrieval)
    if start and get_task(keys[0]).kind == "retrieval":
        backbone = backbone.model_copy(update={"retrieval_layer": _layer(start, backbone, options)})
    changes = dict(options.recipe)
    if changes.get("epochs"):
        changes.setdefault("steps", 0)
    recipes = {**plan.recipes, keys[0]: {**plan.recipes.get(keys[0], {}), **changes}}
    plan = SourcePlan(backbone=backbone, recipes=recipes, collapse_after=plan.collapse_after)
    tier = Tier(name="single", about="one run", sources={source: plan})
    if start is None:
        return tier
    from xlt.pipeline.training import longest_sequence

    most = longest_sequence(start.folder)
    if most is not None:
        too_long = [key for key in keys if tier.recipe(key, source).max_length > most]
        recipes |= {key: {**recipes.get(key, {}), "max_length": most} for key in too_long}
    return tier.model_copy(update={"sources": {source: plan.model_copy(update={"recipes": recipes})}})
