"""The protocol ladder: each rung changes a hand-made case as it says, and what is wrong comes to no board."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from jaxtyping import Int
from scipy.special import log_softmax
from torch import Tensor, nn

import benchmarks.analyses
from benchmarks import best_config, hardware, model_inputs
from benchmarks.analyses import Lab, ladder
from benchmarks.analyses import ladder_gradings as gradings
from benchmarks.analyses.ladder_gradings import Lists, Weights
from benchmarks.analyses.ladder_trainings import (
    AtEpoch,
    BestOnTest,
    Kept,
    Patient,
    Trained,
    chosen_on_test,
    validation_learned,
    with_validation_items,
)
from benchmarks.evaluate import Grader
from benchmarks.execution.cell import Cell
from benchmarks.experiments import complete
from benchmarks.run import run
from benchmarks.settings import Bench
from data_prep import embed
from data_prep.corpus import Corpus
from leaderboards.metrics import metrics
from leaderboards.store import read, read_board
from models import sasrec
from models.api import Budget, Ranking, Recommender
from models.letter import Config, Letter
from models.parts.generator import CodeGenerator
from models.parts.index import ItemIndex, with_suffix
from models.parts.ranking import rank_scores
from models.parts.seq2seq import T5Sizes
from models.popularity import Popularity
from tests.factories import corpus_of

# Items 1 and 2, and items 3 and 4, share their codes; the last code only tells them apart.
CODES = torch.tensor([[0, 0], [0, 0], [1, 2], [1, 2], [1, 0]])
SUFFIXED = with_suffix(CODES, 4)
SHORT = ("epochs=4", "batch_size=16", "width=16", "inner=16", "heads=1")


class Scores(Recommender):
    """Knows one list of scores for all users."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.history_length = 5
        self.scores = nn.Parameter(torch.tensor(scores))

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return rank_scores(self.scores.expand(len(history), -1), k)


class Coded(Recommender):
    def __init__(self, index: ItemIndex) -> None:
        super().__init__()
        self.history_length = 5
        torch.manual_seed(0)
        sizes = T5Sizes(width=8, inner=8, heads=1, head_width=8, encoder_layers=1, decoder_layers=1, dropout=0.0)
        self.generator = CodeGenerator(sizes, index, "level")

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)


def lists(items: list[int], target: int, seen: list[int], scores: list[float] | None = None) -> Lists:
    """Of one user."""
    ranked = torch.tensor([items])
    told = torch.tensor([scores if scores else [-float(place) for place in range(len(items))]])
    history = torch.tensor([seen])
    return Lists(history, history, torch.tensor([target]), ranked, told, ranked == target)


def coded(codes: Int[Tensor, "I L"] = SUFFIXED, sizes: tuple[int, ...] = (2, 3, 4)) -> Weights:
    return Weights(Coded(ItemIndex(codes, sizes)).eval(), len(codes) - 1)


def letter(temperature: float) -> Weights:
    sizes = T5Sizes(width=8, inner=8, heads=1, head_width=8, encoder_layers=1, decoder_layers=1, dropout=0.0)
    config = Config(codes="letter", vectors=None, collaborative=None, t5=sizes, temperature=temperature)
    torch.manual_seed(0)
    return Weights(Letter(config, ItemIndex(SUFFIXED, (2, 3, 4))).eval(), len(SUFFIXED) - 1)


def place(found: Lists) -> int:
    return int(found.ranks())


SCORED = Weights(Scores([0.0] * 5), 5)


def test_which_weights_a_rung_is_about() -> None:
    of_scores, of_codes = ({step.name for step in ladder.STEPS if step.of(each)} for each in (SCORED, coded()))
    assert of_codes - of_scores == {
        "beam 20",
        "beam 50",
        "beam 500",
        "free beam 20",
        "free beam 20, invalid dropped",
        "hits on code sequences",
        "hits on code sequences, duplicates kept",
    }
    named = {step.name: step for step in ladder.STEPS}["ranked at the loss's temperature"]
    assert [named.of(letter(temperature)) for temperature in (0.7, 1.0)] == [True, False]
    assert not named.of(coded())


@torch.inference_mode()
def test_lists_at_the_temperature_of_the_loss() -> None:
    """The sums of log-probabilities of divided logits, as SciPy has them, order the items."""
    weights, flat = letter(0.25), letter(1.0)
    generator = weights.generator
    assert generator is not None
    after = gradings.at_loss_temperature(weights, lists([1, 2, 3], target=3, seen=[4]))
    read = generator.read(torch.tensor([[4]]).expand(5, -1))
    labels = generator.item_tokens(torch.arange(1, 6))
    logits = generator.states(labels, read) @ generator.token.weight.T * generator.transformer.sizes.width**-0.5
    by_hand = log_softmax(logits.double().numpy() / 0.25, axis=-1)
    scores = np.take_along_axis(by_hand, labels.numpy()[..., None], 2).sum((1, 2))
    best = (-scores).argsort(kind="stable")[:3]
    assert after.items.tolist() == [(best + 1).tolist()]
    assert after.scores[0].numpy() == pytest.approx(scores[best], rel=1e-4)
    assert not torch.allclose(after.scores, gradings.at_loss_temperature(flat, after).scores)


def test_lists_at_the_temperature_of_the_loss_are_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another distribution than the row's, of which its certificate says nothing."""
    was = CodeGenerator.rank

    def unproven(self: CodeGenerator, *given: Any) -> Ranking:
        made = was(self, *given)
        return made._replace(certified=torch.zeros_like(made.certified))

    monkeypatch.setattr(CodeGenerator, "rank", unproven)
    with torch.inference_mode(), pytest.raises(ValueError, match="1 of 1 lists are not certified"):
        gradings.at_loss_temperature(letter(0.25), lists([1, 2, 3], target=3, seen=[4]))


def test_items_of_the_history_are_left_out() -> None:
    before = lists([4, 2, 3, 1], target=3, seen=[2, 4])
    after = gradings.masked(SCORED, before)
    assert (place(before), place(after)) == (3, 1)
    assert after.items.tolist() == [[3, 1, 0, 0]]
    assert place(gradings.masked(SCORED, lists([3, 2], target=3, seen=[3]))) == 0


def test_of_equal_scores_the_target_comes_first_but_before_no_better_one() -> None:
    before = lists([5, 1, 2, 3, 4], target=3, seen=[5], scores=[2.0, 1.0, 1.0, 1.0, 0.5])
    after = gradings.ties_in_favour(SCORED, before)
    assert (place(before), place(after)) == (4, 2)
    assert after.items.tolist() == [[5, 3, 1, 2, 4]]


def test_a_model_that_tells_nothing_apart_wins_by_ties(tiny_corpus: Corpus) -> None:
    weights = Weights(Scores([0.0] * tiny_corpus.items), tiny_corpus.items)
    users = tiny_corpus.examples("test")
    rungs = {"protocol": (), "ties": (gradings.ties_in_favour,)}
    found = gradings.grade(weights, users, rungs, whole_lists=True)
    assert (found["ties"] == 1).all()
    np.testing.assert_array_equal(found["protocol"], np.where(users.target <= 50, users.target, 0))


def test_codes_without_what_only_counts_items_of_equal_codes() -> None:
    assert gradings.tokenizer_codes(ItemIndex(SUFFIXED, (2, 3, 4))).tolist() == CODES.tolist()
    own = torch.nn.functional.pad(torch.tensor([[0, 1], [1, 0], [1, 2]]), (0, 0, 1, 0), value=-1)
    assert gradings.tokenizer_codes(ItemIndex(own, (2, 3))).tolist() == own[1:].tolist()


def test_a_hit_on_code_sequences_is_any_item_of_them() -> None:
    # By items the target, 4, is the fourth; by sequences, (1, 2) follows (0, 0) and nothing else.
    before = lists([1, 2, 3, 4, 5], target=4, seen=[5])
    assert place(before) == 4
    assert place(gradings.codes_hit(coded(), before)) == 2
    assert place(gradings.codes_hit_repeatedly(coded(), before)) == 3


def test_dropped_invalid_sequences_move_the_target_up() -> None:
    before = lists([0, 2, 0, 3], target=3, seen=[1], scores=[0.0, -1.0, -2.0, -3.0])
    after = gradings.without_invalid(SCORED, before)
    assert (place(before), place(after)) == (4, 2)
    assert after.items.tolist() == [[2, 3, 0, 0]]


def test_a_beam_as_wide_as_the_catalogue_is_exact_and_a_narrow_one_forgets() -> None:
    weights = coded()
    assert weights.generator is not None
    history = torch.tensor([[1, 3]])
    exact = weights.recommender.rank(history, 5)
    targets = exact.items[0].tolist()
    for rank, target in enumerate(targets, 1):
        before = Lists(history, history, torch.tensor([target]), exact.items, exact.scores, exact.items == target)
        assert place(gradings.BEAM_50(weights, before)) == rank
        narrow = gradings.beam(weights, before, width=1)
        assert narrow.items.shape == (1, 1)
        assert place(narrow) == int(narrow.items[0, 0] == target)
        free = gradings.FREE_20(weights, before)
        assert int((free.items == 0).sum()) > 0  # 24 sequences, 5 items
        assert place(gradings.without_invalid(weights, free)) <= place(free)


@pytest.mark.parametrize("weights", [coded(), Weights(Scores([0.3, 0.1, 0.5, 0.2, 0.4]), 5)], ids=["codes", "scores"])
def test_among_sampled_items_the_target_is_ranked_by_the_models_scores(weights: Weights) -> None:
    # Of five items one is in the history: all three others are drawn, and all of them are in the whole list.
    history = torch.tensor([[5]])
    ranking = weights.recommender.rank(history, 5)
    order = [item for item in ranking.items[0].tolist() if item != 5]
    for target in (1, 2, 3, 4):
        before = Lists(history, history, torch.tensor([target]), ranking.items, ranking.scores, ranking.items == target)
        after = gradings.among_sampled(weights, before)
        assert after.items[0].tolist() == order
        assert place(after) == order.index(target) + 1


def test_a_hundred_are_drawn_and_none_of_them_is_seen() -> None:
    weights = Weights(Scores([0.0] * 300), 300)
    history = torch.tensor([list(range(1, 31)), list(range(101, 131))])
    ranking = weights.recommender.rank(history, 300)
    target = torch.tensor([200, 7])
    before = Lists(history, history, target, ranking.items, ranking.scores, ranking.items == target[:, None])
    drawn = gradings.among_sampled(weights, before).items
    assert drawn.shape == (2, 101)
    for row, own, wanted in zip(drawn.tolist(), history.tolist(), target.tolist(), strict=True):
        assert len(set(row)) == 101
        assert wanted in row
        assert not set(own) & set(row)
    assert torch.equal(drawn, gradings.among_sampled(weights, before).items)


def test_users_of_a_smaller_last_batch_weigh_more() -> None:
    gains = np.array([1.0, 0.0, 0.0, 0.0, 1.0])
    # Batches [1, 0], [0, 0], [1]: means .5, 0, 1.
    assert float((gradings.batch_weights(5, 2) * gains).mean()) == pytest.approx(0.5)
    assert gradings.batch_weights(4, 2).tolist() == [1.0] * 4


def test_the_rungs_of_the_boards_are_the_evaluators(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where several batches are graded at a time."""
    torch.manual_seed(1)
    weights = Weights(Scores(torch.randn(tiny_corpus.items).tolist()), tiny_corpus.items)
    graded = Grader(tiny_corpus, "test", unseen=True)(weights.recommender)
    rungs = {"protocol": (), "masked": (gradings.masked,)}
    with monkeypatch.context() as small:
        small.setattr(hardware, "BATCH", 7)
        found = gradings.grade(weights, tiny_corpus.examples("test"), rungs, jobs=3)
    np.testing.assert_array_equal(found["protocol"], graded.ranks)
    np.testing.assert_array_equal(np.where(found["masked"] <= 10, found["masked"], 0), graded.unseen_ranks)


def test_those_who_learn_validation_items_have_the_test_targets_to_choose_by(tiny_corpus: Corpus) -> None:
    learned, test = validation_learned(tiny_corpus), tiny_corpus.examples("test")
    chosen_by = learned.examples("valid")
    np.testing.assert_array_equal(chosen_by.target, test.target)
    np.testing.assert_array_equal(chosen_by.length, test.length)
    pairs, before = learned.examples("train"), tiny_corpus.examples("train")
    assert len(pairs) == len(before) + tiny_corpus.users
    last = pairs.longest_per_user()
    np.testing.assert_array_equal(last.target, tiny_corpus.examples("valid").target)
    with pytest.raises(ValueError, match="without its test part"):
        learned.examples("test")


@pytest.fixture
def lab(tiny_corpus: Corpus, tmp_path: Path) -> Lab:
    corpus = dataclasses.replace(tiny_corpus, name="planted")
    return Lab(Bench(tmp_path / "board", tmp_path / "work"), corpus, names=("sasrec",), settings=SHORT)


def test_what_a_sweep_found_is_taken_unless_untuned(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(best_config, "BEST", tmp_path)
    winner = best_config.TunedConfig(study="s-1", trial=0, trials=1, value=0.1, params={"lr": 0.004})
    best_config.write(best_config.path("planted", "sasrec"), winner)
    lr = [each.experiment("sasrec").config.lr for each in (lab, dataclasses.replace(lab, tuned=False))]
    assert lr == [0.004, sasrec.SMALL.lr]


def ndcg(recommender: Recommender, corpus: Corpus) -> float:
    return metrics(Grader(corpus, "test")(recommender).ranks)["ndcg@10"]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False], ids=["after it was kept", "before"])
@pytest.mark.parametrize("watcher", [BestOnTest, AtEpoch])
def test_a_kill_while_an_epoch_is_kept_changes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, watcher: type[Kept], kept: bool
) -> None:
    """Every epoch's state is saved at once, as where an epoch takes minutes."""
    monkeypatch.setenv("GRBENCH_SAVE_SECONDS", "0")
    experiment = lab.experiment("sasrec")

    def train(place: Path) -> Trained:
        own = dataclasses.replace(lab, bench=Bench(place / "board", place / "work"))
        return chosen_on_test(own, experiment) if watcher is BestOnTest else with_validation_items(own, experiment, 3)

    straight, keep = train(lab.bench.work / "straight"), watcher.keep

    def killed(self: Kept, epoch: int, value: float, module: Any) -> None:
        if kept:
            keep(self, epoch, value, module)
        if epoch == straight.watched_epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(watcher, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            train(lab.bench.work)
    for _ in range(2):  # the second time nothing is trained
        found = train(lab.bench.work)
        assert found.watched_epoch == straight.watched_epoch
        for name, tensor in straight.watched.state_dict().items():
            assert torch.equal(found.watched.state_dict()[name], tensor)


@pytest.mark.slow
def test_the_best_on_test_is_no_worse_than_the_chosen_one(lab: Lab) -> None:
    found = chosen_on_test(lab, lab.experiment("sasrec"))
    assert ndcg(found.watched, lab.corpus) >= ndcg(found.chosen, lab.corpus)
    # What the test part says does not end the training early.
    hasty = lab.experiment("sasrec", "patience=1", "lr=0.3")
    learned = with_validation_items(lab, hasty, 3)
    assert learned.watched_epoch == 3
    assert ndcg(learned.chosen, lab.corpus) >= ndcg(learned.watched, lab.corpus)


def test_only_the_recommenders_stage_is_waited_for_and_no_config_is_asked() -> None:
    asked = list[tuple[str, int, int]]()

    def fit(stage: str, build: Any, budget: Budget, quality: Any = None) -> Any:
        asked.append((stage, budget.patience, budget.epochs))
        return build()

    # An epoch of more pairs has more of a given number of steps: fewer epochs than were asked for.
    for stage, patience, epochs in (("tokenizer", 2, 4), ("recommender", 2, 4), ("recommender", 9, 9)):
        Patient(fit, 5)(stage, pl.LightningModule, Budget(epochs, 1, patience=patience), quality=None)
    assert asked == [("tokenizer", 2, 4), ("recommender", 5, 5), ("recommender", 9, 9)]


def test_a_masked_item_takes_no_hit_of_the_targets_codes_along() -> None:
    """Items 1 and 2 share their codes; 1 has been seen, 2 is the target."""
    steps, found = {step.name: step for step in ladder.STEPS}, lists([1, 2, 3, 4, 5], target=2, seen=[1])
    for name in ladder.TOGETHER[:2]:
        for rung in steps[name].rungs:
            found = rung(coded(), found)
    assert place(found) == 1


def test_padding_changes_no_sample() -> None:
    one, more = (gradings._negatives(lists([1], 7, seen), 1000).tolist() for seen in ([5, 6], [5, 6, 0]))
    assert one == more


def test_codes_of_one_level_have_no_suffix() -> None:
    assert gradings.tokenizer_codes(ItemIndex(torch.tensor([[-1], [0], [1]]), (2,))).tolist() == [[0], [1]]


@pytest.mark.slow
def test_trainings_under_other_threads_keep_apart(lab: Lab) -> None:
    for threads in (1, 2):
        bench = dataclasses.replace(lab.bench, hardware=hardware.Hardware("cpu", threads=threads))
        chosen_on_test(dataclasses.replace(lab, bench=bench), lab.experiment("sasrec"))
    kept = list((lab.bench.work / "ladder").glob("*/best-on-test.json"))
    assert len(kept) == 2


def test_item_vectors_are_those_that_rows_have_encoded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, made = list[Path](), embed.item_vectors

    def told(corpus: Corpus, kind: Any, path: Path | None, cache: Path) -> Any:
        asked.append(cache)
        return made(corpus, kind, path, cache)

    monkeypatch.setattr(model_inputs, "item_vectors", told)
    with pytest.raises(ValueError, match="last_item_vectors has no ladder: it has no stage 'recommender'"):
        ladder.ladder(dataclasses.replace(lab, names=("last_item_vectors",), settings=()))
    assert set(asked) == {lab.bench.work / "vectors"}


def test_sampled_items_are_drawn_before_anything_else_is_done_to_a_list(tmp_path: Path) -> None:
    """User 1's target is in the history, user 2's ties with all other items and comes last."""
    corpus = corpus_of([[3, 1, 2, 3], [1, 2, 1, 5]], 5)
    weights = Weights(Scores([0.0] * 5), 5)
    found = ladder._cumulative(Lab(Bench(tmp_path, tmp_path), corpus), {ladder.PROTOCOL: weights})
    assert {name: graded.ranks.tolist() for name, graded in found.items()} == {
        "protocol": [3, 5],
        "seen items masked": [0, 3],
        "ties in the target's favour": [0, 1],
        "100 sampled negatives": [0, 1],
    }


@pytest.mark.slow
def test_the_ladder_of_a_model_and_what_of_it_comes_to_a_board(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turn(setting: Bench, corpus: str, source: str, cells: list[Cell], jobs: int) -> list[Cell]:
        for cell in cells:
            run(setting, lab.corpus, cell.experiment, cell.seed)
        return []

    monkeypatch.setattr(benchmarks.analyses, "run_all", in_turn)
    found, file = benchmarks.analyses.analyse("ladder", lab, lab.bench.work / "out")
    assert file.name == "planted-ladder-sasrec.md"
    assert file.with_suffix(".svg").exists()
    assert f"sasrec, {', '.join(sorted(SHORT))}, seed 0" in found.says
    lines: dict[str, Any] = {line["Rung"]: line for line in found.table.to_dict("records")}
    protocol = lines["protocol"]
    assert (protocol["Effect"], protocol["p"]) == (0, 1)
    assert lines["100 sampled negatives"]["NDCG@10"] >= protocol["NDCG@10"]
    assert lines["best epoch on test"]["Effect"] >= 0
    wrong = {"best epoch on test", "both of these", "ties in the target's favour", "100 sampled negatives"}
    assert {name for name, line in lines.items() if line["It is"].startswith("wrong")} == wrong | {ladder.BATCHES}
    # Ordinary rows alone have records, and the table's numbers are theirs.
    runs = read_board(lab.bench.board, "planted")
    by_row = {(run.record.config["loss"], run.record.config["history"]): run for run in runs}
    assert set(by_row) == {("bce", 50), ("bpr", 50), ("sampled", 50), ("ce", 20)}
    assert lines["loss=bce"]["NDCG@10"] == by_row["bce", 50].record.test["ndcg@10"]


def test_the_ladder_of_a_row_grades_what_was_trained(
    planted_corpus: Corpus, tmp_path: Path, with_corpora: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Bench(tmp_path / "board", with_corpora(tmp_path / "work"))
    file = run(setting, planted_corpus, complete("popularity", "planted"), 0)
    test = read(file).test
    lab = Lab(setting, planted_corpus, row=file)
    found, written = benchmarks.analyses.analyse("ladder", lab, tmp_path / "out")
    assert written.name == f"planted-ladder-popularity-{read(file).key}-seed-0.md"
    assert str(Path(*file.parts[-4:])) in found.says
    lines: dict[str, Any] = {line["Rung"]: line for line in found.table.to_dict("records")}
    assert list(lines) == ["protocol", *(step.name for step in ladder.STEPS if step.of(SCORED)), ladder.BATCHES]
    assert lines["protocol"]["NDCG@10"] == test["ndcg@10"]
    assert lines["seen items masked"]["NDCG@10"] == pytest.approx(test["ndcg@10_unseen"])
    assert list(setting.board.rglob("seed-*.json")) == [file]
    with pytest.raises(ValueError, match=r"seed-0.json is of planted; expected a row of hand"):
        ladder.ladder(dataclasses.replace(lab, corpus=corpus_of([[1, 2, 3, 1]], 3)))
    with pytest.raises(ValueError, match=r"seed-0.json says of what .* expected no others \(tiger, lr=0.1\)"):
        ladder.ladder(dataclasses.replace(lab, names=("tiger",), settings=("lr=0.1",)))
    with pytest.raises(ValueError, match=r"expected no others \(untuned\)"):
        ladder.ladder(dataclasses.replace(lab, tuned=False))
    with pytest.raises(
        ValueError, match=r"utilisation is not made of one row \(.*json\); expected ladder or code_loss"
    ):
        benchmarks.analyses.analyse("utilisation", lab, tmp_path / "out")
    # The record's own lines would stand beside those of another model.
    monkeypatch.setattr(
        Popularity, "rank", lambda self, history, k: rank_scores(-self.counts.expand(len(history), -1), k)
    )
    with pytest.raises(ValueError, match="come out at another rank than the record of popularity, seed 0, says"):
        ladder.ladder(lab)


def test_no_ladder_where_epochs_are_chosen_in_no_stage_or_several(lab: Lab) -> None:
    with pytest.raises(ValueError, match="popularity has no ladder: it has no stage 'recommender'"):
        ladder.ladder(dataclasses.replace(lab, names=("popularity",), settings=()))
    with pytest.raises(ValueError, match="pit has no ladder: it chooses epochs in several stages"):
        ladder.ladder(dataclasses.replace(lab, names=("pit",), settings=()))
    with pytest.raises(ValueError, match="this analysis is of one experiment; 2 were given: sasrec, tiger"):
        ladder.ladder(dataclasses.replace(lab, names=("sasrec", "tiger")))
