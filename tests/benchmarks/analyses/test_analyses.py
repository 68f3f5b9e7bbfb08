"""Analyses on a tiny corpus: their numbers against the models' own, their files, and what they refuse."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

import benchmarks.analyses
import benchmarks.run
from benchmarks import experiments
from benchmarks.analyses import (
    ANALYSES,
    Finding,
    Lab,
    alignment,
    analyse,
    code_loss,
    code_use,
    cold_start,
    composition,
    ladder,
    sensitivity,
    support,
    unseen,
)
from benchmarks.execution.cell import Cell
from benchmarks.settings import Bench
from data_prep.batches import Batches
from data_prep.corpus import Corpus
from leaderboards import findings
from leaderboards.metrics import per_user
from leaderboards.published import utilisation as stated
from leaderboards.store import read_board, write
from models import decor, etegrec, popularity
from models.api import Ranking
from models.decor import Decor
from models.etegrec import Etegrec
from models.letter import Letter
from models.parts.index import ItemIndex
from models.parts.item_to_token import ItemToTokenConfig
from models.parts.seq2seq import T5Sizes
from models.pit import Config as PitConfig
from models.pit import Pit
from models.popularity import Popularity
from models.tiger import Tiger
from tests.leaderboards.test_record import run_of

pytestmark = pytest.mark.usefixtures("saved_as_usual")

SHORT = {
    "decor": ("tokenizer.codes=8", "tokenizer_epochs=2", "steps=6", "bos_queries=4"),
    "pit": ("tokenizer.codes=8", "tokenizer_epochs=2", "warm_steps=4", "steps=8"),
    "both starts": ("tokenizer.codes=8", "pit:tokenizer_epochs=2", "pit-rq-kmeans:pretraining_epochs=2"),
    "tiger": ("tokenizer.codes=8", "tokenizer_epochs=2", "steps=6"),
    "etegrec": ("tokenizer.codes=8", "tokenizer_epochs=20", "steps=12", "warm_epochs=1", "finish_epochs=1"),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings are shared among the tests, as among analyses."""
    return tmp_path_factory.mktemp("work")


# A search that has given up on every other user.
HALF = {"certified_share": 0.5, "mean_expansions": 7.0, "max_expansions": 9}


@pytest.fixture
def lab(tiny_corpus: Corpus, work: Path, tmp_path: Path) -> Callable[..., Lab]:
    # By the name of a small corpus, so that the small configs are taken.
    corpus = dataclasses.replace(tiny_corpus, name="planted", card={"origin": "drawn", "steps": []})

    def made(model: str, *names: str) -> Lab:
        return Lab(Bench(tmp_path / "board", work), corpus, names=names, settings=SHORT[model])

    return made


@pytest.mark.slow
def test_utilisation_is_that_of_the_weights(lab: Callable[..., Lab]) -> None:
    here = lab("decor")
    table = composition.utilisation(here).table
    model = here.recommender("decor").eval()
    assert isinstance(model, Decor)
    (batch,) = Batches(here.corpus.examples("test"), 100, model.history_length)
    with torch.no_grad():
        levels = model.composition_weights(batch.history)
    assert [weights.shape for weights in levels] == [(here.corpus.users, 8)] * 3
    for row, weights, held in zip(table.to_dict("records"), levels, model.generator.index.codes[1:, 0].T, strict=False):
        assert row["assigned to an item"] == len(set(held.tolist())) / 8
        above = [[weight >= 1 / 8 for weight in user] for user in weights.tolist()]
        assert row["composed for some user"] == np.mean(np.any(above, axis=0))
        assert row["composed on average"] == np.mean(np.mean(weights.double().numpy(), axis=0) >= 1 / 8)
    assert 0 < table["composed on average"].min() <= table["composed for some user"].min()


def test_levels_that_a_paper_has_not_are_empty(lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "stated", lambda corpus: {"paper": [0.5, 0.25]})
    table = composition.utilisation(lab("decor")).table
    assert len(table) == 3
    assert table["paper"].tolist()[:2] == [0.5, 0.25]
    assert np.isnan(table["paper"][2])


def test_the_papers_shares_stand_beside_a_corpus_of_theirs() -> None:
    assert stated("musical_instruments") == {
        "TIGER (published)": [0.2797, 0.9677, 1.0],
        "DECOR (published)": [1.0, 1.0, 1.0],
    }
    assert stated("planted") == {}


@pytest.mark.slow
def test_prefixes_by_hand(lab: Callable[..., Lab]) -> None:
    here = lab("decor")
    table = composition.prefixes(here).table
    model = here.recommender("decor").eval()
    assert isinstance(model, Decor)
    held = [tuple(row) for row in model.generator.index.codes[1:, 0].tolist()]
    row = table.iloc[0]
    prefix = tuple(map(int, re.findall(r"\d+", row["Prefix"])))
    members = [item for item, row in enumerate(held, 1) if row[:2] == prefix]
    assert row["Items"] == len(members) == max(sum(other[:2] == some[:2] for other in held) for some in held)
    assert row["Next codes"] == len({held[item - 1][2] for item in members})
    targets = [int(item) for item in here.corpus.examples("train").target if item in members]
    assert row["Histories"] == len(targets)
    with torch.no_grad():
        levels = model.generator.vectors()
        static = (levels[0][prefix[0]] + levels[1][prefix[1]]) / 2
        own = [torch.cosine_similarity(static, levels[2][held[item - 1][2]], dim=0).item() for item in targets]
    assert row["static: cosine to the true next code"] == pytest.approx(np.mean(own), abs=1e-5)
    composed = row["composed: cosine to the true next code"]
    assert abs(composed - np.mean(own)) > 1e-4


def test_a_model_that_composes_nothing_is_refused(lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lab, "recommender", lambda *arguments: pytest.fail("trained"))
    with pytest.raises(ValueError, match="decor-fusion composes no tokens; expected an experiment of decor"):
        composition.utilisation(dataclasses.replace(lab("decor", "decor-fusion"), settings=SHORT["decor"][:3]))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tiny_corpus: Corpus) -> list[int]:
    """How many trainings were asked for each time; they run on the tiny corpus, in this process."""
    asked: list[int] = []
    corpus = dataclasses.replace(tiny_corpus, name="planted")

    def in_turn(setting: Bench, name: str, source: str, cells: list[Any], jobs: int) -> list[Any]:
        asked.append(len(cells))
        for cell in cells:
            benchmarks.run.run(setting, corpus, *cell)
        return []

    monkeypatch.setattr(benchmarks.analyses, "run_all", in_turn)
    return asked


@pytest.mark.slow
def test_sensitivity_has_a_record_of_every_value(lab: Callable[..., Lab], ran: list[int]) -> None:
    here, shown = lab("decor"), sensitivity.DECOR._replace(axes={"alpha": sensitivity.Axis("part", (0.0,))})
    for _ in range(2):  # the second time all records are there
        table = sensitivity.over(here, shown).table
    assert ran == [6, 0]
    assert table["Value"].tolist() == [0, 0.1, 0.25, 0.4, 0.55, 0.7]
    records = {run.record.config["alpha"]: run.record for run in read_board(here.bench.board, "planted")}
    assert len(records) == 6
    assert table["NDCG@10"].tolist() == [records[value].test["ndcg@10"] for value in table["Value"]]
    assert (table["Low"] <= table["NDCG@10"]).all()


def test_the_papers_grids() -> None:
    """DECOR's figure 3 and ETEGRec's figure 4."""
    assert sensitivity.grid_of(decor.Config(), sensitivity.DECOR) == [
        *(("alpha", value) for value in (0.1, 0.25, 0.4, 0.55, 0.7)),
        *(("bos_queries", value) for value in (0, 8, 16, 32, 64, 128)),
    ]
    assert sensitivity.grid_of(etegrec.Config(), sensitivity.ETEGREC) == [
        *(("sia_weight", value) for value in (1e-4, 3e-4, 5e-4, 1e-3, 5e-3)),
        *(("psa_weight", value) for value in (0, 1e-4, 3e-4, 5e-4, 1e-3, 5e-3)),
    ]


def test_each_sensitivity_is_of_its_own_model(lab: Callable[..., Lab]) -> None:
    for look, name, said in (
        (sensitivity.sensitivity, "etegrec", "etegrec is an experiment of etegrec; .* of decor's options"),
        (sensitivity.weights, "decor-base", "decor-base is an experiment of decor; .* of etegrec's options"),
    ):
        with pytest.raises(ValueError, match=said):
            look(dataclasses.replace(lab("decor", name), settings=()))


def test_a_training_that_fails_leaves_no_picture(lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.analyses, "run_all", lambda setting, corpus, source, cells, jobs: cells)
    with pytest.raises(ValueError, match="a training failed, so there is no picture"):
        unseen.unseen(lab("tiger", "tiger"))


@pytest.mark.slow
def test_unseen_users_by_hand(lab: Callable[..., Lab], ran: list[int]) -> None:
    own = tuple(f"tiger:{text}" for text in SHORT["tiger"])
    here = dataclasses.replace(lab("tiger", "tiger", "popularity"), settings=own)
    found = unseen.unseen(here)
    table = found.table
    assert ran == [2]
    assert table["Experiment"].tolist() == ["tiger", "popularity"]
    _, strangers = here.corpus.split_users(0.05)
    assert "from 57 users without the 3 of the least history" in found.says
    # Popularity's lists, by hand: what most of the seen users' training parts have.
    seen, _ = here.corpus.split_users(0.05)
    counts = seen.training_counts()[1:]
    best = (np.argsort(-counts, kind="stable") + 1)[:10].tolist()
    for column, corpus in (("Recall@10, seen", seen), ("Recall@10, unseen", strangers)):
        hits = [target in best for target in corpus.examples("test").target.tolist()]
        assert table[column][1] == pytest.approx(np.mean(hits))
    (run,) = [run for run in read_board(here.bench.board, strangers.name) if run.record.model == "tiger"]
    assert run.record.experiment == "tiger-unseen-users"
    assert table["NDCG@10, unseen"][0] == run.record.test["ndcg@10"]
    assert table["NDCG@10, seen"][0] == run.record.diagnostics["seen_users"]["ndcg@10"]
    for metric in ("Recall@10", "NDCG@10"):
        assert (table[f"{metric}, low"] <= table[f"{metric}, unseen"]).all()
        assert (table[f"{metric}, unseen"] <= table[f"{metric}, high"]).all()


def test_unseen_users_go_by_either_name(lab: Callable[..., Lab], ran: list[int]) -> None:
    here = lab("tiger", "popularity", "popularity-unseen-users")
    table = unseen.unseen(dataclasses.replace(here, settings=())).table
    assert table["Experiment"].tolist() == ["popularity", "popularity"]
    assert table.iloc[0].tolist() == table.iloc[1].tolist()


@pytest.mark.slow
def test_cold_places_are_those_of_the_codes_but_the_last(lab: Callable[..., Lab]) -> None:
    """Brute force by teacher forcing; of items that share them the smaller id comes first."""
    here = lab("tiger")
    corpus = here.corpus.cold_items(0.4)
    recommender = dataclasses.replace(here, corpus=corpus).recommender("tiger").eval()
    assert isinstance(recommender, Tiger)
    generator = recommender.generator
    found = cold_start.places(recommender, corpus)
    cold = np.unique(corpus.examples("test").target)
    codes = generator.index.codes[torch.from_numpy(cold), 0]
    with torch.inference_mode():
        for batch in Batches(corpus.examples("test"), 1, recommender.history_length):
            labels = generator.sequence_tokens(codes)
            read = generator.read(batch.history).repeat(len(cold))
            scores = generator.chosen(generator.states(labels, read), labels)[:, :-1].sum(1).numpy().round(4)
            order = cold[np.lexsort((cold, -scores))].tolist()
            assert found[int(batch.user)] == 1 + order.index(int(batch.target))


def test_cold_items_have_their_share_of_a_list(lab: Callable[..., Lab]) -> None:
    """Popularity knows none of them and so lists them last, by id."""
    here = dataclasses.replace(lab("tiger", "popularity"), settings=())
    found = cold_start.cold_start(here)
    targets = here.corpus.cold_items().examples("test").target
    place = 1 + np.searchsorted(np.unique(targets), targets)
    table = found.table
    assert table["Experiment"].tolist() == ["popularity"] * 3 + ["by chance"] * 3
    assert (table["K"][:3].tolist(), table["no quota"][0]) == ([10, 20, 50], 0)
    for column, quotas in (("epsilon 0.1", (1, 2, 5)), ("epsilon 0.2", (2, 4, 10)), ("epsilon 1", (10, 20, 50))):
        for row, quota in enumerate(quotas):
            assert table[column][row] == pytest.approx(np.mean(place <= quota))
            assert table[column][3 + row] == pytest.approx(min(1, quota / len(np.unique(targets))))
    assert f"Recall of the {len(targets)} test targets that are among {len(np.unique(targets))} items" in found.says


def test_cold_items_are_found_by_one_sequence_of_several_codes(lab: Callable[..., Lab]) -> None:
    corpus = lab("tiger").corpus.cold_items()
    with pytest.raises(ValueError, match=r"expected one code sequence per item, of .* not up to 2 of 2"):
        cold_start.places(grown(), corpus)


def test_closeness_by_hand() -> None:
    semantic = torch.eye(12)
    preference = torch.zeros(2, 12)
    preference[0, 3] = 2.0  # item 4 itself
    preference[1, :11] = torch.arange(11, 0, -1.0)  # item 11 is the eleventh nearest
    found = alignment.closeness(preference, semantic, torch.tensor([4, 11]))
    own = [1.0, 1 / np.sqrt(sum(n * n for n in range(1, 12)))]
    others = [0.0, (66 - 1) / np.sqrt(sum(n * n for n in range(1, 12))) / 11]
    assert list(found.values()) == pytest.approx([np.mean(own), np.mean(others), 0.5], abs=1e-6)


def test_items_of_one_representation_are_near_by_chance() -> None:
    found = alignment.closeness(torch.ones(3, 4), torch.ones(100, 4), torch.tensor([1, 50, 100]))
    assert found["Target among the nearest 10"] == pytest.approx(0.1)


@pytest.mark.slow
def test_alignment_is_that_of_the_training(lab: Callable[..., Lab]) -> None:
    """The two sides are those that Eq. 16 was given, user by user."""
    here = lab("etegrec", "etegrec")
    table = alignment.alignment(here).table
    model = here.recommender("etegrec").eval()
    assert isinstance(model, Etegrec)
    (batch,) = Batches(here.corpus.examples("test"), 100, model.history_length)
    with torch.no_grad():
        labels = model.generator.item_tokens(batch.target)
        first = model.generator.states(labels, model.generator.read(batch.history))[:, 0]
        preference, target = model.to_semantic(first), model.tokenizer(batch.target)[1]
        every = model.tokenizer(torch.arange(1, 41))[1]
    cosine = torch.cosine_similarity(preference, target).mean().item()
    assert table["Cosine to the target"][0] == pytest.approx(cosine, abs=1e-5)
    pairs = torch.cosine_similarity(preference[:, None], every[None], dim=2)
    mask = torch.arange(1, 41) != batch.target[:, None]
    assert table["to the others"][0] == pytest.approx(pairs[mask].mean().item(), abs=1e-5)
    assert table["Projection"].tolist() == ["its own", "fitted"]
    # Fitted, the state is taken to about the mean target at least: closer than behind a projection hardly trained.
    assert table["Cosine to the target"][1] > table["Cosine to the target"][0]
    with pytest.raises(
        ValueError, match="decor has no preference-semantic alignment; expected an experiment of etegrec"
    ):
        alignment.alignment(lab("decor", "decor"))


def test_what_is_drawn_of_the_alignment(tiny_corpus: Corpus) -> None:
    test = tiny_corpus.examples("test")
    often = alignment._often(test)
    items, count = np.unique(test.target, return_counts=True)
    drawn, histories = np.unique(often.target, return_counts=True)
    assert len(drawn) == 10
    assert min(count[np.isin(items, drawn)]) >= max(count[~np.isin(items, drawn)])
    assert histories.tolist() == np.minimum(count[np.isin(items, drawn)], 8).tolist()


def grown() -> Pit:
    """A PIT with four items, two levels of four codes, and another index than at its start."""
    sizes = ItemToTokenConfig(width=4, layers=1, heads=1, inner=4)
    static = [[-1, -1], [0, 0], [0, 1], [0, 2], [1, 0]]
    none, more = [-1, -1], [[2, 3], [1, 1], [1, 2], [3, 3]]
    dynamic = [[none, none]] + [[first, second] for first, second in zip(static[1:], more, strict=True)]
    t5 = T5Sizes(width=4, inner=4, heads=1, head_width=4, encoder_layers=1, decoder_layers=1)
    model = Pit(PitConfig(i2t=sizes, t5=t5), ItemIndex(torch.tensor(static), (4, 4)), torch.zeros(5, 3))
    model.generator.index.assign(torch.tensor(dynamic))
    return model


def test_density_by_hand(lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_use, "_pit", lambda lab, name: grown())
    static, dynamic = code_use.density(lab("pit", "pit")).table.to_dict("records")
    assert (static["Index"], dynamic["Index"]) == ("pit, static", "pit, dynamic")
    assert [static[f"In use {level}"] for level in (1, 2)] == [0.5, 0.75]
    assert [dynamic[f"In use {level}"] for level in (1, 2)] == [1.0, 1.0]
    # Level 1: codes 3, 1, 0, 0 times, then 3, 3, 1, 1 times; level 2: 2, 1, 1, 0 times, then 2, 2, 2, 2 times.
    bits = [0.75 * np.log2(4 / 3) + 0.25 * 2, 1.5]
    assert [static[f"Bits {level}"] for level in (1, 2)] == pytest.approx(bits)
    assert static["Mean bits"] == pytest.approx(np.mean(bits))
    bits = [0.75 * np.log2(8 / 3) + 0.25 * 3, 2.0]
    assert [dynamic[f"Bits {level}"] for level in (1, 2)] == pytest.approx(bits)


def test_entropy_by_hand(lab: Callable[..., Lab]) -> None:
    table = code_use.entropy(lab("both starts", "pit", "pit-rq-kmeans")).table
    assert table["Tokenizer"].tolist() == ["pit", "pit-rq-kmeans"]
    index = lab("pit").index("pit")
    for level in range(4):
        share = np.unique(index.codes[1:, 0, level], return_counts=True)[1] / 40
        assert table[f"Entropy {level + 1}"][0] == pytest.approx(-(share * np.log(share)).sum(), abs=1e-5)
    assert table["Average"][0] == pytest.approx(np.mean([table[f"Entropy {level}"][0] for level in (1, 2, 3, 4)]))


def test_a_suffix_is_no_level_of_a_tokenizer(lab: Callable[..., Lab]) -> None:
    """TIGER's fourth code tells items of equal codes apart; PIT's quantises like the others."""
    settings = ("tokenizer.codes=8", "tokenizer_epochs=2", "pit:tokenizer.levels=5")
    here = dataclasses.replace(lab("pit", "tiger", "pit"), settings=settings)
    tiger, pit = code_use.entropy(here).table.to_dict("records")
    assert tiger["Average"] == pytest.approx(np.mean(here.index("tiger").card()["entropy"][:3]), abs=1e-4)
    assert np.isnan([tiger["Entropy 4"], tiger["Entropy 5"]]).all()
    assert pit["Average"] == pytest.approx(np.mean(here.index("pit").card()["entropy"]), abs=1e-4)


def test_what_popularity_loses_by_hand() -> None:
    """Items of codes (0, 0), (0, 1), (1, 0) and once more (1, 0), bought 3, 1, 0 and 0 times: 4, 2, 1, 1 of 8."""
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 0]])
    found = code_loss.popularity_loss(codes, torch.tensor([3, 1, 0, 0]))
    expected = [[np.log(8 / 6), np.log(6 / 4)], [np.log(8 / 6), np.log(6 / 2)], [np.log(4), 0], [np.log(4), 0]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.slow
def test_losses_of_codes_are_minus_an_items_score(lab: Callable[..., Lab]) -> None:
    here = lab("tiger")
    recommender = here.recommender("tiger").eval()
    assert isinstance(recommender, Tiger)
    lines = code_loss.code_loss(here).table.to_dict("records")
    found: dict[Any, dict[Any, Any]] = {(line["Experiment"], line["Part"]): line for line in lines}
    for part in code_loss.PARTS:
        batches = Batches(here.corpus.examples(part), 100, recommender.history_length)
        with torch.inference_mode():
            scores = [recommender.generator.score(batch.history, batch.target[:, None]) for batch in batches]
        line = found["tiger", part]
        assert line["All codes"] == pytest.approx(-float(torch.cat(scores).mean()), rel=1e-4)
        assert line["All codes"] == pytest.approx(sum(line[f"Code {level}"] for level in range(1, 5)), rel=1e-5)
        # No two items share all codes, so all that popularity loses is what it loses of the items.
        share = (here.corpus.training_counts()[1:] + 1) / (here.corpus.training_counts()[1:] + 1).sum()
        lost = -np.log(share[here.corpus.examples(part).target - 1]).mean()
        assert found["popularity, codes of tiger", part]["All codes"] == pytest.approx(lost, rel=1e-4)


@pytest.mark.slow
def test_letters_losses_are_under_the_temperature_of_its_training(lab: Callable[..., Lab]) -> None:
    here = dataclasses.replace(lab("tiger", "letter"), settings=("tokenizer_epochs=2", "steps=20"))
    recommender = here.recommender("letter").eval()
    assert isinstance(recommender, Letter)
    assert recommender.config.temperature == 0.7
    (line,) = [
        line
        for line in code_loss.code_loss(here).table.to_dict("records")
        if (line["Experiment"], line["Part"]) == ("letter", "test")
    ]
    examples = here.corpus.examples("test")
    (batch,) = Batches(examples, len(examples), recommender.history_length)
    with torch.inference_mode():
        trained_by = recommender.training_step(batch, 0)
    assert line["All codes"] == pytest.approx(recommender.generator.index.levels * float(trained_by), rel=1e-4)


def test_losses_are_of_models_with_one_sequence_per_item(lab: Callable[..., Lab]) -> None:
    here = dataclasses.replace(lab("tiger", "popularity"), settings=())
    with pytest.raises(ValueError, match="popularity does not generate one code sequence for each item"):
        code_loss.code_loss(here)


@pytest.mark.slow
def test_the_index_by_hand(lab: Callable[..., Lab]) -> None:
    here = lab("pit", "pit-coevolving")
    (row,) = code_use.index(here).table.to_dict("records")
    model = here.recommender("pit-coevolving")
    assert isinstance(model, Pit)
    held = model.generator.index.codes[1:].tolist()
    edges = [tuple(sequence) for item in held for sequence in item if sequence[0] >= 0]
    assert row["Sequences per item"] == pytest.approx(len(edges) / 40)
    assert row["Items per sequence"] == pytest.approx(len(edges) / len(set(edges)))
    assert row["Most"] == max(map(edges.count, edges))
    assert 1 <= row["Different items, beam 20"] <= row["Different items, beam 50"] <= 40
    with pytest.raises(ValueError, match="decor has no beam index; expected an experiment of pit"):
        code_use.index(lab("decor", "decor"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model"), [("prefixes", "decor"), ("entropy", "both starts"), ("alignment", "etegrec")]
)
def test_an_analysis_is_two_files(lab: Callable[..., Lab], tmp_path: Path, name: str, model: str) -> None:
    names = ("pit", "pit-rq-kmeans") if model == "both starts" else ()
    found = [analyse(name, lab(model, *names), tmp_path / folder)[0] for folder in ("one", "other")]
    # What is committed is of the models that an analysis has by itself.
    stem = "-".join(["planted", name, *names])
    pictures = [(tmp_path / folder / f"{stem}.svg").read_bytes() for folder in ("one", "other")]
    assert pictures[0] == pictures[1], "the same picture is the same file"
    assert pictures[0].startswith(b"<?xml")
    text = (tmp_path / "one" / f"{stem}.md").read_text()
    assert f"({stem}.svg)" in text
    assert found[0].says in text
    assert all(str(column) in text for column in found[0].table.columns)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [f"{stem}.md", f"{stem}.svg"]


def test_a_setting_may_be_of_one_experiment(lab: Callable[..., Lab]) -> None:
    here = dataclasses.replace(lab("pit"), settings=("tiger:tokenizer.lr=0.5", "history=3", "pit:tokenizer.codes=8"))
    assert here.experiment("tiger").config.tokenizer.lr == 0.5
    found = here.experiment("pit", "momentum=0.5").config
    assert (found.history, found.tokenizer.codes, found.momentum) == (3, 8, 0.5)
    assert here.experiment("pit-no-csa").config.tokenizer.codes == 32, "a name, not the beginning of one"
    with pytest.raises(ValueError, match="pit has no option 'widht'"):
        dataclasses.replace(here, settings=("pit:widht=3",)).experiment("pit")
    with pytest.raises(ValueError, match="'tigr:lr=3' is for 'tigr', which is no experiment; did you mean 'tiger'"):
        dataclasses.replace(here, settings=("tigr:lr=3",))


def test_what_cannot_be_drawn_is_told_before_a_training(lab: Callable[..., Lab], ran: list[int]) -> None:
    short = dataclasses.replace(lab("decor"), settings=(*SHORT["decor"], "tokenizer.levels=1"))
    with pytest.raises(
        ValueError, match="decor has codes of 1 level and a suffix; expected a code behind prefixes of 2"
    ):
        composition.prefixes(short)
    for name in ("sasrec", "popularity"):
        with pytest.raises(ValueError, match=f"{name} composes no tokens; expected an experiment of decor"):
            composition.prefixes(dataclasses.replace(lab("decor", name), settings=()))
    two = dataclasses.replace(lab("pit", "pit", "pit-rq-kmeans"), settings=("pit:tokenizer.levels=3",))
    with pytest.raises(ValueError, match=r"other numbers of levels \({'pit': 3, 'pit-rq-kmeans': 4}\); expected one"):
        code_use.density(two)
    assert ran == []


def test_no_page_is_made_of_lists_that_are_not_proven() -> None:
    whole = Ranking(torch.ones(2, 1, dtype=torch.long), torch.zeros(2, 1), torch.tensor([True, True]))
    assert benchmarks.analyses.proven(whole) is whole
    with pytest.raises(ValueError, match="1 of 2 lists are not certified; expected all, of exact search"):
        benchmarks.analyses.proven(whole._replace(certified=torch.tensor([True, False])))


def test_no_row_with_lists_that_are_not_proven_is_analysed(
    lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = lab("decor")
    path = write(here.bench.board, *run_of(search=HALF))
    monkeypatch.setattr(benchmarks.analyses, "resolve", lambda *_: SimpleNamespace(record_path=lambda seed: path))
    with pytest.raises(ValueError, match="sasrec seed 0 has lists that are not certified"):
        here.runs([Cell(here.experiment("decor"), 0)])
    write(here.bench.board, *run_of(search=HALF, corpus={"name": "planted", "fingerprint": here.corpus.fingerprint}))
    with pytest.raises(ValueError, match="sasrec seed 0 has lists that are not certified"):
        support._board(here)


def test_what_is_there_is_looked_at_before_others_are_trained(
    lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = lab("decor")
    paths = [tmp_path / "none.json", write(here.bench.board, *run_of(search=HALF))]
    monkeypatch.setattr(
        benchmarks.analyses, "resolve", lambda *_: SimpleNamespace(record_path=lambda seed: paths[seed])
    )
    monkeypatch.setattr(benchmarks.analyses, "run_all", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="lists that are not certified"):
        here.runs([Cell(here.experiment("decor"), seed) for seed in range(2)])


def test_a_loss_of_codes_needs_no_list(
    lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = dataclasses.replace(lab("decor"), names=(), settings=())
    path = write(here.bench.board, *run_of(search=HALF))
    recommender = Popularity(popularity.Config(), torch.zeros(here.corpus.items))
    found = SimpleNamespace(recommender=recommender, eval_corpus=here.corpus)
    monkeypatch.setattr(benchmarks.analyses, "recall_by_hash", lambda *_: found)
    monkeypatch.setattr(benchmarks.analyses, "check_ranks", lambda *_: None)
    assert here.recalled(path)[0].record.search.certified_share == 0.5
    with pytest.raises(ValueError, match="lists that are not certified"):
        ladder._of_row(here, path)


def test_without_a_quota_places_are_proven_too(
    lab: Callable[..., Lab], tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quota's lists are of all items, those of the column beside it are shorter."""
    was = Popularity.rank

    def unproven(self: Popularity, history: Tensor, k: int) -> Ranking:
        made = was(self, history, k)
        return made if k == tiny_corpus.items else made._replace(certified=torch.zeros_like(made.certified))

    monkeypatch.setattr(Popularity, "rank", unproven)
    with pytest.raises(ValueError, match="lists are not certified"):
        cold_start.cold_start(dataclasses.replace(lab("decor", "popularity"), settings=()))


def test_what_an_analysis_sets_makes_no_setting_wrong(lab: Callable[..., Lab]) -> None:
    """ETEGRec's figure has weights of 0, beside which nothing reads a temperature."""
    here = dataclasses.replace(lab("etegrec"), settings=("psa_temperature=0.1", "lr=0.01"))
    made = here.experiment("etegrec", "psa_weight=0.0", "lr=0.02", usual=["sia_weight=0.0", "sia_sign=nearest"])
    assert (made.config.psa_weight, made.config.sia_weight, made.config.lr) == (0, 0, 0.02)
    assert (made.config.psa_temperature, made.config.sia_sign) == (etegrec.SMALL.psa_temperature, "farthest")
    assert here.experiment("etegrec").config.psa_temperature == 0.1
    with pytest.raises(ValueError, match="etegrec option epochs is set, but nothing reads it"):
        dataclasses.replace(here, settings=("epochs=3",)).experiment("etegrec")


def test_names_of_many_experiments_do_not_make_too_long_a_file(
    lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Finding(pd.DataFrame({"a": [1]}), Figure(), "Nothing. At all.")
    monkeypatch.setattr(benchmarks.analyses.composition, "utilisation", lambda here: found)
    written = []
    for names in (("tiger",), ("tiger", "letter"), tuple(experiments.names())[:30], tuple(experiments.names())[1:31]):
        written.append(analyse("utilisation", lab("decor", *names), tmp_path)[1].name)
    assert written[:2] == ["planted-utilisation-tiger.md", "planted-utilisation-tiger-letter.md"]
    assert len(set(written)) == 4
    assert all("30-experiments-" in name for name in written[2:])
    assert (tmp_path / written[3]).read_text().startswith(f"# Utilisation of {written[3][20:-3]} on planted\n")


def test_a_setting_is_for_either_name_of_an_experiment_and_for_one_that_is_looked_at(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = dataclasses.replace(lab("pit"), settings=("tiger:steps=6",))
    assert here.experiment("tiger-unseen-users").config.steps == 6
    other = dataclasses.replace(here, settings=("tiger-unseen-users:steps=7",))
    assert other.experiment("tiger").config.steps == 7
    with pytest.raises(ValueError, match="'tiger:steps=6' is for 'tiger'; expected one of pit, sasrec"):
        dataclasses.replace(here, names=("pit", "sasrec")).chosen()
    monkeypatch.setattr(Lab, "index", lambda *a: pytest.fail("trained"))
    with pytest.raises(ValueError, match="'gru4rec:lr=3' is for 'gru4rec'; expected one of tiger, pit, pit-rq-kmeans"):
        code_use.entropy(dataclasses.replace(here, settings=("gru4rec:lr=3",)))


@pytest.mark.parametrize("name", ["fusion", "code_loss", "ladder"])
def test_what_is_for_unseen_users_is_refused(
    lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its row grades those that it never saw; here it would have learned from all."""
    monkeypatch.setattr(Lab, "recommender", lambda *a: pytest.fail("trained"))
    here = dataclasses.replace(lab("tiger", "transitions", "popularity-unseen-users"), settings=())
    with pytest.raises(ValueError, match=f"popularity-unseen-users is graded on users whom it never saw; {name} is"):
        analyse(name, here, tmp_path)


def test_settings_are_told_of_all_before_any_is_trained(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An RQ-VAE has epochs, k-means has none."""
    monkeypatch.setattr(Lab, "index", lambda *a: pytest.fail("trained"))
    here = dataclasses.replace(lab("pit"), settings=("tokenizer_epochs=2",))
    with pytest.raises(ValueError, match="pit-rq-kmeans option tokenizer_epochs is set, but nothing reads it"):
        code_use.entropy(here)


@pytest.mark.parametrize("name", ["pit-no-beam-index", "pit-best-sequence"])
def test_a_pit_of_one_sequence_may_have_a_cold_start(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def trained(lab: Lab, name: str) -> Any:
        raise LookupError(name)

    monkeypatch.setattr(Lab, "recommender", trained)
    with pytest.raises(LookupError, match=name):
        cold_start.cold_start(lab("pit", name))


def test_another_model_is_refused_before_a_training(lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lab, "recommender", lambda *a: pytest.fail("trained"))
    for look, own in ((alignment.alignment, "etegrec"), (code_use.density, "pit"), (code_use.index, "pit")):
        with pytest.raises(ValueError, match=f"popularity has no .*; expected an experiment of {own}"):
            look(dataclasses.replace(lab(own, own, "popularity"), settings=()))
    with pytest.raises(ValueError, match="pit-no-csa names an item by several code sequences; expected a model of one"):
        cold_start.cold_start(dataclasses.replace(lab("tiger", "tiger", "pit-no-csa"), settings=()))


def test_support_by_hand(lab: Callable[..., Lab], ran: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    here = dataclasses.replace(lab("tiger", "tiger"), settings=())
    here.runs([Cell(here.experiment(name), here.seed) for name in ("popularity", "item_knn")])
    corpus = here.corpus
    index = ItemIndex(torch.tensor([[-1, -1], *([item % 9, item % 4] for item in range(1, corpus.items + 1))]), (9, 4))
    monkeypatch.setattr(Lab, "index", lambda self, name: index)
    codes, target = index.codes[:, 0], corpus.examples("test").target
    for steps in (1, 2, 4):
        depth = support.supported(corpus, codes.numpy(), target, steps)
        assert depth.tolist() == _support(corpus, codes.tolist(), steps)
    new = np.array(_support(corpus, [[item] for item in range(corpus.items + 1)], 1)) == 0
    assert 0 < new.sum() < len(new)

    monkeypatch.setattr(findings, "BESIDE", "popularity")
    # Few users are all counted together.
    column = f"0 codes or more, {new.sum()} users"
    assert support.support(here).table.columns.tolist()[2:] == [column, "from popularity, 0 codes or more"]
    monkeypatch.setattr(support, "FEWEST", 1)
    found = support.support(here)
    assert (found.subject, ran) == ("tiger", [2])
    assert f"{(depth[new] > 1).mean():.0%} have two codes or more" in found.says
    runs = read_board(here.bench.board, "planted")
    gains = {run.record.experiment: per_user("ndcg@10", run.ranks["rank"].to_numpy()) for run in runs}
    for row in found.table.to_dict("records"):
        for length in set(depth[new]):
            part = new & (depth == length)
            title = "1 code" if length == 1 else f"{length} codes"
            assert row[f"{title}, {part.sum()} users"] == pytest.approx(gains[row["Experiment"]][part].mean())
            if row["Experiment"] == "item_knn":
                difference = (gains["item_knn"] - gains["popularity"])[part].mean()
                assert row[f"from popularity, {title}"].startswith(f"{difference:+.4f} (")


def _support(corpus: Corpus, codes: list[list[int]], steps: int) -> list[int]:
    """Of each user, by loops over all that training has."""
    sequences = [corpus.flat[low:high].tolist() for low, high in itertools.pairwise(corpus.offsets)]
    trained = [pair for items in sequences for pair in _within(items[:-2], steps)]

    def known(first: int, second: int, length: int) -> bool:
        wanted = codes[first][:length], codes[second][:length]
        return any((codes[one][:length], codes[two][:length]) == wanted for one, two in trained)

    lengths = range(1, len(codes[0]) + 1)
    return [
        max((n for n in lengths if any(known(item, items[-1], n) for item in items[:-1][-steps:])), default=0)
        for items in sequences
    ]


def _within(items: list[int], steps: int) -> list[tuple[int, int]]:
    return [(items[at], later) for at in range(len(items)) for later in items[at + 1 : at + 1 + steps]]


def test_support_is_of_the_boards_corpus_beside_sasrec_and_of_one_sequence_per_item(
    lab: Callable[..., Lab], ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = dataclasses.replace(lab("tiger", "tiger"), settings=())
    here.runs([Cell(here.experiment("popularity"), here.seed)])
    with pytest.raises(ValueError, match="board has no row of sasrec on planted; expected one"):
        support.support(here)
    other = dataclasses.replace(here, corpus=dataclasses.replace(here.corpus, flat=here.corpus.flat[::-1].copy()))
    with pytest.raises(ValueError, match="board is of another content of planted; expected that of this corpus"):
        support.support(other)
    monkeypatch.setattr(findings, "BESIDE", "popularity")
    monkeypatch.setattr(Lab, "index", lambda self, name: ItemIndex(torch.tensor([[[-1], [-1]], [[0], [1]]]), (2,)))
    with pytest.raises(ValueError, match="tiger names an item by up to 2 code sequences; expected one"):
        support.support(here)


def test_an_unknown_analysis_is_named(lab: Callable[..., Lab], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no analysis 'utilization'; possible: {', '.join(ANALYSES)}"):
        analyse("utilization", lab("decor"), tmp_path)
    with pytest.raises(ValueError, match="etegrec has no tokenizer that is finished before"):
        dataclasses.replace(lab("pit"), settings=()).index("etegrec")
