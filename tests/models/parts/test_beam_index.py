"""The beam index's rules by hand: weights that follow selections, pruning, new candidates, capacity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.parts.beam_index import Edges, refreshed, selected

NONE = (-1, -1)


def edges_of(items: list[dict[tuple[int, int], float]], width: int) -> Edges:
    """Items 1, 2, … as their sequences and weights; row 0 is padding."""
    rows = [{}, *items]
    codes = [[*item, *[NONE] * (width - len(item))] for item in rows]
    weights = [[*item.values(), *[0.0] * (width - len(item))] for item in rows]
    return Edges(torch.tensor(codes), torch.tensor(weights))


def listed(edges: Edges) -> list[dict[tuple[int, int], float]]:
    """The other way; empty places come last and weigh nothing."""
    found = []
    for codes, weights in zip(edges.codes.tolist(), edges.weights.tolist(), strict=True):
        held = [tuple(code) for code in codes if code[0] >= 0]
        assert all(tuple(code) == NONE for code in codes[len(held) :])
        assert all(weight == 0 for weight in weights[len(held) :])
        found.append(dict(zip(held, weights, strict=False)))
    assert found[0] == {}
    return found[1:]


def test_weights_follow_the_rule_over_three_steps() -> None:
    """w <- .9 w + .1 [chosen], one item at a time."""
    weights = torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.8, 0.2]])
    for choice, expected in ((1, [0.45, 0.55]), (1, [0.405, 0.595]), (0, [0.4645, 0.5355])):
        weights = selected(weights, torch.tensor([1]), torch.tensor([choice]), 0.9)
        torch.testing.assert_close(weights[1], torch.tensor(expected))
    assert weights[[0, 2]].tolist() == torch.tensor([[0.0, 0.0], [0.8, 0.2]]).tolist()


def test_an_item_that_comes_often_decays_as_often_and_its_choices_share() -> None:
    weights = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]])
    item, choice = torch.tensor([1, 2, 1, 1]), torch.tensor([2, 1, 2, 0])
    found = selected(weights, item, choice, 0.5)
    # Three times .5; of what is gained two thirds to one, a third to the other.
    expected = [0.6 / 8 + 7 / 24, 0.3 / 8, 0.1 / 8 + 14 / 24]
    torch.testing.assert_close(found[1], torch.tensor(expected))
    torch.testing.assert_close(found[2], torch.tensor([0.5, 0.5, 0.0]))
    mixed = torch.tensor([3, 0, 2, 1])
    torch.testing.assert_close(selected(weights, item[mixed], choice[mixed], 0.5), found)
    torch.testing.assert_close(found[1:].sum(1), torch.ones(2))


def test_edges_are_put_in_order_and_weak_ones_go() -> None:
    edges = edges_of([{(0, 0): 0.02, (1, 1): 0.6, (2, 2): 0.38}, {(0, 0): 1.0}], 3)
    found = refreshed(edges, None, prune=0.05, capacity=9)
    # .02 is less than a twentieth of .6; what is left sums to 1.
    assert listed(found) == [
        pytest.approx({(1, 1): 0.6 / 0.98, (2, 2): 0.38 / 0.98}),
        pytest.approx({(0, 0): 1.0}),
    ]
    assert [list(item) for item in listed(found)] == [[(1, 1), (2, 2)], [(0, 0)]]
    assert len(listed(refreshed(edges, None, prune=0.02, capacity=9))[0]) == 3


def padded(rows: list[list[tuple[int, int]]]) -> Tensor:
    return torch.tensor([[NONE] * len(rows[0]), *rows])


def test_new_candidates_enter_with_the_least_weight_that_is_left() -> None:
    edges = edges_of([{(1, 1): 0.6, (2, 2): 0.38, (0, 0): 0.02}], 3)
    # The second is known; the third was pruned just now and does not come back; there is room for one.
    fresh = padded([[(2, 2), (0, 0), (3, 3), (4, 4)]])
    found = listed(refreshed(edges, fresh, prune=0.05, capacity=9))
    total = 0.6 + 0.38 + 0.38
    assert found == [pytest.approx({(1, 1): 0.6 / total, (2, 2): 0.38 / total, (3, 3): 0.38 / total})]


def test_a_full_item_takes_no_new_candidate() -> None:
    edges = edges_of([{(1, 1): 0.6, (2, 2): 0.4}], 2)
    assert listed(refreshed(edges, padded([[(3, 3), (4, 4)]]), prune=0.05, capacity=9)) == listed(
        refreshed(edges, None, prune=0.05, capacity=9)
    )


def test_a_sequence_leaves_the_items_it_belongs_to_least() -> None:
    shared = (5, 5)
    edges = edges_of(
        [
            {(0, 0): 0.9, shared: 0.1},
            {shared: 0.7, (1, 1): 0.3},
            {(2, 2): 0.6, shared: 0.4},
            {(3, 3): 0.8, shared: 0.2},
        ],
        2,
    )
    found = listed(refreshed(edges, None, prune=0.0, capacity=2))
    assert found == [
        {(0, 0): 1.0},
        pytest.approx({shared: 0.7, (1, 1): 0.3}),
        pytest.approx({(2, 2): 0.6, shared: 0.4}),
        {(3, 3): 1.0},
    ]


def test_an_items_heaviest_edge_stays_whatever_the_capacity() -> None:
    edges = edges_of([{(5, 5): 1.0}, {(5, 5): 0.6, (1, 1): 0.4}, {(5, 5): 0.9, (1, 1): 0.1}], 2)
    found = listed(refreshed(edges, None, prune=0.0, capacity=1))
    assert [(5, 5) in item for item in found] == [True] * 3
    assert [(1, 1) in item for item in found] == [False, True, False]


def test_an_edge_that_has_decayed_to_nothing_goes() -> None:
    found = listed(refreshed(edges_of([{(1, 1): 1.0, (2, 2): 0.0}], 2), None, prune=0.0, capacity=9))
    assert found == [{(1, 1): 1.0}]
