"""Algorithm 1 on tables made by hand, and against dictionaries on random ones; who owns what, always."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.parts.beam_index import BeamIndex, Proposals, one_to_one, updated

Row = tuple[int, int]
Links = dict[Row, tuple[float, int]]
"""The sequences of an item: weight, and when it was renewed."""
NONE = (-1, -1)


def index_of(items: list[Links], width: int) -> BeamIndex:
    """Items 1, 2, … as their sequences; row 0 is padding."""
    codes, weights, renewed = [], [], []
    for item in ({}, *items):
        empty = width - len(item)
        codes.append([*item, *[NONE] * empty])
        weights.append([*(weight for weight, _ in item.values()), *[0.0] * empty])
        renewed.append([*(time for _, time in item.values()), *[0] * empty])
    return BeamIndex(torch.tensor(codes), torch.tensor(weights, dtype=torch.double), torch.tensor(renewed))


def listed(index: BeamIndex) -> list[Links]:
    """The other way; empty places come last, and hold nothing."""
    found: list[Links] = []
    for codes, weights, renewed in zip(*(column.tolist() for column in index), strict=True):
        links = {tuple(code): (weight, time) for code, weight, time in zip(codes, weights, renewed, strict=True)}
        if links.pop(NONE, None):
            assert codes[len(links) :] == [list(NONE)] * (len(codes) - len(links))
            assert not any(weights[len(links) :])
            assert not any(renewed[len(links) :])
        found.append(links)
    assert found[0] == {}
    return found[1:]


def proposals(of: Mapping[int, Mapping[Row, float]]) -> Proposals:
    codes, weights = [[*rows] for rows in of.values()], [[*rows.values()] for rows in of.values()]
    return Proposals(torch.tensor([*of]), torch.tensor(codes), torch.tensor(weights, dtype=torch.double))


def after(items: list[Links], of: Mapping[int, Mapping[Row, float]], width: int = 2, now: int = 10) -> list[Links]:
    """With gamma .75 and a lease of 3."""
    return listed(updated(index_of(items, width), proposals(of), now, momentum=0.75, lease=3))


def test_the_start_is_one_to_one() -> None:
    codes = torch.tensor([NONE, (0, 1), (2, 0)])
    index = one_to_one(codes, torch.tensor([7.0, 99.0, 98.0], dtype=torch.double), 3)
    assert index.codes.shape == (3, 3, 2)
    assert listed(index) == [{(0, 1): (99, 0)}, {(2, 0): (98, 0)}]


@pytest.mark.parametrize(
    ("stored", "proposed", "expected"),
    [
        # Stored and proposed: .75 * 80 + .25 * 92, and renewed now. Stored alone: what it weighed.
        ({(0, 0): (90.0, 4), (1, 1): (80.0, 5)}, {(1, 1): 92.0}, {(0, 0): (90.0, 4), (1, 1): (83.0, 10)}),
        # Proposed alone: its own weight; here it is now the heaviest.
        ({(0, 0): (90.0, 4)}, {(1, 1): 95.0}, {(1, 1): (95.0, 10), (0, 0): (90.0, 4)}),
        # Only the two heaviest stay.
        ({(0, 0): (90.0, 4), (1, 1): (80.0, 5)}, {(2, 2): 85.0}, {(0, 0): (90.0, 4), (2, 2): (85.0, 10)}),
        ({(0, 0): (90.0, 4), (1, 1): (80.0, 5)}, {(2, 2): 70.0}, {(0, 0): (90.0, 4), (1, 1): (80.0, 5)}),
        # A renewed one may fall behind another.
        ({(0, 0): (90.0, 4), (1, 1): (88.0, 5)}, {(0, 0): 50.0}, {(1, 1): (88.0, 5), (0, 0): (80.0, 10)}),
        # Equal weights: what is stored comes first.
        ({(0, 0): (90.0, 4)}, {(1, 1): 90.0, (2, 2): 90.0}, {(0, 0): (90.0, 4), (1, 1): (90.0, 10)}),
    ],
)
def test_stored_and_proposed_are_merged(stored: Links, proposed: dict[Row, float], expected: Links) -> None:
    (found,) = after([stored], {1: proposed})
    assert list(found.items()) == list(expected.items())


def test_a_sequence_of_another_item_is_taken_once_its_link_is_older_than_the_lease() -> None:
    owner: Links = {(5, 5): (95.0, 9), (0, 0): (90.0, 7), (1, 1): (80.0, 6)}
    found = after([owner, {(9, 9): (99.0, 0)}], {2: {(0, 0): 91.0, (1, 1): 70.0}}, width=3)
    # Renewed at 7, three ago: kept. At 6, four ago: taken, with the weight that its new owner gives.
    assert found == [{(5, 5): (95.0, 9), (0, 0): (90.0, 7)}, {(9, 9): (99.0, 0), (1, 1): (70.0, 10)}]


def test_a_link_that_its_owner_proposes_at_the_same_time_is_not_old() -> None:
    items: list[Links] = [{(5, 5): (95.0, 9), (1, 1): (80.0, 0)}, {(9, 9): (99.0, 0)}]
    found = after(items, {1: {(1, 1): 84.0}, 2: {(1, 1): 99.0}})
    assert found == [{(5, 5): (95.0, 9), (1, 1): (81.0, 10)}, {(9, 9): (99.0, 0)}]


def test_an_items_heaviest_sequence_is_never_taken() -> None:
    items: list[Links] = [{(0, 0): (50.0, 0), (1, 1): (40.0, 0)}, {(9, 9): (10.0, 0)}]
    found = after(items, {2: {(0, 0): 99.0, (1, 1): 98.0}})
    assert found == [{(0, 0): (50.0, 0)}, {(1, 1): (98.0, 10), (9, 9): (10.0, 0)}]


def test_of_several_items_the_one_that_weighs_it_most_gets_a_sequence() -> None:
    items: list[Links] = [{(row, row): (90.0, 0)} for row in range(4)]
    found = after(items, {1: {(7, 7): 80.0, (8, 8): 70.0}, 3: {(7, 7): 85.0, (8, 8): 70.0}}, width=3)
    assert (7, 7) not in found[0]
    assert found[2][(7, 7)] == (85, 10)
    assert (8, 8) in found[0], "as much for both: the smaller item's"
    assert (8, 8) not in found[2]


def test_a_sequence_that_was_won_and_is_too_light_is_nobodys() -> None:
    items: list[Links] = [{(0, 0): (90.0, 9), (1, 1): (89.0, 0)}, {(2, 2): (90.0, 9), (3, 3): (89.0, 9)}]
    assert after(items, {2: {(1, 1): 5.0}}) == [{(0, 0): (90.0, 9)}, items[1]]


def by_dictionaries(
    items: list[Links], of: Mapping[int, Mapping[Row, float]], width: int, now: int, momentum: float, lease: int
) -> list[Links]:
    """The same, a link at a time."""
    reverse = {row: (item, time) for item, links in enumerate(items, 1) for row, (_, time) in links.items()}
    heaviest = {item: next(iter(links)) for item, links in enumerate(items, 1)}
    best: dict[Row, tuple[float, int]] = {}
    for item, rows in of.items():
        for row, weight in rows.items():
            owner, time = reverse.get(row, (0, 0))
            if owner == item:
                continue
            if owner and (heaviest[owner] == row or now - time <= lease or row in of.get(owner, {})):
                continue
            best[row] = max(best.get(row, (weight, -item)), (weight, -item))
    for row, (_, item) in best.items():
        reverse[row] = (-item, now)
    found = []
    for item, links in enumerate(items, 1):
        merged = {row: link for row, link in links.items() if reverse[row][0] == item}
        for row, weight in of.get(item, {}).items():
            if row in links:
                merged[row] = (momentum * links[row][0] + (1 - momentum) * weight, now)
            elif reverse[row][0] == item:
                merged[row] = (weight, now)
        found.append(dict(sorted(merged.items(), key=lambda link: -link[1][0])[:width]))
    return found


@st.composite
def evolutions(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, dict[int, dict[Row, float]]]]]:
    """Width, items, and in each step the time and some items' proposals: few sequences, so that many want the same."""
    width, count, beam = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rows, weights = st.tuples(st.integers(0, 3), st.integers(0, 2)), st.integers(80, 99).map(float)
    steps, now = [], 0
    for _ in range(draw(st.integers(1, 6))):
        now += draw(st.integers(0, 2))
        chosen = sorted(draw(st.sets(st.integers(1, count), min_size=1)))
        made = {
            item: dict(zip(own, draw(st.lists(weights, min_size=beam, max_size=beam)), strict=True))
            for item in chosen
            for own in [draw(st.lists(rows, min_size=beam, max_size=beam, unique=True))]
        }
        steps.append((now, made))
    return width, count, steps


@pytest.mark.slow
@given(evolutions(), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 2))
@settings(max_examples=120)
def test_it_is_the_dictionaries_and_each_sequence_has_one_owner(
    drawn: tuple[int, int, list[tuple[int, dict[int, dict[Row, float]]]]], momentum: float, lease: int
) -> None:
    width, count, steps = drawn
    expected: list[Links] = [{(item % 4, item // 4): (90.0, 0)} for item in range(count)]
    index = index_of(expected, width)
    for now, made in steps:
        index = updated(index, proposals(made), now, momentum, lease)
        expected = by_dictionaries(expected, made, width, now, momentum, lease)
        found = listed(index)
        assert [list(item.items()) for item in found] == [list(item.items()) for item in expected]
        every = [row for item in found for row in item]
        assert len(every) == len(set(every))
        assert all(1 <= len(item) <= width for item in found)
