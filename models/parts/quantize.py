"""Residual quantisation: a vector as a sum of one code vector per level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor, nn

from models.parts.precision import in_float32
from models.parts.processes import all_gather_rows, local_rows

# exp(-2 / epsilon) is a number above 0 from here on.
SMALLEST_EPSILON = 0.003
# Of Sinkhorn's algorithm, as LETTER's code has them.
ITERATIONS = 50

ResidualGradient = Literal["all", "first"]
"""Levels whose residual leads back to the input. `all`: as the formula of the loss is written. `first`: the code of
ETEGRec and LETTER subtracts each level's straight-through output, and what is left has no gradient."""


class Quantized(NamedTuple):
    """
    Attributes:
        codes: `[B, L]` the chosen code of each level.
        vector: `[B, D]` their sum, with a straight-through gradient to the input.
        logits: `[B, L, V]` minus the squared distances of each level's residual to its code vectors.
        loss: codebook and commitment loss, summed over levels and dimensions, averaged over the batch.
    """

    codes: Int[Tensor, "B L"]
    vector: Float[Tensor, "B D"]
    logits: Float[Tensor, "B L V"]
    loss: Float[Tensor, ""]


class ResidualQuantizer(nn.Module):
    """`L` codebooks of `V` vectors; each level quantises what the levels before it left over.

    With `epsilon` above 0 the last level's codes are, in training, those of the Sinkhorn assignment, which uses all
    codes of a batch evenly (LETTER).
    """

    def __init__(
        self,
        levels: int,
        size: int,
        width: int,
        commitment: float = 0.25,
        epsilon: float = 0.0,
        residual_gradient: ResidualGradient = "all",
    ) -> None:
        super().__init__()
        self.commitment, self.epsilon, self.residual_gradient = commitment, epsilon, residual_gradient
        self.codebooks = nn.Parameter(torch.randn(levels, size, width) * width**-0.5)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.codebooks.shape[1],) * self.codebooks.shape[0]

    @in_float32
    def forward(self, z: Float[Tensor, "B D"]) -> Quantized:
        residual, codes, chosen, logits = z, [], [], []
        loss = z.new_zeros(())
        for level, codebook in enumerate(self.codebooks):
            distance = squared_distance(residual, codebook)
            evenly = self.training and self.epsilon > 0 and level == len(self.codebooks) - 1
            if evenly:
                # The assignment is over the batch of all processes, of which each keeps the codes of its rows.
                code = local_rows(sinkhorn(all_gather_rows(distance.detach()), self.epsilon))
            else:
                code = distance.argmin(1)
            vector = codebook[code]
            # sum over levels of |sg(r) - e|^2 + beta |r - sg(e)|^2
            loss = loss + (residual.detach() - vector).square().sum(1).mean()
            loss = loss + self.commitment * (residual - vector.detach()).square().sum(1).mean()
            codes.append(code)
            chosen.append(vector)
            logits.append(-distance)
            residual = residual - vector.detach()
            if self.residual_gradient == "first":
                residual = residual.detach()
        total = torch.stack(chosen).sum(0)
        through = z + (total - z).detach()
        return Quantized(torch.stack(codes, 1), through, torch.stack(logits, 1), loss)

    @torch.no_grad()
    def start_from(self, z: Float[Tensor, "B D"], cluster: Clustering) -> None:
        """Sets each codebook to the centres that `cluster` finds of what is left of `z` at its level.

        Raises:
            ValueError: fewer vectors than codes.
        """
        if len(z) < self.codebooks.shape[1]:
            raise ValueError(
                f"{len(z)} item vectors cannot start a codebook of {self.codebooks.shape[1]} codes; expected fewer "
                "codes, or more items (options tokenizer.codes, tokenizer.kmeans_items)"
            )
        residual = z
        for codebook in self.codebooks:
            codebook.copy_(cluster(residual, len(codebook)))
            residual = residual - codebook[squared_distance(residual, codebook).argmin(1)]


Clustering = Callable[[Float[Tensor, "B D"], int], Float[Tensor, "V D"]]
"""Vectors and a number of clusters -> their centres."""


def squared_distance(x: Float[Tensor, "B D"], y: Float[Tensor, "V D"]) -> Float[Tensor, "B V"]:
    return torch.addmm(y.square().sum(1), x, y.T, alpha=-2) + x.square().sum(1, keepdim=True)


def kmeans(x: Float[Tensor, "B D"], clusters: int) -> Float[Tensor, "V D"]:
    """Lloyd's k-means (scikit-learn, one k-means++ start, at most 100 iterations), seeded from torch's generator."""
    seed = int(torch.randint(2**31 - 1, ()))
    points = x.detach().float().cpu().numpy().astype(np.float64)
    fitted = KMeans(clusters, n_init=1, max_iter=100, random_state=seed).fit(points)
    return torch.from_numpy(fitted.cluster_centers_).to(x)


@torch.no_grad()
def sinkhorn(distance: Float[Tensor, "B V"], epsilon: float) -> Int[Tensor, "B"]:
    """Codes of a batch by optimal transport with entropy: all codes are given about the same mass (LETTER's code).

    Distances are scaled to [-1, 1] over the batch; the kernel is exp(-distance / epsilon).

    Raises:
        ValueError: `epsilon` is so small that the kernel of a far code would be zero.
    """
    if epsilon < SMALLEST_EPSILON:
        raise ValueError(f"epsilon of the Sinkhorn assignment is {epsilon}; expected at least {SMALLEST_EPSILON}")
    exact = distance.double()
    low, high = exact.min(), exact.max()
    scaled = 2 * (exact - low) / (high - low).clamp(min=torch.finfo(exact.dtype).tiny)
    # The nearest code of each row gets the kernel 1: a factor per row changes no plan, and no row can vanish.
    kernel = (-(scaled - scaled.amin(1, keepdim=True)) / epsilon).exp()
    column = exact.new_ones(exact.shape[1])
    for _ in range(ITERATIONS):
        row = 1 / (kernel @ column)
        column = len(exact) / exact.shape[1] / (kernel.T @ row).clamp(min=torch.finfo(exact.dtype).tiny)
    plan = kernel * column
    # A row that has several codes to itself gives all of them the same; rounding must not choose among them.
    best = plan >= plan.amax(1, keepdim=True) * (1 - 1e-9)
    return exact.masked_fill(~best, torch.inf).argmin(1)
