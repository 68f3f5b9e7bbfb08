"""LETTER's loss by hand, its repair of collisions, and its ranking where items share all their codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from benchmarks.training.fit import Fit as HarnessFit
from data_prep.corpus import ItemCodes, ItemVectors
from models import letter
from models.api import Batch, Budget, Corpus, Examples, Fit
from models.letter import Config, Letter, LetterTokenizer, TokenizerConfig, diversity, tokenize, train
from models.parts import quantize
from models.parts.constrained import constrained_kmeans
from models.parts.index import shared
from models.parts.rqvae import unique_code_share
from models.parts.seq2seq import T5Sizes
from tests.factories import corpus_of, index_of, shaken

# Two clusters of four codes have two members each: who draws whom is then no matter of chance.
TOKENIZER = TokenizerConfig(
    hidden=(12,), width=32, levels=2, codes=4, clusters=2, restarts=1, alignment=0.3, diversity=0.2
)
CONFIG = Config(
    tokenizer=TOKENIZER,
    t5=T5Sizes(width=16, inner=24, heads=2, head_width=8, encoder_layers=1, decoder_layers=1, dropout=0.0),
    history=4,
)
ITEMS = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:24] + 1
BATCH = Batch(torch.zeros(24, dtype=torch.long), torch.zeros(24, 0, dtype=torch.long), ITEMS)


def padded(*shape: int, seed: int) -> Tensor:
    """Random vectors, of which the first, of padding, is zero."""
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    vectors[0] = 0
    return vectors


def built(config: TokenizerConfig = TOKENIZER, items: int = 40, seed: int = 0) -> LetterTokenizer:
    torch.manual_seed(seed)
    return LetterTokenizer(config, padded(items + 1, 6, seed=1), padded(items + 1, config.width, seed=2)).train()


def fresh(config: TokenizerConfig = TOKENIZER, items: int = 40) -> LetterTokenizer:
    """Between its first hook and its first step of training."""
    made = built(config, items)
    made.start()
    made.on_train_epoch_start()
    return made


class TestDiversity:
    # Products: 0 of codes 0 and 1, 2 of codes 0 and 2, 1 of codes 1 and 2.
    CODEBOOK = ((1.0, 0.0), (0.0, 1.0), (2.0, 1.0))

    def test_by_hand(self) -> None:
        codebook, cluster = torch.tensor(self.CODEBOOK), torch.tensor([0, 0, 1])
        first = np.log(1 + np.exp(2))  # code 0 wants code 1, and not code 2
        second = np.log(1 + np.exp(1))
        for code, expected in (([0], first), ([1], second), ([0, 1, 1], (first + 2 * second) / 3)):
            assert diversity(codebook, torch.tensor(code), cluster).item() == pytest.approx(expected)

    def test_the_products_with_itself_count_for_nothing(self) -> None:
        codebook = torch.tensor([[100.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        assert diversity(codebook, torch.tensor([0]), torch.tensor([0, 0, 1])).item() == pytest.approx(np.log(2))

    def test_it_equals_numpy_where_each_code_has_one_partner(self) -> None:
        rng = np.random.default_rng(0)
        codebook, partner = rng.normal(size=(8, 5)).astype(np.float32), np.array([3, 6, 5, 0, 7, 2, 1, 4])
        code = rng.integers(8, size=20)
        expected = []
        for own in code:
            others = [j for j in range(8) if j != own]
            products = codebook[others].astype(np.float64) @ codebook[own]
            expected.append(np.log(np.exp(products).sum()) - codebook[partner[own]].astype(np.float64) @ codebook[own])
        cluster = torch.from_numpy(np.minimum(np.arange(8), partner))
        found = diversity(torch.from_numpy(codebook), torch.from_numpy(code), cluster)
        assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)

    def test_the_partner_is_any_other_of_the_cluster(self) -> None:
        codebook, cluster = padded(6, 3, seed=3) + 0.5, torch.tensor([1, 1, 0, 1, 0, 1])
        torch.manual_seed(0)
        found = [diversity(codebook, torch.tensor([1]), cluster).item() for _ in range(300)]
        products = (codebook @ codebook[1]).double()
        rest = torch.cat([products[:1], products[2:]]).logsumexp(0)
        expected = {mate: (rest - products[mate]).item() for mate in (0, 3, 5)}
        times = {mate: sum(abs(value - loss) < 1e-5 for value in found) for mate, loss in expected.items()}
        assert sum(times.values()) == 300
        assert all(70 < number < 130 for number in times.values()), times


class Terms(dict[str, float]):
    """The unweighted terms of the loss."""


def terms(tokenizer: LetterTokenizer) -> Terms:
    """From what the quantizer makes of the batch, in numpy."""
    with torch.no_grad():
        vectors = tokenizer.vectors[ITEMS]
        latent = tokenizer.encoder(vectors)
        quantized = tokenizer.quantizer(latent)
        reconstruction = tokenizer.decoder(quantized.vector)
    codebooks, codes = tokenizer.quantizer.codebooks.detach().double().numpy(), quantized.codes.numpy()
    levels, spread, residual = [], [], latent.double().numpy()
    for level, codebook in enumerate(codebooks):
        residual = residual - codebook[codes[:, level]]
        levels.append(1.25 * np.mean(residual**2))
        cluster = tokenizer.cluster[level].numpy()
        for own in codes[:, level].tolist():
            (mate,) = np.flatnonzero((cluster == cluster[own]) & (np.arange(4) != own))
            others = [code for code in range(4) if code != own]
            products = log_softmax(codebook[others] @ codebook[own])
            spread.append(-products[others.index(int(mate))])
    assert tokenizer.collaborative is not None
    similarity = quantized.vector.double().numpy() @ tokenizer.collaborative[ITEMS].double().numpy().T
    return Terms(
        reconstruction=float(np.mean((reconstruction - vectors).numpy() ** 2)),
        quantisation=float(np.mean(levels)),
        alignment=float(-np.diag(log_softmax(similarity, axis=1)).mean()),
        diversity=float(np.mean(spread)),
    )


def loss_with(tokenizer: LetterTokenizer, **changes: float) -> Tensor:
    tokenizer.config = dataclasses.replace(TOKENIZER, **changes)  # type: ignore[arg-type]
    loss = tokenizer.training_step(BATCH, 0)
    tokenizer.config = TOKENIZER
    return loss


class TestTokenizer:
    def test_the_loss_is_the_weighted_sum_of_four_terms(self) -> None:
        tokenizer = fresh()
        term = terms(tokenizer)
        plain = term["reconstruction"] + term["quantisation"]
        assert min(term.values()) > 0.05, "no term hides behind the others"
        for alignment in (0.0, 0.3, 2.0):
            for weight in (0.0, 0.2, 3.0):
                found = loss_with(tokenizer, alignment=alignment, diversity=weight)
                expected = plain + alignment * term["alignment"] + weight * term["diversity"]
                assert found.item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("name", ["info_nce", "diversity"])
    def test_a_term_that_is_off_is_not_computed(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        class ComputedError(Exception):
            pass

        def fail(*args: Any) -> Tensor:
            raise ComputedError

        tokenizer = fresh()
        monkeypatch.setattr(letter, name, fail)
        with pytest.raises(ComputedError):
            loss_with(tokenizer)
        if name == "info_nce":
            tokenizer.collaborative = None
            loss_with(tokenizer)
        else:
            loss_with(tokenizer, diversity=0.0)

    def test_diversity_moves_the_codebooks_alone(self) -> None:
        tokenizer = fresh()
        names, weights = zip(*tokenizer.named_parameters(), strict=True)
        without, with_it = (torch.autograd.grad(loss_with(tokenizer, diversity=one), weights) for one in (0.0, 1.0))
        moved = [name for name, *pair in zip(names, without, with_it, strict=True) if not torch.equal(*pair)]
        assert moved == ["quantizer.codebooks"]

    def test_alignment_reaches_the_encoder_as_if_nothing_were_quantised(self) -> None:
        tokenizer = fresh()
        weights = list(tokenizer.encoder.parameters())
        latent = tokenizer.encoder(tokenizer.vectors[ITEMS])
        # Of cross-entropy: (softmax - one-hot) at the quantised sum, handed on to the latent as it is.
        sums = tokenizer.quantizer(latent).vector.detach().double().numpy()
        assert tokenizer.collaborative is not None
        collaborative = tokenizer.collaborative[ITEMS].double().numpy()
        at_sum = (softmax(sums @ collaborative.T, axis=1) - np.eye(24)) @ collaborative / 24
        expected = torch.autograd.grad(latent, weights, torch.from_numpy(at_sum).float())
        found = [torch.autograd.grad(loss_with(tokenizer, alignment=one), weights) for one in (1.0, 0.0)]
        for by_hand, aligned, plain in zip(expected, *found, strict=True):
            assert by_hand.abs().max() > 1e-3
            torch.testing.assert_close(aligned - plain, by_hand, atol=1e-6, rtol=1e-4)

    def test_the_first_level_alone_moves_the_encoder(self) -> None:
        tokenizer = fresh()
        weights = list(tokenizer.encoder.parameters())
        found = torch.autograd.grad(loss_with(tokenizer, alignment=0.0, diversity=0.0), weights)
        # Subtracting each level's straight-through output, as the official code does.
        vectors = tokenizer.vectors[ITEMS]
        left = tokenizer.encoder(vectors)
        summed, errors = torch.zeros_like(left), torch.zeros(())
        codes = tokenizer.quantizer(left).codes
        for codebook, code in zip(tokenizer.quantizer.codebooks.detach(), codes.T, strict=True):
            vector = codebook[code]
            errors = errors + nn.functional.mse_loss(left, vector)
            output = left + (vector - left).detach()
            left, summed = left - output, summed + output
        loss = nn.functional.mse_loss(tokenizer.decoder(summed), vectors) + 0.25 * errors / 2
        for by_hand, gradient in zip(torch.autograd.grad(loss, weights), found, strict=True):
            assert by_hand.abs().max() > 1e-4
            torch.testing.assert_close(gradient, by_hand, atol=1e-6, rtol=1e-4)
        # The paper's formula is another.
        tokenizer.quantizer.residual_gradient = "all"
        whole = torch.autograd.grad(loss_with(tokenizer, alignment=0.0, diversity=0.0), weights)
        assert any((one - other).abs().max() > 1e-4 for one, other in zip(whole, found, strict=True))

    def test_clusters_are_made_before_every_epoch(self, in_memory: HarnessFit, monkeypatch: pytest.MonkeyPatch) -> None:
        events: list[str] = []

        def noted(name: str) -> None:
            whole: Callable[..., Any] = getattr(LetterTokenizer, name)

            def noting(self: LetterTokenizer, *args: Any) -> Any:
                events.append(name)
                return whole(self, *args)

            monkeypatch.setattr(LetterTokenizer, name, noting)

        noted("on_train_epoch_start")
        noted("training_step")
        vectors, collaborative = padded(41, 6, seed=1), padded(41, 32, seed=2)
        items = in_memory.corpus.examples("items")
        in_memory("tokenizer", lambda: LetterTokenizer(TOKENIZER, vectors, collaborative), Budget(3, 20), items)
        assert events == ["on_train_epoch_start", "training_step", "training_step"] * 3

    def test_clusters_follow_the_code_vectors(self) -> None:
        tokenizer = fresh(dataclasses.replace(TOKENIZER, codes=8))
        for close in ([0, 1, 2, 3], [0, 3, 5, 7]):
            apart = [code for code in range(8) if code not in close]
            with torch.no_grad():
                tokenizer.quantizer.codebooks[:, close] = 5 + 0.01 * torch.randn(2, 4, 32)
                tokenizer.quantizer.codebooks[:, apart] = -5 + 0.01 * torch.randn(2, 4, 32)
            tokenizer.on_train_epoch_start()
            for cluster in tokenizer.cluster:
                assert len(set(cluster[close].tolist())) == len(set(cluster[apart].tolist())) == 1
                assert cluster[close[0]] != cluster[apart[0]]

    @pytest.mark.parametrize(("codes", "clusters"), [(4, 10), (5, 10), (8, 3), (32, 10), (33, 16), (60, 25)])
    def test_no_code_is_alone_in_its_cluster(self, codes: int, clusters: int) -> None:
        tokenizer = fresh(dataclasses.replace(TOKENIZER, codes=codes, clusters=clusters), items=70)
        # All but one at one place: free clusters would be of one code.
        with torch.no_grad():
            tokenizer.quantizer.codebooks[:] = 0.001 * torch.randn(2, codes, 32)
            tokenizer.quantizer.codebooks[:, 0] = 9.0
        tokenizer.on_train_epoch_start()
        for cluster in tokenizer.cluster:
            members = cluster.bincount()
            assert len(members) == min(clusters, codes // 2)
            assert members.min() >= 2

    def test_groups_of_another_process_are_copied_into_ones_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What came over lies where the sender's does, which may be another GPU."""
        tokenizer, own, theirs = fresh(dataclasses.replace(TOKENIZER, codes=8)), list[Tensor](), list[Tensor]()

        def broadcast(drawn: Tensor) -> Tensor:
            own.append(drawn)
            theirs.append(1 - drawn)
            return theirs[0]

        monkeypatch.setattr(letter, "processes", lambda: 2)
        monkeypatch.setattr(LetterTokenizer, "trainer", SimpleNamespace(strategy=SimpleNamespace(broadcast=broadcast)))
        tokenizer.on_train_epoch_start()
        assert tokenizer.cluster is own[0]
        assert torch.equal(tokenizer.cluster, theirs[0])

    def test_widths_that_differ_are_named(self) -> None:
        with pytest.raises(ValueError, match="latent has width 32, collaborative vectors have 3; expected equal"):
            LetterTokenizer(TOKENIZER, padded(41, 6, seed=1), padded(41, 3, seed=2))


class StopError(Exception):
    """Stands for whatever ends a process."""


class TestStart:
    """The codebooks start when training does, by the seed of the stage."""

    BUDGET = Budget(4, 20, clip=0.0)

    @pytest.fixture
    def starts(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Epochs in which codebooks started from clusters."""
        found: list[int] = []
        start = LetterTokenizer.start

        def noted(self: LetterTokenizer) -> None:
            found.append(self.current_epoch)
            start(self)

        monkeypatch.setattr(LetterTokenizer, "start", noted)
        return found

    def trained(self, corpus: Corpus, folder: Path) -> LetterTokenizer:
        vectors, collaborative = padded(41, 6, seed=1), padded(41, 32, seed=2)
        fit, items = HarnessFit(corpus, 0, folder, "test"), corpus.examples("items")
        build = partial(LetterTokenizer, TOKENIZER, vectors, collaborative)
        return fit("tokenizer", build, self.BUDGET, items, quality=unique_code_share)

    def test_a_tokenizer_is_built_without_clusters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(letter, "constrained_kmeans", None)
        monkeypatch.setattr(quantize.ResidualQuantizer, "start_from", None)
        built()

    def test_the_centres_are_those_of_the_items_residuals(self) -> None:
        tokenizer = built(dataclasses.replace(TOKENIZER, levels=1))
        tokenizer.start()
        latents = tokenizer.encoder(tokenizer.vectors[1:]).detach()
        # 40 items, four codes: clusters of 5 to 20 of them.
        sizes = tokenizer.item_codes()[:, 0].bincount(minlength=4)
        assert sizes.min() >= 1
        torch.manual_seed(tokenizer.start_seed)
        centres, labels = constrained_kmeans(latents, 4, 5, 20)
        assert torch.equal(tokenizer.quantizer.codebooks[0].detach(), centres)
        for cluster in range(4):
            torch.testing.assert_close(centres[cluster], latents[labels == cluster].mean(0))

    def test_the_seed_at_its_building_decides(self) -> None:
        found = []
        for seed, disturbed in ((0, False), (0, True), (1, False)):
            tokenizer = built(seed=seed)
            torch.manual_seed(7 if disturbed else 8)
            before = torch.get_rng_state()
            tokenizer.start()
            assert torch.equal(torch.get_rng_state(), before), "nobody else's chance is touched"
            found.append(tokenizer.quantizer.codebooks.detach().clone())
        assert torch.equal(found[0], found[1])
        assert not torch.allclose(found[0], found[2])

    def test_a_finished_training_is_found_without_clusters(
        self, tiny_corpus: Corpus, tmp_path: Path, starts: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = self.trained(tiny_corpus, tmp_path)
        assert starts == [0]
        monkeypatch.setattr(letter, "constrained_kmeans", None)
        again = self.trained(tiny_corpus, tmp_path)
        assert starts == [0]
        assert torch.equal(again.quantizer.codebooks, first.quantizer.codebooks)

    @pytest.mark.parametrize(("kill_at", "expected"), [(1, [0, 0]), (5, [0])])
    def test_a_killed_training_ends_as_any_other(
        self, tiny_corpus: Corpus, tmp_path: Path, starts: list[int], kill_at: int, expected: list[int]
    ) -> None:
        """Two steps to an epoch: killed before the first checkpoint it starts again, in the third epoch it goes on."""
        straight = self.trained(tiny_corpus, tmp_path / "straight")
        starts.clear()
        step: Callable[..., Tensor] = LetterTokenizer.training_step
        numbers = iter(range(100))

        def ending(self: LetterTokenizer, *args: Any) -> Tensor:
            if next(numbers) == kill_at:
                raise StopError
            return step(self, *args)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(LetterTokenizer, "training_step", ending)
            with pytest.raises(StopError):
                self.trained(tiny_corpus, tmp_path / "killed")
        resumed = self.trained(tiny_corpus, tmp_path / "killed")
        assert starts == expected
        states = straight.state_dict(), resumed.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_fewer_items_than_codes(self, tiny_corpus: Corpus) -> None:
        tokenizer = built(dataclasses.replace(TOKENIZER, codes=41))
        with pytest.raises(ValueError, match="40 item vectors cannot start a codebook of 41 codes"):
            tokenizer.start()


# Level 0 tells four places 10 apart, level 1 four corners of a unit square.
CODEBOOKS = [[[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]


def placed(*latents: tuple[float, float], config: TokenizerConfig | None = None) -> LetterTokenizer:
    """Items whose latents are given: encoder and decoder change nothing."""
    torch.manual_seed(0)
    config = config or dataclasses.replace(TOKENIZER, hidden=(), width=2)
    tokenizer = LetterTokenizer(config, padded(41, 2, seed=1), padded(41, 2, seed=2))
    tokenizer.vectors = torch.tensor([(0.0, 0.0), *latents])
    (linear,) = tokenizer.encoder
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(2))
        linear.bias.zero_()
        if config.codes == 4:
            tokenizer.quantizer.codebooks.copy_(torch.tensor(CODEBOOKS))
        else:
            tokenizer.start()
    return tokenizer


@pytest.fixture
def assignments(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of the Sinkhorn assignment was about."""
    sizes: list[int] = []
    whole = quantize.sinkhorn

    def noted(distance: Tensor, epsilon: float) -> Tensor:
        sizes.append(len(distance))
        return whole(distance, epsilon)

    monkeypatch.setattr(letter, "sinkhorn", noted)
    return sizes


class TestReassignment:
    def test_items_that_differ_are_told_apart_by_the_last_code(self) -> None:
        # Two items at place 0, three at place 3; the others collide with none.
        tokenizer = placed((0.0, 0.0), (0.1, 0.0), (11.0, 0.0), (10.0, 10.2), (10.0, 9.9), (10.1, 10.0), (10.0, 1.0))
        codes = torch.tensor([[0, 0], [0, 0], [1, 1], [3, 0], [3, 0], [3, 0], [1, 2]])
        assert torch.equal(tokenizer.item_codes(), codes)
        repaired = tokenizer.reassigned(codes)
        assert shared(codes) == pytest.approx(5 / 7)
        assert torch.equal(repaired[:, 0], codes[:, 0])
        assert torch.equal(repaired[[2, 6]], codes[[2, 6]])
        assert len(repaired.unique(dim=0)) == 7

    def test_a_repair_that_goes_back_and_forth_ends_with_its_rounds(self, assignments: list[int]) -> None:
        # The second item is sent to the third one's code, from which in the next round it is sent back.
        tokenizer = placed((0.0, 0.0), (0.1, 0.0), (1.0, 0.0))
        odd, even = [[0, 0], [0, 1], [0, 1]], [[0, 0], [0, 0], [0, 1]]
        codes = tokenizer.item_codes()
        assert codes.tolist() == even
        for rounds in range(4):
            assert tokenizer.reassigned(codes, rounds).tolist() == (odd if rounds % 2 else even)
        assert tokenizer.reassigned(codes).tolist() == even
        assert assignments == [2] * (0 + 1 + 2 + 3 + 20)

    def test_on_many_items_only_those_that_collide_change_and_fewer_collide(self) -> None:
        config = dataclasses.replace(TOKENIZER, hidden=(), width=2, codes=8, clusters=4)
        latents = torch.randn(30, 2, generator=torch.Generator().manual_seed(5))
        tokenizer = placed(*((x, y) for x, y in latents.tolist()), config=config)
        codes = tokenizer.item_codes()
        repaired = tokenizer.reassigned(codes, rounds=1)
        _, group, count = codes.unique(dim=0, return_inverse=True, return_counts=True)
        alone = count[group] == 1
        assert 5 <= alone.sum() <= 25
        assert torch.equal(repaired[alone], codes[alone])
        assert torch.equal(repaired[:, 0], codes[:, 0])
        assert shared(tokenizer.reassigned(codes)) < 0.7 * shared(codes)

    @pytest.mark.parametrize("at_once", [1, 7, 16_384])
    def test_it_is_a_loop_over_the_groups(self, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
        config = dataclasses.replace(TOKENIZER, hidden=(), width=2, codes=8, clusters=4)
        latents = torch.randn(300, 2, generator=torch.Generator().manual_seed(5))
        tokenizer = placed(*((x, y) for x, y in latents.tolist()), config=config)
        codes = tokenizer.item_codes()
        distance = -tokenizer.eval().quantizer(latents).logits[:, -1].detach()
        monkeypatch.setattr(letter, "AT_ONCE", at_once)
        looped = codes.clone()
        for rounds in range(1, 4):
            before = looped.clone()
            for row in before.unique(dim=0):
                members = (before == row).all(1).nonzero().flatten()
                if len(members) > 1:
                    looped[members, -1] = quantize.sinkhorn(distance[members], config.epsilon)
            assert not torch.equal(looped, before)
            assert torch.equal(tokenizer.reassigned(codes, rounds), looped)
        sizes = codes.unique(dim=0, return_counts=True)[1]
        assert len(sizes[sizes > 1].unique()) > 5, "groups of many sizes"

    def test_items_of_one_vector_stay_equal(self, assignments: list[int]) -> None:
        tokenizer = placed((0.1, 9.9), (5.0, 0.0), (0.1, 9.9), (0.1, 9.9))
        repaired = tokenizer.reassigned(tokenizer.item_codes())
        assert repaired[0, 0] == 2
        assert torch.equal(repaired[0], repaired[2])
        assert torch.equal(repaired[0], repaired[3])
        assert set(assignments) == {3}
        assert len(assignments) <= 3, "the same assignment twice is the end"

    def test_without_collisions_there_is_nothing_to_do(self, assignments: list[int]) -> None:
        tokenizer = placed((0.0, 0.0), (1.0, 0.0), (10.0, 0.0))
        codes = tokenizer.item_codes()
        assert torch.equal(tokenizer.reassigned(codes), codes)
        assert assignments == []

    def test_the_codes_that_are_given_are_left_alone(self) -> None:
        tokenizer = placed((0.0, 0.0), (0.1, 0.0))
        codes = tokenizer.item_codes()
        assert not torch.equal(tokenizer.reassigned(codes), codes)
        assert codes.tolist() == [[0, 0], [0, 0]]


def with_vectors(values: np.ndarray, collaborative: np.ndarray) -> Corpus:
    items = len(values) - 1
    return corpus_of(
        [range(1, items // 2 + 1), range(items // 2 + 1, items + 1)],
        items,
        vectors=ItemVectors(values, "npz", "file.npz", "0" * 64, stand_in=False),
        collaborative=ItemVectors(collaborative, "sasrec-32", "SASRec", "1" * 64, stand_in=False),
    )


def test_the_card_counts_duplicates_before_and_after_the_repair() -> None:
    values, collaborative = padded(41, 6, seed=1).numpy(), padded(41, 32, seed=2).numpy()
    values[[9, 21]] = values[2]
    stages: dict[str, tuple[Any, Budget, Examples | None, Any]] = {}

    def untrained(stage: str, build: Any, budget: Budget, examples: Examples, quality: Any) -> nn.Module:
        stages[stage] = (build(), budget, examples, quality)
        return stages[stage][0]

    fit: Fit = untrained  # type: ignore[assignment]
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, tokenizer=dataclasses.replace(TOKENIZER, codes=8))
    index = tokenize(config, with_vectors(values, collaborative), fit)
    tokenizer, budget, examples, quality = stages["tokenizer"]
    assert (budget.epochs, budget.batch_size, budget.check_every) == (20_000, 1024, 2_000)
    assert budget.clip == 0, "the official code does not clip its gradients"
    assert examples is not None
    assert examples.target.tolist() == list(range(1, 41))
    assert quality is unique_code_share

    def duplicates(codes: Tensor) -> float:
        rows = [tuple(row) for row in codes.tolist()]
        return sum(rows.count(row) > 1 for row in rows) / 40

    codes, card = index.codes[1:, 0], index.card()
    assert torch.equal(codes, tokenizer.reassigned(tokenizer.item_codes()))
    assert (codes[1] == codes[8]).all()
    assert (codes[1] == codes[20]).all()
    assert index.sizes == (8, 8), "no suffix code"
    assert card["duplicates_before"] == pytest.approx(duplicates(tokenizer.item_codes()))
    assert card["duplicates_after"] == pytest.approx(duplicates(codes))
    assert card["duplicates_after"] < card["duplicates_before"]


class TestCodesFromAFile:
    ROWS = np.array([[0, 1, 2], [1, 0, 0], [0, 1, 2], [1, 1, 3]] * 10)
    CONFIG = dataclasses.replace(CONFIG, vectors=None, collaborative=None, codes="file.tsv", epochs=1, batch_size=64)

    def given(self, corpus: Corpus) -> Corpus:
        return dataclasses.replace(corpus, codes=ItemCodes(self.ROWS, (2, 2, 4), "file.tsv", "0" * 64))

    def test_the_index_is_the_files_and_nothing_is_trained(self, in_memory: HarnessFit, tiny_corpus: Corpus) -> None:
        index = tokenize(self.CONFIG, self.given(tiny_corpus), in_memory)
        assert in_memory.stages == []
        assert index.codes[1:, 0].tolist() == self.ROWS.tolist()
        assert index.codes[0, 0].tolist() == [-1, -1, -1]
        assert index.sizes == (2, 2, 4)
        card = index.card()
        assert card["duplicates_before"] == card["duplicates_after"] == 1.0

    def test_the_recommender_learns_on_them(self, in_memory: HarnessFit, tiny_corpus: Corpus) -> None:
        made = train(self.CONFIG, self.given(tiny_corpus), in_memory)
        assert [stage.name for stage in in_memory.stages] == ["recommender"]
        assert isinstance(made, Letter)
        assert made.generator.index.codes[1:, 0].tolist() == self.ROWS.tolist()
        ranking = made.rank(torch.tensor([[3, 5]]), 40)
        assert sorted(ranking.items[0].tolist()) == list(range(1, 41))
        assert ranking.certified.all()

    @pytest.mark.parametrize("read", [{"vectors": "tfidf"}, {"collaborative": "sasrec-32"}])
    def test_codes_of_a_file_are_given_without_vectors(
        self, in_memory: HarnessFit, tiny_corpus: Corpus, read: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match="leave nothing that reads vectors; set vectors=null collaborative=null"):
            tokenize(dataclasses.replace(self.CONFIG, **read), tiny_corpus, in_memory)

    def test_a_corpus_without_codes_is_named(self, in_memory: HarnessFit, tiny_corpus: Corpus) -> None:
        with pytest.raises(ValueError, match=f"corpus {tiny_corpus.name} was given no codes"):
            tokenize(self.CONFIG, tiny_corpus, in_memory)


SIZES = (4, 3, 2)
# Items 2 and 9 share their codes, and so do 5, 6 and 12.
ROWS = [(2, 0, 1), (3, 2, 0), (0, 0, 0), (1, 1, 1), (0, 2, 1), (0, 2, 1)]
ROWS += [(2, 1, 0), (3, 0, 0), (3, 2, 0), (1, 0, 0), (2, 0, 0), (0, 2, 1), (1, 2, 1)]
TWINS = [(2, 9), (5, 6, 12)]
HISTORY = torch.tensor([[1, 0, 0, 0], [5, 3, 11, 8], [9, 9, 0, 0], [4, 13, 2, 0], [7, 0, 0, 0], [10, 12, 6, 0]])
TARGET = torch.tensor([9, 1, 3, 13, 12, 8])


def made(temperature: float = 1.0) -> Letter:
    torch.manual_seed(0)
    index = index_of(ROWS, SIZES)
    model = Letter(dataclasses.replace(CONFIG, temperature=temperature), index).eval()
    return shaken(model, 0.5)


@torch.inference_mode()
def test_items_of_one_sequence_stand_together_by_id_and_each_has_a_rank_of_its_own() -> None:
    model = made()
    whole = model.rank(HISTORY, 13)
    for user, row in enumerate(whole.items.tolist()):
        assert sorted(row) == list(range(1, 14))
        for twins in TWINS:
            start = row.index(twins[0])
            assert row[start : start + len(twins)] == list(twins)
            assert len(set(whole.scores[user, start : start + len(twins)].tolist())) == 1
            # A list that ends among them has the smaller ids only: a hit is one item's.
            for cut in range(1, len(twins)):
                short = model.rank(HISTORY[user : user + 1], start + cut).items[0].tolist()
                assert [item for item in short if item in twins] == list(twins[:cut])


@pytest.mark.parametrize("temperature", [0.5, 0.7, 1.0, 1.2])
@torch.inference_mode()
def test_the_loss_divides_logits_by_the_temperature(temperature: float) -> None:
    model = made(temperature)
    generator = model.generator
    # Tokens: 1 + code, 5 + code, 8 + code; the softmax is over all tokens.
    labels = [[code + first for code, first in zip(ROWS[item - 1], (1, 5, 8), strict=True)] for item in TARGET.tolist()]
    inputs = torch.tensor([[0, *row[:-1]] for row in labels])
    states = generator.transformer.decode(generator.token(inputs), generator.read(HISTORY).encoded)
    logits = (states @ generator.token.weight.T).double().numpy() / 4  # the root of the width
    log_probs = log_softmax(logits / temperature, axis=-1)
    expected = -np.mean([log_probs[user, level, labels[user][level]] for user in range(6) for level in range(3)])
    batch = Batch(torch.arange(6), HISTORY, TARGET)
    assert model.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-5)
    assert (abs(made(1.0).training_step(batch, 0).item() - expected) > 1e-2) == (temperature != 1.0)


@torch.inference_mode()
def test_ranking_does_not_depend_on_the_temperature() -> None:
    plain, sharp = made(1.0), made(0.5)
    assert torch.equal(plain.rank(HISTORY, 13).scores, sharp.rank(HISTORY, 13).scores)
    assert torch.equal(plain.rank(HISTORY, 13).items, sharp.rank(HISTORY, 13).items)
    items = torch.arange(1, 14).expand(6, -1)
    assert torch.equal(plain.generator.score(HISTORY, items), sharp.generator.score(HISTORY, items))
