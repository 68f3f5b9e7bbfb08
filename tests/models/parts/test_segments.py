"""Segments: what is masked of each sequence, and where runs come from."""

from __future__ import annotations

import torch

from models.parts.segments import segments
from tests.models.test_sasrec import padded

MASK = 99
SEQUENCES = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 8, 9, 7]]
JOINED = [item for sequence in SEQUENCES for item in sequence]


def runs(length: int) -> set[tuple[int, int]]:
    """First place and length of all runs that a sequence can have: of half of it at most."""
    return {(first, run) for run in range(1, length // 2 + 1) for first in range(length - run + 1)}


def test_a_run_is_masked_or_left_and_another_put_in_its_place() -> None:
    torch.manual_seed(0)
    places: list[set[tuple[int, int]]] = [set() for _ in SEQUENCES]
    others: set[tuple[int, int]] = set()
    for _ in range(300):
        for user, rows in enumerate(zip(*segments(padded(SEQUENCES), MASK), strict=True)):
            sequence = SEQUENCES[user]
            padding = [0] * (6 - len(sequence))
            context, own, other = (row.tolist() for row in rows)
            first, run = context.index(MASK), context.count(MASK)
            places[user].add((first, run))
            before, after = sequence[:first], sequence[first + run :]
            assert context == [*before, *[MASK] * run, *after, *padding]
            masks = [MASK] * first, [MASK] * len(after)
            assert own == [*masks[0], *sequence[first : first + run], *masks[1], *padding]
            inserted = other[first : first + run]
            assert other == [*masks[0], *inserted, *masks[1], *padding]
            starts = [at for at in range(len(JOINED) - run + 1) if JOINED[at : at + run] == inserted]
            assert starts
            others.update((at, run) for at in starts)
    assert places == [runs(5), runs(2), runs(6)]
    # Runs of 3 are rare.
    assert others >= {(at, run) for run in (1, 2) for at in range(len(JOINED) - run + 1)}
