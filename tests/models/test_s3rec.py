"""S3-Rec: RecBole's scores and its losses of pre-training, and what fine-tuning takes over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from data_prep.corpus import Batch, Corpus, Examples
from models.api import Budget, Fit
from models.parts.segments import Segments, masks
from models.s3rec import Config, Pretraining, S3Rec, train
from tests.factories import no_fit
from tests.models.foreign import assert_scores_alike, foreign, with_recboles_blocks

CONFIG = Config(width=8, inner=12, layers=1, heads=2, dropout=0.0, history=7)
FILE = "s3rec-recbole-1.2.1.npz"
NAMES = {
    "feature_embedding": "category",
    "item_embedding": "encoder.item",
    "position_embedding": "encoder.position",
    "trm_encoder.layer": "encoder.blocks.layers",
    "LayerNorm": "encoder.norm",
    "aap_norm": "forms.associated_attribute",
    "mip_norm": "forms.masked_item",
    "map_norm": "forms.masked_attribute",
    "sp_norm": "forms.segment",
}
LOSSES = {"associated_attribute": "aap", "masked_item": "mip", "masked_attribute": "map", "segment": "sp"}


def recboles() -> tuple[Pretraining, dict[str, Tensor]]:
    """Its weights in our module, and what it was pre-trained on."""
    arrays = foreign(FILE).weights
    given = (
        "categories",
        "sequence",
        "hidden",
        "random",
        "context",
        "own",
        "other",
        *map("loss_{}".format, LOSSES.values()),
    )
    inputs = {name: arrays.pop(name) for name in given}
    module = Pretraining(CONFIG, inputs["categories"])
    module.load_state_dict(with_recboles_blocks(arrays, NAMES))
    return module, inputs


def test_scores_are_recboles() -> None:
    model = S3Rec(CONFIG, recboles()[0].encoder, 1.0)
    assert_scores_alike(model, foreign(FILE))


def test_losses_of_pretraining_are_recboles(monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = recboles()
    monkeypatch.setattr(torch, "randint_like", lambda like, low, high: inputs["random"])
    found = module.item_losses(inputs["sequence"], inputs["hidden"])
    found["segment"] = module.segment_loss(Segments(*(inputs[name] for name in ("context", "own", "other"))))
    assert found.keys() == LOSSES.keys()
    for task, name in LOSSES.items():
        torch.testing.assert_close(found[task], inputs[f"loss_{name}"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("length", [6, 5])
def test_padding_trains_nothing(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = recboles()
    sequence, hidden = inputs["sequence"].clone(), inputs["hidden"].clone()
    sequence[:, length:], hidden[:, length:] = 0, False
    drawn = inputs["random"][: int(hidden.sum())]
    monkeypatch.setattr(torch, "randint_like", lambda like, low, high: drawn)
    cut = module.item_losses(sequence[:, :length], hidden[:, :length])
    for task, loss in module.item_losses(sequence, hidden).items():
        torch.testing.assert_close(loss, cut[task])


def test_a_step_weighs_the_tasks_and_reads_the_target_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Pretraining(replace(CONFIG, segment=0.25), torch.arange(13)[:, None] % 4)
    read: list[Tensor] = []

    def losses(sequence: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        read.append(sequence)
        assert not hidden[sequence == 0].any()
        ones = torch.ones(())
        return {"associated_attribute": ones * 10, "masked_item": ones * 2, "masked_attribute": ones * 3}

    monkeypatch.setattr(module, "item_losses", losses)
    monkeypatch.setattr(module, "segment_loss", lambda drawn: torch.tensor(4.0))
    batch = Batch(torch.arange(2), torch.tensor([[3, 1, 4], [9, 0, 0]]), torch.tensor([7, 8]))
    assert module.training_step(batch, 0).item() == pytest.approx((0.2 * 10 + 2 + 3 + 0.25 * 4) / 2)
    assert read[0].tolist() == [[3, 1, 4, 7], [9, 8, 0, 0]]


def test_the_last_item_of_each_sequence_is_masked_where_that_is_asked_for() -> None:
    sequence = torch.tensor([[3, 1, 4, 7], [9, 8, 0, 0]]).repeat(200, 1)
    place = torch.tensor([[3], [1]]).repeat(200, 1)
    usual, always = (masks(sequence, 0.2, last) for last in (False, True))
    assert always.gather(1, place).all()
    assert 0.1 < usual.gather(1, place).float().mean() < 0.3
    assert 0.1 < always[:, 0].float().mean() < 0.3
    assert not (usual | always)[sequence == 0].any()


@pytest.mark.parametrize("prefixes", [False, True])
def test_fine_tuning_goes_on_with_what_was_pretrained(prefixes: bool, tiny_corpus: Corpus) -> None:
    stages: list[tuple[str, pl.LightningModule, Budget]] = []
    every = tiny_corpus.examples("train")

    def fit(stage: str, build: Callable[[], Any], budget: Budget, examples: Examples) -> Any:
        whole = stage == "pretraining" and prefixes
        assert examples.sha256() == (every if whole else every.longest_per_user()).sha256()
        stages.append((stage, build().eval() if stage == "pretraining" else build(), budget))
        return stages[-1][1]

    config = replace(CONFIG, pretraining_epochs=3, epochs=5, prefixes=prefixes)
    model = train(config, tiny_corpus, cast(Fit, fit))
    (_, pretraining, first), (_, recommender, second) = stages
    assert isinstance(pretraining, Pretraining)
    assert isinstance(model, S3Rec)
    assert recommender is model
    assert model.encoder is pretraining.encoder
    assert all(module.training for module in model.modules()), "with dropout, though a trained stage has none"
    assert (first.epochs, first.patience, second.epochs) == (3, 3, 5)


def test_a_corpus_without_categories_is_refused(tiny_corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="corpus tiny has no item categories; expected item metadata"):
        train(CONFIG, replace(tiny_corpus, item_categories=None), no_fit)
