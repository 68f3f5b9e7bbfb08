"""k-means of bounded sizes against a reference for assignments, and on clusters that leave no doubt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from models.parts.constrained import assigned, constrained_kmeans


def cost(x: Tensor, centres: Tensor) -> np.ndarray:
    """Plain distances, not squared: of these the library's flow is the minimum."""
    return torch.cdist(x.double(), centres.double()).numpy()


def cheapest(distance: np.ndarray, smallest: int, largest: int) -> float:
    """Total cost of the best assignment: a cluster is `smallest` places that must be taken and others that may be."""
    must, may = np.repeat(distance, smallest, 1), np.repeat(distance, largest - smallest, 1)
    large = 1e4
    rows, columns = linear_sum_assignment(np.hstack([must - large, may]))
    assert (columns < must.shape[1]).sum() == must.shape[1]
    return float(np.hstack([must, may])[rows, columns].sum())


@pytest.mark.parametrize(
    ("count", "clusters", "smallest", "largest"),
    [(30, 4, 5, 10), (30, 3, 10, 10), (31, 4, 7, 8), (24, 5, 0, 6), (25, 2, 1, 24), (40, 8, 3, 40)],
)
def test_sizes_are_in_bounds_and_the_assignment_is_the_cheapest(
    count: int, clusters: int, smallest: int, largest: int
) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        x = torch.randn(count, 3) * torch.tensor([3.0, 1.0, 1.0])
        x[: count // 2] *= 0.1  # a crowd, which plain k-means would leave together
        centres, labels = constrained_kmeans(x, clusters, smallest, largest)
        sizes = labels.bincount(minlength=clusters)
        assert labels.shape == (count,)
        assert labels.dtype == torch.long
        assert sizes.shape == centres.shape[:1] == (clusters,)
        assert smallest <= int(sizes.min()) <= int(sizes.max()) <= largest
        distance = cost(x, centres)
        found, best = distance[np.arange(count), labels].sum(), cheapest(distance, smallest, largest)
        assert found == pytest.approx(best)
        assert found < 0.9 * distance.mean() * count


def test_more_restarts_cluster_no_worse_and_mostly_better() -> None:
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))

    def total(seed: int, restarts: int) -> float:
        torch.manual_seed(seed)
        centres, labels = constrained_kmeans(x, 6, 3, 12, restarts)
        return float((x - centres[labels]).square().sum())

    gains = [total(seed, 1) - total(seed, 8) for seed in range(6)]
    assert min(gains) >= 0
    assert sum(gain > 0 for gain in gains) > 3


@pytest.mark.parametrize(("smallest", "largest"), [(4, 9), (0, 2), (5, 4)])
def test_sizes_that_no_clustering_has(smallest: int, largest: int) -> None:
    with pytest.raises(ValueError, match=f"10 vectors make no 3 clusters of {smallest} to {largest} members"):
        constrained_kmeans(torch.randn(10, 2), 3, smallest, largest)


def test_constrained_clusters_that_leave_no_doubt() -> None:
    """Crowds of 6 and 5 and a pair: at least 3 to a cluster, so that the nearest of a crowd joins the pair."""
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5]])
    crowd = torch.cat([square, torch.tensor([[3.0, 0.5]])])
    x = torch.cat([crowd, square - 100, torch.tensor([[20.0, 0.0], [20.0, 1.0]])])
    torch.manual_seed(0)
    centres, labels = constrained_kmeans(x, 3, 3, 10, restarts=5)
    groups = {tuple((labels == cluster).nonzero().flatten().tolist()) for cluster in range(3)}
    assert groups == {(0, 1, 2, 3, 4), (5, 11, 12), (6, 7, 8, 9, 10)}
    for cluster in range(3):
        torch.testing.assert_close(centres[cluster], x[labels == cluster].mean(0))


def test_constrained_kmeans_follows_the_seed() -> None:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    found: list[Tensor] = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        np.random.seed(len(found))  # numpy's own state has no say
        found.append(constrained_kmeans(x, 6, 5, 15).centres)
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


@pytest.mark.parametrize(("smallest", "largest"), [(0, 40), (9, 11), (10, 10), (0, 10), (3, 200)])
def test_an_assignment_from_which_much_has_to_move(smallest: int, largest: int) -> None:
    """Nearly all vectors are nearest to one of 20 clusters; some are as far from two, and some places are equal."""
    random = np.random.default_rng(0)
    distance = np.abs(random.normal(5, 1, (200, 20))).round(1)
    distance[:, 3] -= 4.5
    distance = np.abs(distance)
    labels = assigned(distance, smallest, largest)
    sizes = np.bincount(labels, minlength=20)
    assert smallest <= sizes.min() <= sizes.max() <= largest
    assert distance[np.arange(200), labels].sum() == pytest.approx(cheapest(distance, smallest, largest))


def test_vectors_that_are_all_equal() -> None:
    centres, labels = constrained_kmeans(torch.ones(12, 3), 4, 2, 4)
    assert labels.bincount(minlength=4).min() >= 2
    assert torch.equal(centres, torch.ones(4, 3))
