"""CodeTransformer: transformers' T5 behind three methods. It takes embeddings, so that each paper embeds as it likes.

`encode` and `decode` are T5's own stacks. `step` goes one code further for many prefixes of each user at once: it reads
the same weights, but computes a user's cross-attention keys once and shares them among the user's prefixes, which
the library's decoder cannot do. A test holds it to `decode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5Model


@dataclass(frozen=True)
class T5Sizes:
    """T5 sizes; the defaults are TIGER's."""

    width: int = 128
    inner: int = 1024
    heads: int = 6
    head_width: int = 64
    encoder_layers: int = 4
    decoder_layers: int = 4
    dropout: float = 0.1


class Encoded(NamedTuple):
    """Encoder output. Attributes: states `[B, S, D]`; mask `[B, S]`, true at tokens."""

    states: Float[Tensor, "B S D"]
    mask: Bool[Tensor, "B S"]


class Memory(NamedTuple):
    """What all prefixes of a user share, per decoder layer.

    Attributes:
        keys, values: `[B, H, S, d]` of the user's history.
        mask: `[B, 1, 1, S]`, true at tokens.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Bool[Tensor, "B 1 1 S"]


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
        self.encoder, self.decoder = t5.encoder, t5.decoder
        self._blocks: list[Any] = list(t5.decoder.block)  # their parts' types are the library's own
        # Embeddings come from outside; a table that gets no gradient would only trouble distributed training.
        del self.encoder.embed_tokens, self.decoder.embed_tokens

    def encode(self, tokens: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Encoded:
        return Encoded(self.encoder(inputs_embeds=tokens, attention_mask=mask).last_hidden_state, mask)

    def decode(self, tokens: Float[Tensor, "B t D"], encoded: Encoded) -> Float[Tensor, "B t D"]:
        """Causal states of whole decoder inputs: teacher forcing."""
        output = self.decoder(
            inputs_embeds=tokens, encoder_hidden_states=encoded.states, encoder_attention_mask=encoded.mask
        )
        return output.last_hidden_state

    def memory(self, encoded: Encoded) -> Memory:
        attentions = [block.layer[1].EncDecAttention for block in self._blocks]
        keys = [self._heads(attention.k(encoded.states)).transpose(1, 2) for attention in attentions]
        values = [self._heads(attention.v(encoded.states)).transpose(1, 2) for attention in attentions]
        return Memory(keys, values, encoded.mask[:, None, None])

    @torch.no_grad()
    def step(
        self,
        token: Float[Tensor, "P D"],
        user: Int[Tensor, "P"],
        memory: Memory,
        parent: Int[Tensor, "P"],
        cache: Float[Tensor, "t Q n 2 H d"] | None,
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "t1 P n 2 H d"]]:
        """States after one more token of prefixes of the users `user`, ascending, and their cache.

        A cache holds, per earlier token and layer, the keys and values of the prefixes; `parent` are rows of it.
        """
        seats = _Seats(user, len(memory.mask))
        memory = seats.present(memory)
        length, x = 1 if cache is None else len(cache) + 1, token
        sizes = (len(self._blocks), 2, self.sizes.heads, self.sizes.head_width)
        grown = token.new_empty(length, len(user), *sizes)
        if cache is not None:
            torch.index_select(cache, 1, parent, out=grown[:-1])
        # T5 computes its position bias in the first layer for all.
        bias = self._blocks[0].layer[0].SelfAttention.compute_bias(length, length)[0, :, -1].T[:, None]
        for number, block in enumerate(self._blocks):
            attention, hidden = block.layer[0].SelfAttention, block.layer[0].layer_norm(x)
            keys, values = grown[:, :, number].unbind(2)
            keys[-1], values[-1] = self._heads(attention.k(hidden)), self._heads(attention.v(hidden))
            # A handful of keys for one query each: products and sums beat any attention kernel.
            weights = ((self._heads(attention.q(hidden)) * keys).sum(-1) + bias).softmax(0)
            x = x + attention.o((weights[..., None] * values).sum(0).flatten(1))
            attention = block.layer[1].EncDecAttention
            query = seats.seat(self._heads(attention.q(block.layer[1].layer_norm(x))))
            read = F.scaled_dot_product_attention(
                query, memory.keys[number], memory.values[number], memory.mask, scale=1.0
            )
            x = x + attention.o(seats.leave(read).flatten(1))
            x = block.layer[2](x)
        return self.decoder.final_layer_norm(x), grown

    def _heads(self, x: Float[Tensor, "... HD"]) -> Float[Tensor, "... H d"]:
        return x.unflatten(-1, (self.sizes.heads, self.sizes.head_width))


class _Seats:
    """Prefixes, flat and in order of user, side by side per user: `[P, H, d]` <-> `[U, H, places, d]`.

    Attention over a history needs a user's prefixes together; all else is cheaper without the empty places.
    """

    def __init__(self, user: Int[Tensor, "P"], users: int) -> None:
        self.users, self.row, count = user.unique_consecutive(return_inverse=True, return_counts=True)
        self.place = torch.arange(len(user), device=user.device) - (count.cumsum(0) - count)[self.row]
        self.places = int(count.max()) if len(count) else 0
        self.all = len(self.users) == users

    def present(self, memory: Memory) -> Memory:
        """Of the users who have prefixes."""
        if self.all:
            return memory
        keys, values = ([layer[self.users] for layer in layers] for layers in (memory.keys, memory.values))
        return Memory(keys, values, memory.mask[self.users])

    def seat(self, x: Float[Tensor, "P H d"]) -> Float[Tensor, "U H places d"]:
        seated = x.new_zeros(len(self.users), self.places, *x.shape[1:])
        seated[self.row, self.place] = x
        return seated.transpose(1, 2)

    def leave(self, seated: Float[Tensor, "U H places d"]) -> Float[Tensor, "P H d"]:
        return seated.transpose(1, 2)[self.row, self.place]
