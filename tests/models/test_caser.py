"""Caser: RecBole's scores, images cut to their histories, and the loss with its norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.caser import Caser, Config
from tests.factories import shaken
from tests.models.foreign import Foreign, assert_scores_alike, foreign, renamed
from tests.models.test_sasrec import HISTORIES, ITEMS, TARGETS, batch, padded

CONFIG = Config(width=8, horizontal=2, vertical=3, dropout=0.0, history=7)


def recboles() -> Foreign:
    return foreign("caser-recbole-1.2.1.npz")


def like_recboles(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Ours reads an image without its one channel, and its last layer has no users."""
    parts = {"item_embedding": "item", "conv_v": "vertical", "conv_h": "horizontal", "fc1": "hidden", "fc2": "output"}
    state = renamed(weights, parts)
    for name, weight in state.items():
        if name == "vertical.weight":
            state[name] = weight.flatten(1)
        elif name.startswith("horizontal") and name.endswith("weight"):
            state[name] = weight.squeeze(1).mT
    return state | {"output.weight": state["output.weight"][:, : CONFIG.width]}


def test_scores_are_recboles() -> None:
    expected = recboles()
    model = Caser(CONFIG, expected.scores.shape[1])
    model.load_state_dict(like_recboles(expected.weights))
    assert_scores_alike(model, expected)


def made(config: Config = CONFIG) -> Caser:
    torch.manual_seed(0)
    model = Caser(config, ITEMS)
    # Biases as large as weights: they are what a window of padding responds.
    shaken(model)
    with torch.no_grad():
        model.item.weight[0] = 0
    return model


@pytest.mark.parametrize("length", range(1, 8))
@torch.no_grad()
def test_a_cut_image_gives_what_the_whole_one_does(length: int) -> None:
    """Every filter at every place of the image with all its zero rows, one product at a time."""
    model = made()
    history = torch.arange(length)[None] % 5 + 1
    image = F.pad(model.item(history)[0], (0, 0, 0, 7 - length))
    vertical = [(weight[:, None] * image).sum(0) + bias for weight, bias in zip(*pair(model.vertical), strict=True)]
    horizontal = []
    for height, filters in enumerate(model.horizontal, 1):
        for weight, bias in zip(*pair(filters), strict=True):
            windows = [(weight.T * image[start : start + height]).sum() for start in range(7 - height + 1)]
            horizontal.append((torch.stack(windows).max() + bias).clamp(min=0))
    read = torch.cat([*vertical, torch.stack(horizontal)])
    expected = model.output(model.hidden(read).clamp(min=0)).clamp(min=0)
    torch.testing.assert_close(model.states(history)[0], expected)


def pair(layer: torch.nn.Module) -> tuple[Tensor, Tensor]:
    return layer.get_parameter("weight"), layer.get_parameter("bias")


def test_loss_is_cross_entropy_and_all_norms() -> None:
    model = made(Config(width=8, horizontal=2, vertical=3, dropout=0.0, history=7, norms=0.1))
    scores = model.states(padded(HISTORIES)) @ model.item.weight[1:].T
    expected = F.cross_entropy(scores, torch.tensor(TARGETS) - 1)
    layers = [model.item, model.vertical, *model.horizontal, model.hidden, model.output]
    for layer in layers:
        expected = expected + 0.1 * layer.get_parameter("weight").square().sum().sqrt()
    torch.testing.assert_close(model.training_step(batch(), 0), expected)


def test_the_padding_row_stays_zero() -> None:
    model = made()
    model.training_step(batch(), 0).backward()
    assert model.item.weight.grad is not None
    assert not model.item.weight.grad[0].any()
