"""Leave-one-out examples by hand on three users, and what the fingerprint notices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus import Corpus, Examples, ItemCodes, ItemVectors, source_name
from tests import factories

SEQUENCES = [[1, 2, 3, 4, 5], [2, 2, 6], [6, 5, 4, 3]]
TEXT = ["red", "blue", "green", "teal", "grey", "pink"]
corpus_of = partial(factories.corpus_of, items=6)


def pairs(examples: Examples) -> list[tuple[int, list[int], int]]:
    """User, history, target."""
    rows = zip(examples.user, examples.start, examples.stop, strict=True)
    return [(int(user), examples.flat[start:stop].tolist(), int(examples.flat[stop])) for user, start, stop in rows]


CORPUS = corpus_of(SEQUENCES)
# User 1 has one training item, and so no training pair.
TRAIN = [(0, [1], 2), (0, [1, 2], 3), (2, [6], 5)]


def test_examples_by_hand() -> None:
    assert pairs(CORPUS.examples("train")) == TRAIN
    assert pairs(CORPUS.examples("valid")) == [(0, [1, 2, 3], 4), (1, [2], 2), (2, [6, 5], 4)]
    assert pairs(CORPUS.examples("test")) == [(0, [1, 2, 3, 4], 5), (1, [2, 2], 6), (2, [6, 5, 4], 3)]
    assert pairs(CORPUS.examples("items")) == [(item - 1, [], item) for item in range(1, 7)]
    assert repr(CORPUS) == "<Corpus hand: 3 users, 6 items, 12 interactions>"


def test_views_of_examples() -> None:
    train = CORPUS.examples("train")
    assert len(train) == 3
    assert train.target.tolist() == [2, 3, 5]
    assert train.last_item.tolist() == [1, 2, 6]
    assert train.length.tolist() == [1, 2, 1]
    assert pairs(train.take(np.array([2, 0]))) == [TRAIN[2], TRAIN[0]]
    assert CORPUS.examples("items").last_item.tolist() == [0] * 6
    assert train.flat is CORPUS.flat


def test_longest_per_user() -> None:
    assert pairs(CORPUS.examples("train").longest_per_user()) == [(0, [1, 2], 3), (2, [6], 5)]
    assert pairs(CORPUS.examples("test").longest_per_user()) == pairs(CORPUS.examples("test"))
    none = corpus_of([[1, 2, 3], [4, 5, 6]]).examples("train")
    assert len(none) == len(none.longest_per_user()) == 0


@given(st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=9), min_size=1, max_size=4), st.integers(1, 7))
def test_from_every_start_has_each_run_of_training_items_once(sequences: list[list[int]], longest: int) -> None:
    """Runs of one item more than a history may have, at most."""
    parts = [(user, full[:-2]) for user, full in enumerate(sequences)]
    runs = [(user, part[a:b], part[b]) for user, part in parts for b in range(len(part)) for a in range(b)]
    found = pairs(corpus_of(sequences).examples("train").from_every_start(longest))
    assert sorted(found) == sorted(run for run in runs if len(run[1]) <= longest)


@given(st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=9), min_size=1, max_size=6))
def test_parts_are_leave_one_out(sequences: list[list[int]]) -> None:
    corpus = corpus_of(sequences)
    numbered = list(enumerate(sequences))
    train = [(user, full[:end], full[end]) for user, full in numbered for end in range(1, len(full) - 2)]
    assert pairs(corpus.examples("train")) == train
    assert pairs(corpus.examples("valid")) == [(user, full[:-2], full[-2]) for user, full in numbered]
    assert pairs(corpus.examples("test")) == [(user, full[:-1], full[-1]) for user, full in numbered]
    longest = {user: (user, history, target) for user, history, target in train}
    assert pairs(corpus.examples("train").longest_per_user()) == list(longest.values())
    training = [item for full in sequences for item in full[:-2]]
    assert corpus.training_counts().tolist() == [training.count(item) for item in range(7)]


def test_training_counts_by_hand() -> None:
    # Training parts: 1 2 3, 2, 6 5.
    assert CORPUS.training_counts().tolist() == [0, 1, 2, 1, 0, 1, 1]


def test_without_the_test_part_by_hand() -> None:
    corpus = corpus_of(SEQUENCES, item_text=TEXT)
    seen = corpus.without_test()
    assert (seen.flat.tolist(), seen.offsets.tolist()) == ([1, 2, 3, 4, 2, 2, 6, 5, 4], [0, 4, 6, 9])
    assert (str(seen.flat.dtype), str(seen.offsets.dtype), seen.flat.base) == ("int32", "int64", None)
    assert (seen.users, seen.item_ids, seen.item_text) == (3, corpus.item_ids, TEXT)
    assert pairs(seen.examples("items")) == pairs(corpus.examples("items"))
    with pytest.raises(ValueError, match=r"hand is here without its test part, .*; possible: train, valid, items"):
        seen.examples("test")
    with pytest.raises(ValueError, match="corpus hand is here without its test part; users are split off the whole"):
        seen.split_users(0.5)
    with pytest.raises(ValueError, match="corpus hand: a user has 1 interactions; leave-one-out needs at least 2"):
        replace(seen, offsets=np.array([0, 4, 8, 9]))


@given(st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=9), min_size=1, max_size=6))
def test_without_the_test_part_all_else_is_as_it_was(sequences: list[list[int]]) -> None:
    corpus = corpus_of(sequences)
    seen = corpus.without_test()
    assert pairs(seen.examples("train")) == pairs(corpus.examples("train"))
    assert pairs(seen.examples("valid")) == pairs(corpus.examples("valid"))
    assert seen.training_counts().tolist() == corpus.training_counts().tolist()
    assert seen.fingerprint == corpus.fingerprint
    assert seen.without_test() is seen
    assert replace(seen, vectors=None).fingerprint == corpus.fingerprint


def test_example_hashes_tell_examples_apart() -> None:
    parts = [CORPUS.examples("train"), CORPUS.examples("valid"), CORPUS.examples("test"), CORPUS.examples("items")]
    parts.append(CORPUS.examples("train").longest_per_user())
    parts.append(corpus_of([[1, 2, 6, 4, 5], *SEQUENCES[1:]]).examples("train"))
    assert len({part.sha256() for part in parts}) == len(parts)
    assert corpus_of(SEQUENCES).examples("train").sha256() == CORPUS.examples("train").sha256()


def test_fingerprint_notices_every_change() -> None:
    corpus = corpus_of(SEQUENCES, item_text=TEXT)
    changed = [
        corpus_of([[1, 3, 2, 4, 5], *SEQUENCES[1:]], item_text=TEXT),  # order
        corpus_of([[1, 2, 3, 4], [5, 2, 2, 6], SEQUENCES[2]], item_text=TEXT),  # where a user ends
        replace(corpus, user_ids=["u0", "u1", "u9"]),
        replace(corpus, user_ids=["u1", "u0", "u2"]),
        replace(corpus, item_ids=["i0", "i1", "i2", "i3", "i4", "i9"]),
        replace(corpus, item_ids=["i0i", "1", "i2", "i3", "i4", "i5"]),  # the same letters
        replace(corpus, item_text=["red", "blue", "green", "teal", "gray", "pink"]),
        replace(corpus, item_text=["red", "blue", "green", "grey", "teal", "pink"]),
        replace(corpus, item_text=["", *TEXT[1:]]),
        corpus_of(SEQUENCES),
    ]
    assert len({corpus.fingerprint, *(other.fingerprint for other in changed)}) == len(changed) + 1


def test_fingerprint_is_of_content_alone() -> None:
    corpus = corpus_of(SEQUENCES, item_text=TEXT)
    same = Corpus(
        "another name",
        corpus.flat.copy(),
        corpus.offsets.copy(),
        pa.array(corpus.user_ids),
        pa.chunked_array([corpus.item_ids[:2], corpus.item_ids[2:]]),
        pa.array(TEXT, pa.large_string()),
        card={"steps": []},
    )
    assert same.fingerprint == corpus.fingerprint
    assert same.sequences_sha256 == corpus.sequences_sha256 == corpus_of(SEQUENCES).sequences_sha256
    assert corpus_of([[1, 3, 2, 4, 5], *SEQUENCES[1:]]).sequences_sha256 != corpus.sequences_sha256


def test_users_split_by_hand() -> None:
    # Lengths 5, 3, 4, 3: the second and the last user have the least history.
    whole = corpus_of([*SEQUENCES, [1, 1, 4]], item_text=TEXT, card={"origin": "local"})
    seen, unseen = whole.split_users(0.5)
    assert (seen.flat.tolist(), seen.offsets.tolist()) == ([1, 2, 3, 4, 5, 6, 5, 4, 3], [0, 5, 9])
    assert (unseen.flat.tolist(), unseen.offsets.tolist()) == ([2, 2, 6, 1, 1, 4], [0, 3, 6])
    assert (list(seen.user_ids), list(unseen.user_ids)) == (["u0", "u2"], ["u1", "u3"])
    assert (seen.name, unseen.name) == ("hand", "hand_unseen_users")
    for half in (seen, unseen):
        assert (half.item_ids, half.item_text, half.card) == (whole.item_ids, whole.item_text, whole.card)
        assert (str(half.flat.dtype), str(half.offsets.dtype)) == ("int32", "int64")
    assert pairs(unseen.examples("test")) == [(0, [2, 2], 6), (1, [1, 1], 4)]
    # The smaller index goes first.
    assert list(whole.split_users(0.25)[1].user_ids) == ["u1"]


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=6), min_size=2, max_size=8),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_a_split_is_that_of_a_sorted_list(sequences: list[list[int]], share: float) -> None:
    count = min(max(round(share * len(sequences)), 1), len(sequences) - 1)
    first = sorted(sorted(range(len(sequences)), key=lambda user: (len(sequences[user]), user))[:count])
    rest = [user for user in range(len(sequences)) if user not in first]
    halves = corpus_of(sequences).split_users(share)
    for half, users in zip(halves, (rest, first), strict=True):
        parts = np.split(half.flat, half.offsets[1:-1])
        assert [part.tolist() for part in parts] == [sequences[user] for user in users]
        assert list(half.user_ids) == [f"u{user}" for user in users]


def test_unseen_users_have_a_fingerprint_of_both_halves() -> None:
    seen, unseen = CORPUS.split_users(0.3)
    alike = corpus_of([SEQUENCES[1]])
    alike = replace(alike, user_ids=["u1"])
    assert unseen.sequences_sha256 == alike.sequences_sha256
    assert unseen.fingerprint != alike.fingerprint
    assert seen.fingerprint == replace(corpus_of([SEQUENCES[0], SEQUENCES[2]]), user_ids=["u0", "u2"]).fingerprint
    others = corpus_of([[1, 2, 3, 5, 4], *SEQUENCES[1:]]).split_users(0.3)[1]
    assert others.sequences_sha256 == unseen.sequences_sha256
    assert others.fingerprint != unseen.fingerprint


def test_users_in_arrow_are_split_like_users_in_a_list() -> None:
    in_arrow = replace(CORPUS, user_ids=pa.chunked_array([["u0"], ["u1", "u2"]]))
    for half, expected in zip(in_arrow.split_users(0.3), CORPUS.split_users(0.3), strict=True):
        assert half.fingerprint == expected.fingerprint


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ValueError, match="corpus hand cannot be split at a share of"):
        CORPUS.split_users(share)


def test_one_user_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="corpus hand has 1 user; a split needs at least 2"):
        corpus_of(SEQUENCES[:1]).split_users(0.5)


# Moments of the interactions of SEQUENCES; the last user is not there any more at 50.
TIMES = np.array([10, 20, 30, 50, 60, 40, 50, 50, 10, 20, 30, 40])
TIMED = corpus_of(SEQUENCES, times=TIMES, card={"origin": "drawn", "steps": []})


def test_a_cut_in_time_by_hand() -> None:
    """User 0 goes on with item 4, the first at the cut; user 1 has one item before it, too few to train and choose."""
    found = TIMED.global_time(50)
    assert found.name == found.trained_on.name == "hand_global_time"
    assert pairs(found.examples("test")) == [(0, [1, 2, 3], 4)]
    assert pairs(found.examples("valid")) == [(0, [1, 2], 3)]
    assert list(found.user_ids) == ["u0"]
    learned = found.trained_on
    assert list(learned.user_ids) == ["u0", "u2"]
    assert pairs(learned.examples("train")) == [(0, [1], 2), (1, [6], 5), (1, [6, 5], 4)]
    assert pairs(learned.examples("valid")) == [(0, [1, 2], 3), (1, [6, 5, 4], 3)]
    assert learned.training_counts().tolist() == [0, 1, 1, 0, 1, 1, 1]
    assert learned.without_test() is learned
    with pytest.raises(ValueError, match="is here without its test part"):
        learned.examples("test")
    assert (found.items, found.card["origin"]) == (6, "drawn, cut at 50")
    assert [tuple(step.values()) for step in found.card["steps"]] == [
        ("before the cut", 2, 6, 7),
        ("up to the first after it", 1, 4, 4),
    ]


def test_what_lies_before_a_cut_is_in_the_fingerprint() -> None:
    """User 2, who does not go on and is not graded, is learned from; of the same items in another number."""
    moved = np.array([*TIMES[:-1], 60])
    assert TIMED.fingerprint == (other := corpus_of(SEQUENCES, times=moved, card=TIMED.card)).fingerprint
    assert TIMED.global_time(50).fingerprint != other.global_time(50).fingerprint


def test_nothing_learned_is_later_than_what_is_asked_for(planted_corpus: Corpus) -> None:
    assert planted_corpus.times is not None
    cut = int(np.quantile(planted_corpus.times, 0.8))
    found = planted_corpus.global_time(cut)
    assert found.times is not None
    assert found.trained_on.times is not None
    assert 0 < found.users < found.trained_on.users <= planted_corpus.users
    assert found.trained_on.times.max() < cut <= found.times[found.offsets[1:] - 1].min()
    # The same item, whether the users are those that are graded or those that are learned from.
    assert set(found.user_ids) < set(found.trained_on.user_ids)
    place = np.flatnonzero(np.isin(found.trained_on.user_ids, found.user_ids))
    for one, other in zip(
        found.examples("valid").target, found.trained_on.examples("valid").target[place], strict=True
    ):
        assert one == other


def test_the_fingerprint_of_a_cut_is_of_all_that_is_learned() -> None:
    found = TIMED.global_time(50)
    others = corpus_of([*SEQUENCES[:2], [6, 5, 3, 4]], times=TIMES, card=TIMED.card).global_time(50)
    np.testing.assert_array_equal(found.flat, others.flat)
    assert len({each.fingerprint for each in (TIMED, found, others, found.trained_on, others.trained_on)}) == 5
    assert TIMED.trained_on is TIMED


def test_what_cannot_be_cut_is_told(planted_corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="corpus hand has an order and no times; expected times, to cut it"):
        CORPUS.global_time(50)
    with pytest.raises(ValueError, match="corpus hand: no user has two items before 61 and one from then on"):
        TIMED.global_time(61)
    found = TIMED.global_time(50)
    with pytest.raises(ValueError, match="hand_global_time is cut; expected _shuffled_ties as the first"):
        found.shuffled_ties()
    with pytest.raises(ValueError, match="hand_global_time has no users to split off"):
        found.split_users(0.5)
    for cut in (found, planted_corpus.cold_items()):
        with pytest.raises(ValueError, match=f"corpus {cut.name} is cut; expected a whole one, to cut it at a moment"):
            cut.global_time(55)


def test_cold_items_by_hand() -> None:
    """Of the targets 4, 5 and 6 one is drawn; it leaves all histories, and who asks for another one is not graded."""
    corpus = corpus_of([[1, 2, 3, 5], [5, 1, 4, 2, 6], [5, 2, 4], [1, 4, 5]], card={"origin": "drawn", "steps": []})
    cold = int(next(seed for seed in range(9) if list(corpus.cold_items(0.2, seed).examples("test").target) == [5, 5]))
    found = corpus.cold_items(0.2, cold)
    assert found.name == found.trained_on.name == "hand_cold_items"
    assert pairs(found.examples("test")) == [(0, [1, 2, 3], 5), (1, [1, 4], 5)]
    assert list(found.user_ids) == ["u0", "u3"]
    learned = found.trained_on
    # User 2 has one item besides the cold one and the target: too few to train on and to choose by.
    assert list(learned.user_ids) == ["u0", "u1", "u3"]
    assert pairs(learned.examples("train")) == [(0, [1], 2), (1, [1], 4)]
    assert pairs(learned.examples("valid")) == [(0, [1, 2], 3), (1, [1, 4], 2), (2, [1], 4)]
    assert learned.training_counts()[5] == 0
    assert (found.items, found.card["origin"]) == (6, "drawn, 1 cold items")
    assert len({each.fingerprint for each in (corpus, found, learned, corpus.cold_items(0.2, cold + 1))}) == 4


def test_cold_items_are_drawn_once_for_all(planted_corpus: Corpus) -> None:
    found, other = planted_corpus.cold_items(), planted_corpus.cold_items(seed=1)
    cold = np.unique(found.examples("test").target)
    assert not np.isin(cold, found.trained_on.flat).any()
    assert found.fingerprint == planted_corpus.cold_items().fingerprint != other.fingerprint
    targets = np.unique(planted_corpus.examples("test").target)
    assert len(cold) == round(0.05 * len(targets))
    untouched = np.setdiff1d(targets, cold)
    assert not np.isin(untouched, found.examples("test").target).any()


def test_cold_items_of_what_is_no_whole_corpus_are_refused() -> None:
    with pytest.raises(ValueError, match="hand_cold_items is cut already; expected a whole one"):
        TIMED.cold_items().cold_items()
    with pytest.raises(ValueError, match="corpus hand is cut already"):
        TIMED.without_test().cold_items()
    with pytest.raises(ValueError, match=r"a share of 1\.0; expected more than 0, below 1"):
        TIMED.cold_items(1.0)
    with pytest.raises(ValueError, match="no user with one of 1 cold items has two others before it"):
        corpus_of([[1, 1, 1], [1, 2, 1]]).cold_items(0.5)


@pytest.mark.parametrize(
    "name",
    [
        "hand",
        "hand_unseen_users",
        "hand_shuffled_ties_global_time",
        "hand_global_time",
        "hand_shuffled_ties_cold_items",
    ],
)
def test_a_derived_name_tells_its_source(name: str) -> None:
    assert source_name(name) == "hand"


@pytest.mark.parametrize(("sequences", "shortest"), [([[1, 2, 3], [4, 5]], 2), ([[1, 2, 3], []], 0), ([], 0)])
def test_too_short_users(sequences: list[list[int]], shortest: int) -> None:
    with pytest.raises(ValueError, match=f"corpus hand: a user has {shortest} interactions; .* needs at least 3"):
        corpus_of(sequences)


def test_item_vectors_are_the_experiments() -> None:
    for field, ask in (("vectors", CORPUS.item_vectors), ("collaborative", CORPUS.collaborative_vectors)):
        with pytest.raises(ValueError, match=f"corpus hand was given no {field}; .* a Config field `{field}`"):
            ask()
    values, trained = np.zeros((7, 2), dtype=np.float32), np.ones((7, 3), dtype=np.float32)
    chosen = replace(
        CORPUS,
        vectors=ItemVectors(values, "npz", "file.npz", "0" * 64, stand_in=False),
        collaborative=ItemVectors(trained, "sasrec-3", "SASRec", "1" * 64, stand_in=False),
    )
    assert chosen.item_vectors() is values
    assert chosen.collaborative_vectors() is trained
    assert chosen.fingerprint == CORPUS.fingerprint


def test_item_codes_are_the_experiments() -> None:
    with pytest.raises(ValueError, match="was given no codes; a model that wants them has a Config field `codes`"):
        CORPUS.item_codes()
    codes = ItemCodes(np.zeros((CORPUS.items, 2), dtype=np.int64), (3, 3), "file.tsv", "a" * 64)
    assert replace(CORPUS, codes=codes).item_codes() is codes


def test_categories_by_hand() -> None:
    named = [["Tools", "Saws"], ["Art"], [], ["Saws", "Tools", "Saws"], ["Art", "Tools"], []]
    corpus = corpus_of(SEQUENCES, item_categories=named)
    # Art 1, Saws 2, Tools 3.
    expected = [[0, 0], [3, 2], [1, 0], [0, 0], [2, 3], [1, 3], [0, 0]]
    assert corpus.categories().tolist() == corpus.without_test().categories().tolist() == expected
    assert replace(corpus, item_categories=pa.array(named)).categories().tolist() == expected
    assert corpus.fingerprint == corpus_of(SEQUENCES).fingerprint


@pytest.mark.parametrize("named", [None, [[]] * 6])
def test_a_corpus_without_categories_says_so(named: list[list[str]] | None) -> None:
    with pytest.raises(ValueError, match=r"corpus hand has no item categories; expected item metadata with .*planted"):
        corpus_of(SEQUENCES, item_categories=named).categories()
