"""Rungs of the protocol ladder that grade the same weights otherwise.

A rung takes the `Lists` in which targets are found and gives others, so that several can follow one another. Which
conventions are found in published code, and which of them are wrong, says `ladder`.

Shape letters beside those of `models/api.py`: `H` length of the whole history, `C` length of a list of candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.analyses import proven
from benchmarks.evaluate import check, list_length
from benchmarks.hardware import users_at_once
from data_prep.batches import Batches
from data_prep.corpus import Examples
from leaderboards.metrics import MAX_RANK
from models.api import Ranking, Recommender, generator_of
from models.letter import Letter
from models.parts.generator import CodeGenerator
from models.parts.index import ItemIndex, with_suffix

# Items beside the target, where it is ranked among a sample.
NEGATIVES = 100


class Lists(NamedTuple):
    """Ranked lists of a batch of users, and what counts as a hit in them.

    Attributes:
        history: as the model reads it.
        seen: the whole history.
        target: item id.
        items: best first; 0 where a place names no item.
        scores: -inf where a place names none.
        hits: places that count as the target.
    """

    history: Int[Tensor, "B T"]
    seen: Int[Tensor, "B H"]
    target: Int[Tensor, "B"]
    items: Int[Tensor, "B K"]
    scores: Float[Tensor, "B K"]
    hits: Bool[Tensor, "B K"]

    def ranked(self, ranking: Ranking) -> Lists:
        """The same users with other lists."""
        return self._replace(items=ranking.items, scores=ranking.scores, hits=ranking.items == self.target[:, None])

    def keep(self, places: Bool[Tensor, "B K"]) -> Lists:
        """Without the other places; what stands behind them moves up."""
        order = (~places).int().argsort(dim=1, stable=True)
        left = places.gather(1, order)
        return self._replace(
            items=self.items.gather(1, order) * left,
            scores=self.scores.gather(1, order).masked_fill(~left, -torch.inf),
            hits=self.hits.gather(1, order) & left,
        )

    def ranks(self) -> Int[Tensor, "B"]:
        """Place of the first hit, 1..50; 0 beyond, and where there is none."""
        place = torch.where(self.hits.any(1), self.hits.int().argmax(1) + 1, 0)
        return torch.where(place <= MAX_RANK, place, 0)


@dataclass(frozen=True)
class Weights:
    """The trained model that is graded.

    Attributes:
        items: how many there are in the corpus.
    """

    recommender: Recommender
    items: int

    @property
    def generator(self) -> CodeGenerator | None:
        """What generates code sequences, in a model that does."""
        found = generator_of(self.recommender)
        return found if isinstance(found, CodeGenerator) else None


Rung = Callable[[Weights, Lists], Lists]


def loss_temperature(recommender: Recommender) -> float:
    """By which the loss of the codes divides logits, and the protocol's ranking does not (LETTER)."""
    return recommender.config.temperature if isinstance(recommender, Letter) else 1.0


def masked(weights: Weights, lists: Lists) -> Lists:
    """Items of the history are left out."""
    seen = torch.zeros(len(lists.items), weights.items + 1, dtype=torch.bool, device=lists.items.device)
    seen.scatter_(1, lists.seen, True)
    return lists.keep(~seen.gather(1, lists.items))


def ties_in_favour(weights: Weights, lists: Lists) -> Lists:
    """Of items with the same score the target comes first."""
    order = (~lists.hits).int().argsort(dim=1, stable=True)
    order = order.gather(1, lists.scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return lists._replace(
        items=lists.items.gather(1, order), scores=lists.scores.gather(1, order), hits=lists.hits.gather(1, order)
    )


def beam(weights: Weights, lists: Lists, width: int, constrained: bool = True) -> Lists:
    """Lists of a beam with the trie, or of a free one, in which codes may name no item."""
    assert weights.generator is not None
    return lists.ranked(weights.generator.beam(lists.history, min(width, MAX_RANK), width, constrained))


def at_loss_temperature(weights: Weights, lists: Lists) -> Lists:
    """Lists by the probabilities that the loss has fitted."""
    assert weights.generator is not None
    length, temperature = lists.items.shape[1], loss_temperature(weights.recommender)
    return lists.ranked(proven(weights.generator.rank(lists.history, length, temperature)))


def without_invalid(weights: Weights, lists: Lists) -> Lists:
    """Places that name no item are dropped, as if they had not been generated."""
    return lists.keep(lists.items > 0)


def codes_hit(weights: Weights, lists: Lists) -> Lists:
    """A place is a code sequence, and a hit is the target's, whichever item was meant."""
    sequence = _sequences(weights)[lists.items]
    earlier = (sequence[:, :, None] == sequence[:, None, :]).tril(-1).any(2)
    return codes_hit_repeatedly(weights, lists).keep(~earlier | (lists.items == 0))


def codes_hit_repeatedly(weights: Weights, lists: Lists) -> Lists:
    """A hit is an item with the target's codes, and each item that has them holds a place."""
    sequence = _sequences(weights)
    same = (sequence[lists.items] == sequence[lists.target][:, None]) & (lists.items > 0)
    return lists._replace(hits=same)


def among_sampled(weights: Weights, lists: Lists) -> Lists:
    """The target is ranked among 100 items that the user has not had, drawn evenly, the same for every model. Of rungs
    one after the other it is the first, for it makes lists anew, by the scores of the exact ranking."""
    drawn = _negatives(lists, weights.items)
    candidates = torch.cat([lists.target[:, None], drawn], 1).sort(dim=1).values  # ties: smaller item id first
    scores = _scores(weights, lists, candidates)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    certified = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    return lists.ranked(Ranking(candidates.gather(1, order), scores, certified))


def tokenizer_codes(index: ItemIndex) -> Int[Tensor, "N L"]:
    """Codes of the items' first sequences, without a last one that only counts the items of equal codes."""
    codes = index.codes[1:, 0]
    if index.levels == 1:
        return codes
    try:
        suffixed = with_suffix(codes[:, :-1], index.sizes[-1])
    except ValueError:  # more items share them than the last codebook could count
        return codes
    return codes[:, :-1] if torch.equal(suffixed[1:], codes) else codes


def batch_weights(users: int, size: int) -> np.ndarray:
    """`[U]` what a user weighs, 1 on average, where a metric is averaged within batches of `size` users and then over
    the batches, the last of which is smaller."""
    batch = np.arange(users) // size
    sizes = np.bincount(batch)
    return users / len(sizes) / sizes[batch]


def grade(
    weights: Weights, users: Examples, rungs: Mapping[str, Sequence[Rung]], whole_lists: bool = False, jobs: int = 1
) -> dict[str, np.ndarray]:
    """`[U]` rank of each user's target by the rungs of each name, one after the other on the exact ranking's lists.

    Args:
        users: test examples.
        whole_lists: of all items, for a model that scores every item; rungs may need the scores of any.
        jobs: batches of users at a time.
    """
    recommender = weights.recommender.eval()
    size, device = users_at_once(recommender.device), recommender.device
    batches = Batches(users, size, recommender.history_length, device)
    whole = Batches(users, size, max(1, int(users.length.max())), device)
    found = {name: np.zeros(len(users), dtype=np.int64) for name in rungs}

    @torch.inference_mode()
    def grade_batch(rows: Int[Tensor, "B"]) -> None:
        batch, seen = batches.batch(rows), whole.batch(rows).history
        every = whole_lists and weights.generator is None
        k = weights.items if every else list_length(seen, MAX_RANK, weights.items)
        ranking = recommender.rank(batch.history, k)
        check(proven(ranking), len(rows), k, weights.items, type(recommender).__name__)
        empty = torch.zeros_like(ranking.items, dtype=torch.bool)
        exact = Lists(batch.history, seen, batch.target, ranking.items, ranking.scores, empty).ranked(ranking)
        # What names have in common, as two that begin with one beam, is made once.
        made: dict[tuple[Rung, ...], Lists] = {(): exact}
        for name, steps in rungs.items():
            for end in range(1, len(steps) + 1):
                begun = tuple(steps[:end])
                if begun not in made:
                    made[begun] = steps[end - 1](weights, made[begun[:-1]])
            found[name][rows.numpy()] = made[tuple(steps)].ranks().cpu().numpy()

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(grade_batch, batches.rows()))  # an error of a batch is raised here
    return found


def _sequences(weights: Weights) -> Int[Tensor, "I"]:
    """Number of each item's code sequence; 0 of padding, and of no other."""
    assert weights.generator is not None
    codes = tokenizer_codes(weights.generator.index)
    return torch.nn.functional.pad(codes.unique(dim=0, return_inverse=True)[1] + 1, (1, 0))


def _negatives(lists: Lists, items: int) -> Int[Tensor, "B C"]:
    """Items outside history and target; which, hangs on these alone, and in a catalogue that has not so many for every
    user of the batch, how many on the longest history."""
    drawn = []
    for padded, target in zip(lists.seen.tolist(), lists.target.tolist(), strict=True):
        history = [item for item in padded if item]
        others = np.setdiff1d(np.arange(1, items + 1), [*history, target], assume_unique=False)
        seed = [target, len(history), *history]
        drawn.append(np.random.default_rng(seed).choice(others, min(NEGATIVES, len(others)), replace=False))
    fewest = min(map(len, drawn))
    return torch.as_tensor(np.stack([row[:fewest] for row in drawn]), device=lists.target.device)


def _scores(weights: Weights, lists: Lists, items: Int[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """The model's scores of given items; of a model that scores every item, from lists of all items."""
    if weights.generator is not None:
        return weights.generator.score(lists.history, items)
    place = torch.zeros(len(items), weights.items + 1, dtype=torch.long, device=items.device)
    place.scatter_(1, lists.items, torch.arange(lists.items.shape[1], device=items.device).expand_as(lists.items))
    return lists.scores.gather(1, place.gather(1, items))


BEAM_20, BEAM_50, BEAM_500 = (partial(beam, width=width) for width in (20, 50, 500))
FREE_20 = partial(beam, width=20, constrained=False)
