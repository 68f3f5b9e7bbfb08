"""eSASRec: RecTools' scores with either kind of block, the sampled softmax, and the paper's sizes by corpus."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from benchmarks.experiments import complete
from models.esasrec import Config, ESasRec
from tests.models.foreign import assert_scores_alike, foreign, renamed
from tests.models.test_sasrec import HISTORIES, ITEMS, POSITIONS, TARGETS, batch

CONFIG = Config(width=8, layers=1, heads=2, inner=2, dropout=0.0, history=7, negatives=5)
NAMES = {
    "item_model.emb": "item",
    "pos_encoding_layer.pos_emb": "place",
    "transformer_layers.transformer_blocks": "blocks",
    "transformer_layers.last_layernorm": "norm",
    "multi_head_attn": "attention",
    "q_layer_norm": "norms.0",
    "ff_layer_norm": "norms.1",
    "layer_norm_1": "norms.0",
    "layer_norm_2": "norms.1",
    "feed_forward.ff_linear_1": "rise",
    "feed_forward.ff_linear_2": "fall",
    "feed_forward.ff_linear_3": "way",
    "gating_linear_1": "gates.0",
    "gating_linear_2": "gates.1",
}


@pytest.mark.parametrize("block", ["ligr", "sasrec"])
def test_scores_are_rectools(block: Literal["ligr", "sasrec"]) -> None:
    expected = foreign(f"esasrec-{block}-rectools-0.19.npz")
    model = ESasRec(replace(CONFIG, block=block), expected.scores.shape[1], 1.0)
    model.load_state_dict(renamed(expected.weights, NAMES))
    assert_scores_alike(model, expected)


def made(config: Config = CONFIG) -> ESasRec:
    torch.manual_seed(0)
    return ESasRec(config, ITEMS, POSITIONS)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Fills with the negatives of each step."""
    found: list[Tensor] = []
    draw = torch.randint

    def recorded(high: int, size: tuple[int, int], device: torch.device) -> Tensor:
        found.append(draw(high, size, device=device))
        return found[-1]

    monkeypatch.setattr(torch, "randint", recorded)
    return found


@pytest.mark.parametrize("block", ["ligr", "sasrec"])
def test_loss_is_a_softmax_over_the_next_item_and_its_negatives(
    block: Literal["ligr", "sasrec"], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, negatives = made(replace(CONFIG, block=block)), drawn(monkeypatch)
    loss = model.training_step(batch(), 0)
    others = negatives[0].tolist()
    assert [len(row) for row in others] == [5] * 15
    losses = []
    for history, target in zip(HISTORIES, TARGETS, strict=True):
        states = model.states(torch.tensor([history]), model.item.weight)[0]
        for state, following in zip(states, [*history[1:], target], strict=True):
            scores = model.item.weight[[following, *(1 + other for other in others.pop(0))]] @ state
            losses.append(scores.exp().sum().log() - scores[0])
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(loss, expected)
    weights = list(model.parameters())
    for found, wanted in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_step_drops_the_same_of_items_where_they_are_read_and_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped of the table for a step has no part in it, on neither side: no gradient comes to it."""
    model = made(replace(CONFIG, negatives=200))
    dropping = model.dropout.forward
    masks: list[Tensor] = []

    def dropped(x: Tensor) -> Tensor:
        if len(x) != ITEMS + 1:
            return dropping(x)
        masks.append(torch.rand_like(x) < 0.5)
        return x * masks[0]

    monkeypatch.setattr(model.dropout, "forward", dropped)
    model.training_step(batch(), 0).backward()
    assert len(masks) == 1
    gradient, kept = model.item.weight.grad, masks[0]
    assert gradient is not None
    assert (gradient[~kept] == 0).all()
    assert (gradient[1:][kept[1:]] != 0).all()


@torch.no_grad()
def test_a_later_item_leaves_earlier_states() -> None:
    model = made().eval()
    before, after = (model.states(torch.tensor([[3, 1, 4, last, 5]]), model.item.weight) for last in (1, 2))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax(-1).min() > 0.01


@pytest.mark.parametrize(("corpus", "inner"), [("beauty_2014", 4), ("sports_2014", 2), ("toys_2014", 1)])
def test_sizes_are_those_of_the_papers_corpora(corpus: str, inner: int) -> None:
    assert complete("esasrec", corpus).config == Config(inner=inner)
    assert complete("esasrec-no-ligr", corpus).config == Config(inner=inner, block="sasrec")
