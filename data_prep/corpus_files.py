"""A prepared corpus on disk: Arrow files that are memory-mapped, in a folder named by the content they come from."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock

from data_prep.atomic import atomic_folder, write_json
from data_prep.corpus import Corpus
from data_prep.files import content_sha256
from data_prep.filtering import Sequences
from data_prep.item_text import ItemText

logger = logging.getLogger(__name__)

# SHA-256 of each other file of the folder. To map a damaged Arrow file ends the process.
HASHES = "hashes.json"
# Of a corpus whose source has times.
TIMES = "times.arrow"


def save(folder: Path, sequences: Sequences, text: ItemText | None, card: dict[str, Any]) -> None:
    """Write sequences, what is known of the items, and card as one folder, or nothing.

    Raises:
        OSError: the disk is full.
    """
    items = {"item_id": sequences.item_ids}
    if text is not None:
        items["item_text"] = pa.array(text.sentences, pa.string())
        items["item_categories"] = pa.array(text.categories, pa.list_(pa.string()))
    with atomic_folder(folder) as temporary:
        _write(temporary / "flat.arrow", {"flat": pa.array(sequences.flat)})
        _write(temporary / "offsets.arrow", {"offsets": pa.array(sequences.offsets)})
        if sequences.times is not None:
            _write(temporary / TIMES, {"time": pa.array(sequences.times)})
        _write(temporary / "users.arrow", {"user_id": sequences.user_ids})
        _write(temporary / "items.arrow", items)
        write_json(temporary / "card.json", card)
        write_json(temporary / HASHES, _hashes(temporary))


def whole(folder: Path) -> bool:
    """Whether a folder holds just what `save` wrote there."""
    try:
        return bool(json.loads((folder / HASHES).read_bytes()) == _hashes(folder))
    except (OSError, ValueError, RecursionError):
        return False


def _hashes(folder: Path) -> dict[str, str]:
    return {file.name: content_sha256(file) for file in sorted(folder.iterdir()) if file.name != HASHES}


def made_once(folder: Path, name: str, make: Callable[[], None]) -> Corpus:
    """The corpus of a folder, which `make` fills with `save` where it is not there, or not as it was saved."""
    if folder.is_dir() and not whole(folder):
        # Of several processes one removes it, and the others find what that one has made.
        with FileLock(f"{folder}.lock"):
            if not whole(folder):
                logger.warning("%s is damaged, or of an earlier version; it is prepared again", folder)
                # Another may have removed it, and had no room then.
                shutil.rmtree(folder, ignore_errors=True)
                make()
    elif not folder.is_dir():
        make()
    return open_corpus(folder, name)


def open_corpus(folder: Path, name: str) -> Corpus:
    """The corpus of a folder that `save` wrote; arrays are read-only views on the files.

    Raises:
        ValueError: a user is too short for leave-one-out.
    """
    items, times = _read(folder / "items.arrow"), folder / TIMES
    return Corpus(
        name=name,
        flat=_read(folder / "flat.arrow")["flat"].to_numpy(),
        offsets=_read(folder / "offsets.arrow")["offsets"].to_numpy(),
        user_ids=_read(folder / "users.arrow")["user_id"],
        item_ids=items["item_id"],
        item_text=items.get("item_text"),
        item_categories=items.get("item_categories"),
        card=json.loads((folder / "card.json").read_text()),
        times=_read(times)["time"].to_numpy() if times.exists() else None,
    )


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _read(path: Path) -> dict[str, pa.Array]:
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    return dict(zip(batch.schema.names, batch.columns, strict=True))
