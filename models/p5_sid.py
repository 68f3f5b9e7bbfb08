"""P5-SID: sequential item ids (Hua et al., How to Index Item IDs for Recommendation Foundation Models, SIGIR-AP 2023,
arXiv 2305.06569).

Sequential indexing: items are numbered by their first appearance along the users' training sequences, one user after
the other, so that items of one user have near numbers, and near numbers share their first tokens. Validation and test
items are not looked at: with them, as in the first P5, the number of a target would tell whose it is.

The recommender is TIGER's, which reads and generates the codes. Left out: P5's prompts, its user tokens and the weights
of a language model. Reconstructed: a number is cut into its digits to a `base` (the paper: into pieces by T5's
SentencePiece); users are taken in the corpus's order (the paper also by time, by length and at random); items without a
training interaction have the last numbers, in order of their ids.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0319, R@10 .0438, N@5 .0237, N@10 .0275.

    make bench MODELS=p5_sid CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from models.api import Batch, Corpus, Fit, Ranking, Recommender, Several
from models.parts.index import ItemIndex
from models.parts.recommender_config import SMALL_RECOMMENDER, RecommenderConfig

OPEN = "how a number is cut into tokens (there SentencePiece does), and the order of users, where no times are known"


@dataclass(frozen=True)
class Config(RecommenderConfig):
    base: Several = 256
    """Of the digits, which are the codes. Two of 256 values number 65,536 items."""


SMALL = Config(base=32, **SMALL_RECOMMENDER)


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    codes = torch.from_numpy(digits(first_appearance(corpus), config.base))
    sizes = tuple((codes.amax(0) + 1).tolist())
    return ItemIndex(torch.nn.functional.pad(codes, (0, 0, 1, 0), value=-1), sizes)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    index = tokenize(config, corpus, fit)
    return fit("recommender", lambda: P5Sid(config, index), config.budget(corpus), config.examples(corpus))


def first_appearance(corpus: Corpus) -> Int64[np.ndarray, "N"]:
    """Numbers of items 1..N, from 0: by first appearance in training, then by id."""
    seen, first = np.unique(corpus.flat[corpus.in_training()], return_index=True)
    order = np.append(seen[first.argsort()], np.setdiff1d(np.arange(1, corpus.items + 1), seen))
    return order.argsort()


def digits(numbers: Int64[np.ndarray, "N"], base: int) -> Int64[np.ndarray, "N L"]:
    """Numbers below N to a base, the highest digit first; no more digits than the largest has."""
    places = [1]
    while places[0] * base < len(numbers):
        places.insert(0, places[0] * base)
    return numbers[:, None] // np.array(places) % base


@final
class P5Sid(Recommender):
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
