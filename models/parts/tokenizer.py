"""Item vectors -> codes: the tokenizers among which TIGER and DECOR choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.api import Budget, Corpus, Count, Fit
from models.parts.index import ItemIndex, with_suffix
from models.parts.quantize import kmeans, squared_distance
from models.parts.rqvae import OF_RQVAE, RqVae, RqVaeConfig

# An axis along which vectors spread less than this part of the widest carries rounding, no signal.
NARROWEST = 1e-6


@dataclass(frozen=True)
class TokenizerConfig(RqVaeConfig):
    """An RQ-VAE, or k-means of item vectors, which of the fields above reads `levels` and `codes` alone."""

    method: Literal["rqvae", "rq-kmeans"] = "rqvae"
    """The paper: an RQ-VAE. `rq-kmeans`: each level clusters what the levels before it left of the item vectors."""
    normalised_residuals: bool = False
    """Of `rq-kmeans`: what a level clusters has unit length, as in GRID."""
    inputs: Literal["as-given", "standardised", "whitened"] = "as-given"
    """`standardised`: item vectors with mean 0 and variance 1 in every dimension. `whitened`: in every one of their
    first principal components."""
    components: Count = 128
    """Principal components of `whitened`."""
    fitted_on: Literal["items", "training-items"] = "items"
    """What the tokenizer learns from: all items (the paper), or those that occur in training (genrec)."""

    def __post_init__(self) -> None:
        if self.method == "rqvae":
            self.check_start()

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        of_method = OF_RQVAE if self.method == "rq-kmeans" else ("normalised_residuals", *super().unread)
        return of_method if self.inputs == "whitened" else (*of_method, "components")

    def code_width(self, vector_width: int) -> int:
        """Of the code vectors, where item vectors have such a width."""
        clustered = self.components if self.inputs == "whitened" else vector_width
        return clustered if self.method == "rq-kmeans" else self.width


class Tokenized(NamedTuple):
    """
    Attributes:
        codes: of items 1..N.
        codebooks: vectors of the codes, in the tokenizer's own space.
        error: `share_of_variance` that the codes fail to reconstruct.
    """

    codes: Int[Tensor, "N L"]
    codebooks: Float[Tensor, "L V D"]
    error: float

    def indexed(self) -> ItemIndex:
        return suffixed(self.codes, self.codebooks.shape[1], self.error)


def tokenized(config: TokenizerConfig, budget: Budget, corpus: Corpus, fit: Fit) -> Tokenized:
    """The items' codes; an RQ-VAE is trained as the stage `tokenizer`."""
    vectors, examples = torch.from_numpy(corpus.item_vectors()), corpus.examples("items")
    if config.fitted_on == "training-items":
        examples = examples.take(corpus.training_counts()[1:].nonzero()[0])
    items = torch.from_numpy(examples.target).long()
    inputs = prepared(vectors, config, items)
    if config.method == "rq-kmeans":
        codes, codebooks, reconstruction = rq_kmeans(inputs.values[1:], items - 1, config)
    else:
        tokenizer = fit("tokenizer", lambda: RqVae(config, inputs.values, items), budget, examples, faithfulness)
        codes, reconstruction = tokenizer.encoded()
        codebooks = tokenizer.quantizer.codebooks.detach()
    return Tokenized(codes, codebooks, share_of_variance(vectors[1:], inputs.restored(reconstruction)))


def faithfulness(tokenizer: RqVae) -> float:
    """Share of the inputs' variance that the codes reconstruct, by which a look at a training is chosen. The loss would
    choose early ones: it counts distances from latents to codes, too, which grow as the latents spread.
    """
    return 1.0 - share_of_variance(tokenizer.vectors[1:], tokenizer.encoded()[1])


def suffixed(codes: Int[Tensor, "N L"], size: int, error: float | None = None) -> ItemIndex:
    """The index of codes from books of one size, with TIGER's suffix code from another."""
    return ItemIndex(with_suffix(codes, size), (size,) * (codes.shape[1] + 1), codes, reconstruction_error=error)


class Inputs(NamedTuple):
    """What a tokenizer reads, and the way back: an item vector is about `mean + values @ back`.

    Attributes:
        values: row 0 (padding) is zero.
    """

    values: Float[Tensor, "I E"]
    mean: Float[Tensor, "F"]
    back: Float[Tensor, "E F"]

    def restored(self, values: Float[Tensor, "N E"]) -> Float[Tensor, "N F"]:
        return self.mean + values @ self.back


def prepared(vectors: Float[Tensor, "I F"], config: TokenizerConfig, items: Int[Tensor, "M"]) -> Inputs:
    """Item vectors as the tokenizer reads them; mean, variance and axes are those of `items`.

    Raises:
        ValueError: more principal components than dimensions.
    """
    width = vectors.shape[1]
    if config.inputs == "as-given":
        return Inputs(vectors, vectors.new_zeros(width), torch.eye(width))
    known = vectors[items].double()
    mean = known.mean(0)
    if config.inputs == "standardised":
        spread, axes = known.std(0, unbiased=False), torch.eye(width, dtype=known.dtype)
    elif config.components > width:
        raise ValueError(f"option components is {config.components}, but item vectors have {width} dimensions")
    else:
        variance, axes = torch.linalg.eigh((known - mean).T @ (known - mean) / len(known))
        spread, axes = variance.clamp(min=0).sqrt()[-config.components :], axes[:, -config.components :]
    scale = torch.where(spread > NARROWEST * spread.max(), 1 / spread, 0.0)
    values = (vectors.double() - mean) @ axes * scale
    values[0] = 0
    return Inputs(values.float(), mean.float(), (spread[:, None] * axes.T).float())


class Clustered(NamedTuple):
    """Attributes: codes; codebooks, the centres of each level; reconstruction, what these make of the vectors."""

    codes: Int[Tensor, "N L"]
    codebooks: Float[Tensor, "L V E"]
    reconstruction: Float[Tensor, "N E"]


def rq_kmeans(x: Float[Tensor, "N E"], rows: Int[Tensor, "M"], config: TokenizerConfig) -> Clustered:
    """Residual k-means, fitted on `rows`.

    The lengths that normalised residuals had are in no code: a reconstruction takes their means. The clusters have a
    seed of their own, so that the seeds of a row share their codes.

    Raises:
        ValueError: fewer rows than codes.
    """
    if len(rows) < config.codes:
        raise ValueError(f"{len(rows)} item vectors make no {config.codes} clusters (option tokenizer.codes)")
    residual, total, scale = x, torch.zeros_like(x), 1.0
    codes, codebooks = [], []
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for _ in range(config.levels):
            if config.normalised_residuals:
                length = residual.norm(dim=1, keepdim=True)
                residual = residual / length.clamp(min=torch.finfo(x.dtype).tiny)
                scale = scale * float(length.mean())
            centres = kmeans(residual[rows], config.codes)
            code = squared_distance(residual, centres).argmin(1)
            total, residual = total + scale * centres[code], residual - centres[code]
            codes.append(code)
            codebooks.append(centres)
    return Clustered(torch.stack(codes, 1), torch.stack(codebooks), total)


def share_of_variance(x: Float[Tensor, "N F"], reconstruction: Float[Tensor, "N F"]) -> float:
    """Squared error of a reconstruction over that of the mean; 0 also where nothing varies."""
    variance, rounding = (x - x.mean(0)).square().sum(), torch.finfo(x.dtype).eps ** 2 * x.square().sum()
    # Equal vectors differ from their mean by rounding.
    if variance <= rounding or (x == x[:1]).all():
        return 0.0
    return float((x - reconstruction).square().sum() / variance)
