"""P5-CID: clusters of the graph of items that share users, and the codes that they give."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from models import p5_cid
from models.p5_cid import SMALL, divided, paths, tokenize
from tests.factories import corpus_of, held_out, no_fit, random_parts


def planted(blocks: list[int], bridges: int = 2, seed: int = 0) -> list[list[int]]:
    """Training parts: many of items of one block, in an order without sense, few that join the blocks."""
    rng, ends = np.random.default_rng(seed), np.cumsum([0, *blocks])
    inside = [np.arange(first, last) + 1 for first, last in itertools.pairwise(ends)]
    parts = [rng.choice(items, 4, replace=False).tolist() for items in inside for _ in range(6 * len(items))]
    return parts + [[int(rng.choice(items)) for items in inside] for _ in range(bridges)]


def codes_of(parts: list[list[int]], items: int, **options: Any) -> torch.Tensor:
    """`[N, L]` without the last code, the number within a cluster."""
    index = tokenize(dataclasses.replace(SMALL, **options), corpus_of(held_out(parts), items), no_fit)
    return index.codes[1:, 0, :-1]


@pytest.mark.parametrize("bridges", [0, 3])
def test_two_blocks_are_two_clusters(bridges: int) -> None:
    """Of unlike sizes, joined by a few users or by none; item 1 of `held_out` joins nothing, for it is not training."""
    codes = codes_of(planted([24, 16], bridges), 40, clusters=2, largest=30)
    assert codes.shape == (40, 1)
    assert [len(set(block)) for block in (codes[:24, 0].tolist(), codes[24:, 0].tolist())] == [1, 1]
    assert codes[0] != codes[39]


def test_blocks_within_blocks_are_clusters_within_clusters() -> None:
    parts = planted([12, 12, 12, 12], bridges=0)
    rng = np.random.default_rng(1)
    for half in (0, 24):  # the first two blocks are near one another, and so are the last two
        parts += [(half + 1 + rng.permutation(24)[:3]).tolist() for _ in range(40)]
    parts += [[1, 48]]
    codes = codes_of(parts, 48, clusters=2, largest=14)
    assert len(set(codes[:24, 0].tolist())) == len(set(codes[24:, 0].tolist())) == 1
    blocks = [{tuple(row) for row in codes[first : first + 12].tolist()} for first in range(0, 48, 12)]
    assert [len(block) for block in blocks] == [1, 1, 1, 1]
    assert len(set.union(*blocks)) == 4


@pytest.mark.parametrize(("clusters", "largest"), [(2, 2), (3, 5), (4, 16), (20, 500)])
@pytest.mark.parametrize("seed", range(3))
def test_every_item_has_its_own_codes_and_no_cluster_is_too_large(clusters: int, largest: int, seed: int) -> None:
    """On graphs without structure, of which a third of the items is no part."""
    corpus = corpus_of(held_out(random_parts(seed, 60, 50)), 90)
    index = tokenize(dataclasses.replace(SMALL, clusters=clusters, largest=largest), corpus, no_fit)
    codes = index.codes[1:, 0]
    assert len(codes.unique(dim=0)) == 90
    assert int(codes[:, :-1].unique(dim=0, return_counts=True)[1].max()) <= largest
    assert index.sizes == tuple((codes.amax(0) + 1).tolist())
    # A code is one cluster: its items have all codes before it in common.
    for level in range(1, index.levels - 1):
        ways = codes[codes[:, level] > 0][:, : level + 1].unique(dim=0)
        assert len(ways) == len(ways[:, level].unique())


def test_the_codes_know_nothing_of_seeds_and_held_out_items() -> None:
    parts = random_parts(0, 60, 50)
    found = []
    for item in (1, 9):
        torch.manual_seed(item)
        np.random.seed(item)
        corpus = corpus_of([[*part, item, item] for part in parts], 60)
        found.append(tokenize(SMALL, corpus, no_fit).codes)
    assert torch.equal(*found)


def test_a_way_that_ends_early_has_a_code_that_says_so() -> None:
    """A triangle by itself, and one that hangs by an edge on a prism, whose two ends are triangles, too."""
    prism = [[3, 4, 5], [6, 7, 8], [3, 6], [4, 7], [5, 8]]
    codes = [tuple(row) for row in paths(graph([[0, 1, 2], [2, 3], *prism, [9, 10, 11]]), 2, 4).tolist()]
    triangles = [set(codes[first : first + 3]) for first in (0, 3, 6, 9)]
    assert [len(triangle) for triangle in triangles] == [1, 1, 1, 1]
    (hanging,), (near,), (far,), (alone,) = triangles
    assert {hanging, near[:1], alone} == {(near[0] ^ 1, 0), near[:1], (2, 0)}
    assert near[0] == far[0]
    assert {near[1], far[1]} == {1, 2}


def test_nodes_without_edges_are_dealt_out_in_their_order() -> None:
    found = sorted(part.tolist() for part in divided(graph([[1, 3, 5]], 8), 2, 3))
    assert found == [[0, 2, 4], [1, 3, 5], [6, 7]]


def test_what_spectral_clustering_leaves_whole_is_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(affinity: Any, **options: Any) -> np.ndarray:
        return np.zeros(affinity.shape[0], dtype=int)

    monkeypatch.setattr(p5_cid, "spectral_clustering", whole)
    found = [part.tolist() for part in divided(graph([[0, 1, 2, 3, 4]]), 2, 3)]
    assert found == [[0, 1, 2], [3, 4]]


def graph(cliques: list[list[int]], nodes: int = 0) -> Any:
    """Sparse adjacency of cliques."""
    edges = [(one, other) for clique in cliques for one in clique for other in clique if one != other]
    size = max(nodes, 1 + max(map(max, cliques)))
    return sparse.csr_array((np.ones(len(edges)), np.array(edges).T), shape=(size, size))


def test_more_clusters_than_items_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"more than 4 items \(option largest\) into 5 \(option clusters\); expected"):
        tokenize(dataclasses.replace(SMALL, clusters=5, largest=4), corpus_of([[1, 2, 3, 4]], 4), no_fit)
