"""FDSA: RecBole's scores, one pass over a user as a loop over prefixes, and corpora without categories."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from data_prep.corpus import Corpus
from models.fdsa import Config, Fdsa, train
from tests.factories import no_fit
from tests.models.foreign import assert_scores_alike, foreign, with_recboles_blocks
from tests.models.test_sasrec import HISTORIES, ITEMS, POSITIONS, TARGETS, batch

CONFIG = Config(width=8, inner=12, layers=1, heads=2, dropout=0.0, history=7)
NAMES = {
    "item_embedding": "item",
    "position_embedding": "position",
    "feature_embed_layer.token_seq_embedding_table.item.0": "feature",
    "item_trm_encoder.layer": "item_blocks.layers",
    "feature_trm_encoder.layer": "feature_blocks.layers",
    "LayerNorm": "norm",
    "concat_layer": "merge",
}


def test_scores_are_recboles() -> None:
    expected = foreign("fdsa-recbole-1.2.1.npz")
    model = Fdsa(CONFIG, expected.weights.pop("categories"), 1.0)
    # Of the one feature that there is, its attention over features changes nothing.
    theirs = {name: weight for name, weight in expected.weights.items() if "feature_att_layer" not in name}
    model.load_state_dict(with_recboles_blocks(theirs, NAMES))
    assert_scores_alike(model, expected)


def test_loss_is_a_loop_over_prefixes() -> None:
    torch.manual_seed(0)
    model = Fdsa(CONFIG, torch.arange(ITEMS + 1)[:, None] % 4, POSITIONS)
    samples = []
    for history, target in zip(HISTORIES, TARGETS, strict=True):
        for end, following in enumerate([*history[1:], target], 1):
            state = model.states(torch.tensor([history[:end]]))[0, -1]
            samples.append(F.cross_entropy(state @ model.item.weight[1:].T, torch.tensor(following - 1)))
    expected = torch.stack(samples).mean()
    loss = model.training_step(batch(), 0)
    torch.testing.assert_close(loss, expected)
    weights = list(model.parameters())
    for found, wanted in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_an_item_without_categories_has_the_feature_zero() -> None:
    model = Fdsa(CONFIG, torch.tensor([[0, 0], [1, 2], [0, 0], [2, 0]]), 1.0)
    rows = model.feature.weight
    expected = torch.stack([(rows[1] + rows[2]) / 2, torch.zeros(8), rows[2]])
    torch.testing.assert_close(model.feature(model.categories[1:]), expected)


def test_a_corpus_without_categories_is_refused(tiny_corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="corpus tiny has no item categories; expected item metadata"):
        train(CONFIG, replace(tiny_corpus, item_categories=None), no_fit)
