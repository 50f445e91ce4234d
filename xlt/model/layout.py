"""Where the tokens of a packed batch stand: in a padded one, in segments, and what has seen a whole text or word."""

from __future__ import annotations

import torch
from torch import Tensor

from xlt.data.packing import PackedBatch


def seen_whole(batch: PackedBatch) -> Tensor:
    """For each token ``[T]`` of a decoder's batch the token whose state its head reads in its place.

    A decoder has seen a sequence only at its last token, and a word only at the word's last piece. So the first and the
    last token of a sequence change places: classes are read at the last token, as in the library's own heads for
    decoders, and so is "no answer" in span QA. A word's tag is read from its last piece, not from its first.
    """
    tokens, bounds = torch.arange(batch.tokens, device=batch.input_ids.device), batch.cu_seqlens.long()
    first, last = bounds[:-1], bounds[1:] - 1
    if batch.kind != "tagging" or batch.scored_positions is None:
        return tokens.index_copy(0, first, last).index_copy(0, last, first)
    # A word ends where the next one begins, or before the last token of the sequence, which belongs to no word.
    words = batch.scored_positions
    own_last = last.index_select(0, torch.searchsorted(last, words))
    following = torch.cat([words[1:], own_last[-1:]])
    # Where positions only fill a shape up (they are 0), no word follows.
    ends = torch.where(following > words, torch.minimum(following, own_last), own_last)
    return tokens.index_copy(0, words, ends - 1)


def padded_places(batch: PackedBatch) -> Tensor:
    """Where each token ``[T]`` of ``batch`` stands among the slots of the padded one, row after row."""
    lengths, device = batch.cu_seqlens.diff(), batch.cu_seqlens.device
    starts = torch.arange(len(lengths), device=device) * batch.max_seqlen - batch.cu_seqlens[:-1]
    return torch.arange(batch.tokens, device=device) + _spread(starts, lengths, batch.tokens)


def segments(batch: PackedBatch) -> Tensor:
    """The segment ``[T]`` of each token: 1 after a sequence's first separator.

    As in BERT, a sequence ends with a separator, and a pair has another one between its texts.
    """
    lengths = batch.cu_seqlens.diff()
    separators = batch.input_ids.index_select(0, batch.cu_seqlens[1:] - 1)
    is_separator = (batch.input_ids == _spread(separators, lengths, batch.tokens)).long()
    before = is_separator.cumsum(0) - is_separator
    first = before.index_select(0, batch.cu_seqlens[:-1])
    return (before - _spread(first, lengths, batch.tokens)).clamp(max=1)


def _spread(values: Tensor, lengths: Tensor, tokens: int) -> Tensor:
    """``values [B]`` for each of the ``tokens`` tokens of sequences of those ``lengths``."""
    return values.repeat_interleave(lengths, output_size=tokens)
