"""The tokenizer on planted clusters, and its loss against a loop over items and levels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data_prep.corpus import Batch
from models.parts.rqvae import RqVae, RqVaeConfig, mlp, unique_code_share

CONFIG = RqVaeConfig(hidden=(16,), width=4, levels=2, codes=4, optimizer="adamw", lr=5e-3)


def planted(clusters: int = 4, each: int = 8) -> Tensor:
    """`[I, 6]` vectors close to `clusters` orthogonal centres; item i is of cluster (i - 1) // each."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(6)[:clusters].repeat_interleave(each, 0) * 3
    noise = torch.randn(centres.shape, generator=generator) * 0.1
    return torch.cat([torch.zeros(1, 6), centres + noise])


@pytest.mark.parametrize(("levels", "moves"), [("all", True), ("first", False)])
def test_later_levels_move_the_encoder_only_where_asked(levels: Literal["all", "first"], moves: bool) -> None:
    torch.manual_seed(1)
    module = RqVae(replace(CONFIG, residual_gradient=levels), planted())
    weights = list(module.encoder.parameters())
    quantized, _ = module(torch.arange(1, 33))
    first = module.encoder(module.vectors[1:]) - module.quantizer.codebooks[0, quantized.codes[:, 0]].detach()
    by_first = torch.autograd.grad(0.25 * first.square().sum(1).mean(), weights, retain_graph=True)
    by_all = torch.autograd.grad(quantized.loss, weights)
    largest = max(float((one - other).abs().max()) for one, other in zip(by_all, by_first, strict=True))
    assert max(float(gradient.abs().max()) for gradient in by_first) > 1e-3
    assert largest > 1e-4 if moves else largest < 1e-7


def test_tiger_and_decor_have_the_formula_of_the_papers() -> None:
    assert RqVaeConfig().residual_gradient == "all"


def batch(items: int) -> Batch:
    return Batch(torch.arange(items), torch.zeros(items, 0, dtype=torch.long), torch.arange(1, items + 1))


def train(module: pl.LightningModule, steps: int, items: int = 32) -> None:
    """So many steps, each over all items."""
    trainer = pl.Trainer(
        max_epochs=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader([batch(items)], batch_size=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, optimizer="adagrad", lr=0.05),
        replace(CONFIG, lr=1e-2, schedule="linear", warmup=10),
    ],
)
def test_training_learns_planted_clusters(config: RqVaeConfig) -> None:
    torch.manual_seed(1)
    module = RqVae(config, planted())
    before = module.training_step(batch(32), 0).item()
    train(module, 150)
    after = module.training_step(batch(32), 0).item()
    # The vectors' squared length is 9: a tokenizer that ignored its input would stay at 3/4 of it.
    assert after < 0.2 * before
    assert after < 1.0
    first = module.item_codes()[:, 0].view(4, 8)
    assert (first == first[:, :1]).all()
    assert len(first[:, 0].unique()) == 4


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_loss_is_a_loop_over_items_and_levels(reduction: Literal["sum", "mean"]) -> None:
    torch.manual_seed(0)
    module = RqVae(replace(CONFIG, reduction=reduction), planted())
    train(module, 5)  # codebooks away from the k-means centres
    errors, quantisation = [], []
    for vector in module.vectors[1:]:
        residual = module.encoder(vector)
        summed = torch.zeros(4)
        for codebook in module.quantizer.codebooks:
            nearest = codebook[int((codebook - residual).square().sum(1).argmin())]
            residual, summed = residual - nearest, summed + nearest
            quantisation.append(1.25 * residual.square())
        errors.append((vector - module.decoder(summed)).square())
    error, rest = torch.stack(errors), torch.stack(quantisation)
    expected = error.mean() + rest.mean() if reduction == "mean" else (error.sum() + rest.sum()) / 32
    assert error.mean() > 1e-3
    assert rest.mean() > 1e-3
    torch.testing.assert_close(module.training_step(batch(32), 0), expected)


def test_means_and_sums_by_hand() -> None:
    """A reconstruction off by (1, 0, 0, 0, 0, 2) and (0, 0, 0, 0, 0, 1), a quantisation loss of 8."""
    found = {}
    for reduction in ("sum", "mean"):
        torch.manual_seed(0)
        module = RqVae(replace(CONFIG, reduction=reduction), planted())
        item = torch.tensor([1, 9])
        quantized = module.quantizer(module.encoder(module.vectors[item]))._replace(loss=torch.tensor(8.0))
        off = torch.tensor([[1.0, 0, 0, 0, 0, 2.0], [0, 0, 0, 0, 0, 1.0]])
        found[reduction] = module.loss(item, quantized, module.vectors[item] + off).item()
    # Squared errors 5 and 1 of two items; six dimensions of a vector, two levels of four of a latent.
    assert found == pytest.approx({"sum": 3 + 8, "mean": 6 / 12 + 8 / 8})


def test_xavier_weights_are_normal_of_its_variance_and_biases_zero() -> None:
    torch.manual_seed(0)
    first, _, second = mlp((300, 200, 100), "xavier")
    for layer, (inputs, outputs) in ((first, (300, 200)), (second, (200, 100))):
        assert isinstance(layer, nn.Linear)
        assert not layer.bias.any()
        deviation = (2 / (inputs + outputs)) ** 0.5
        assert float(layer.weight.detach().std()) == pytest.approx(deviation, rel=0.02)
        # A uniform draw of this variance would end at 1.73 deviations.
        assert float((layer.weight.abs() > 2 * deviation).float().mean()) == pytest.approx(0.0455, abs=0.005)
    plain = mlp((300, 200))[0]
    assert isinstance(plain, nn.Linear)
    assert plain.bias.any()
    assert float(plain.weight.detach().abs().max()) <= 300**-0.5


def test_an_rqvae_starts_as_its_config_says() -> None:
    torch.manual_seed(0)
    module = RqVae(replace(CONFIG, start="xavier"), planted())
    biases = [weight for name, weight in module.named_parameters() if name.endswith("bias")]
    assert len(biases) == 4
    assert not any(bias.any() for bias in biases)


class Named(NamedTuple):
    """A tokenizer that gives these codes."""

    codes: list[list[int]]

    def item_codes(self) -> Tensor:
        return torch.tensor(self.codes)


def test_unique_code_share_is_the_share_of_items_with_codes_of_their_own() -> None:
    assert unique_code_share(Named([[0, 1], [1, 1], [0, 1], [2, 0], [0, 1]])) == pytest.approx(0.4)
    assert unique_code_share(Named([[0, 1], [1, 0]])) == 1.0
    assert unique_code_share(Named([[0, 1], [0, 1]])) == 0.0


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (replace(CONFIG, lr=0.1, schedule="linear", warmup=2), [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]),
        (replace(CONFIG, lr=0.1), [0.1] * 6),
        (replace(CONFIG, lr=0.1, optimizer="adagrad", schedule="linear", warmup=2), [0.1] * 6),
    ],
)
def test_the_schedule_is_adamws(config: RqVaeConfig, rates: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = RqVae(config, planted())
    found: list[float] = []
    loss = module.loss

    def noted(*args: Any) -> Tensor:
        found.extend(optimizer.param_groups[0]["lr"] for optimizer in module.trainer.optimizers)
        return loss(*args)

    monkeypatch.setattr(module, "loss", noted)
    train(module, 6)
    assert found == pytest.approx(rates)


def test_adagrad_starts_from_accumulators_of_a_tenth() -> None:
    """As JAX's and TensorFlow's: the first step is lr g / sqrt(.1 + g^2), far below lr where the gradient is small."""
    torch.manual_seed(0)
    module = RqVae(replace(CONFIG, optimizer="adagrad", lr=0.4), planted())
    module.training_step(batch(32), 0).backward()
    books, before = module.quantizer.codebooks, module.quantizer.codebooks.detach().clone()
    assert books.grad is not None
    gradient = books.grad.clone()
    module.configure_optimizers().step()
    torch.testing.assert_close(books.detach(), before - 0.4 * gradient / (0.1 + gradient.square()).sqrt())


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    module = RqVae(replace(CONFIG, dropout=0.5), planted())
    assert [type(layer).__name__ for layer in module.encoder] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in module.decoder] == ["Linear", "ReLU", "Dropout", "Linear"]
    plain = RqVae(CONFIG, planted())
    weights = [{k.replace(".3.", ".2."): v for k, v in module.state_dict().items()}, plain.state_dict()]
    assert weights[0].keys() == weights[1].keys()
    plain.load_state_dict(weights[0])
    assert module.training
    codes, reconstruction = module.encoded()
    assert module.training, "a look changes nothing"
    assert torch.equal(codes, plain.item_codes())
    assert torch.equal(reconstruction, plain.encoded()[1])
    everything = torch.arange(1, 33)
    assert not torch.equal(module(everything)[1], module(everything)[1])
    # k-means started without dropout: each of the four clusters' centres is a latent's own neighbourhood.
    assert len(codes[:, 0].unique()) == 4


def test_kmeans_samples_the_items_it_is_given() -> None:
    torch.manual_seed(0)
    vectors = torch.cat([torch.zeros(1, 6), torch.randn(9, 6)])
    items = torch.tensor([2, 3, 5, 7])
    module = RqVae(replace(CONFIG, levels=1), vectors, items)
    torch.testing.assert_close(module(items)[0].vector, module.encoder(vectors[items]))


def test_bf16_around_it_changes_no_code() -> None:
    torch.manual_seed(0)
    vectors = torch.cat([torch.zeros(1, 24), torch.randn(500, 24)])
    module = RqVae(RqVaeConfig(hidden=(32,), width=8, levels=3, codes=64), vectors).eval()
    everything = torch.arange(1, 501)
    codes, reconstruction = module.encoded()
    with torch.autocast("cpu", torch.bfloat16):
        inside, rebuilt = module(everything)
        assert module.encoder(vectors[1:]).dtype == torch.bfloat16, "else this test shows nothing"
        loss = module.training_step(batch(500), 0)
    assert torch.equal(inside.codes, codes)
    assert torch.equal(rebuilt, reconstruction)
    assert torch.equal(loss, module.training_step(batch(500), 0))


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
    train(source, 3)
    copy = RqVae(CONFIG, planted())
    assert "vectors" not in source.state_dict()
    assert not torch.equal(copy.item_codes(), source.item_codes())
    copy.load_state_dict(source.state_dict())
    assert torch.equal(copy.item_codes(), source.item_codes())


def test_mlp_has_no_relu_at_its_end() -> None:
    assert [type(layer).__name__ for layer in mlp((5, 4, 3, 2))] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]


def test_kmeans_starts_from_latents_without_dropout() -> None:
    books = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        books.append(RqVae(replace(CONFIG, dropout=dropout), planted()).quantizer.codebooks)
    assert torch.equal(*books)


def test_adagrads_decay_is_a_part_of_the_gradient() -> None:
    torch.manual_seed(0)
    module = RqVae(replace(CONFIG, optimizer="adagrad", lr=0.4, weight_decay=0.25), planted())
    module.training_step(batch(32), 0).backward()
    books, before = module.quantizer.codebooks, module.quantizer.codebooks.detach().clone()
    assert books.grad is not None
    gradient = books.grad + 0.25 * before
    module.configure_optimizers().step()
    torch.testing.assert_close(books.detach(), before - 0.4 * gradient / (0.1 + gradient.square()).sqrt())


def test_kmeans_starts_from_so_many_items() -> None:
    """Four latents make four clusters of one each."""
    torch.manual_seed(0)
    module = RqVae(replace(CONFIG, levels=1, kmeans_items=4), planted())
    distance = torch.cdist(module.quantizer.codebooks[0].detach(), module.encoder(module.vectors[1:]).detach())
    assert distance.amin(1).tolist() == pytest.approx([0] * 4, abs=1e-5)
