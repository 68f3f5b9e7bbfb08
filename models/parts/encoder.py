"""RecBole's transformer, that of its SASRec, BERT4Rec, FDSA and S3-Rec: normed after each half of a block, GELU, small
weights."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.parts.construction import remembers_construction
from models.parts.dropout import Dropout, replace_dropout
from models.parts.ragged import trimmed

EPSILON = 1e-12
"""Of RecBole's layer norms."""


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
    blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    replace_dropout(blocks)
    return blocks


def causal(blocks: nn.TransformerEncoder, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """States that look at no later position, so right padding needs no mask of its own."""
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
    states: Tensor = blocks(x, mask=mask, is_causal=True)
    return states


@remembers_construction
class ItemEncoder(nn.Module):
    """Sequences of items and masks, read one way or both. The mask is item N+1."""

    def __init__(
        self, items: int, history: int, width: int, heads: int, inner: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.mask = items + 1
        self.item = nn.Embedding(items + 2, width, padding_idx=0)
        self.position = nn.Embedding(history, width)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.dropout = Dropout(dropout)
        self.blocks = encoder(width, heads, inner, layers, dropout, EPSILON)

    @property
    def items(self) -> Float[Tensor, "N D"]:
        """Embeddings of items 1..N."""
        return self.item.weight[1 : self.mask]

    def one_way(self, sequence: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """State after each item; at padding it has no meaning."""
        return trimmed(lambda each: causal(self.blocks, self._input(each)), (sequence > 0).sum(1), sequence)

    def both_ways(self, sequence: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """State at each item, from all of the sequence; at padding it has no meaning."""
        return trimmed(self._both_ways, (sequence > 0).sum(1), sequence)

    def _both_ways(self, sequence: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        states: Tensor = self.blocks(self._input(sequence), src_key_padding_mask=sequence == 0)
        return states

    def _input(self, sequence: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        position = self.position(torch.arange(sequence.shape[1], device=sequence.device))
        return self.dropout(self.norm(self.item(sequence) + position))


def initialise(module: nn.Module) -> None:
    """For `nn.Module.apply`: Normal(0, .02) for weights, zero for biases and the padding row, as RecBole does."""
    if isinstance(module, nn.Linear | nn.Embedding | nn.EmbeddingBag):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear | nn.MultiheadAttention):
        bias = module.bias if isinstance(module, nn.Linear) else module.in_proj_bias
        if bias is not None:
            nn.init.zeros_(bias)
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        nn.init.normal_(module.in_proj_weight, std=0.02)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
