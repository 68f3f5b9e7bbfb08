"""CoST: its contrastive loss against a loop, whom it moves, and planted clusters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from data_prep.corpus import Examples, ItemVectors
from models.api import Budget, Fit
from models.cost import Config, CostTokenizer, TokenizerConfig, contrast, tokenize
from models.parts.rqvae import unique_code_share
from tests.factories import corpus_of
from tests.models.parts.test_rqvae import batch, planted, train

CONFIG = TokenizerConfig(hidden=(16,), width=4, levels=2, codes=4, lr=5e-3)


def made(seed: int = 0, **options: Any) -> CostTokenizer:
    torch.manual_seed(seed)
    return CostTokenizer(replace(CONFIG, **options), planted())


def by_loop(reconstruction: Tensor, vectors: Tensor, temperature: float) -> float:
    def similar(i: int, j: int) -> float:
        return float(torch.cosine_similarity(vectors[i], reconstruction[j], dim=0)) / temperature

    rows = range(len(vectors))
    return sum(math.log(sum(math.exp(similar(i, j)) for j in rows)) - similar(i, i) for i in rows) / len(vectors)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrast_is_the_formula(temperature: float) -> None:
    reconstruction, vectors = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    found = contrast(vectors, reconstruction, temperature)
    assert float(found) == pytest.approx(by_loop(reconstruction, vectors, temperature), rel=1e-5)
    # The lengths of vectors mean nothing.
    torch.testing.assert_close(contrast(vectors / 2, 3 * reconstruction, temperature), found)


@pytest.mark.parametrize("reconstruction", [0.0, 0.5])
def test_the_loss_has_three_parts(reconstruction: float) -> None:
    tokenizer, items = made(reconstruction=reconstruction), torch.arange(1, 33)
    quantized, decoded = tokenizer.rqvae(items)
    vectors = tokenizer.rqvae.vectors[items]
    error = float((decoded - vectors).square().sum(1).mean())
    expected = 0.1 * by_loop(decoded.detach(), vectors, 0.1) + float(quantized.loss) + reconstruction * error
    assert float(tokenizer.training_step(batch(32), 0)) == pytest.approx(expected, rel=1e-5)


def test_the_contrast_moves_encoder_and_decoder_but_no_codebook() -> None:
    tokenizer, items = made(), torch.arange(1, 33)
    _, decoded = tokenizer.rqvae(items)
    contrast(tokenizer.rqvae.vectors[items], decoded, 0.1).backward()
    for side in (tokenizer.rqvae.encoder, tokenizer.rqvae.decoder):
        assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in side.parameters())
    assert tokenizer.rqvae.quantizer.codebooks.grad is None


def test_planted_clusters_are_kept_apart_and_named_again() -> None:
    """Items of a cluster have its first code, those of no two clusters the same codes, and reconstructions lie nearest
    to vectors of their own cluster."""
    tokenizer = made(contrast=1.0)
    before = float(tokenizer.training_step(batch(32), 0))
    train(tokenizer, 150)
    assert float(tokenizer.training_step(batch(32), 0)) < before - 0.5
    codes = tokenizer.item_codes()
    first = codes[:, 0].view(4, 8)
    assert (first == first[:, :1]).all()
    # Where two clusters start alike, which processors differ in, the next codes tell them apart.
    of_clusters = [{tuple(row) for row in cluster} for cluster in codes.view(4, 8, -1).tolist()]
    assert len(set[tuple[int, ...]]().union(*of_clusters)) == sum(map(len, of_clusters))
    _, decoded = tokenizer.rqvae(torch.arange(1, 33))
    nearest = torch.cosine_similarity(decoded[:, None], tokenizer.rqvae.vectors[None, 1:], dim=2).argmax(1)
    assert torch.equal(nearest // 8, torch.arange(32) // 8)


def test_a_look_is_chosen_by_how_many_items_it_tells_apart() -> None:
    values = planted().numpy()
    corpus = replace(
        corpus_of([list(range(1, 33))], 32), vectors=ItemVectors(values, "npz", "file.npz", "0" * 64, stand_in=False)
    )
    asked: list[tuple[str, Budget, Examples | None, object]] = []

    def untrained(stage: str, build: Callable[[], Any], budget: Budget, examples: Any, quality: Any) -> Any:
        asked.append((stage, budget, examples, quality))
        return build()

    config = Config(tokenizer=replace(CONFIG, codes=16), tokenizer_epochs=7, tokenizer_batch=5, tokenizer_check=2)
    torch.manual_seed(0)
    index = tokenize(config, corpus, cast(Fit, untrained))
    ((stage, budget, examples, quality),) = asked
    assert (stage, budget, quality) == ("tokenizer", Budget(7, 5, patience=7, check_every=2), unique_code_share)
    assert examples is not None
    assert examples.target.tolist() == list(range(1, 33))
    assert index.sizes == (16, 16, 16)
    assert len(index.codes[1:, 0].unique(dim=0)) == 32
    assert index.card()["reconstruction_error"] is None
