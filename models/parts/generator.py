"""CodeGenerator: an encoder-decoder that reads the codes of a history and generates those of the next item.

The score of an item is the log-probability of its codes. TIGER, LETTER and ETEGRec differ in how they embed codes and
in what a code competes with, see `Style`.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from models.parts.index import ItemIndex
from models.parts.search import Step
from models.parts.seq2seq import CodeTransformer, Encoded, T5Sizes

Style = Literal["vocabulary", "level"]
"""`vocabulary`: an input ends with an end token; a code competes with all tokens, and the output is tied to the
embedding and scaled, as in T5. `level`: there is no end token; a code competes with those of its level, unscaled."""


class CodeGenerator(nn.Module):
    """Token 0 pads and starts the decoder; then the codes, level after level; in `vocabulary` style an end token.

    Attributes:
        index: which codes name which items.
        first_token: the token of code 0 of every level.
    """

    offset: Tensor

    def __init__(self, sizes: T5Sizes, index: ItemIndex, style: Style) -> None:
        super().__init__()
        self.index, self.style = index, style
        self.transformer = CodeTransformer(sizes)
        self.first_token = [1 + sum(index.sizes[:level]) for level in range(index.levels)]
        self.register_buffer("offset", torch.tensor(self.first_token), persistent=False)
        self.end = 1 + sum(index.sizes)
        self.token = nn.Embedding(self.end + int(style == "vocabulary"), sizes.width)
        self._bond: Tensor | None = None
        self.register_load_state_dict_post_hook(_check_bond)  # type: ignore[no-untyped-call]

    def encode(self, history: Int[Tensor, "B T"]) -> Encoded:
        """Encoder states of the codes of histories right-padded with 0."""
        tokens = self.item_tokens(history).flatten(1)
        if self.style == "vocabulary":
            tokens = F.pad(tokens, (0, 1)).scatter(1, (tokens > 0).sum(1, keepdim=True), self.end)
        return self.transformer.encode(self.token(tokens), tokens > 0)

    def item_tokens(self, item: Int[Tensor, "..."]) -> Int[Tensor, "... L"]:
        """The tokens of items; padding has token 0 throughout."""
        tokens = self.index.codes[item, 0] + self.offset
        return tokens * (item > 0)[..., None]

    def states(self, labels: Int[Tensor, "B l"], encoded: Encoded) -> Float[Tensor, "B l D"]:
        """Teacher forcing: the state from which each token of the labels is to be predicted."""
        return self.transformer.decode(self.token(F.pad(labels[:, :-1], (1, 0))), encoded)

    def loss(
        self, states: Float[Tensor, "B L D"], labels: Int[Tensor, "B L"], temperature: float = 1.0
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the next tokens, mean over batch and levels, with logits divided by `temperature`."""
        return -self._chosen(states, labels, temperature).mean()

    def _chosen(
        self, states: Float[Tensor, "B L D"], labels: Int[Tensor, "B L"], temperature: float = 1.0
    ) -> Float[Tensor, "B L"]:
        """Log-probabilities of the labels."""
        codes = (labels - self.offset)[..., None]
        levels = [self.log_probs(level, states[:, level], temperature) for level in range(self.index.levels)]
        return torch.cat([each.gather(1, codes[:, level]) for level, each in enumerate(levels)], 1)

    def log_probs(self, level: int, states: Float[Tensor, "P D"], temperature: float = 1.0) -> Float[Tensor, "P V"]:
        """Log-probabilities of the codes of a level."""
        own = slice(self.first_token[level], self.first_token[level] + self.index.sizes[level])
        if self.style == "level":
            return ((states @ self.token.weight[own].T).float() / temperature).log_softmax(-1)
        logits = (states * self.transformer.sizes.width**-0.5 @ self.token.weight.T).float()
        return (logits / temperature).log_softmax(-1)[:, own]

    def score(self, history: Int[Tensor, "B T"], items: Int[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """Log-probabilities of items by teacher forcing."""
        users, candidates = items.shape
        encoded = self.encode(history)
        repeated = Encoded(*(tensor.repeat_interleave(candidates, 0) for tensor in encoded))
        labels = self.item_tokens(items.flatten())
        return self._chosen(self.states(labels, repeated), labels).sum(1).view(users, candidates)

    def steps(self, history: Int[Tensor, "B T"]) -> Step:
        """Encodes the histories; what it returns generates their next codes."""
        memory = self.transformer.memory(self.encode(history))

        def step(
            level: int, user: Int[Tensor, "P"], code: Int[Tensor, "P"], parent: Int[Tensor, "P"], cache: Any
        ) -> tuple[Float[Tensor, "P V"], Any]:
            token = code + self.first_token[level - 1] if level else code  # token 0 starts
            states, cache = self.transformer.step(self.token(token), user, memory, parent, cache or ())
            return self.log_probs(level, states), cache

        return step

    def get_extra_state(self) -> UInt8[Tensor, "32"]:
        """What binds a code table to the embeddings trained under it: a hash of both, saved with them."""
        content = (self.index.codes, self.token.weight)
        digest = hashlib.sha256(b"".join(part.detach().cpu().contiguous().numpy().tobytes() for part in content))
        return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)

    def set_extra_state(self, state: UInt8[Tensor, "32"]) -> None:
        self._bond = state.cpu()


def _check_bond(generator: CodeGenerator, keys: Any) -> None:
    """
    Raises:
        ValueError: the code table that was loaded is not the one under which the embeddings were trained.
    """
    bond, generator._bond = generator._bond, None
    # Without a hash torch itself complains of the missing key.
    if bond is not None and not torch.equal(bond, generator.get_extra_state()):
        raise ValueError(
            "the code table and the token embeddings of this checkpoint do not belong together: the hash saved with "
            "them is another's; expected both as one training step left them"
        )
