"""GRU4Rec: RecBole's scores, and one pass over a user as a loop over prefixes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from models.gru4rec import Config, Gru4Rec
from tests.models.foreign import assert_scores_alike, foreign, renamed
from tests.models.test_sasrec import HISTORIES, ITEMS, POSITIONS, TARGETS, batch

CONFIG = Config(width=8, hidden=6, dropout=0.0, history=7)


def test_scores_are_recboles() -> None:
    expected = foreign("gru4rec-recbole-1.2.1.npz")
    model = Gru4Rec(CONFIG, expected.scores.shape[1], 1.0)
    model.load_state_dict(renamed(expected.weights, {"item_embedding": "item", "gru_layers": "gru", "dense": "output"}))
    assert_scores_alike(model, expected)


def test_loss_is_a_loop_over_prefixes() -> None:
    torch.manual_seed(0)
    model = Gru4Rec(CONFIG, ITEMS, POSITIONS)
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


def test_dropout_is_on_what_the_gru_reads() -> None:
    torch.manual_seed(0)
    model = Gru4Rec(Config(width=8, hidden=6, dropout=0.9), ITEMS, POSITIONS)
    history = torch.tensor([[3, 1, 4]])
    some = torch.stack([model.states(history)[0, -1] for _ in range(20)])
    assert (some.std(0) > 0).all()
    torch.testing.assert_close(model.eval().states(history), model.states(history))
