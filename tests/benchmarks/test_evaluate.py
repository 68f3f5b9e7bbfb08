"""The grader: whose rank is whose, what counts as a hit, and what it refuses. Faults that the field's code has had."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, final

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import evaluate, hardware
from benchmarks.evaluate import Graded, Grader, _joined, check, target_ranks, target_ranks_among_unseen
from data_prep.corpus import Corpus
from leaderboards.metrics import metrics
from models.api import Ranking, Recommender
from models.parts.index import ItemIndex
from models.parts.search import beam_search, exact_search
from tests.factories import corpus_of

ITEMS = 60


@final
class Following(Recommender):
    """Ranks the items after the last one, in the order of their ids and round again; keeps the histories it saw."""

    history_length = 20

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = []

    def rank(self, history: Tensor, k: int) -> Ranking:
        self.seen += [[int(item) for item in row if item] for row in history]
        last = history.gather(1, (history > 0).sum(1, keepdim=True) - 1)
        items = (last + torch.arange(k)) % ITEMS + 1
        # Every third row of a batch is beyond doubt.
        return Ranking(items, -torch.arange(k).float().expand(len(items), k), torch.arange(len(items)) % 3 == 0)


def shop(distances: list[int], lengths: list[int]) -> Corpus:
    """A corpus whose test target lies so many items after the one before it, and the validation target one."""
    users = []
    for user, (distance, length) in enumerate(zip(distances, lengths, strict=True)):
        history = (np.arange(length - 1) + user) % ITEMS + 1
        users.append([*history, (history[-1] + distance - 1) % ITEMS + 1])
    return corpus_of(users, ITEMS, "shop")


def ranking(items: list[list[int]]) -> Ranking:
    rows = torch.tensor(items)
    return Ranking(rows, torch.zeros(rows.shape), torch.ones(len(rows), dtype=torch.bool))


def test_ranks_by_hand() -> None:
    items = torch.tensor([[4, 2, 9], [4, 2, 9], [4, 2, 9], [0, 0, 4]])
    assert target_ranks(items, torch.tensor([4, 9, 5, 4])).tolist() == [1, 3, 0, 3]


def test_a_place_without_an_item_is_a_miss_and_keeps_its_rank() -> None:
    items = torch.tensor([[0, 0, 7, 0]])
    assert target_ranks(items, torch.tensor([7])).tolist() == [3]
    assert target_ranks(items, torch.tensor([1])).tolist() == [0]


def test_ranks_among_unseen_items_by_hand() -> None:
    items = torch.tensor([[4, 2, 9, 5], [4, 2, 9, 5], [4, 2, 9, 5], [4, 0, 0, 0]])
    history = torch.tensor([[4, 9, 0], [2, 1, 0], [5, 0, 0], [7, 0, 0]])
    # Behind 2 alone; behind 4 and 9; in the history; not on the list.
    assert target_ranks_among_unseen(items, history, torch.tensor([5, 5, 5, 9]), 9).tolist() == [2, 3, 0, 0]
    long = torch.arange(1, 13)[None]
    assert target_ranks_among_unseen(long, torch.tensor([[1]]), torch.tensor([11]), 12).tolist() == [10]
    assert target_ranks_among_unseen(long, torch.tensor([[20]]), torch.tensor([11]), 20).tolist() == [0]


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_lists_are_long_enough_for_ten_unseen_items(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """The model ranks the history first: the target is behind all of it, beyond what a list of 50 shows."""
    monkeypatch.setattr(hardware, "BATCH", batch)
    lengths, distances = [56, 4, 59, 20, 52], [2, 10, 1, 3, 12]
    fake = Following()
    fake.history_length = 3

    def history_first(history: Tensor, k: int) -> Ranking:
        # Users buy consecutive items, so what was bought before the last one is found from it.
        last = history.gather(1, (history > 0).sum(1, keepdim=True) - 1)
        return ranking((last - 1 - torch.arange(k)).remainder(ITEMS).add(1).tolist())

    fake.rank = history_first  # type: ignore[method-assign]
    graded = Grader(shop(distances, lengths), "test", unseen=True)(fake)
    assert graded.unseen_ranks is not None
    # From the last item backwards come the history, then what is left of the catalogue, with the target, unless it is
    # in the history, as the last user's is.
    left = [ITEMS - (length - 1) for length in lengths]
    expected = [room - distance + 1 for room, distance in zip(left, distances, strict=True)]
    assert graded.unseen_ranks.tolist() == [place if 0 < place <= 10 else 0 for place in expected]
    assert Grader(shop(distances, lengths), "test")(fake).unseen_ranks is None


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_ranks_are_in_the_order_of_users_however_they_are_batched(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(hardware, "BATCH", batch)
    distances, lengths = [3, 1, 12, 7, 2], [9, 4, 6, 12, 5]
    graded = Grader(shop(distances, lengths), "test", k=10)(Following())
    assert graded.ranks.tolist() == [3, 1, 0, 7, 2]


@pytest.mark.parametrize("several", [2, 3, 7])
def test_processes_share_the_users_out(monkeypatch: pytest.MonkeyPatch, several: int) -> None:
    """Each ranks the histories of its own batches, and all know of all; the last ones may have none."""
    monkeypatch.setattr(hardware, "BATCH", 1)
    corpus = shop([3, 1, 12, 7, 2], [9, 4, 6, 12, 5])
    seen: list[int] = []

    def by_all(work: Callable[[], Graded]) -> list[Graded]:
        shares = []
        for index in range(several):
            monkeypatch.setattr(evaluate, "process_index", lambda index=index: index)
            fake.seen.clear()
            shares.append(work())
            seen.append(len(fake.seen))
        return shares

    fake = Following()
    alone = Grader(corpus, "test", k=10, unseen=True)(fake)
    monkeypatch.setattr(evaluate, "processes", lambda: several)
    monkeypatch.setattr(evaluate, "by_all", by_all)
    together = Grader(corpus, "test", k=10, unseen=True)(fake)
    assert seen == [len(range(5)[index::several]) for index in range(several)]
    assert together.ranks.tolist() == alone.ranks.tolist() == [3, 1, 0, 7, 2]
    assert alone.unseen_ranks is not None
    assert together.unseen_ranks is not None
    assert together.unseen_ranks.tolist() == alone.unseen_ranks.tolist()
    assert together.certified.all()
    assert together.invalid == alone.invalid


def test_a_test_history_holds_the_validation_item_and_ends_before_the_target() -> None:
    corpus, fake = shop([5, 1], [6, 4]), Following()
    Grader(corpus, "test")(fake)
    assert sorted(fake.seen) == sorted([[1, 2, 3, 4, 5], [2, 3, 4]])
    fake.seen.clear()
    graded = Grader(corpus, "valid")(fake)
    assert sorted(fake.seen) == sorted([[1, 2, 3, 4], [2, 3]])
    assert graded.ranks.tolist() == [1, 1]


def test_a_history_is_cut_to_its_last_items() -> None:
    fake = Following()
    fake.history_length = 2
    Grader(shop([5, 1], [6, 4]), "test")(fake)
    assert sorted(fake.seen) == [[3, 4], [4, 5]]


def test_the_sample_of_users_is_always_the_same(tiny_corpus: Corpus) -> None:
    first, again = (Grader(tiny_corpus, "valid", 20).examples.user for _ in range(2))
    assert len(np.unique(first)) == 20
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.arange(20)), "drawn, not the first ones"
    assert (np.diff(first) > 0).all()


def test_a_sample_grades_its_users_as_the_whole_does(tiny_corpus: Corpus) -> None:
    sample = Grader(tiny_corpus, "test", 20)
    whole = Grader(tiny_corpus, "test")
    model = Following()
    model.rank = lambda history, k: ranking([[1 + (int(row.sum()) + i) % 40 for i in range(k)] for row in history])  # type: ignore[method-assign]
    sample.k = whole.k = 40
    assert np.array_equal(sample(model).ranks, whole(model).ranks[sample.examples.user])
    assert len(Grader(tiny_corpus, "test", 1000).examples) == tiny_corpus.users


def test_shares_of_certified_users_and_of_places_without_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "BATCH", 3)
    grader = Grader(shop([1] * 5, [4] * 5), "test", k=4)
    graded = grader(Following())
    assert graded.certified.tolist() == [True, False, False, True, False]
    assert graded.invalid == 0

    def half_empty(history: Tensor, k: int) -> Ranking:
        return uncertified([[0, 0, 0, 9] if row == 0 else [1, 2, 3, 4] for row in range(len(history))])

    assert grader(Following(), half_empty).invalid == 6 / 20


def test_the_model_is_handed_back_in_the_mode_it_came_in() -> None:
    model, modes = Following(), list[bool]()
    grader = Grader(shop([1], [4]), "test", k=4)

    def rank(history: Tensor, k: int) -> Ranking:
        modes.append(model.training or torch.is_grad_enabled())
        return ranking([[1, 2, 3, 4]])

    for training in (True, False):
        model.train(training)
        grader(model, rank)
        assert model.training is training
    assert modes == [False, False]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([[1, 2, 3]], r"Fake.rank returned items of shape \(1, 3\) torch.int64; expected \(2, 3\) torch.int64"),
        ([[1, 2], [3, 4]], r"Fake.rank returned items of shape \(2, 2\) torch.int64; expected \(2, 3\)"),
        ([[1, 2, 3], [4, 5, 8]], r"Fake.rank returned an item id outside 0..7"),
        ([[1, 2, 3], [4, 5, -1]], r"Fake.rank returned an item id outside 0..7"),
        ([[1, 2, 3], [4, 5, 4]], r"Fake.rank named an item twice in one list"),
    ],
)
def test_a_ranking_that_would_flatter_is_refused(items: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(ranking(items), users=2, k=3, items=7, model="Fake")


@pytest.mark.slow
def test_what_is_no_ranking_is_refused() -> None:
    """Slow only in that no call's types are checked beneath it, as in a bench."""
    good = ranking([[1, 2, 3]])
    wrong: list[tuple[Any, str]] = [
        (tuple(good), "tuple; expected a models.api.Ranking"),
        (good._replace(items=good.items.float()), "items of shape (1, 3) torch.float32; expected (1, 3) torch.int64"),
        (good._replace(scores=good.scores[:, :2]), "scores of shape (1, 2) torch.float32; expected (1, 3) of floats"),
        (good._replace(certified=good.certified[:, None]), "of shape (1, 1) torch.bool; expected (1,) torch.bool"),
    ]
    for found, said in wrong:
        with pytest.raises(ValueError, match=f"^Fake.rank returned .*{re.escape(said)}$"):
            check(found, users=1, k=3, items=7, model="Fake")


def test_scores_fall_or_stay_from_item_to_item() -> None:
    """An empty place, as a free beam has, is passed over."""
    found, inf = uncertified([[4, 0, 2]]), torch.inf
    check(found._replace(scores=torch.tensor([[-1.0, -inf, -1.0]])), users=1, k=3, items=7, model="Fake")
    with pytest.raises(ValueError, match=r"^Fake.rank returned scores that rise within a list; expected the best"):
        check(found._replace(scores=torch.tensor([[-1.0, -inf, -0.5]])), users=1, k=3, items=7, model="Fake")


def uncertified(items: list[list[int]]) -> Ranking:
    return ranking(items)._replace(certified=torch.zeros(len(items), dtype=torch.bool))


def test_empty_places_may_repeat() -> None:
    check(uncertified([[1, 0, 0], [7, 2, 0]]), users=2, k=3, items=7, model="Fake")


def test_a_certified_list_has_all_items_that_there_are() -> None:
    check(ranking([[1, 2, 0], [2, 1, 0]]), users=2, k=3, items=2, model="Fake")
    said = r"^Fake.rank certified a list of 2 items; the full ranking of 7 has 3 there$"
    with pytest.raises(ValueError, match=said):
        check(ranking([[1, 2, 3], [2, 1, 0]]), users=2, k=3, items=7, model="Fake")
    mixed = ranking([[1, 2, 3], [0, 0, 0]])._replace(certified=torch.tensor([True, False]))
    check(mixed, users=2, k=3, items=7, model="Fake")


def test_a_certified_list_may_end_with_the_target_that_was_asked_for() -> None:
    found, last = ranking([[1, 2, 3], [2, 1, 0]]), torch.tensor([5, 1])
    check(found, users=2, k=3, items=7, model="Fake", last=last)
    with pytest.raises(ValueError, match=r"^Fake.rank certified a list of 2 items; the full ranking of 7 has 3 there$"):
        check(found, users=2, k=3, items=7, model="Fake", last=last.flip(0))


def test_a_score_that_is_no_number_is_refused() -> None:
    """What sorts them puts them anywhere."""
    found = uncertified([[1, 2, 0]])
    check(found._replace(scores=torch.tensor([[-1.0, -2.0, -torch.inf]])), users=1, k=3, items=7, model="Fake")
    with pytest.raises(ValueError, match=r"^Fake.rank returned a score that is nan; expected numbers"):
        check(found._replace(scores=torch.tensor([[-1.0, torch.nan, -torch.inf]])), 1, 3, 7, "Fake")


def test_the_grader_checks_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "BATCH", 1)

    def same(history: Tensor, k: int) -> Ranking:
        return ranking([[9, 9]] if history.shape[1] == 5 else [[9, 8]])

    with pytest.raises(ValueError, match="twice"):
        Grader(shop([1, 1], [4, 6]), "test", k=2)(Following(), same)


def coded() -> tuple[ItemIndex, list[float]]:
    """Items 2 and 3 have equal codes; code 1 names no item. Log-probabilities of codes 0..3."""
    index = ItemIndex(torch.tensor([[-1], [2], [0], [0], [3]]), (4,))
    return index, [-1.0, -0.5, -2.0, -3.0]


@pytest.mark.parametrize("constrained", [True, False])
def test_equal_codes_never_give_two_items_one_hit(constrained: bool) -> None:
    index, scores = coded()

    def step(level: int, user: Tensor, code: Tensor, parent: Tensor, cache: None) -> tuple[Tensor, None]:
        return torch.tensor(scores).expand(3, 4), None

    exact, free = exact_search(step, 3, index, k=4), beam_search(step, 3, index, k=4, width=4, constrained=False)
    found = exact if constrained else free
    check(found, users=3, k=4, items=4, model="codes")
    ranks = target_ranks(found.items, torch.tensor([2, 3, 1])).tolist()
    # Best is the code that names no item: a miss that takes rank 1 where codes are free, illegal in the trie.
    assert ranks == ([1, 2, 3] if constrained else [2, 3, 4])
    assert found.certified.tolist() == [constrained] * 3


def test_ndcg_is_cut_off() -> None:
    scores = metrics(np.array([10, 11, 0, 1]))
    assert scores["ndcg@10"] == pytest.approx((1 / np.log2(11) + 1) / 4)
    assert scores["ndcg@5"] == pytest.approx(1 / 4)
    assert scores["ndcg@20"] == pytest.approx((1 / np.log2(11) + 1 / np.log2(12) + 1) / 4)
    assert scores["recall@10"] == 2 / 4


def test_processes_that_grade_at_once_take_as_long_as_the_slowest() -> None:
    def share(seconds: float) -> Graded:
        return Graded(np.zeros(2, np.uint8), None, np.zeros(2, bool), None, 0.0, seconds)

    assert _joined(share(2.0), share(3.0)).seconds == 3.0
