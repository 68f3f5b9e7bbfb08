"""RecBole's transformer, that of its SASRec and BERT4Rec: normed after each half of a block, GELU, small weights."""

from __future__ import annotations

import torch
from torch import nn


def encoder(
    width: int, heads: int, inner: int, layers: int, dropout: float, epsilon: float = 1e-5
) -> nn.TransformerEncoder:
    """
    Args:
        inner: feed-forward size.
        dropout: on attention weights and the output of each half of a block.
        epsilon: of layer norms.
    """
    layer = nn.TransformerEncoderLayer(
        width, heads, inner, dropout, activation="gelu", layer_norm_eps=epsilon, batch_first=True
    )
    layer.dropout = nn.Dropout(0.0)  # torch's own, between the feed-forward's two layers, which RecBole has not
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def initialise(module: nn.Module) -> None:
    """For `nn.Module.apply`: Normal(0, .02) for weights, zero for biases and the padding row, as RecBole does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear | nn.MultiheadAttention):
        bias = module.bias if isinstance(module, nn.Linear) else module.in_proj_bias
        if bias is not None:
            nn.init.zeros_(bias)
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        nn.init.normal_(module.in_proj_weight, std=0.02)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
