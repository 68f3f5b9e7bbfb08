"""Padding changes nothing but time: a batch trains as wide as its own longest history, or as the model's longest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import models
from benchmarks.training.fit import Fit
from data_prep.batches import Batches
from data_prep.corpus import Batch, Corpus
from models.api import Recommender
from tests.models.test_contract import Untrained, given, reduced


def loss_and_gradients(recommender: Recommender, batch: Batch) -> list[Tensor]:
    torch.manual_seed(0)  # for negatives, where a loss draws some
    loss = recommender.training_step(batch, 0)
    assert isinstance(loss, Tensor)
    weights = [weight for weight in recommender.parameters() if weight.requires_grad]
    return [loss, *torch.autograd.grad(loss, weights)]


@pytest.mark.parametrize("name", models.names())
def test_loss_and_gradients_do_not_depend_on_padding(name: str, tiny_corpus: Corpus, tmp_path: Path) -> None:
    module, fit = models.load(name), Fit(tiny_corpus, 0, tmp_path / "fits", name)
    config = reduced(module.SMALL)
    corpus = given(name, config, fit)
    torch.manual_seed(0)
    untrained = Untrained(fit)
    module.train(config, corpus, untrained)
    if not untrained.stages:
        pytest.skip(f"{name} trains on no histories")
    for recommender, examples in untrained.stages:
        recommender.eval()  # without dropout
        pairs = corpus.examples("train") if examples is None else examples
        batches = list(Batches(pairs, 24, recommender.history_length))
        # The shortest histories, and some of several lengths.
        for batch in (batches[0], batches[len(batches) // 2]):
            missing = recommender.history_length - batch.history.shape[1]
            assert missing > 0
            padded = batch._replace(history=F.pad(batch.history, (0, missing)))
            bucketed, full = (loss_and_gradients(recommender, one) for one in (batch, padded))
            for one, other in zip(bucketed, full, strict=True):
                # A loss may weigh some of its terms, and so their gradients, very little.
                size = one.detach().abs().max()
                assert size > 0
                torch.testing.assert_close(one / size, other / size, rtol=1e-4, atol=1e-6)
