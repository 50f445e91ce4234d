"""The model and tokenizer that a run starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, makes_segments, train_tokenizer
from xlt.errors import DataFault, UsageFault
from xlt.model.backbone import first_position, outline, positions
from xlt.model.encoder import PackedModel
from xlt.pipeline.checkpoint import checkpoint_folder
from xlt.pipeline.spec import RunSpec


def starting_point(
    spec: RunSpec, parent_model: Path | None, source: Source, tokenizer_folder: Path
) -> tuple[PackedModel, PreTrainedTokenizerBase]:
    """The parent's model, the public checkpoint that was fetched, or (phase 1 of the smoke tier) a fresh XLM-R.

    ``tokenizer_folder`` receives the tokenizer of a fresh model.

    Raises:
        DataFault: the model or its tokenizer is absent or damaged, or they do not belong together.
        UsageFault: the run reads longer sequences than the model has positions for.
    """
    if parent_model is not None or spec.backbone.name:
        model, tokenizer = load_model(parent_model or checkpoint_folder(spec.backbone.name))
    else:
        texts = (row.text for row in source.pretraining_text())
        train_tokenizer(texts, spec.backbone.vocabulary, tokenizer_folder)
        tokenizer = load_tokenizer(str(tokenizer_folder))
        config: dict[str, int | float] = {**spec.backbone.config, "vocab_size": len(tokenizer)}
        model = PackedModel.fresh(config)
    _check_lengths(spec, model)
    return model, tokenizer


def load_model(folder: Path) -> tuple[PackedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a folder.

    Raises:
        DataFault: one of them is absent or damaged, or the two do not belong together.
    """
    tokenizer = load_tokenizer(str(folder))
    model = PackedModel.load(str(folder))
    _check_pair(folder, model.backbone, tokenizer)
    model.segments = model.segments and makes_segments(tokenizer)
    return model, tokenizer


def longest_sequence(folder: Path) -> int | None:
    """The most tokens that the model in a folder can read at once; None if there is no limit. No weights are read.

    Raises:
        DataFault: configuration or tokenizer are absent or damaged, or do not belong together.
        UsageFault: the model is no encoder of text.
    """
    encoder = outline(folder)
    _check_pair(folder, encoder, load_tokenizer(str(folder)))
    return positions(encoder)


def _check_pair(folder: Path, encoder: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    pieces, embeddings = len(tokenizer), encoder.get_input_embeddings().num_embeddings
    if pieces > embeddings:
        raise DataFault(
            f"The tokenizer in '{folder.name}' has {pieces} pieces, and the model {embeddings} embeddings.",
            why="A text with one of the other pieces could not be read: they do not belong together.",
            fix="Use the tokenizer that the model was trained with.",
        )
    first = first_position(encoder)
    if first and tokenizer.pad_token_id != first - 1:
        raise DataFault(
            f"By the model in '{folder.name}' token {first - 1} is padding, by its tokenizer {tokenizer.pad_token_id}.",
            why="Models of this family count positions from the padding token on: every token would stand elsewhere.",
            fix="Correct pad_token_id in its config.json, or use the tokenizer that the model was trained with.",
        )


def _check_lengths(spec: RunSpec, model: PackedModel) -> None:
    most = positions(model.backbone)
    for key, length in spec.max_lengths.items():
        if most is not None and length > most:
            raise UsageFault(
                f"'{key}' is read with up to {length} tokens, and the model has positions for {most}.",
                fix=f"Set max_length = {most} in the recipe of '{key}' in the tier's file, or use another model.",
            )
