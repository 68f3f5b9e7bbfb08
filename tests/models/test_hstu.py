"""HSTU: a layer by loops, one pass over a user as a loop over prefixes, and ranking by the cosine."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from models.hstu import Config, Hstu, Layer
from tests.factories import shaken
from tests.models.test_contract import by_item, rank
from tests.models.test_sasrec import HISTORIES, ITEMS, POSITIONS, TARGETS, batch, padded

CONFIG = Config(width=8, layers=2, heads=2, dropout=0.0, history=7)


def made() -> Hstu:
    torch.manual_seed(0)
    model = Hstu(CONFIG, ITEMS, POSITIONS)
    return shaken(model)


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


def normed(x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((each - mean) ** 2 for each in x) / len(x) + 1e-6)
    return [(each - mean) / spread for each in x]


def by_loops(layer: Layer, rows: Tensor) -> list[list[float]]:
    """Eq. 1 to 3 for one history, one number at a time; heads of width 4."""
    x, weight, bias = rows.tolist(), layer.project.weight.tolist(), layer.bias.tolist()
    parts = [[silu(sum(w * n for w, n in zip(row, normed(each), strict=True))) for row in weight] for each in x]
    u, v, q, k = ([each[8 * part : 8 * part + 8] for each in parts] for part in range(4))
    made = []
    for i in range(len(x)):
        attended = [0.0] * 8
        for j in range(i + 1):
            for head in range(2):
                own = range(4 * head, 4 * head + 4)
                share = silu(sum(q[i][d] * k[j][d] for d in own) + bias[i - j]) / 7
                for d in own:
                    attended[d] += share * v[j][d]
        gated = [a * g for a, g in zip(normed(attended), u[i], strict=True)]
        merged = layer.merge(torch.tensor(gated)).tolist()
        made.append([a + b for a, b in zip(x[i], merged, strict=True)])
    return made


@torch.no_grad()
def test_a_layer_by_loops() -> None:
    layer = made().layers[0]
    assert isinstance(layer, Layer)
    x = torch.randn(3, 5, 8)
    for found, rows in zip(layer(x), x, strict=True):
        torch.testing.assert_close(found, torch.tensor(by_loops(layer, rows)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_states_are_of_items_and_positions_through_all_layers() -> None:
    model = made()
    for found, history in zip(model.states(padded(HISTORIES)), HISTORIES, strict=True):
        x = model.item.weight[history] * math.sqrt(8) + model.position.weight[: len(history)]
        for layer in model.layers:
            assert isinstance(layer, Layer)
            x = torch.tensor(by_loops(layer, x))
        expected = x / x.square().sum(1, keepdim=True).sqrt()
        torch.testing.assert_close(found[: len(history)], expected, atol=1e-4, rtol=1e-4)


def test_loss_is_a_loop_over_prefixes() -> None:
    model = made()
    items, samples = F.normalize(model.item.weight[1:], dim=1), []
    for history, target in zip(HISTORIES, TARGETS, strict=True):
        for end, following in enumerate([*history[1:], target], 1):
            state = model.states(torch.tensor([history[:end]]))[0, -1]
            samples.append(F.cross_entropy(items @ state / 0.05, torch.tensor(following - 1)))
    expected = torch.stack(samples).mean()
    loss = model.training_step(batch(), 0)
    torch.testing.assert_close(loss, expected)
    weights = list(model.parameters())
    for found, wanted in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_scores_are_cosines_over_the_temperature() -> None:
    model = made().eval()
    scores = by_item(rank(model, padded(HISTORIES), ITEMS), ITEMS)[:, 1:]
    for found, history in zip(scores, HISTORIES, strict=True):
        state = model.states(torch.tensor([history]))[0, -1]
        expected = F.cosine_similarity(state, model.item.weight[1:], dim=1) / 0.05
        torch.testing.assert_close(found, expected.detach(), atol=1e-4, rtol=1e-4)
