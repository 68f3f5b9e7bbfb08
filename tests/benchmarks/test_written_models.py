"""Models that a user writes: an honest one makes a true row, and of a mistake its place and name are told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import models
from benchmarks import experiments
from benchmarks.__main__ import main
from benchmarks.evaluate import Grader
from benchmarks.execution import cell, local
from benchmarks.execution.cell import Cell
from benchmarks.experiments import Variant, complete
from benchmarks.run import run
from benchmarks.settings import Bench
from benchmarks.training.checkpoint_callback import BEST
from benchmarks.training.fit import Fit, weights_of
from data_prep.corpus import Corpus
from leaderboards import store
from leaderboards.verify import verify
from models.api import Budget, Ranking, Recommender, generator_of
from models.parts.ranking import rank_scores
from tests.scripts import odd_error

MODEL = """
from dataclasses import dataclass, field
from pathlib import Path
from typing import final
import torch
from torch import nn
from torch.nn import functional as F
from models.api import Budget, Count, Ranking, Recommender
from models.parts.ranking import rank_scores

{frozen}
class Config:
    width: Count = 4
{fields}
SMALL = {small}

def train(config, corpus, fit):
    return fit("recommender", lambda: Mine(config, corpus.items), Budget(2, 60{budget}){quality})

@final
class Mine(Recommender):
    history_length = 20

    def __init__(self, config, items):
        super().__init__()
        self.config = config
        self.item = nn.Embedding(items + 1, config.width)
        self.output = nn.Linear(config.width, items)

    def scores(self, history):
        return self.output(self.item(history).sum(1))

    def training_step(self, batch, batch_index):
        {step}

    def rank(self, history, k):
        return rank_scores(self.scores(history), k)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)
"""
PARTS = {
    "frozen": "@dataclass(frozen=True)",
    "fields": "",
    "small": "Config()",
    "budget": "",
    "quality": "",
    "step": "return F.cross_entropy(self.scores(batch.history), batch.target - 1)",
}


@dataclass
class Writer:
    """Attributes: folder, of models beside the project's own."""

    folder: Path

    def __call__(self, name: str, **parts: str) -> str:
        (self.folder / f"{name}.py").write_text(MODEL.format(**PARTS | parts))
        return name


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path / "models")])
    return Writer(tmp_path / "models")


@pytest.fixture
def corpus(tiny_corpus: Corpus) -> Corpus:
    return dataclasses.replace(tiny_corpus, name="all_beauty")


@dataclass(frozen=True)
class Sizes:
    width: int = 3


class Stage(pl.LightningModule):
    """No recommender; its loss depends on what it is made from."""

    def __init__(self, temperature: float = 1.0, given: tuple[Any, ...] = (), history_length: int | None = 5) -> None:
        super().__init__()
        self.config, self.temperature, self.given = Sizes(), temperature, given
        if history_length is not None:
            self.history_length = history_length
        self.weight = nn.Parameter(torch.zeros(3))

    def training_step(self, batch: object, batch_index: int) -> Tensor:
        return self.weight.sum() * self.temperature

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Lists(Recommender):
    """Ranks as it is told to."""

    history_length = 5

    def __init__(self, items: int, changed: str = "", value: object = None) -> None:
        super().__init__()
        self.items, self.changed, self.value = items, changed, value

    def rank(self, history: Tensor, k: int) -> Ranking:
        found = rank_scores(torch.zeros(len(history), self.items), k)
        if not self.changed:
            return tuple(found)  # type: ignore[return-value]
        return found._replace(**{self.changed: self.value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 2.0},
        {"given": (torch.ones(2),)},
        {"given": ({"a": [1, {"b": 2}]},)},
        {"given": (Sizes(4),)},
        {"given": (np.array(["a"]),)},
        {"given": (np.ones(2),)},
        {"given": ({"a", "b"},)},
    ],
)
def test_a_stage_made_from_other_values_is_another_stage(in_memory: Fit, other: dict[str, Any]) -> None:
    for given in ({}, other, other):
        in_memory("stage", partial(Stage, **given), Budget(1, 60))
    one, two, again = in_memory.folders
    assert one != two == again


def test_what_reads_histories_says_how_long(in_memory: Fit) -> None:
    with pytest.raises(ValueError, match=r"^Stage has the history_length None; expected the number of items"):
        in_memory("stage", lambda: Stage(history_length=None), Budget(1, 60))
    of_items = in_memory.corpus.examples("items")
    assert in_memory("tokenizer", lambda: Stage(history_length=None), Budget(1, 60), of_items)


def test_a_stage_has_a_name_that_a_file_can_have(in_memory: Fit) -> None:
    with pytest.raises(ValueError, match="has a stage 'a/b'; expected a name that a file can have"):
        in_memory("a/b", Stage, Budget(1, 60))


def test_what_is_drawn_behind_a_stage_is_the_same_from_its_weights(tiny_corpus: Corpus, tmp_path: Path) -> None:
    fit = Fit(tiny_corpus, 0, tmp_path / "fits", "test")
    fit("stage", Stage, Budget(1, 60))
    drawn = torch.rand(3)
    (tmp_path / "weights").mkdir()
    weights_of(tmp_path / "weights", 0, "stage").write_bytes((fit.folders[0] / BEST).read_bytes())
    Fit(tiny_corpus, 0, tmp_path / "fits", "test", weights=tmp_path / "weights")("stage", Stage, Budget(1, 60))
    assert torch.equal(drawn, torch.rand(3))


def test_a_model_is_told_no_times(tiny_corpus: Corpus) -> None:
    """No fingerprint tells them, so two corpora of one order and other times are one."""
    timed = dataclasses.replace(tiny_corpus, times=np.arange(tiny_corpus.interactions))
    assert timed.without_test().times is None


@pytest.mark.parametrize(
    ("parts", "chose"),
    [
        ({"budget": ", valid_users=5"}, 5),
        ({"quality": ", quality=lambda model: -float(model.output.weight.norm())"}, 60),
    ],
)
def test_a_record_tells_who_chose_its_epoch(
    written: Writer, corpus: Corpus, tmp_path: Path, parts: dict[str, str], chose: int
) -> None:
    name = written(f"chosen_by_{chose}", **parts)
    record = store.read(run(Bench(tmp_path / "board", tmp_path / "work"), corpus, complete(name, corpus), 0))
    assert record.valid_users == chose
    assert ("its epoch was chosen by a quality of the model's own" in " ".join(record.notes)) == ("quality" in parts)
    assert not [problem for problem in verify(tmp_path / "board")[0] if "kept epoch" in problem]


def test_options_that_changed_nothing_make_no_false_row(corpus: Corpus, tmp_path: Path) -> None:
    small = ["epochs=2", "width=8", "inner=8", "heads=1", "layers=1", "history=8"]
    for more in ([], ["patience=7"]):
        run(Bench(tmp_path / "board", tmp_path / "work"), corpus, complete("sasrec", corpus, [*small, *more]), 0)
    assert not [problem for problem in verify(tmp_path / "board")[0] if "has the ranks of" in problem]


def test_a_model_without_a_published_number_may_be_the_first_of_the_list(
    written: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    written("attention")
    assert main(["list"]) == 0
    assert "attention" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "value", "said"),
    [
        ("", None, "rank returned tuple; expected a models.api.Ranking"),
        ("scores", torch.zeros(60, 60, dtype=torch.long), r"returned scores of shape \(60, 50\) torch.int64; expected"),
        ("scores", np.zeros((60, 50)), "returned scores of type ndarray; expected a tensor"),
        ("expansions", torch.zeros(3, dtype=torch.long), r"returned expansions of shape \(3,\) torch.int64; expected"),
    ],
)
def test_what_is_no_ranking_is_said(corpus: Corpus, changed: str, value: Any, said: str) -> None:
    if isinstance(value, Tensor) and changed == "scores":
        value = torch.zeros(corpus.users, 50, dtype=torch.long)
    with pytest.raises(ValueError, match=said):
        Grader(corpus, "valid")(Lists(corpus.items, changed, value))


def test_half_a_generator_is_none(corpus: Corpus) -> None:
    class Half(nn.Module):
        def rank(self) -> None: ...
        def place(self) -> None: ...
        def beam(self) -> None: ...
        def score(self) -> None: ...

    model = Lists(corpus.items)
    assert generator_of(model) is None
    model.generator = torch.Generator()  # type: ignore[assignment]
    assert generator_of(model) is None, "which draws numbers"
    del model.generator
    model.generator = Half()
    with pytest.raises(ValueError, match=r"Lists.generator has no card; expected all of models.api.Generator"):
        generator_of(model)


@pytest.mark.parametrize("name", ["_under", "modèle", "2nd"])
def test_a_models_name_is_one_that_records_take(written: Writer, name: str) -> None:
    written(name)
    with pytest.raises(ValueError, match=f"^models/{name}.py names no model; expected a letter of ASCII"):
        models.names()


@pytest.mark.parametrize(
    ("name", "parts", "said"),
    [
        ("of_path", {"fields": '    where: Path = Path("x")'}, "Config has where = .*; expected what JSON"),
        (
            "of_nan",
            {"fields": '    scale: float = float("nan")'},
            "Config has scale = nan; expected what JSON",
        ),
        (
            "bare",
            {"fields": "    more: Count = field(kw_only=True)", "small": "Config(more=1)"},
            ".*expected a default of",
        ),
        ("small_class", {"small": "Config"}, "SMALL is .*; expected a Config"),
        ("open_config", {"frozen": "@dataclass"}, "Config can be changed; expected @dataclass"),
    ],
)
def test_a_config_that_no_record_holds_is_refused(written: Writer, name: str, parts: dict[str, str], said: str) -> None:
    written(name, **parts)
    with pytest.raises(ValueError, match=f"^models/{name}.py: {said}"):
        models.load(name)


def test_who_validates_is_a_number(written: Writer) -> None:
    written("everybody", fields='    valid_users: str = "all"')
    with pytest.raises(ValueError, match=r"^everybody option valid_users is 'all'; expected null or at least 5000"):
        complete("everybody", "musical_instruments")


def test_a_mistake_of_a_model_names_its_place(
    written: Writer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cell, "prepared", lambda *_: corpus)
    bench = Bench(tmp_path / "board", tmp_path / "work")
    cells = [Cell(complete(written("unpacks", step="a, b, c = batch.history.shape"), corpus), 0)]
    assert local.run_all(bench, corpus.name, "auto", cells, 1) == cells
    said = capsys.readouterr().err
    assert "expected 3, got 2) (models/unpacks.py, line " in said
    assert "Traceback" not in said


def test_an_error_that_cannot_be_sent_spoils_no_other_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "run_cell", odd_error.run_cell)
    cells = [Cell(complete("popularity", "planted"), seed) for seed in range(3)]
    assert local.run_all(Bench(tmp_path, tmp_path), "planted", "auto", cells, 2) == cells[:1]
    assert "OddError: one two" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my tiger", "my/tiger", ".tiger", "tiger-x-unseen-users"])
def test_an_experiments_name_is_one_that_files_can_have(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(experiments.VARIANTS, name, Variant("tiger", {"lr": 0.01}))
    with pytest.raises(ValueError, match=r"an experiment has a name '.*'; expected letters, digits"):
        experiments.names()
