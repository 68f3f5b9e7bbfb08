"""5-core of generated rows in the official CSV schema: our path beside a plain pandas loop, seconds and peak memory.

`python -m benchmarks.perf.kcore [--rows 20000000]`. Every stage runs in a process of its own, so that each peak is its
own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.device import peak_memory_bytes
from benchmarks.perf import Pair, Turns, pair

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROWS = 20_000_000
K = 5
CHUNK_ROWS = 1_000_000
# Ids of the official lengths: 28 characters for a user, 10 for an item.
USER_CHARACTERS, ITEM_CHARACTERS = 28, 10
# Rows per user and per item before filtering, roughly those of the large categories.
ROWS_PER_USER, ROWS_PER_ITEM = 4, 40
# Share of a draw: id = count * u ** SKEW, so that few users and items have many rows and most have one or two.
SKEW = 3.0
BYTES_PER_GIB = 1 << 30

Counts = dict[str, int]


class Result(NamedTuple):
    """What one stage gave and took; `peak_gib` is the largest resident size of its process."""

    counts: Counts
    seconds: float
    peak_gib: float


def generate(path: Path, rows: int) -> Counts:
    """Write `rows` reviews with heavy-tailed users and items; returns how many there are of each to draw from."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    random = np.random.default_rng(0)
    users = _ids("A", rows // ROWS_PER_USER, USER_CHARACTERS, random)
    items = _ids("B0", rows // ROWS_PER_ITEM, ITEM_CHARACTERS, random)
    names = ["user_id", "parent_asin", "rating", "timestamp"]
    schema = pa.schema(list(zip(names, (pa.string(), pa.string(), pa.float64(), pa.int64()), strict=True)))
    with pa_csv.CSVWriter(path, schema, write_options=pa_csv.WriteOptions(quoting_style="none")) as writer:
        for start in range(0, rows, CHUNK_ROWS):
            size = min(CHUNK_ROWS, rows - start)
            columns = [
                users.take(pa.array((len(users) * random.random(size) ** SKEW).astype(np.int64))),
                items.take(pa.array((len(items) * random.random(size) ** SKEW).astype(np.int64))),
                pa.array(random.integers(1, 6, size).astype(np.float64)),
                pa.array(random.integers(1_000_000_000_000, 1_700_000_000_000, size)),
            ]
            writer.write_table(pa.table(columns, schema=schema))
    return {"users": len(users), "items": len(items), "interactions": rows}


def ours(path: Path) -> Counts:
    """CSV -> deduplicated, sorted, 5-core sequences, by the code that prepares a corpus."""
    from data_prep.amazon2023 import Source, read_interactions
    from data_prep.filtering import k_core_sequences

    source = Source("local", "rating_only", {path.name: path})
    result = k_core_sequences(read_interactions(source), K, "generated")
    return {"users": len(result.user_ids), "items": len(result.item_ids), "interactions": len(result.flat)}


def pandas(path: Path) -> Counts:
    """The same as one would write it in pandas, on the string ids."""
    import pandas as pd

    frame = pd.read_csv(path, usecols=["user_id", "parent_asin", "timestamp"])
    frame = frame.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "parent_asin"])
    size = -1
    while size != len(frame):
        size = len(frame)
        for column in ("user_id", "parent_asin"):
            counts = frame[column].value_counts()
            frame = frame[frame[column].isin(counts.index[counts >= K])]
    frame = frame.sort_values(["user_id", "timestamp"], kind="stable")
    sequences = frame.groupby("user_id")["parent_asin"].agg(list)
    return {"users": len(sequences), "items": frame["parent_asin"].nunique(), "interactions": len(frame)}


STAGES: dict[str, Callable[[Path], Counts]] = {"ours": ours, "pandas": pandas}


def kcore(rows: int = ROWS) -> list[Pair]:
    """Seconds of both, once each.

    Raises:
        ValueError: the two 5-cores differ.
    """
    mine, other = compare(rows)
    counts = " / ".join(f"{value:,}" for value in mine.counts.values())
    note = (
        f"pandas {version('pandas')} on string ids; {rows:,} rows to {counts} users / items / interactions, the same "
        f"in both; peak memory {mine.peak_gib:.2f} GiB beside {other.peak_gib:.2f} GiB"
    )
    return [pair("kcore", Turns([mine.seconds], [other.seconds]), "s", note)]


def compare(rows: int) -> tuple[Result, Result]:
    """Generate, run ours and pandas, print the figures.

    Raises:
        ValueError: the two 5-cores differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reviews.csv"
        made = _child("generate", path, rows)
        print(f"{rows:,} rows, {path.stat().st_size / 1e9:.2f} GB, written in {made.seconds:.0f} s", flush=True)
        results = {stage: _child(stage, path, rows) for stage in STAGES}
    for stage, result in results.items():
        counts = " / ".join(f"{value:,}" for value in result.counts.values())
        print(f"{stage:7} {result.seconds:7.1f} s {result.peak_gib:6.2f} GiB   {counts}")
    mine, other = results["ours"], results["pandas"]
    time_ratio, memory_ratio = other.seconds / mine.seconds, other.peak_gib / mine.peak_gib
    print(f"pandas / ours: time x{time_ratio:.1f}, memory x{memory_ratio:.1f}")
    if mine.counts != other.counts:
        raise ValueError(f"the two 5-cores differ: ours {mine.counts}, pandas {other.counts}; expected the same")
    return mine, other


def main() -> int:
    """Compare; 1 where the two do not agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf.kcore", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="rows to generate (default: %(default)s)")
    try:
        compare(parser.parse_args().rows)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _measured(stage: str, path: Path, rows: int) -> Result:
    start = time.perf_counter()
    counts = generate(path, rows) if stage == "generate" else STAGES[stage](path)
    seconds = time.perf_counter() - start
    return Result(counts, seconds, peak_memory_bytes("cpu") / BYTES_PER_GIB)


def _child(stage: str, path: Path, rows: int) -> Result:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measured, stage, path, rows).result()


def _ids(prefix: str, count: int, length: int, random: np.random.Generator) -> pa.Array:
    """`count` ids of random letters and digits behind `prefix`."""
    import numpy as np
    import pyarrow as pa

    alphabet = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", dtype=np.uint8)
    text = alphabet[random.integers(0, len(alphabet), (count, length), dtype=np.uint8)]
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), dtype=np.uint8)
    offsets = np.arange(0, (count + 1) * length, length, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


if __name__ == "__main__":
    sys.exit(main())
