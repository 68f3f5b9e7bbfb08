"""ETEGRec's alignments by hand, whose turn it is to learn, and its renamings through kills and checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor

from benchmarks.training.fit import Fit
from data_prep.corpus import Corpus, ItemVectors
from leaderboards.record import Stage
from models.api import Batch
from models.etegrec import (
    PRETRAINED,
    Config,
    Etegrec,
    TrainableParts,
    _first_of_each,
    sequence_item,
    train,
)
from models.parts.index import with_suffix
from models.parts.losses import symmetric_info_nce
from models.parts.optim import AlternatingSchedule
from models.parts.quantize import Quantized
from models.parts.rqvae import RqVae, RqVaeConfig
from models.parts.seq2seq import Encoded, T5Sizes
from tests.factories import shaken

Sign = Literal["nearest", "farthest"]

# 240 pairs: four steps in an epoch. The tokenizer learns so fast that items change their names.
CONFIG = Config(
    tokenizer=RqVaeConfig(
        hidden=(12,),
        width=8,
        levels=2,
        codes=8,
        reduction="mean",
        residual_gradient="first",
        start="xavier",
        optimizer="adamw",
        lr=1e-3,
    ),
    tokenizer_epochs=2,
    tokenizer_batch=20,
    tokenizer_check=2,
    t5=T5Sizes(width=16, inner=24, heads=2, head_width=8, encoder_layers=1, decoder_layers=1),
    history=6,
    warm_epochs=2,
    accumulate=1,
    tokenizer_lr=2e-2,
    warmup=4,
    batch_size=64,
    epochs=6,
    check_every=2,
    finish_epochs=2,
)
STEPS = 4


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Corpus) -> Corpus:
    values = np.random.default_rng(0).normal(size=(41, 12)).astype(np.float32)
    values[0] = 0
    return dataclasses.replace(tiny_corpus, vectors=ItemVectors(values, "sasrec-256", "SASRec", "0" * 64, False))


def quantized(distance: Tensor) -> Quantized:
    """Of which only the logits matter, minus the distances `[X, L, V]`."""
    nothing = torch.zeros(len(distance), distance.shape[1], dtype=torch.long)
    return Quantized(nothing, torch.zeros(len(distance), 2), -distance, torch.zeros(()))


class TestSequenceItem:
    def test_by_hand(self) -> None:
        # Nearest: (2, 2, 1)/5 against even thirds; farthest: (1, 1, 2)/4.
        target = quantized(torch.tensor([[[0.0, 0.0, np.log(2)]]]))
        history = quantized(torch.tensor([[[7.0, 7.0, 7.0]]]))
        for sign, expected in (("nearest", 2 / 15 * np.log(2)), ("farthest", 1 / 6 * np.log(2))):
            assert sequence_item(target, history, sign, "mean").item() == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]

    @pytest.mark.parametrize("sign", ["nearest", "farthest"])
    def test_it_is_scipys_in_both_directions(self, sign: Sign) -> None:
        rng = np.random.default_rng(0)
        distances = rng.exponential(2, size=(2, 5, 3, 7)).astype(np.float32)
        factor = -1 if sign == "nearest" else 1
        p, q = softmax(factor * distances.astype(np.float64), axis=-1)
        expected = (rel_entr(p, q) + rel_entr(q, p)).sum(-1)
        target, history = (quantized(torch.from_numpy(one)) for one in distances)
        mean, total = (sequence_item(target, history, sign, levels).item() for levels in ("mean", "sum"))
        assert mean == pytest.approx(expected.mean(), rel=1e-5)
        assert total == pytest.approx(expected.sum(1).mean(), rel=1e-5)
        assert total == pytest.approx(3 * mean)
        assert sequence_item(history, target, sign, "mean").item() == pytest.approx(mean)
        assert sequence_item(target, target, sign, "sum").item() == pytest.approx(0, abs=1e-6)


def info_nce(x: np.ndarray, y: np.ndarray, temperature: float) -> float:
    x, y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y))
    return float(-np.diag(log_softmax(x @ y.T / temperature, axis=1)).mean())


class TestPreferenceSemantic:
    @pytest.mark.parametrize("temperature", [0.07, 1.0])
    def test_it_is_numpys_in_both_directions(self, temperature: float) -> None:
        x, y = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
        one, other = (info_nce(*pair, temperature) for pair in ((x, y), (y, x)))
        assert abs(one - other) > 0.01
        found = symmetric_info_nce(torch.from_numpy(x), torch.from_numpy(y), temperature)
        assert found.item() == pytest.approx(one + other, rel=1e-5)
        longer = symmetric_info_nce(torch.from_numpy(3 * x), torch.from_numpy(0.1 * y), temperature)
        assert longer.item() == pytest.approx(found.item(), rel=1e-5)

    def test_by_hand(self) -> None:
        # The first row finds its own, the second has two alike: cosines (1, 0) and (1, 0).
        x, y = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        rows = (np.log(1 + np.exp(-1)) + np.log(1 + np.exp(1))) / 2
        assert symmetric_info_nce(x, y, 1.0).item() == pytest.approx(rows + np.log(2))


def test_the_first_row_of_each_item() -> None:
    assert _first_of_each(torch.tensor([5, 3, 5, 9, 3])).tolist() == [1, 0, 3]
    item = np.random.default_rng(0).integers(1, 30, size=100)
    assert _first_of_each(torch.from_numpy(item)).tolist() == np.unique(item, return_index=True)[1].tolist()


def test_the_mean_over_states_leaves_out_padding() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [90.0, 90.0]], [[5.0, 7.0], [80.0, 80.0], [90.0, 90.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert Encoded(states, mask).mean().tolist() == [[2.0, 4.0], [5.0, 7.0]]


HISTORY = torch.tensor([[1, 0, 0], [5, 3, 11], [9, 2, 0], [4, 13, 2], [7, 0, 0], [10, 12, 6], [8, 8, 8]])
TARGET = torch.tensor([9, 1, 9, 30, 12, 8, 1])


def made(seed: int = 0, **changes: Any) -> Etegrec:
    torch.manual_seed(seed)
    tokenizer = RqVae(CONFIG.tokenizer, torch.cat([torch.zeros(1, 12), torch.randn(40, 12)]))
    model = Etegrec(dataclasses.replace(CONFIG, **changes), tokenizer).eval()
    for part in (model.generator, model.to_latent, model.to_semantic):
        shaken(part)
    return model


def batch(rows: list[int]) -> Batch:
    return Batch(torch.arange(len(rows)), HISTORY[rows], TARGET[rows])


def loss(model: Etegrec, rows: list[int]) -> float:
    with torch.no_grad():
        return model.training_step(batch(rows), 0).item()


class TestLoss:
    @pytest.mark.parametrize(("tokenizer", "recommender", "aligned"), list(product([True, False], repeat=3)))
    def test_it_is_the_sum_of_what_learns(self, tokenizer: bool, recommender: bool, aligned: bool) -> None:
        model = made(sia_weight=0.3, psa_weight=0.2)
        model.set_trainable(TrainableParts(tokenizer, recommender, aligned))
        # Targets 9 and 1 come twice; rows 0, 1, 3, 4, 5 are the first of each.
        first = [0, 1, 3, 4, 5]
        with torch.no_grad():
            labels = model.generator.item_tokens(TARGET)
            read = model.generator.read(HISTORY)
            states = model.generator.states(labels, read)
            latent = torch.stack([model.to_latent(one[kept].mean(0)) for one, kept in zip(*read.encoded, strict=True)])
            own, reconstruction = model.tokenizer(TARGET[first])
            sia = sequence_item(own, model.tokenizer.quantizer(latent[first]), "farthest", "mean").item()
            psa = symmetric_info_nce(reconstruction, model.to_semantic(states[first, 0]), 0.07).item()
            expected = aligned * (0.3 * sia + 0.2 * psa)
            expected += tokenizer * model.tokenizer.loss(TARGET[first], own, reconstruction).item()
            # Log-probabilities of the codes of the targets, three of each.
            expected -= recommender * model.generator.score(HISTORY, TARGET[:, None]).mean().item() / 3
        assert min(sia, psa) > 0.1
        assert loss(model, list(range(7))) == pytest.approx(expected, rel=1e-4)


class TestDropout:
    """A side that is frozen has none; the other has."""

    @pytest.mark.parametrize(
        ("tokenizer", "recommender", "repeats"), [(True, False, True), (False, True, False), (True, True, False)]
    )
    def test_the_loss_depends_on_chance_where_the_recommender_learns(
        self, tokenizer: bool, recommender: bool, repeats: bool
    ) -> None:
        model = made(sia_weight=0.3, psa_weight=0.2).train()
        model.set_trainable(TrainableParts(tokenizer, recommender, aligned=True))
        assert CONFIG.t5.dropout > 0
        found = set()
        for seed in range(3):
            torch.manual_seed(seed)
            found.add(loss(model, list(range(7))))
        assert (len(found) == 1) == repeats
        assert (found == {loss(model.eval(), list(range(7)))}) == repeats

    def test_a_grade_in_between_does_not_bring_it_back(self) -> None:
        model = made()
        model.set_trainable(TrainableParts(tokenizer=True, recommender=False, aligned=True))
        for _ in range(2):
            assert not model.eval().tokenizer.training
            assert model.train().tokenizer.training
            assert not any(part.training for part in model.generator.modules())
        model.set_trainable(TrainableParts(tokenizer=False, recommender=True, aligned=True))
        assert all(part.training for part in model.generator.modules())
        assert not any(part.training for part in model.tokenizer.modules())
        assert all(part.training for part in model.finish().generator.modules())

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("training", "expected"),
        [
            # Epochs of the tokenizer, of the recommender, of the finish.
            ("alternating", [(True, False), (False, True), (True, False), (False, True), (False, True)]),
            ("joint", [(True, True)] * 4 + [(False, True)]),
            ("retrained", [(True, False), (False, True)] * 2 + [(False, True)] * 4),
        ],
    )
    def test_each_epoch_has_it_on_the_side_that_learns(
        self,
        training: Literal["alternating", "joint", "retrained"],
        expected: list[Any],
        corpus: Corpus,
        tmp_path: Path,
    ) -> None:
        modes: list[tuple[bool, bool]] = []
        step: Callable[..., Tensor] = Etegrec.training_step

        def noted(self: Etegrec, *args: Any) -> Tensor:
            modes.append((self.tokenizer.training, self.generator.transformer.training))
            return step(self, *args)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Etegrec, "training_step", noted)
            trained(corpus, tmp_path, training=training, epochs=4, check_every=1, finish_epochs=1)
        assert modes == [mode for mode in expected for _ in range(STEPS)]


class TestResidualGradient:
    def test_it_is_the_official_codes_by_default(self) -> None:
        assert Config().tokenizer == PRETRAINED
        assert PRETRAINED.residual_gradient == "first"

    @pytest.mark.parametrize(("levels", "reaches"), [("first", False), ("all", True)])
    def test_the_second_level_of_the_alignment_reaches_the_history_only_where_asked(
        self, levels: Literal["first", "all"], reaches: bool
    ) -> None:
        model = made()
        model.tokenizer.quantizer.residual_gradient = levels
        latent = model.to_latent(model.generator.read(HISTORY).encoded.mean())
        heard, target = model.tokenizer.quantizer(latent), model.tokenizer(TARGET)[0]
        for level, expected in ((0, True), (1, reaches)):
            alone, other = (each._replace(logits=each.logits[:, [level]]) for each in (target, heard))
            alignment = sequence_item(alone, other, "farthest", "mean")
            for side in (model.to_latent, model.tokenizer.encoder):
                gradients = torch.autograd.grad(alignment, [*side.parameters()], retain_graph=True, allow_unused=True)
                assert all((gradient is not None and bool(gradient.any())) == expected for gradient in gradients)


PARTS = ("tokenizer.encoder", "tokenizer.decoder", "tokenizer.quantizer", "generator", "to_latent", "to_semantic")
TOKENIZER, GENERATOR, ADAPTERS = set(PARTS[:3]), {"generator"}, set(PARTS[4:])


@dataclass
class Epoch:
    """What happened in one.

    Attributes:
        moved: parts of which every weight moved. Of the others, none did.
        before: codes at its start.
        codes: at its end.
        names: those that the tokenizer then has for the items.
        rates: learning rate of each group at its start.
        fresh: the optimizer knew no weight yet.
        learners: weights in the optimizer.
    """

    stage: str
    moved: set[str]
    before: Tensor
    codes: Tensor
    names: Tensor
    rates: list[float]
    fresh: bool
    learners: int


def weights(model: Etegrec, part: str) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.get_submodule(part).named_parameters()}


@contextmanager
def recorded() -> Iterator[list[Epoch]]:
    """Fills up with the epochs of all trainings meanwhile."""
    found: list[Epoch] = []
    start, end = Etegrec.on_train_epoch_start, Etegrec.on_train_epoch_end
    before: dict[str, Any] = {}

    def starting(self: Etegrec) -> None:
        start(self)
        optimizer = self.trainer.optimizers[0]
        before.update({part: weights(self, part) for part in PARTS}, codes=self.generator.index.codes.clone())
        before["rates"] = [group["lr"] for group in optimizer.param_groups]
        before["fresh"] = not optimizer.state
        before["learners"] = sum(len(group["params"]) for group in optimizer.param_groups)

    def ending(self: Etegrec) -> None:
        end(self)
        moved = set()
        for part in PARTS:
            now = weights(self, part)
            still = {torch.equal(now[name], weight) for name, weight in before[part].items()}
            assert len(still) == 1, f"of {part} some weights moved and some did not"
            if still == {False}:
                moved.add(part)
        names = with_suffix(self.tokenizer.item_codes(), 8)[:, None]
        given = (before["rates"], before["fresh"], before["learners"])
        found.append(Epoch(self.stage, moved, before["codes"], self.generator.index.codes.clone(), names, *given))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Etegrec, "on_train_epoch_start", starting)
        patched.setattr(Etegrec, "on_train_epoch_end", ending)
        yield found


class Trained(NamedTuple):
    model: Etegrec
    stages: list[Stage]
    epochs: list[Epoch]


def trained(corpus: Corpus, folder: Path, **changes: Any) -> Trained:
    fit = Fit(corpus, 0, folder, "test")
    with recorded() as epochs:
        model = train(dataclasses.replace(CONFIG, **changes), corpus, fit)
    assert isinstance(model, Etegrec)
    return Trained(model, fit.stages, epochs)


@pytest.fixture(scope="module")
def straight(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(corpus, tmp_path_factory.mktemp("straight"))


@pytest.mark.slow
class TestAlternation:
    def test_tokenizer_and_recommender_alternate_and_then_the_recommender_alone(self, straight: Trained) -> None:
        model, stages, epochs = straight
        assert [stage.name for stage in stages] == ["tokenizer", "together", "finish"]
        together, finish = epochs[:6], epochs[6:]
        assert [epoch.stage for epoch in epochs] == ["together"] * 6 + ["finish"] * 2
        # Nothing aligns the adapters before epoch 2.
        moved = [TOKENIZER, GENERATOR, TOKENIZER, GENERATOR | ADAPTERS, TOKENIZER, GENERATOR | ADAPTERS]
        assert [epoch.moved for epoch in together] == moved
        assert [epoch.moved for epoch in finish] == [GENERATOR] * 2
        for number, epoch in enumerate(together):
            assert torch.equal(epoch.codes, epoch.names), "items have the names that the tokenizer has for them"
            assert torch.equal(epoch.codes, epoch.before) == (number % 2 == 1)
        for epoch, following in pairwise(together):
            assert torch.equal(epoch.codes, following.before)
        assert all(torch.equal(epoch.codes, finish[0].before) for epoch in finish)
        assert torch.equal(model.generator.index.codes, with_suffix(model.tokenizer.item_codes(), 8)[:, None])

    def test_each_side_has_the_rate_of_its_own_steps(self, straight: Trained) -> None:
        schedule = AlternatingSchedule(CONFIG.cycle, CONFIG.warmup, total=6 * STEPS, steps_per_epoch=STEPS)
        for number, epoch in enumerate(straight.epochs[:6]):
            step = number * STEPS
            expected = [CONFIG.tokenizer_lr * schedule.first(step), CONFIG.lr * schedule.second(step)]
            assert epoch.rates == pytest.approx(expected)

    def test_the_finish_starts_with_an_optimizer_of_its_own(self, straight: Trained) -> None:
        first, second = straight.epochs[6:]
        assert first.fresh
        assert not second.fresh
        assert first.learners == len(list(straight.model.generator.parameters()))
        # A cosine over two epochs, half-way after the first.
        assert [*first.rates, *second.rates] == pytest.approx([5e-4, 2.5e-4])

    def test_joint_training_does_not_alternate(self, corpus: Corpus, tmp_path: Path) -> None:
        epochs = trained(corpus, tmp_path, training="joint", epochs=4, finish_epochs=1).epochs
        assert [epoch.moved for epoch in epochs[:2]] == [TOKENIZER | GENERATOR] * 2, "without alignments"
        assert [epoch.moved for epoch in epochs[2:4]] == [set(PARTS)] * 2
        assert [epoch.moved for epoch in epochs[4:]] == [GENERATOR]
        assert all(torch.equal(epoch.codes, epoch.names) for epoch in epochs)
        assert not any(torch.equal(epoch.codes, epoch.before) for epoch in epochs[:4])

    def test_a_fresh_recommender_is_retrained_on_the_final_codes(self, corpus: Corpus, tmp_path: Path) -> None:
        model, stages, epochs = trained(corpus, tmp_path, training="retrained", epochs=4)
        assert [stage.name for stage in stages] == ["tokenizer", "together", "retrained"]
        together, retrained = epochs[:4], epochs[4:]
        assert [epoch.moved for epoch in together] == [TOKENIZER, GENERATOR, TOKENIZER, GENERATOR | ADAPTERS]
        assert [epoch.moved for epoch in retrained] == [GENERATOR] * 4
        best = together[stages[1].best_epoch - 1]
        assert all(torch.equal(epoch.codes, best.codes) for epoch in retrained)
        assert retrained[0].fresh
        assert retrained[0].rates == pytest.approx([CONFIG.lr / 4]), "a warm-up of four steps"
        assert torch.equal(model.generator.index.codes, best.codes)

    def test_a_longer_cycle_has_one_epoch_of_the_tokenizer(self, corpus: Corpus, tmp_path: Path) -> None:
        epochs = trained(corpus, tmp_path, cycle=4, epochs=5, warm_epochs=0, finish_epochs=1).epochs
        expected = [TOKENIZER, *[GENERATOR | ADAPTERS] * 3, TOKENIZER]
        assert [epoch.moved for epoch in epochs[:5]] == expected


class StopError(Exception):
    """Stands for whatever ends a process."""


def same(one: Etegrec, other: Etegrec) -> bool:
    found, expected = one.state_dict(), other.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill_at", "again"),
    [
        # Within epoch 2, whose new names no checkpoint has yet.
        (2 * STEPS + 2, 4),
        # Within epoch 3, of the recommender, as epoch 2, which no look has followed: its checkpoint has the new names.
        (3 * STEPS + 2, 3),
        # Within epoch 4, of the tokenizer: epoch 3 and its checkpoint had the names of epoch 2.
        (4 * STEPS + 3, 2),
        # In the finish: the stage before it is not trained again.
        (7 * STEPS + 1, 0),
    ],
)
def test_a_killed_training_ends_as_any_other(
    corpus: Corpus, tmp_path: Path, straight: Trained, kill_at: int, again: int
) -> None:
    resumed = killed_and_resumed(corpus, tmp_path, kill_at, again)
    assert_same_end(resumed, straight)


@pytest.mark.slow
def test_so_does_one_whose_last_checkpoint_is_of_a_renaming(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"check_every": 1, "epochs": 4, "finish_epochs": 1}
    straight = trained(corpus, tmp_path / "straight", **settings)
    # Within epoch 3, of the recommender.
    resumed = killed_and_resumed(corpus, tmp_path, 3 * STEPS + 2, 1, **settings)
    assert_same_end(resumed, straight)


def killed_and_resumed(corpus: Corpus, folder: Path, kill_at: int, again: int, **settings: Any) -> Trained:
    """A training whose step of that number, over all stages, ended the process; the resumed one trained so many epochs
    of turns."""
    step: Callable[..., Tensor] = Etegrec.training_step
    numbers = iter(range(1000))
    taken: list[str] = []

    def ending(self: Etegrec, *args: Any) -> Tensor:
        if next(numbers) == kill_at:
            raise StopError
        return step(self, *args)

    def counted(self: Etegrec, *args: Any) -> Tensor:
        taken.append(self.stage)
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Etegrec, "training_step", ending)
        with pytest.raises(StopError):
            trained(corpus, folder / "killed", **settings)
        patched.setattr(Etegrec, "training_step", counted)
        resumed = trained(corpus, folder / "killed", **settings)
    assert taken.count("together") == again * STEPS, "it went on from a checkpoint"
    return resumed


def assert_same_end(resumed: Trained, straight: Trained) -> None:
    assert same(resumed.model, straight.model)
    assert torch.equal(resumed.model.generator.index.codes, straight.model.generator.index.codes)
    assert [stage.quality for stage in resumed.stages] == [stage.quality for stage in straight.stages]
    assert [stage.best_epoch for stage in resumed.stages] == [stage.best_epoch for stage in straight.stages]
    # The last epoch, not only the best.
    assert torch.equal(resumed.epochs[-1].codes, straight.epochs[-1].codes)


class TestCheckpoint:
    def test_it_carries_the_codes(self) -> None:
        model, other = made(), made(seed=1)
        assert not torch.equal(model.generator.index.codes, other.generator.index.codes)
        other.load_state_dict(model.state_dict())
        assert same(other, model)
        history = torch.tensor([[5, 3, 11]])
        with torch.inference_mode():
            assert torch.equal(other.rank(history, 40).items, model.rank(history, 40).items)

    @pytest.mark.parametrize("name", ["generator.index.codes", "generator.token.weight"])
    def test_codes_and_embeddings_of_two_models_do_not_go_together(self, name: str) -> None:
        state, other = made().state_dict(), made(seed=1).state_dict()
        assert not torch.equal(state[name], other[name])
        with pytest.raises(ValueError, match="code table and the token embeddings of this checkpoint do not belong"):
            made().load_state_dict({**state, name: other[name]})

    def test_codes_of_another_renaming_do_not_either(self) -> None:
        model = made()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with torch.no_grad():
            model.tokenizer.quantizer.codebooks.mul_(-1)
        model.on_train_epoch_end()
        after = model.state_dict()
        assert not torch.equal(before["generator.index.codes"], after["generator.index.codes"])
        made().load_state_dict(after)
        with pytest.raises(ValueError, match="do not belong together"):
            made().load_state_dict({**after, "generator.index.codes": before["generator.index.codes"]})
