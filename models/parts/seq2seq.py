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


class Prefixes(NamedTuple):
    """Decoder caches of `P` prefixes per user, per decoder layer.

    Attributes:
        cross: keys and values `[B, H, S, d]` of the user's history, one for all prefixes.
        past: keys and values `[B, P, t, H, d]` of the tokens so far.
        mask: `[B, 1, 1, S]`, 0 at tokens and -inf at padding.
    """

    cross: list[tuple[Tensor, Tensor]]
    past: list[tuple[Tensor, Tensor]]
    mask: Tensor


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

    def start(self, encoded: Encoded) -> Prefixes:
        """Caches of one empty prefix per user."""
        cross, past = [], []
        users = len(encoded.states)
        for block in self._blocks:
            attention = block.layer[1].EncDecAttention
            keys, values = self._heads(attention.k(encoded.states)), self._heads(attention.v(encoded.states))
            cross.append((keys.transpose(1, 2), values.transpose(1, 2)))
            empty = keys.new_zeros(users, 1, 0, self.sizes.heads, self.sizes.head_width)
            past.append((empty, empty))
        mask = torch.zeros(encoded.mask.shape, dtype=encoded.states.dtype, device=encoded.mask.device)
        return Prefixes(cross, past, mask.masked_fill(~encoded.mask, -torch.inf)[:, None, None])

    def step(
        self, token: Float[Tensor, "B P D"], prefixes: Prefixes, parent: Int[Tensor, "B P"] | None = None
    ) -> tuple[Float[Tensor, "B P D"], Prefixes]:
        """State after one more token; prefix p continues prefix `parent[p]` of its user (None: prefix p itself)."""
        past, x = [], token
        for number, block in enumerate(self._blocks):
            self_attention = block.layer[0].SelfAttention
            hidden = block.layer[0].layer_norm(x)
            keys, values = (
                torch.cat([_gather(old, parent), self._heads(project(hidden))[:, :, None]], dim=2)
                for old, project in zip(prefixes.past[number], (self_attention.k, self_attention.v), strict=True)
            )
            past.append((keys, values))
            if number == 0:  # T5 computes its position bias in the first layer for all
                length = keys.shape[2]
                bias = self_attention.compute_bias(length, length)[0, :, -1]
            query = self._heads(self_attention.q(hidden))
            weights = (torch.einsum("bphd,bpthd->bpht", query, keys) + bias).softmax(-1)
            x = x + self_attention.o(torch.einsum("bpht,bpthd->bphd", weights, values).flatten(2))
            cross_attention = block.layer[1].EncDecAttention
            query = self._heads(cross_attention.q(block.layer[1].layer_norm(x))).transpose(1, 2)
            cross_keys, cross_values = prefixes.cross[number]
            weights = (query @ cross_keys.transpose(2, 3) + prefixes.mask).softmax(-1)
            x = x + cross_attention.o((weights @ cross_values).transpose(1, 2).flatten(2))
            x = block.layer[2](x)
        return self.decoder.final_layer_norm(x), Prefixes(prefixes.cross, past, prefixes.mask)

    def _heads(self, x: Float[Tensor, "... HD"]) -> Float[Tensor, "... H d"]:
        return x.unflatten(-1, (self.sizes.heads, self.sizes.head_width))


def _gather(cache: Float[Tensor, "B Q t H d"], parent: Int[Tensor, "B P"] | None) -> Float[Tensor, "B P t H d"]:
    if parent is None:
        return cache
    return cache[torch.arange(len(cache), device=cache.device)[:, None], parent]
