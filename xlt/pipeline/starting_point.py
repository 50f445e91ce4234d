"""The model and tokenizer that a run starts from."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from xlt.data.hub.lock import read_lock
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import RunSpec


def starting_point(
    spec: RunSpec, parent_model: Path | None, source: Source, tokenizer_folder: Path
) -> tuple[PackedModel, PreTrainedTokenizerBase]:
    """The parent's model, the public checkpoint at its locked revision, or (phase 1 of the smoke tier) a fresh XLM-R.

    ``tokenizer_folder`` receives the tokenizer of a fresh model.
    """
    if parent_model is not None:
        return PackedModel.load(str(parent_model)), load_tokenizer(str(parent_model))
    if spec.backbone.name:
        locked = read_lock().models.get(spec.backbone.name)
        revision = locked.revision if locked else None
        return PackedModel.load(spec.backbone.name, revision=revision), load_tokenizer(spec.backbone.name, revision)
    texts = (row.text for row in source.pretraining_text())
    train_tokenizer(texts, spec.backbone.vocabulary, tokenizer_folder)
    tokenizer = load_tokenizer(str(tokenizer_folder))
    config: dict[str, int | float] = {**spec.backbone.config, "vocab_size": len(tokenizer)}
    return PackedModel.fresh(config), tokenizer
