"""The filters of FMLP-Rec and of Caser as they train: ours beside what one writes with torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmarks.perf import Pair, in_turn, pair, seconds
from models import caser, fmlp_rec
from models.caser import Caser
from models.fmlp_rec import Filter

# Prefixes of a batch; how long one is on average, and at most, on Beauty_2014.
PREFIXES, MEAN_LENGTH, LONGEST = 2048, 6.5, 50
REPEATS = 5

States = Callable[[], Float[Tensor, "B ..."]]


def filters_cpu(prefixes: int = PREFIXES) -> list[Pair]:
    """Seconds for states and their gradients, in float32.

    Raises:
        ValueError: the states of the two sides differ.
    """
    torch.manual_seed(0)
    return [_fourier(prefixes), _convolutions(prefixes)]


def _fourier(prefixes: int) -> Pair:
    layer = Filter(LONGEST, fmlp_rec.Config().width)
    x = torch.randn(prefixes, LONGEST, fmlp_rec.Config().width, requires_grad=True)
    note = f"FMLP-Rec's filter by torch.fft, {prefixes:,} histories of {LONGEST} places"
    return _beside("fourier_cpu", lambda: layer(x), lambda: by_fast_transform(layer, x), note)


def by_fast_transform(layer: Filter, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """FMLP-Rec's filter."""
    spectrum = torch.fft.rfft(x, dim=1, norm="ortho") * torch.view_as_complex(layer.weight)
    return torch.fft.irfft(spectrum, n=x.shape[1], dim=1, norm="ortho")


def _convolutions(prefixes: int) -> Pair:
    items = 1_000
    model = Caser(caser.Config(dropout=0.0, history=LONGEST), items)
    length = torch.empty(prefixes).geometric_(1 / MEAN_LENGTH).clamp(max=LONGEST)
    history = torch.randint(1, items + 1, (prefixes, LONGEST))
    history = history.masked_fill(torch.arange(LONGEST) >= length[:, None], 0)
    note = f"Caser by a convolution for each of {LONGEST} heights, {prefixes:,} prefixes"
    return _beside("convolutions_cpu", lambda: model.states(history), lambda: by_height(model, history), note)


def by_height(model: Caser, history: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Caser's states."""
    image = model.item(history).mT
    sums = model.vertical(image).mT.flatten(1)
    read = torch.cat([sums, *(F.relu(filters(image)).amax(2) for filters in model.horizontal)], 1)
    return F.relu(model.output(F.relu(model.hidden(read))))


def _beside(name: str, ours: States, torchs: States, note: str) -> Pair:
    if not torch.allclose(ours(), torchs(), rtol=1e-3, atol=1e-5):
        raise ValueError(f"the states of {name} are not those of the other side; expected the same")
    return pair(name, in_turn(_trained(ours), _trained(torchs), REPEATS), "s", note)


def _trained(states: States) -> Callable[[], float]:
    return lambda: seconds(lambda: states().sum().backward())
