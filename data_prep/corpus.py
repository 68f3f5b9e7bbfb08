"""Corpus, Examples, Batch: what a model may see of the data.

Shape letters are those of `models/api.py`: `B` users in a batch, `T` history length, `N` items (ids 1..N, 0 is
padding), `I` = N+1 rows, `F` item-vector width; here also `U` users, `M` interactions, `E` examples, `C` categories of
an item.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64
from torch import Tensor

Part = Literal["train", "valid", "test", "items"]
VectorKind = Literal["sentence-t5-base", "tfidf", "npz", "folder"]
# Item vectors that the harness trains on the training part: a SASRec's, with their width.
TrainedKind = Literal["sasrec-32", "sasrec-64", "sasrec-128", "sasrec-256"]

# Interactions that the later parts take from the end of a user's whole sequence: last = test, second last = validation.
HELD_OUT = 2
# The shortest sequence that can be split: one to train on, one to validate, one to test.
SHORTEST = HELD_OUT + 1
# Ends the name of a corpus whose users were split off, see `Corpus.split_users`.
UNSEEN_USERS = "_unseen_users"
# Ends the name of a corpus in which items at equal times are in a drawn order, see `Corpus.shuffled_ties`.
SHUFFLED_TIES = "_shuffled_ties"
# Ends the name of a corpus that is cut at one moment for all users, see `Corpus.global_time`.
GLOBAL_TIME = "_global_time"
# Ends the name of a corpus whose test targets no model has seen, see `Corpus.cold_items`.
COLD_ITEMS = "_cold_items"


def source_name(name: str) -> str:
    """The name of the corpus that one with this name was made from."""
    for suffix in (UNSEEN_USERS, COLD_ITEMS, GLOBAL_TIME, SHUFFLED_TIES):
        name = name.removesuffix(suffix)
    return name


class Batch(NamedTuple):
    """The only thing that crosses from the data to a model while it trains.

    Attributes:
        user: `[B]` user index, 0..U-1.
        history: `[B, T]` item ids, oldest first, right-padded with 0.
        target: `[B]` item id that follows the history.
    """

    user: Tensor
    history: Tensor
    target: Tensor


@dataclass(frozen=True)
class Examples:
    """Pairs (history, next item) as views on one flat item array: no history is ever copied.

    Example `e` has the history `flat[start[e]:stop[e]]` and the target `flat[stop[e]]`.
    """

    flat: Int32[np.ndarray, "M"]
    user: Int64[np.ndarray, "E"]
    start: Int64[np.ndarray, "E"]
    stop: Int64[np.ndarray, "E"]

    def __len__(self) -> int:
        return len(self.stop)

    @property
    def target(self) -> Int32[np.ndarray, "E"]:
        return self.flat[self.stop]

    @property
    def last_item(self) -> Int32[np.ndarray, "E"]:
        """The item just before the target; 0 where the history is empty."""
        return np.where(self.stop > self.start, self.flat[np.maximum(self.stop - 1, 0)], 0).astype(np.int32)

    @property
    def length(self) -> Int64[np.ndarray, "E"]:
        return self.stop - self.start

    def take(self, rows: Int64[np.ndarray, "R"]) -> Examples:
        return replace(self, user=self.user[rows], start=self.start[rows], stop=self.stop[rows])

    def longest_per_user(self) -> Examples:
        """The last example of each user: its history and target hold every training position of that user."""
        last = np.flatnonzero(np.append(self.user[1:] != self.user[:-1], True)) if len(self) else np.arange(0)
        return self.take(last)

    def from_every_start(self, longest: int) -> Examples:
        """Each pair once for every item that its history may begin with, up to `longest` items before the target."""
        times = np.minimum(self.length, longest)
        pair = np.repeat(np.arange(len(self)), times)
        back = np.arange(len(pair)) - np.repeat(np.cumsum(times) - times, times) + 1
        longer = self.take(pair)
        return replace(longer, start=longer.stop - back)

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for array in (self.flat, self.user, self.start, self.stop):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class ItemVectors:
    """One vector per item and where it comes from: part of a row's identity.

    Attributes:
        values: `[I, F]`, row 0 (padding) is zero.
        kind: a `VectorKind` or a `TrainedKind`.
        name: what a reader needs to find the same vectors again (model and revision, file name).
        sha256: hash of the values, which processors may compute in other last digits.
        stand_in: the vectors take the place of the papers' text embeddings; rows that use them say so.
        recipe: how they are made, the same on every processor; part of a row's key.
    """

    values: Float32[np.ndarray, "I F"]
    kind: str
    name: str
    sha256: str
    stand_in: bool
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ItemCodes:
    """The codes that a file gives all items, and where they come from: part of a row's identity.

    Attributes:
        values: `[N, L]` of items 1..N.
        sizes: codebook sizes of the `L` levels.
        name: the file's name.
        sha256: of the file.
    """

    values: Int64[np.ndarray, "N L"]
    sizes: tuple[int, ...]
    name: str
    sha256: str


@dataclass(frozen=True)
class Corpus:
    """Users' item sequences, oldest first, with what is known of the items.

    Attributes:
        name: the corpus's registry name, e.g. `all_beauty`.
        flat: `[M]` item ids (1..N) of all users, one user after the other.
        offsets: `[U+1]`; user `u` owns `flat[offsets[u]:offsets[u+1]]`.
        user_ids: `[U]` the source's user ids, ascending.
        item_ids: `[N]` parent_asin of items 1..N, ascending.
        item_text: `[N]` one sentence per item, or None where the source has no metadata.
        item_categories: `[N]` the categories of each item, or None likewise. They are in its sentence, too.
        card: counts at every step of the preparation, hashes of the source files, text template.
        vectors: item vectors, or None until an experiment asks for them.
        collaborative: item vectors trained on the training part, for a model that has both; None likewise.
        codes: item codes from a file; None likewise.
        seen_users: fingerprint of the corpus that these users were split off from, what is left of it; else None.
        whole: fingerprint of the corpus that this one is without the test part, see `without_test`; else None.
        times: `[M]` of the interactions, in the source's unit; None where it has an order alone.
        for_training: what models are trained on and chosen by, see `global_time` and `cold_items`; None: this corpus.
    """

    name: str
    flat: Int32[np.ndarray, "M"]
    offsets: Int64[np.ndarray, "U1"]
    user_ids: Any  # sequences of str; Arrow arrays, so that millions of ids stay on disk
    item_ids: Any
    item_text: Any | None = None
    card: dict[str, Any] = field(default_factory=dict)
    vectors: ItemVectors | None = None
    collaborative: ItemVectors | None = None
    codes: ItemCodes | None = None
    seen_users: str | None = None
    whole: str | None = None
    item_categories: Any | None = None  # sequences of sequences of str; an Arrow array like the others
    times: Int64[np.ndarray, "M"] | None = None
    for_training: Corpus | None = None

    def __post_init__(self) -> None:
        lengths, needed = np.diff(self.offsets), self.held_out + 1
        if len(lengths) == 0 or lengths.min() < needed:
            shortest = int(lengths.min()) if len(lengths) else 0
            raise ValueError(
                f"corpus {self.name}: a user has {shortest} interactions; leave-one-out needs at least {needed}"
            )

    def __repr__(self) -> str:
        return f"<Corpus {self.name}: {self.users:,} users, {self.items:,} items, {self.interactions:,} interactions>"

    @property
    def users(self) -> int:
        return len(self.offsets) - 1

    @property
    def items(self) -> int:
        return len(self.item_ids)

    @property
    def interactions(self) -> int:
        return len(self.flat)

    @property
    def held_out(self) -> int:
        """Interactions that the parts after training take from the end of a user's sequence here."""
        return HELD_OUT if self.whole is None else HELD_OUT - 1

    @property
    def trained_on(self) -> Corpus:
        """The users whom a model may know, up to what it is graded on."""
        return self if self.for_training is None else self.for_training

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of sequences, ids and item text; every record quotes it.

        Of users who are not all those that a model learns from also of these: a row says what they taught it.
        Without the test part it is that of the whole corpus.
        """
        if self.whole is not None:
            return self.whole
        learned_from = self.for_training.fingerprint if self.for_training else self.seen_users
        others = [[learned_from]] if learned_from else []
        return self._digest(self.user_ids, self.item_ids, self.item_text or (), *others)

    @cached_property
    def sequences_sha256(self) -> str:
        """Content hash of sequences and ids: the same with and without item text."""
        return self._digest(self.user_ids, self.item_ids)

    def _digest(self, *columns: Any) -> str:
        digest = hashlib.sha256()
        digest.update(np.ascontiguousarray(self.flat, dtype="<i4").tobytes())
        digest.update(np.ascontiguousarray(self.offsets, dtype="<i8").tobytes())
        for column in columns:
            for value in column:
                digest.update(str(value).encode() + b"\n")
            digest.update(b"\0")
        return digest.hexdigest()

    def examples(self, part: Part) -> Examples:
        """Leave-one-out examples without randomness (protocol v1).

        `train`: every prefix of a user's training part with a non-empty history. `valid`: the second last item.
        `test`: the last item; its history holds the validation item. `items`: one example per item, with no history,
        whose target is the item (what a tokenizer trains on).

        Raises:
            ValueError: there is no such part, or this corpus is without its test part.
        """
        if part == "items":
            rows = np.arange(self.items, dtype=np.int64)
            return Examples(np.arange(1, self.items + 1, dtype=np.int32), rows, rows, rows)
        first, end = self.offsets[:-1], self.offsets[1:]
        if part == "test":
            if self.whole is not None:
                raise ValueError(
                    f"corpus {self.name} is here without its test part, which the harness keeps; "
                    "possible: train, valid, items"
                )
            return Examples(self.flat, np.arange(self.users), first, end - 1)
        if part == "valid":
            return Examples(self.flat, np.arange(self.users), first, end - self.held_out)
        if part != "train":
            raise ValueError(f"no part {part!r} in a corpus; possible: train, valid, test, items")
        pairs = end - first - self.held_out - 1
        user = np.repeat(np.arange(self.users), pairs)
        within = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        return Examples(self.flat, user, first[user], first[user] + 1 + within)

    def user_index(self) -> Int64[np.ndarray, "M"]:
        """User, 0..U-1, of each interaction."""
        return np.repeat(np.arange(self.users), np.diff(self.offsets))

    def training_counts(self) -> Int64[np.ndarray, "I"]:
        """How often each item occurs in the users' training parts; row 0 is 0."""
        return np.bincount(self.flat[self.in_training()], minlength=self.items + 1)

    def in_training(self) -> Bool[np.ndarray, "M"]:
        """Which interactions are of their users' training parts."""
        from_end = np.repeat(self.offsets[1:], np.diff(self.offsets)) - np.arange(self.interactions)
        return from_end > self.held_out

    def without_test(self) -> Corpus:
        """What a model may train on and be chosen by: this corpus without the last item of each user, the test target.

        Items, their ids and text, users and fingerprint stay. The sequences are a copy, which holds no test target;
        times are left out, for no fingerprint tells them. A corpus without its test part gives itself.
        """
        if self.whole is not None:
            return self
        kept = np.ones(self.interactions, dtype=bool)
        kept[self.offsets[1:] - 1] = False
        offsets = self.offsets - np.arange(self.users + 1)
        return replace(self, flat=self.flat[kept], offsets=offsets, whole=self.fingerprint, times=None)

    def shuffled_ties(self, seed: int = 0) -> Corpus:
        """This corpus with those of a user's items that have equal times in an order drawn with `seed`.

        Where a source's order within a day is that of its file, what a model gains by it is not there any more.

        Raises:
            ValueError: the source has an order, but no times; the corpus has been cut already.
        """
        if self.for_training is not None:
            raise ValueError(f"corpus {self.name} is cut; expected {SHUFFLED_TIES} as the first of its endings")
        if self.times is None:
            raise ValueError(f"corpus {self.name} has an order and no times; expected times, to shuffle ties of")
        drawn = np.random.default_rng(seed).permutation(self.interactions)
        card = {**self.card, "origin": f"{self.card['origin']}, ties shuffled"}
        order = np.lexsort((drawn, self.times, self.user_index()))
        return replace(self, name=self.name + SHUFFLED_TIES, flat=self.flat[order], card=card)

    def global_time(self, cut: int) -> Corpus:
        """The users who go on after a moment that is the same for all, with their first item after it as the test part.

        Models are trained on, and chosen by, what all users did before (`for_training`): each one's last item there is
        the validation item. Nothing that a model has seen is later than what it is asked for. Users with fewer than
        two items before the cut, one to train on and one to validate, are left out.

        Args:
            cut: first moment after it, in the unit of `times`.

        Raises:
            ValueError: the source has an order, but no times; the corpus has been cut already; no user is left.
        """
        if self.for_training is not None:
            raise ValueError(f"corpus {self.name} is cut; expected a whole one, to cut it at a moment")
        if self.times is None:
            raise ValueError(f"corpus {self.name} has an order and no times; expected times, to cut it at a moment")
        before = np.add.reduceat(self.times < cut, self.offsets[:-1], dtype=np.int64)
        known = before >= HELD_OUT
        goes_on = known & (before < np.diff(self.offsets))
        if not goes_on.any():
            raise ValueError(f"corpus {self.name}: no user has two items before {cut} and one from then on")
        # Which items were before it, no sequence tells.
        said = f"{self.fingerprint} before {cut}".encode() + before.astype("<i8").tobytes()
        whole = hashlib.sha256(said).hexdigest()
        training = replace(self, name=self.name + GLOBAL_TIME, whole=whole)._beginnings(known, before)
        graded = replace(self, name=self.name + GLOBAL_TIME)._beginnings(goes_on, before + 1)
        steps = [_step("before the cut", training), _step("up to the first after it", graded)]
        card = {"origin": f"{self.card['origin']}, cut at {cut}", "steps": [*self.card["steps"], *steps]}
        return replace(graded, for_training=training, card={**self.card, **card})

    def cold_items(self, share: float = 0.05, seed: int = 0) -> Corpus:
        """The users whose test target is one of some drawn items that no model has seen: TIGER's cold start (4.3).

        A share of all distinct test targets is drawn. They leave every sequence (`for_training`), whose last item but
        the test target is then the validation item, and are the only test targets that are left. What is known of an
        item without its interactions, its text and vectors, stays. Users with fewer than two other items are left out.

        Args:
            share: of the distinct test targets, rounded, at least one.

        Raises:
            ValueError: the share is not between 0 and 1, the test part is not here, the corpus has been cut already, or
                no user is left.
        """
        if self.for_training is not None or self.whole is not None:
            raise ValueError(f"corpus {self.name} is cut already; expected a whole one, to take cold items out of")
        if not 0 < share < 1:
            raise ValueError(f"cold items of {self.name}: a share of {share}; expected more than 0, below 1")
        is_target = np.zeros(self.interactions, dtype=bool)
        is_target[self.offsets[1:] - 1] = True
        targets = np.unique(self.flat[is_target])
        count = max(1, round(share * len(targets)))
        cold = np.isin(self.flat, np.random.default_rng(seed).choice(targets, count, replace=False))
        known = ~cold & ~is_target
        enough = np.add.reduceat(known, self.offsets[:-1], dtype=np.int64) >= HELD_OUT
        asked = enough & cold[is_target]
        if not asked.any():
            raise ValueError(f"corpus {self.name}: no user with one of {count} cold items has two others before it")
        user = self.user_index()
        whole = hashlib.sha256(f"{self.fingerprint} without {share} cold items, {seed}".encode()).hexdigest()
        named = replace(self, name=self.name + COLD_ITEMS)
        training = replace(named, whole=whole)._only(known & enough[user])
        graded = named._only((known | is_target) & asked[user])
        steps = [_step("without cold items", training), _step("up to a cold item", graded)]
        card = {"origin": f"{self.card['origin']}, {count} cold items", "steps": [*self.card["steps"], *steps]}
        return replace(graded, for_training=training, card={**self.card, **card})

    def _beginnings(self, chosen: Bool[np.ndarray, "U"], lengths: Int64[np.ndarray, "U"]) -> Corpus:
        """The chosen users with so many of their first interactions."""
        user = self.user_index()
        place = np.arange(self.interactions) - self.offsets[user]
        return self._only(chosen[user] & (place < lengths[user]))

    def _only(self, kept: Bool[np.ndarray, "M"]) -> Corpus:
        """These interactions, and the users who have any of them."""
        lengths = np.add.reduceat(kept, self.offsets[:-1], dtype=np.int64)
        return replace(
            self,
            flat=self.flat[kept],
            times=None if self.times is None else self.times[kept],
            offsets=np.concatenate([[0], lengths[lengths > 0].cumsum()]),
            user_ids=np.asarray(self.user_ids, dtype=object)[lengths > 0],
        )

    def split_users(self, share: float) -> tuple[Corpus, Corpus]:
        """Two corpora over the same items: most users, and those with the least history, new to whoever saw the others.

        Args:
            share: of the users who are split off, rounded, at least one; of equally short ones those of smaller index.

        Returns:
            The seen users under this corpus's name, the unseen ones under the name with `_unseen_users`.

        Raises:
            ValueError: the share is not between 0 and 1, there is one user only, the test part is not here, or models
                learn from other users already.
        """
        if self.for_training is not None:
            raise ValueError(f"corpus {self.name} has no users to split off: its models learn from others already")
        if self.whole is not None:
            raise ValueError(
                f"corpus {self.name} is here without its test part; users are split off the whole corpus alone"
            )
        if not 0 < share < 1:
            raise ValueError(f"corpus {self.name} cannot be split at a share of {share}; expected more than 0, below 1")
        if self.users < 2:
            raise ValueError(f"corpus {self.name} has {self.users} user; a split needs at least 2")
        count = min(max(round(share * self.users), 1), self.users - 1)
        shortest = np.diff(self.offsets).argsort(kind="stable")[:count]
        unseen = np.isin(self.user_index(), shortest)
        seen, split_off = self._only(~unseen), self._only(unseen)
        return seen, replace(split_off, name=self.name + UNSEEN_USERS, seen_users=seen.fingerprint)

    def item_vectors(self) -> Float32[np.ndarray, "I F"]:
        """The item vectors that the experiment chose.

        Raises:
            ValueError: the experiment chose none.
        """
        return self._values("vectors")

    def collaborative_vectors(self) -> Float32[np.ndarray, "I F"]:
        """The trained item vectors that the experiment chose beside the others.

        Raises:
            ValueError: the experiment chose none.
        """
        return self._values("collaborative")

    def item_codes(self) -> ItemCodes:
        """The codes from a file that the experiment chose.

        Raises:
            ValueError: the experiment chose none.
        """
        if self.codes is None:
            raise self._not_given("codes")
        return self.codes

    def categories(self) -> Int64[np.ndarray, "I C"]:
        """Numbers of each item's categories, each once, right-padded with 0; row 0 is padding.

        All categories are counted from 1 in the order of their names, whatever stands above them in the shop's tree.

        Raises:
            ValueError: no item has a category.
        """
        names = [dict.fromkeys(map(str, some)) for some in self.item_categories or ()]
        number = {name: place for place, name in enumerate(sorted(set().union(*names)), 1)}
        if not number:
            raise ValueError(
                f"corpus {self.name} has no item categories; expected item metadata with a list `categories`, as "
                "beauty_2014, planted and the official downloads, but for all_beauty, have"
            )
        table = np.zeros((self.items + 1, max(map(len, names))), dtype=np.int64)
        for row, some in zip(table[1:], names, strict=True):
            row[: len(some)] = [number[name] for name in some]
        return table

    def _values(self, field: Literal["vectors", "collaborative"]) -> Float32[np.ndarray, "I F"]:
        chosen: ItemVectors | None = getattr(self, field)
        if chosen is None:
            raise self._not_given(field)
        return chosen.values

    def _not_given(self, field: str) -> ValueError:
        return ValueError(
            f"corpus {self.name} was given no {field}; a model that wants them has a Config field `{field}`, not null"
        )


def _step(name: str, corpus: Corpus) -> dict[str, Any]:
    """What a step of the preparation has left, as cards have it."""
    items = len(np.unique(corpus.flat))
    return {"step": name, "users": corpus.users, "items": items, "interactions": corpus.interactions}
