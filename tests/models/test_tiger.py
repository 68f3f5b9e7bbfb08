"""TIGER's loss and ranking against teacher forcing of every item, and what it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_prep.corpus import ItemCodes, ItemVectors
from models.api import Batch, Budget, Corpus, Examples, Fit, Ranking
from models.parts.rqvae import RqVae
from models.parts.search import beam_search
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import TokenizerConfig
from models.tiger import Config, Tiger, train
from tests.factories import corpus_of, index_of, shaken

Row = tuple[int, ...]

CONFIG = Config(
    tokenizer=TokenizerConfig(hidden=(8,), width=4, levels=2, codes=4),
    t5=T5Sizes(width=16, inner=24, heads=2, head_width=8, encoder_layers=2, decoder_layers=2, dropout=0.0),
    history=4,
)
SIZES = (4, 3, 2)
# Items 2 and 9 share their codes, and so do 5, 6 and 12: an index need not tell all items apart.
ROWS: list[Row] = [(2, 0, 1), (3, 2, 0), (0, 0, 0), (1, 1, 1), (0, 2, 1), (0, 2, 1)]
ROWS += [(2, 1, 0), (3, 0, 0), (3, 2, 0), (1, 0, 0), (2, 0, 0), (0, 2, 1), (1, 2, 1)]
HISTORY = torch.tensor([[1, 0, 0, 0], [5, 3, 11, 8], [9, 9, 0, 0], [4, 13, 2, 0], [7, 0, 0, 0], [10, 12, 6, 0]])
LENGTHS = [1, 4, 2, 3, 1, 3]
TARGET = torch.tensor([9, 1, 3, 13, 12, 8])


def made(rows: list[Row] = ROWS, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Tiger:
    torch.manual_seed(seed)
    index = index_of(rows, sizes)
    model = Tiger(CONFIG, index).eval()
    return shaken(model, 0.5)


def every_score(model: Tiger, history: Tensor) -> Tensor:
    """`[B, N]` of all items by teacher forcing, to which the generator's tests hold `score`."""
    return model.generator.score(history, torch.arange(1, 14).expand(len(history), -1))


def test_an_input_ends_with_a_token_and_a_code_competes_with_all() -> None:
    model = made()
    assert model.generator.style == "vocabulary"
    assert model.generator.token.num_embeddings == 11  # padding, 4 + 3 + 2 codes, end


def test_the_loss_is_minus_the_score_of_the_target() -> None:
    model = made()
    loss = model.training_step(Batch(torch.arange(6), HISTORY, TARGET), 0)
    scores = every_score(model, HISTORY).gather(1, TARGET[:, None] - 1)
    torch.testing.assert_close(loss * len(SIZES), -scores.mean())


@torch.inference_mode()
def test_steps_score_the_target_as_training_does() -> None:
    model = made()
    codes, user = model.generator.index.codes[TARGET, 0], torch.arange(6)
    step, cache, total = model.generator.steps(HISTORY), None, torch.zeros(6)
    for level in range(3):
        log_probs, cache = step(level, user, codes[:, level - 1] if level else user * 0, user, cache)
        assert log_probs.shape == (6, SIZES[level])
        total = total + log_probs.gather(1, codes[:, level : level + 1])[:, 0]
    loss = model.training_step(Batch(torch.arange(6), HISTORY, TARGET), 0)
    torch.testing.assert_close(total.sum() / -18, loss)


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_it_ranks_as_teacher_forcing_does(seed: int) -> None:
    model = made(seed=seed)
    scores, order = every_score(model, HISTORY).sort(dim=1, descending=True, stable=True)
    for k in (1, 8, 13):
        ranking = model.rank(HISTORY, k)
        assert ranking.certified.all()
        assert ranking.items.tolist() == (order[:, :k] + 1).tolist()
        torch.testing.assert_close(ranking.scores, scores[:, :k], atol=1e-5, rtol=1e-5)


def beam(model: Tiger, history: Tensor, k: int, width: int, constrained: bool) -> Ranking:
    return beam_search(model.generator.steps(history), len(history), model.generator.index, k, width, constrained)


@pytest.mark.parametrize("constrained", [True, False])
@torch.inference_mode()
def test_a_user_alone_ranks_as_in_a_batch(constrained: bool) -> None:
    model = made()
    together = beam(model, HISTORY, 5, 4, constrained)
    for user, length in enumerate(LENGTHS):
        alone = beam(model, HISTORY[user : user + 1, :length], 5, 4, constrained)
        assert alone.items[0].tolist() == together.items[user].tolist()
        assert alone.certified[0] == together.certified[user]
        torch.testing.assert_close(alone.scores[0], together.scores[user], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_free_beam_ranks_items_as_the_trie_does_and_names_the_rest_0() -> None:
    model = made()
    free, legal = beam(model, HISTORY, 30, 24, constrained=False), beam(model, HISTORY, 13, 24, constrained=True)
    assert not free.certified.any()
    for user in range(6):
        named = free.items[user] > 0
        assert free.items[user][named].tolist() == legal.items[user].tolist()
        torch.testing.assert_close(free.scores[user][named], legal.scores[user], atol=1e-5, rtol=1e-5)
        # 24 sequences, of which 10 name the 13 items: 14 places without an item, and 3 beyond the end of the list.
        assert int((~named & free.scores[user].isfinite()).sum()) == 14


@torch.inference_mode()
def test_a_checkpoint_carries_the_codes() -> None:
    source, copy = made(), made(list(reversed(ROWS)), seed=1)
    expected = source.rank(HISTORY, 8)
    assert copy.rank(HISTORY, 8).items.tolist() != expected.items.tolist()
    copy.load_state_dict(source.state_dict())
    assert copy.rank(HISTORY, 8).items.tolist() == expected.items.tolist()


def of_file(**fields: Any) -> Corpus:
    """Twelve items, of which a file gives the first three and the last two the same codes."""
    values = np.array([[1, 0], [1, 0], [1, 0], *([2, item % 5] for item in range(5)), [0, 0], [0, 3], [4, 4], [4, 4]])
    codes = ItemCodes(values, (5, 5), "file.tsv", "0" * 64)
    return corpus_of([range(1, 7), range(7, 13)], 12, codes=codes, **fields)


def test_codes_from_a_file_take_no_tokenizer_and_get_a_suffix() -> None:
    stages: list[tuple[str, float]] = []

    def untrained(stage: str, build: Callable[[], nn.Module], budget: Budget, examples: Examples) -> nn.Module:
        stages.append((stage, budget.clip))
        return build()

    config, fit = replace(CONFIG, vectors=None, codes="file.tsv", clip=0.0), cast(Fit, untrained)
    recommender = train(config, of_file(), fit)
    assert stages == [("recommender", 0.0)]
    assert isinstance(recommender, Tiger)
    index = recommender.generator.index
    assert index.sizes == (5, 5, 5)
    assert torch.equal(index.codes[1:, 0, :2], torch.from_numpy(of_file().item_codes().values))
    assert index.codes[1:, 0, 2].tolist() == [0, 1, 2, *[0] * 8, 1]
    card = index.card()
    assert (card["distinct_before"], card["duplicates_after"], card["reconstruction_error"]) == (9, 0.0, None)
    # More items of equal codes than a codebook of the file has codes.
    crowded = replace(of_file(), codes=ItemCodes(np.zeros((12, 2), dtype=np.int64), (5, 5), "file.tsv", "0" * 64))
    many = cast(Tiger, train(config, crowded, fit)).generator.index
    assert many.codes[1:, 0, 2].tolist() == [*range(12)]
    assert many.sizes == (12, 12, 12)
    with pytest.raises(ValueError, match=r"codes=file\.tsv leave nothing that reads vectors; set vectors=null"):
        train(replace(config, vectors="tfidf"), of_file(), fit)
    with pytest.raises(ValueError, match="hand was given no codes"):
        train(config, replace(of_file(), codes=None), fit)


def test_an_untied_head_has_vectors_of_its_own() -> None:
    index = index_of(ROWS, SIZES)
    assert Tiger(CONFIG, index).generator.head is None
    head = Tiger(replace(CONFIG, tied_head=False), index).generator.head
    assert head is not None
    assert head.weight.shape == (11, 16)


@torch.inference_mode()
def test_with_output_by_level_a_code_competes_with_those_of_its_level() -> None:
    """As in GRID: a head of its own for each level, and no end token. Uniform states leave chance, 1/4, 1/3 and 1/2."""
    model = Tiger(replace(CONFIG, output="level", tied_head=False), index_of(ROWS, SIZES)).eval()
    assert model.generator.token.num_embeddings == 10  # padding, 4 + 3 + 2 codes
    assert model.generator.head is not None
    nn.init.zeros_(model.generator.head.weight)
    assert every_score(model, HISTORY).numpy() == pytest.approx(np.full((6, 13), np.log(1 / 24)), abs=1e-5)


def test_histories_of_training_may_begin_with_any_item() -> None:
    seen: list[tuple[int, int, int]] = []

    def untrained(stage: str, build: Callable[[], nn.Module], budget: Budget, examples: Examples) -> nn.Module:
        seen.append((len(examples), budget.accumulate, budget.epochs))
        return build()

    # Two users with training parts of 10 items, each of 9 + 8 + 7 + 6 runs of 2 to 5 items: 7 steps of up to 9 runs.
    config = replace(CONFIG, vectors=None, codes="file.tsv", starts="any", batch_size=3, accumulate=3, steps=26)
    corpus = replace(corpus_of([range(1, 13), range(1, 13)], 12), codes=of_file().item_codes())
    train(config, corpus, cast(Fit, untrained))
    assert seen == [(60, 3, 4)]


def test_train_makes_tokenizer_index_and_recommender() -> None:
    """The suffix code tells items of equal vectors apart; the recommender is built on the trained tokenizer's codes."""
    torch.manual_seed(0)
    values = np.random.default_rng(0).normal(size=(13, 6)).astype(np.float32)
    values[0] = 0
    values[[4, 9]] = values[2]
    vectors = ItemVectors(values, "npz", "file.npz", "0" * 64, stand_in=False)
    corpus = corpus_of([range(1, 7), range(7, 13)], 12, vectors=vectors)
    stages: dict[str, tuple[nn.Module, Budget, Examples | None]] = {}

    def untrained(
        stage: str, build: object, budget: Budget, examples: Examples | None = None, quality: object = None
    ) -> nn.Module:
        assert callable(build)
        stages[stage] = (build(), budget, examples)
        return stages[stage][0]

    fit: Fit = untrained  # type: ignore[assignment]
    recommender = train(CONFIG, corpus, fit)
    assert list(stages) == ["tokenizer", "recommender"]
    tokenizer, budget, examples = stages["tokenizer"]
    assert isinstance(tokenizer, RqVae)
    assert isinstance(recommender, Tiger)
    assert (budget.epochs, budget.batch_size) == (CONFIG.tokenizer_epochs, CONFIG.tokenizer_batch)
    assert examples is not None
    assert examples.target.tolist() == list(range(1, 13))
    codes = recommender.generator.index.codes[1:, 0]
    assert torch.equal(codes[:, :2], tokenizer.item_codes())
    assert len(codes.unique(dim=0)) == 12
    assert codes[[1, 3, 8], 2].tolist() == [0, 1, 2]
    assert recommender.generator.index.sizes == (4, 4, 4)
