"""PIT: its losses and selections by hand and brute force, what learns when, its index, and that no target leaks."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.evaluate import Grader
from benchmarks.training.fit import Fit
from data_prep.batches import Batches
from data_prep.corpus import Corpus
from data_prep.embed import item_vectors
from leaderboards.record import Stage
from models.api import Batch
from models.parts.beam_index import BeamIndex, Proposals, updated
from models.parts.din import alignment
from models.parts.index import ItemIndex
from models.parts.item_to_token import ItemToTokenConfig
from models.parts.ranking import rank_scores
from models.parts.seq2seq import T5Sizes
from models.pit import SMALL, Config, Pit, tokenize, train
from tests.factories import index_of, shaken
from tests.models.test_contract import Blind, poison

ITEMS, CODES, LEVELS = 12, 4, 4
CONFIG = Config(
    t5=T5Sizes(width=16, inner=24, heads=2, head_width=8, encoder_layers=1, decoder_layers=1, dropout=0.0),
    i2t=ItemToTokenConfig(width=8, layers=1, heads=2, inner=16, dropout=0.0),
    history=4,
)
HISTORY = torch.tensor([[1, 0, 0, 0], [5, 3, 11, 8], [9, 9, 0, 0], [4, 12, 2, 0], [7, 0, 0, 0], [10, 12, 6, 0]])
TARGET = torch.tensor([9, 1, 3, 9, 12, 8])
BATCH = Batch(torch.arange(6), HISTORY, TARGET)
EVERY = torch.arange(1, ITEMS + 1).expand(6, -1)


def start() -> ItemIndex:
    """Items 1 to 12 have codes that differ at the second level or the third."""
    rows = [(0, item % 4, item // 4, 1) for item in range(ITEMS)]
    return index_of(rows, (CODES,) * LEVELS)


def made(seed: int = 0, evolved: bool = True, spread: float = 0.4, **changes: Any) -> Pit:
    torch.manual_seed(seed)
    vectors = torch.cat([torch.zeros(1, 6), torch.randn(ITEMS, 6)])
    model = Pit(dataclasses.replace(CONFIG, **changes), start(), vectors)
    shaken(model, spread)
    return model.evolve(5).eval() if evolved else model.eval()


def grown(model: Pit, steps: int = 3) -> Pit:
    """After some steps of training, with an index of several sequences per item."""
    for _ in range(steps):
        model.training_step(BATCH._replace(target=torch.randint(1, ITEMS + 1, (6,))), 0)
    model.on_train_epoch_end()
    return model


def sequences(model: Pit) -> list[list[tuple[int, ...]]]:
    """Of each item, heaviest first."""
    return [[tuple(codes) for codes in item if codes[0] >= 0] for item in model.codes[1:].tolist()]


def sequence_scores(model: Pit, codes: Tensor) -> Tensor:
    """`[B, X]` log-probabilities of sequences `[X, L]` for all histories, one history and one sequence at a time."""
    labels = model.generator.sequence_tokens(codes)
    rows = []
    for user in range(len(HISTORY)):
        read = model.generator.read(HISTORY[user : user + 1])
        each = [model.generator.chosen(model.generator.states(row[None], read), row[None]).sum() for row in labels]
        rows.append(torch.stack(each))
    return torch.stack(rows).detach()


def of_items(model: Pit, item: Tensor, codes: Tensor) -> Tensor:
    """Log-probabilities by I2T of one sequence of each item."""
    return model.tokenizer.log_prob(model.items(item), codes).sum(1)


def aligned(model: Pit, seed: int) -> Tensor:
    assert model.din is not None
    torch.manual_seed(seed)
    return alignment(model.din, model.items, HISTORY, TARGET, model.config.negatives)


def step(model: Pit, seed: int = 3) -> Tensor:
    torch.manual_seed(seed)
    return model.training_step(BATCH, 0)


class TestSelection:
    @pytest.mark.parametrize("candidates", ["owned", "proposed"])
    @pytest.mark.parametrize("training", [True, False])
    def test_the_history_takes_the_sequence_it_makes_the_most_of(self, training: bool, candidates: str) -> None:
        model = grown(made(csa_weight=0.0, candidates=candidates)).train(training)
        found, choices, losses = step(model), [], []
        own = sequences(model)
        for user, item in enumerate(TARGET.tolist()):
            proposed = model.tokenizer.eval().best(model.items(TARGET[user, None]), 4)[0][0]
            codes = torch.tensor(own[item - 1]) if candidates == "owned" else proposed
            scores = sequence_scores(model.eval(), codes)[user]
            choices.append(int(scores.argmax()))
            losses.append(-scores.max().item())
        assert len(set(choices)) > 1
        assert found.item() == pytest.approx(np.mean(losses), rel=1e-4)

    def test_only_to_the_letter_is_another_items_sequence_learned(self) -> None:
        taken = {}
        for candidates in ("owned", "proposed"):
            model = grown(made(candidates=candidates), 20)
            codes = model._select(TARGET, model.generator.read(HISTORY)).tolist()
            own = sequences(model)
            taken[candidates] = [
                tuple(code) in own[item - 1] for code, item in zip(codes, TARGET.tolist(), strict=True)
            ]
        assert all(taken["owned"])
        assert not all(taken["proposed"])

    @pytest.mark.parametrize("training", [True, False])
    def test_every_part_is_left_in_the_mode_it_was_in(self, training: bool) -> None:
        model = made().train(training)
        step(model)
        assert all(part.training == training for part in model.modules())

    def test_dropout_does_not_choose(self) -> None:
        """It is in what was read of the history, alike for all candidates, and in none of their own scores."""
        config = dataclasses.replace(CONFIG.t5, dropout=0.5), dataclasses.replace(CONFIG.i2t, dropout=0.5)
        model = made(t5=config[0], i2t=config[1]).train()
        read = model.generator.read(HISTORY)
        found = []
        for seed in range(8):
            torch.manual_seed(seed)
            found.append(model._select(TARGET, read).tolist())
        assert all(codes == found[0] for codes in found)

    def test_at_random_each_is_taken_and_no_empty_place(self) -> None:
        model = grown(made(selection="random"), 6)
        taken = [model._select(TARGET, model.generator.read(HISTORY)) for _ in range(60)]
        own = sequences(model)
        assert len({len(own[item - 1]) for item in TARGET.tolist()}) > 1, "some have empty places"
        for user, item in enumerate(TARGET.tolist()):
            assert {tuple(codes[user].tolist()) for codes in taken[-40:]} == set(own[item - 1])


class TestIndex:
    def test_it_starts_one_to_one_with_w_of_i2t(self) -> None:
        model = made()
        assert torch.equal(model.start_codes, start().codes[:, 0])
        assert sequences(model) == [[tuple(codes)] for codes in model.start_codes[1:].tolist()]
        item = torch.arange(1, ITEMS + 1)
        expected = 100 + of_items(model, item, model.start_codes[1:]).detach()
        torch.testing.assert_close(model.weights[1:, 0], expected)
        assert not model.weights[0].any()

    def test_bf16_gives_no_item_another_sequence_or_weight(self) -> None:
        model, other = made(), made()
        step(model)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            step(other)
        assert torch.equal(other.codes, model.codes)
        assert torch.equal(other.weights, model.weights)

    def test_the_card_tells_of_the_collisions_of_the_static_codes(self) -> None:
        unrepaired = start().codes[1:, 0].clone()
        unrepaired[3] = unrepaired[7]
        index = ItemIndex(start().codes[:, 0], start().sizes, unrepaired)
        model = grown(Pit(CONFIG, index, torch.randn(ITEMS + 1, 6)).evolve(5))
        card = model.generator.card()
        assert (card["distinct_before"], card["duplicates_after"]) == (ITEMS - 1, 0.0)
        assert card["duplicates_before"] == pytest.approx(2 / ITEMS)
        assert card["sequences_per_item"] > 1

    def test_a_step_is_algorithm_1_on_what_i2t_proposes(self) -> None:
        model = made()
        before = BeamIndex(model.codes, model.weights, model.renewed)
        step(model)
        item = torch.tensor([1, 3, 8, 9, 12])
        codes, log_prob = model.tokenizer.best(model.items(item), 4)
        expected = updated(before, Proposals(item, codes, 100 + log_prob), 0, 0.9, 1)
        assert torch.equal(model.codes, expected.codes)
        assert torch.equal(model.weights, expected.weights)
        assert max(map(len, sequences(model))) > 1

    def test_each_sequence_has_one_owner_and_each_item_a_sequence(self) -> None:
        model = grown(made(lease=0), 20)
        every = [codes for item in sequences(model) for codes in item]
        assert len(set(every)) == len(every) > ITEMS
        assert all(1 <= len(item) <= 4 for item in sequences(model))
        assert model.generator.index.largest_group == 1

    def test_what_ranks_is_the_index_at_the_end_of_an_epoch(self) -> None:
        model = made()
        step(model)
        assert torch.equal(model.generator.index.codes[:, 0], model.start_codes)
        before = model.start_codes.tolist()
        moved = sum(before[item] != list(own[0]) for item, own in enumerate(sequences(model), 1))
        model.on_train_epoch_end()
        assert torch.equal(model.generator.index.codes, model.codes)
        assert moved > 0
        assert model.churn.tolist() == pytest.approx([moved / ITEMS, -1, -1, -1, -1])

    def test_the_best_serves_alone_and_training_knows_all(self) -> None:
        model = grown(made(served="best"))
        assert torch.equal(model.generator.index.codes, model.codes[:, :1])
        assert max(map(len, sequences(model))) > 1

    def test_without_a_beam_index_an_item_has_its_heaviest(self) -> None:
        model = grown(made(beam_index=False))
        assert model.codes.shape[1] == 1
        assert [len(item) for item in sequences(model)] == [1] * ITEMS

    def test_histories_are_read_by_the_heaviest_sequence(self) -> None:
        model = grown(made())
        tokens = model.generator.item_tokens(torch.tensor([9]))
        assert tokens[0].tolist() == [1 + level * CODES + code for level, code in enumerate(sequences(model)[8][0])]


class TestLoss:
    def test_the_warm_up_is_the_sum_of_three(self) -> None:
        """Eq. 8, on the static codes."""
        model = made(evolved=False, i2t_weight=0.7, csa_weight=0.3)
        codes = model.start_codes[TARGET]
        of_user = -sequence_scores(model, model.start_codes[1:])[torch.arange(6), TARGET - 1].mean()
        expected = of_user - 0.7 * of_items(model, TARGET, codes).mean() + 0.3 * aligned(model, 3)
        torch.testing.assert_close(step(model), expected, atol=1e-4, rtol=1e-5)

    def test_where_i2t_is_frozen_alignment_goes_on(self) -> None:
        model, without = made(csa_weight=0.3), made(csa_weight=0.3)
        without.din = None
        torch.testing.assert_close(step(model), step(without) + 0.3 * aligned(model, 3))

    @pytest.mark.parametrize("sure", [-1e9, 90.0, 1e9])
    def test_where_i2t_learns_it_is_held_by_its_reference(self, sure: float) -> None:
        """Eq. 14 to 16, with k3; only sequences of which I2T is sure teach it."""
        given: dict[str, Any] = {"csa_weight": 0.0, "i2t_weight": 0.5, "kl_weight": 2.0}
        model, frozen = made(coevolving=True, sure=sure, **given), made(**given)
        shaken(model.tokenizer, 0.2)
        frozen.tokenizer.load_state_dict(model.tokenizer.state_dict())
        assert model.reference is not None
        codes = copy.deepcopy(model)._select(TARGET, model.generator.read(HISTORY))
        x, selected, divergence = model.items(TARGET), 0.0, 0.0
        now, before = model.tokenizer.log_prob(x, codes), model.reference.log_prob(x, codes)
        for p, q in zip(now.tolist(), before.tolist(), strict=True):
            selected -= (sum(p) if 100 + sum(p) > sure else 0) / 6
            divergence += sum(np.exp(b - a) - (b - a) - 1 for a, b in zip(p, q, strict=True)) / LEVELS / 6
        assert divergence > 0.01
        start = model.reference.log_prob(x, model.start_codes[TARGET]).sum(1).mean().item()
        expected = step(frozen).item() + 0.5 * (selected - start + 2 * divergence)
        assert step(model).item() == pytest.approx(expected, rel=1e-4)
        if sure == 90:
            assert {100 + sum(p) > sure for p in now.tolist()} == {True, False}

    def test_the_reference_learns_the_static_codes_alone(self) -> None:
        model = made(coevolving=True, sure=1e9, kl_weight=0.0)
        step(model).backward()
        assert model.reference is not None
        assert all(weight.grad is None or not weight.grad.any() for weight in model.tokenizer.parameters())
        gradients = [weight.grad for weight in model.reference.parameters()]
        other = made(coevolving=True, kl_weight=5.0)
        step(other).backward()
        assert other.reference is not None
        for one, weight in zip(gradients, other.reference.parameters(), strict=True):
            assert one is not None
            assert weight.grad is not None
            torch.testing.assert_close(one, weight.grad)


def learning(model: Pit) -> set[str]:
    """Parts whose weights get a gradient."""
    model.zero_grad()
    step(model.train()).backward()
    named = model.named_parameters()
    return {name.split(".")[0] for name, weight in named if weight.grad is not None and weight.grad.any()}


class TestGradients:
    def test_who_learns_when(self) -> None:
        assert learning(made(evolved=False)) == {"generator", "tokenizer", "items", "din"}
        assert learning(made()) == {"generator", "items", "din"}
        assert learning(made(coevolving=True, sure=0.0)) == {"generator", "tokenizer", "items", "din", "reference"}
        assert learning(made(csa_weight=0.0)) == {"generator"}

    @pytest.mark.parametrize("evolved", [False, True])
    def test_items_learn_by_alignment_alone(self, evolved: bool) -> None:
        """By nothing that I2T or U2T learns."""
        model = made(evolved=evolved, coevolving=True, csa_weight=0.3)
        step(model).backward()
        found = [weight.grad for weight in model.items.parameters()]
        for weight in model.items.parameters():
            weight.grad = None
        (0.3 * aligned(model, 3)).backward()
        for one, weight in zip(found, model.items.parameters(), strict=True):
            assert one is not None
            assert weight.grad is not None
            torch.testing.assert_close(one, weight.grad)


class TestRanking:
    @torch.inference_mode()
    def test_it_is_brute_force_over_all_sequences(self) -> None:
        model = grown(made())
        owned = [(item, codes) for item, own in enumerate(sequences(model)) for codes in own]
        assert len(owned) > ITEMS
        scores = sequence_scores(model, torch.tensor([codes for _, codes in owned])).double().exp()
        expected = torch.zeros(6, ITEMS, dtype=torch.double)
        for column, (item, _) in enumerate(owned):
            expected[:, item] += scores[:, column]
        found = model.rank(HISTORY, ITEMS)
        assert found.certified.all()
        by_item = torch.zeros(6, ITEMS, dtype=torch.double).scatter(1, found.items - 1, found.scores.double().exp())
        torch.testing.assert_close(by_item, expected, atol=1e-6, rtol=1e-3)
        forced = model.generator.score(HISTORY, EVERY)
        torch.testing.assert_close(forced.double().exp(), expected, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(found.scores, rank_scores(forced, ITEMS).scores, atol=1e-4, rtol=1e-4)


def test_codes_that_two_items_share_are_refused() -> None:
    index = ItemIndex(torch.tensor([(-1,) * 4, (0, 0, 0, 0), (0, 0, 0, 0)]), (CODES,) * LEVELS)
    with pytest.raises(ValueError, match="2 items start with 1 different code sequences; expected one for each"):
        Pit(CONFIG, index, torch.randn(3, 6))


def with_vectors(corpus: Corpus, folder: Path) -> Corpus:
    return dataclasses.replace(corpus, vectors=item_vectors(corpus, "tfidf", None, folder / "vectors"))


SHORT: dict[str, Any] = {
    "tokenizer": dataclasses.replace(SMALL.tokenizer, hidden=(16,), codes=8),
    "tokenizer_epochs": 2,
    "tokenizer_check": 1,
    "pretraining_epochs": 2,
    "warm_steps": 6,
    "steps": 18,
    "history": 6,
    "t5": CONFIG.t5,
    "i2t": CONFIG.i2t,
    "i2i": dataclasses.replace(SMALL.i2i, hidden=(16,), width=8),
}
CONFIGS = {learns: dataclasses.replace(SMALL, coevolving=learns, **SHORT) for learns in (False, True)}


class Trained(NamedTuple):
    model: Pit
    stages: list[Stage]


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return with_vectors(tiny_corpus, tmp_path_factory.mktemp("pit"))


def trained(corpus: Corpus, folder: Path, coevolving: bool, blind: bool = False) -> Trained:
    fit = Fit(corpus, 0, folder, "pit")
    model = train(CONFIGS[coevolving], corpus, Blind(fit) if blind else fit)
    assert isinstance(model, Pit)
    return Trained(model, fit.stages)


@pytest.fixture(scope="module", params=[False, True], ids=["frozen", "coevolving"])
def straight(request: pytest.FixtureRequest, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(corpus, tmp_path_factory.mktemp("straight"), request.param)


@pytest.mark.slow
class TestTraining:
    @pytest.mark.slow
    def test_stages(self, straight: Trained) -> None:
        assert [stage.name for stage in straight.stages] == ["tokenizer", "warm-up", "dynamic"]
        assert [stage.epochs for stage in straight.stages] == [2, 3, 9]

    def test_the_tokenizer_is_frozen_or_learns_on(self, straight: Trained) -> None:
        model, learns = straight.model, straight.model.config.coevolving
        assert all(weight.requires_grad == learns for weight in model.tokenizer.parameters())
        assert (model.reference is not None) == learns
        if model.reference is not None:
            pairs = zip(model.tokenizer.parameters(), model.reference.parameters(), strict=True)
            assert any(not torch.equal(*pair) for pair in pairs)

    def test_the_index_is_that_of_the_chosen_epoch(self, straight: Trained) -> None:
        model, best = straight.model, straight.stages[-1].best_epoch
        assert torch.equal(model.generator.index.codes, model.codes)
        assert len(model.churn) == 9
        assert (model.churn[:best] >= 0).all()
        assert (model.churn[best:] == -1).all()
        assert (model.renewed < best).all()
        every = [codes for item in sequences(model) for codes in item]
        assert len(set(every)) == len(every) > len(model.codes) - 1

    def test_grading_changes_nothing(self, straight: Trained, corpus: Corpus) -> None:
        before = {name: tensor.clone() for name, tensor in straight.model.state_dict().items()}
        for part in ("valid", "test"):
            Grader(corpus, part, k=10)(straight.model)
        after = straight.model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)

    @pytest.mark.slow
    @pytest.mark.parametrize("kill_at", [4, 6 + 7])
    def test_a_killed_training_ends_as_any_other(
        self, corpus: Corpus, tmp_path: Path, straight: Trained, kill_at: int
    ) -> None:
        """Killed in the warm-up, and in the midst of the second stage's fourth epoch."""
        step: Callable[..., Tensor] = Pit.training_step
        numbers, taken = iter(range(1000)), list[bool]()

        def ending(self: Pit, *given: Any) -> Tensor:
            if next(numbers) == kill_at:
                raise StopError
            return step(self, *given)

        def counted(self: Pit, *given: Any) -> Tensor:
            taken.append(self.evolving)
            return step(self, *given)

        learns = straight.model.config.coevolving
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pit, "training_step", ending)
            with pytest.raises(StopError):
                trained(corpus, tmp_path, learns)
            patch.setattr(Pit, "training_step", counted)
            resumed = trained(corpus, tmp_path, learns)
        left = 6 + 18 - kill_at
        assert left <= len(taken) <= left + 1, "it went on from the last epoch"
        found, expected = resumed.model.state_dict(), straight.model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert [stage.quality for stage in resumed.stages] == [stage.quality for stage in straight.stages]


class StopError(Exception):
    pass


class TestNoLeak:
    def test_other_test_targets_change_no_ranking(self, straight: Trained, corpus: Corpus) -> None:
        """The rankings come of the histories alone; what they are graded on is another matter."""
        model = straight.model
        (batch,) = Batches(corpus.examples("test"), 100, model.history_length)
        permuted = corpus.flat.copy()
        last = corpus.offsets[1:] - 1
        permuted[last] = np.roll(permuted[last], 7)
        other = dataclasses.replace(corpus, flat=permuted)
        (same,) = Batches(other.examples("test"), 100, model.history_length)
        assert not torch.equal(batch.target, same.target)
        with torch.inference_mode():
            one, two = (model.rank(some.history, 10) for some in (batch, same))
        assert torch.equal(one.items, two.items)
        graded = [Grader(some, "test", k=10)(model).ranks.tolist() for some in (corpus, other)]
        assert graded[0] != graded[1]

    @pytest.mark.slow
    @pytest.mark.parametrize("coevolving", [False, True])
    def test_held_out_items_change_no_training(self, corpus: Corpus, tmp_path: Path, coevolving: bool) -> None:
        """Not the index, nor its weights: the selection sees training targets alone."""
        one, two = (
            trained(some, tmp_path / some.fingerprint, coevolving, blind=True).model.state_dict()
            for some in (corpus, poison(corpus))
        )
        assert all(torch.equal(one[name], two[name]) for name in one)


class TestStart:
    def test_either_start_names_every_item_alone(self, corpus: Corpus, tmp_path: Path) -> None:
        config, fit = CONFIGS[False], Fit(corpus, 0, tmp_path, "codes")
        by_text = tokenize(config, corpus, fit)
        by_pairs = tokenize(dataclasses.replace(config, start="rq-kmeans"), corpus, fit)
        assert [stage.name for stage in fit.stages] == ["tokenizer", "pretraining"]
        for index in (by_text, by_pairs):
            assert index.sizes == (8, 8, 8, 8)
            assert index.leaves == corpus.items
            assert index.card()["duplicates_after"] == 0
        assert not torch.equal(by_text.codes, by_pairs.codes)
        torch.manual_seed(9)  # a run that finds its pre-training done goes on alike
        assert torch.equal(tokenize(dataclasses.replace(config, start="rq-kmeans"), corpus, fit).codes, by_pairs.codes)

    def test_a_last_codebook_too_small_to_tell_items_apart(self, corpus: Corpus, tmp_path: Path) -> None:
        """Four sequences for 40 items."""
        config = dataclasses.replace(
            CONFIGS[False], tokenizer=dataclasses.replace(SHORT["tokenizer"], codes=2, levels=2)
        )
        with pytest.raises(ValueError, match="items share all codes but the last, whose codebook tells only 2 apart"):
            tokenize(config, corpus, Fit(corpus, 0, tmp_path, "codes"))
