"""ItemIndex: item <-> code sequences, and the prefix trie over all sequences as tensors.

Level `l` of the trie has one node per distinct prefix of `l` codes, numbered in lexicographic order; the root is node 0
of level 0. Children of a node are neighbours on the next level, so a level is two tensors: where a node's children
start, and `parent * V + code` of each child, ascending.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from models.parts.construction import remembers_construction
from models.parts.ragged import members


class Continuations(NamedTuple):
    """Legal continuations of `P` prefixes, one after the other, those of a prefix in order of code.

    Attributes:
        parent: `[Q]` which prefix each continues, ascending.
        node: `[Q]` its node on the next level.
        code: `[Q]` its last code.
    """

    parent: Int[Tensor, "Q"]
    node: Int[Tensor, "Q"]
    code: Int[Tensor, "Q"]


@remembers_construction
class ItemIndex(nn.Module):
    """Code sequences of all items.

    `codes` is a persistent buffer, so a checkpoint carries the index with the weights that belong to it; the trie is
    derived from it, also after a checkpoint is loaded.

    Attributes:
        codes: `[I, A, L]`, at most `A` sequences per item; -1 where there is none, and in row 0 (padding).
        sizes: `L` codebook sizes.
        leaves: number of distinct sequences.
        duplicates_before: share of items that shared all their codes with another before a repair.
        distinct_before: number of distinct sequences then.
        reconstruction_error: of the item vectors from the codes, as a share of their variance; None where the codes
            reconstruct none, or nobody has looked.
    """

    codes: Tensor
    duplicates_before: Tensor
    distinct_before: Tensor
    reconstruction_error: Tensor | None

    def __init__(
        self,
        codes: Int[Tensor, "I L"] | Int[Tensor, "I A L"],
        sizes: tuple[int, ...],
        unrepaired: Int[Tensor, "N L2"] | None = None,
        reconstruction_error: float | None = None,
    ) -> None:
        """Like `assign`."""
        super().__init__()
        self.sizes = sizes
        self.register_buffer("codes", codes)
        self.register_buffer("duplicates_before", torch.zeros(()))
        self.register_buffer("distinct_before", torch.zeros((), dtype=torch.long))
        error = None if reconstruction_error is None else torch.tensor(reconstruction_error)
        self.register_buffer("reconstruction_error", error)
        self.register_load_state_dict_post_hook(_rebuild)  # type: ignore[no-untyped-call]
        self.assign(codes, unrepaired)

    def assign(
        self, codes: Int[Tensor, "I L"] | Int[Tensor, "I A L"], unrepaired: Int[Tensor, "N L2"] | None = None
    ) -> None:
        """Renames all items.

        Args:
            codes: `[I, L]` stands for one sequence per item.
            unrepaired: what the tokenizer gave, before collisions were repaired; `codes` unless given.

        Raises:
            ValueError: a code is outside its codebook, row 0 is not padding, or an item has no sequence or one twice.
        """
        if codes.ndim == 2:
            codes = codes[:, None]
        _check(codes, self.sizes)
        self.codes = codes.long().clone()
        before = _sequences(self.codes) if unrepaired is None else unrepaired
        self.duplicates_before = torch.tensor(shared(before), device=codes.device)
        self.distinct_before = torch.tensor(len(before.unique(dim=0)), device=codes.device)
        self._build()

    @property
    def levels(self) -> int:
        return len(self.sizes)

    def continuations(self, level: int, node: Int[Tensor, "P"]) -> Continuations:
        """Legal continuations of the nodes of a level."""
        first, key = getattr(self, f"first_{level}"), getattr(self, f"key_{level}")
        parent, child = members(first, node)
        return Continuations(parent, child, key[child] % self.sizes[level])

    def child(self, level: int, node: Int[Tensor, "..."], code: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """The child reached by a code, or -1 where the index has no such prefix, or the level no such code."""
        keys = getattr(self, f"key_{level}")
        wanted = node * self.sizes[level] + code
        position = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        known = (node >= 0) & (code >= 0) & (code < self.sizes[level])
        found = known & (keys[position] == wanted)
        return torch.where(found, position, -1)

    def parent(self, level: int, child: Int[Tensor, "..."]) -> tuple[Int[Tensor, "..."], Int[Tensor, "..."]]:
        """Node of a level whose child is given, and the code from it to the child."""
        key = getattr(self, f"key_{level}")[child]
        return key // self.sizes[level], key % self.sizes[level]

    def items_at(self, leaf: Int[Tensor, "..."]) -> Int[Tensor, "... G"]:
        """Items that a complete sequence names, ascending, padded with 0; `G` is the largest such group."""
        first, items = self.get_buffer("leaf_first"), self.get_buffer("leaf_items")
        known = leaf.clamp(min=0)
        begin, end = first[known][..., None], first[known + 1][..., None]
        position = begin + torch.arange(self.largest_group, device=leaf.device)
        inside = (position < end) & (leaf >= 0)[..., None]
        return torch.where(inside, items[torch.where(inside, position, 0)], 0)

    def leaves_of(self, item: Int[Tensor, "..."]) -> Int[Tensor, "... A"]:
        """The nodes of an item's complete sequences; -1 where there is none."""
        return self.get_buffer("leaf_of")[item]

    def card(self) -> dict[str, Any]:
        """The code card: what the codes of a row look like.

        Share of items with duplicate codes before and after the repair, number of distinct sequences before it, and how
        well the codes reconstruct the item vectors. Per level: share of sequences whose codes up to that level another
        one has too, share of codes in use, entropy of code usage in nats, mean and largest number of children of a
        prefix. Mean number of sequences per item and of items per sequence, and the largest of these.
        """
        codes = _sequences(self.codes).cpu()
        usage = self.usage()
        entropy = [torch.special.entr(count / count.sum()).sum() for count in usage]
        error = self.reconstruction_error
        return {
            "levels": self.levels,
            "sizes": list(self.sizes),
            "duplicates_before": float(self.duplicates_before),
            "duplicates_after": shared(codes),
            "distinct_before": int(self.distinct_before),
            "reconstruction_error": None if error is None else float(error),
            "shared_prefix": [shared(codes[:, : level + 1]) for level in range(self.levels)],
            "utilisation": [float((count > 0).float().mean()) for count in usage],
            "entropy": [float(nats) for nats in entropy],
            "mean_fan_out": [self._nodes[level + 1] / self._nodes[level] for level in range(self.levels)],
            "largest_fan_out": list(self._fan_out),
            "sequences_per_item": len(codes) / (len(self.codes) - 1),
            "items_per_sequence": len(codes) / self.leaves,
            "most_items_per_sequence": self.largest_group,
        }

    def usage(self) -> list[Float[Tensor, "_"]]:
        """How many sequences have each code of a level."""
        codes = _sequences(self.codes).cpu()
        return [torch.bincount(codes[:, level], minlength=size).float() for level, size in enumerate(self.sizes)]

    def _build(self) -> None:
        """Derives the trie from `codes`."""
        table = self.codes.cpu().numpy()
        items, slots = np.nonzero(table[:, :, 0] >= 0)
        codes = table[items, slots]
        order = np.lexsort(codes.T[::-1])  # stable: items of one sequence stay in order of id
        items, slots, codes = items[order], slots[order], codes[order]
        leaf = self._build_levels(codes)
        same_as_next = (leaf[:-1] == leaf[1:]) & (items[:-1] == items[1:])
        if same_as_next.any():
            row = int(same_as_next.argmax())
            raise ValueError(f"item {items[row]} has the sequence {codes[row].tolist()} twice")
        self.leaves = self._nodes[-1]
        leaf_first = np.searchsorted(leaf, np.arange(self.leaves + 1))
        self.largest_group = int(np.diff(leaf_first).max())
        self._keep("leaf_first", leaf_first)
        self._keep("leaf_items", items)
        leaf_of = np.full(table.shape[:2], -1)
        leaf_of[items, slots] = leaf
        self._keep("leaf_of", leaf_of)

    def _build_levels(self, codes: Int[np.ndarray, "Q L"]) -> Int64[np.ndarray, "Q"]:
        """Builds the levels from sequences in lexicographic order; the leaf of each."""
        self._fan_out: list[int] = []
        self._nodes = [1]
        node = np.zeros(len(codes), dtype=np.int64)
        # Where the prefix differs from that of the sequence before it.
        new = np.zeros(len(codes), dtype=bool)
        new[0] = True
        for level, size in enumerate(self.sizes):
            new[1:] |= codes[1:, level] != codes[:-1, level]
            parent, code = node[new], codes[new, level]
            first = np.searchsorted(parent, np.arange(self._nodes[-1] + 1))
            self._keep(f"first_{level}", first)
            self._keep(f"key_{level}", parent * size + code)
            self._fan_out.append(int(np.diff(first).max()))
            self._nodes.append(len(code))
            node = np.cumsum(new) - 1
        return node

    def _keep(self, name: str, array: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(array).to(self.codes.device), persistent=False)


def _check(codes: Int[Tensor, "I A L"], sizes: tuple[int, ...]) -> None:
    """
    Raises:
        ValueError: as `ItemIndex.assign` does.
    """
    if codes.shape[2] != len(sizes) or (codes[0] != -1).any():
        raise ValueError(f"codes of shape {tuple(codes.shape)} need {len(sizes)} levels and -1 in row 0")
    absent = codes == -1
    wrong = (codes < -1) | (codes >= torch.tensor(sizes, device=codes.device))
    # A sequence is absent as a whole, and an item has one at least.
    wrong |= absent & ~absent.all(2, keepdim=True)
    wrong[1:] |= absent[1:].all(2, keepdim=True).all(1, keepdim=True)
    if wrong.any():
        item, sequence, level = (int(i) for i in wrong.nonzero()[0])
        code = int(codes[item, sequence, level])
        raise ValueError(f"item {item} has code {code} at level {level}; possible: 0..{sizes[level] - 1}")


def shared(codes: Int[Tensor, "Q l"]) -> float:
    """Share of sequences that occur more than once."""
    counts = torch.unique(codes, dim=0, return_counts=True)[1]
    return float(counts[counts > 1].sum() / len(codes))


def _sequences(codes: Int[Tensor, "I A L"]) -> Int[Tensor, "Q L"]:
    """Of all items, one after the other."""
    every = codes[1:].flatten(0, 1)
    return every[every[:, 0] >= 0]


def _rebuild(index: ItemIndex, keys: Any) -> None:
    index._build()


def with_suffix(codes: Int[Tensor, "N L"], size: int) -> Int[Tensor, "I L1"]:
    """TIGER's repair of collisions: one more code counts the items of equal codes, by item id from 0. Row 0 is padding.

    Raises:
        ValueError: more items share their codes than the suffix codebook has codes.
    """
    group = torch.unique(codes, dim=0, return_inverse=True)[1]
    order = group.argsort(stable=True)
    ordered = group[order]
    first = torch.searchsorted(ordered, ordered)
    suffix = torch.empty_like(group)
    suffix[order] = torch.arange(len(group), device=group.device) - first
    largest = int(suffix.max()) + 1
    if largest > size:
        raise ValueError(
            f"{largest} items have equal codes, but the suffix codebook tells only {size} apart: "
            "the tokenizer has collapsed, or the item vectors hardly differ"
        )
    suffixed = torch.cat([codes, suffix[:, None]], dim=1)
    return torch.nn.functional.pad(suffixed, (0, 0, 1, 0), value=-1)


def distinct(codes: Int[Tensor, "N L"], nearness: Float[Tensor, "N V"]) -> Int[Tensor, "N L"]:
    """Codes of items 1..N with another last code where several items have equal ones.

    Of items with equal codes the one to which they are nearest keeps them. The others take, from the nearest on, the
    nearest last code that leads to a sequence without an item.

    Args:
        nearness: of each item to the codes of the last level; larger is nearer.

    Raises:
        ValueError: more items share all codes but the last than the last level has codes.
    """
    sequences = [tuple(row) for row in codes.tolist()]
    nearness_to_own = nearness.gather(1, codes[:, -1:]).squeeze(1)
    nearest_first = nearness_to_own.argsort(descending=True, stable=True).tolist()
    taken, others = set[tuple[int, ...]](), list[int]()
    for item in nearest_first:
        if sequences[item] in taken:
            others.append(item)
        taken.add(sequences[item])
    for item in others:
        prefix = sequences[item][:-1]
        last_codes = nearness[item].argsort(descending=True, stable=True).tolist()
        free = next((code for code in last_codes if (*prefix, code) not in taken), None)
        if free is None:
            raise ValueError(
                f"more than {len(last_codes)} items share all codes but the last, whose codebook tells only "
                f"{len(last_codes)} apart: the tokenizer has collapsed, or the item vectors hardly differ"
            )
        sequences[item] = (*prefix, free)
        taken.add(sequences[item])
    return torch.tensor(sequences, device=codes.device)
