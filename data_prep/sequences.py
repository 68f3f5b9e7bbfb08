"""Ordered sequences without timestamps (another lab's files): `user<TAB>item item ...`, oldest first. Ids are text.

Order is all such a file says, so no duplicate rule and no sort is applied, and no k-core unless one is asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.corpus import SHORTEST
from data_prep.fields import check_id
from data_prep.files import lines
from data_prep.filtering import Interactions, Rows, Sequences, in_order


def read_sequences(path: Path) -> Sequences:
    """Read a sequence file, one user a line, and take it as it is.

    Raises:
        ValueError: a user with fewer than three interactions; what `sequence_rows` says of a damaged file.
    """
    read = sequence_rows(path, SHORTEST)
    users, items, rows = len(read.user_ids), len(read.item_ids), len(read.user)
    step = {"step": "sequences read", "users": users, "items": items, "interactions": rows}
    return in_order(Rows(read.user, read.item, None), read.user_ids, read.item_ids, [step])


def sequence_rows(path: Path, shortest: int = 1) -> Interactions:
    """The interactions of a sequence file, one user a line; an interaction's time is its place in the file.

    Raises:
        ValueError: a line without tab, what is no id, items with more than one blank between them, a repeated user, a
            user with fewer than `shortest` interactions (the sentence names the line), not UTF-8, an empty file, a
            damaged gzip.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    flat: list[int] = []
    lengths: list[int] = []
    for number, line in lines(path):
        where = f"{path}, line {number}"
        user, tab, history = line.partition("\t")
        # At every blank: between two of them an id is missing.
        sequence = history.split(" ")
        if not tab:
            raise ValueError(f"{where} has no tab; expected user<TAB>item item item ...")
        check_id("the user", user, where)
        if user in users:
            raise ValueError(f"{where}: user {user} has a line already; expected one line a user")
        for item in sequence:
            if item not in items:
                check_id("an item", item, where)
                items[item] = len(items)
        if len(sequence) < shortest:
            raise ValueError(f"{where}: user {user} has {len(sequence)} interactions; expected at least {shortest}")
        users[user] = len(users)
        flat.extend(map(items.__getitem__, sequence))
        lengths.append(len(sequence))
    if not users:
        raise ValueError(f"{path} has no user; expected lines user<TAB>item item item ...")
    user_codes = np.repeat(np.arange(len(users), dtype=np.int32), lengths)
    ids = pa.array(list(users), pa.string()), pa.array(list(items), pa.string())
    return Interactions(user_codes, np.array(flat, dtype=np.int32), np.arange(len(flat)), *ids, order_only=True)
