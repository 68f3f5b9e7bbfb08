"""What every model owes the harness, and what it is given.

Shape letters, used in every signature: `B` users in a batch, `T` history length, `N` items (ids 1..N, 0 is padding),
`I` = N+1 rows, `L` codes in a sequence, `A` sequences per item, `V` codes in a book, `P` prefixes, `K` ranked items,
`M` items that are asked for, `D` width, `F` item-vector width, `S` tokens of an encoder input.

A model file `models/<name>.py` defines

* `Config`: a frozen dataclass whose defaults are the paper's; every field that a sweep may move is `tuned`,
  and the type of each says what it can be (`Count`, `Several`, `Whole`, `Rate`, `Weight`, `Share`);
* `SMALL`: a `Config` for corpora of a few thousand users on two CPU cores (embedded corpus, contract tests);
* `train(config, corpus, fit) -> Recommender`: straight-line Python that reads like the paper's method section; the
  corpus is without its test part, see `Corpus.without_test`;
* one `@final` subclass of `Recommender`;
* `OPEN`, a sentence for its rows, where the paper leaves open what decides a number.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import pytorch_lightning as pl
from jaxtyping import Bool, Float, Int
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from data_prep.corpus import Batch, Corpus, Examples
from models.parts.construction import remembers_construction

if TYPE_CHECKING:
    from models.parts.index import ItemIndex

SEARCH_RANGE = "search"
LATER = "later"


def _number(value: object) -> object:
    """What pydantic would take for 0 or 1 is none."""
    if isinstance(value, bool):
        raise PydanticCustomError("boolean", "expected a number")
    return value


# What an option can be; the harness holds every value against it before anything is trained. -0.0 is 0.
Count = Annotated[int, Field(ge=1), BeforeValidator(_number)]
"""Sizes, epochs, batches: 1 at least."""
Several = Annotated[int, Field(ge=2), BeforeValidator(_number)]
"""As `Count`, where one would leave nothing to choose from."""
Whole = Annotated[int, Field(ge=0), BeforeValidator(_number)]
"""As `Count`, where 0 means none."""
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
"""Learning rates, temperatures: above 0."""
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number), AfterValidator(abs)]
"""Of a term of a loss, or of decay; 0 switches it off."""
Share = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number), AfterValidator(abs)]
"""Dropout, momentum, parts of a whole: less than 1."""


def divisible(width: int, heads: int) -> None:
    """
    Raises:
        ValueError: attention cannot share out a width among its heads.
    """
    if width % heads:
        raise ValueError(f"width {width} is no multiple of heads {heads}")


def tuned(default: Any, **search: Any) -> Any:
    """A dataclass field with its search range on it: `lr: float = tuned(1e-3, low=1e-4, high=1e-2, log=True)`.

    `search` holds `low`, `high` (and `log` or `step`), or `choices`: booleans, numbers or strings. The default lies
    within; a sweep refuses one that does not.
    """
    return dataclasses.field(default=default, metadata={SEARCH_RANGE: search})


def later(default: Any) -> Any:
    """A dataclass field that came when rows had been made: `loss: Loss = later("ce")`.

    `default` is what those rows had. At it the field is in no record and no key, so that they stay the config's rows.
    """
    return dataclasses.field(default=default, metadata={LATER: True})


class Ranking(NamedTuple):
    """The best items per user.

    Attributes:
        items: `[B, K]` item ids, best first; 0 where there is no item (an invalid code sequence, or a short list).
        scores: `[B, K]` the model's own log-probability or score; -inf where there is no item.
        certified: `[B]` true where the list provably equals the full ranking of all items.
        expansions: `[B]` prefixes expanded to find it; None for a model that scores every item.
    """

    items: Int[Tensor, "B K"]
    scores: Float[Tensor, "B K"]
    certified: Bool[Tensor, "B"]
    expansions: Int[Tensor, "B"] | None = None


@dataclass(frozen=True)
class Budget:
    """How long a stage may train. The harness stops early and keeps the best epoch."""

    epochs: int
    batch_size: int
    patience: int = 10
    """Checks without a better quality before training stops."""
    check_every: int = 1
    """Epochs between two checks of the quality."""
    clip: float = 1.0
    """Largest gradient norm; 0: no clipping."""
    valid_users: int | None = None
    """Users that grade an epoch: None for all, else a seeded sample of that size. The record names it."""
    accumulate: int = 1
    """Batches to a step, which takes the mean of their gradients. Where an epoch ends within a step, the missing
    batches count as gradients of 0, as with Lightning and in ETEGRec's code."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "check_every", "valid_users", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"a budget has {name} {value}; expected at least 1")


Module = TypeVar("Module", bound=pl.LightningModule)


@runtime_checkable
class Fit(Protocol):
    """Trains one stage of a model; the harness injects it and owns seeds, Trainer, checkpoints and resume."""

    def __call__(
        self,
        stage: str,
        build: Callable[[], Module],
        budget: Budget,
        examples: Examples | None = None,
        quality: Callable[[Module], float] | None = None,
    ) -> Module:
        """The module that `build` makes, trained, at its best epoch.

        Args:
            stage: label from which the stage's seed is derived; `build` runs under that seed.
            build: makes the module; it must have a `config` attribute (a dataclass).
            budget: when to stop.
            examples: what an epoch goes through; the corpus's training pairs unless given.
            quality: larger is better; NDCG@10 on the validation part for a `Recommender` unless given, and for any
                other module the negative training loss.
        """
        ...


class Recommender(pl.LightningModule, ABC):
    """Ranks items for histories. Subclassed once, directly; it contains no evaluation line.

    Attributes:
        config: the frozen dataclass it was built from.
        history_length: the harness hands over at most the last so many items of a history.
    """

    config: Any
    history_length: int

    def __init_subclass__(cls) -> None:
        """What it is made from is remembered, so that an export can tell it."""
        super().__init_subclass__()
        remembers_construction(cls)

    @abstractmethod
    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        """The `k` best items for histories right-padded with 0. Ties: smaller item id first."""


@runtime_checkable
class Generator(Protocol):
    """What a recommender that generates code sequences has as its attribute `generator`: it can be ranked by other
    searches than its own, and anyone can check those against the scores of all items."""

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        """The `k` best items of all; certified where the search could finish."""
        ...

    def place(self, history: Int[Tensor, "B T"], k: int, target: Int[Tensor, "B"]) -> Ranking:
        """As `rank`, but to find the place of `target`: the list ends with it, or it holds `k` items that all come
        before it, not always the best of these; certified where that is proven."""
        ...

    def beam(self, history: Int[Tensor, "B T"], k: int, width: int, constrained: bool = True) -> Ranking:
        """The `k` best items that a beam finds; unless `constrained` to legal codes, item 0 where codes name none."""
        ...

    def score(self, history: Int[Tensor, "B T"], items: Int[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """Log-probabilities of items by teacher forcing, as in training."""
        ...

    def card(self) -> dict[str, Any]:
        """The code card: what the codes look like."""
        ...


def generator_of(recommender: Recommender) -> Generator | None:
    """What generates the recommender's code sequences; None for one that scores items otherwise.

    Raises:
        ValueError: it has some of a generator's methods, and would be taken for none.
    """
    found = getattr(recommender, "generator", None)
    parts = ("rank", "place", "beam", "score", "card")
    missing = [part for part in parts if not hasattr(found, part)]
    if 0 < len(missing) < len(parts):
        raise ValueError(
            f"{type(recommender).__name__}.generator has no {', '.join(missing)}; expected all of models.api.Generator"
        )
    return None if missing else found


@runtime_checkable
class HasItemVectors(Protocol):
    """A recommender whose item representations can serve another model as input."""

    def item_vectors(self) -> Float[Tensor, "I D"]:
        """One vector per item; row 0 is zero."""
        ...


@runtime_checkable
class Model(Protocol):
    """A module `models/<name>.py`."""

    Config: type
    SMALL: Any

    @staticmethod
    def train(config: Any, corpus: Corpus, fit: Fit) -> Recommender: ...


@runtime_checkable
class Tokenizing(Protocol):
    """A module `models/<name>.py` whose item codes are finished before the recommender is trained."""

    @staticmethod
    def tokenize(config: Any, corpus: Corpus, fit: Fit) -> ItemIndex:
        """The codes of all items."""
        ...


def whole_epochs(steps: int, corpus: Corpus, batch_size: int, examples: Examples | None = None) -> int:
    """So many steps over the training pairs, or over `examples`, rounded up to whole epochs."""
    pairs = len(corpus.examples("train") if examples is None else examples)
    if batch_size < 1:
        raise ValueError(f"a budget has batch_size {batch_size}; expected at least 1")
    if not pairs:
        raise ValueError(f"corpus {corpus.name} has no training pairs; expected at least one")
    return math.ceil(steps / math.ceil(pairs / batch_size))


def parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


__all__ = [
    "Batch",
    "Budget",
    "Corpus",
    "Examples",
    "Fit",
    "Generator",
    "HasItemVectors",
    "Model",
    "Ranking",
    "Recommender",
    "Tokenizing",
    "generator_of",
    "later",
    "parameters",
    "tuned",
    "whole_epochs",
]
