"""Diagnostics of a corpus by hand, and ties in a drawn order."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import data_prep
from benchmarks.training.fit import Fit
from data_prep.corpus import Corpus
from data_prep.diagnostics import described, diagnose
from data_prep.prepare import committed_card
from models import transitions
from tests.factories import corpus_of


def corpus(times: list[list[int]] | None = None) -> Corpus:
    told = None if times is None else np.concatenate(times).astype(np.int64)
    return corpus_of(SEQUENCES, 5, times=told)


# Trained on: 1>2, 1>3, 1>2 of the first two users; 4>1 of the third, whose first item comes again.
SEQUENCES = [[1, 2, 5, 3], [1, 3, 1, 2, 4, 1, 3], [4, 1, 4, 5]]
TIMES = [[0, 0, 1, 9], [0, 1, 1, 1, 2, 3, 4], [5, 6, 7, 4]]


def test_facts_by_hand() -> None:
    facts = diagnose(corpus(TIMES))
    # 1<2<5>3, 1<3>1<2<4>1<3, 4>1<4<5.
    assert facts["ascending_ids"] == pytest.approx(8 / 12)
    # 0=0, 1=1=1.
    assert facts["equal_times"] == pytest.approx(3 / 12)
    # Item 1 of the second user, twice, and its 3; item 4 of the third.
    assert facts["repeats"] == pytest.approx(4 / 15)
    # In training: 1, 2 / 1, 3, 1, 2, 4 / 4, 1: four times 1, twice 2, twice 4, once 3.
    assert facts["top_items"] == pytest.approx(4 / 9)
    pairs = [abs(a - b) for a in (4, 2, 2, 1, 0) for b in (4, 2, 2, 1, 0)]
    assert facts["gini"] == pytest.approx(sum(pairs) / (2 * 5 * 9))
    # 5>3 no; 1>3 yes, after 1>2; 4>5 no.
    assert facts["seen_transitions"] == facts["followers_recall"] == pytest.approx(1 / 3)
    # Training ends at 6, of the third user; targets are at 9, 4 and 4.
    assert facts["after_training"] == pytest.approx(1 / 3)


def test_an_order_alone_has_no_times() -> None:
    facts = diagnose(corpus())
    assert (facts["order"], facts["equal_times"], facts["after_training"]) == ("order only", None, None)
    assert not any("times" in label or "later" in label for label in described(facts))


def test_nothing_followed_where_nobody_has_two_items_to_train_on() -> None:
    facts = diagnose(corpus_of([[1, 2, 3], [3, 1, 2]], 3))
    assert (facts["seen_transitions"], facts["followers_recall"]) == (0, 0)


def test_the_place_among_followers_is_that_of_the_model_that_counts(planted_corpus: Corpus, in_memory: Fit) -> None:
    model = transitions.train(transitions.Config(two_hops=False), planted_corpus.without_test(), in_memory)
    test = planted_corpus.examples("test")
    lists = model.rank(torch.from_numpy(test.last_item.astype(np.int64))[:, None], 10).items.numpy()
    hit = (lists == test.target[:, None]).any(1)
    facts = diagnose(planted_corpus)
    # The model fills its lists up with popular items, which may hit where nothing has followed.
    assert facts["followers_recall"] <= hit.mean() <= facts["followers_recall"] + 0.02


def test_ties_are_shuffled_and_nothing_else(planted_corpus: Corpus, workplace: Path) -> None:
    shuffled = data_prep.load("planted_shuffled_ties", cache=workplace / "runs/corpora")
    assert planted_corpus.times is not None
    assert shuffled.name == "planted_shuffled_ties"
    assert shuffled.fingerprint != planted_corpus.fingerprint == replace(shuffled, flat=planted_corpus.flat).fingerprint
    moved = np.flatnonzero(shuffled.flat != planted_corpus.flat)
    assert 0 < len(moved) < planted_corpus.interactions / 10
    user = np.repeat(np.arange(planted_corpus.users), np.diff(planted_corpus.offsets))
    moment = np.stack([user, planted_corpus.times])
    tied = (moment[:, 1:] == moment[:, :-1]).all(0)
    assert np.isin(moved, np.concatenate([np.flatnonzero(tied), np.flatnonzero(tied) + 1])).all()
    # At each moment a user has the same items.
    one, other = (
        corpus.flat[np.lexsort((corpus.flat, planted_corpus.times, user))] for corpus in (planted_corpus, shuffled)
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(shuffled.flat, planted_corpus.shuffled_ties().flat)
    assert (shuffled.flat != planted_corpus.shuffled_ties(seed=1).flat).any()
    with pytest.raises(ValueError, match="hand has an order and no times"):
        corpus().shuffled_ties()


def test_times_stay_with_their_interactions(planted_corpus: Corpus) -> None:
    assert planted_corpus.times is not None
    user = np.repeat(np.arange(planted_corpus.users), np.diff(planted_corpus.offsets))
    assert (np.diff(planted_corpus.times)[np.diff(user) == 0] >= 0).all()
    for part in planted_corpus.split_users(0.1):
        assert part.times is not None
        assert len(part.times) == part.interactions


def test_a_million_interactions_take_seconds() -> None:
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 1_000_001, 8, dtype=np.int64)
    large = Corpus(
        "large", rng.integers(1, 100_001, 1_000_000).astype(np.int32), offsets, range(len(offsets) - 1), range(100_000),
        times=np.sort(rng.integers(0, 1000, (len(offsets) - 1, 8)), axis=1).ravel(),
    )  # fmt: skip
    started = time.process_time()
    assert 0 < diagnose(large)["equal_times"] < 0.05
    print(f"diagnostics of 1,000,000 interactions: {time.process_time() - started:.1f} s of processor time")


@pytest.mark.parametrize("name", ["planted", "all_beauty", "beauty_2014", "toys_2014", "musical_instruments"])
def test_a_committed_card_has_the_diagnostics_of_its_corpus(
    name: str, workplace: Path, request: pytest.FixtureRequest
) -> None:
    if name != "planted":
        request.getfixturevalue("real_data")
    loaded = data_prep.load(name, cache=workplace / "runs/corpora")
    assert committed_card(name)["diagnostics"] == described(diagnose(loaded))
