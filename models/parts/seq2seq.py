"""CodeTransformer: transformers' T5. It takes embeddings, so that each paper embeds as it likes.

`encode` and `decode` go through its blocks by `models.parts.blocks`, with a cheaper cross-attention. `step` goes one
code further for many prefixes of each user at once: it reads the same weights, but computes a user's cross-attention
keys once and shares them among the user's prefixes, which the library's decoder cannot do. Tests hold all three to the
library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import T5Config, T5Model

from models.api import Count, Share, tuned
from models.parts.blocks import feed_forward, normed, position_bias, self_attention
from models.parts.dropout import Dropout, replace_dropout
from models.parts.ragged import by_length, packing


@dataclass(frozen=True)
class T5Sizes:
    """T5 sizes; the defaults are TIGER's."""

    width: Count = 128
    inner: Count = 1024
    heads: Count = 6
    head_width: Count = 64
    encoder_layers: Count = 4
    decoder_layers: Count = 4
    dropout: Share = tuned(0.1, low=0.0, high=0.4)
    """GRID takes .15, LIGER .2."""


class Encoded(NamedTuple):
    """Encoder output. Attributes: states `[B, S, D]`; mask `[B, S]`, true at tokens."""

    states: Float[Tensor, "B S D"]
    mask: Bool[Tensor, "B S"]

    def mean(self) -> Float[Tensor, "B D"]:
        """Over the tokens of each input, in float32."""
        mask = self.mask[..., None]
        return (self.states.float() * mask).sum(1) / mask.sum(1)


class Memory(NamedTuple):
    """What all prefixes of a user share, per decoder layer.

    Attributes:
        keys: `[B, H, d, S]` of the user's history.
        values: `[B, H, S, d]`.
        mask: `[B, 1, 1, S]`, 0 at tokens and -inf at padding.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor


class Token(NamedTuple):
    """One token of every prefix.

    Attributes:
        table: `[Q, n, 2, H, d]` keys and values per layer, of the prefixes that were expanded with it.
        row: `[P]` row of each prefix in it.
    """

    table: Float[Tensor, "Q n 2 H d"]
    row: Int[Tensor, "P"]


class CodeTransformer(nn.Module):
    def __init__(self, sizes: T5Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        config = T5Config(
            vocab_size=1,
            d_model=sizes.width,
            d_ff=sizes.inner,
            d_kv=sizes.head_width,
            num_heads=sizes.heads,
            num_layers=sizes.encoder_layers,
            num_decoder_layers=sizes.decoder_layers,
            dropout_rate=sizes.dropout,
            use_cache=False,
            eos_token_id=None,
            pad_token_id=None,
        )
        t5 = T5Model(config)
        replace_dropout(t5)
        self.encoder, self.decoder = t5.encoder, t5.decoder
        self._blocks: list[Any] = list(t5.decoder.block)  # their parts' types are the library's own
        self.dropout = Dropout(sizes.dropout)
        # Embeddings come from outside; a table that gets no gradient would only trouble distributed training.
        del self.encoder.embed_tokens, self.decoder.embed_tokens

    @property
    def _dropped(self) -> float:
        """Share of the weights of attention, and of hidden layers, that is dropped now."""
        return self.sizes.dropout if self.training else 0.0

    def encode(self, tokens: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Encoded:
        """States of inputs padded on the right; `mask`: true at tokens."""
        if not mask.is_cpu:
            # A GPU's time goes by the number of kernels, and to ask it for a length would hold it up.
            return Encoded(self._encode(tokens, mask[:, None].expand(-1, mask.shape[1], -1)), mask)
        packed = packing(mask)
        states = self._encode(packed.pack(tokens), packed.allowed)
        return Encoded(packed.unpack(states, len(tokens)), mask)

    def _stream(self, x: Float[Tensor, "R W D"]) -> Float[Tensor, "R W D"]:
        """The residual stream has the format of weights, also where vectors were composed in another."""
        return x.to(self.decoder.final_layer_norm.weight.dtype)

    def _encode(self, x: Float[Tensor, "R W D"], allowed: Bool[Tensor, "R W W"]) -> Float[Tensor, "R W D"]:
        stack: Any = self.encoder
        bias = position_bias(stack.block[0].layer[0].SelfAttention, allowed)
        x = stack.dropout(self._stream(x))
        for block in stack.block:
            attention, dense = block.layer
            x = x + attention.dropout(self_attention(attention, x, bias, self._dropped))
            x = x + dense.dropout(feed_forward(dense, x, self._dropped))
        return stack.dropout(normed(stack.final_layer_norm, x))

    def decode(self, tokens: Float[Tensor, "B t D"], encoded: Encoded) -> Float[Tensor, "B t D"]:
        """Causal states of whole decoder inputs: teacher forcing."""
        length = tokens.shape[1]
        earlier = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device).tril()
        bias = position_bias(self._blocks[0].layer[0].SelfAttention, earlier)
        groups = by_length(encoded.mask)
        histories = [Encoded(encoded.states[rows, :width], encoded.mask[rows, :width]) for rows, width in groups]
        order = torch.cat([group.rows for group in groups])
        x = self.decoder.dropout(self._stream(tokens[order]))
        for block in self._blocks:
            attention, history, dense = block.layer
            x = x + attention.dropout(self_attention(attention, x, bias, self._dropped))
            x = x + history.dropout(self._read(history, x, histories))
            x = x + dense.dropout(feed_forward(dense, x, self._dropped))
        return self.decoder.dropout(normed(self.decoder.final_layer_norm, x))[order.argsort()]

    def _read(self, layer: Any, x: Float[Tensor, "B t D"], histories: list[Encoded]) -> Float[Tensor, "B t D"]:
        """Cross-attention. Keys and values are linear in the states: a few queries are taken to the states' space, and
        what they read there is taken back, which costs less than keys and values of every state.
        """
        attention, length = layer.EncDecAttention, x.shape[1]
        keys, values = (part.weight.unflatten(0, (self.sizes.heads, -1)) for part in (attention.k, attention.v))
        query = self._heads(attention.q(normed(layer.layer_norm, x)))
        query = torch.einsum("bthd,hdw->bhtw", query, keys).flatten(1, 2)
        parts = zip(query.split([len(history.mask) for history in histories]), histories, strict=True)
        read = torch.cat([self._look(part, history) for part, history in parts])
        return attention.o(torch.einsum("bhtw,hdw->bthd", read.unflatten(1, (-1, length)), values).flatten(2))

    def _look(self, query: Float[Tensor, "b Q D"], history: Encoded) -> Float[Tensor, "b Q D"]:
        scores = (query @ history.states.mT).masked_fill(~history.mask[:, None], -torch.inf)
        return self.dropout(scores.softmax(-1)) @ history.states

    @torch.no_grad()
    def memory(self, encoded: Encoded) -> Memory:
        """Keys and values of all layers' cross-attention, for `step`."""
        attentions = [block.layer[1].EncDecAttention for block in self._blocks]
        keys = [self._heads(attention.k(encoded.states)).permute(0, 2, 3, 1).contiguous() for attention in attentions]
        values = [self._heads(attention.v(encoded.states)).transpose(1, 2).contiguous() for attention in attentions]
        mask = torch.zeros(encoded.mask.shape, device=encoded.mask.device).masked_fill(~encoded.mask, -torch.inf)
        return Memory(keys, values, mask[:, None, None])

    @torch.no_grad()
    def step(
        self,
        token: Float[Tensor, "P D"],
        user: Int[Tensor, "P"],
        memory: Memory,
        parent: Int[Tensor, "P"],
        cache: tuple[Token, ...],
    ) -> tuple[Float[Tensor, "P D"], tuple[Token, ...]]:
        """States after one more token of prefixes of the users `user`, ascending, and the cache with it.

        `parent` are rows of the prefixes that `cache` belongs to. A prefix's keys and values are stored with the prefix
        that ends in them and only pointed at by longer ones.
        """
        padding = _UserPadding(user, len(memory.mask))
        memory = padding.select_users(memory)
        past = [Token(table, row[parent]) for table, row in cache]
        sizes = (2, self.sizes.heads, self.sizes.head_width)
        table = token.new_empty(len(user), len(self._blocks), *sizes)
        # Keys and values of all tokens, one layer at a time.
        both = token.new_empty(len(past) + 1, len(user), *sizes)
        # T5 computes its position bias in the first layer for all.
        bias = self._blocks[0].layer[0].SelfAttention.compute_bias(len(both), len(both))[0, :, -1].T[:, None]
        x = token
        for number, block in enumerate(self._blocks):
            attention, hidden = block.layer[0].SelfAttention, block.layer[0].layer_norm(x)
            for position, (old, row) in enumerate(past):
                torch.index_select(old[:, number], 0, row, out=both[position])
            weight = torch.cat([attention.k.weight, attention.v.weight])
            torch.mm(hidden, weight.T, out=both[-1].flatten(1))
            table[:, number] = both[-1]
            keys, values = both.unbind(2)
            # A handful of keys for one query each: products and sums beat any attention kernel.
            weights = ((self._heads(attention.q(hidden)) * keys).sum(-1) + bias).softmax(0)
            x = x + attention.o((weights[..., None] * values).sum(0).flatten(1))
            attention = block.layer[1].EncDecAttention
            query = padding.pad(self._heads(attention.q(block.layer[1].layer_norm(x))))
            weights = (query @ memory.keys[number] + memory.mask).softmax(-1)
            x = x + attention.o(padding.unpad(weights @ memory.values[number]).flatten(1))
            feed_forward = block.layer[2].DenseReluDense
            x = x + feed_forward.wo(feed_forward.wi(block.layer[2].layer_norm(x)).relu_())
        return self.decoder.final_layer_norm(x), (*past, Token(table, torch.arange(len(user), device=user.device)))

    def _heads(self, x: Float[Tensor, "... HD"]) -> Float[Tensor, "... H d"]:
        return x.unflatten(-1, (self.sizes.heads, self.sizes.head_width))


class _UserPadding:
    """Pads the flat prefixes, in order of user, to the same number for each user: `[P, H, d]` <-> `[U, H, W, d]`.

    Attention over a history needs a user's prefixes side by side; all else is cheaper without padding.

    Attributes:
        users: `[U]` those that have prefixes.
        row, position: `[P]` which of these users, and which of the user's prefixes.
        width: W, the largest number of prefixes of a user.
    """

    def __init__(self, user: Int[Tensor, "P"], users: int) -> None:
        self.users, self.row, count = user.unique_consecutive(return_inverse=True, return_counts=True)
        first = count.cumsum(0) - count
        self.position = torch.arange(len(user), device=user.device) - first[self.row]
        self.width = int(count.max()) if len(count) else 0
        self.all = len(self.users) == users

    def select_users(self, memory: Memory) -> Memory:
        """The memory of the users who have prefixes."""
        if self.all:
            return memory
        keys, values = ([layer[self.users] for layer in layers] for layers in (memory.keys, memory.values))
        return Memory(keys, values, memory.mask[self.users])

    def pad(self, x: Float[Tensor, "P H d"]) -> Float[Tensor, "U H W d"]:
        heads, head_width = x.shape[1:]
        padded = x.new_zeros(len(self.users), heads, self.width, head_width)
        padded[self.row, :, self.position] = x
        return padded

    def unpad(self, padded: Float[Tensor, "U H W d"]) -> Float[Tensor, "P H d"]:
        return padded[self.row, :, self.position]
