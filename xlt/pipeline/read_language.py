"""All readings of one language: its sentences are embedded once, and every layer, pooling and way to score is tried."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from transformers import PreTrainedTokenizerBase

from xlt.data.rows import BitextRow, MiningRow, Row
from xlt.data.source import Source
from xlt.evaluate.pair_f1 import best_threshold, gold_pairs, mined_pairs, pair_f1
from xlt.model.encoder import PackedModel
from xlt.pipeline.readings import LayerProfile, Reading, Readings, Threshold, language_data
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.training import evaluation_tokens
from xlt.retrieval.embed import encode_sentences, vector_dtype
from xlt.retrieval.mining import Neighbours, candidates, margins, merge
from xlt.retrieval.readings import (
    NEIGHBOURS,
    POOLINGS,
    TRANSFORMATIONS,
    Queries,
    Scoring,
    TokenPooling,
    Transformation,
    embed_layers,
    geometry,
    translation_accuracies,
    unit_sides,
)
from xlt.retrieval.search import Floats, Ids, Vectors, nearest_both
from xlt.runtime import device

# What scores the vectors of the foreign and of the English side that were read in some way.
Scorer: TypeAlias = Callable[[tuple[object, ...], Vectors, Vectors], "Scores"]
# Who is told how far a language is: what is done, how much of it, and of how much.
Told: TypeAlias = Callable[[str, int, int], None]
# By the side that queries, the scoring, and the split of the threshold; the plain way comes first.
Scores: TypeAlias = Mapping[tuple[Queries, Scoring, Threshold], float]
# Vectors of all layers at a time take at most this share of the machine's memory.
MEMORY_SHARE = 4


@dataclass(frozen=True, slots=True)
class Sides:
    """The sentences of the two sides of a set of rows, and which of them are translations of each other."""

    foreign: list[str]
    english: list[str]
    matches: tuple[Ids, Ids]
    """The places of the foreign and of the English sentence of every translation pair."""


def read_language(
    spec: RunSpec,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    language: str,
    told: Told = lambda what, done, of: None,
) -> Readings:
    """All readings of one language by ``spec``, whose model this is."""
    [key] = spec.evaluate
    task, data = spec.task(key), language_data(spec, language)
    found: list[Reading] = []
    layers: dict[int, LayerProfile] = {}
    pairs: dict[str, int] = {}
    thresholds: dict[object, float] = {}
    for name in data:
        split: Any = name.split("/")[1]
        rows = source.rows(task, split, language)
        sides = _sides(rows)
        pairs[name] = len(sides.matches[0])
        mining = task.metric == "mining_f1"
        score: Scorer = partial(_mining_f1, rows, split, thresholds) if mining else _accuracy
        for layer, foreign, english in _layers(spec, model, tokenizer, sides, told, together=not mining):
            plain: dict[Transformation, float] = {}
            for place, pooling in enumerate(POOLINGS):
                if layer == 0 and pooling == "first":
                    continue  # the embedding of the first token is that of every sentence
                for how in TRANSFORMATIONS:
                    units = unit_sides(foreign[place], english[place], how, vector_dtype(model))
                    scores = score((layer, pooling, how), *units)
                    found += _readings(layer, pooling, how, split, scores)
                    if pooling == "mean":
                        plain[how] = next(iter(scores.values()))
            shape = geometry(foreign[0], english[0], sides.matches)
            layers[layer] = LayerProfile(layer=layer, **plain, **shape.model_dump())
    return Readings(
        task=key,
        backbone=spec.backbone,
        parent=spec.parent,
        source=spec.source,
        precision=spec.precision,
        max_length=task.recipe.max_length,
        data=data,
        pairs=pairs,
        languages=(language,),
        readings=tuple(found),
        layers=tuple(layers.values()),
    )


def _readings(
    layer: int, pooling: TokenPooling, how: Transformation, split: Literal["dev", "test"], scores: Scores
) -> Iterator[Reading]:
    for (queries, scoring, threshold), score in scores.items():
        yield Reading(
            layer=layer,
            pooling=pooling,
            vectors=how,
            queries=queries,
            scoring=scoring,
            split=split,
            threshold=threshold,
            scores=(score,),
            mean=score,
            mean_over_pairs=score,
        )


def _sides(rows: list[Row]) -> Sides:
    mined = [row for row in rows if isinstance(row, MiningRow)]
    if not mined:
        pairs = [row for row in rows if isinstance(row, BitextRow)]
        places = np.arange(len(pairs))
        return Sides([row.foreign for row in pairs], [row.english for row in pairs], (places, places))
    foreign, english = ([row for row in mined if row.english is side] for side in (False, True))
    place = {row.id: place for place, row in enumerate(english)}
    matches = [(row, place[match]) for row, each in enumerate(foreign) for match in each.matches]
    one, other = np.array(matches, dtype=np.int64).reshape(-1, 2).T
    return Sides([row.text for row in foreign], [row.text for row in english], (one, other))


def _layers(
    spec: RunSpec, model: PackedModel, tokenizer: PreTrainedTokenizerBase, sides: Sides, told: Told, *, together: bool
) -> Iterator[tuple[int, Floats, Floats]]:
    """Each layer and its vectors ``[poolings, N, H]`` of the foreign and of the English side, from one pass, or from a
    few where the vectors of all layers do not fit into memory. Both sides share batches where ``xlt retrieve`` lets
    them."""
    [key] = spec.evaluate
    texts = [sides.english + sides.foreign] if together else [sides.foreign, sides.english]
    encoded = [
        encode_sentences([spec.backbone.prefix + text for text in each], tokenizer, spec.max_lengths[key])
        for each in texts
    ]
    config = model.backbone.config
    layer_bytes = 4 * len(POOLINGS) * config.hidden_size * sum(map(len, encoded))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = max(1, memory // MEMORY_SHARE // layer_bytes)
    for start in range(0, config.num_hidden_layers + 1, most):
        layers = range(start, min(start + most, config.num_hidden_layers + 1))
        tell = partial(told, "sentences embedded")
        vectors = [
            embed_layers(model, each, layers=layers, max_tokens=evaluation_tokens(), device=device(), progress=tell)
            for each in encoded
        ]
        count = len(sides.english)
        foreign, english = (vectors[0][:, :, count:], vectors[0][:, :, :count]) if together else vectors
        for place, layer in enumerate(layers):
            told("layers scored", layer, config.num_hidden_layers + 1)
            yield layer, foreign[place], english[place]


def _accuracy(way: tuple[object, ...], foreign: Vectors, english: Vectors) -> Scores:
    found = translation_accuracies(foreign, english)
    return {(queries, scoring, ""): accuracy for (queries, scoring), accuracy in found.items()}


def _mining_f1(
    rows: list[Row],
    split: str,
    thresholds: dict[object, float],
    way: tuple[object, ...],
    foreign: Vectors,
    english: Vectors,
) -> Scores:
    """F1 by scoring and by the split on which the threshold is fitted; those of dev are left in ``thresholds``."""
    mined = [row for row in rows if isinstance(row, MiningRow)]
    sides = [[row for row in mined if row.english is side] for side in (False, True)]
    (foreign, foreign_groups), (english, english_groups) = (
        merge(vectors, [row.id for row in side], [row.text for row in side])
        for vectors, side in zip((foreign, english), sides, strict=True)
    )
    there, back = nearest_both(foreign, english, NEIGHBOURS)
    gold = gold_pairs(rows)
    scores: dict[tuple[Queries, Scoring, Threshold], float] = {}
    found: dict[Scoring, tuple[Neighbours, Neighbours]] = {"margin": margins(there, back), "cosine": (there, back)}
    for scoring, (forward, backward) in found.items():
        pairs = candidates(forward, backward, foreign_groups, english_groups)
        own, _ = best_threshold(pairs, gold)
        fitted: dict[Threshold, float] = {"scored split": own}
        if split == "dev":
            thresholds[way, scoring] = own
            fitted = {"dev": own}
        elif (way, scoring) in thresholds:
            fitted = {"dev": thresholds[way, scoring], **fitted}
        for threshold, least in fitted.items():
            scores["both", scoring, threshold] = pair_f1(gold, mined_pairs(pairs, least))["f1"]
    return scores
