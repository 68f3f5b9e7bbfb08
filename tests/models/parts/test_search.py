"""Exact search and beam search on tables of log-probabilities: against brute force and a plain-Python beam."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.api import Ranking
from models.parts import search as module
from models.parts.index import ItemIndex
from models.parts.search import beam_search, exact_search

Row = tuple[int, ...]
Item = list[Row]
Listed = list[tuple[int, float]]


class Tables:
    """A model that looks its log-probabilities up: per level `[B, prefixes, V]`, prefixes numbered as digits."""

    def __init__(self, users: int, sizes: tuple[int, ...], seed: int, ties: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.users, self.sizes, self.expanded = users, sizes, list[tuple[int, int, int]]()
        shapes = [(users, math.prod(sizes[:level]), size) for level, size in enumerate(sizes)]
        if ties:  # small integers: sums are exact and often equal
            self.levels = [-torch.randint(0, 4, shape, generator=generator).float() for shape in shapes]
        else:
            self.levels = [torch.randn(shape, generator=generator).log_softmax(-1) for shape in shapes]

    def of(self, users: list[int]) -> Tables:
        some = Tables(len(users), self.sizes, 0, ties=True)
        some.levels = [table[users] for table in self.levels]
        return some

    def step(
        self, level: int, user: Tensor, code: Tensor, parent: Tensor, cache: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        assert (user.diff() >= 0).all(), "prefixes come in order of user"
        prefix = code if cache is None else cache[parent] * self.sizes[level - 1] + code
        self.expanded += [(level, *pair) for pair in zip(user.tolist(), prefix.tolist(), strict=True)]
        return self.levels[level][user, prefix], prefix

    def score(self, user: int, codes: Row) -> Tensor:
        """Float32 sums from left to right, as any search adds them."""
        total, prefix = torch.zeros(()), 0
        for level, code in enumerate(codes):
            total = total + self.levels[level][user, prefix, code]
            prefix = prefix * self.sizes[level] + code
        return total

    def item_score(self, user: int, item: Item) -> float:
        return float(torch.stack([self.score(user, row) for row in item]).logsumexp(0))


def index_of(items: list[Item], sizes: tuple[int, ...]) -> ItemIndex:
    most = max(map(len, items))
    none = (-1,) * len(sizes)
    return ItemIndex(torch.tensor([[none] * most, *(item + [none] * (most - len(item)) for item in items)]), sizes)


def exact(
    tables: Tables,
    items: list[Item],
    k: int,
    width: int | None = None,
    cap: int | None = None,
    target: Tensor | None = None,
) -> Ranking:
    return exact_search(tables.step, tables.users, index_of(items, tables.sizes), k, width, cap, target)


def spent(ranking: Ranking) -> Tensor:
    assert ranking.expansions is not None
    return ranking.expansions


def beam(tables: Tables, rows: list[Row], k: int, width: int, constrained: bool = True) -> Ranking:
    index = index_of([[row] for row in rows], tables.sizes)
    return beam_search(tables.step, tables.users, index, k, width, constrained)


def listed(ranking: Ranking, user: int) -> Listed:
    return list(zip(ranking.items[user].tolist(), ranking.scores[user].tolist(), strict=True))


def ordered(found: Listed, k: int) -> Listed:
    best = sorted(found, key=lambda entry: (-entry[1], entry[0]))[:k]
    return best + [(0, -math.inf)] * (k - len(best))


def full_ranking(tables: Tables, user: int, items: list[Item], k: int) -> Listed:
    return ordered([(number, tables.item_score(user, item)) for number, item in enumerate(items, 1)], k)


def plain_beam(tables: Tables, user: int, rows: list[Row], k: int, width: int, constrained: bool) -> Listed:
    beams: list[Row] = [()]
    for level, size in enumerate(tables.sizes):
        grown = [(*beam, code) for beam in beams for code in range(size)]
        legal = {row[: level + 1] for row in rows}
        grown = [beam for beam in grown if beam in legal or not constrained]
        beams = sorted(grown, key=lambda beam: -float(tables.score(user, beam)))[:width]
    found: Listed = []
    for beam in beams:
        items = [item for item, row in enumerate(rows, 1) if row == beam] or [0]
        found += [(item, float(tables.score(user, beam))) for item in items]
    return ordered(found, k)


def rows_of(sizes: tuple[int, ...]) -> st.SearchStrategy[Row]:
    return st.tuples(*(st.integers(0, size - 1) for size in sizes))


@st.composite
def coded(draw: st.DrawFn, sequences: int = 1) -> tuple[list[Item], tuple[int, ...]]:
    """Items of one to `sequences` sequences; few codes, so that prefixes and whole sequences collide."""
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    item = st.lists(rows_of(sizes), min_size=1, max_size=sequences, unique=True)
    return draw(st.lists(item, min_size=1, max_size=12)), sizes


Drawn = tuple[list[Item], tuple[int, ...]]
ONE, FOUR = coded(), coded(sequences=4)
SEEDS, WIDTHS = st.integers(0, 10**6), st.none() | st.integers(1, 6)


@given(ONE | FOUR, SEEDS, st.booleans(), st.sampled_from([1, 2, 10, 50]), WIDTHS)
@settings(max_examples=150)
def test_exact_is_brute_force(drawn: Drawn, seed: int, ties: bool, k: int, width: int | None) -> None:
    """Items, order and scores to the last bit, whatever the width of the first beam."""
    items, sizes = drawn
    tables = Tables(3, sizes, seed, ties)
    ranking = exact(tables, items, k, width)
    assert ranking.certified.all()
    for user in range(3):
        assert listed(ranking, user) == full_ranking(tables, user, items, k)


@pytest.mark.parametrize("sequences", [1, 4])
@pytest.mark.parametrize("ties", [True, False])
def test_exact_is_brute_force_on_a_larger_catalogue(sequences: int, ties: bool) -> None:
    sizes = (7, 6, 5)
    draw = torch.Generator().manual_seed(0)
    items: list[Item] = [
        list({(int(row[0]), int(row[1]), int(row[2])) for row in torch.randint(0, 5, (sequences, 3), generator=draw)})
        for _ in range(150)
    ]
    tables = Tables(5, sizes, 1, ties)
    for k in (1, 10, 50):
        ranking = exact(tables, items, k)
        assert ranking.certified.all()
        for user in range(5):
            assert listed(ranking, user) == full_ranking(tables, user, items, k)


@given(ONE | FOUR, SEEDS, st.booleans(), st.sampled_from([1, 2, 10, 50]), WIDTHS, st.none() | st.integers(1, 40))
@settings(max_examples=150)
def test_a_search_for_a_target_ends_with_it_or_with_items_before_it(
    drawn: Drawn, seed: int, ties: bool, k: int, width: int | None, cap: int | None
) -> None:
    """Certified: its place is that of brute force; without a cap all are."""
    items, sizes = drawn
    tables = Tables(3, sizes, seed, ties)
    target = torch.randint(1, len(items) + 1, (3,), generator=torch.Generator().manual_seed(seed))
    ranking = exact(tables, items, k, width, cap, target)
    assert cap or ranking.certified.all()
    for user in ranking.certified.nonzero().flatten().tolist():
        full = full_ranking(tables, user, items, len(items))
        place = [item for item, _ in full].index(int(target[user]))
        if place < k:
            assert listed(ranking, user) == full[: place + 1] + [(0, -math.inf)] * (k - place - 1)
        else:
            assert set(listed(ranking, user)) <= set(full[:place])
            assert ranking.scores[user].isfinite().all()


def test_a_search_for_a_target_is_cheap() -> None:
    """Of 1,000 items under probabilities that are hardly sharp."""
    items: list[Item] = [[row] for row in product(range(10), range(10), range(10))]
    tables = Tables(100, (10, 10, 10), seed=0, ties=False)
    target = torch.arange(1, 1001, 10)
    placed, whole = exact(tables, items, 10, target=target), exact(tables, items, 10)
    far = (placed.items > 0).all(1) & (placed.items != target[:, None]).all(1)
    assert 50 < int(far.sum()) < 100
    # The way to the target, three prefixes; then the first beam alone: the root and what two levels hold of it.
    assert (spent(placed)[far] <= 3 + 1 + 10 + 16).all()
    assert (spent(placed) <= spent(whole) + 3).all()
    assert spent(placed).float().mean() < spent(whole).float().mean()


def test_a_target_without_probability_has_no_place() -> None:
    tables = Tables(2, (2,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[0.0, -torch.inf]], [[-torch.inf, 0.0]]])]
    ranking = exact(tables, [[(0,)], [(1,)]], k=2, target=torch.tensor([2, 2]))
    assert ranking.items.tolist() == [[1, 0], [2, 0]]
    assert ranking.certified.all()


def test_of_a_target_whose_score_is_nan_no_order_is_told() -> None:
    tables = Tables(2, (2,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[torch.nan, torch.nan]], [[-1.0, -2.0]]])]
    ranking = exact(tables, [[(0,)], [(1,)]], k=2, target=torch.tensor([1, 1]))
    assert ranking.scores[0].isnan().all()
    assert not ranking.scores[1].isnan().any()
    assert ranking.certified.tolist() == [False, True]


def test_a_target_that_the_search_does_not_meet_again_is_not_certified() -> None:
    """The step gives it another score than before, by more than rounding may."""
    tables, calls = Tables(1, (3,), seed=0, ties=True), [torch.tensor([[-0.5, -1.0, -2.0]])]

    def step(level: int, user: Tensor, code: Tensor, parent: Tensor, cache: None) -> tuple[Tensor, None]:
        return calls.pop(0) if calls else torch.tensor([[-0.5, -1.1, -2.0]]), None

    index = index_of([[(0,)], [(1,)], [(2,)]], tables.sizes)
    ranking = exact_search(step, 1, index, k=2, target=torch.tensor([2]))
    assert ranking.items.tolist() == [[1, 0]]
    assert not ranking.certified.any()


@given(ONE | FOUR, SEEDS, st.booleans(), st.integers(1, 6), WIDTHS, st.integers(1, 40))
@settings(max_examples=120)
def test_a_cap_loses_the_proof_but_never_tells_a_lie(
    drawn: Drawn, seed: int, ties: bool, k: int, width: int | None, cap: int
) -> None:
    items, sizes = drawn
    tables = Tables(4, sizes, seed, ties)
    ranking = exact(tables, items, k, width, cap)
    for user in ranking.certified.nonzero().flatten().tolist():
        assert listed(ranking, user) == full_ranking(tables, user, items, k)
    if all(len(item) == 1 for item in items):
        assert int(spent(ranking).max()) <= max(cap, len(sizes))


@pytest.mark.slow
@settings(max_examples=40)
@given(ONE | FOUR, SEEDS, st.booleans(), st.integers(1, 6), st.permutations(range(5)), st.integers(1, 12))
def test_neither_the_batch_nor_its_order_matters(
    drawn: Drawn, seed: int, ties: bool, k: int, order: list[int], rows: int
) -> None:
    """Users alone, in another order, or with as few prefixes expanded at once as can be."""
    items, sizes = drawn
    tables = Tables(5, sizes, seed, ties)
    together, moved = exact(tables, items, k), exact(tables.of(order), items, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", rows)
        patch.setattr(module, "BEAM_ROWS", rows)
        chunked = exact(tables, items, k)
    for user in range(5):
        alone = exact(tables.of([user]), items, k)
        assert listed(alone, 0) == listed(together, user) == listed(moved, order.index(user)) == listed(chunked, user)


def test_the_cap_tells_users_apart() -> None:
    """With 3 expansions some lists are proven, some are wrong, and no wrong one is proven."""
    tables = Tables(200, (6, 6), seed=0, ties=False)
    items: list[Item] = [[pair] for pair in product(range(6), range(6))]
    ranking = exact(tables, items, k=2, width=1, cap=3)
    right = torch.tensor([listed(ranking, user) == full_ranking(tables, user, items, 2) for user in range(200)])
    assert 20 < int(ranking.certified.sum()) < 180
    assert int((~right).sum()) > 5
    assert not (ranking.certified & ~right).any()


def test_no_list_is_proven_where_a_score_is_none() -> None:
    """Below the code 0 of the first level; the other user has all scores."""
    tables = Tables(2, (2, 2), 0, ties=True)
    nan, told = [torch.nan] * 2, [-0.5, -1.0]
    tables.levels = [torch.tensor([[[-0.1, -2.0]]] * 2), torch.tensor([[nan, told], [told, told]])]
    ranking = exact(tables, [[(0, 0)], [(0, 1)], [(1, 0)], [(1, 1)]], 2)
    assert ranking.certified.tolist() == [False, True]


def test_no_list_is_proven_that_holds_a_score_that_is_none() -> None:
    """An item of two sequences, one of them below the code 1, which tells nothing, and not needed for the list."""
    tables = Tables(1, (3, 1), 0, ties=True)
    tables.levels = [torch.tensor([[[-0.1, -3.0, -0.9]]]), torch.tensor([[[0.0], [torch.nan], [0.0]]])]
    items: list[Item] = [[(0, 0), (1, 0)], [(2, 0)]]
    for how in ({"target": torch.tensor([2])}, {"width": 1}):
        found = exact(tables, items, k=1 if "width" in how else 2, **how)
        assert found.scores.isnan().any()
        assert not found.certified.any()


def test_the_cap_holds_however_many_prefixes_are_expanded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 8)
    tables = Tables(1, (12,) * 4, 0, ties=True)
    tables.levels = [torch.full_like(level, -2.4) for level in tables.levels]
    items: list[Item] = [[row] for row in product(range(12), repeat=4)]
    for cap in (300, 600):
        assert int(spent(exact(tables, items, 50, width=1, cap=cap)).max()) <= cap


def test_only_prefixes_that_can_matter_are_expanded_and_each_once() -> None:
    sizes = (5, 5, 5)
    items: list[Item] = [[row] for row in product(*map(range, sizes))]
    tables = Tables(20, sizes, seed=0, ties=False)
    ranking = exact(tables, items, k=3, width=3)
    assert len(set(tables.expanded)) == len(tables.expanded)
    for user in range(20):
        mine = [(level, prefix) for level, owner, prefix in tables.expanded if owner == user]
        assert int(spent(ranking)[user]) == len(mine)
        floor = full_ranking(tables, user, items, 3)[-1][1]
        needed = {()} | {
            prefix
            for length in (1, 2)
            for prefix in product(*map(range, sizes[:length]))
            if float(tables.score(user, prefix)) >= floor
        }
        # What the first beam expanded in vain, three prefixes a level, is all that is spent beyond it.
        assert len(needed) <= len(mine) <= len(needed) + 2 * 3 + 8
    assert int(spent(ranking).sum()) < 20 * 31 / 2  # 31 prefixes are all there are


def test_items_of_equal_codes_share_their_score() -> None:
    items: list[Item] = [[(1,)], [(0,)], [(2,)], [(1,)], [(0,)]]
    tables = Tables(1, (3,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[-1.0, -0.5, -1.0]]])]
    # Codes 0 and 2 tie, so items 2, 3 and 5 come in order of id.
    assert listed(exact(tables, items, 6), 0) == [(1, -0.5), (4, -0.5), (2, -1), (3, -1), (5, -1), (0, -math.inf)]
    assert listed(exact(tables, items, 3), 0) == [(1, -0.5), (4, -0.5), (2, -1)]


def test_two_middling_sequences_beat_one_good_one() -> None:
    """By the best sequence item 1 would win; with all of them, item 2: log(.3 + .25) > log(.4)."""
    tables = Tables(1, (4,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[0.4, 0.3, 0.25, 0.05]]]).log()]
    ranking = exact(tables, [[(0,)], [(1,), (2,)], [(3,)]], k=2)
    assert ranking.items.tolist() == [[2, 1]]
    torch.testing.assert_close(ranking.scores, torch.tensor([[0.55, 0.4]]).log())


def test_a_sequence_without_probability_is_not_listed() -> None:
    tables = Tables(2, (2,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[0.0, -torch.inf]], [[-torch.inf, -torch.inf]]])]
    ranking = exact(tables, [[(0,)], [(1,)]], k=2)
    assert ranking.items.tolist() == [[1, 0], [0, 0]]
    assert ranking.certified.all()


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("width", [1, 3, 7])
def test_beams_are_the_plain_ones(constrained: bool, width: int) -> None:
    sizes = (4, 3, 5)
    tables = Tables(6, sizes, seed=1, ties=False)
    rows: list[Row] = [*list(product(*map(range, sizes)))[::3], (0, 0, 0), (3, 1, 2)]
    ranking = beam(tables, rows, k=8, width=width, constrained=constrained)
    assert not ranking.certified.any()
    for user in range(6):
        assert listed(ranking, user) == plain_beam(tables, user, rows, 8, width, constrained)


@given(ONE, SEEDS, st.booleans(), st.integers(1, 30))
def test_a_free_beam_gives_places_to_sequences_without_item(drawn: Drawn, seed: int, ties: bool, k: int) -> None:
    items, sizes = drawn
    rows = [item[0] for item in items]
    tables = Tables(2, sizes, seed, ties)
    ranking = beam(tables, rows, k, width=math.prod(sizes), constrained=False)
    for user in range(2):
        found: Listed = []
        for codes in product(*map(range, sizes)):
            named = [item for item, row in enumerate(rows, 1) if row == codes] or [0]
            found += [(item, float(tables.score(user, codes))) for item in named]
        assert listed(ranking, user) == ordered(found, k)


@given(FOUR, SEEDS, st.sampled_from([1, 3, 50]))
@settings(max_examples=100)
def test_a_beam_that_misses_nothing_is_brute_force(drawn: Drawn, seed: int, k: int) -> None:
    """Near ties may come in any order, scores may not differ."""
    items, sizes = drawn
    tables, index = Tables(2, sizes, seed, ties=False), index_of(items, sizes)
    ranking = beam_search(tables.step, 2, index, k, math.prod(sizes))
    for user in range(2):
        scores = [tables.item_score(user, item) for item in items]
        best = sorted(scores, reverse=True)[:k]
        found = listed(ranking, user)
        assert [score for _, score in found[: len(best)]] == pytest.approx(best, abs=1e-4)
        assert all(scores[item - 1] == pytest.approx(score, abs=1e-4) for item, score in found if item)
        assert all(item == 0 for item, _ in found[len(best) :])
        assert len({item for item, _ in found if item}) == len(best)


def test_a_beam_sums_an_items_sequences_and_leaves_misses_apart() -> None:
    tables = Tables(1, (6,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[0.3, 0.25, 0.2, 0.12, 0.08, 0.05]]]).log()]
    index = index_of([[(1,), (2,)], [(0,)], [(5,)]], (6,))
    free = beam_search(tables.step, 1, index, 5, width=5, constrained=False)
    # Codes 3 and 4 name nothing and hold a place each; code 5 is beyond the beam.
    assert free.items.tolist() == [[1, 2, 0, 0, 0]]
    torch.testing.assert_close(free.scores, torch.tensor([[0.45, 0.3, 0.12, 0.08, 0.0]]).log())
    assert beam_search(tables.step, 1, index, 3, width=6).items.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("items", [[[(0, 0)], [(1, 0)]], [[(1, 0)], [(0, 0)]]])
def test_an_equal_prefix_that_the_cap_left_out_may_hold_the_smaller_item(items: list[Item]) -> None:
    """Two expansions: the root, and one of two prefixes whose items have one score."""
    tables = Tables(1, (2, 1), 0, ties=True)
    tables.levels = [torch.tensor([[[-1.0, -1.0]]]), torch.zeros(1, 2, 1)]
    assert exact(tables, items, 1, width=1, cap=9).certified.tolist() == [True]
    assert exact(tables, items, 1, width=1, cap=2).certified.tolist() == [False]
