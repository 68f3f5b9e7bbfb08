"""Padding changes nothing but time: a batch trains as wide as its own longest history, or as the model's longest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

import models
from benchmarks.fit import Fit
from data_prep.batches import Batches
from data_prep.corpus import Batch, Corpus, Examples
from models.api import Budget, Recommender
from tests.models.test_contract import reduced, with_vectors

M = TypeVar("M", bound=pl.LightningModule)


class Untrained:
    """A `Fit` that trains all but the recommender, and keeps what that one would have trained on."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.stages: list[tuple[Recommender, Examples]] = []

    def __call__(
        self,
        stage: str,
        build: Callable[[], M],
        budget: Budget,
        examples: Examples | None = None,
        quality: Callable[[M], float] | None = None,
    ) -> M:
        torch.manual_seed(0)
        module = build()
        if not isinstance(module, Recommender):
            return self.fit(stage, lambda: module, budget, examples, quality)
        self.stages.append((module, self.fit.corpus.examples("train") if examples is None else examples))
        return module


def loss_and_gradients(recommender: Recommender, batch: Batch) -> list[Tensor]:
    torch.manual_seed(0)  # for negatives, where a loss draws some
    loss = recommender.training_step(batch, 0)
    assert isinstance(loss, Tensor)
    weights = [weight for weight in recommender.parameters() if weight.requires_grad]
    return [loss, *torch.autograd.grad(loss, weights)]


@pytest.mark.parametrize("name", models.names())
def test_loss_and_gradients_do_not_depend_on_padding(name: str, tiny_corpus: Corpus, tmp_path: Path) -> None:
    module = models.load(name)
    config = reduced(module.SMALL)
    corpus = with_vectors(tiny_corpus, config, tmp_path)
    untrained = Untrained(Fit(corpus, 0, tmp_path / "fits", name))
    module.train(config, corpus, untrained)
    if not untrained.stages:
        pytest.skip(f"{name} trains on no histories")
    for recommender, examples in untrained.stages:
        recommender.eval()  # without dropout
        batches = list(Batches(examples, 24, recommender.history_length))
        # The shortest histories, and some of several lengths.
        for batch in (batches[0], batches[len(batches) // 2]):
            missing = recommender.history_length - batch.history.shape[1]
            assert missing > 0
            padded = batch._replace(history=F.pad(batch.history, (0, missing)))
            bucketed, full = (loss_and_gradients(recommender, one) for one in (batch, padded))
            assert all(float(gradient.detach().abs().max()) > 1e-4 for gradient in bucketed)
            for one, other in zip(bucketed, full, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
