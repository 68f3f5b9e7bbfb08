"""P5-CID: collaborative item ids (Hua et al., How to Index Item IDs for Recommendation Foundation Models, SIGIR-AP
2023, arXiv 2305.06569).

Collaborative indexing: items are the nodes of a graph whose edges count the users that two items share in training.
Spectral clustering cuts it into `clusters` parts, and each part of more than `largest` items again, until none is left.
The codes of an item are the clusters on its way down, each with a token of its own, and its number in the last one.

The recommender is TIGER's, which reads and generates the codes. Left out: P5's prompts, its user tokens and the weights
of a language model. From the official code: `clusters` and `largest`, the labels by a pivoted QR (`cluster_qr`), the
graph of training alone. Different: an item has one code per level, and one that says so where its way has ended
already; a part that falls into several connected ones is cut there, for between these the eigenvectors decide nothing;
items that share no user are dealt out in order of their ids (the code: a number and no cluster).

The clusters have a seed of their own, so that the seeds of a row share their codes. They take seconds (3 on
Beauty_2014, 7 on Musical_Instruments, of a core) and less than 1 GiB, and are three levels deep on both.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0352, R@10 .0507, N@5 .0234, N@10 .0285.

    make bench MODELS=p5_cid CORPUS=musical_instruments
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int, Int64
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import spectral_clustering
from torch import Tensor

from models.api import Batch, Corpus, Fit, Ranking, Recommender, Several
from models.parts.index import ItemIndex, with_suffix
from models.parts.ownership import ownership
from models.parts.recommender_config import SMALL_RECOMMENDER, RecommenderConfig


@dataclass(frozen=True)
class Config(RecommenderConfig):
    clusters: Several = 20
    """Parts into which spectral clustering cuts one. The official code has 10 and 20."""
    largest: Several = 500
    """Most items of a cluster that is not cut further. The official code has 50 to 1,000."""


SMALL = Config(clusters=4, largest=32, **SMALL_RECOMMENDER)


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    """
    Raises:
        ValueError: a part to be cut may have fewer items than it is to be cut into.
    """
    if config.clusters > config.largest:
        raise ValueError(
            f"p5_cid cuts parts of more than {config.largest} items (option largest) into {config.clusters} (option "
            "clusters); expected no more clusters than that"
        )
    owned = ownership(corpus)[:, 1:]
    shared = owned.T @ owned
    shared.setdiag(0)
    shared.eliminate_zeros()
    path = torch.from_numpy(paths(shared, config.clusters, config.largest))
    codes = with_suffix(path, config.largest)
    return ItemIndex(codes, tuple((codes.amax(0) + 1).tolist()), path)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    index = tokenize(config, corpus, fit)
    return fit("recommender", lambda: P5Cid(config, index), config.budget(corpus), config.examples(corpus))


def paths(shared: Any, clusters: int, largest: int) -> Int64[np.ndarray, "N L"]:
    """The cluster of each item on each level: clusters of a level are numbered through, items whose way has ended have
    the code 0 where there are any.

    Args:
        shared: `[N, N]` sparse, symmetric: users that two items share; 0 on the diagonal.
    """
    leaves, levels = [np.arange(shared.shape[0])], list[Int64[np.ndarray, "N"]]()
    while not levels or max(map(len, leaves)) > largest:
        codes, found, number = np.zeros(shared.shape[0], dtype=np.int64), list[Int64[np.ndarray, "_"]](), 0
        for leaf in leaves:
            if levels and len(leaf) <= largest:
                found.append(leaf)
                continue
            for part in divided(shared[leaf][:, leaf], clusters, largest):
                number += 1
                codes[leaf[part]] = number
                found.append(leaf[part])
        leaves = found
        levels.append(codes - codes.min())
    return np.stack(levels, 1)


def divided(graph: Any, clusters: int, largest: int) -> Iterator[Int64[np.ndarray, "_"]]:
    """The nodes of a graph in two parts or more if they are more than `largest`."""
    component = connected_components(graph, directed=False)[1]
    size = np.bincount(component)
    for place in np.flatnonzero(size > 1):
        nodes = np.flatnonzero(component == place)
        yield from spectral(graph, nodes, clusters, largest) if len(nodes) > largest else [nodes]
    yield from dealt(np.flatnonzero(size[component] == 1), largest)


def spectral(graph: Any, nodes: Int64[np.ndarray, "M"], clusters: int, largest: int) -> list[Int64[np.ndarray, "_"]]:
    """Clusters of connected nodes; where they are found to be one, no more is known, and they are dealt out."""
    labels = spectral_clustering(
        graph[nodes][:, nodes], n_clusters=clusters, eigen_solver="lobpcg", assign_labels="cluster_qr", random_state=0
    )
    found = [nodes[labels == label] for label in np.unique(labels)]
    return found if len(found) > 1 else dealt(nodes, largest)


def dealt(nodes: Int64[np.ndarray, "M"], largest: int) -> list[Int64[np.ndarray, "_"]]:
    """Nodes in the order in which they come, in as few even parts as are not too large."""
    return np.array_split(nodes, -(-len(nodes) // largest)) if len(nodes) else []


@final
class P5Cid(Recommender):
    def __init__(self, config: Config, index: ItemIndex) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.generator = config.generator(index)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return self.generator.next_item_loss(batch)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)

    def configure_optimizers(self) -> Any:
        return self.config.optimizer(self)
