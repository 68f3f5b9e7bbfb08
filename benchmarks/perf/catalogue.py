"""The cost of exact search as the catalogue grows, for a model that stays as sharp."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from benchmarks.perf import Pair
from models.parts.index import ItemIndex
from models.parts.search import Step, exact_search

CATALOGUES = (10_000, 100_000, 1_000_000)
SIZES = (256,) * 4
K, WIDTH, USERS = 10, 50, 16
# A user's item of rank r has a probability in proportion to (r + SHIFT) ** -POWER (Zipf and Mandelbrot): the best ten
# have 9% together, as much as good recommenders give them, in the largest catalogue as in the smallest.
SHIFT, POWER = 50, 1.5


def catalogue() -> list[Pair]:
    """Expansions per user of the certified exact top-10, beside those of a beam of 50."""
    beam = 1 + WIDTH * (len(SIZES) - 1)
    pairs = []
    for items in CATALOGUES:
        spent = expansions(items)
        mean = float(spent.double().mean())
        note = (
            f"a beam of {WIDTH}, which is not exact; random index of {items:,} items, {USERS} users with an order of "
            f"their own each, the best ten with 9% together; at most {int(spent.max())} for a user"
        )
        pairs.append(Pair(f"catalogue_{items}", mean, beam, beam / mean, "expansions/user", note))
    return pairs


def expansions(items: int) -> Int[Tensor, "B"]:
    """Prefixes expanded per user for a catalogue of random code sequences.

    Raises:
        ValueError: a list is not certified, or not the true one.
    """
    random = np.random.default_rng(items)
    # Distinct sequences, as numbers to the base of the codebook.
    numbers = random.choice(int(np.prod(SIZES)), items, replace=False, shuffle=False)
    codes = np.stack(np.unravel_index(numbers, SIZES), 1)
    index = ItemIndex(torch.from_numpy(np.pad(codes, ((1, 0), (0, 0)), constant_values=-1)), SIZES)
    best_first = torch.from_numpy(np.stack([random.permutation(items) for _ in range(USERS)]) + 1)
    found = exact_search(model(index, best_first), USERS, index, K)
    if not found.certified.all() or not torch.equal(found.items.sort().values, best_first[:, :K].sort().values):
        raise ValueError(f"the search in {items:,} items did not find the {K} most probable ones of each user")
    assert found.expansions is not None
    return found.expansions


def model(index: ItemIndex, best_first: Int[Tensor, "B N"]) -> Step:
    """A generator of codes that gives every user's items the probabilities of that law, by rank."""
    users, items = best_first.shape
    law = (torch.arange(1, items + 1, dtype=torch.float64) + SHIFT) ** -POWER
    weight = torch.zeros(users, items + 1, dtype=torch.float64).scatter_(1, best_first, law.expand(users, -1))
    # Leaves below a node are neighbours, so that its mass is a difference of two running sums.
    leaf_items = index.items_at(torch.arange(index.leaves))[:, 0]
    until = torch.nn.functional.pad(weight[:, leaf_items].cumsum(1), (1, 0))
    starts = [torch.arange(index.leaves + 1)]
    for level in reversed(range(index.levels)):
        starts.insert(0, starts[0][index.get_buffer(f"first_{level}")])

    def log_mass(level: int, user: Int[Tensor, "P"], node: Int[Tensor, "P"]) -> Float64[Tensor, "P"]:
        start, stop = starts[level][node], starts[level][node + 1]
        return (until[user, stop] - until[user, start]).log()

    def step(
        level: int, user: Int[Tensor, "P"], code: Int[Tensor, "P"], parent: Int[Tensor, "P"], cache: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        node = code if cache is None else index.child(level - 1, cache[parent], code)
        following, own = index.continuations(level, node), log_mass(level, user, node)
        log_probs = torch.full((len(node), index.sizes[level]), -torch.inf)
        share = log_mass(level + 1, user[following.parent], following.node) - own[following.parent]
        # Rounding may put a share just above 1.
        log_probs[following.parent, following.code] = share.clamp(max=0.0).float()
        return log_probs, node

    return step
