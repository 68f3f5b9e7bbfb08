"""HGN: RecBole's scores, the gates one number at a time, and the loss of prefixes."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from models.hgn import Config, Hgn
from tests.factories import shaken
from tests.models.foreign import assert_scores_alike, foreign
from tests.models.test_sasrec import HISTORIES, ITEMS, TARGETS, batch

CONFIG = Config(width=8, history=7)


def made() -> Hgn:
    torch.manual_seed(0)
    model = Hgn(CONFIG, ITEMS)
    shaken(model)
    with torch.no_grad():
        model.item.weight[0] = 0
    return model


def test_scores_are_recboles() -> None:
    """Of whole histories, for it gates padding as well; all of one user, whose part in the gates is a bias here."""
    expected = foreign("hgn-recbole-1.2.1.npz")
    theirs = expected.weights
    user = theirs["user_embedding.weight"][1]
    model = Hgn(CONFIG, expected.scores.shape[1])
    model.load_state_dict(
        {
            "item.weight": theirs["item_embedding.weight"],
            "predicted.weight": theirs["item_embedding_for_prediction.weight"],
            "user": user,
            "feature_gate.weight": theirs["w1.weight"],
            "feature_gate.bias": theirs["w1.bias"] + theirs["w2.weight"] @ user + theirs["w2.bias"] + theirs["b"],
            "instance_gate.weight": theirs["w3.weight"],
            "place": theirs["w4.weight"] @ user,
        }
    )
    assert_scores_alike(model, expected)


@torch.no_grad()
def test_gates_by_hand() -> None:
    model = made()
    found = model.states(batch(7).history)
    width = range(CONFIG.width)
    weight, bias = model.feature_gate.weight.tolist(), model.feature_gate.bias.tolist()
    for state, history in zip(found, HISTORIES, strict=True):
        pooled, total, summed = [0.0] * CONFIG.width, 0.0, [0.0] * CONFIG.width
        for place, item in enumerate(history):
            e = model.item.weight[item].tolist()
            gates = [sigmoid(sum(weight[i][j] * e[j] for j in width) + bias[i]) for i in width]
            gated = [e[i] * gates[i] for i in width]
            instance = sum(model.instance_gate.weight[0, i].item() * gated[i] for i in width)
            score = sigmoid(instance + model.place[place].item())
            total += score
            pooled = [pooled[i] + score * gated[i] for i in width]
            summed = [summed[i] + e[i] for i in width]
        expected = [model.user[i].item() + pooled[i] / total + summed[i] for i in width]
        torch.testing.assert_close(state, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_loss_is_the_mean_over_samples() -> None:
    model = made()
    samples = []
    for history, target in zip(HISTORIES, TARGETS, strict=True):
        scores = model.states(torch.tensor([history])) @ model.predicted.weight[1:].T
        samples.append(F.cross_entropy(scores, torch.tensor([target - 1])))
    torch.testing.assert_close(model.training_step(batch(), 0), torch.stack(samples).mean())
