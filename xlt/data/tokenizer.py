"""The tokenizer: a public one by name or folder, or a SentencePiece model trained on the spot for the smoke tier."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, processors
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    XLMRobertaTokenizer,
)
from transformers.utils import cached_file

from xlt.errors import DataFault

SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
# What the library can make a tokenizer from.
TOKENIZER_FILES = ("tokenizer.json", SENTENCEPIECE_FILE, "spiece.model", "spm.model", "vocab.txt", "vocab.json")
# Ligatures, full-width and combining characters, spaces of several kinds, capitals: what normalisation changes.
PROBES = (
    "Hello world!",
    "你好，世界",
    "नमस्ते दुनिया",
    "مرحبا بالعالم",
    "ﬁne ＡＢＣ½ e\u0301",
    "a\u200bb \u3000 c\td ",
    "ไทยทำ",
)


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
    """The tokenizer in a folder, or that of a model on the hub. A ``tokenizer.json`` there is followed to the letter.

    That of a decoder also puts the end-of-text token before, between and behind texts where it puts no token itself.

    Raises:
        DataFault: there is none, it cannot be followed, or the hub cannot be reached.
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
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder, trust_remote_code=False)
        path = cached_file(name_or_folder, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
        stored = Tokenizer.from_file(path) if path else None
        if stored is not None:
            _follow(tokenizer, stored)
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
    if stored is not None and (other := [text for text in PROBES if not _same_ids(tokenizer, stored, text)]):
        raise DataFault(
            f"The tokenizer of '{name_or_folder}' is another one than its tokenizer.json says.",
            why=f"Of {other[0]!r} the file makes {stored.encode(other[0]).ids}, and {type(tokenizer).__name__}, the "
            f"class that tokenizer_config.json names, makes {tokenizer(other[0])['input_ids']}.",
            fix="Correct tokenizer_class in its tokenizer_config.json, or delete the file that is wrong.",
        )
    decoder = _continues_text(name_or_folder)
    _name_ends(tokenizer, added=decoder)
    ids = tokenizer("a")["input_ids"]
    first, last, unknown = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id
    if None in (first, last, last if decoder else unknown) or (ids[0], ids[-1]) != (first, last):
        raise DataFault(
            f"The tokenizer of '{name_or_folder}' does not put a first and a last token around a text.",
            why="A text's label is read from its first token, and an unknown word needs a token. The tokenizer "
            f"names cls_token {tokenizer.cls_token!r}, sep_token {tokenizer.sep_token!r}, unk_token "
            f"{tokenizer.unk_token!r} and makes of 'a' {tokenizer.convert_ids_to_tokens(ids)}.",
            fix="Use a model with the tokenizer that it was trained with; that of a decoder needs an eos_token.",
        )
    return tokenizer


def _continues_text(name: str) -> bool:
    """Whether the model there is of a family of decoders; where that cannot be told, loading the model says why."""
    try:
        kind = type(AutoConfig.from_pretrained(name, trust_remote_code=False))
    except Exception:  # a damaged configuration makes any part of the library fail
        return False
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING


def _name_ends(tokenizer: PreTrainedTokenizerBase, *, added: bool) -> None:
    """Name the first and the last token that the tokenizer puts around a text, where it has no names for them.

    With ``added`` it also puts the end-of-text token before, between and behind texts, in each of these places where it
    puts no token of its own: those of BLOOM, GPT-2 and Qwen put none, XGLM's none at the end. So the label of a decoder
    is read at a token that is the same for all texts, and two texts are apart. The decoder knows the token: in its
    pretraining text it stands between two documents.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    end = tokenizer.eos_token
    pair = tokenizer("a", "a")
    parts = pair.sequence_ids(0) if backend else []
    a, b = ([place for place, part in enumerate(parts) if part == text] for text in (0, 1))
    if not a or not b:
        return
    tokens = pair.tokens(0)
    own = tokens[: a[0]], tokens[a[-1] + 1 : b[0]], tokens[b[-1] + 1 :]
    before, between, after = (each or ([end] if added and end else []) for each in own)
    if added and end and not all(own):
        template = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *between, "$B", *after],
            special_tokens=[(each, tokenizer.convert_tokens_to_ids(each)) for each in {*before, *between, *after}],
        )
        made: Any = backend.post_processor
        parts_made: Any = made if isinstance(made, processors.Sequence) else [made]
        kept = [each for each in parts_made if _only_trims(each)]
        backend.post_processor = processors.Sequence([*kept, template])
    if before and (added or tokenizer.cls_token is None):
        tokenizer.cls_token = before[0]
    if after and (added or tokenizer.sep_token is None):
        tokenizer.sep_token = after[-1]


def _only_trims(processor: object) -> bool:
    """Whether a post-processor adds no tokens: that of bytes only leaves spaces out of offsets."""
    return isinstance(processor, processors.ByteLevel)


def _follow(tokenizer: PreTrainedTokenizerBase, stored: Tokenizer) -> None:
    """Give the tokenizer what its class has left out of the ``stored`` one."""
    # The library's class for XLM-R makes its own pre-tokenizer, and a normaliser of no other kind than SentencePiece's
    # table: of any other file, a Chinese comma would become an unknown word.
    backend = tokenizer.backend_tokenizer
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        setattr(backend, part, getattr(stored, part))
    stored.no_truncation()
    stored.no_padding()


def _same_ids(tokenizer: PreTrainedTokenizerBase, stored: Tokenizer, text: str) -> bool:
    one, two = tokenizer(text)["input_ids"], tokenizer(text, text)["input_ids"]
    return bool(one == stored.encode(text).ids and two == stored.encode(text, text).ids)


@lru_cache(maxsize=1)
def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that decides which tokens it makes; empty of one that is not written down in one piece."""
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        return ""
    # Each call of the tokenizer sets these two as its arguments say.
    backend.no_truncation()
    backend.no_padding()
    kept = type(tokenizer).__name__, tokenizer.truncation_side, sorted(tokenizer.special_tokens_map.items())
    packages = metadata.version("tokenizers"), metadata.version("transformers")
    return hashlib.sha256(f"{kept} {packages} {backend.to_str()}".encode()).hexdigest()


def makes_segments(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer gives the second text of a pair another segment than the first, as BERT's does."""
    return 1 in tokenizer("a", "a").get("token_type_ids", ())
