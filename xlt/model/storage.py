"""A model's folder: the layout of ``save_pretrained``, and the task heads beside it."""

from __future__ import annotations

import copy
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MODEL_FOR_MASKED_LM_MAPPING

from xlt.errors import DataFault

if TYPE_CHECKING:
    from xlt.model.encoder import PackedModel

HEADS_INDEX = "heads.json"
HEADS_WEIGHTS = "heads.safetensors"


def save(model: PackedModel, folder: Path, state_dict: Mapping[str, Tensor] | None) -> None:
    """Write ``model`` below ``folder``; see ``PackedModel.save``.

    The files are written here and not by ``save_pretrained``, which takes the numeric type of config.json
    from the weights in memory: bf16 under DeepSpeed, where the weights given are fp32.
    """
    weights = _weights(model, model.state_dict() if state_dict is None else state_dict)
    heads = _below(weights, "heads.")
    backbone = _below(weights, "backbone.")
    config = copy.deepcopy(model.backbone.config)
    config.architectures = [type(model.backbone).__name__]
    config.dtype = next(iter(backbone.values())).dtype
    if model.lm_head is not None:
        whole = MODEL_FOR_MASKED_LM_MAPPING[type(config)]
        config.architectures = [whole.__name__]
        backbone = {f"{whole.base_model_prefix}.{name}": weight for name, weight in backbone.items()}
        lm_head = _below(weights, "lm_head.")
        backbone |= {f"{model.lm_head_name}.{name}": weight for name, weight in lm_head.items()}
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    _save_weights(backbone, folder / "model.safetensors")
    _save_heads(model, folder, heads)


def load_heads(model: PackedModel, folder: Path) -> None:
    """Give ``model`` the task heads stored in ``folder``, if any.

    Raises:
        DataFault: the files of the heads are damaged or do not belong together.
    """
    if not (folder / HEADS_INDEX).is_file():
        return
    try:
        index = json.loads((folder / HEADS_INDEX).read_text(encoding="utf-8"))
        for task, head in index.items():
            model.add_head(task, head["kind"], _labels(head))
        model.heads.load_state_dict(load_file(folder / HEADS_WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise DataFault(
            f"The task heads in '{folder}' are damaged.",
            why=str(error),
            fix="Delete the run's folder and give the same command again: it trains the run anew.",
        ) from error


def _labels(head: dict[str, Any]) -> Any:
    names = head.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the names of the labels are not a list of texts")
    if names and len(names) != head["labels"]:
        raise ValueError(f"{len(names)} names for {head['labels']} labels")
    return names or head["labels"]


def _save_heads(model: PackedModel, folder: Path, weights: dict[str, Tensor]) -> None:
    index = {
        task: {"kind": head.kind, "labels": head.labels} | ({"names": head.names} if head.names else {})
        for task, head in model.heads.items()
    }
    if not index:
        # Heads of an earlier save would be taken for this model's.
        (folder / HEADS_INDEX).unlink(missing_ok=True)
        (folder / HEADS_WEIGHTS).unlink(missing_ok=True)
        return
    (folder / HEADS_INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    _save_weights(weights, folder / HEADS_WEIGHTS)


def _save_weights(weights: dict[str, Tensor], path: Path) -> None:
    save_file(weights, path, metadata={"format": "pt"})
    # The library makes its files readable for their owner alone, whatever the umask.
    shutil.copymode(path.with_name("config.json"), path)


def _weights(model: PackedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every weight once, under its first name: tied weights are stored once and tied again by the library."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    given = {aliases[0]: next((n for n in aliases if n in state), None) for aliases in names.values()}
    absent = [name for name, source in given.items() if source is None]
    if absent:
        raise ValueError(f"the state dict lacks {len(absent)} weights: {', '.join(absent[:3])} …")
    return {name: state[source].detach().cpu().contiguous() for name, source in given.items() if source is not None}


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
