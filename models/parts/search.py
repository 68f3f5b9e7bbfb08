"""Top-K items from a model that generates codes: exactly, by branch and bound over the trie, or by a plain beam.

Log-probabilities only fall along a sequence. So a prefix that scores below the K-th best complete item cannot become a
top-K item, and once no unexpanded prefix reaches that score, the list equals the full ranking: `certified`. At each
level at most 1 / exp(score) prefixes reach it, whatever the size of the catalogue.

Everything is flat: one row per prefix of any user, in order of user. No loop goes over users, prefixes or tokens. Where
a number of rows is asked for, as a mask does, a GPU is held up; what can be had without is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.api import Ranking
from models.parts.index import ItemIndex

# Prefixes per user and level of the beam that finds the first bound; a list of more items needs a wider one.
WIDTH = 16
# Expansions per user after which a search gives up its proof. No model on the board has come near it.
CAP = 50_000
# Prefixes expanded at once: bounds the memory, about 30 kB each for TIGER's sizes. A GPU wants more, to be busy.
ROWS, GPU_ROWS = 8_192, 65_536
# As many at most are expanded at once by the first beam of all users.
BEAM_ROWS = 1 << 19
# What rounding may do to a log-sum-exp, in nats, many times over.
SLACK = 1e-4

Step = Callable[
    [int, Int[Tensor, "P"], Int[Tensor, "P"], Int[Tensor, "P"], Any], tuple[Float[Tensor, "P V"], Any]
]  # fmt: skip
"""A model's next codes, for one batch of users: `step(level, user, code, parent, cache) -> (log_probs, cache)`.

Appends `code` to prefixes of `level - 1` codes of the users `user`, ascending, and gives the log-probabilities of the
codes that may follow, never above 0. A cache is the model's own: what it returned when it expanded the prefixes before
the last code, of which those here are the rows `parent`. At level 0 prefixes are empty, code is 0 and cache None.
"""


class Prefixes(NamedTuple):
    """Prefixes of one length, in order of user.

    Attributes:
        user, node: whose, and which node of the trie.
        code: last code.
        parent: row of the cache of the prefix without it.
        score: log-probability.
    """

    user: Int[Tensor, "P"]
    node: Int[Tensor, "P"]
    code: Int[Tensor, "P"]
    parent: Int[Tensor, "P"]
    score: Float[Tensor, "P"]

    def pick(self, chosen: Bool[Tensor, "P"] | Int[Tensor, "Q"] | slice) -> Prefixes:
        if isinstance(chosen, Tensor) and chosen.dtype == torch.bool:
            chosen = chosen.nonzero()[:, 0]  # once for all columns
        return Prefixes(*(column[chosen] for column in self))


def exact_search(
    step: Step,
    users: int,
    index: ItemIndex,
    k: int,
    width: int | None = None,
    cap: int | None = None,
    target: Int[Tensor, "B"] | None = None,
) -> Ranking:
    """The `k` best items of all, with the number of prefixes expanded for each user.

    The score of an item is the log-sum-exp over its sequences; ties go to the smaller item id. Neither `width` nor
    `cap` changes a certified list, up to the rounding of the model's own sums.

    Args:
        width: prefixes per user and level of the beam that finds the first bound.
        cap: expansions per user; a user who needs more gets what was found, not certified. To complete the scores of
            items with several sequences may take some more.
        target: an item of each user whose place is all that is asked for. The list then ends with it; or it holds `k`
            items that all come before it, though others may be better than these.
    """
    if width is None:
        # An item has at most A sequences, so that k * A sequences name k items.
        enough = k * index.codes.shape[1]
        width = max(WIDTH, min(enough, BEAM_ROWS // max(1, users)))
    search = _Search(step, users, index, k, CAP if cap is None else cap)
    if target is None:
        search.run(width)
        return search.ranking()
    search.aim_at(target)
    search.run(width)
    return search.until(target)


def beam_search(
    step: Step,
    users: int,
    index: ItemIndex,
    k: int,
    width: int,
    constrained: bool = True,
    first: Sequence[int] | None = None,
) -> Ranking:
    """The `k` best items of a plain beam of `width` prefixes per user; nothing is certified.

    Args:
        constrained: follow legal codes only; otherwise all that `step` gives, where a finished sequence that names no
            item keeps its rank as item 0.
        first: of a free beam whose `step` gives more than a level's codes, the column of code 0 at each level. What
            else it gives counts on from there, below 0 too, and names nothing.
    """
    prefixes, cache = _root(users, index), None
    for level in range(index.levels):
        log_probs, cache = step(level, prefixes.user, prefixes.code, prefixes.parent, cache)
        if constrained:
            grown = _legal(index, level, prefixes, log_probs)
        else:
            grown = _any(index, level, prefixes, log_probs, width, first[level] if first else 0)
        prefixes = grown.pick(_widest(grown, users, width))
    items = index.items_at(prefixes.node)
    # A finished sequence that names no item keeps its rank, as item 0.
    listed = items > 0
    listed[:, 0] = True
    row, position = listed.nonzero(as_tuple=True)
    user, item, score = prefixes.user[row], items[row, position], prefixes.score[row]
    if index.codes.shape[1] > 1:
        user, item, score = _summed(user, item, score)
    return _best(user, item, score, users, k)


class _Search:
    """State of one exact search.

    Attributes:
        rows: prefixes expanded at once.
        floor: `[B]` no prefix below it can become a top-K item; infinite where the list needs no other.
        lowest: `[B]` the floor is no lower: below it nothing comes before the target.
        enough: `[B]` what a K-th best item must surpass to show that the target is none of K.
        spent: `[B]` prefixes expanded.
        lost: `[B]` best score of a prefix that the cap left unexpanded; infinite where a score is nan.
        leaves: complete sequences found at or above the floor.
    """

    def __init__(self, step: Step, users: int, index: ItemIndex, k: int, cap: int) -> None:
        self.step, self.users, self.index, self.k, self.cap = step, users, index, k, cap
        device = index.codes.device
        self.rows = ROWS if device.type == "cpu" else GPU_ROWS
        self.floor = self.lowest = torch.full((users,), -torch.inf, device=device)
        self.enough = torch.full((users,), torch.inf, device=device)
        self.lost = torch.full((users,), -torch.inf, device=device)
        self.spent = torch.zeros(users, dtype=torch.long, device=device)
        self.leaves = _root(users, index).pick(slice(0))

    def aim_at(self, target: Int[Tensor, "B"]) -> None:
        """Before `run`: only what comes before this item of each user is searched for."""
        score = self._item_scores(torch.arange(self.users, device=target.device), target)
        self.floor = self.lowest = self._of_sequences(score) - SLACK
        self.enough = score + SLACK

    def run(self, width: int) -> None:
        """A beam sets the first floor. The prefixes that it left out are searched after it, those of the deepest level
        first, for they are the cheapest.
        """
        levels = self.index.levels
        if levels > 1:
            # The cap holds for the beam, too: one expansion at the root, `width` at each level below.
            width = min(width, max(1, (self.cap - 1) // (levels - 1)))
        prefixes, cache = _root(self.users, self.index), None
        left_out: list[tuple[Prefixes, Any]] = []
        for level in range(levels - 1):
            grown, cache = self._expand(level, prefixes, cache)
            chosen = _widest(grown, self.users, width)
            # Instead of a mask: a score that no floor lets pass.
            rest = grown._replace(score=grown.score.index_fill(0, chosen, -torch.inf))
            left_out.append((rest, cache))
            prefixes = grown.pick(chosen)
        leaves, _ = self._expand(levels - 1, prefixes, cache)
        self._finish(leaves)
        for level in reversed(range(1, levels)):
            rest, cache = left_out[level - 1]
            self._descend(level, self._hopeful(rest), cache)

    def ranking(self) -> Ranking:
        user, item, score = self._items()
        if self.index.codes.shape[1] > 1:
            score = self._item_scores(user, item)
        found = _best(user, item, score, self.users, self.k)
        certified = (self.lost < self.floor) | (self.lost == -torch.inf)
        # Beside a score that is none no order is told.
        certified &= ~found.scores.isnan().any(1)
        return found._replace(certified=certified, expansions=self.spent)

    def until(self, target: Int[Tensor, "B"]) -> Ranking:
        """`ranking`, up to the target that was aimed at; certified where the target's place is proven. Where its own
        score is nan, all scores are: no order can be told."""
        found = self.ranking()
        hit = found.items == target[:, None]
        after = (hit.cumsum(1) > 0) & ~hit
        # It is on the list, or behind a full one; if neither, rounding was more than SLACK.
        met = hit.any(1) | (found.scores[:, -1] >= self.enough - 2 * SLACK)
        items, scores = found.items.masked_fill(after, 0), found.scores.masked_fill(after, -torch.inf)
        scores = scores.masked_fill(self.enough.isnan()[:, None], torch.nan)
        return found._replace(items=items, scores=scores, certified=found.certified & met)

    def _expand(self, level: int, prefixes: Prefixes, cache: Any) -> tuple[Prefixes, Any]:
        self.spent += _counts(prefixes.user, self.users)
        log_probs, cache = self.step(level, prefixes.user, prefixes.code, prefixes.parent, cache)
        # What is below a prefix without probabilities has no place: no list of its user is proven.
        untold = torch.where(log_probs.isnan().any(1), torch.inf, -torch.inf)
        self.lost.scatter_reduce_(0, prefixes.user, untold.to(self.lost), "amax")
        return self._hopeful(_legal(self.index, level, prefixes, log_probs)), cache

    def _hopeful(self, prefixes: Prefixes) -> Prefixes:
        """Those that have any probability and may still become a top-K item."""
        return prefixes.pick((prefixes.score > -torch.inf) & (prefixes.score >= self.floor[prefixes.user]))

    def _descend(self, level: int, prefixes: Prefixes, cache: Any) -> None:
        """Searches below hopeful prefixes of `level` codes."""
        prefixes = self._affordable(level, prefixes)
        for start in range(0, len(prefixes.user), self.rows):
            some = prefixes.pick(slice(start, start + self.rows))
            if start:  # the rows before may have raised the floor, and spent more below than their share
                some = self._affordable(level, self._hopeful(some))
            grown, longer = self._expand(level, some, cache)
            if level + 1 < self.index.levels:
                self._descend(level + 1, grown, longer)
            else:
                self._finish(grown)

    def _affordable(self, level: int, prefixes: Prefixes) -> Prefixes:
        """The best prefixes of each user, as many as the cap allows here; the levels below get an equal share."""
        share = ((self.cap - self.spent) // (self.index.levels - level)).clamp(min=0)
        if not (_counts(prefixes.user, self.users) > share).any():
            return prefixes
        # In order of user, each user's best first.
        prefixes = prefixes.pick(prefixes.score.argsort(descending=True, stable=True))
        prefixes = prefixes.pick(prefixes.user.argsort(stable=True))
        keep = _slots(prefixes.user, self.users) < share[prefixes.user]
        dropped = prefixes.pick(~keep)
        self.lost.scatter_reduce_(0, dropped.user, dropped.score, "amax")
        return prefixes.pick(keep)

    def _finish(self, leaves: Prefixes) -> None:
        """Takes hopeful complete sequences in, and raises the floor."""
        columns = zip(self.leaves, leaves, strict=True)
        leaves = Prefixes(*(torch.cat(pair) for pair in columns))
        self.leaves = leaves.pick(leaves.user.argsort(stable=True))
        user, _, score = self._items()
        best = _dense(user, score, self.users, self.k).topk(self.k, dim=1).values
        kth = best[:, -1]
        self.floor = self._of_sequences(kth).maximum(self.lowest)
        self.leaves = self._hopeful(self.leaves)
        self.floor = self.floor.masked_fill(kth > self.enough, torch.inf)

    def _of_sequences(self, score: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Where no sequence of an item reaches this, the item's log-sum-exp is below `score`."""
        sequences = self.index.codes.shape[1]
        return score if sequences == 1 else score - math.log(sequences) - SLACK

    def _items(self) -> tuple[Int[Tensor, "F"], Int[Tensor, "F"], Float[Tensor, "F"]]:
        """User, item and best sequence's score of the items found, in order of user and item."""
        items = self.index.items_at(self.leaves.node)
        row, position = (items > 0).nonzero(as_tuple=True)
        # One number per pair of user and item.
        base = len(self.index.codes)
        pair, which = (self.leaves.user[row] * base + items[row, position]).unique(return_inverse=True)
        best = self.floor.new_full(pair.shape, -torch.inf)
        best.scatter_reduce_(0, which, self.leaves.score[row], "amax")
        return pair // base, pair % base, best

    def _item_scores(self, user: Int[Tensor, "F"], item: Int[Tensor, "F"]) -> Float[Tensor, "F"]:
        """Log-sum-exp over all sequences of items; those that the search has not met are scored now."""
        leaf = self.index.leaves_of(item)
        exists = leaf >= 0
        # One number per pair of user and sequence.
        base = self.index.leaves
        wanted = (user[:, None] * base + leaf).masked_fill(~exists, -1)
        known = self.leaves.user * base + self.leaves.node
        missing = wanted[exists & ~torch.isin(wanted, known)].unique()
        scores = [self.leaves.score]
        for start in range(0, len(missing), self.rows):
            chunk = missing[start : start + self.rows]
            scores.append(self._sequence_scores(chunk // base, chunk % base))
        known, order = torch.cat([known, missing]).sort()
        score = torch.cat(scores)[order]
        of_item = score[torch.searchsorted(known, wanted.clamp(min=0))]
        return of_item.masked_fill(~exists, -torch.inf).logsumexp(1)

    def _sequence_scores(self, user: Int[Tensor, "M"], leaf: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """Scores of complete sequences, in order of user and leaf. A prefix that several share is expanded once."""
        nodes, codes = self._path(leaf)
        every = torch.arange(len(leaf), device=leaf.device)
        score = torch.zeros_like(leaf, dtype=self.floor.dtype)
        parent, cache = torch.zeros_like(leaf), None
        for level in range(self.index.levels):
            prefix, row = (user * self.index.leaves + nodes[level]).unique(return_inverse=True)
            # One of the sequences that share a prefix stands for it.
            one = torch.empty_like(prefix).scatter_(0, row, every)
            self.spent += _counts(user[one], self.users)
            last_code = codes[level - 1][one] if level else torch.zeros_like(one)
            log_probs, cache = self.step(level, user[one], last_code, parent[one], cache)
            score = score + log_probs[row, codes[level]]
            parent = row
        return score

    def _path(self, leaf: Int[Tensor, "M"]) -> tuple[list[Int[Tensor, "M"]], list[Int[Tensor, "M"]]]:
        """For each level, from the root on: the node from which a sequence goes on, and its code there."""
        nodes, codes = [], []
        node = leaf
        for level in reversed(range(self.index.levels)):
            node, code = self.index.parent(level, node)
            nodes.append(node)
            codes.append(code)
        return nodes[::-1], codes[::-1]


def _root(users: int, index: ItemIndex) -> Prefixes:
    """One empty prefix per user."""
    user = torch.arange(users, device=index.codes.device)
    zero = torch.zeros_like(user)
    return Prefixes(user, zero, zero, zero, torch.zeros(users, device=user.device))


def _legal(index: ItemIndex, level: int, prefixes: Prefixes, log_probs: Float[Tensor, "P V"]) -> Prefixes:
    """All continuations in the trie."""
    parent, node, code = index.continuations(level, prefixes.node)
    score = prefixes.score[parent] + log_probs[parent, code]
    return Prefixes(prefixes.user[parent], node, code, parent, score)


def _any(
    index: ItemIndex, level: int, prefixes: Prefixes, log_probs: Float[Tensor, "P V"], width: int, first: int
) -> Prefixes:
    """The `width` best continuations of each prefix, more than which no beam keeps; node -1 where the trie has none."""
    best = log_probs.topk(min(width, log_probs.shape[1]))
    parent = torch.arange(len(log_probs), device=log_probs.device)[:, None].expand_as(best.indices).flatten()
    code = best.indices.flatten() - first
    node = index.child(level, prefixes.node[parent], code)
    score = (prefixes.score[:, None] + best.values).flatten()
    return Prefixes(prefixes.user[parent], node, code, parent, score)


def _summed(user: Int[Tensor, "F"], item: Int[Tensor, "F"], score: Float[Tensor, "F"]) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp over each user's sequences of an item, in order of user; those of no item (0) stay apart."""
    # A number below 0 for each sequence of no item.
    item = torch.where(item > 0, item, -1 - torch.arange(len(item), device=item.device))
    pair, which = torch.stack([user, item]).unique(dim=1, return_inverse=True)
    best = score.new_full((pair.shape[1],), -torch.inf).scatter_reduce_(0, which, score, "amax")
    total = torch.zeros_like(best).index_add_(0, which, (score - best[which]).exp())
    return pair[0].contiguous(), pair[1].clamp(min=0), best + total.log()


def _starts(user: Int[Tensor, "P"], users: int) -> Int[Tensor, "B1"]:
    """Where each user's rows begin, and where the last one's end."""
    return torch.searchsorted(user, torch.arange(users + 1, device=user.device))


def _counts(user: Int[Tensor, "P"], users: int) -> Int[Tensor, "B"]:
    """How many rows each user has."""
    return _starts(user, users).diff()


def _slots(user: Int[Tensor, "P"], users: int) -> Int[Tensor, "P"]:
    """Position of each row among its user's rows."""
    return torch.arange(len(user), device=user.device) - _starts(user, users)[user]


def _dense(user: Int[Tensor, "P"], value: Tensor, users: int, width: int, fill: float = -torch.inf) -> Tensor:
    """`[B, W]` values of each user side by side, at least `width`."""
    slot = _slots(user, users)
    longest = int(slot.max()) + 1 if len(slot) else 0
    dense = value.new_full((users, max(width, longest)), fill)
    dense[user, slot] = value
    return dense


def _widest(prefixes: Prefixes, users: int, width: int) -> Int[Tensor, "Q"]:
    """Rows of the `width` best prefixes of each user, in order of user."""
    score, slot = _dense(prefixes.user, prefixes.score, users, width).topk(width, dim=1)
    row = _starts(prefixes.user, users)[:-1, None] + slot
    return row[score > -torch.inf]


def _best(user: Int[Tensor, "F"], item: Int[Tensor, "F"], score: Float[Tensor, "F"], users: int, k: int) -> Ranking:
    """The `k` best items of each user, ties in order of item."""
    items, scores = _dense(user, item, users, k, fill=0.0), _dense(user, score, users, k)
    items, order = items.sort(dim=1, stable=True)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    unproven = torch.zeros(users, dtype=torch.bool, device=user.device)
    return Ranking(items.gather(1, order)[:, :k], scores[:, :k], unproven)
