"""SASRec of GPT-2's blocks: scores of the library's model with a tied head, causality, padding, targets, the rate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from models.api import Batch
from models.sasrec_gpt2 import Config, SasRecGpt2
from tests.factories import shaken

ITEMS = 12
CONFIG = Config(width=8, inner=16, layers=2, heads=2, dropout=0.0, history=6)
HISTORIES = [[3, 1, 4, 1, 5], [9], [2, 6, 5], [12, 11, 10, 9, 8, 7]]
TARGETS = [9, 12, 1, 6]
# What the sum of losses is divided by: the positions of these histories.
POSITIONS = 15.0


def made(config: Config = CONFIG) -> SasRecGpt2:
    torch.manual_seed(0)
    model = SasRecGpt2(config, ITEMS, POSITIONS)
    shaken(model)
    return model


def padded(length: int = 0) -> Tensor:
    longest = max(length, *map(len, HISTORIES))
    return torch.tensor([history + [0] * (longest - len(history)) for history in HISTORIES])


def batch(length: int = 0) -> Batch:
    return Batch(torch.arange(4), padded(length), torch.tensor(TARGETS))


@torch.no_grad()
def test_scores_are_gpt2s_with_a_head_that_is_its_table() -> None:
    model = made().eval()
    whole = GPT2LMHeadModel(model.gpt2.config).eval()
    whole.transformer.load_state_dict(model.gpt2.state_dict())
    whole.lm_head.weight = whole.transformer.wte.weight
    for row, history in enumerate(HISTORIES):
        expected = whole(torch.tensor([history])).logits[0, :, 1:]
        scores = model.states(padded())[row, : len(history)] @ model.items[1:].T
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
        best = expected[-1].argsort(descending=True)[:3] + 1
        assert model.rank(padded(), 3).items[row].tolist() == best.tolist()


@torch.no_grad()
def test_a_later_item_leaves_earlier_states() -> None:
    model = made().eval()
    before = model.states(torch.tensor([[3, 1, 4, 1, 5]]))
    after = model.states(torch.tensor([[3, 1, 4, 2, 5]]))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax(-1).min() > 0.01


def test_loss_is_a_loop_over_prefixes() -> None:
    model = made()
    samples = []
    for history, target in zip(HISTORIES, TARGETS, strict=True):
        for end, following in enumerate([*history[1:], target], 1):
            state = model.states(torch.tensor([history[:end]]))[0, -1]
            samples.append(F.cross_entropy(state @ model.items[1:].T, torch.tensor(following - 1)))
    torch.testing.assert_close(model.training_step(batch(), 0), torch.stack(samples).mean())


def test_right_padding_does_not_train() -> None:
    model = made(replace(CONFIG, history=9))
    short, long = (model.training_step(batch(length), 0) for length in (0, 9))
    torch.testing.assert_close(short, long)


def test_nothing_is_dropped_between_the_halves_of_a_block() -> None:
    kept = made(replace(CONFIG, dropout=0.9)).gpt2
    rates = {
        name.rpartition(".")[2]: part.p for name, part in kept.named_modules() if isinstance(part, torch.nn.Dropout)
    }
    assert rates == {"drop": 0.9, "attn_dropout": 0.9, "resid_dropout": 0.0, "dropout": 0.0}


def test_the_rate_rises_for_the_warm_up_and_falls_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trainer = made(replace(CONFIG, lr=1.0, warmup=4)), pl.Trainer(accelerator="cpu", logger=False)
    monkeypatch.setattr(type(trainer), "estimated_stepping_batches", 8)
    model.trainer = trainer
    scheduler = model.configure_optimizers()["lr_scheduler"]["scheduler"]
    found = [scheduler.lr_lambdas[0](step) for step in range(9)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.8536, 0.5, 0.1464, 0.0], abs=1e-4)
