"""k-means whose clusters have bounded sizes (Bradley, Bennett & Demiriz, 2000), with which LETTER's code starts its
codebooks and groups their codes."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics import euclidean_distances
from torch import Tensor

# Of Lloyd's algorithm, as LETTER's code has them.
ITERATIONS = 10
# Distances are counted in so many parts of the largest: sums are then exact, and ties are ties.
PARTS = 1 << 30
# More than any chain of moves costs; twice it is still a number.
NO_WAY = 1 << 61


class Clusters(NamedTuple):
    """Attributes: centres `[V, D]`; labels `[B]`, the cluster of each vector."""

    centres: Float[Tensor, "V D"]
    labels: Int[Tensor, "B"]


def constrained_kmeans(
    x: Float[Tensor, "B D"], clusters: int, smallest: int, largest: int, restarts: int = 1
) -> Clusters:
    """k-means whose clusters all have `smallest` to `largest` members: no assignment to its centres of such sizes is
    nearer in sum. The best of `restarts`; seeded from torch's generator.

    Raises:
        ValueError: no clustering has such sizes.
    """
    if not clusters * smallest <= len(x) <= clusters * largest:
        raise ValueError(f"{len(x)} vectors make no {clusters} clusters of {smallest} to {largest} members")
    points = x.detach().double().cpu().numpy()
    random = np.random.RandomState(int(torch.randint(2**31 - 1, ())))
    found = [_clustered(points, clusters, smallest, largest, random) for _ in range(restarts)]
    centres, labels, _ = min(found, key=lambda clustered: clustered.inertia)
    return Clusters(torch.from_numpy(centres).to(x), torch.from_numpy(labels).to(x.device))


class _Clustered(NamedTuple):
    centres: NDArray[np.float64]
    labels: NDArray[np.int64]
    inertia: float


def _clustered(
    points: NDArray[np.float64], clusters: int, smallest: int, largest: int, random: np.random.RandomState
) -> _Clustered:
    """Lloyd's algorithm from one k-means++ start."""
    centres, _ = kmeans_plusplus(points, clusters, random_state=random)
    labels = assigned(euclidean_distances(points, centres), smallest, largest)
    for _ in range(ITERATIONS):
        members = np.bincount(labels, minlength=clusters)[:, None]
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, points)
        centres = np.where(members > 0, sums / np.maximum(members, 1), centres)
        before, labels = labels, assigned(euclidean_distances(points, centres), smallest, largest)
        if np.array_equal(before, labels):
            break
    return _Clustered(centres, labels, float(np.square(points - centres[labels]).sum()))


def assigned(distance: NDArray[np.float64], smallest: int, largest: int) -> NDArray[np.int64]:
    """`[B]` clusters of `smallest` to `largest` members whose distances `[B, V]` have the least sum.

    Every vector starts in its nearest cluster. Then one vector at a time goes where one is missing, by the cheapest
    chain of moves from cluster to cluster (successive shortest paths), and no cheaper assignment is left.
    """
    return _Assignment(distance, smallest, largest).settled()


class _Assignment:
    """A flow from vectors through clusters to an outside, `outside` among the clusters' numbers: it takes `smallest` to
    `largest` vectors from each cluster, so that one with too many may hand on to one that has room."""

    def __init__(self, distance: NDArray[np.float64], smallest: int, largest: int) -> None:
        self.cost = np.rint(distance / max(float(distance.max()), 1e-30) * PARTS).astype(np.int64)
        self.smallest, self.largest, self.outside = smallest, largest, distance.shape[1]
        self.labels = self.cost.argmin(1)
        sizes = np.bincount(self.labels, minlength=self.outside)
        self.taken = sizes.clip(smallest, largest)
        # Vectors that a node has too many, or, below 0, that it lacks; in sum 0.
        self.excess = np.append(sizes - self.taken, self.taken.sum() - len(distance))
        self.step = np.full((self.outside + 1, self.outside + 1), NO_WAY)
        self.mover = np.zeros((self.outside, self.outside), np.int64)
        for cluster in range(self.outside):
            self._price(cluster)

    def settled(self) -> NDArray[np.int64]:
        """The optimal labels: moves vectors until no cluster, nor the outside, has too many."""
        while (self.excess > 0).any():
            self._move(self._cheapest_chain())
        return self.labels

    def _price(self, cluster: int) -> None:
        """Updates the cost of the cheapest move from a cluster to each other node, and the vector that it moves."""
        members = np.flatnonzero(self.labels == cluster)
        self.step[cluster, : self.outside] = NO_WAY
        if len(members):
            more = self.cost[members] - self.cost[members, cluster][:, None]
            self.step[cluster, : self.outside] = more.min(0)
            self.mover[cluster] = members[more.argmin(0)]
        self.step[cluster, self.outside] = 0 if self.taken[cluster] < self.largest else NO_WAY
        self.step[self.outside, cluster] = 0 if self.taken[cluster] > self.smallest else NO_WAY

    def _cheapest_chain(self) -> list[int]:
        """Nodes from one with too many vectors to one that lacks some (Bellman-Ford)."""
        far, before = np.where(self.excess > 0, 0, NO_WAY), np.full(self.outside + 1, -1)
        while True:
            through = far[:, None] + self.step
            nearer = through.min(0) < far
            if not nearer.any():
                break
            before[nearer] = through.argmin(0)[nearer]
            far[nearer] = through.min(0)[nearer]
        chain = [int(np.where(self.excess < 0, far, NO_WAY).argmin())]
        while before[chain[0]] >= 0:
            chain.insert(0, int(before[chain[0]]))
        return chain

    def _move(self, chain: list[int]) -> None:
        for here, there in itertools.pairwise(chain):
            if there == self.outside:
                self.taken[here] += 1
            elif here == self.outside:
                self.taken[there] -= 1
            else:
                self.labels[self.mover[here, there]] = there
        self.excess[chain[0]] -= 1
        self.excess[chain[-1]] += 1
        for node in chain:
            if node != self.outside:
                self._price(node)
