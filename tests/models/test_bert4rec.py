"""BERT4Rec: RecBole's scores, what is masked, and the loss of masks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.training.fit import Fit
from data_prep.corpus import Corpus
from models.bert4rec import Bert4Rec, Config, train
from tests.factories import shaken
from tests.models.foreign import assert_scores_alike, foreign, with_recboles_blocks
from tests.models.test_contract import Untrained
from tests.models.test_sasrec import HISTORIES, ITEMS, TARGETS, batch, padded

CONFIG = Config(width=8, inner=12, layers=1, heads=2, dropout=0.0, history=7)
SEQUENCES = [[*history, target] for history, target in zip(HISTORIES, TARGETS, strict=True)]
MASK = ITEMS + 1
NAMES = {
    "item_embedding": "item",
    "position_embedding": "position",
    "trm_encoder.layer": "blocks.layers",
    "LayerNorm": "norm",
    "output_ffn": "output.0",
    "output_ln": "output.2",
    "output_bias": "bias",
}


def like_recboles(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Ours has no bias of padding."""
    state = with_recboles_blocks(weights, NAMES)
    return state | {"bias": state["bias"][1:]}


def test_scores_are_recboles() -> None:
    expected = foreign("bert4rec-recbole-1.2.1.npz")
    model = Bert4Rec(CONFIG, expected.scores.shape[1], 1.0)
    model.load_state_dict(like_recboles(expected.weights))
    assert_scores_alike(model, expected)


def made(config: Config = CONFIG, masks: float = 1.5) -> Bert4Rec:
    torch.manual_seed(0)
    model = Bert4Rec(config, ITEMS, masks)
    return shaken(model)


def test_loss_is_a_loop_over_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    places = [[0, 3], [1], [], [6, 5, 2]]
    masked = torch.zeros(4, 7, dtype=torch.bool)
    for row, chosen in zip(masked, places, strict=True):
        row[chosen] = True
    monkeypatch.setattr(model, "drawn", lambda sequence: masked)
    losses = []
    for sequence, chosen in zip(SEQUENCES, places, strict=True):
        given = [MASK if place in chosen else item for place, item in enumerate(sequence)]
        states = model.states(torch.tensor([given]))[0]
        for place in chosen:
            scores = states[place] @ model.item.weight[1:MASK].T + model.bias
            losses.append(F.cross_entropy(scores, torch.tensor(sequence[place] - 1)))
    assert len(losses) == 6
    torch.testing.assert_close(model.training_step(batch(), 0), torch.stack(losses).sum() / (1.5 * 4))


def test_half_of_the_sequences_have_their_last_item_masked_alone() -> None:
    model, sequence = made(), padded(SEQUENCES)
    draws = torch.stack([model.drawn(sequence) for _ in range(4_000)])
    assert not (draws & (sequence == 0)).any(), "no padding is masked"
    for row, items in enumerate(map(len, SEQUENCES)):
        share = draws[:, row, :items].float().mean(0)
        # .5 + .5 * .2 and .5 * .2, each with a standard error of at most .008
        expected = torch.full_like(share, 0.1)
        expected[-1] = 0.6
        torch.testing.assert_close(share, expected, atol=0.035, rtol=0)
    only_last = draws[:, 3].sum(1) == 1
    assert only_last.float().mean() > 0.5, "seven items: of the others 37% have one mask"


def test_padding_changes_no_draw() -> None:
    model, found = made(), []
    for width in (7, 8):
        torch.manual_seed(1)
        found.append(model.drawn(padded(SEQUENCES, width)))
    assert torch.equal(F.pad(found[0], (0, 1)), found[1])


def test_losses_are_divided_by_the_masks_that_are_expected(tiny_corpus: Corpus) -> None:
    fit = Untrained(Fit(tiny_corpus, 0, Path(), "bert4rec"))
    train(Config(history=5), tiny_corpus, fit)
    ((model, examples),) = fit.stages
    assert isinstance(model, Bert4Rec)
    assert examples is None
    lengths = [min(int(length), 5) + 1 for length in tiny_corpus.examples("train").length]
    assert model.masks == pytest.approx(sum(0.5 + 0.5 * 0.2 * length for length in lengths) / len(lengths))


@torch.no_grad()
def test_a_mask_is_read_from_both_sides() -> None:
    model = made().eval()
    before = model.states(torch.tensor([[3, MASK, 4, 1]]))[0, 1]
    for other in ([5, MASK, 4, 1], [3, MASK, 4, 2]):
        assert (model.states(torch.tensor([other]))[0, 1] - before).abs().max() > 0.01


def test_something_must_be_masked() -> None:
    with pytest.raises(ValueError, match="masked and last_only are both 0"):
        Config(masked=0.0, last_only=0.0)
