"""The planted corpus against a pipeline of its own in pandas, and its law against the files' draws."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jaxtyping import Float64, Int64

import data_prep
from data_prep import planted, planted_files
from data_prep.corpus import Corpus, Examples

K = 10


def read(path: Path) -> pd.DataFrame:
    with gzip.open(path, "rt") as lines:
        return pd.DataFrame([json.loads(line) for line in lines])


def drop_rare(reviews: pd.DataFrame) -> pd.DataFrame:
    """One round of the 5-core."""
    users = reviews.groupby("user_id").parent_asin.transform("size")
    items = reviews.groupby("parent_asin").user_id.transform("size")
    return reviews[(users >= 5) & (items >= 5)]


def five_core(reviews: pd.DataFrame) -> pd.DataFrame:
    while len(kept := drop_rare(reviews)) < len(reviews):
        reviews = kept
    return reviews


def as_corpus(reviews: pd.DataFrame, name: str) -> Corpus:
    reviews = reviews.sort_values(["user_id"], kind="stable")
    users, items = np.unique(reviews.user_id), np.unique(reviews.parent_asin)
    flat = np.searchsorted(items, reviews.parent_asin) + 1
    lengths = reviews.groupby("user_id").size().to_numpy()
    return Corpus(name, flat.astype(np.int32), np.append(0, np.cumsum(lengths)), users.tolist(), items.tolist())


@dataclass(frozen=True)
class Planted:
    """Files of one variant, and what an independent preparation makes of them."""

    reviews: pd.DataFrame
    unique: pd.DataFrame
    meta: pd.DataFrame
    corpus: Corpus

    def leaf(self) -> Int64[np.ndarray, "N"]:
        """Leaf of items 1..N as the metadata tell it, numbered in the order of the tree."""
        tree = [[department, shelf, leaf] for department, shelf, leaf in planted.LEAVES]
        places = self.meta.set_index("parent_asin").categories[self.corpus.item_ids]
        return np.array([tree.index(place) for place in places])


@pytest.fixture(scope="module", params=[False, True], ids=["planted", "planted_noise"])
def variant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("planted")
    planted_files.write(root, noise_only=request.param)
    category = "Planted_Noise" if request.param else "Planted"
    reviews = read(root / f"raw/review_categories/{category}.jsonl.gz")
    meta = read(root / f"raw/meta_categories/meta_{category}.jsonl.gz")
    unique = reviews.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "parent_asin"])
    return Planted(reviews, unique, meta, as_corpus(five_core(unique), category.lower()))


def histories(examples: Examples) -> Int64[np.ndarray, "E T"]:
    padded = np.zeros((len(examples), int(examples.length.max())), np.int64)
    for row, (start, stop) in enumerate(zip(examples.start, examples.stop, strict=True)):
        padded[row, : stop - start] = examples.flat[start:stop]
    return padded


def chances(corpus: Corpus, examples: Examples) -> Float64[np.ndarray, "E N"]:
    return planted.law(corpus).next_item(histories(examples))


def gains(order: Int64[np.ndarray, "E N"], target: Int64[np.ndarray, "E"]) -> dict[str, Float64[np.ndarray, "E"]]:
    """Recall@K and NDCG@K of every user, given all items (from 1) best first."""
    rank = 1 + (order == target[:, None]).argmax(1)
    return {"recall@10": (rank <= K) * 1.0, "ndcg@10": np.where(rank <= K, 1 / np.log2(1 + rank), 0.0)}


def popularity_order(corpus: Corpus, examples: Examples) -> Int64[np.ndarray, "E N"]:
    order = 1 + np.argsort(-corpus.training_counts()[1:], kind="stable")
    return np.tile(order, (len(examples), 1))


def test_files_have_the_official_keys(variant: Planted) -> None:
    assert ", ".join(map(str, variant.reviews)) == (
        "rating, title, text, images, asin, parent_asin, user_id, timestamp, helpful_vote, verified_purchase"
    )
    assert ", ".join(map(str, variant.meta)) == (
        "main_category, title, average_rating, rating_number, features, description, price, images, videos, store, "
        "categories, details, parent_asin, bought_together"
    )
    assert variant.meta.parent_asin.is_unique
    assert set(variant.meta.parent_asin) == set(variant.reviews.parent_asin)
    assert (variant.reviews.asin != variant.reviews.parent_asin).all()
    assert variant.reviews.timestamp.between(1_420_070_400_000, 1_750_000_000_000).all()


def test_the_core_is_what_the_law_drew(variant: Planted) -> None:
    corpus = variant.corpus
    assert (corpus.users, corpus.items) == (2_000, 1_000)
    assert np.bincount(corpus.flat)[1:].min() >= 5
    lengths = np.diff(corpus.offsets)
    assert (lengths.min(), lengths.max()) == (5, 16)
    assert 8 < lengths.mean() < 9
    # Every item starts two users: this holds only if no first review was lost and no other one taken for it.
    assert (np.bincount(corpus.flat[corpus.offsets[:-1]])[1:] == 2).all()


def test_every_step_of_the_preparation_matters(variant: Planted) -> None:
    reviews, unique = variant.reviews, variant.unique
    core = set(variant.corpus.user_ids)

    repeats = len(reviews) - len(unique)
    assert 0.02 < repeats / len(unique) < 0.04
    rows_counted_as_different = five_core(reviews)
    assert not set(rows_counted_as_different.user_id) <= core

    latest = reviews.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "parent_asin"], keep="last")
    assert not np.array_equal(as_corpus(five_core(latest), "latest").flat, variant.corpus.flat)

    ties = unique[unique.user_id.isin(core)].duplicated(["user_id", "timestamp"]).sum()
    assert ties > 500
    backwards = reviews.iloc[::-1].sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "parent_asin"])
    assert not np.array_equal(as_corpus(five_core(backwards), "backwards").flat, variant.corpus.flat)

    # 600 passers-by and 180 odd items go at once, 120 stragglers and 40 fads only then.
    once = drop_rare(unique)
    assert (unique.user_id.nunique(), unique.parent_asin.nunique()) == (2_720, 1_220)
    assert (once.user_id.nunique(), once.parent_asin.nunique()) == (2_120, 1_040)

    by_variant = five_core(unique.assign(parent_asin=unique.asin))
    assert len(by_variant) < 0.6 * variant.corpus.interactions


@pytest.mark.slow
def test_the_projects_pipeline_agrees(variant: Planted, tmp_path: Path) -> None:
    corpus = data_prep.load(variant.corpus.name, cache=tmp_path)
    assert np.array_equal(corpus.flat, variant.corpus.flat)
    assert np.array_equal(corpus.offsets, variant.corpus.offsets)
    assert [str(asin) for asin in corpus.item_ids] == variant.corpus.item_ids
    assert [str(user) for user in corpus.user_ids] == variant.corpus.user_ids
    assert planted.ceiling(corpus) == planted.ceiling(variant.corpus)


def test_probabilities(variant: Planted) -> None:
    history = histories(variant.corpus.examples("test"))
    chance = planted.law(variant.corpus).next_item(history)
    assert np.allclose(chance.sum(1), 1, atol=1e-12)
    taken = np.zeros((len(history), variant.corpus.items + 1), bool)
    np.put_along_axis(taken, history, True, axis=1)
    assert np.array_equal(chance == 0, taken[:, 1:])


def test_one_probability_by_hand(variant: Planted) -> None:
    """From the text of the docstring: the last item's leaf is c; the target's c + 13; one item of c + 13 was taken."""
    leaf, noise = variant.leaf(), 1.0 if variant.corpus.name == "planted_noise" else 0.12
    adjectives = [title.split()[0] for title in variant.meta.set_index("parent_asin").title[variant.corpus.item_ids]]
    rank = np.array([1 + planted.ADJECTIVES.index(word) for word in adjectives])
    share = rank**-0.5 / sum(r**-0.5 for r in range(1, 26))

    def item(of_leaf: int, of_rank: int) -> int:
        return 1 + int(np.flatnonzero((leaf == of_leaf) & (rank == of_rank))[0])

    last, seen, target = item(4, 7), item(17, 1), item(17, 3)
    to_17, to_4 = (1 - noise) * 0.72 + noise / 40, noise / 40
    left = 1 - to_17 * share[seen - 1] - to_4 * share[last - 1]
    chance = planted.law(variant.corpus).next_item(np.array([[seen, last, 0]]))
    assert chance[0, target - 1] == pytest.approx(to_17 * share[target - 1] / left, rel=1e-12)


def test_draws_follow_the_law(variant: Planted) -> None:
    """Surprise of what happened, over all steps of all users, is the law's entropy within four standard errors."""
    corpus = variant.corpus
    parts = [corpus.examples(part) for part in ("train", "valid", "test")]
    excess, spread, count = 0.0, 0.0, 0
    for examples in parts:
        chance = chances(corpus, examples)
        surprise = -np.log(np.where(chance > 0, chance, 1))
        mean = (chance * surprise).sum(1)
        happened = surprise[np.arange(len(examples)), examples.target - 1]
        assert (chance[np.arange(len(examples)), examples.target - 1] > 0).all()
        excess += float((happened - mean).sum())
        spread += float(((chance * surprise**2).sum(1) - mean**2).sum())
        count += len(examples)
    assert count == corpus.interactions - corpus.users
    assert abs(excess) < 4 * np.sqrt(spread)


def test_moves_between_leaves(variant: Planted) -> None:
    """Shares of the steps c -> c + s counted from the metadata's leaves."""
    leaf = variant.leaf()
    flat, offsets = variant.corpus.flat, variant.corpus.offsets
    inside = np.setdiff1d(np.arange(1, len(flat)), offsets)
    steps = (leaf[flat[inside] - 1] - leaf[flat[inside - 1] - 1]) % 40
    noise = 1.0 if variant.corpus.name == "planted_noise" else 0.12
    for step, share in {13: 0.72, 22: 0.20, 31: 0.08, 1: 0.0}.items():
        expected = (1 - noise) * share + noise / 40
        error = np.sqrt(expected * (1 - expected) / len(steps))
        # Items struck out shift the shares a little: hence the second term.
        assert np.mean(steps == step) == pytest.approx(expected, abs=4 * error + 0.002)


def test_ceiling_agrees_with_draws_from_the_law(variant: Planted) -> None:
    corpus = variant.corpus
    chance = chances(corpus, corpus.examples("test"))
    order = 1 + np.argsort(-chance, axis=1, kind="stable")
    ceiling = planted.ceiling(corpus)
    rng = np.random.default_rng(0)
    targets = [1 + (chance.cumsum(1) < rng.random((len(chance), 1))).sum(1) for _ in range(20)]
    drawn = [gains(order, target) for target in targets]
    actual = gains(order, corpus.examples("test").target.astype(np.int64))
    for metric in actual:
        sample = np.concatenate([draw[metric] for draw in drawn])
        assert sample.mean() == pytest.approx(ceiling[metric], abs=3 * sample.std() / np.sqrt(len(sample)))
        assert actual[metric].mean() == pytest.approx(ceiling[metric], abs=3 * sample.std() / np.sqrt(corpus.users))


def test_ceiling_grows_with_the_cut(variant: Planted) -> None:
    ceiling = planted.ceiling(variant.corpus)
    assert list(ceiling) == [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (5, 10, 20, 50)]
    for metric in ("recall", "ndcg"):
        values = [ceiling[f"{metric}@{k}"] for k in (5, 10, 20, 50)]
        assert values == sorted(values)
        assert 0 < values[0] < values[-1] < 1


def test_structure_can_be_learned_where_there_is_some(variant: Planted) -> None:
    """Counted moves between leaves times counted popularity: near the ceiling; on noise no better than popularity."""
    corpus, leaf = variant.corpus, variant.leaf()
    train, test = corpus.examples("train"), corpus.examples("test")
    moves = np.full((40, 40), 0.1)
    np.add.at(moves, (leaf[train.last_item - 1], leaf[train.target - 1]), 1)
    counts = corpus.training_counts()[1:] + 1.0
    within = counts / np.bincount(leaf, counts)[leaf]
    score = (moves / moves.sum(1, keepdims=True))[leaf[test.last_item - 1]][:, leaf] * within
    score *= planted.law(corpus).next_item(histories(test)) > 0  # the no-repeat rule needs no learning
    target = test.target.astype(np.int64)
    learned = gains(1 + np.argsort(-score, axis=1, kind="stable"), target)["ndcg@10"]
    popular = gains(popularity_order(corpus, test), target)["ndcg@10"]
    ceiling = planted.ceiling(corpus)["ndcg@10"]
    if corpus.name == "planted":
        assert ceiling > 6 * popular.mean()
        assert learned.mean() > 0.75 * ceiling
        assert 0.005 < popular.mean() < 0.03
        assert 0.15 < ceiling < 0.30
    else:
        difference = learned - popular
        assert difference.mean() < 2 * difference.std() / np.sqrt(len(difference))
        assert ceiling < 0.03


def test_another_corpus_has_no_law(variant: Planted) -> None:
    stranger = replace(variant.corpus, name="all_beauty", item_ids=[f"B{n:09d}" for n in range(1_000)])
    with pytest.raises(ValueError, match="corpus all_beauty: its 1000 items are not the 1000 of the planted catalogue"):
        planted.law(stranger)


def test_the_law_needs_a_history(variant: Planted) -> None:
    with pytest.raises(ValueError, match="history 1 is empty"):
        planted.law(variant.corpus).next_item(np.array([[3, 4], [0, 0]]))
