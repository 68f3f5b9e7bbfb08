"""Beam search on tables of random log-probabilities: against brute force, a plain-Python beam, and its own proof."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.api import Ranking
from models.parts.index import ItemIndex
from models.parts.search import beam_search

Row = tuple[int, ...]
Listed = list[tuple[int, float]]


class Tables:
    """A model that looks its log-probabilities up: per level `[B, prefixes, V]`, prefixes numbered as digits."""

    def __init__(self, users: int, sizes: tuple[int, ...], seed: int, ties: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.users, self.sizes = users, sizes
        shapes = [(users, math.prod(sizes[:level]), size) for level, size in enumerate(sizes)]
        if ties:  # small integers: sums are exact and often equal
            self.levels = [-torch.randint(0, 4, shape, generator=generator).float() for shape in shapes]
        else:
            self.levels = [torch.randn(shape, generator=generator).log_softmax(-1) for shape in shapes]

    def of(self, user: int) -> Tables:
        alone = Tables(1, self.sizes, 0, ties=True)
        alone.levels = [table[user : user + 1] for table in self.levels]
        return alone

    def step(self, codes: Tensor | None, parent: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        level, prefix = state
        if codes is None:
            prefix = torch.zeros(self.users, 1, dtype=torch.long)
        else:
            prefix = prefix.gather(1, parent) * self.sizes[level - 1] + codes
        return self.levels[level][torch.arange(self.users)[:, None], prefix], (level + 1, prefix)

    def score(self, user: int, codes: Row) -> float:
        """Float32 sums from left to right, as any search adds them."""
        total, prefix = torch.zeros(()), 0
        for level, code in enumerate(codes):
            total = total + self.levels[level][user, prefix, code]
            prefix = prefix * self.sizes[level] + code
        return float(total)


def search(tables: Tables, rows: list[Row], k: int, width: int, constrained: bool = True) -> Ranking:
    index = ItemIndex(torch.tensor([(-1,) * len(tables.sizes), *rows]), tables.sizes)
    return beam_search(tables.step, (0, None), index, k, width, constrained)


def listed(ranking: Ranking, user: int) -> Listed:
    return list(zip(ranking.items[user].tolist(), ranking.scores[user].tolist(), strict=True))


def ordered(found: Listed, k: int) -> Listed:
    best = sorted(found, key=lambda entry: (-entry[1], entry[0]))[:k]
    return best + [(0, -math.inf)] * (k - len(best))


def full_ranking(tables: Tables, user: int, rows: list[Row], k: int) -> Listed:
    return ordered([(item, tables.score(user, row)) for item, row in enumerate(rows, 1)], k)


def plain_beam(tables: Tables, user: int, rows: list[Row], k: int, width: int, constrained: bool) -> Listed:
    beams: list[Row] = [()]
    for level, size in enumerate(tables.sizes):
        grown = [(*beam, code) for beam in beams for code in range(size)]
        legal = {row[: level + 1] for row in rows}
        grown = [beam for beam in grown if beam in legal or not constrained]
        beams = sorted(grown, key=lambda beam: -tables.score(user, beam))[:width]
    found: Listed = []
    for beam in beams:
        items = [item for item, row in enumerate(rows, 1) if row == beam] or [0]
        found += [(item, tables.score(user, beam)) for item in items]
    return ordered(found, k)


@st.composite
def coded(draw: st.DrawFn) -> tuple[list[Row], tuple[int, ...]]:
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return draw(st.lists(row, min_size=1, max_size=12)), sizes


@given(coded(), st.integers(0, 10**6), st.booleans(), st.integers(1, 15))
def test_a_wide_beam_is_the_full_ranking(
    drawn: tuple[list[Row], tuple[int, ...]], seed: int, ties: bool, k: int
) -> None:
    rows, sizes = drawn
    tables = Tables(3, sizes, seed, ties)
    ranking = search(tables, rows, k, width=len(rows))
    assert ranking.certified.all()
    assert ranking.items.shape == ranking.scores.shape == (3, k)
    for user in range(3):
        assert listed(ranking, user) == full_ranking(tables, user, rows, k)


@given(coded(), st.integers(0, 10**6), st.booleans(), st.integers(1, 6), st.integers(1, 4))
def test_a_certified_list_is_the_full_ranking(
    drawn: tuple[list[Row], tuple[int, ...]], seed: int, ties: bool, k: int, width: int
) -> None:
    rows, sizes = drawn
    tables = Tables(4, sizes, seed, ties)
    ranking = search(tables, rows, k, width)
    for user in ranking.certified.nonzero().flatten().tolist():
        assert listed(ranking, user) == full_ranking(tables, user, rows, k)


EVERY_PAIR: list[Row] = list(product(range(4), range(4)))


def test_the_certificate_tells_users_apart() -> None:
    """A narrow beam drops prefixes of every user: some lists are proven, some are wrong, and no wrong one is proven."""
    tables = Tables(200, (4, 4), seed=0, ties=False)
    ranking = search(tables, EVERY_PAIR, k=2, width=2)
    right = torch.tensor([listed(ranking, user) == full_ranking(tables, user, EVERY_PAIR, 2) for user in range(200)])
    assert 20 < int(ranking.certified.sum()) < 180
    assert int((~right).sum()) > 10
    assert not (ranking.certified & ~right).any()


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("width", [1, 3, 7])
def test_narrow_beams_are_the_plain_ones(constrained: bool, width: int) -> None:
    sizes = (4, 3, 5)
    tables = Tables(6, sizes, seed=1, ties=False)
    rows: list[Row] = [*list(product(*map(range, sizes)))[::3], (0, 0, 0), (3, 1, 2)]
    ranking = search(tables, rows, k=8, width=width, constrained=constrained)
    for user in range(6):
        assert listed(ranking, user) == plain_beam(tables, user, rows, 8, width, constrained)


@pytest.mark.parametrize("constrained", [True, False])
def test_a_user_alone_gets_the_same_list(constrained: bool) -> None:
    tables = Tables(9, (4, 4), seed=2, ties=False)
    rows = EVERY_PAIR[::2]
    together = search(tables, rows, k=3, width=3, constrained=constrained)
    for user in range(9):
        alone = search(tables.of(user), rows, k=3, width=3, constrained=constrained)
        assert torch.equal(alone.items[0], together.items[user])
        assert torch.equal(alone.scores[0], together.scores[user])
        assert alone.certified[0] == together.certified[user]


def test_items_of_equal_codes_share_their_score() -> None:
    rows: list[Row] = [(1,), (0,), (2,), (1,), (0,)]
    tables = Tables(1, (3,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[-1.0, -0.5, -1.0]]])]
    # Codes 0 and 2 tie, so items 2, 3 and 5 come in order of id.
    assert listed(search(tables, rows, 6, 3), 0) == [(1, -0.5), (4, -0.5), (2, -1), (3, -1), (5, -1), (0, -math.inf)]
    cut = search(tables, rows, 3, 3)
    assert listed(cut, 0) == [(1, -0.5), (4, -0.5), (2, -1)]
    assert cut.certified.all()


def test_a_tie_with_what_was_lost_proves_nothing() -> None:
    """Item 1 is first by id, but the beam has no place for both codes and cannot know which to keep."""
    tables = Tables(1, (2,), seed=0, ties=True)
    tables.levels = [torch.tensor([[[-1.0, -1.0]]])]
    orders: list[list[Row]] = [[(0,), (1,)], [(1,), (0,)]]
    for rows in orders:
        assert not search(tables, rows, k=1, width=1).certified.any()
        assert search(tables, rows, k=1, width=2).items.tolist() == [[1]]


def test_short_lists_are_padded_and_proven_only_if_nothing_was_lost() -> None:
    tables = Tables(2, (3, 3), seed=3, ties=False)
    rows: list[Row] = [(0, 1), (2, 2)]
    whole = search(tables, rows, k=4, width=2)
    assert whole.certified.all()
    assert whole.items[:, 2:].eq(0).all()
    assert whole.scores[:, 2:].eq(-torch.inf).all()
    lossy = search(tables, rows, k=4, width=1)
    assert not lossy.certified.any()
    assert (lossy.items > 0).sum(1).tolist() == [1, 1]


@given(coded(), st.integers(0, 10**6), st.booleans(), st.integers(1, 30))
def test_a_free_beam_gives_places_to_sequences_without_item(
    drawn: tuple[list[Row], tuple[int, ...]], seed: int, ties: bool, k: int
) -> None:
    rows, sizes = drawn
    tables = Tables(2, sizes, seed, ties)
    ranking = search(tables, rows, k, width=math.prod(sizes), constrained=False)
    assert not ranking.certified.any()
    for user in range(2):
        found: Listed = []
        for codes in product(*map(range, sizes)):
            items = [item for item, row in enumerate(rows, 1) if row == codes] or [0]
            found += [(item, tables.score(user, codes)) for item in items]
        assert listed(ranking, user) == ordered(found, k)
