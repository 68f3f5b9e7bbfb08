"""ItemToToken against brute force over all sequences; what it may not see, and where no gradient goes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from models.parts.item_to_token import ItemToToken, ItemToTokenConfig
from tests.factories import shaken

WIDTH, SIZES = 8, (4, 3, 5)
EVERY = torch.tensor(list(product(*map(range, SIZES))))


@pytest.fixture
def tokenizer() -> ItemToToken:
    torch.manual_seed(0)
    made = ItemToToken(ItemToTokenConfig(WIDTH, layers=2, heads=2, inner=16), SIZES).eval()
    return shaken(made)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))


def of_all(tokenizer: ItemToToken, x: Tensor) -> Tensor:
    """Log-probabilities of each code of all sequences of an item."""
    return tokenizer.log_prob(x.expand(len(EVERY), -1), EVERY)


def test_sizes_are_the_papers() -> None:
    config = ItemToTokenConfig()
    assert (config.layers, config.width, config.inner, config.heads) == (4, 64, 256, 4)


def test_probabilities_of_all_sequences_sum_to_one(tokenizer: ItemToToken, x: Tensor) -> None:
    for row in x:
        assert of_all(tokenizer, row).sum(1).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_a_sequence_is_its_codes_one_after_the_other(tokenizer: ItemToToken, x: Tensor) -> None:
    codes = torch.tensor([[1, 0, 4], [3, 2, 2], [0, 0, 0]])
    levels = tokenizer(x, codes[:, :-1])
    assert [tuple(each.shape) for each in levels] == [(3, size) for size in SIZES]
    expected = [[levels[level][row, codes[row, level]].item() for level in range(3)] for row in range(3)]
    assert tokenizer.log_prob(x, codes).tolist() == expected


def test_a_code_depends_on_those_before_it_alone(tokenizer: ItemToToken, x: Tensor) -> None:
    first, second, third = tokenizer(x[:1].expand(3, -1), torch.tensor([[0, 1], [0, 2], [3, 1]]))
    assert torch.allclose(first[0], first[1], atol=1e-6)
    assert torch.allclose(first[0], first[2], atol=1e-6)
    assert torch.allclose(second[0], second[1], atol=1e-6)
    assert not torch.allclose(second[0], second[2], atol=1e-2)
    assert not torch.allclose(third[0], third[1], atol=1e-2)


def test_the_item_is_the_first_input(tokenizer: ItemToToken, x: Tensor) -> None:
    one, other = tokenizer(x[:2], torch.zeros(2, 2, dtype=torch.long))[0]
    assert not torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("width", [1, 7, 60])
def test_the_best_sequences_are_those_of_a_plain_beam(tokenizer: ItemToToken, x: Tensor, width: int) -> None:
    codes, scores = tokenizer.best(x, width)
    for row, item in enumerate(x):
        total = of_all(tokenizer, item).cumsum(1)
        of_prefix = {
            tuple(sequence[: level + 1]): total[place, level].item()
            for place, sequence in enumerate(EVERY.tolist())
            for level in range(3)
        }
        beams: list[tuple[int, ...]] = [()]
        for size in SIZES:
            grown = [(*beam, code) for beam in beams for code in range(size)]
            beams = sorted(grown, key=lambda beam: -of_prefix[beam])[:width]
        assert [tuple(sequence) for sequence in codes[row].tolist()] == beams
        assert scores[row].tolist() == pytest.approx([of_prefix[beam] for beam in beams], abs=1e-4)


def test_no_gradient_reaches_the_item(tokenizer: ItemToToken, x: Tensor) -> None:
    x.requires_grad_()
    tokenizer.log_prob(x, EVERY[:3]).sum().backward()
    assert x.grad is None
    assert all(weight.grad is not None and weight.grad.any() for weight in tokenizer.parameters())
