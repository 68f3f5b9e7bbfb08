"""PIT: its losses and selections by hand and brute force, what learns when, and that no target leaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.evaluate import Grader, target_ranks
from benchmarks.fit import Fit
from benchmarks.keeper import Stage
from data_prep.batches import Batches
from data_prep.corpus import Corpus, ItemVectors
from data_prep.embed import item_vectors
from models.api import Batch
from models.parts.beam_index import selected
from models.parts.index import ItemIndex
from models.parts.item_to_token import ItemToTokenConfig, chosen
from models.parts.ranking import rank_scores
from models.parts.seq2seq import T5Sizes
from models.pit import SMALL, Affinity, Config, Pit, minimum_loss, tokenize, train
from tests.models.test_contract import Blind, poison

ITEMS, CODES, LEVELS, WIDTH = 12, 4, 3, 16
CONFIG = Config(
    codes=CODES,
    t5=T5Sizes(width=WIDTH, inner=24, heads=2, head_width=8, encoder_layers=1, decoder_layers=1, dropout=0.0),
    i2t=ItemToTokenConfig(layers=1, heads=2, inner=16, dropout=0.0),
    history=4,
)
HISTORY = torch.tensor([[1, 0, 0, 0], [5, 3, 11, 8], [9, 9, 0, 0], [4, 12, 2, 0], [7, 0, 0, 0], [10, 12, 6, 0]])
TARGET = torch.tensor([9, 1, 3, 11, 12, 8])
BATCH = Batch(torch.arange(6), HISTORY, TARGET)
EVERY = torch.arange(1, ITEMS + 1).expand(6, -1)


def made(seed: int = 0, evolved: bool = True, spread: float = 0.4, **changes: Any) -> Pit:
    torch.manual_seed(seed)
    codes = torch.randint(CODES, (ITEMS + 1, LEVELS))
    codes[0] = -1
    vectors = torch.cat([torch.zeros(1, 6), torch.randn(ITEMS, 6)])
    model = Pit(dataclasses.replace(CONFIG, **changes), ItemIndex(codes, (CODES,) * LEVELS), vectors)
    with torch.no_grad():  # far from the even distribution of a fresh model
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * spread)
    return model.evolve(5).eval() if evolved else model.eval()


def sequence_scores(model: Pit, codes: Tensor) -> Tensor:
    """`[B, X]` log-probabilities of sequences `[X, L]` for all histories, one history and one sequence at a time."""
    labels = model.generator.sequence_tokens(codes)
    rows = []
    for user in range(len(HISTORY)):
        read = model.generator.read(HISTORY[user : user + 1])
        each = [model.generator.chosen(model.generator.states(row[None], read), row[None]).sum() for row in labels]
        rows.append(torch.stack(each))
    return torch.stack(rows).detach()


class TestSelection:
    def test_minimum_loss_on_a_table(self) -> None:
        losses = torch.tensor([[3.0, 1.0, 2.0], [2.0, 2.0, 2.0], [1.0, 0.5, torch.inf], [0.5, 0.5, 0.5]])
        weights = torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.5, 0.5, 0.0], [0.4, 0.2, 0.4]])
        # The arg-min; among equals the heaviest; a candidate that is not there never; among all equals the first.
        assert minimum_loss(losses, weights).tolist() == [1, 1, 1, 0]

    @pytest.mark.parametrize("training", [True, False])
    def test_the_history_takes_the_candidate_it_makes_the_most_of(self, training: bool) -> None:
        model = made().train(training)
        before = model.weights.clone()
        found = model.training_step(BATCH, 0)
        assert model.generator.training == training
        choices, losses = [], []
        for user, item in enumerate(TARGET.tolist()):
            held = model.codes[item][model.codes[item, :, 0] >= 0]
            scores = sequence_scores(model, held)[user]
            choices.append(int(scores.argmax()))
            losses.append(-scores.max().item() / LEVELS)
        assert len(set(choices)) > 1
        assert found.item() == pytest.approx(np.mean(losses), rel=1e-4)
        expected = selected(before, TARGET, torch.tensor(choices), 0.99)
        torch.testing.assert_close(model.weights, expected)

    def test_dropout_does_not_choose(self) -> None:
        """It is in what was read of the history, alike for all candidates, and in none of their own scores."""
        model = made(t5=dataclasses.replace(CONFIG.t5, dropout=0.5)).train()
        read = model.generator.read(HISTORY)
        weights = model.weights.clone()
        found = []
        for seed in range(8):
            torch.manual_seed(seed)
            model.weights = weights.clone()
            found.append(model._selected(TARGET, read).tolist())
        assert all(codes == found[0] for codes in found)
        assert model.generator.training

    def test_a_place_without_candidate_is_never_taken(self) -> None:
        for selection in ("random", "minimum-loss"):
            model = made(selection=selection, capacity=1)
            assert (model.codes[TARGET] == -1).any()
            for _ in range(20):
                assert model._selected(TARGET, model.generator.read(HISTORY)).min() >= 0

    def test_at_random_each_is_taken(self) -> None:
        model = made(selection="random", decay=0.5)
        torch.manual_seed(0)
        for _ in range(60):
            model.training_step(BATCH, 0)
        held = model.codes[TARGET][..., 0] >= 0
        assert (model.weights[TARGET][held] > 1e-4).all()
        assert int(held.sum()) > len(TARGET)


class TestEvolution:
    def test_candidates_are_those_of_i2t_and_the_warm_ups(self) -> None:
        model, warm = made(), made(evolved=False)
        levels = warm.generator.vectors()
        every, sizes = torch.cartesian_prod(*[torch.arange(CODES)] * LEVELS), list[int]()
        for item in range(1, ITEMS + 1):
            scores = warm.tokenizer.log_prob(torch.full((len(every),), item), every, levels)
            own = tuple(warm.generator.index.codes[item, 0].tolist())
            codes, best = warm.tokenizer.best(torch.tensor([item]), levels, 4)
            expected = dict(zip(map(tuple, codes[0].tolist()), best[0].tolist(), strict=True))
            if own not in expected:
                expected.popitem()
                expected[own] = scores[(every == torch.tensor(own)).all(1)].item()
            heaviest = max(expected.values())
            kept = {codes: np.exp(score) for codes, score in expected.items() if score >= heaviest + np.log(0.05)}
            held = model.codes[item, :, 0] >= 0
            found = dict(zip(map(tuple, model.codes[item, held].tolist()), model.weights[item].tolist(), strict=False))
            assert found == pytest.approx({codes: part / sum(kept.values()) for codes, part in kept.items()}, rel=1e-4)
            sizes.append(len(found))
            assert model.weights[item].tolist() == sorted(model.weights[item].tolist(), reverse=True)
        assert {4} < set(sizes), "some edges were too light"

    def test_the_index_has_them_with_their_weights(self) -> None:
        model = made()
        assert torch.equal(model.generator.index.codes, model.codes)
        assert model.generator.index.weights is not None
        assert torch.equal(model.generator.index.weights, model.weights)

    def test_top_1_is_found_by_the_heaviest_alone(self) -> None:
        model = made(ranked="top-1")
        assert torch.equal(model.generator.index.codes, model.codes[:, :1])
        assert model.codes.shape[1] == 4, "training still has all"

    def test_one_candidate_is_the_warm_ups_for_good(self) -> None:
        model, warm = made(candidates=1), made(evolved=False)
        assert torch.equal(model.codes, warm.generator.index.codes)
        model.train().training_step(BATCH, 0)
        model._reindex(None)
        assert torch.equal(model.codes, warm.generator.index.codes)

    def test_capacity_holds_from_the_start(self) -> None:
        named = [tuple(codes) for item in made(capacity=1).codes[1:].tolist() for codes in item[1:] if codes[0] >= 0]
        assert len(set(named)) == len(named) > 0, "heaviest edges apart, a sequence names one item"
        assert made().generator.index.largest_group > 1

    @pytest.mark.parametrize("coevolving", [False, True])
    def test_the_end_of_an_epoch_prunes_and_renews(self, coevolving: bool) -> None:
        """Where I2T learns on, what it has come to propose fills the places; churn counts the heaviest alone."""
        model = made(coevolving=coevolving, prune=0.0)
        model.config = dataclasses.replace(model.config, prune=0.5)
        model.weights = torch.tensor([0.1, 0.3, 0.5, 0.1]).expand(ITEMS + 1, -1) * (model.codes[..., 0] >= 0)
        with torch.no_grad():
            for weight in model.tokenizer.parameters():
                weight.add_(torch.randn_like(weight) * 0.5)
        before, proposed = model.codes.clone(), model._proposed()[0]
        model.on_train_epoch_end()
        moved, renewed = 0, 0
        for item in range(1, ITEMS + 1):
            old = [tuple(codes) for codes in before[item].tolist()]
            assert old[2] != (-1,) * LEVELS
            fresh = [tuple(codes) for codes in proposed[item - 1].tolist() if tuple(codes) not in old]
            expected = [old[2], old[1], *(fresh[:2] if coevolving else [])]
            found = [tuple(codes) for codes in model.codes[item].tolist() if codes[0] >= 0]
            assert found == expected
            moved += found[0] != old[0]
            renewed += len(found) - 2
        assert model.churn.tolist() == [moved / ITEMS, -1, -1, -1, -1]
        assert (renewed > 0) == coevolving
        assert torch.equal(model.generator.index.codes, model.codes)

    def test_i2t_proposes_without_dropout(self) -> None:
        model = made(i2t=dataclasses.replace(CONFIG.i2t, dropout=0.5)).train()
        found = [model._proposed() for _ in range(3)]
        assert all(torch.equal(codes, found[0][0]) and torch.equal(scores, found[0][1]) for codes, scores in found)
        assert model.training

    def test_histories_have_the_heaviest_sequence(self) -> None:
        model = made()
        tokens = model.generator.item_tokens(torch.tensor([4]))
        heaviest = model.codes[4, model.weights[4].argmax()]
        assert tokens[0].tolist() == [1 + level * CODES + code for level, code in enumerate(heaviest.tolist())]


class TestLoss:
    def parts(self, model: Pit, codes: Tensor) -> tuple[Tensor, Tensor]:
        """CE of U2T and of I2T on sequences of the targets."""
        labels = model.generator.sequence_tokens(codes)
        u2t = model.generator.loss(model.generator.states(labels, model.generator.read(HISTORY)), labels)
        log_probs = model.tokenizer(model.tokenizer.items(TARGET), codes[:, :-1], model.generator.vectors())
        return u2t, -chosen(log_probs, codes).mean()

    def test_the_warm_up_is_the_sum_of_three(self) -> None:
        model = made(evolved=False, i2t_weight=0.7, csa_weight=0.3)
        u2t, i2t = self.parts(model, model.generator.index.codes[TARGET, 0])
        torch.manual_seed(3)
        found = model.training_step(BATCH, 0)
        torch.manual_seed(3)
        assert model.affinity is not None
        alignment = model._alignment(model.affinity, BATCH)
        torch.testing.assert_close(found, u2t + 0.7 * i2t + 0.3 * alignment)
        without = made(evolved=False, csa_weight=0.0)
        u2t, i2t = self.parts(without, without.generator.index.codes[TARGET, 0])
        torch.testing.assert_close(without.training_step(BATCH, 0), u2t + i2t)

    def test_the_co_evolution_adds_the_divergence_from_its_start(self) -> None:
        model = made(coevolving=True, csa_weight=0.0, selection="minimum-loss", kl_weight=2.0, candidates=1)
        codes = model.codes[TARGET, 0]
        u2t, i2t = self.parts(model, codes)
        torch.testing.assert_close(model.training_step(BATCH, 0), u2t + i2t)  # no divergence yet
        start = made(evolved=False, csa_weight=0.0)
        with torch.no_grad():
            for weight in (*model.tokenizer.parameters(), model.generator.token.weight):
                weight.add_(torch.randn_like(weight) * 0.1)
        u2t, i2t = self.parts(model, codes)
        now, then = (
            one.tokenizer(one.tokenizer.items(TARGET), codes[:, :-1], one.generator.vectors()) for one in (model, start)
        )
        kl = np.mean(
            [F.kl_div(q, p, reduction="batchmean", log_target=True).item() for p, q in zip(now, then, strict=True)]
        )
        assert kl > 0.01
        assert model.training_step(BATCH, 0).item() == pytest.approx((u2t + i2t).item() + 2 * kl, rel=1e-4)

    def test_alignment_is_binary_cross_entropy_against_negatives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A negative that is the target by chance counts as one."""
        model = made(evolved=False)
        negative = torch.tensor([[9, 2, 3, 4]] * 6)
        monkeypatch.setattr(torch, "randint", lambda *given, **options: negative)
        assert model.affinity is not None
        found = model._alignment(model.affinity, BATCH).item()
        total = 0.0
        for user, target in enumerate(TARGET.tolist()):
            past = [item for item in HISTORY[user].tolist() if item]
            for item in (target, 9, 2, 3, 4):
                logit = affinity_by_hand(model, model.affinity, past, item)
                total += np.logaddexp(0, -logit if item == target else logit)
        assert found == pytest.approx(total / 30, rel=1e-4)


def affinity_by_hand(model: Pit, affinity: Affinity, past: list[int], item: int) -> float:
    def mlp(layers: Any, x: np.ndarray) -> np.ndarray:
        for layer in layers:
            linear = isinstance(layer, torch.nn.Linear)
            x = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy() if linear else np.maximum(x, 0)
        return x

    with torch.no_grad():
        vectors = model.tokenizer.items(torch.arange(ITEMS + 1)).numpy()
    x = vectors[item]
    pooled = np.zeros_like(x)
    for other in past:
        h = vectors[other]
        pooled += mlp(affinity.attention, np.concatenate([h, x, h - x, h * x])) * h
    return float(mlp(affinity.head, np.concatenate([pooled, x, pooled * x]))[0])


def learning(model: Pit) -> set[str]:
    """Parts whose weights get a gradient."""
    model.zero_grad()
    model.train().training_step(BATCH, 0).backward()
    named = model.named_parameters()
    return {name.split(".")[0] for name, weight in named if weight.grad is not None and weight.grad.any()}


class TestGradients:
    def test_who_learns_when(self) -> None:
        assert learning(made(evolved=False)) == {"generator", "tokenizer", "affinity"}
        assert learning(made()) == {"generator"}
        assert learning(made(coevolving=True)) == {"generator", "tokenizer", "affinity"}

    def test_items_learn_by_alignment_alone_and_as_candidates(self) -> None:
        """The user's side is detached, and so is what I2T starts from."""
        model = made(evolved=False, spread=0.05)
        model.training_step(BATCH, 0).backward()
        assert model.tokenizer.own.weight.grad is not None
        model.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randint", lambda *given, **options: torch.full((6, 4), 9))
            model.training_step(BATCH, 0).backward()
        gradient = model.tokenizer.own.weight.grad
        moved = gradient.abs().sum(1).nonzero().flatten().tolist()
        assert moved == sorted({9, *TARGET.tolist()}), "items of the histories alone, 2, 4, 5, 6, 7 and 10, do not"
        without = made(evolved=False, csa_weight=0.0)
        without.training_step(BATCH, 0).backward()
        assert without.tokenizer.own.weight.grad is None


class TestRanking:
    @pytest.mark.parametrize("uneven", [False, True])
    @torch.inference_mode()
    def test_it_is_brute_force_over_four_sequences(self, uneven: bool) -> None:
        model = made()
        if uneven:
            torch.manual_seed(1)
            weights = torch.rand_like(model.weights).pow(8).clamp(min=1e-6)
            model.generator.index.assign(model.codes, weights=weights)
        else:
            weights = model.weights
        assert model.codes.shape[1] == 4
        total: dict[tuple[int, ...], float] = {}
        edges = [
            (item, tuple(codes), weights[item, place].item())
            for item in range(1, ITEMS + 1)
            for place, codes in enumerate(model.codes[item].tolist())
            if codes[0] >= 0
        ]
        for _, codes, weight in edges:
            total[codes] = total.get(codes, 0) + weight
        assert len(total) < len(edges), "some sequences name several items"
        scores = sequence_scores(model, torch.tensor(list(total))).double().exp()
        expected = torch.zeros(6, ITEMS, dtype=torch.double)
        for item, codes, weight in edges:
            expected[:, item - 1] += scores[:, list(total).index(codes)] * weight / total[codes]
        found = model.rank(HISTORY, ITEMS)
        assert found.certified.all()
        by_item = torch.zeros(6, ITEMS, dtype=torch.double).scatter(1, found.items - 1, found.scores.double().exp())
        torch.testing.assert_close(by_item, expected, atol=1e-6, rtol=1e-3)
        forced = model.generator.score(HISTORY, EVERY)
        torch.testing.assert_close(forced.double().exp(), expected, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(found.scores, rank_scores(forced, ITEMS).scores, atol=1e-4, rtol=1e-4)

    def test_a_hit_is_the_item_and_none_of_its_sequences(self) -> None:
        """Items 1 and 2 have the same sequence; 2 is listed first, and is no hit of 1."""
        model = made()
        codes = model.codes.clone()
        codes[2] = codes[1]
        weights = model.weights.clone()
        weights[2] = weights[1] * 3
        model.generator.index.assign(codes, weights=weights)
        with torch.inference_mode():
            items = model.rank(HISTORY, ITEMS).items
        ranks = target_ranks(items, torch.ones(6, dtype=torch.long))
        for user, row in enumerate(items.tolist()):
            assert row.index(2) < row.index(1)
            assert ranks[user] == row.index(1) + 1


def with_vectors(corpus: Corpus, folder: Path) -> Corpus:
    return dataclasses.replace(corpus, vectors=item_vectors(corpus, "tfidf", None, folder / "vectors"))


SHORT: dict[str, Any] = {
    "codes": 8,
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


class TestTraining:
    def test_stages(self, straight: Trained) -> None:
        assert [stage.name for stage in straight.stages] == ["pretraining", "warm-up", "co-evolution"]
        assert [stage.epochs for stage in straight.stages] == [2, 3, 9]

    def test_the_tokenizer_is_frozen_or_evolves(self, straight: Trained, corpus: Corpus, tmp_path: Path) -> None:
        model = straight.model
        learns = model.config.coevolving
        assert model.affinity is not None
        for part in (model.tokenizer, model.affinity):
            assert all(weight.requires_grad == learns for weight in part.parameters())
        held = model.codes[1:, :, 0] >= 0
        torch.testing.assert_close(model.weights[1:].sum(1), torch.ones(40))
        assert held[:, 0].all()
        assert (model.reference is not None) == learns
        if model.reference is not None:
            pairs = zip(model.tokenizer.parameters(), model.reference.parameters(), strict=True)
            assert any(not torch.equal(*pair) for pair in pairs)

    def test_churn_is_kept_of_every_epoch_up_to_the_chosen_one(self, straight: Trained) -> None:
        churn, best = straight.model.churn, straight.stages[-1].best_epoch
        assert len(churn) == 9
        assert (churn[:best] >= 0).all()
        assert (churn[best:] == -1).all()
        assert churn.max() <= 1

    def test_grading_changes_nothing(self, straight: Trained, corpus: Corpus) -> None:
        before = {name: tensor.clone() for name, tensor in straight.model.state_dict().items()}
        for part in ("valid", "test"):
            Grader(corpus, part, k=10)(straight.model)
        after = straight.model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)

    @pytest.mark.parametrize("kill_at", [4, 6 + 7])
    def test_a_killed_training_ends_as_any_other(
        self, corpus: Corpus, tmp_path: Path, straight: Trained, kill_at: int
    ) -> None:
        """Killed in the warm-up, and in the midst of the co-evolution's fourth epoch."""
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

    @pytest.mark.parametrize("coevolving", [False, True])
    def test_held_out_items_change_no_training(self, corpus: Corpus, tmp_path: Path, coevolving: bool) -> None:
        """Not the edges of the index, nor their weights: the selection sees training targets alone."""
        one, two = (
            trained(some, tmp_path / some.fingerprint, coevolving, blind=True).model.state_dict()
            for some in (corpus, poison(corpus))
        )
        assert all(torch.equal(one[name], two[name]) for name in one)


class TestWarmStart:
    def test_codes_come_of_pairs_or_of_text(self, corpus: Corpus, tmp_path: Path) -> None:
        fit = Fit(corpus, 0, tmp_path, "codes")
        config = CONFIGS[False]
        paired = tokenize(config, corpus, fit)
        assert [stage.name for stage in fit.stages] == ["pretraining"]
        plain = tokenize(dataclasses.replace(config, pretrained=False), corpus, fit)
        assert len(fit.stages) == 1
        assert paired.sizes == plain.sizes == (8, 8, 8)
        assert not torch.equal(paired.codes, plain.codes)
        torch.manual_seed(9)  # a run that finds its pre-training done goes on alike
        assert torch.equal(tokenize(config, corpus, fit).codes, paired.codes)

    def test_text_far_apart_is_told_apart(self, tmp_path: Path) -> None:
        vectors = np.zeros((9, 4), np.float32)
        vectors[1:5, 0], vectors[5:, 1] = 1, 1
        vectors[1:] += np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32) * 0.01
        vectors[1:] *= np.array([1, 50, 2, 40, 30, 1, 20, 2], np.float32)[:, None]  # length says nothing
        corpus = Corpus(
            "hand",
            np.arange(8, dtype=np.int32) + 1,
            np.array([0, 4, 8]),
            ["u0", "u1"],
            [f"i{item}" for item in range(8)],
            vectors=ItemVectors(vectors, "npz", "file.npz", "0" * 64, stand_in=False),
        )
        config = dataclasses.replace(CONFIG, pretrained=False, codes=2)
        first = tokenize(config, corpus, Fit(corpus, 0, tmp_path, "none")).codes[1:, 0, 0].tolist()
        assert first in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)
