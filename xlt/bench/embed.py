"""Sentence vectors: packed and only as deep as they are read, beside padded encoders of the library."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerFast

from xlt.bench.batches import padded_inputs
from xlt.bench.library import compiled_encoder, library_encoder
from xlt.bench.shapes import CONFIGS, RETRIEVAL_LAYER, Size, forward_flop, fresh_encoder, random_ids, random_sequences
from xlt.bench.workload import (
    Bench,
    Candidate,
    Deferred,
    NotRun,
    Workload,
    bench,
    check_output,
    compare,
    deferred,
    reason,
)
from xlt.data.packing import Encoded, pack
from xlt.model.encoder import PackedModel
from xlt.pipeline.training import evaluation_tokens
from xlt.retrieval.embed import embed

SENTENCES: dict[Size, int] = {"small": 512, "large": 32_768}
# Of a padded batch: small ones have less padding, and a CPU is full with them.
SLOTS: dict[Size, int] = {"small": 1024, "large": 16_384}
BATCH: dict[Size, int] = {"small": 16, "large": 128}  # of B8
LENGTH = 128
# 1 - cosine with the library. fp32: the same sums in another order. bf16 keeps 8 bits: packed and padded, 8e-3 apart
# over four blocks on a CPU, are a cosine of 1 - 3e-5; more blocks, and the worst of many vectors, are further.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-3}
Means = Callable[[Tensor, Tensor], Tensor]


def bench_embed(size: Size, rounds: int) -> Bench:
    """Time vectors of sentences of BUCC's lengths, from token ids to host memory, and whole forwards of full batches.

    Implementations whose vectors differ from the library's are skipped; if ours differ, the workload is skipped.
    """
    model = fresh_encoder(size)
    with torch.inference_mode():
        rows = [_sentences(model, size, rounds), _forwards(model, size, rounds)]
    settings = {"size": size, "tokens_of_a_pass": evaluation_tokens(), "slots_of_a_padded_batch": SLOTS[size]}
    return bench("embed", {**settings, "dtype": str(model.backbone.dtype).removeprefix("torch.")}, rows)


def unit_means_of(encoder: Any, layer: int | None = None) -> Means:
    """From ids and mask ``[B, L]`` the unit means ``[B, H]`` of the last block, or, with all of them run, of one."""

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        output = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=layer is not None)
        hidden = output.last_hidden_state if layer is None else output.hidden_states[layer]
        return normalize((hidden.float() * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True), dim=1)

    return run


def padded_vectors(
    sequences: Sequence[Encoded], batches: Sequence[Sequence[int]], like: Tensor, means: Means
) -> Tensor:
    """Vectors ``like`` ours of ``sequences`` in ``batches`` of indices, padded, moved and brought back one by one."""
    return _in_batches(sequences, batches, like, lambda batch: means(*padded_batch(batch)))


def _in_batches(
    sequences: Sequence[Encoded],
    batches: Sequence[Sequence[int]],
    like: Tensor,
    vectors_of: Callable[[Sequence[Encoded]], Tensor],
) -> Tensor:
    vectors = torch.empty((len(sequences), like.shape[1]), dtype=like.dtype)
    for batch in batches:
        vectors[batch] = vectors_of([sequences[index] for index in batch]).to(like.dtype).cpu()
    return vectors


def padded_batch(sequences: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Ids and mask ``[B, L]`` of ``sequences`` on the device."""
    rows = [torch.from_numpy(each.input_ids) for each in sequences]
    ids, mask = padded_inputs(torch.cat(rows), [len(row) for row in rows])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ids.to(device), mask.to(device)


def batches_of_slots(sequences: Sequence[Encoded], slots: int, *, by_length: bool) -> list[list[int]]:
    """Indices, longest first or as they come, in batches that are at most ``slots`` with their padding."""
    order = range(len(sequences))
    lengths = [len(each.input_ids) for each in sequences]
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(order, key=lambda i: -lengths[i]) if by_length else order:
        longest = max(longest, lengths[index])
        if not batches or longest * (len(batches[-1]) + 1) > slots:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def sentence_vectors(
    model: PackedModel, layer: int, sequences: Sequence[Encoded], slots: int
) -> tuple[list[Candidate | NotRun | Deferred], str]:
    """Ours, and ways of other libraries to the same vectors after block ``layer``, in padded batches of ``slots``; and
    how much padding these have."""
    lengths = [len(each.input_ids) for each in sequences]
    by_length, as_they_come = (batches_of_slots(sequences, slots, by_length=each) for each in (True, False))
    dtype = torch.float16 if model.backbone.dtype == torch.bfloat16 else torch.float32  # that of ours
    layers = int(model.backbone.config.num_hidden_layers)
    like = torch.empty((0, model.backbone.config.hidden_size), dtype=dtype)
    truncated = unit_means_of(library_encoder(model, layer))
    wanted = padded_vectors(sequences, by_length, like, truncated)

    def packed() -> Tensor:
        limit = evaluation_tokens()
        return torch.from_numpy(embed(model, sequences, layer=layer, max_tokens=limit, device=model.device))

    def padded(name: str, batches: list[list[int]], means: Means) -> Candidate | NotRun:
        return _checked(name, partial(padded_vectors, sequences, batches, like, means), wanted)

    def of_sentence_transformers(name: str, attention: str) -> Candidate | NotRun:
        try:
            vectors_of = _sentence_transformers(model, layer, attention)
            return _checked(name, partial(_in_batches, sequences, by_length, like, vectors_of), wanted)
        except (ImportError, ValueError) as error:
            return NotRun(name, reason(error))

    whole: list[Candidate | NotRun] = []
    if layer < layers:
        every = unit_means_of(library_encoder(model, layers), layer)
        whole = [
            padded(f"library, {layers} layers, padded by length", by_length, every),
            padded(f"library, {layers} layers, padded as they come", as_they_come, every),
        ]
    candidates = [
        _checked(f"xlt, {layer} layers, packed", packed, wanted),
        padded(f"library, {layer} layers, padded by length", by_length, truncated),
        *whole,
        of_sentence_transformers(f"sentence-transformers, {layer} layers, padded by length", "sdpa"),
        of_sentence_transformers(f"sentence-transformers, {layer} layers, flattened", "flash_attention_2"),
        deferred(
            f"library, {layer} layers, padded by length, torch.compile of its blocks",
            lambda name: padded(name, by_length, unit_means_of(compiled_encoder(model, layer))),
        ),
    ]
    about = (
        f"{len(sequences)} sentences of BUCC's lengths, {sum(lengths) / len(lengths):.1f} tokens in the mean, from ids "
        f"to vectors in host memory; read after block {layer}; slots per token by length "
        f"{_slots(by_length, lengths):.2f}, as they come {_slots(as_they_come, lengths):.2f}"
    )
    return candidates, about


def _sentences(model: PackedModel, size: Size, rounds: int) -> Workload:
    layer = RETRIEVAL_LAYER[size]
    sequences = [replace(each, label=()) for each in random_sequences("bucc2018", SENTENCES[size], size)]
    lengths = [len(each.input_ids) for each in sequences]
    candidates, about = sentence_vectors(model, layer, sequences, SLOTS[size])
    flop = forward_flop(CONFIGS[size], lengths, layer)
    quantity = {"sentences": float(len(sequences)), "tokens": float(sum(lengths)), "flop": flop}
    name = "B7 sentence vectors"
    return compare(name, about, candidates, rounds=rounds, quantity=quantity, ceiling="matmul", warm_up=1)


def _forwards(model: PackedModel, size: Size, rounds: int) -> Workload:
    layers = int(CONFIGS[size]["num_hidden_layers"])
    generator = torch.Generator().manual_seed(0)
    ids = [random_ids(LENGTH, CONFIGS[size]["vocab_size"], generator).int().numpy() for _ in range(BATCH[size])]
    sequences = [Encoded("", each) for each in ids]
    batch = pack(sequences, task="", kind="retrieval", first_position=model.first_position).to(model.device)
    padded_ids, mask = padded_batch(sequences)

    def library(encoder: Any) -> Tensor:
        hidden: Tensor = encoder(input_ids=padded_ids, attention_mask=mask).last_hidden_state
        return hidden.flatten(0, 1)

    plain = partial(library, library_encoder(model, layers))
    wanted = plain()
    return compare(
        "B8 whole forward",
        f"{layers} blocks on {BATCH[size]} sequences of {LENGTH} tokens: nothing to pad, so nothing to gain by packing",
        [
            _checked("xlt, packed", partial(model.hidden_states, batch, layers), wanted),
            _checked("library", plain, wanted),
            deferred(
                "library, torch.compile of its blocks",
                lambda name: _checked(name, partial(library, compiled_encoder(model, layers)), wanted),
            ),
        ],
        rounds=rounds,
        quantity={
            "sequences": BATCH[size],
            "tokens": BATCH[size] * LENGTH,
            "flop": forward_flop(CONFIGS[size], [LENGTH] * BATCH[size]),
        },
        ceiling="matmul",
    )


def _checked(name: str, run: Callable[[], Tensor], wanted: Tensor) -> Candidate | NotRun:
    """A candidate, if the cosine of each of its vectors with the library's is near enough to 1."""
    kind = torch.bfloat16 if torch.cuda.is_available() else torch.float32

    def cosines() -> list[Tensor]:
        return [torch.cosine_similarity(run().double(), wanted.double(), dim=1)]

    return check_output(name, run, cosines, [torch.ones(len(wanted), device=wanted.device)], TOLERANCE[kind])


def _sentence_transformers(model: PackedModel, layers: int, attention: str) -> Callable[[Sequence[Encoded]], Tensor]:
    """Its modules on the same weights, fed with ids; its own way from texts to ids is no part of the workload.

    With FlashAttention it puts the sequences of a batch end to end, by itself; else they are padded.
    """
    package = import_module("sentence_transformers")
    base = import_module("sentence_transformers.base.modules")
    pooling = import_module("sentence_transformers.sentence_transformer.modules")
    with tempfile.TemporaryDirectory(prefix="xlt-bench-") as folder:
        library_encoder(model, layers).save_pretrained(folder)
        tokenizer = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<unk>").save_pretrained(folder)
        options = {"attn_implementation": attention, "dtype": model.backbone.dtype, "add_pooling_layer": False}
        transformer = base.Transformer(folder, model_kwargs=options)
    modules = [transformer, pooling.Pooling(model.backbone.config.hidden_size), base.Normalize()]
    sentences = package.SentenceTransformer(modules=modules, device=model.device.type).eval()

    def run(sequences: Sequence[Encoded]) -> Tensor:
        if attention == "flash_attention_2":
            features = transformer.data_collator([{"input_ids": each.input_ids.tolist()} for each in sequences])
            features.pop("labels")
            features["position_ids"] = features["position_ids"] + model.first_position
            features = package.util.batch_to_device(features, model.device)
        else:
            features = dict(zip(("input_ids", "attention_mask"), padded_batch(sequences), strict=True))
        vectors: Tensor = sentences(features)["sentence_embedding"]
        return vectors

    return run


def _slots(batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> float:
    return sum(len(batch) * max(lengths[index] for index in batch) for batch in batches) / sum(lengths)
