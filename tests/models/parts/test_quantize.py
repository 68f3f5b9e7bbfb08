"""Residual quantisation by hand, and k-means on clusters that leave no doubt."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from models.parts.quantize import ResidualQuantizer, kmeans, squared_distance


@pytest.fixture
def quantizer() -> ResidualQuantizer:
    made = ResidualQuantizer(levels=2, size=2, width=2, commitment=0.25)
    made.codebooks.data = torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[1.0, 0.5], [-1.0, 0.0]]])
    return made


# (5, 1): level 0 takes (4, 0), (1, 1) is left; level 1 takes (1, .5), (0, .5) is left.
# (.5, 0): level 0 takes (0, 0), (.5, 0) is left; level 1 takes (1, .5), (-.5, -.5) is left.
Z = [[5.0, 1.0], [0.5, 0.0]]


def test_codes_sums_and_logits_by_hand(quantizer: ResidualQuantizer) -> None:
    assert quantizer.sizes == (2, 2)
    found = quantizer(torch.tensor(Z))
    assert found.codes.tolist() == [[1, 0], [0, 0]]
    assert found.vector.tolist() == [[5.0, 0.5], [1.0, 0.5]]
    assert found.logits.tolist() == [[[-26.0, -2.0], [-0.25, -5.0]], [[-0.25, -12.25], [-0.5, -2.25]]]


def test_loss_and_its_gradients_by_hand(quantizer: ResidualQuantizer) -> None:
    z = torch.tensor(Z, requires_grad=True)
    loss = quantizer(z).loss
    # Left over, squared: 2 and .25 at level 0, .25 and .5 at level 1; averaged over two vectors, times 1 + .25.
    assert loss.item() == 1.25 * (1.125 + 0.375)
    loss.backward()
    # Codebooks: 2/B times (code vector - what it stands for). Code 0 of level 1 stands for both vectors.
    grad = quantizer.codebooks.grad
    assert grad is not None
    assert grad.tolist() == [[[-0.5, 0.0], [-1.0, -1.0]], [[0.5, 0.0], [0.0, 0.0]]]
    # Input: .25 * 2/B times what is left, over the levels: (1, 1) + (0, .5) and (.5, 0) + (-.5, -.5).
    assert z.grad is not None
    assert z.grad.tolist() == [[0.25, 0.375], [0.0, -0.125]]


def test_the_sum_is_straight_through(quantizer: ResidualQuantizer) -> None:
    z = torch.tensor(Z, requires_grad=True)
    weights = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    (quantizer(z).vector * weights).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, weights)
    assert quantizer.codebooks.grad is None


def test_squared_distance_is_the_distance_squared() -> None:
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(squared_distance(x, y), torch.cdist(x, y) ** 2)


def by_size(rows: Tensor) -> list[list[float]]:
    return sorted([[round(value, 3) + 0.0 for value in row] for row in rows.tolist()])


def test_kmeans_start_recovers_planted_centres() -> None:
    # Each level's centres lie around zero, so that those of the level before stay in place.
    levels = [
        [[-100.0, -100.0], [-100.0, 100.0], [100.0, -100.0], [100.0, 100.0]],
        [[-5.0, 0.0], [0.0, -3.0], [0.0, 3.0], [5.0, 0.0]],
        [[-0.25, -0.25], [-0.25, 0.25], [0.25, -0.25], [0.25, 0.25]],
    ]
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(levels=3, size=4, width=2)
    z = torch.tensor(list(product(*levels))).sum(1)
    quantizer.start_from(z, kmeans)
    assert [by_size(codebook) for codebook in quantizer.codebooks.detach()] == levels
    found = quantizer(z)
    torch.testing.assert_close(found.vector, z)
    assert len(found.codes.unique(dim=0)) == 64


def test_kmeans_follows_the_seed() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    centres = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        centres.append(kmeans(x, 9))
    assert torch.equal(centres[0], centres[1])
    assert not torch.allclose(centres[0], centres[2])


def test_fewer_vectors_than_codes() -> None:
    with pytest.raises(ValueError, match="7 item vectors cannot start a codebook of 8 codes"):
        ResidualQuantizer(1, 8, 2).start_from(torch.randn(7, 2), kmeans)
