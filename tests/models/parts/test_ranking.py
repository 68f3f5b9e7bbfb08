"""Top-K with ties against numpy's lexsort."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.parts.ranking import rank_scores

# Few values, so that ties lie everywhere, also at the cut.
SCORES = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.sampled_from([-np.inf, -1.5, 0.0, 0.0, 2])
)


@given(SCORES, st.integers(1, 50))
def test_equals_lexsort(scores: np.ndarray, k: int) -> None:
    users, items = scores.shape
    ranking = rank_scores(torch.from_numpy(scores), k)
    assert ranking.items.shape == ranking.scores.shape == (users, k)
    assert ranking.certified.tolist() == [True] * users
    for user in range(users):
        order = np.lexsort((np.arange(items), -scores[user]))[:k]
        padding = k - len(order)
        assert ranking.items[user].tolist() == (order + 1).tolist() + [0] * padding
        assert ranking.scores[user].tolist() == scores[user][order].tolist() + [-np.inf] * padding


def test_ties_across_the_cut_of_a_wide_row() -> None:
    """Wide rows take another path through `torch.topk`, which leaves ties in any order."""
    scores = torch.zeros(2, 5000)
    scores[0, 4000] = 1.0
    scores[1, ::2] = -1.0
    ranking = rank_scores(scores, 5)
    assert ranking.items.tolist() == [[4001, 1, 2, 3, 4], [2, 4, 6, 8, 10]]


def test_the_scores_are_left_alone() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0, 3.0, 2.0]])
    before = scores.clone()
    rank_scores(scores, 2)
    assert torch.equal(scores, before)
