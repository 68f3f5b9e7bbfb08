"""The trie against brute force on plain tuples, and what a checkpoint does to it."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.parts.index import ItemIndex, distinct, shared, with_suffix
from tests.factories import index_of

Row = tuple[int, ...]


@st.composite
def coded(draw: st.DrawFn) -> tuple[list[Row], tuple[int, ...]]:
    """Few codes, so that prefixes and whole sequences collide."""
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return draw(st.lists(row, min_size=1, max_size=12)), sizes


def assert_trie_is(index: ItemIndex, rows: list[Row]) -> None:
    """Walks every prefix, and compares with what a search through `rows` finds."""
    prefixes: list[Row] = [()]
    for level, size in enumerate(index.sizes):
        parent, node, code = index.continuations(level, torch.arange(len(prefixes)))
        following: list[Row] = []
        for number, prefix in enumerate(prefixes):
            legal = sorted({row[level] for row in rows if row[:level] == prefix})
            found = parent == number
            assert code[found].tolist() == legal
            # Nodes of a level are numbered in lexicographic order.
            assert node[found].tolist() == list(range(len(following), len(following) + len(legal)))
            # Those below 0 and beyond the level's are another node's codes by number, and none of this one.
            codes = range(-size, 2 * size)
            every = index.child(level, torch.tensor(number), torch.tensor(codes)).tolist()
            assert every == [len(following) + legal.index(code) if code in legal else -1 for code in codes]
            following += [(*prefix, code) for code in legal]
        assert (parent.diff() >= 0).all()
        back, last = index.parent(level, node)
        assert torch.equal(back, parent)
        assert torch.equal(last, code)
        assert index.child(level, torch.tensor(-1), torch.arange(size)).tolist() == [-1] * size
        prefixes = following
    groups = [[item for item, row in enumerate(rows, 1) if row == prefix] for prefix in prefixes]
    width = max(map(len, groups))
    padded = [group + [0] * (width - len(group)) for group in ([], *groups)]
    assert index.items_at(torch.arange(-1, len(prefixes))).tolist() == padded
    assert index.leaves == len(prefixes)
    assert index.leaves_of(torch.arange(1, len(rows) + 1)).tolist() == [[prefixes.index(row)] for row in rows]


@given(coded())
def test_trie_is_brute_force(drawn: tuple[list[Row], tuple[int, ...]]) -> None:
    rows, sizes = drawn
    assert_trie_is(index_of(rows, sizes), rows)


def test_prefixes_in_any_order_and_number() -> None:
    index = index_of([(0, 1), (2, 0), (2, 1)], (3, 2))
    parent, node, code = index.continuations(1, torch.tensor([1, 0, 1]))
    assert parent.tolist() == [0, 0, 1, 2, 2]
    assert node.tolist() == [1, 2, 0, 1, 2]
    assert code.tolist() == [0, 1, 1, 0, 1]
    assert index.continuations(1, torch.tensor([], dtype=torch.long)).node.tolist() == []
    assert index.items_at(torch.tensor([[2, -1]])).tolist() == [[[3], [0]]]


def test_several_sequences_of_an_item() -> None:
    index = ItemIndex(torch.tensor([[[-1, -1]] * 2, [[2, 0], [0, 1]], [[-1, -1], [2, 0]]]), (3, 2))
    assert index.leaves == 2
    assert index.leaves_of(torch.tensor([1, 2])).tolist() == [[1, 0], [-1, 1]]
    assert index.items_at(torch.tensor([0, 1])).tolist() == [[1, 0], [1, 2]]
    assert index.card()["shared_prefix"] == pytest.approx([2 / 3, 2 / 3])


def test_card_by_hand() -> None:
    card = index_of([(0, 0), (2, 1), (0, 0), (0, 1)], (3, 2)).card()
    assert card["levels"] == 2
    assert card["sizes"] == [3, 2]
    assert card["duplicates_before"] == card["duplicates_after"] == 0.5
    assert (card["distinct_before"], card["reconstruction_error"]) == (3, None)
    assert card["shared_prefix"] == [0.75, 0.5]  # items 1, 3 and 4; items 1 and 3
    assert card["utilisation"] == pytest.approx([2 / 3, 1.0])
    # Level 0 uses its codes 3, 0 and 1 times: -(3/4 ln 3/4 + 1/4 ln 1/4); level 1 twice each: ln 2.
    assert card["entropy"] == pytest.approx([0.5623351, 0.6931472])
    assert card["mean_fan_out"] == [2.0, 1.5]  # root -> 0, 2; then 0 -> 0, 1 and 2 -> 1
    assert card["largest_fan_out"] == [2, 2]


@pytest.mark.parametrize(
    ("codes", "sizes", "message"),
    [
        ([[-1, -1], [0, 1], [2, 2]], (3, 2), r"item 2 has code 2 at level 1; possible: 0\.\.1"),
        ([[-1, -1], [-1, 1]], (3, 2), r"item 1 has code -1 at level 0; possible: 0\.\.2"),
        ([[0, 0], [0, 1]], (3, 2), r"need 2 levels and -1 in row 0"),
        ([[-1, -1], [0, 1]], (3, 2, 4), r"codes of shape \(2, 1, 2\) need 3 levels"),
        ([[[-1, -1]] * 2, [[0, 1], [0, -1]]], (3, 2), r"item 1 has code -1 at level 1"),
        ([[[-1, -1]] * 2, [[-1, -1]] * 2], (3, 2), r"item 1 has code -1 at level 0"),
        ([[[-1, -1]] * 2, [[0, 1], [0, 1]]], (3, 2), r"item 1 has the sequence \[0, 1\] twice"),
    ],
)
def test_impossible_codes(codes: list[object], sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemIndex(torch.tensor(codes), sizes)


def test_the_callers_codes_may_change_later() -> None:
    codes = torch.tensor([[-1], [0], [1]])
    index = ItemIndex(codes, (2,))
    codes[1] = 1
    assert index.codes.tolist() == [[[-1]], [[0]], [[1]]]


OLD: list[Row] = [(0, 1), (2, 0), (2, 0), (1, 1)]
NEW: list[Row] = [(2, 0), (0, 0), (0, 1), (0, 0)]


@pytest.mark.parametrize("nested", [False, True])
def test_loading_other_codes_rebuilds_the_trie(nested: bool) -> None:
    old, new = index_of(OLD, (3, 2)), index_of(NEW, (3, 2))
    assert list(new.state_dict()) == ["codes", "duplicates_before", "distinct_before"]
    if nested:
        nn.ModuleDict({"index": old}).load_state_dict(nn.ModuleDict({"index": new}).state_dict())
    else:
        old.load_state_dict(new.state_dict())
    assert_trie_is(old, NEW)
    assert old.card() == new.card()


def test_a_share_that_was_saved_comes_back() -> None:
    repaired = ItemIndex(with_suffix(torch.tensor([[1], [0], [1], [2]]), 2), (3, 2), torch.tensor([[1], [0], [1], [2]]))
    fresh = ItemIndex(with_suffix(torch.tensor([[0], [0], [0], [0]]), 4)[:, 1:], (4,))
    copy = index_of(OLD, (3, 2))
    copy.load_state_dict(repaired.state_dict())
    assert (copy.card()["duplicates_before"], copy.card()["duplicates_after"]) == (0.5, 0.0)
    assert fresh.card()["duplicates_before"] == 0.0


def test_what_a_card_says_of_the_tokenizer_is_saved_too() -> None:
    """Three sequences before a repair that made four, and how well they reconstruct."""
    before = torch.tensor([[1], [0], [1], [2]])
    source, copy = (
        ItemIndex(with_suffix(codes, 4), (3, 4), codes, reconstruction_error=error)
        for codes, error in ((before, 0.25), (before * 0, 0.75))
    )
    assert (copy.card()["distinct_before"], copy.card()["reconstruction_error"]) == (1, 0.75)
    copy.load_state_dict(source.state_dict())
    assert (copy.card()["distinct_before"], copy.card()["reconstruction_error"]) == (3, 0.25)


@given(coded(), st.randoms(use_true_random=False))
def test_renamed_items_are_found_as_if_made_anew(drawn: tuple[list[Row], tuple[int, ...]], random: Random) -> None:
    rows, sizes = drawn
    index = index_of(rows, sizes)
    names = [tuple(random.randrange(size) for size in sizes) for _ in rows]
    index.assign(torch.tensor([(-1,) * len(sizes), *names]))
    assert_trie_is(index, names)
    assert index.card() == index_of(names, sizes).card()


def test_renaming_counts_duplicates_anew_and_may_change_the_number_of_sequences() -> None:
    index = ItemIndex(with_suffix(torch.tensor([[1], [0], [1], [2]]), 2), (3, 2), torch.tensor([[1], [0], [1], [2]]))
    assert index.card()["duplicates_before"] == 0.5
    index.assign(torch.tensor([[-1, -1], *OLD]))
    assert index.card()["duplicates_before"] == index.card()["duplicates_after"] == 0.5
    index.assign(torch.tensor([[[-1, -1]] * 2, [[2, 0], [0, 1]], [[-1, -1], [2, 0]]]), torch.tensor([[0], [0]]))
    assert (index.leaves, index.largest_group) == (2, 2)
    # One of three sequences is alone; what the tokenizer gave was one for both items.
    assert index.card()["duplicates_after"] == pytest.approx(2 / 3)
    assert index.card()["duplicates_before"] == 1.0


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[-1, -1], [0, 2]], r"item 1 has code 2 at level 1; possible: 0\.\.1"),
        ([[-1, -1, -1], [0, 0, 0]], "need 2 levels"),
        ([[0, 0], [0, 1]], "-1 in row 0"),
    ],
)
def test_impossible_names_are_refused_and_the_old_ones_stay(codes: list[object], message: str) -> None:
    index = index_of(OLD, (3, 2))
    with pytest.raises(ValueError, match=message):
        index.assign(torch.tensor(codes))
    assert_trie_is(index, OLD)
    assert index.codes[1:, 0].tolist() == [list(row) for row in OLD]


@given(coded())
def test_shared_counts_sequences_that_occur_more_than_once(drawn: tuple[list[Row], tuple[int, ...]]) -> None:
    rows, sizes = drawn
    expected = sum(rows.count(row) > 1 for row in rows) / len(rows)
    assert shared(torch.tensor(rows)) == pytest.approx(expected)
    card = index_of(rows, sizes).card()
    assert card["duplicates_before"] == card["duplicates_after"] == pytest.approx(expected)
    assert card["shared_prefix"][-1] == card["duplicates_after"]


def test_a_stale_trie_would_be_noticed() -> None:
    index = index_of(OLD, (3, 2))
    assert_trie_is(index, OLD)
    index.codes.copy_(index_of(NEW, (3, 2)).codes)  # as a load without the rebuild would
    with pytest.raises(AssertionError):
        assert_trie_is(index, NEW)


def test_with_suffix_by_hand() -> None:
    codes = torch.tensor([[1, 2], [0, 0], [1, 2], [0, 1], [1, 2], [0, 0]])
    expected = [[-1, -1, -1], [1, 2, 0], [0, 0, 0], [1, 2, 1], [0, 1, 0], [1, 2, 2], [0, 0, 1]]
    assert with_suffix(codes, 3).tolist() == expected
    with pytest.raises(ValueError, match="3 items have equal codes, but the suffix codebook tells only 2 apart"):
        with_suffix(codes, 2)


@given(coded())
def test_suffix_counts_equal_codes_by_item(drawn: tuple[list[Row], tuple[int, ...]]) -> None:
    rows, _ = drawn
    expected = [(*row, rows[:number].count(row)) for number, row in enumerate(rows)]
    assert [tuple(row) for row in with_suffix(torch.tensor(rows), len(rows))[1:].tolist()] == expected


# Item 1 has two sequences, item 2 one that it shares with item 1, item 3 two, of which it shares one with both.
SEVERAL = [[[-1, -1]] * 2, [[0, 1], [2, 0]], [[0, 1], [-1, -1]], [[1, 1], [0, 1]]]


def test_usage_counts_sequences() -> None:
    usage = ItemIndex(torch.tensor(SEVERAL), (3, 2)).usage()
    assert [level.tolist() for level in usage] == [[3, 1, 1], [1, 4]]


def test_a_card_counts_sequences() -> None:
    card = ItemIndex(torch.tensor(SEVERAL), (3, 2)).card()
    assert (card["sequences_per_item"], card["items_per_sequence"]) == pytest.approx((5 / 3, 5 / 3))
    assert card["most_items_per_sequence"] == 3
    assert card["duplicates_after"] == pytest.approx(3 / 5)
    assert card["entropy"][1] == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))


def test_distinct_by_hand() -> None:
    """Items 1, 3 and 4 have equal codes; 3 is the nearest to them and keeps them."""
    codes = torch.tensor([[0, 1], [0, 0], [0, 1], [0, 1], [1, 1]])
    near = [[-5.0, -2.0, -3.0, -4.0], [0.0] * 4, [-9.0, -1.0, -9.0, -9.0], [-8.0, -3.0, -6.0, -7.0], [0.0] * 4]
    # Item 1 is nearer than 4, so it has the first choice: code 2; code 0 would be the next, but item 2 has it.
    assert distinct(codes, torch.tensor(near)).tolist() == [[0, 2], [0, 0], [0, 1], [0, 3], [1, 1]]
    assert codes[0].tolist() == [0, 1], "the caller's codes stay"
    with pytest.raises(ValueError, match="more than 3 items share all codes but the last"):
        distinct(codes, torch.tensor(near)[:, :3])


@given(coded(), st.integers(0, 10**6))
def test_distinct_moves_no_more_items_than_it_must(drawn: tuple[list[Row], tuple[int, ...]], seed: int) -> None:
    rows, _ = drawn
    codes = torch.tensor(rows)
    near = torch.rand(len(rows), 20, generator=torch.Generator().manual_seed(seed))
    found = distinct(codes, near)
    names = [tuple(row) for row in found.tolist()]
    assert len(set(names)) == len(names)
    assert torch.equal(found[:, :-1], codes[:, :-1])
    assert sum(map(tuple.__eq__, names, rows)) == len(set(rows))
    for item, (old, new) in enumerate(zip(rows, names, strict=True)):
        keeper = max(float(near[other, old[-1]]) for other, row in enumerate(rows) if row == old)
        assert (new == old) == (float(near[item, old[-1]]) == keeper)
        # No free code would have been nearer.
        better = [code for code in range(20) if near[item, code] > near[item, new[-1]]]
        assert new == old or {(*old[:-1], code) for code in better} <= set(names) | set(rows)
