"""Models learn what was planted, no more than can be known, and nothing where there is nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from benchmarks.evaluate import Grader
from benchmarks.fit import Fit
from data_prep import planted
from data_prep.corpus import Corpus
from data_prep.embed import item_vectors
from leaderboards.metrics import interval, ndcg
from models import sasrec, tiger

# A few epochs of the small configs, picked by a sample of users: enough to see the structure, not to exhaust it.
LONG = {
    "sasrec": dataclasses.replace(sasrec.SMALL, epochs=15, valid_users=500),
    "tiger": dataclasses.replace(tiger.SMALL, tokenizer_epochs=60, steps=360, warmup=50, valid_users=100),
}
SHORT = {
    "sasrec": dataclasses.replace(sasrec.SMALL, epochs=4, valid_users=200),
    "tiger": dataclasses.replace(tiger.SMALL, tokenizer_epochs=20, steps=90, warmup=20, valid_users=100),
}


def per_user_ndcg(name: str, config: Any, corpus: Corpus, folder: Path) -> np.ndarray:
    """`[U]` NDCG@10 on the test part."""
    if getattr(config, "vectors", None):
        corpus = dataclasses.replace(corpus, vectors=item_vectors(corpus, config.vectors, cache=folder / "vectors"))
    recommender = models.load(name).train(config, corpus, Fit(corpus, 0, folder / "fits", name))
    return ndcg(Grader(corpus, "test", k=10)(recommender).ranks, 10)


def popular(corpus: Corpus, folder: Path) -> np.ndarray:
    return per_user_ndcg("popularity", models.load("popularity").SMALL, corpus, folder)


@pytest.mark.parametrize("name", ["sasrec", "tiger"])
def test_planted_structure_is_learned(name: str, planted_corpus: Corpus, tmp_path: Path) -> None:
    score = per_user_ndcg(name, LONG[name], planted_corpus, tmp_path).mean()
    assert score >= 3 * popular(planted_corpus, tmp_path).mean()
    assert score < planted.ceiling(planted_corpus)["ndcg@10"]


@pytest.mark.parametrize("name", ["sasrec", "tiger"])
def test_from_noise_nothing_is_learned(name: str, noise_corpus: Corpus, tmp_path: Path) -> None:
    gain = per_user_ndcg(name, SHORT[name], noise_corpus, tmp_path) - popular(noise_corpus, tmp_path)
    assert interval(gain[None]).low <= 0


def test_popularity_is_far_below_the_ceiling(planted_corpus: Corpus, tmp_path: Path) -> None:
    """Otherwise three times its score would be no structure."""
    assert 0 < 4 * popular(planted_corpus, tmp_path).mean() < planted.ceiling(planted_corpus)["ndcg@10"]
