"""SASRec: causality, targets, padding, and the two losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.training.fit import Fit
from data_prep.batches import Batches
from data_prep.corpus import Corpus
from models.api import Batch, Examples
from models.sasrec import Config, SasRec, train
from tests.factories import shaken
from tests.models.test_contract import Untrained

ITEMS = 12
CONFIG = Config(width=8, inner=16, layers=2, heads=2, dropout=0.0, history=6)
BINARY = replace(CONFIG, loss="bce")
HISTORIES = [[3, 1, 4, 1, 5], [9], [2, 6, 5], [12, 11, 10, 9, 8, 7]]
TARGETS = [9, 12, 1, 6]
# What the sum of losses is divided by: the positions of these histories.
POSITIONS = 15.0


def made(config: Config = CONFIG, seed: int = 0) -> SasRec:
    torch.manual_seed(seed)
    model = SasRec(config, ITEMS, POSITIONS)
    shaken(model)
    with torch.no_grad():
        model.item.weight[0] = 7.0  # the padding row: it must not matter
    return model


def padded(histories: list[list[int]], length: int = 0) -> Tensor:
    length = max(length, *map(len, histories))
    return torch.tensor([history + [0] * (length - len(history)) for history in histories])


def batch(length: int = 0) -> Batch:
    return Batch(torch.arange(4), padded(HISTORIES, length), torch.tensor(TARGETS))


@torch.no_grad()
def test_a_later_item_leaves_earlier_states() -> None:
    model = made().eval()
    before = model.states(torch.tensor([[3, 1, 4, 1, 5]]))
    after = model.states(torch.tensor([[3, 1, 4, 2, 5]]))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax(-1).min() > 0.01


def test_loss_is_a_loop_over_prefixes() -> None:
    """One sample per prefix, as RecBole trains: the following item against all items, in the state of the last."""
    model = made()
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


@pytest.mark.parametrize("config", [CONFIG, BINARY])
def test_right_padding_does_not_train(config: Config) -> None:
    model = made(replace(config, history=9))
    results = []
    for length in (0, 9):
        torch.manual_seed(1)  # the same negatives
        model.zero_grad()
        step = model.training_step(batch(length), 0)
        step.backward()
        results.append([step, *(weight.grad for weight in model.parameters())])
    for near, far in zip(*results, strict=True):
        torch.testing.assert_close(near, far, atol=1e-6, rtol=1e-5)


def test_the_padding_row_gets_no_gradient() -> None:
    model = made()
    model.training_step(batch(), 0).backward()
    assert model.item.weight.grad is not None
    assert not model.item.weight.grad[0].any()
    assert model.item.weight.grad[1:].abs().amax(1).min() > 0


def test_batching_does_not_train() -> None:
    """The sum over all positions is the same whether users train in small batches or padded into one."""
    model = made()
    examples = Examples(
        np.arange(60, dtype=np.int32) % ITEMS + 1, np.arange(9), np.arange(9) * 5, np.arange(9) * 5 + 1 + np.arange(9)
    )
    sums = []
    for size in (2, 9):
        batches = list(Batches(examples, size, CONFIG.history, seed=1, epoch=lambda: 0))
        sums.append(sum(model.training_step(one, 0) for one in batches))
    assert len({one.history.shape[1] for one in Batches(examples, 2, CONFIG.history)}) > 2
    torch.testing.assert_close(sums[0], sums[1])


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_an_epoch_weighs_all_prefixes_alike(
    loss: Literal["ce", "bce"], tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean gradient of an epoch's steps against a loop over all prefixes, however long their users' histories are."""
    monkeypatch.setattr(torch, "randint_like", lambda like, low, high: (like + 1) % 7)  # a negative by its positive
    corpus = ragged(tiny_corpus)
    config = replace(CONFIG, loss=loss, batch_size=8, history=50)
    fit = Untrained(Fit(corpus, 0, Path(), "sasrec"))
    train(config, corpus, fit)
    ((model, users),) = fit.stages
    assert isinstance(model, SasRec)
    assert users is not None
    weights = list(model.parameters())
    batches = list(Batches(users, config.batch_size, config.history, epoch=lambda: 0))
    assert len({int((one.history > 0).sum()) for one in batches}) > 1, "batches have different numbers of positions"
    mean = torch.stack([model.training_step(one, 0) for one in batches]).mean()
    prefixes = corpus.examples("train")
    losses = []
    for start, stop in zip(prefixes.start, prefixes.stop, strict=True):
        state = model.states(torch.from_numpy(prefixes.flat[start:stop]).long()[None])[0, -1]
        scores, target = state @ model.item.weight.T, int(prefixes.flat[stop])
        if loss == "ce":
            losses.append(F.cross_entropy(scores[1:], torch.tensor(target - 1)))
        else:
            losses.append(-F.logsigmoid(scores[target]) - F.logsigmoid(-scores[target % 7 + 1]))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(mean, expected)
    for found, wanted in zip(torch.autograd.grad(mean, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def ragged(corpus: Corpus) -> Corpus:
    """The corpus with histories of 3 to 12 items in place of its own."""
    lengths = np.arange(40) % 10 + 3
    flat = np.random.default_rng(0).integers(1, corpus.items + 1, lengths.sum()).astype(np.int32)
    return replace(corpus, flat=flat, offsets=np.concatenate([[0], lengths.cumsum()]), user_ids=corpus.user_ids[:40])


@torch.inference_mode()
def test_ranks_by_the_state_of_the_last_item() -> None:
    model = made().eval()
    ranking = model.rank(padded(HISTORIES, 6), 5)
    assert ranking.certified.all()
    for user, history in enumerate(HISTORIES):
        scores = model.states(torch.tensor([history]))[0, -1] @ model.item.weight[1:].T
        order = scores.argsort(descending=True)[:5]
        assert ranking.items[user].tolist() == (order + 1).tolist()
        torch.testing.assert_close(ranking.scores[user], scores[order], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_user_alone_ranks_as_in_a_batch() -> None:
    model = made().eval()
    together = model.rank(padded(HISTORIES), ITEMS)
    for user, history in enumerate(HISTORIES):
        alone = model.rank(torch.tensor([history]), ITEMS)
        assert alone.items[0].tolist() == together.items[user].tolist()
        torch.testing.assert_close(alone.scores[0], together.scores[user], atol=1e-5, rtol=1e-5)


def test_grading_sees_the_states_that_training_saw() -> None:
    """Evaluation may take torch's fused path; without dropout it must give the states of training."""
    model = made()
    trained = model.states(padded(HISTORIES))
    with torch.inference_mode():
        graded = model.eval().states(padded(HISTORIES))
    held = padded(HISTORIES) > 0
    torch.testing.assert_close(graded[held], trained[held].detach(), atol=1e-5, rtol=1e-5)


def test_binary_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(BINARY)
    drawn: list[Tensor] = []
    draw = torch.randint_like

    def recorded(like: Tensor, low: int, high: int) -> Tensor:
        drawn.append(draw(like, low, high))
        return drawn[-1]

    monkeypatch.setattr(torch, "randint_like", recorded)
    loss = model.training_step(batch(), 0)
    negatives = drawn[0].tolist()
    assert len(negatives) == sum(map(len, HISTORIES))
    samples = []
    for history, target in zip(HISTORIES, TARGETS, strict=True):
        states = model.states(torch.tensor([history]))[0]
        for state, positive in zip(states, [*history[1:], target], strict=True):
            pair = torch.stack([state @ model.item.weight[positive], state @ model.item.weight[1 + negatives.pop(0)]])
            samples.append(F.binary_cross_entropy_with_logits(pair, torch.tensor([1.0, 0.0]), reduction="sum"))
    torch.testing.assert_close(loss, torch.stack(samples).mean())
    assert abs(loss.item() - made().training_step(batch(), 0).item()) > 0.01


def test_item_vectors_are_a_copy_with_a_zero_padding_row() -> None:
    torch.manual_seed(0)
    model = SasRec(CONFIG, ITEMS, POSITIONS)
    vectors = model.item_vectors()
    assert vectors.shape == (ITEMS + 1, CONFIG.width)
    assert not vectors[0].any()
    assert torch.equal(vectors, model.item.weight)
    vectors += 1
    assert not model.item.weight[0].any()
