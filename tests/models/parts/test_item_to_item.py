"""I2I: its loss by hand, what it learns of planted pairs; RQ-k-means on planted clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.api import Batch
from models.parts.item_to_item import ItemToItem, ItemToItemConfig, nearness, rq_kmeans

CONFIG = ItemToItemConfig(hidden=(8,), width=4, temperature=0.5)


def made(items: int = 9) -> ItemToItem:
    torch.manual_seed(0)
    return ItemToItem(CONFIG, torch.cat([torch.zeros(1, 6), torch.randn(items, 6)]))


def test_the_loss_by_hand() -> None:
    """Rows 0 and 1 are of one user, 0 and 2 have one target, 1 and 3 one anchor: no negatives of each other. Nor is the
    anchor of row 2, which is the target of row 3."""
    model = made()
    user, anchor, target = [0, 0, 1, 2], [1, 3, 6, 3], [2, 5, 2, 6]
    found = model.training_step(Batch(*map(torch.tensor, (user, [[item] for item in anchor], target))), 0)
    one, other = (
        F.normalize(model.encoder(model.vectors[items]), dim=1).detach().numpy() for items in (anchor, target)
    )
    cosine = one @ other.T / 0.5
    related = {(0, 1), (1, 0), (0, 2), (2, 0), (1, 3), (3, 1)}
    expected = 0.0
    for logits, left_out in ((cosine, {*related, (2, 3)}), (cosine.T, {*related, (3, 2)})):
        for row in range(4):
            others = [column for column in range(4) if (row, column) not in left_out]
            expected -= (logits[row, row] - np.log(np.exp(logits[row, others]).sum())) / 4
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_an_anchor_is_any_item_of_the_window_and_no_padding() -> None:
    model = made()
    assert model.history_length == CONFIG.window == 3
    batch = Batch(torch.tensor([0, 1]), torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([8, 9]))
    losses = {round(model.training_step(batch, 0).item(), 5) for _ in range(60)}
    alone = [
        round(model.training_step(batch._replace(history=torch.tensor([[item], [4]])), 0).item(), 5)
        for item in (1, 2, 3)
    ]
    assert losses == set(alone)


def test_items_that_follow_one_another_become_alike() -> None:
    torch.manual_seed(0)
    vectors = torch.cat([torch.zeros(1, 16), torch.eye(16)[:12]])
    model = ItemToItem(ItemToItemConfig(hidden=(32,), width=8), vectors)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    # 1 and 2 follow one another, 3 and 4 do, …
    first = torch.arange(1, 13, 2)
    for step in range(60):
        anchor, target = (first, first + 1) if step % 2 else (first + 1, first)
        optimizer.zero_grad()
        model.training_step(Batch(torch.arange(6), anchor[:, None], target), 0).backward()
        optimizer.step()
    found = F.normalize(model.item_vectors()[1:], dim=1)
    cosine = found @ found.T - 2 * torch.eye(12)
    assert (cosine.argmax(1) + 1).tolist() == [2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11]


def clusters() -> tuple[torch.Tensor, torch.Tensor]:
    """Four far groups of three near ones of five points."""
    generator = torch.Generator().manual_seed(0)
    far = torch.tensor([[30.0, 0.0], [-30.0, 0.0], [0.0, 30.0], [0.0, -30.0]]).repeat_interleave(15, 0)
    near = torch.tensor([[3.0, 3.0], [-3.0, 3.0], [0.0, -3.0]]).repeat_interleave(5, 0).repeat(4, 1)
    return far + near + torch.randn(60, 2, generator=generator) * 0.05, torch.arange(60)


@pytest.mark.parametrize("balanced", [True, False])
def test_residual_clusters_are_found(balanced: bool) -> None:
    x, item = clusters()
    first, second = (
        rq_kmeans(x, 1, 4, balanced, seed=0)[:, 0],
        rq_kmeans(x - x.view(4, 15, 2).mean(1).repeat_interleave(15, 0), 1, 3, balanced, seed=0)[:, 0],
    )
    assert len(set(zip(first.tolist(), (item // 15).tolist(), strict=True))) == 4
    assert len(set(zip(second.tolist(), (item % 15 // 5).tolist(), strict=True))) == 3


def test_a_level_quantises_what_the_one_before_left_over() -> None:
    x, _ = clusters()
    codes = rq_kmeans(x, 2, 4, False, seed=3)
    centres = torch.stack([x[codes[:, 0] == code].mean(0) for code in range(4)])
    residual = x - centres[codes[:, 0]]
    second = torch.stack([residual[codes[:, 1] == code].mean(0) for code in range(4)])
    nearest = torch.cdist(residual, second).argmin(1)
    assert torch.equal(nearest, codes[:, 1])
    assert torch.equal(torch.cdist(x, centres).argmin(1), codes[:, 0])


def test_balanced_clusters_are_of_equal_sizes() -> None:
    torch.manual_seed(0)
    codes = rq_kmeans(torch.randn(50, 3), 3, 8, True, seed=0)
    for level in codes.T:
        assert set(level.bincount(minlength=8).tolist()) <= {6, 7}


def test_the_seed_decides_alone_and_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(5)
    x, state = torch.randn(60, 4), torch.get_rng_state()
    found = rq_kmeans(x, 2, 8, False, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(rq_kmeans(x, 2, 8, False, seed=1), found)
    assert not torch.equal(rq_kmeans(x, 2, 8, False, seed=2), found)


def test_nearness_by_hand() -> None:
    """Level 1 has the means (0, 1) and (10, 0); they leave (0, -1), (0, 1), (-2, 0) and (2, 0)."""
    x = torch.tensor([[0.0, 0.0], [0.0, 2.0], [8.0, 0.0], [12.0, 0.0]])
    found = nearness(x, torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), 3)
    # Level 2: (-1, -.5) and (1, .5); the third code has no items, and stays at the origin.
    expected = [[-1.25, -3.25, -1], [-3.25, -1.25, -1], [-1.25, -9.25, -4], [-9.25, -1.25, -4]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_an_item_is_nearest_to_the_code_that_k_means_gave_it() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    codes = rq_kmeans(x, 2, 8, False, seed=1)
    assert (nearness(x, codes, 8).argmax(1) == codes[:, -1]).float().mean() > 0.95
