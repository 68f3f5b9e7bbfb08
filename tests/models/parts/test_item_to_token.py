"""ItemToToken against brute force over all sequences; what it may not see, and where no gradient goes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.parts.item_to_token import ItemToToken, ItemToTokenConfig, chosen

ITEMS, WIDTH, SIZES = 5, 8, (4, 3, 5)


@pytest.fixture
def tokenizer() -> ItemToToken:
    torch.manual_seed(0)
    vectors = torch.cat([torch.zeros(1, 6), torch.randn(ITEMS, 6)])
    made = ItemToToken(ItemToTokenConfig(heads=2, inner=16), WIDTH, len(SIZES), vectors).eval()
    with torch.no_grad():  # far from the even distribution of fresh weights
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return made


@pytest.fixture
def levels() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(size, WIDTH) * 3 for size in SIZES]


EVERY = torch.tensor(list(product(*map(range, SIZES))))


def of_all(tokenizer: ItemToToken, levels: list[Tensor], item: int) -> Tensor:
    """Log-probabilities of all sequences of an item."""
    return tokenizer.log_prob(torch.full((len(EVERY),), item), EVERY, levels)


def test_vectors_of_items_by_hand(tokenizer: ItemToToken) -> None:
    item = torch.tensor([3, 1])
    raw = tokenizer.vectors[item] @ tokenizer.project.weight.T + tokenizer.own.weight[item]
    expected = F.layer_norm(raw, (WIDTH,), tokenizer.norm.weight, tokenizer.norm.bias)
    torch.testing.assert_close(tokenizer.items(item), expected)
    fresh = ItemToToken(ItemToTokenConfig(heads=2), WIDTH, 3, tokenizer.vectors)
    assert not fresh.own.weight.any(), "an item that was never seen is its text"


def test_probabilities_of_all_sequences_sum_to_one(tokenizer: ItemToToken, levels: list[Tensor]) -> None:
    for item in (1, 4):
        assert of_all(tokenizer, levels, item).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_a_sequences_log_probability_is_the_sum_of_its_codes(tokenizer: ItemToToken, levels: list[Tensor]) -> None:
    item, codes = torch.tensor([2, 5]), torch.tensor([[1, 0, 4], [3, 2, 2]])
    log_probs = tokenizer(tokenizer.items(item), codes[:, :-1], levels)
    assert [tuple(each.shape) for each in log_probs] == [(2, size) for size in SIZES]
    expected = [sum(log_probs[level][row, codes[row, level]].item() for level in range(3)) for row in range(2)]
    assert tokenizer.log_prob(item, codes, levels).tolist() == pytest.approx(expected)
    assert chosen(log_probs, codes).sum(1).tolist() == pytest.approx(expected)


def test_a_code_depends_on_those_before_it_alone(tokenizer: ItemToToken, levels: list[Tensor]) -> None:
    x = tokenizer.items(torch.tensor([1, 1, 1]))
    first, second, third = tokenizer(x, torch.tensor([[0, 1], [0, 2], [3, 1]]), levels)
    assert torch.allclose(first[0], first[1], atol=1e-6)
    assert torch.allclose(first[0], first[2], atol=1e-6)
    assert torch.allclose(second[0], second[1], atol=1e-6)
    assert not torch.allclose(second[0], second[2], atol=1e-2)
    assert not torch.allclose(third[0], third[1], atol=1e-2)


@pytest.mark.parametrize("width", [1, 7, 60])
def test_the_best_sequences_are_those_of_brute_force(tokenizer: ItemToToken, levels: list[Tensor], width: int) -> None:
    item = torch.tensor([1, 3, 5])
    codes, scores = tokenizer.best(item, levels, width)
    for row, one in enumerate(item.tolist()):
        beams: list[tuple[int, ...]] = [()]
        every = dict(zip(map(tuple, EVERY.tolist()), of_all(tokenizer, levels, one).tolist(), strict=True))
        parts = tokenizer(tokenizer.items(torch.full((len(EVERY),), one)), EVERY[:, :-1], levels)
        total = chosen(parts, EVERY).cumsum(1)
        of_prefix = {
            tuple(sequence[: level + 1]): total[place, level].item()
            for place, sequence in enumerate(EVERY.tolist())
            for level in range(3)
        }
        for size in SIZES:
            grown = [(*beam, code) for beam in beams for code in range(size)]
            beams = sorted(grown, key=lambda beam: -of_prefix[beam])[:width]
        assert [tuple(sequence) for sequence in codes[row].tolist()] == beams
        assert scores[row].tolist() == pytest.approx([every[beam] for beam in beams], abs=1e-4)


def test_no_gradient_reaches_the_items(tokenizer: ItemToToken, levels: list[Tensor]) -> None:
    levels = [vectors.requires_grad_() for vectors in levels]
    log_probs = tokenizer(tokenizer.items(torch.tensor([1, 2])), torch.tensor([[0, 1], [1, 2]]), levels)
    chosen(log_probs, torch.tensor([[0, 1, 2], [1, 2, 3]])).sum().backward()
    untouched = {name for name, weight in tokenizer.named_parameters() if weight.grad is None}
    assert untouched == {"project.weight", "own.weight", "norm.weight", "norm.bias"}
    assert all(vectors.grad is not None and vectors.grad.any() for vectors in levels), "the vocabulary is shared"
