"""What every file of `models/` owes the harness. A new file is tested by being there."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import itertools
import json
import math
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch
from torch import Tensor

import benchmarks.model_inputs
import models
from benchmarks.evaluate import Grader, target_ranks
from benchmarks.experiments import Experiment
from benchmarks.settings import Bench
from benchmarks.training.fit import Fit
from data_prep.batches import Batches
from data_prep.corpus import HELD_OUT, Corpus, Examples
from grbench.module_file import described, rebuilt
from models.api import Budget, Generator, Model, Ranking, Recommender, generator_of
from models.parts.losses import SAMPLED, Loss
from models.parts.ranking import rank_scores

pytestmark = pytest.mark.usefixtures("saved_as_usual")

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, CODES = 2, 8
# Of the reduced configs, by the end of a field's name. Two epochs of steps; the alignments of a model that waits with
# them, in the second of these; one start of a clustering.
CAPS = {"warm_epochs": 1, "epochs": EPOCHS, "steps": 2 * EPOCHS, "restarts": 1}


class Trained(NamedTuple):
    module: Model
    config: Any
    corpus: Corpus
    recommender: Recommender
    history: Tensor


def reduced(config: Any) -> Any:
    """A config with trainings of an instant, and books that 40 items can fill; nested configs too."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = reduced(value)
        elif field.name == "codes" and value is not None:  # of a book, not of a file
            changes[field.name] = min(value, CODES)
        elif isinstance(value, int):
            caps = [cap for end, cap in CAPS.items() if field.name.endswith(end)]
            changes[field.name] = min(value, *caps[:1]) if caps else value
    return dataclasses.replace(config, **changes)


def given(model: str, config: Any, fit: Fit, steps: int = EPOCHS) -> Corpus:
    """What a run gives a model: no test part, and the item vectors that the config names, but trained for few steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(benchmarks.model_inputs, "STEPS", steps)
        patched.setattr(benchmarks.model_inputs, "SMALL_STEPS", steps)
        bench = Bench(fit.root / "board", fit.root)
        return benchmarks.model_inputs.with_inputs(bench, Experiment(model, model, config), fit)


# All ranking is done as the grader does it, without gradients.
@torch.inference_mode()
def rank(recommender: Recommender, history: Tensor, k: int) -> Ranking:
    return recommender.rank(history, k)


@torch.inference_mode()
def beam(generator: Generator, history: Tensor, constrained: bool) -> Ranking:
    return generator.beam(history, 10, 20, constrained)


@torch.inference_mode()
def brute_force(generator: Generator, history: Tensor, items: int, k: int) -> Ranking:
    every = torch.arange(1, items + 1).expand(len(history), -1)
    return rank_scores(generator.score(history, every), k)


def by_item(ranking: Ranking, items: int) -> Tensor:
    """`[B, I]` scores at the items' own places: two rankings agree here up to rounding, wherever near ties fall."""
    empty = ranking.scores.new_full((len(ranking.items), items + 1), -torch.inf)
    return empty.scatter(1, ranking.items, ranking.scores)


def equal(one: Ranking, other: Ranking) -> bool:
    items, scores, certified = (torch.equal(*pair) for pair in zip(one[:3], other[:3], strict=True))
    return items and scores and certified


def state(recommender: Recommender) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in recommender.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module", params=models.names())
def trained(request: pytest.FixtureRequest, tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    module, folder = models.load(request.param), tmp_path_factory.mktemp(request.param)
    config = reduced(module.SMALL)
    fit = Fit(tiny_corpus, 0, folder / "fits", request.param)
    corpus = given(request.param, config, fit)
    recommender = module.train(config, corpus, fit)
    (batch,) = Batches(tiny_corpus.examples("test"), 100, recommender.history_length)
    return Trained(module, config, corpus, recommender.eval(), batch.history)


@pytest.fixture
def train(trained: Trained, tmp_path: Path) -> Callable[..., Recommender]:
    """Trains the model again, in a folder of its own, under the same seed unless another is given."""

    def again(seed: int = 0, corpus: Corpus = trained.corpus) -> Recommender:
        folder = tmp_path / f"{seed} {corpus.fingerprint}"
        return trained.module.train(trained.config, corpus, Fit(corpus, seed, folder, "again")).eval()

    return again


class TestContract:
    def test_config_is_frozen_and_complete(self, trained: Trained) -> None:
        module = trained.module
        assert dataclasses.is_dataclass(module.Config)
        assert isinstance(module.SMALL, module.Config)
        assert isinstance(module.Config(), module.Config), "every field has a default"
        assert hash(module.SMALL) == hash(dataclasses.replace(module.SMALL)), "frozen, and so are its parts"
        for field in dataclasses.fields(module.Config):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(module.SMALL, field.name, None)

    def test_one_final_recommender(self, trained: Trained) -> None:
        file = type(trained.recommender).__module__
        assert sys.modules[file] is sys.modules[trained.module.train.__module__]
        own = [kind for _, kind in inspect.getmembers(trained.module, inspect.isclass) if kind.__module__ == file]
        (found,) = (kind for kind in own if issubclass(kind, Recommender))
        assert Recommender in found.__bases__
        assert getattr(found, "__final__", False)
        assert type(trained.recommender) is found
        assert list(inspect.signature(trained.module.train).parameters) == ["config", "corpus", "fit"]

    def test_it_is_handed_back_ready_to_rank(self, trained: Trained) -> None:
        assert trained.recommender.config == trained.config
        assert trained.recommender.history_length >= 1

    @pytest.mark.parametrize("k", [1, 10, 40])
    def test_a_list_holds_different_items_best_first(self, trained: Trained, k: int) -> None:
        items, scores, certified, _ = rank(trained.recommender, trained.history, k)
        users = len(trained.history)
        assert (items.shape, scores.shape, certified.shape) == ((users, k), (users, k), (users,))
        assert items.min() >= 1
        assert items.max() <= trained.corpus.items
        assert all(len(set(row)) == k for row in items.tolist())
        assert torch.isfinite(scores).all()
        assert (scores.diff(dim=1) <= 0).all()
        tied = scores[:, 1:] == scores[:, :-1]
        assert (items[:, 1:] > items[:, :-1])[tied].all(), "ties go to the smaller item id"

    def test_a_list_longer_than_the_catalogue_ends_empty(self, trained: Trained) -> None:
        whole, longer = (rank(trained.recommender, trained.history, k) for k in (40, 50))
        assert torch.equal(longer.items[:, :40], whole.items)
        assert (longer.items[:, 40:] == 0).all()
        assert (longer.scores[:, 40:] == -torch.inf).all()

    def test_a_user_alone_ranks_as_in_a_batch(self, trained: Trained) -> None:
        together = by_item(rank(trained.recommender, trained.history, 40), 40)
        for user in range(0, len(trained.history), 7):
            row = trained.history[user]
            alone = rank(trained.recommender, row[row > 0][None], 40)
            torch.testing.assert_close(by_item(alone, 40)[0], together[user], atol=1e-4, rtol=1e-4)

    def test_padding_changes_nothing(self, trained: Trained) -> None:
        model, history = trained.recommender, trained.history
        narrow = rank(model, history, 40)
        # One that cuts no history names no width that a batch could have.
        width = min(model.history_length, 100)
        wide = rank(model, torch.nn.functional.pad(history, (0, width - history.shape[1])), 40)
        torch.testing.assert_close(by_item(wide, 40), by_item(narrow, 40), atol=1e-4, rtol=1e-4)

    @pytest.mark.slow
    def test_the_state_dict_is_the_whole_model(self, trained: Trained, train: Callable[..., Recommender]) -> None:
        other = train(seed=1)
        other.load_state_dict(state(trained.recommender))
        assert equal(rank(other, trained.history, 40), rank(trained.recommender, trained.history, 40))

    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_numbers(self, trained: Trained, train: Callable[..., Recommender]) -> None:
        torch.manual_seed(99)
        again = train()
        assert same(state(again), state(trained.recommender))
        assert torch.equal(rank(again, trained.history, 10).items, rank(trained.recommender, trained.history, 10).items)

    def test_it_is_told_in_plain_values_and_tensors(self, trained: Trained) -> None:
        """What an export holds makes the same model, in a process that has no corpus."""
        tensors: dict[str, Tensor] = {}
        told = json.loads(json.dumps(described(trained.recommender, tensors)))
        again = rebuilt(told, safetensors.torch.load(safetensors.torch.save(tensors)))
        assert type(again) is type(trained.recommender)
        assert again.config == trained.config
        assert same(state(again), state(trained.recommender))
        assert equal(rank(again, trained.history, 40), rank(trained.recommender, trained.history, 40))

    def test_ranking_changes_neither_weights_nor_random_numbers(self, trained: Trained) -> None:
        before, numbers = state(trained.recommender), torch.get_rng_state()
        first = rank(trained.recommender, trained.history, 10)
        again = rank(trained.recommender, trained.history, 10)
        assert equal(first, again)
        assert same(state(trained.recommender), before)
        assert torch.equal(torch.get_rng_state(), numbers)

    @pytest.mark.parametrize("is_trained", [True, False])
    def test_the_list_is_the_full_ranking(self, trained: Trained, is_trained: bool) -> None:
        """A generative model: proven, and equal to teacher forcing of all items, up to rounding; K = 50 is all."""
        model, history = trained.recommender, trained.history
        if not is_trained:
            torch.manual_seed(1)
            model = trained.module.train(trained.config, trained.corpus, Untrained()).eval()
        generator, every = generator_of(model), rank(model, history, 40)
        full = brute_force(generator, history, trained.corpus.items, 50) if generator else None
        for k in (1, 10, 50):
            items, scores, certified, _ = rank(model, history, k)
            assert certified.all()
            if full:
                torch.testing.assert_close(scores, full.scores[:, :k], atol=1e-4, rtol=1e-4)
                own = by_item(full, 40).gather(1, items)
                torch.testing.assert_close(scores[items > 0], own[items > 0], atol=1e-4, rtol=1e-4)
                assert torch.equal(items > 0, full.items[:, :k] > 0)
            else:
                assert torch.equal(items[:, :40], every.items[:, :k])

    def test_a_target_is_placed_where_the_list_has_it(self, trained: Trained) -> None:
        """Every fourth user with every item as the target."""
        generator = generator_of(trained.recommender)
        if generator is None:
            return
        items, history = trained.corpus.items, trained.history[::4]
        for k in (1, 10, 50):
            whole = rank(trained.recommender, history, k).items.repeat_interleave(items, 0)
            target = torch.arange(1, items + 1).repeat(len(history))
            with torch.inference_mode():
                found = generator.place(history.repeat_interleave(items, 0), k, target)
            assert found.certified.all()
            assert torch.equal(target_ranks(found.items, target), target_ranks(whole, target))

    def test_a_beam_names_items_where_codes_are_legal(self, trained: Trained) -> None:
        model = trained.recommender
        generator = generator_of(model)
        if generator is None:
            assert not hasattr(model, "index"), "codes without a generator: the row would lack its diagnostics"
            return
        legal, free = (beam(generator, trained.history, constrained) for constrained in (True, False))
        assert (legal.items > 0).all()
        assert not free.certified.any()
        # A free list holds legal items under their own scores, and misses.
        own = by_item(rank(model, trained.history, 40), 40).gather(1, free.items)
        named, card = free.items > 0, generator.card()
        assert (free.scores[named] <= own[named] + 1e-4).all()
        if card["sequences_per_item"] == 1:  # of several a beam may miss some
            torch.testing.assert_close(free.scores[named], own[named], atol=1e-4, rtol=1e-4)
        assert card["levels"] == len(card["sizes"])

    @pytest.mark.slow
    def test_it_learns_nothing_from_held_out_items(self, trained: Trained, tiny_corpus: Corpus, tmp_path: Path) -> None:
        """Other validation and test items, chosen by a quality that does not look at them: the same item vectors, hence
        the same codes, and the same weights.
        """
        runs, vectors = [], []
        for corpus in (tiny_corpus, poison(tiny_corpus)):
            fit = Fit(corpus, 0, tmp_path / corpus.fingerprint, "blind")
            seen = given("blind", trained.config, fit)
            vectors.append([made.values for made in (seen.vectors, seen.collaborative) if made])
            runs.append(state(trained.module.train(trained.config, seen, Blind(fit))))
        assert all(np.array_equal(*pair) for pair in zip(*vectors, strict=True))
        assert same(*runs)

    @pytest.mark.slow
    def test_other_test_targets_train_and_validate_alike(
        self, trained: Trained, tiny_corpus: Corpus, tmp_path: Path
    ) -> None:
        """Epochs chosen by validation and item vectors made anew, as in a run."""
        other = poison(tiny_corpus, last=1)
        fit = Fit(other, 0, tmp_path, "poisoned")
        again = trained.module.train(trained.config, given("poisoned", trained.config, fit), fit).eval()
        assert same(state(again), state(trained.recommender))
        ranks = Grader(tiny_corpus, "valid", k=40)(trained.recommender).ranks
        assert np.array_equal(ranks, Grader(other, "valid", k=40)(again).ranks)


M = TypeVar("M", bound=pl.LightningModule)


class Untrained:
    """A `Fit` that trains no recommender, and all else only with the `Fit` that it is given.

    Attributes:
        stages: the recommenders as they would have been trained, and on what: None for the training pairs.
    """

    def __init__(self, fit: Fit | None = None) -> None:
        self.fit = fit
        self.stages: list[tuple[Recommender, Examples | None]] = []

    def __call__(
        self,
        stage: str,
        build: Callable[[], M],
        budget: Budget,
        examples: Examples | None = None,
        quality: Callable[[M], float] | None = None,
    ) -> M:
        module = build()
        if isinstance(module, Recommender):
            # A later stage may go on with the same module.
            self.stages.append((copy.deepcopy(module), examples))
            return module
        return self.fit(stage, lambda: module, budget, examples, quality) if self.fit else module


class Blind:
    """A `Fit` that keeps the last epoch, whatever validation says."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit

    def __call__(
        self,
        stage: str,
        build: Callable[[], M],
        budget: Budget,
        examples: Examples | None = None,
        quality: Callable[[M], float] | None = None,
    ) -> M:
        epochs = itertools.count()
        return self.fit(stage, build, budget, examples, quality=lambda module: float(next(epochs)))


def poison(corpus: Corpus, last: int = HELD_OUT) -> Corpus:
    """The same corpus but for each user's last items, so many of them."""
    flat, held_out = corpus.flat.copy(), np.concatenate([corpus.offsets[1:] - back for back in range(1, last + 1)])
    flat[held_out] = (flat[held_out] + 4) % corpus.items + 1
    other = dataclasses.replace(corpus, flat=flat)
    assert (other.flat != corpus.flat).sum() == last * corpus.users
    return other


def test_a_model_without_its_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway.py").write_text("SMALL = None\n")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match=r"models/halfway.py defines no Config, train; a model needs"):
        models.load("halfway")
    with pytest.raises(ValueError, match=r"no model 'halfwya'; did you mean 'halfway'\? possible: "):
        models.load("halfwya")


NO_DATACLASS = "Config is no dataclass; expected @dataclass\\(frozen=True\\) on it"


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("plain_config", "class Config:\n    width: int = 64", NO_DATACLASS),
        ("bare_subclass", "class Config(Part):\n    depth: int = 5", NO_DATACLASS),
        (
            "untyped",
            "@dataclass(frozen=True)\nclass Config:\n    width = 64\n    _own = 1",
            "Config has width without a ",
        ),
        # A dataclass would keep its parent's default.
        (
            "untyped_two",
            "@dataclass(frozen=True)\nclass Config(Part):\n    depth = 5\n    end = None",
            "Config has depth, end",
        ),
    ],
)
def test_a_config_with_what_is_no_option_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, config: str, said: str
) -> None:
    write_config(tmp_path, monkeypatch, name, config)
    with pytest.raises(ValueError, match=f"^models/{name}.py: {said}"):
        models.load(name)


def test_a_config_may_have_methods_and_what_is_said_to_be_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [
        *("sizes: ClassVar[int] = 3", "depth: int = 5", "class Kind: pass"),
        *("@property\n    def twice(self): return 2", "@staticmethod\n    def half(): return 1"),
        *("@cached_property\n    def thrice(self): return 3", "def __post_init__(self): pass"),
    ]
    config = "\n    ".join(["@dataclass(frozen=True)\nclass Config(Part):", *members])
    write_config(tmp_path, monkeypatch, "with_methods", config)
    assert [field.name for field in dataclasses.fields(models.load("with_methods").Config)] == ["depth"]


def write_config(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, config: str) -> None:
    """A model with such a config; of a name of its own, since modules stay imported."""
    head = "from dataclasses import dataclass\nfrom functools import cached_property\nfrom typing import ClassVar\n"
    part = "@dataclass(frozen=True)\nclass Part:\n    depth: int = 2\n"
    (folder / f"{name}.py").write_text(f"{head}{part}{config}\nSMALL = Config()\ndef train(config, corpus, fit): ...\n")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder)])


def contract_of(folder: Path, name: str, said: Path) -> None:
    """Runs this file's tests of a model that lies in a folder of its own; ends the process with pytest's status."""
    models.__path__.append(str(folder))
    # Whose parameters are the models that there were.
    del sys.modules[__name__]
    # Types are not checked: the packages are loaded already.
    plain = ["-o", "addopts=--import-mode=importlib --strict-markers", "-p", "no:cacheprovider", "--capture=no"]
    with said.open("w") as file, contextlib.redirect_stdout(file):
        status = pytest.main(["-q", *plain, f"--basetemp={folder / 'tmp'}", "-k", name, __file__])
    sys.exit(int(status))


@pytest.mark.parametrize("loss", ["ce", "bce", "bpr", "sampled"])
@pytest.mark.parametrize("name", [name for name in models.names() if hasattr(models.load(name).SMALL, "loss")])
def test_the_loss_is_the_one_that_the_config_names(name: str, loss: Loss, tiny_corpus: Corpus, tmp_path: Path) -> None:
    """At scores of 0, by how many items one competes with; all models weigh alike what they train on."""
    values = {}
    for asked in (loss, "bce"):
        fit = Untrained()
        module = models.load(name)
        module.train(dataclasses.replace(module.SMALL, loss=asked), tiny_corpus, fit)
        ((recommender, examples),) = fit.stages
        for weight in recommender.parameters():
            torch.nn.init.zeros_(weight)
        batches = Batches(examples or tiny_corpus.examples("train"), 20, recommender.history_length, epoch=lambda: 0)
        value = recommender.training_step(next(iter(batches)), 0)
        assert isinstance(value, Tensor)
        values[asked] = value.item()
    rivals = {"ce": tiny_corpus.items, "bce": 4, "bpr": 2, "sampled": SAMPLED + 1}
    assert values[loss] / values["bce"] == pytest.approx(math.log(rivals[loss]) / math.log(4), rel=1e-5)


@pytest.mark.slow
def test_a_copied_file_is_one_more_model(tmp_path: Path) -> None:
    source = (ROOT / "models/tiger.py").read_text()
    assert "hidden=(128,)" in source
    (tmp_path / "narrow.py").write_text(source.replace("hidden=(128,)", "hidden=(96,)"))
    assert "narrow" not in models.names()
    # A copy of this process, for a new one to load torch would take longer than all the rest.
    child = multiprocessing.get_context("fork").Process(
        target=contract_of, args=(tmp_path, "narrow", tmp_path / "said")
    )
    child.start()
    child.join(timeout=300)
    said = (tmp_path / "said").read_text()
    assert child.exitcode == 0, said
    methods = [name for name in vars(TestContract) if name.startswith("test")]
    assert int(said.splitlines()[-1].split(" passed")[0].split()[-1]) >= len(methods), said
