"""CodeGenerator: an encoder-decoder that reads the codes of a history and generates those of the next item.

The score of an item is the log-probability of its codes. TIGER, LETTER, ETEGRec, DECOR and PIT's recommender differ in
how they embed codes, in what a code competes with (`Style`), and in whether the history changes what the decoder reads
(`Compose`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from models.api import Batch, Ranking
from models.parts.index import ItemIndex
from models.parts.search import Step, beam_search, exact_search
from models.parts.seq2seq import CodeTransformer, Encoded, T5Sizes

Style = Literal["vocabulary", "level"]
"""`vocabulary`: an input ends with an end token; a code competes with all tokens, and an output tied to the embedding
is scaled, as in T5. `level`: there is no end token; a code competes with those of its level, unscaled."""


class Composition(NamedTuple):
    """Decoder inputs that depend on the history: at each position `keep` times the token's vector, plus `added`.

    Attributes:
        keep: `[L]`; position 0 is the start token's.
        added: `[B, L, D]`.
    """

    keep: Float[Tensor, "L"]
    added: Float[Tensor, "B L D"]


class Read(NamedTuple):
    """A batch of encoded histories, and the composition of decoder inputs where a model has one."""

    encoded: Encoded
    composition: Composition | None = None

    def repeat(self, times: int) -> Read:
        """Each history `times` times in a row."""
        encoded = Encoded(*(tensor.repeat_interleave(times, 0) for tensor in self.encoded))
        if self.composition is None:
            return Read(encoded)
        return Read(encoded, self.composition._replace(added=self.composition.added.repeat_interleave(times, 0)))


Compose = Callable[[Float[Tensor, "B S D"], Bool[Tensor, "B S"], list[Float[Tensor, "_ D"]]], Composition]
"""Vectors of the histories' codes, a mask that is true at codes, and the vectors of all codes of each level."""


class CodeGenerator(nn.Module):
    """Token 0 pads and starts the decoder; then the codes, level after level; in `vocabulary` style an end token.

    Attributes:
        index: which codes name which items.
        first_token: the token of code 0 of every level.
        token: vectors of the tokens. A parametrization of its weight decides how they are made.
        head: the output's own vectors, where it is not tied to `token`.
    """

    offset: Tensor

    def __init__(
        self, sizes: T5Sizes, index: ItemIndex, style: Style, compose: Compose | None = None, tied: bool = True
    ) -> None:
        super().__init__()
        self.index, self.style, self.compose = index, style, compose
        self.transformer = CodeTransformer(sizes)
        self.first_token = [1 + sum(index.sizes[:level]) for level in range(index.levels)]
        self.register_buffer("offset", torch.tensor(self.first_token), persistent=False)
        self.end = 1 + sum(index.sizes)
        self.token = nn.Embedding(self.end + int(style == "vocabulary"), sizes.width)
        self.head = None if tied else nn.Linear(sizes.width, self.token.num_embeddings, bias=False)
        self._bond: Tensor | None = None
        self.register_load_state_dict_post_hook(_check_bond)  # type: ignore[no-untyped-call]

    def read(self, history: Int[Tensor, "B T"]) -> Read:
        """The codes of histories right-padded with 0."""
        tokens = self.item_tokens(history).flatten(1)
        codes = tokens > 0
        if self.style == "vocabulary":
            tokens = F.pad(tokens, (0, 1)).scatter(1, codes.sum(1, keepdim=True), self.end)
        vectors = self.token(tokens)
        encoded = self.transformer.encode(vectors, tokens > 0)
        if self.compose is None:
            return Read(encoded)
        return Read(encoded, self.compose(vectors[:, : codes.shape[1]], codes, self.vectors()))

    def item_tokens(self, item: Int[Tensor, "..."]) -> Int[Tensor, "... L"]:
        """The tokens of items, of their first sequence; padding has token 0 throughout."""
        return self.sequence_tokens(self.index.codes[item, 0]) * (item > 0)[..., None]

    def sequence_tokens(self, codes: Int[Tensor, "... L"]) -> Int[Tensor, "... L"]:
        """The tokens of code sequences."""
        return codes + self.offset

    def vectors(self) -> list[Float[Tensor, "_ D"]]:
        """Vectors of the codes of each level."""
        table = self.token.weight
        return [table[self._level_tokens(level)] for level in range(self.index.levels)]

    def states(self, labels: Int[Tensor, "B l"], read: Read) -> Float[Tensor, "B l D"]:
        """Teacher forcing: the state from which each token of the labels is to be predicted."""
        inputs = self.token(F.pad(labels[:, :-1], (1, 0)))
        if read.composition is not None:
            keep, added = read.composition
            inputs = keep[: labels.shape[1], None] * inputs + added[:, : labels.shape[1]]
        return self.transformer.decode(inputs, read.encoded)

    def loss(
        self, states: Float[Tensor, "B L D"], labels: Int[Tensor, "B L"], temperature: float = 1.0
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the next tokens, mean over batch and levels, with logits divided by `temperature`."""
        return -self.chosen(states, labels, temperature).mean()

    def next_item_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """`loss` of the items that follow a batch's histories, as TIGER trains."""
        labels = self.item_tokens(batch.target)
        return self.loss(self.states(labels, self.read(batch.history)), labels)

    def chosen(
        self, states: Float[Tensor, "B L D"], labels: Int[Tensor, "B L"], temperature: float = 1.0
    ) -> Float[Tensor, "B L"]:
        """Log-probabilities of the labels."""
        codes, output = (labels - self.offset)[..., None], self._output()
        levels = [self.log_probs(level, states[:, level], temperature, output) for level in range(self.index.levels)]
        return torch.cat([each.gather(1, codes[:, level]) for level, each in enumerate(levels)], 1)

    def rank(self, history: Int[Tensor, "B T"], k: int, temperature: float = 1.0) -> Ranking:
        """The `k` best items of all, by exact search, with logits divided by `temperature`."""
        return exact_search(self.steps(history, temperature), len(history), self.index, k)

    def place(self, history: Int[Tensor, "B T"], k: int, target: Int[Tensor, "B"]) -> Ranking:
        """The place of a target among the `k` best items, by a search that needs no more than that."""
        return exact_search(self.steps(history), len(history), self.index, k, target=target)

    def beam(self, history: Int[Tensor, "B T"], k: int, width: int, constrained: bool = True) -> Ranking:
        """The `k` best items of a plain beam, with the trie or free, over all that codes compete with (`Style`)."""
        step = self.steps(history, rivals=not constrained)
        first = self.first_token if self.style == "vocabulary" else None
        return beam_search(step, len(history), self.index, k, width, constrained, first)

    def score(self, history: Int[Tensor, "B T"], items: Int[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """Log-probabilities of items by teacher forcing: log-sum-exp over all sequences of an item."""
        codes = self.index.codes[items]  # [B M A L]
        held, sequences = codes[..., 0] >= 0, codes.shape[1] * codes.shape[2]
        labels = self.sequence_tokens(codes.clamp(min=0)).flatten(0, 2)
        states = self.states(labels, self.read(history).repeat(sequences))
        scores = self.chosen(states, labels).sum(1).view(held.shape)
        return scores.masked_fill(~held, -torch.inf).logsumexp(2)

    def steps(self, history: Int[Tensor, "B T"], temperature: float = 1.0, rivals: bool = False) -> Step:
        """Encodes the histories; the function that it returns gives the log-probabilities of their next codes, or with
        `rivals` of all that these compete with; arguments are those of `log_probs`."""
        encoded, composition = self.read(history)
        memory = self.transformer.memory(encoded)
        table, output = self.token.weight, self._output()

        def step(
            level: int, user: Int[Tensor, "P"], code: Int[Tensor, "P"], parent: Int[Tensor, "P"], cache: Any
        ) -> tuple[Float[Tensor, "P V"], Any]:
            token = code + self.first_token[level - 1] if level else code  # token 0 starts
            inputs = F.embedding(token, table)
            if composition is not None:
                inputs = composition.keep[level] * inputs + composition.added[user, level]
            states, cache = self.transformer.step(inputs, user, memory, parent, cache or ())
            return self.log_probs(level, states, temperature, output, rivals), cache

        return step

    def _output(self) -> Float[Tensor, "X D"]:
        """Output weights."""
        return self.token.weight if self.head is None else self.head.weight

    def log_probs(
        self,
        level: int,
        states: Float[Tensor, "P D"],
        temperature: float = 1.0,
        output: Float[Tensor, "X D"] | None = None,
        rivals: bool = False,
    ) -> Float[Tensor, "P V"]:
        """Log-probabilities of the codes of a level, or with `rivals` of all that these compete with (`Style`).

        Args:
            output: the output's vectors, where they are at hand already.
        """
        tokens = self._level_tokens(level)
        if output is None:
            output = self._output()
        if self.style == "level":
            logits = (states @ output[tokens].T).float() / temperature
            return logits.log_softmax(-1)
        if self.head is None:
            states = states * self.transformer.sizes.width**-0.5
        logits = (states @ output.T).float() / temperature
        every = logits.log_softmax(-1)
        return every if rivals else every[:, tokens]

    def _level_tokens(self, level: int) -> slice:
        first = self.first_token[level]
        return slice(first, first + self.index.sizes[level])

    def card(self) -> dict[str, Any]:
        """The code card."""
        return self.index.card()

    def get_extra_state(self) -> UInt8[Tensor, "32"]:
        """What binds a code table to the embeddings trained under it: a hash of both, saved with them."""
        # The weights as they are stored, not what a parametrization makes of them on one device or another.
        content = (self.index.codes, *self.token.parameters())
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
