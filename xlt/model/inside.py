"""Packed attention of BLOOM and XGLM. The library computes theirs inside of their own modules, which no attention
function reaches: these modules are told to be ours, with the same parameters under the same names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor, dropout_add
from transformers.models.xglm.modeling_xglm import XGLMAttention

from xlt.model.attention import attend

_batch: ContextVar[dict[str, Any]] = ContextVar("batch")


class PackedBloomAttention(BloomAttention):
    """BLOOM's, with ALiBi counted from each query back, which rounds less than from the start of the text."""

    is_causal = True

    def forward(self, hidden_states: Tensor, residual: Tensor, **_: Any) -> tuple[Tensor, None]:
        """``hidden_states`` and ``residual`` are ``[1, T, H]``."""
        fused = self.query_key_value(hidden_states).unflatten(2, (self.num_heads, 3, self.head_dim))
        query, key, value = (part.transpose(1, 2) for part in fused.unbind(3))
        two = torch.ones((1, 2), device=hidden_states.device)
        dropout = self.attention_dropout.p if self.training else 0.0
        slopes = build_alibi_tensor(two, self.num_heads, torch.float32)[:, 0, 1]
        scaling = self.inv_norm_factor
        out, _none = attend(
            self, query, key, value, None, scaling=scaling, dropout=dropout, slopes=slopes, **_batch.get()
        )
        return dropout_add(self.dense(out.flatten(2)), residual, self.hidden_dropout, self.training), None


class PackedXglmAttention(XGLMAttention):
    """XGLM's."""

    is_causal = True

    def forward(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
        """``hidden_states`` is ``[1, T, H]``."""
        query, key, value = (
            part(hidden_states).unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        out, _none = attend(self, query, key, value, None, scaling=self.scaling, dropout=dropout, **_batch.get())
        return self.out_proj(out.flatten(2)), None


_OURS: dict[type[nn.Module], type[nn.Module]] = {
    BloomAttention: PackedBloomAttention,
    XGLMAttention: PackedXglmAttention,
}


def install(decoder: nn.Module) -> None:
    """Let the attention of a BLOOM or XGLM read packed batches, within :func:`of_batch`."""
    for module in decoder.modules():
        if ours := _OURS.get(type(module)):
            module.__class__ = ours


@contextmanager
def of_batch(**bounds: Any) -> Iterator[None]:
    """Within the block the batch has these bounds (``cu_seqlens``, ``max_seqlen``, ``lazy_plan``).

    BLOOM hands nothing on to its blocks that it does not know.
    """
    token = _batch.set(bounds)
    try:
        yield
    finally:
        _batch.reset(token)
