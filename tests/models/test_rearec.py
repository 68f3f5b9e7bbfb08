"""ReaRec: its steps as a transformer that reads everything anew, and each of its losses by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.parts.encoder import EPSILON, causal, encoder
from models.rearec import WARMUP, Config, ReaRec, divergence
from tests.factories import shaken
from tests.models.test_sasrec import HISTORIES, ITEMS, TARGETS, batch, padded

CONFIG = Config(width=8, inner=12, dropout=0.0, input_dropout=0.0, history=7, temperature=0.5, alpha=3.0)
NAMES = {"attention": "self_attn", "norms.0": "norm1", "norms.1": "norm2", "rise": "linear1", "fall": "linear2"}


def made(config: Config = CONFIG) -> ReaRec:
    torch.manual_seed(0)
    model = ReaRec(config, ITEMS)
    shaken(model)
    return model


def read_anew(model: ReaRec, history: list[int]) -> Tensor:
    """`[K+1, D]`: at each step the whole input goes through torch's own transformer, the last state behind it."""
    blocks = encoder(8, 2, 12, 2, 0.0, EPSILON)
    weights = {}
    for name, weight in model.blocks.state_dict().items():
        for ours, torchs in NAMES.items():
            name = name.replace(ours, torchs)
        weights[f"layers.{name}"] = weight
    blocks.load_state_dict(weights)
    x = model.input(model.item(torch.tensor([history])) + model.position.weight[: len(history)])
    found = [causal(blocks, x)[0, -1]]
    for step in model.step.weight:
        x = torch.cat([x, model.input(found[-1] + step)[None, None]], 1)
        found.append(causal(blocks, x)[0, -1])
    return torch.stack(found)


@pytest.mark.parametrize("steps", [1, 3])
@torch.no_grad()
def test_a_step_reads_the_last_state_behind_the_history(steps: int) -> None:
    model = made(replace(CONFIG, steps=steps))
    found = model.thoughts(padded(HISTORIES, 7))
    for thoughts, history in zip(found, HISTORIES, strict=True):
        torch.testing.assert_close(thoughts, read_anew(model, history))
    assert (found[:, 1:] - found[:, :-1]).abs().amax(-1).min() > 0.01, "a step changes the state"


def surprises(states: Tensor, model: ReaRec, temperature: float) -> Tensor:
    return F.cross_entropy(states @ model.item.weight[1:].T / temperature, torch.tensor(TARGETS) - 1)


def test_progressive_steps_find_the_next_item_at_falling_temperatures() -> None:
    model = made()
    thoughts = model.thoughts(batch().history)
    early = (surprises(thoughts[:, 0], model, 0.5 * 9) + surprises(thoughts[:, 1], model, 0.5 * 3)) / 2
    expected = surprises(thoughts[:, 2], model, 0.5) + early
    loss = model.training_step(batch(), 0)
    torch.testing.assert_close(loss, expected)
    weights = list(model.parameters())
    for found, wanted in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_noisy_steps_are_to_find_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise is on what the first reading's steps were, so that one step's is not carried into the next."""
    model = made(replace(CONFIG, noise=0.3, contrastive=2.0))
    without = model.training_step(batch(), 0)
    monkeypatch.setattr(ReaRec, "current_epoch", WARMUP)
    torch.manual_seed(1)
    found = model.training_step(batch(), 0) - without
    torch.manual_seed(1)
    thoughts = model.thoughts(batch().history)
    noisy = model.thoughts(batch().history, thoughts[:, :-1] + 0.3 * torch.randn(4, 2, 8))
    losses = [F.cross_entropy(noisy[:, step] @ thoughts[:, step].T / 0.5, torch.arange(4)) for step in (1, 2)]
    torch.testing.assert_close(found, 2.0 * torch.stack(losses).mean())
    assert found > 0.0
    torch.testing.assert_close(noisy[:, 0], thoughts[:, 0])
    torch.testing.assert_close(made(replace(CONFIG, contrastive=0.0)).training_step(batch(), 0), without)


def test_divergence_is_that_of_all_pairs() -> None:
    log_p = torch.randn(4, 3, 5).log_softmax(-1).requires_grad_()
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    expected = torch.stack(
        [F.kl_div(log_p[:, j].detach(), log_p[:, i], reduction="batchmean", log_target=True) for i, j in pairs]
    ).mean()
    found = divergence(log_p)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, log_p)[0] for each in (found, expected)))


def test_ensemble_takes_divergence_off_the_cross_entropy_of_the_mean() -> None:
    model = made(replace(CONFIG, learning="ensemble", divergence=0.2))
    thoughts = model.thoughts(batch().history)
    log_p = (thoughts @ model.item.weight[1:].T / 0.5).log_softmax(-1)
    expected = surprises(thoughts.mean(1), model, 0.5) - 0.2 * divergence(log_p)
    torch.testing.assert_close(model.training_step(batch(), 0), expected)


@pytest.mark.parametrize("learning", ["progressive", "ensemble"])
@torch.no_grad()
def test_the_answer_is_the_last_state_or_the_mean(learning: Literal["progressive", "ensemble"]) -> None:
    model = made(replace(CONFIG, learning=learning))
    thoughts = read_anew(model, HISTORIES[0])
    answer = thoughts[-1] if learning == "progressive" else thoughts.mean(0)
    scores, items = (model.item.weight[1:] @ answer).sort(descending=True)
    found = model.rank(padded(HISTORIES), ITEMS)
    torch.testing.assert_close(found.scores[0], scores)
    assert found.items[0].tolist() == (items + 1).tolist()
