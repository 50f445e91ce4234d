"""Our kernels in the library's own modules: the same parameters under the same names, other arithmetic around them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from xlt_kernels.embedding import embedding
from xlt_kernels.gelu import bias_gelu
from xlt_kernels.layer_norm import layer_norm
from xlt_kernels.switch import serves

_Module = TypeVar("_Module", bound=nn.Module)

# Each class reads its own parameters in its own forward(): DeepSpeed (ZeRO stage 3) gathers those of a module when that
# module is called. A weight may not be taken from a module that is only looked at.


class ResidualNorm(nn.LayerNorm):
    """LayerNorm of a sum of which one part has dropout."""

    def forward(self, hidden: Tensor, residual: Tensor, dropout_p: float) -> Tensor:  # type: ignore[override]
        """``hidden`` and ``residual`` are ``[..., H]``."""
        return layer_norm(hidden, residual, self.weight, self.bias, eps=self.eps, dropout_p=dropout_p)


class BlockEnd(nn.Module):
    """The library's ``output`` and ``attention.output``: a product, dropout, residual and LayerNorm.

    What follows the product is limited by memory: in one kernel each number is read and written once.
    """

    dense: nn.Linear
    dropout: nn.Dropout
    LayerNorm: ResidualNorm

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """``hidden_states [..., width]``, ``input_tensor [..., H]``."""
        dropout_p = self.dropout.p if self.dropout.training else 0.0
        normed: Tensor = self.LayerNorm(self.dense(hidden_states), input_tensor, dropout_p)
        return normed


class LinearGelu(nn.Linear):
    """A product whose bias is added where GELU is computed."""

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden [..., H]``."""
        return bias_gelu(F.linear(hidden, self.weight), self.bias)


class Embedding(nn.Embedding):
    """An embedding whose gradient is added up in fp32, also where it is rounded."""

    def forward(self, token_ids: Tensor) -> Tensor:
        """The vectors ``[..., H]`` of ``token_ids [...]``."""
        return embedding(token_ids, self.weight, self.padding_idx)


def install(encoder: nn.Module) -> None:
    """Put the kernels that serve on this machine into the blocks of ``encoder``.

    Only modules with the names and the layout of the BERT, RoBERTa and XLM-R families are replaced, GELU only where the
    model uses the exact form, and embeddings. Names, parameters and modes stay. On a CPU nothing is replaced.
    """
    probe = torch.empty(0, device="cuda" if torch.cuda.is_available() else "cpu")
    for parent in list(encoder.modules()):
        children: dict[str, Any] = dict(parent.named_children())
        if (end := children.get("output")) and serves("layer_norm", probe) and _is_block_end(end):
            end.LayerNorm = _as(ResidualNorm, end.LayerNorm)
            parent.output = _as(BlockEnd, end)
        if (middle := children.get("intermediate")) and serves("gelu", probe) and _is_gelu(middle):
            middle.dense = _as(LinearGelu, middle.dense)
            middle.intermediate_act_fn = nn.Identity()
        for name, child in children.items():
            if type(child) is nn.Embedding and serves("embedding", probe):
                setattr(parent, name, _as(Embedding, child))


def _as(kind: type[_Module], module: nn.Module) -> _Module:
    """A ``kind`` with all that ``module`` holds: parameters, submodules, hooks, mode."""
    twin = kind.__new__(kind)
    twin.__dict__.update(module.__dict__)
    return twin


def _layout(module: Any) -> dict[str, type[nn.Module]]:
    return {name: type(child) for name, child in module.named_children()}


def _is_block_end(module: Any) -> bool:
    whole = _layout(module) == {"dense": nn.Linear, "LayerNorm": nn.LayerNorm, "dropout": nn.Dropout}
    return whole and module.LayerNorm.bias is not None and len(module.LayerNorm.normalized_shape) == 1


def _is_gelu(module: Any) -> bool:
    activation = getattr(module, "intermediate_act_fn", None)
    if _layout(module).get("dense") is not nn.Linear or module.dense.bias is None or activation is None:
        return False
    # Of the forms of GELU under various names, the one with tanh is 5e-4 off.
    points = torch.linspace(-6, 6, 49, dtype=torch.float64)
    return torch.allclose(activation(points), F.gelu(points), rtol=0, atol=1e-9)
