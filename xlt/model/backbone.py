"""The backbone: a public or stored encoder or decoder of the library, or a fresh XLM-R or BLOOM."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    BloomConfig,
    XLMRobertaConfig,
)
from transformers.utils import logging as library_logging

from xlt.errors import DataFault, EnvironmentFault, UsageFault, XltError
from xlt.model import attention, inside

# Families whose blocks mix tokens through the attention function alone: packed and padded give the same (tested).
_ENCODERS = {"bert", "camembert", "data2vec-text", "electra", "ernie", "roberta", "xlm-roberta", "gte", "modernbert"}
_DECODERS = {"llama", "mistral", "qwen2", "qwen3"}
# Those that do it in modules of their own, which are replaced.
_INSIDE = {"bloom", "xglm"}
PACKED_FAMILIES = frozenset(_ENCODERS | _DECODERS | _INSIDE)
Family = Literal["xlm-roberta", "bloom"]  # of which a fresh model can be made
# As in XLM-R's own config.json; the defaults of the library's configuration class are BERT's.
_XLM_R = {"layer_norm_eps": 1e-5, "type_vocab_size": 1, "max_position_embeddings": 514}


@dataclass(frozen=True, slots=True)
class LoadedBackbone:
    """An encoder or decoder of the library without a pooling layer and, where asked for, its language-model head."""

    encoder: Any
    """The library's own model."""
    lm_head: nn.Module | None = None
    """The library's own module; its output weights are the encoder's word embeddings."""
    lm_head_name: str = ""
    """The name of that module in the library's language model, under which its weights are stored."""
    packed: bool = True
    """Whether the encoder takes packed batches; one of another family runs padded."""
    causal: bool = False
    """Whether it is a decoder, in which a token sees only those before it."""


def load_backbone(
    name_or_folder: str | Path, *, revision: str | None = None, masked_lm: bool | None = None
) -> LoadedBackbone:
    """A backbone by its name on the hub (at ``revision``) or from a folder, in fp32, from safetensors only.

    ``masked_lm`` asks for the head of masked LM, or of a decoder for that of its next tokens; ``None`` takes it where
    the checkpoint was saved with one that is a single module, of a decoder tied to its embeddings. A family that cannot
    be packed is loaded with the library's own attention, and a warning says so.

    Raises:
        DataFault: the folder or file is absent or damaged, or the hub cannot be reached.
        EnvironmentFault: the installed transformers does not know the model.
        UsageFault: the model is neither an encoder nor a decoder of text, is code of its own, or has no such head.
    """
    attention.register()
    name = str(name_or_folder)
    _check_folder(name)
    options: dict[str, Any] = {"trust_remote_code": False}
    if revision is not None:
        options["revision"] = revision
    with _faults(name), _quiet():
        config = AutoConfig.from_pretrained(name, **options)
        _check_family(config)
        with_head = masked_lm
        if with_head is None:
            # A decoder's output matrix of its own is as large as its word embeddings, and tasks have no use for it.
            decoder = type(config) not in MODEL_FOR_MASKED_LM_MAPPING
            own = "ForCausalLM" if decoder else "ForMaskedLM"
            with_head = any(saved.endswith(own) for saved in config.architectures or ())
            with_head = with_head and (not decoder or bool(getattr(config, "tie_word_embeddings", False)))
        model_class = _model_class(config, with_head)
        packed = _can_be_packed(config)
        model, report = model_class.from_pretrained(
            name,
            **options,
            **_without_pooling(model_class),
            dtype=torch.float32,
            use_safetensors=True,
            **({"attn_implementation": _implementation(config)} if packed else {}),
            output_loading_info=True,
        )
    if report["missing_keys"]:
        # The library fills missing weights with random ones and only logs it.
        absent = ", ".join(sorted(report["missing_keys"])[:3])
        raise DataFault(f"Weights are missing in the model '{name}'.", why=f"Absent: {absent} …", fix=_FIX)
    causal = config.model_type in _DECODERS | _INSIDE if packed else _is_causal(model.base_model)
    if packed and config.model_type in _INSIDE:
        inside.install(model.base_model)
    if not packed:
        # Once per process and family: that is how Python shows warnings.
        warnings.warn(f"{config.model_type} cannot run packed: it runs padded, slower by the padding.", stacklevel=2)
    head = _lm_head(model) if with_head else None
    if masked_lm and head is None:
        raise UsageFault(f"{type(model).__name__} has no single language-model head.", fix=_FAMILIES)
    name, module = head or ("", None)
    return LoadedBackbone(model.base_model, module, name, packed, causal)


def new_backbone(config_overrides: Mapping[str, Any], family: Family = "xlm-roberta") -> LoadedBackbone:
    """A fresh XLM-R or BLOOM with its language-model head, initialised by the library from torch's global generator.

    ``config_overrides`` are fields of the library's configuration of the ``family``, the size of the vocabulary among
    them; the others have its defaults, which are the sizes of XLM-R base, except for three that are set here.
    """
    attention.register()
    config: Any = (
        BloomConfig(**config_overrides) if family == "bloom" else XLMRobertaConfig(**{**_XLM_R, **config_overrides})
    )
    model_class = language_model(config)
    model = model_class._from_config(config, attn_implementation=_implementation(config), dtype=torch.float32)
    if family in _INSIDE:
        inside.install(model.base_model)
    return LoadedBackbone(model.base_model, model.lm_head, "lm_head", causal=family in _DECODERS | _INSIDE)


def language_model(config: Any) -> Any:
    """The library's class for masked LM of a configuration, or of a decoder for its next tokens; ``KeyError`` if it has
    neither."""
    kind = type(config)
    return (MODEL_FOR_MASKED_LM_MAPPING if kind in MODEL_FOR_MASKED_LM_MAPPING else MODEL_FOR_CAUSAL_LM_MAPPING)[kind]


def first_position(encoder: Any) -> int:
    """The position of the first token in a packed sequence: ``padding_idx + 1`` in the RoBERTa family, else 0."""
    embedding = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding_idx = getattr(embedding, "padding_idx", None)
    return 0 if padding_idx is None else int(padding_idx) + 1


def positions(encoder: Any) -> int | None:
    """The most tokens of a sequence for which the backbone has positions; None where they need no table (ALiBi, rotary
    and sinusoidal positions, those of DeBERTa)."""
    embedding = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if count := getattr(embedding, "num_embeddings", None):
        return int(count) - first_position(encoder)
    # GPT-2 and OPT call their table otherwise; OPT's has two rows more.
    most = getattr(encoder.config, "max_position_embeddings", None) or 0
    words = encoder.get_input_embeddings()
    tables = [each for each in encoder.modules() if isinstance(each, nn.Embedding) and each is not words]
    return most if any(each.num_embeddings - most in (0, 2) for each in tables) else None


def outline(folder: Path) -> Any:
    """The encoder of a folder without its weights (on torch's ``meta`` device): its sizes, and whether it can be used.

    Raises what ``load_backbone`` raises of a configuration.
    """
    with _faults(str(folder)), _quiet(), torch.device("meta"):
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        _check_family(config)
        return _model_class(config, with_head=False)._from_config(config)


_FIX = "Fetch the model again (xlt fetch), or correct its name or path."
_FAMILIES = "Choose an encoder such as xlm-roberta-large, or a decoder such as bigscience/bloom-560m."


def _lm_head(model: Any) -> tuple[str, nn.Module] | None:
    """Name and module of the library's language-model head, if it is one module that takes the hidden states alone."""
    heads = [(name, module) for name, module in model.named_children() if module is not model.base_model]
    if len(heads) != 1:
        return None
    needed = [each for each in inspect.signature(heads[0][1].forward).parameters.values() if each.default is each.empty]
    return heads[0] if sum(each.kind is not each.VAR_KEYWORD for each in needed) == 1 else None


def _model_class(config: Any, with_head: bool) -> Any:
    try:
        return language_model(config) if with_head else MODEL_MAPPING[type(config)]
    except KeyError:
        raise UsageFault(f"'{config.model_type}' has no encoder of this kind.", fix=_FAMILIES) from None


def _check_family(config: Any) -> None:
    """Refuse what is no single stack of blocks over one text, before its weights are read."""
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise UsageFault(
            f"A model of the type '{config.model_type}' cannot be a backbone.",
            why="A backbone is an encoder or a decoder of text; this is both at once, or reads more than text.",
            fix=_FAMILIES,
        )


def _can_be_packed(config: Any) -> bool:
    # What is an encoder by its family may be told to be a decoder; BLOOM's exact sums are not ours.
    other = config.model_type in _ENCODERS and getattr(config, "is_decoder", False)
    return config.model_type in PACKED_FAMILIES and not other and not getattr(config, "slow_but_exact", False)


def _implementation(config: Any) -> str:
    return attention.INSIDE if config.model_type in _INSIDE else attention.IMPLEMENTATION


@torch.no_grad()
def _is_causal(model: Any) -> bool:
    """Whether a token sees only those before it; refuses a model in which no token sees the whole sequence."""
    sees = causal = False
    if {"input_ids", "attention_mask"} <= inspect.signature(model.forward).parameters.keys():
        # A family that is not known: the last token must notice that the first one changes, and of an encoder the first
        # one that the last changes.
        tokens = torch.tensor([[5, 6, 7], [5, 6, 8], [4, 6, 7]])
        states = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        sees = not torch.equal(states[0, -1], states[2, -1])
        causal = torch.equal(states[0, 0], states[1, 0])
    if not sees:
        raise UsageFault(
            f"{type(model).__name__} cannot be a backbone.",
            why="A backbone is a model of text in which the last token sees the whole sequence, and no more than that.",
            fix=_FAMILIES,
        )
    return causal


def _without_pooling(model_class: Any) -> dict[str, bool]:
    takes = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}


def _check_folder(name: str) -> None:
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise DataFault(f"The folder '{name}' holds no model.", why="It has no config.json.", fix=_FIX)
    elif name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        raise DataFault(f"The model folder '{name}' does not exist.", fix=_FIX)


@contextmanager
def _faults(name: str) -> Iterator[None]:
    try:
        yield
    except (XltError, ModuleNotFoundError):
        raise
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise UsageFault(
                f"The model '{name}' is code of its own, which is never run.",
                why="Only models that transformers itself has can be backbones.",
                fix="Choose a copy in the library's own layout: of mGTE alibaba-nlp-community/gte-multilingual-base.",
            ) from error
        raise EnvironmentFault(
            f"The installed transformers does not know the model '{name}'.",
            why=str(error),
            fix="Install the pinned version: pip install -r the project's lock file.",
        ) from error
    except Exception as error:  # a damaged configuration makes any part of the library fail
        raise DataFault(_fault(name, error), why=f"{type(error).__name__}: {error}", fix=_FIX) from error


def _fault(name: str, error: Exception) -> str:
    match error:
        case SafetensorError():
            return f"The weights of '{name}' are damaged."
        case OSError() if Path(name).is_dir():
            return f"The model '{name}' cannot be read."
        case OSError():
            return f"The model '{name}' was not fetched, and the hub cannot be reached or has no such model."
        case RuntimeError():
            return f"The model '{name}' does not fit its config.json."
    return f"The model '{name}' cannot be made from its config.json."


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
