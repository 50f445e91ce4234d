"""The tokenizer: a public one by name or folder, or a SentencePiece model trained on the spot for the smoke tier."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece
from transformers import AutoTokenizer, PreTrainedTokenizerBase, XLMRobertaTokenizer

from xlt.errors import DataFault

SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
# What the library can make a tokenizer from.
TOKENIZER_FILES = ("tokenizer.json", SENTENCEPIECE_FILE, "spiece.model", "spm.model", "vocab.txt", "vocab.json")


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path, *, threads: int = 2) -> None:
    """Train a unigram SentencePiece model and write it to ``folder`` in the layout of an XLM-R tokenizer.

    ``vocabulary`` counts the pieces of the model; XLM-R's layout adds a padding and a mask token. The result
    depends on the texts and on nothing else.

    Raises:
        DataFault: the text is too small for the vocabulary.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocabulary,
            character_coverage=0.9999,
            hard_vocab_limit=False,  # a small text may have fewer pieces than asked for
            num_threads=threads,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise DataFault(
            f"No SentencePiece model of {vocabulary} pieces could be trained on the text given.",
            why=str(error),
            fix="Change the vocabulary in the tier file, or give more text.",
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SENTENCEPIECE_FILE).write_bytes(model.getvalue())
    tokenizer = XLMRobertaTokenizer.from_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def load_tokenizer(name_or_folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, or that of a model on the hub.

    Raises:
        DataFault: there is none, or the hub cannot be reached.
    """
    folder = Path(name_or_folder)
    if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        # Without this check the library would silently make an empty tokenizer.
        raise DataFault(
            f"The folder '{name_or_folder}' has no tokenizer.",
            why=f"It holds none of the files {', '.join(TOKENIZER_FILES)}.",
            fix="Save the tokenizer beside the model: tokenizer.save_pretrained(folder)",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
        ids = tokenizer("a")["input_ids"]
    except (ModuleNotFoundError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # A damaged file makes any part of the library fail; its compiled part panics with a BaseException.
        raise DataFault(
            f"The tokenizer of '{name_or_folder}' cannot be loaded.",
            why=f"{type(error).__name__}: {error}".split("\n")[0],
            fix="Check the folder or the name; without a network, fetch the model first.",
        ) from error
    first, last, unknown = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id
    if None in (first, last, unknown) or (ids[0], ids[-1]) != (first, last):
        raise DataFault(
            f"The tokenizer of '{name_or_folder}' does not put a first and a last token around a text.",
            why="A text's label is read from its first token, and an unknown word needs a token. The tokenizer "
            f"names cls_token {tokenizer.cls_token!r}, sep_token {tokenizer.sep_token!r}, unk_token "
            f"{tokenizer.unk_token!r} and makes of 'a' {tokenizer.convert_ids_to_tokens(ids)}.",
            fix="Use an encoder of the BERT, RoBERTa or XLM-R kind with the tokenizer that it was trained with.",
        )
    return tokenizer


def makes_segments(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer gives the second text of a pair another segment than the first, as BERT's does."""
    return 1 in tokenizer("a", "a").get("token_type_ids", ())
