"""The tokenizer on planted clusters, and its loss against a loop over items and levels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data_prep.corpus import Batch
from models.parts.rqvae import RqVae, RqVaeConfig, mlp

CONFIG = RqVaeConfig(hidden=(16,), width=4, levels=2, codes=4, optimizer="adamw", lr=5e-3)


def planted(clusters: int = 4, each: int = 8) -> Tensor:
    """`[I, 6]` vectors close to `clusters` orthogonal centres; item i is of cluster (i - 1) // each."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(6)[:clusters].repeat_interleave(each, 0) * 3
    noise = torch.randn(centres.shape, generator=generator) * 0.1
    return torch.cat([torch.zeros(1, 6), centres + noise])


def batch(items: int) -> Batch:
    return Batch(torch.arange(items), torch.zeros(items, 0, dtype=torch.long), torch.arange(1, items + 1))


def trained(module: RqVae, steps: int) -> list[float]:
    optimizer, losses = module.configure_optimizers(), []
    for _ in range(steps):
        loss = module.training_step(batch(len(module.vectors) - 1), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, optimizer="adagrad", lr=0.05)])
def test_training_learns_planted_clusters(config: RqVaeConfig) -> None:
    torch.manual_seed(0)
    module = RqVae(config, planted())
    losses = trained(module, 150)
    # The vectors' squared length is 9: a tokenizer that ignored its input would stay at 3/4 of it.
    assert losses[-1] < 0.2 * losses[0]
    assert losses[-1] < 1.0
    first = module.item_codes()[:, 0].view(4, 8)
    assert (first == first[:, :1]).all()
    assert len(first[:, 0].unique()) == 4


def test_loss_is_a_loop_over_items_and_levels() -> None:
    torch.manual_seed(0)
    module = RqVae(CONFIG, planted())
    trained(module, 5)  # codebooks away from the k-means centres
    total = torch.zeros(())
    for vector in module.vectors[1:]:
        residual = module.encoder(vector)
        summed = torch.zeros(4)
        for codebook in module.quantizer.codebooks:
            nearest = codebook[int((codebook - residual).square().sum(1).argmin())]
            residual, summed = residual - nearest, summed + nearest
            total = total + 1.25 * residual.square().sum()
        total = total + (vector - module.decoder(summed)).square().sum()
    torch.testing.assert_close(module.training_step(batch(32), 0), total / 32)


def test_the_encoder_learns_through_the_codes() -> None:
    """Without commitment only the straight-through gradient of the reconstruction reaches the encoder."""
    torch.manual_seed(0)
    module = RqVae(replace(CONFIG, commitment=0.0), planted())
    module.training_step(batch(32), 0).backward()
    without = [name for name, weight in module.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_identical_vectors_have_identical_codes() -> None:
    torch.manual_seed(0)
    vectors = torch.cat([torch.zeros(1, 6), torch.randn(20, 6)])
    vectors[[7, 13]] = vectors[2].clone()
    codes = RqVae(CONFIG, vectors).item_codes()
    assert codes.shape == (20, 2)
    assert codes[6].tolist() == codes[12].tolist() == codes[1].tolist()
    assert len(codes.unique(dim=0)) > 1


def test_kmeans_starts_from_items_and_not_from_padding() -> None:
    torch.manual_seed(0)
    vectors = torch.cat([torch.zeros(1, 6), torch.randn(6, 6)])
    module = RqVae(replace(CONFIG, levels=1, codes=6, kmeans_items=6), vectors)
    # As many codes as items: each item's latent is a code vector of its own.
    assert sorted(module.item_codes()[:, 0].tolist()) == list(range(6))
    torch.testing.assert_close(module(torch.arange(1, 7))[0].vector, module.encoder(vectors[1:]))


def test_fewer_items_than_codes() -> None:
    with pytest.raises(ValueError, match="3 item vectors cannot start a codebook of 4 codes"):
        RqVae(CONFIG, torch.randn(4, 6))


def test_codes_travel_with_the_weights() -> None:
    torch.manual_seed(0)
    source = RqVae(CONFIG, planted())
    trained(source, 3)
    copy = RqVae(CONFIG, torch.randn(33, 6))
    assert not torch.equal(copy.item_codes(), source.item_codes())
    copy.load_state_dict(source.state_dict())
    assert torch.equal(copy.item_codes(), source.item_codes())


def test_mlp_has_no_relu_at_its_end() -> None:
    assert [type(layer).__name__ for layer in mlp((5, 4, 3, 2))] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
