"""Residual quantisation: a vector as a sum of one code vector per level."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor, nn


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
    """`L` codebooks of `V` vectors; each level quantises what the levels before it left over."""

    def __init__(self, levels: int, size: int, width: int, commitment: float = 0.25) -> None:
        super().__init__()
        self.commitment = commitment
        self.codebooks = nn.Parameter(torch.randn(levels, size, width) * width**-0.5)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.codebooks.shape[1],) * self.codebooks.shape[0]

    def forward(self, z: Float[Tensor, "B D"]) -> Quantized:
        residual, codes, chosen, logits = z, [], [], []
        loss = z.new_zeros(())
        for codebook in self.codebooks:
            distance = squared_distance(residual, codebook)
            code = distance.argmin(1)
            vector = codebook[code]
            # sum over levels of |sg(r) - e|^2 + beta |r - sg(e)|^2
            loss = loss + (residual.detach() - vector).square().sum(1).mean()
            loss = loss + self.commitment * (residual - vector.detach()).square().sum(1).mean()
            residual = residual - vector.detach()
            codes.append(code)
            chosen.append(vector)
            logits.append(-distance)
        total = torch.stack(chosen).sum(0)
        through = z + (total - z).detach()
        return Quantized(torch.stack(codes, 1), through, torch.stack(logits, 1), loss)

    @torch.no_grad()
    def start_from_kmeans(self, z: Float[Tensor, "B D"]) -> None:
        """Sets each codebook to the k-means centres of what is left of `z` at its level.

        Raises:
            ValueError: fewer vectors than codes.
        """
        if len(z) < self.codebooks.shape[1]:
            raise ValueError(f"{len(z)} item vectors cannot start a codebook of {self.codebooks.shape[1]} codes")
        residual = z
        for codebook in self.codebooks:
            codebook.copy_(kmeans(residual, len(codebook)))
            residual = residual - codebook[squared_distance(residual, codebook).argmin(1)]


def squared_distance(x: Float[Tensor, "B D"], y: Float[Tensor, "V D"]) -> Float[Tensor, "B V"]:
    return x.square().sum(1, keepdim=True) - 2 * x @ y.T + y.square().sum(1)


def kmeans(x: Float[Tensor, "B D"], clusters: int) -> Float[Tensor, "V D"]:
    """Lloyd's k-means (scikit-learn, one k-means++ start, at most 100 iterations), seeded from torch's generator."""
    seed = int(torch.randint(2**31 - 1, ()))
    points = x.detach().float().cpu().numpy().astype(np.float64)
    fitted = KMeans(clusters, n_init=1, max_iter=100, random_state=seed).fit(points)
    return torch.from_numpy(fitted.cluster_centers_).to(x)
