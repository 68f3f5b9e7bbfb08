"""Tokenizers' inputs against NumPy, residual k-means on planted centres, errors by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from data_prep.corpus import ItemVectors
from models.api import Budget, Corpus, Examples, Fit
from models.parts.rqvae import RqVae
from models.parts.tokenizer import (
    Inputs,
    Tokenized,
    TokenizerConfig,
    faithfulness,
    prepared,
    rq_kmeans,
    share_of_variance,
    suffixed,
    tokenized,
)

CLUSTERS = TokenizerConfig(method="rq-kmeans", levels=2, codes=4)
BUDGET = Budget(3, 8)
EVERY = torch.arange(1, 41)


def drawn(items: int = 40, width: int = 6) -> Tensor:
    """`[I, F]` vectors of unequal spreads around a mean that is not 0; row 0 is zero."""
    spread = torch.logspace(0, 1, width)
    vectors = torch.randn(items + 1, width, generator=torch.Generator().manual_seed(0)) * spread + 3
    vectors[0] = 0
    return vectors


def corpus_of(vectors: Tensor) -> Corpus:
    """Two users, who have the last item for their test alone; nobody has the two before it."""
    items = len(vectors) - 1
    flat = np.array([*range(1, items - 2), items, 1, 2, items], dtype=np.int32)
    chosen = ItemVectors(vectors.numpy(), "npz", "file.npz", "0" * 64, stand_in=False)
    names = [f"i{item}" for item in range(items)]
    return Corpus("hand", flat, np.array([0, items - 2, items + 1]), ["u0", "u1"], names, vectors=chosen)


def never(*given: Any, **also: Any) -> Any:
    raise AssertionError("clusters take no training")


class TestInputs:
    def test_as_given(self) -> None:
        vectors = drawn()
        inputs = prepared(vectors, TokenizerConfig(), EVERY)
        assert inputs.values is vectors
        assert torch.equal(inputs.restored(vectors[1:]), vectors[1:])

    def test_standardised(self) -> None:
        vectors = drawn()
        inputs = prepared(vectors, TokenizerConfig(inputs="standardised"), EVERY)
        x = vectors[1:].double().numpy()
        expected = (x - x.mean(0)) / x.std(0)
        np.testing.assert_allclose(inputs.values[1:], expected, atol=1e-5)
        assert not inputs.values[0].any()
        torch.testing.assert_close(inputs.restored(inputs.values[1:]), vectors[1:])

    def test_whitened(self) -> None:
        """Uncorrelated, of variance 1; what is restored is the projection on the first axes, as NumPy's SVD has it."""
        vectors = drawn() @ torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
        inputs = prepared(vectors, TokenizerConfig(inputs="whitened", components=3), EVERY)
        z = inputs.values[1:].double()
        torch.testing.assert_close(z.T @ z / 40, torch.eye(3, dtype=torch.double), atol=1e-4, rtol=0)
        x = vectors[1:].double().numpy()
        u, s, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
        projected = x.mean(0) + (u[:, :3] * s[:3]) @ axes[:3]
        np.testing.assert_allclose(inputs.restored(inputs.values[1:]), projected, atol=1e-3)
        assert not inputs.values[0].any()

    @pytest.mark.parametrize("kind", ["standardised", "whitened"])
    def test_a_direction_without_spread_stays_zero(self, kind: Any) -> None:
        vectors = drawn()
        vectors[1:, 2] = 7
        vectors[1:, 4] = vectors[1:, 3]
        inputs = prepared(vectors, TokenizerConfig(inputs=kind, components=6), EVERY)
        assert torch.isfinite(inputs.values).all()
        assert float(inputs.values.abs().max()) < 10
        torch.testing.assert_close(inputs.restored(inputs.values[1:]), vectors[1:], atol=1e-3, rtol=1e-4)

    def test_statistics_are_those_of_the_items_it_is_fitted_on(self) -> None:
        vectors, some = drawn(), torch.arange(1, 21)
        inputs = prepared(vectors, TokenizerConfig(inputs="standardised"), some)
        torch.testing.assert_close(inputs.values[some].mean(0), torch.zeros(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(inputs.restored(inputs.values[1:]), vectors[1:])

    def test_more_components_than_dimensions(self) -> None:
        with pytest.raises(ValueError, match="components is 7, but item vectors have 6 dimensions"):
            prepared(drawn(), TokenizerConfig(inputs="whitened", components=7), EVERY)


class TestResidualKmeans:
    # Four centres far apart, and around each the same four offsets.
    COARSE = ((-100.0, -100.0), (-100.0, 100.0), (100.0, -100.0), (100.0, 100.0))
    FINE = ((-5.0, 0.0), (0.0, -3.0), (0.0, 3.0), (5.0, 0.0))
    X = torch.tensor(list(product(COARSE, FINE))).sum(1)

    def test_planted_centres_are_found_and_the_rest_is_exact(self) -> None:
        codes, codebooks, reconstruction = rq_kmeans(self.X, torch.arange(16), CLUSTERS)
        torch.testing.assert_close(reconstruction, self.X)
        assert sorted(map(tuple, codebooks[0].round(decimals=3).tolist())) == sorted(self.COARSE)
        assert len(codes.unique(dim=0)) == 16
        assert (codes[:, 0].view(4, 4) == codes[::4, 0][:, None]).all()
        assert torch.equal(codebooks[0][codes[:, 0]] + codebooks[1][codes[:, 1]], reconstruction)

    def test_with_normalised_residuals_by_hand(self) -> None:
        """A level sees directions alone: (1, 0) and (3, 0) are one cluster of it, at mean length 2.5 of all four."""
        x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
        config = replace(CLUSTERS, levels=1, codes=2, normalised_residuals=True)
        codes, codebooks, reconstruction = rq_kmeans(x, torch.arange(4), config)
        assert codes[0] == codes[1] != codes[2] == codes[3]
        assert sorted(codebooks[0].tolist()) == [[0.0, 1.0], [1.0, 0.0]]
        assert reconstruction.tolist() == [[2.5, 0.0], [2.5, 0.0], [0.0, 2.5], [0.0, 2.5]]

    def test_lengths_of_later_levels_multiply(self) -> None:
        """Unit vectors c +- d around each of two centres: the second level clusters directions, scaled by |d|."""
        angle = torch.tensor([0.1, -0.1, 0.1 + torch.pi / 2, -0.1 + torch.pi / 2])
        x = 5 * torch.stack([angle.cos(), angle.sin()], 1)
        config = replace(CLUSTERS, levels=2, codes=2, normalised_residuals=True)
        codes, codebooks, reconstruction = rq_kmeans(x, torch.arange(4), config)
        centre = float(torch.tensor(0.1).cos())
        torch.testing.assert_close(codebooks[0].norm(dim=1), torch.full((2,), centre))
        # What the first level leaves has length sin(.1), times 5 of the first level.
        second = codebooks[1][codes[:, 1]] * 5 * float(torch.tensor(0.1).sin())
        torch.testing.assert_close(reconstruction, 5 * codebooks[0][codes[:, 0]] + second)

    def test_it_is_fitted_on_some_and_codes_all(self) -> None:
        codes, codebooks, _ = rq_kmeans(self.X, torch.arange(4), replace(CLUSTERS, levels=1))
        assert sorted(codebooks[0].tolist()) == sorted(self.X[:4].tolist())
        assert codes.shape == (16, 1)

    def test_seeds_of_a_row_share_the_codes_and_no_random_number_is_taken(self) -> None:
        x = drawn()[1:]
        torch.manual_seed(1)
        before = torch.get_rng_state()
        one = rq_kmeans(x, torch.arange(40), CLUSTERS).codes
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(rq_kmeans(x, torch.arange(40), CLUSTERS).codes, one)

    def test_a_vector_of_zeros_has_a_code(self) -> None:
        x = torch.cat([torch.zeros(1, 6), drawn()[1:]])
        codes, _, reconstruction = rq_kmeans(x, torch.arange(41), replace(CLUSTERS, normalised_residuals=True))
        assert torch.isfinite(reconstruction).all()
        assert 0 <= int(codes.min()) <= int(codes.max()) < 4

    def test_fewer_items_than_codes(self) -> None:
        with pytest.raises(ValueError, match="3 item vectors make no 4 clusters"):
            rq_kmeans(self.X, torch.arange(3), CLUSTERS)


class TestTokenized:
    def test_clusters_of_item_vectors(self) -> None:
        vectors = torch.cat([torch.zeros(1, 2), TestResidualKmeans.X])
        made = tokenized(CLUSTERS, BUDGET, corpus_of(vectors), cast(Fit, never))
        assert made.error == pytest.approx(0, abs=1e-9)
        index = made.indexed()
        assert index.sizes == (4, 4, 4)
        assert (index.card()["distinct_before"], index.card()["reconstruction_error"]) == (16, made.error)

    @pytest.mark.parametrize("kind", ["as-given", "standardised", "whitened"])
    @pytest.mark.parametrize("normalised", [False, True])
    def test_the_error_is_that_of_the_item_vectors(self, kind: Any, normalised: bool) -> None:
        vectors = drawn()
        config = replace(CLUSTERS, inputs=kind, components=4, normalised_residuals=normalised)
        made = tokenized(config, BUDGET, corpus_of(vectors), cast(Fit, never))
        inputs = prepared(vectors, config, EVERY)
        x = vectors[1:]
        rebuilt = inputs.restored(rq_kmeans(inputs.values[1:], EVERY - 1, config).reconstruction)
        assert made.error == pytest.approx(float(((x - rebuilt) ** 2).sum() / (x.var(0, unbiased=False) * 40).sum()))
        assert 0 < made.error < 1

    @pytest.mark.parametrize("fitted_on", ["items", "training-items"])
    def test_an_rqvae_is_trained_on_what_it_is_fitted_on(self, fitted_on: Any) -> None:
        """Of 40 items nobody has 38 and 39, and 40 occurs in tests alone."""
        stages: list[tuple[str, Budget, list[int]]] = []

        def untrained(stage: str, build: Any, budget: Budget, examples: Examples, quality: Any) -> RqVae:
            assert quality is faithfulness
            stages.append((stage, budget, examples.target.tolist()))
            torch.manual_seed(0)
            module: RqVae = build()
            return module

        config = TokenizerConfig(hidden=(8,), width=4, levels=2, codes=4, inputs="standardised", fitted_on=fitted_on)
        vectors = drawn()
        made = tokenized(config, BUDGET, corpus_of(vectors), cast(Fit, untrained))
        # The item before a user's last is validation.
        known = [*range(1, 41)] if fitted_on == "items" else [*range(1, 37)]
        assert stages == [("tokenizer", BUDGET, known)]
        torch.manual_seed(0)
        items = torch.tensor(known)
        inputs = prepared(vectors, config, items)
        module = RqVae(config, inputs.values, items)
        codes, reconstruction = module.encoded()
        assert torch.equal(made.codes, codes)
        assert torch.equal(made.codebooks, module.quantizer.codebooks)
        assert made.error == pytest.approx(share_of_variance(vectors[1:], inputs.restored(reconstruction)))

    def test_a_code_is_as_wide_as_what_is_quantised(self) -> None:
        assert TokenizerConfig(width=32).code_width(256) == 32
        assert TokenizerConfig(method="rq-kmeans").code_width(256) == 256
        assert TokenizerConfig(method="rq-kmeans", inputs="whitened", components=64).code_width(256) == 64
        assert TokenizerConfig(width=32, inputs="whitened", components=64).code_width(256) == 32


def test_share_of_variance_by_hand() -> None:
    """Around the mean (1, 2) the squared lengths are 5 and 5; errors of 1 and 1.5 squared."""
    x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    assert share_of_variance(x, x + torch.tensor([[0.0, 1.0], [1.5, 0.0]])) == pytest.approx(3.25 / 10)
    assert share_of_variance(x, x.mean(0).expand(2, 2)) == pytest.approx(1.0)
    assert share_of_variance(x[:1], x[:1]) == 0.0
    # Three tenths are no binary number: their mean is another one.
    for equal in (torch.full((5, 8), 0.3), torch.full((1_000, 8), 0.3)):
        assert share_of_variance(equal, equal + 0.1) == 0.0
    one_ulp = torch.full((1_000, 8), 0.3)
    one_ulp[0, 0] = one_ulp[0, 0].nextafter(torch.tensor(1.0))
    assert share_of_variance(one_ulp, one_ulp + 1e-7) == 0.0
    narrow = 1 + 1e-5 * torch.randn(12_101, 8, generator=torch.Generator().manual_seed(0))
    assert share_of_variance(narrow, torch.zeros_like(narrow)) > 1


def test_a_look_is_chosen_by_what_the_codes_reconstruct() -> None:
    """Latents ten times as far apart, and codes with them, reconstruct the same, though the loss is another."""
    torch.manual_seed(0)
    vectors = drawn()
    vectors[0] = 100  # padding counts nothing
    module = RqVae(TokenizerConfig(hidden=(8,), width=4, levels=2, codes=4), vectors)
    found, loss = faithfulness(module), module.loss(EVERY, *module(EVERY)).item()
    assert found == pytest.approx(1 - share_of_variance(vectors[1:], module(EVERY)[1].detach()))
    with torch.no_grad():
        for weight in (module.encoder[2].weight, module.encoder[2].bias, module.quantizer.codebooks):
            cast(Tensor, weight).mul_(10)
        cast(Tensor, module.decoder[0].weight).div_(10)
    assert faithfulness(module) == pytest.approx(found, abs=1e-4)
    assert module.loss(EVERY, *module(EVERY)).item() > loss + 1


def test_the_suffix_tells_items_of_equal_codes_apart() -> None:
    index = suffixed(torch.tensor([[1, 0], [0, 0], [1, 0]]), 2, 0.5)
    assert index.codes[1:, 0].tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert index.sizes == (2, 2, 2)
    card = index.card()
    assert (card["distinct_before"], card["duplicates_before"], card["duplicates_after"]) == (
        2,
        pytest.approx(2 / 3),
        0,
    )
    made = Tokenized(torch.tensor([[1, 0], [0, 0], [1, 0]]), torch.zeros(2, 2, 3), 0.5)
    assert made.indexed().card() == card


def test_restored_is_affine() -> None:
    inputs = Inputs(torch.zeros(2, 1), torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 0.0]]))
    assert inputs.restored(torch.tensor([[2.0]])).tolist() == [[7.0, 2.0]]
