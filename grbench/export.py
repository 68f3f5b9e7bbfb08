"""A row's model as a folder that needs no training data: weights, item ids, codes, record and a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError

from benchmarks.user_errors import out_of_memory
from data_prep.atomic import atomic_folder, write_json, write_text
from data_prep.files import content_sha256
from grbench.module_file import described, rebuilt
from leaderboards import escape, store
from leaderboards.record import Record
from leaderboards.rows import Row
from leaderboards.statistics import Interval, interval
from leaderboards.store import Run
from models.api import Recommender, generator_of

# The way these files are written.
FORMAT = 1
WEIGHTS, MODULE, ITEMS, CODES, RECORD, CARD = (
    "model.safetensors",
    "model.json",
    "items.txt",
    "codes.tsv",
    "record.json",
    "README.md",
)
# As `sha256sum -c` reads it.
SUMS = "SHA256SUMS"
# Histories, their items and the places of a list by which a model that was read again is known.
TRIED = 16
# Items of the longest of them: a model may read all that there is.
LONGEST = 256
AGAIN = " when it is read again"
# Share of the places of those lists that must be the same.
ALIKE = 0.9
METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


class Kept(NamedTuple):
    """What a folder holds: the recommender, ids of items 1..N, and the record of the row."""

    recommender: Recommender
    item_ids: list[str]
    record: Record


def write(recommender: Recommender, item_ids: Sequence[str], run: Run, folder: Path) -> Path:
    """Writes the folder, whole or not at all.

    Args:
        item_ids: of items 1..N.
        run: of the model's record, whose ranks give the card its intervals.

    Raises:
        FileExistsError: the folder is there already, or has come meanwhile.
        ValueError: the model was made from something that no file can hold, or ranks otherwise when it is read again.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; expected the name of a new folder")
    tensors: dict[str, Any] = {}
    module = described(recommender, tensors)
    # What cannot be made again is told here, and not to whoever gets the folder.
    histories, length = _drawn(recommender.history_length, len(item_ids)), min(TRIED, len(item_ids))
    lists = _lists(recommender, histories, length)
    if lists != _lists(rebuilt(module, tensors).to(recommender.device), histories, length, AGAIN):
        raise ValueError(
            f"{type(recommender).__name__} ranks otherwise when it is read again; expected all that its rank reads to "
            "be an argument of __init__, a parameter or a buffer"
        )
    with atomic_folder(folder) as new:
        (new / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
        write_json(new / MODULE, {"format": FORMAT, "model": module, "asked": {"histories": histories, "lists": lists}})
        write_text(new / ITEMS, "".join(f"{item}\n" for item in item_ids))
        write_text(new / RECORD, run.record.model_dump_json(indent=1) + "\n")
        if lines := _codes(recommender, item_ids):
            write_text(new / CODES, "".join(lines))
        files = sorted(new.iterdir())
        sums = "".join(f"{content_sha256(file)}  {file.name}\n" for file in files)
        write_text(new / SUMS, sums)
        # Without a hash, for whoever gets the folder to write on.
        write_text(new / CARD, card(run, folder.name))
    there = folder / SUMS
    if not there.is_file() or there.read_text("utf-8", "replace") != sums:
        raise FileExistsError(f"{folder} has come from elsewhere meanwhile; expected the name of a new folder")
    return folder


def _drawn(length: int, items: int) -> list[list[int]]:
    """Histories of items drawn at random: every other one as long as the model reads, up to `LONGEST`, the others from
    one item on."""
    drawn, longest = torch.Generator().manual_seed(0), min(length, LONGEST)
    history = torch.randint(1, items + 1, (TRIED, longest), generator=drawn).tolist()
    return [each[: longest if place % 2 else 1 + place % longest] for place, each in enumerate(history)]


def _lists(recommender: Recommender, histories: list[list[int]], length: int, when: str = "") -> list[list[int]]:
    """What comes after them, by which a model that is read again is known.

    Args:
        when: the model is asked, as an error says it.

    Raises:
        ValueError: the model cannot rank.
    """
    try:
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(each) for each in histories], batch_first=True)
        with torch.inference_mode():
            found: list[list[int]] = recommender.eval().rank(padded.to(recommender.device), length).items.tolist()
    except Exception as error:
        # What a rank of other code does, nobody can say beforehand.
        if out_of_memory(error):
            raise
        raise ValueError(f"{type(recommender).__name__} cannot rank{when}: {error}") from error
    return found


def _check_lists(recommender: Recommender, histories: list[list[int]], lists: list[list[int]]) -> None:
    """
    Raises:
        ValueError: it ranks otherwise than when it was written; another processor may swap what is nearly equal.
    """
    if not lists or len(lists) != len(histories):
        raise ValueError(f"it has {len(lists)} lists of {len(histories)} histories; expected one of each")
    found = _lists(recommender, histories, len(lists[0]), AGAIN)
    same = [
        one == other for ours, theirs in zip(found, lists, strict=True) for one, other in zip(ours, theirs, strict=True)
    ]
    if sum(same) < ALIKE * len(same):
        raise ValueError(
            f"it ranks otherwise than when it was written: {sum(same)} of {len(same)} places are the same; expected "
            "the code of the record's commit"
        )


def read(folder: Path) -> Kept:
    """What `write` wrote; nothing in the folder is executed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files are damaged, or of a version of the model that has other parts or ranks otherwise.
    """
    _check_sums(folder)
    record = store.read(folder / RECORD)
    try:
        said = json.loads((folder / MODULE).read_bytes())
        if said["format"] != FORMAT:
            raise ValueError(f"it is of format {said['format']!r:.20}; expected {FORMAT}")
        recommender = rebuilt(said["model"], safetensors.torch.load((folder / WEIGHTS).read_bytes()))
        if not isinstance(recommender, Recommender):
            raise ValueError("it is no recommender")
        # Text has more ends of lines than files have.
        items = (folder / ITEMS).read_bytes().decode().removesuffix("\n").split("\n")
        if len(items) != record.corpus.items or len(set(items)) != len(items):
            raise ValueError(f"{ITEMS} has {len(set(items))} different ids; expected {record.corpus.items}")
        # Folders of before have none.
        if asked := said.get("asked"):
            _check_lists(recommender, asked["histories"], asked["lists"])
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{folder}: no model can be read: {' '.join(str(error).split()):.300}") from error
    return Kept(recommender, items, record)


def _check_sums(folder: Path) -> None:
    """
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is not what was written.
    """
    for name in (SUMS, WEIGHTS, MODULE, ITEMS, RECORD):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; expected a whole folder that `grbench export` wrote")
    sums = dict(
        line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text("utf-8", "replace").splitlines() if "  " in line
    )
    for name in (WEIGHTS, MODULE, ITEMS, RECORD):
        if content_sha256(folder / name) != sums.get(name):
            raise ValueError(f"{folder / name} is damaged: its SHA-256 is not that in {SUMS}; get a complete copy")


def _codes(recommender: Recommender, item_ids: Sequence[str]) -> list[str]:
    """Lines of the code table: item id, its sequences of codes."""
    generator: Any = generator_of(recommender)
    if generator is None:
        return []
    return [
        f"{item}\t" + "\t".join(" ".join(map(str, codes)) for codes in sequences if min(codes) >= 0) + "\n"
        for item, sequences in zip(item_ids, generator.index.codes[1:].tolist(), strict=True)
    ]


def card(run: Run, folder: str) -> str:
    """The model card, as the Hugging Face hub shows it."""
    record = run.record
    rows = "".join(
        f"| {name} | {value:.4f} | {low:.4f} to {high:.4f} |\n" for name, value, (low, high) in _metrics(run)
    )
    notes = "".join(f"- {escape.markdown(note)}\n" for note in record.notes)
    beside = f"Beside it on its board stands:\n\n{notes}\n" if notes else ""
    return f"""---
library_name: grbench
license: other
tags:
- recommendation
- {record.model}
---

# {escape.markdown(record.experiment)} on {record.corpus.name}

One seed of a row of grbench: model `{record.model}`, key `{record.key}`, seed {record.seed}, protocol
{record.protocol}. It ranks {record.corpus.items:,} items for histories of item ids.

```python
from grbench import load

model = load({json.dumps(folder)})
model.recommend(["{{an item id of {ITEMS}}}"], k=10)
```

Test part, full ranking, {record.corpus.users:,} users; the interval is of this seed, over users, at 95%:

| metric | value | interval |
|---|---|---|
{rows}
{beside}Files: `{WEIGHTS}`, `{MODULE}` (what it is made from), `{ITEMS}` (ids of items 1, 2, ...),
`{RECORD}` (config, provenance, metrics), and of a model that names items by codes `{CODES}`.

The code is under Apache-2.0. The weights are derived from the interactions and texts of {record.corpus.name}, whose own
terms say what they may be used for.
"""


def _metrics(run: Run) -> list[tuple[str, float, Interval]]:
    row = Row([run], ranked=True)
    return [(metric, run.record.test[metric], interval(row.values(metric))) for metric in METRICS]
