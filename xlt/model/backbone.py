"""The backbone: a public or stored encoder of the library, or a fresh XLM-R."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING, AutoConfig, XLMRobertaConfig
from transformers.utils import logging as library_logging

from xlt.errors import DataFault, EnvironmentFault, UsageFault
from xlt.model import attention

# Of XLM-R's own config.json, what the defaults of the library's configuration class get wrong.
_XLM_R = {"layer_norm_eps": 1e-5, "type_vocab_size": 1, "max_position_embeddings": 514}


@dataclass(frozen=True, slots=True)
class Backbone:
    """An encoder of the library without a pooling layer and, where asked for, its masked-LM head.

    ``lm_head`` is the library's own module, its output weights tied to the encoder's word embeddings;
    ``lm_head_name`` is its name in the library's model.
    """

    encoder: Any
    lm_head: nn.Module | None = None
    lm_head_name: str = ""


def load_backbone(
    name_or_folder: str | Path, *, revision: str | None = None, masked_lm: bool | None = None
) -> Backbone:
    """A backbone by its name on the hub (at ``revision``) or from a folder, in fp32, from safetensors only.

    ``masked_lm`` asks for the masked-LM head; ``None`` takes it where the checkpoint was saved with one.

    Raises:
        DataFault: the folder or file is absent or damaged, or the hub cannot be reached.
        EnvironmentFault: the installed transformers does not know the model.
        UsageFault: the model's architecture cannot run packed batches.
    """
    attention.register()
    name = str(name_or_folder)
    _check_folder(name)
    options: dict[str, Any] = {"trust_remote_code": False}
    if revision is not None:
        options["revision"] = revision
    with _faults(name), _quiet():
        config = AutoConfig.from_pretrained(name, **options)
        if masked_lm is None:
            masked_lm = any(saved.endswith("ForMaskedLM") for saved in config.architectures or ())
        model_class = _model_class(config, masked_lm)
        model, report = model_class.from_pretrained(
            name,
            **options,
            **_without_pooling(model_class),
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation=attention.IMPLEMENTATION,
            output_loading_info=True,
        )
    if report["missing_keys"]:
        # The library fills missing weights with random ones and only logs it.
        absent = ", ".join(sorted(report["missing_keys"])[:3])
        raise DataFault(f"Weights are missing in the model '{name}'.", why=f"Absent: {absent} …", mend=_MEND)
    return _split(model) if masked_lm else Backbone(model)


def new_backbone(config_overrides: Mapping[str, Any]) -> Backbone:
    """A fresh XLM-R with its masked-LM head, initialised by the library from torch's global generator.

    ``config_overrides`` are fields of ``XLMRobertaConfig``, the size of the vocabulary among them; the others
    are the library's defaults, which are those of XLM-R base but for three that are put right here.
    """
    attention.register()
    config = XLMRobertaConfig(**{**_XLM_R, **config_overrides})
    model_class = _model_class(config, masked_lm=True)
    return _split(model_class._from_config(config, attn_implementation=attention.IMPLEMENTATION, dtype=torch.float32))


def blocks(encoder: Any) -> nn.ModuleList:
    """The transformer blocks of ``encoder``, first to last.

    Raises:
        UsageFault: the encoder is not a plain stack of blocks (something follows the last one).
    """
    stack = getattr(encoder, "encoder", None)
    layers = getattr(stack, "layer", None)
    if not isinstance(stack, nn.Module) or not isinstance(layers, nn.ModuleList):
        raise UsageFault(f"{type(encoder).__name__} is not a stack of transformer blocks.", mend=_FAMILIES)
    if len(list(stack.children())) > 1:
        raise UsageFault(f"{type(encoder).__name__} has layers after its last block.", mend=_FAMILIES)
    return layers


def first_position(encoder: Any) -> int:
    """The position of a sequence's first token: ``padding_idx + 1`` in the RoBERTa family, else 0."""
    padding_idx = encoder.embeddings.position_embeddings.padding_idx
    return 0 if padding_idx is None else int(padding_idx) + 1


_MEND = "Fetch the model again (xlt fetch), or correct its name or path."
_FAMILIES = "Choose a backbone of the XLM-R, RoBERTa, CamemBERT or BERT family."


def _split(model: Any) -> Backbone:
    encoder = model.base_model
    heads = [(name, module) for name, module in model.named_children() if module is not encoder]
    if len(heads) != 1:
        raise UsageFault(f"{type(model).__name__} has no single masked-LM head.", mend=_FAMILIES)
    name, head = heads[0]
    return Backbone(encoder, head, name)


def _model_class(config: Any, masked_lm: bool) -> Any:
    try:
        model_class = (MODEL_FOR_MASKED_LM_MAPPING if masked_lm else MODEL_MAPPING)[type(config)]
    except KeyError:
        raise UsageFault(f"'{config.model_type}' has no encoder of this kind.", mend=_FAMILIES) from None
    if not getattr(model_class, "_supports_attention_backend", False):
        raise UsageFault(f"{model_class.__name__} cannot run packed batches.", mend=_FAMILIES)
    return model_class


def _without_pooling(model_class: Any) -> dict[str, bool]:
    takes = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}


def _check_folder(name: str) -> None:
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise DataFault(f"The folder '{name}' holds no model.", why="It has no config.json.", mend=_MEND)
    elif name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        raise DataFault(f"The model folder '{name}' does not exist.", mend=_MEND)


@contextmanager
def _faults(name: str) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise DataFault(f"The weights of '{name}' are damaged.", why=str(error), mend=_MEND) from error
    except OSError as error:
        reason = (
            "" if Path(name).is_dir() else ": it was not fetched and the hub cannot be reached, or has no such model"
        )
        raise DataFault(f"The model '{name}' cannot be read{reason}.", why=str(error), mend=_MEND) from error
    except ValueError as error:
        raise EnvironmentFault(
            f"The installed transformers does not know the model '{name}'.",
            why=str(error),
            mend="Install the pinned version: pip install -r the project's lock file.",
        ) from error
    except RuntimeError as error:
        raise DataFault(f"The model '{name}' does not fit its config.json.", why=str(error), mend=_MEND) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, no report on unused weights, no request to convert a checkpoint on the hub."""
    verbosity, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)
        if bars:
            library_logging.enable_progress_bar()
