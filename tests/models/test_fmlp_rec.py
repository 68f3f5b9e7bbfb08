"""FMLP-Rec: the filter against numpy's FFT and as a convolution, a whole pass in numpy, and the loss of prefixes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.fmlp_rec import Config, Filter, FmlpRec, padded_left
from tests.factories import shaken
from tests.models.test_sasrec import HISTORIES, ITEMS, TARGETS, batch, padded

CONFIG = Config(width=8, inner=12, layers=2, dropout=0.0, history=7)


def made(config: Config = CONFIG) -> FmlpRec:
    torch.manual_seed(0)
    model = FmlpRec(config, ITEMS)
    shaken(model)
    with torch.no_grad():
        model.item.weight[0] = 0
    return model


def test_histories_end_where_the_window_does() -> None:
    history = torch.tensor([[3, 1, 0], [9, 0, 0], [2, 6, 5]])
    assert padded_left(history, 4).tolist() == [[0, 0, 3, 1], [0, 0, 0, 9], [0, 2, 6, 5]]
    assert padded_left(history, 3).tolist() == [[0, 3, 1], [0, 0, 9], [2, 6, 5]]


@pytest.mark.parametrize("length", [1, 6, 7])
@torch.no_grad()
def test_the_filter_is_numpys_and_a_circular_convolution(length: int) -> None:
    torch.manual_seed(0)
    layer, x = Filter(length, 3), torch.randn(2, length, 3)
    layer.weight.normal_()
    real, imaginary = layer.weight.double().numpy().transpose(2, 0, 1)
    spectrum = real + 1j * imaginary
    expected = np.fft.irfft(np.fft.rfft(x.double().numpy(), axis=1) * spectrum, n=length, axis=1)
    torch.testing.assert_close(layer(x).double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    kernel = np.fft.irfft(spectrum, n=length, axis=0)
    for place in range(length):
        convolved = sum(kernel[back] * x[:, (place - back) % length].double().numpy() for back in range(length))
        torch.testing.assert_close(layer(x)[:, place].double(), torch.as_tensor(convolved), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(x, -1), layer(x)[:, -1:])


@torch.no_grad()
def test_states_by_numpy() -> None:
    model = made()
    weights = {name: weight.double().numpy() for name, weight in model.state_dict().items()}

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return (x - x.mean(-1, keepdims=True)) / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    gelu = np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))))
    for found, history in zip(model.states(padded(HISTORIES)), HISTORIES, strict=True):
        window = [0] * (7 - len(history)) + history
        x = normed(weights["item.weight"][window] + weights["position.weight"], "norm")
        for block in ("blocks.0", "blocks.1"):
            spectrum = weights[f"{block}.filter.weight"] @ [1, 1j]
            filtered = np.fft.irfft(np.fft.rfft(x, axis=0) * spectrum, n=7, axis=0)
            x = normed(x + filtered, f"{block}.norms.0")
            hidden = gelu(linear(x, f"{block}.feed_forward.0"))
            x = normed(x + linear(hidden, f"{block}.feed_forward.2"), f"{block}.norms.1")
        torch.testing.assert_close(found.double(), torch.from_numpy(x[-1]), atol=1e-4, rtol=1e-4)


def test_loss_is_the_mean_over_samples() -> None:
    model = made()
    samples = []
    for history, target in zip(HISTORIES, TARGETS, strict=True):
        scores = model.states(torch.tensor([history])) @ model.item.weight[1:].T
        samples.append(F.cross_entropy(scores, torch.tensor([target - 1])))
    torch.testing.assert_close(model.training_step(batch(), 0), torch.stack(samples).mean())


def test_dropout_is_on_embeddings_and_on_each_half_of_a_block() -> None:
    torch.manual_seed(0)
    model = FmlpRec(CONFIG, ITEMS)
    drawn: list[tuple[int, ...]] = []
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_hook(lambda module, given, made: drawn.append(tuple(made.shape)))
    model.states(padded(HISTORIES))
    # Of the last block no state but the last is read.
    assert drawn == [(4, 7, 8)] * 3 + [(4, 1, 8)] * 2
