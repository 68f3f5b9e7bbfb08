"""Batches against the examples they are made of: nothing lost, nothing doubled, equally large, random."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from itertools import chain, combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import data_prep.batches
from data_prep.batches import Batches
from data_prep.corpus import Batch, Examples

Row = tuple[int, tuple[int, ...], int]


def examples_of(lengths: list[int]) -> Examples:
    """One example per user with a history of that length; item ids are never used twice."""
    ends = np.cumsum(np.array(lengths, dtype=np.int64) + 1)
    flat = np.arange(1, ends[-1] + 1, dtype=np.int32)
    return Examples(flat, np.arange(len(lengths)), ends - 1 - np.array(lengths), ends - 1)


def expected(examples: Examples, history_length: int) -> list[Row]:
    rows = zip(examples.user, examples.start, examples.stop, strict=True)
    flat = examples.flat.tolist()
    return [(int(user), tuple(flat[start:stop][-history_length:]), flat[stop]) for user, start, stop in rows]


def at(epoch: int) -> Callable[[], int]:
    return lambda: epoch


def unpadded(batch: Batch) -> list[Row]:
    """Users, histories and targets; checks that padding is on the right and no wider than the longest history."""
    rows = []
    for user, history, target in zip(batch.user.tolist(), batch.history.tolist(), batch.target.tolist(), strict=True):
        length = sum(item > 0 for item in history)
        assert history[length:] == [0] * (len(history) - length)
        rows.append((user, tuple(history[:length]), target))
    assert batch.history.shape[1] == max(len(history) for _, history, _ in rows)
    return rows


LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 7), st.sampled_from([None, 0, 5]))
def test_every_example_once(lengths: list[int], batch_size: int, history_length: int, epoch: int | None) -> None:
    examples = examples_of(lengths)
    current = None if epoch is None else at(epoch)
    batches = Batches(examples, batch_size, history_length, seed=3, epoch=current)
    seen = [unpadded(batch) for batch in batches]
    assert len(seen) == len(batches) == -(-len(examples) // batch_size)
    assert max(map(len, seen)) <= batch_size
    if epoch is not None:
        assert max(map(len, seen)) - min(map(len, seen)) <= 1
    assert sorted(row for batch in seen for row in batch) == sorted(expected(examples, history_length))


def test_one_batch_by_hand() -> None:
    examples = Examples(
        np.array([5, 6, 7, 8, 9], dtype=np.int32), np.array([4, 4, 2]), np.array([0, 0, 3]), np.array([1, 3, 4])
    )
    (batch,) = Batches(examples, 8, history_length=2)
    # In order of length, ties as given; the history 5 6 7 keeps its last two items.
    assert batch.user.tolist() == [4, 2, 4]
    assert batch.history.tolist() == [[5, 0], [8, 0], [6, 7]]
    assert batch.target.tolist() == [6, 9, 8]
    assert batch.history.dtype == batch.target.dtype == torch.int64


def targets(examples: Examples, seed: int, epoch: Callable[[], int] | None) -> list[list[int]]:
    return [batch.target.tolist() for batch in Batches(examples, 4, 5, seed=seed, epoch=epoch)]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    examples = examples_of([length % 7 for length in range(50)])
    torch.manual_seed(0)
    first = targets(examples, seed=1, epoch=at(0))
    state = torch.get_rng_state()
    assert targets(examples, seed=1, epoch=at(0)) == first
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert targets(examples, seed=1, epoch=at(0)) == first
    others = [targets(examples, seed=seed, epoch=at(epoch)) for seed, epoch in [(1, 1), (2, 0), (2, 1)]]
    assert len({str(order) for order in [first, *others]}) == 4


@pytest.mark.parametrize(("epoch", "expected"), [(None, "7ed942d2b3819ffc"), (at(2), "69a55908a9f5f7f8")])
def test_order_and_content_never_change(epoch: Callable[[], int] | None, expected: str) -> None:
    """Bit by bit as they were when the records of board v2 were made."""
    digest = hashlib.sha256()
    for batch in Batches(examples_of([number**2 % 23 for number in range(90)]), 4, 9, seed=5, epoch=epoch):
        for tensor in batch:
            digest.update(str(tensor.tolist()).encode())
    assert digest.hexdigest()[:16] == expected


def test_the_epoch_is_asked_for_at_each_iteration() -> None:
    now = [0]
    batches = Batches(examples_of([3] * 30), 4, 5, epoch=lambda: now[0])
    orders = []
    for now[0] in (0, 1, 0):
        orders.append([batch.target.tolist() for batch in batches])
    assert orders[0] == orders[2] != orders[1]


def test_grading_goes_by_length() -> None:
    examples = examples_of([4, 1, 3, 1, 2, 5])
    seen = [len(history) for batch in Batches(examples, 2, 9) for _, history, _ in unpadded(batch)]
    assert seen == [1, 1, 2, 3, 4, 5]


def test_grading_goes_by_the_length_of_the_whole_history() -> None:
    """Whoever has bought much is graded with others who have, though a model reads as much of all."""
    seen = [batch.user.tolist() for batch in Batches(examples_of([7, 4, 9, 3, 8, 2]), 2, history_length=3)]
    assert seen == [[5, 3], [1, 0], [4, 2]]


def test_lengths_meet_by_chance() -> None:
    """Of 120 examples each is as long as 11 of the 119 others, and meets those as often as any."""
    examples = examples_of([number % 10 for number in range(120)])
    length = dict(zip(examples.target.tolist(), examples.length.tolist(), strict=True))
    pairs = [
        pair for epoch in range(100) for batch in targets(examples, 0, at(epoch)) for pair in combinations(batch, 2)
    ]
    assert len(pairs) == 100 * 120 * 3 / 2
    # Deviation: .0022.
    assert np.mean([length[one] == length[other] for one, other in pairs]) == pytest.approx(11 / 119, abs=0.01)


@pytest.fixture
def pools_of_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_prep.batches, "POOL", 8)


@pytest.mark.usefixtures("pools_of_8")
def test_a_pool_is_cut_by_length() -> None:
    """Within a pool no batch holds lengths that lie between those of another."""
    lengths = np.random.default_rng(0).integers(1, 30, size=4 * 8 - 3).tolist()
    ranges = []
    for batch in Batches(examples_of(lengths), 4, 50, epoch=at(0)):
        held = [len(history) for _, history, _ in unpadded(batch)]
        assert len(held) in (3, 4)
        ranges.append((min(held), max(held)))
    assert ranges != sorted(ranges)  # batches come in random order
    ranges.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))


@pytest.mark.usefixtures("pools_of_8")
def test_more_than_one_pool_stays_random() -> None:
    """Which examples meet in a batch differs between epochs, though each pool is sorted."""
    examples = examples_of([length % 10 for length in range(64)])
    meet = [{frozenset(batch) for batch in targets(examples, 0, at(epoch))} for epoch in (0, 1)]
    assert len(meet[0] & meet[1]) < 0.1 * len(meet[0])


@pytest.mark.parametrize(("world", "left_out"), [(2, 0), (3, 0), (4, 2)])
def test_shards_make_up_every_batch(world: int, left_out: int) -> None:
    """90 examples in 8 batches of at most 12."""
    examples = examples_of([length % 6 for length in range(90)])
    shards = [Batches(examples, 12, 5, epoch=at(0), shard=(rank, world)) for rank in range(world)]
    parts = [[batch.target.tolist() for batch in shard] for shard in shards]
    assert {len(shard) for shard in shards} == {len(part) for part in parts} == {8}
    sizes = []
    for shares in zip(*parts, strict=True):
        assert len({len(share) for share in shares}) == 1
        sizes.append(len(list(chain(*shares))))
    assert max(sizes) <= 12
    assert max(sizes) - min(sizes) <= world
    seen = list(chain(*chain(*parts)))
    assert len(seen) == len(set(seen)) == 90 - left_out


def test_shards_of_batches_that_divide_are_those_of_one_process() -> None:
    examples = examples_of([length % 6 for length in range(96)])
    whole = [sorted(batch.target.tolist()) for batch in Batches(examples, 12, 5, epoch=at(0))]
    shards = [Batches(examples, 12, 5, epoch=at(0), shard=(rank, 4)) for rank in range(4)]
    shared = [sorted(chain(*(part.target.tolist() for part in parts))) for parts in zip(*shards, strict=True)]
    assert shared == whole


def test_what_is_left_out_is_another_each_epoch() -> None:
    examples = examples_of([1] * 26)
    out = []
    for epoch in range(20):
        shards = [Batches(examples, 12, 5, epoch=at(epoch), shard=(rank, 4)) for rank in range(4)]
        assert [[len(batch.target) for batch in shard] for shard in shards] == [[3, 3]] * 4
        seen = chain(*(batch.target.tolist() for shard in shards for batch in shard))
        out.append(set(examples.target.tolist()).difference(seen))
    assert {len(left) for left in out} == {2}
    assert len({frozenset(left) for left in out}) > 15


def test_fewer_examples_than_processes() -> None:
    with pytest.raises(ValueError, match="3 examples are too few for 4 processes; expected one for each"):
        Batches(examples_of([1, 2, 3]), 4, 5, epoch=at(0), shard=(0, 4))


def test_reads_a_read_only_memory_map() -> None:
    examples = examples_of([2, 0, 3])
    for array in (examples.flat, examples.user, examples.start, examples.stop):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (batch,) = Batches(examples, 4, 5)
    assert sorted(unpadded(batch)) == expected(examples, 5)


@pytest.mark.parametrize("epoch", [None, at(1)])
def test_nothing_is_read_back_from_the_device(epoch: Callable[[], int] | None) -> None:
    """Not even a length: a meta tensor has no values, and refuses to give any."""
    examples = examples_of([1, 4, 2, 8, 0, 3])
    with pytest.raises(RuntimeError, match="meta"):
        int(torch.zeros((), device="meta"))
    on_cpu, on_meta = (Batches(examples, 2, 5, device, epoch=epoch) for device in ("cpu", "meta"))
    for batch, empty in zip(on_cpu, on_meta, strict=True):
        assert all(tensor.device.type == "meta" for tensor in empty)
        assert [tensor.shape for tensor in empty] == [tensor.shape for tensor in batch]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_never_waited_for() -> None:
    examples = examples_of([length % 9 for length in range(50)])
    batches, expected = (Batches(examples, 8, 5, device, epoch=at(1)) for device in ("cuda", "cpu"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = list(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, wanted in zip(found, expected, strict=True):
        assert all(torch.equal(one.cpu(), two) for one, two in zip(ours, wanted, strict=True))
