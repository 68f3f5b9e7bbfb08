"""Lists for many users: JSON lines in, one Parquet file out, in parts that a killed run finds again."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from benchmarks.provenance import ROOT
from data_prep.atomic import atomic_file, owned, write_text
from data_prep.files import content_sha256, lines, parse_object
from grbench.served import Recommendation, Served
from leaderboards.source import of_folder

# Users of a part, the most that a kill can lose.
PART = 4096
JOB = "job.json"
SCHEMA = pa.schema({
    "user": pa.string(),
    "items": pa.list_(pa.string()),
    "scores": pa.list_(pa.float32()),
    "certified": pa.bool_(),
})  # fmt: skip
# Half a letter, which JSON can name and UTF-8 has not.
SURROGATE = re.compile("[\ud800-\udfff]")
EMPTY = Recommendation([], [], False)


class User(NamedTuple):
    """A line of the input: `{"user": "U1", "history": ["B01", "B07"]}`, oldest first."""

    name: str
    history: list[str]


class Predicted(NamedTuple):
    """What was done.

    Attributes:
        users: all of the input.
        ranked: of them in this run; the others lay ready.
        seconds: that this run took for those.
        unknown: items of histories that the model does not know, left out.
        without: users of this run of whose history nothing was left; their lists are empty.
        certified: of this run.
    """

    users: int
    ranked: int
    seconds: float
    unknown: int
    without: int
    certified: int


def predict(served: Served, source: Path, target: Path, k: int = 10, unseen: bool = False) -> Predicted:
    """Writes the `k` best items of every user of a file, in the order of the file.

    Columns: user, items (best first), scores, certified. A run that was killed goes on where it was.

    Args:
        source: JSON lines, may be packed with gzip. All are read before any user is ranked.
        target: a Parquet file that is not there.
        unseen: leave out what a user's history holds.

    Raises:
        FileExistsError: the target is there.
        ValueError: a line is no user, with its number; parts of another job lie there, and what differs is named.
    """
    _check_new(target)
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    users = sum(1 for _ in read_users(source))
    if not users:
        raise ValueError(f"{source} holds blank lines alone; expected at least one user")
    parts = target.with_name(f"{target.name}.parts")
    _check_parts(parts)
    with owned(parts, ValueError(f"another process writes into {parts}; wait for it, or name another output")):
        _check_new(target)
        _begin(parts, served, source, k, unseen)
        done = _ranked_parts(served, source, parts, users, k, unseen)
        _join(parts, target, users)
    return done


def _check_new(target: Path) -> None:
    """
    Raises:
        FileExistsError: it is there; another process may have written it since it was last asked for.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already; expected the name of a new file")


def read_users(source: Path) -> Iterator[User]:
    """
    Raises:
        ValueError: a line is no JSON object with a user and a history of item ids; the file is empty or damaged.
    """
    for number, text in lines(source):
        try:
            told = parse_object(text)
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}; expected a JSON object") from error
        name, history = told.get("user"), told.get("history")
        named = isinstance(name, (str, int)) and not isinstance(name, bool) and not SURROGATE.search(str(name))
        if not named or not isinstance(history, list) or not all(isinstance(item, str) for item in history):
            raise ValueError(
                f'{source}, line {number}: {text.strip():.100}; expected {{"user": "U1", "history": ["B01", "B07"]}}'
            )
        yield User(str(name), history)


def _check_parts(parts: Path) -> None:
    """
    Raises:
        ValueError: the folder is there, and none of parts.
    """
    # What else lies there would go with the parts; a process that was killed at once leaves these two.
    others = [path for path in parts.glob("*") if path.name != "lock" and not path.name.startswith(f".{JOB}.")]
    if others and not (parts / JOB).exists():
        raise ValueError(f"{parts} holds other files than lists; name another output")


def _begin(parts: Path, served: Served, source: Path, k: int, unseen: bool) -> None:
    """
    Raises:
        ValueError: parts of another job lie there.
    """
    record = served.record
    job = {
        "input": content_sha256(source),
        "model": [record.corpus.name, record.model, record.key, record.seed],
        "weights": weights_sha256(served),
        "code": of_folder(ROOT),
        "k": k,
        "unseen": unseen,
        "users of a part": PART,
    }
    there = parts / JOB
    if there.exists() and (others := _differing(there.read_bytes(), job)):
        raise ValueError(f"{parts} holds lists of another {others}; remove it, or name another output")
    write_text(there, json.dumps(job))


def _differing(content: bytes, job: Mapping[str, Any]) -> str:
    """What another job's description says otherwise; empty where it is the same job."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return "job, whose description is damaged"
    return " and ".join(name for name in sorted({*job, *told}) if told.get(name) != job.get(name))


def weights_sha256(served: Served) -> str:
    """Of all that a model ranks with: its tensors, saved or derived, and the ids that it gives out."""
    digest = hashlib.sha256(json.dumps(list(served.item_ids)).encode())
    model = served.recommender
    for name, tensor in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _ranked_parts(served: Served, source: Path, parts: Path, users: int, k: int, unseen: bool) -> Predicted:
    started, ranked, unknown, without, certified = time.perf_counter(), 0, 0, 0, 0
    with tqdm(total=users, unit=" users", disable=None, file=sys.stderr) as bar:
        told = read_users(source)
        # Python 3.11 has no itertools.batched.
        chunks = iter(lambda: list(itertools.islice(told, PART)), [])
        for number, chunk in enumerate(chunks):
            part = _part(parts, number)
            if not part.exists():
                known = [[item for item in user.history if item in served.numbers] for user in chunk]
                lists = iter(served.recommend_all([history for history in known if history], k, unseen))
                found = [next(lists) if history else EMPTY for history in known]
                _write(part, chunk, found)
                ranked += len(chunk)
                unknown += sum(len(user.history) for user in chunk) - sum(map(len, known))
                without += sum(not history for history in known)
                certified += sum(each.certified for each in found)
            bar.update(len(chunk))
    return Predicted(users, ranked, time.perf_counter() - started, unknown, without, certified)


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:06}.parquet"


def _write(part: Path, users: Iterable[User], found: list[Recommendation]) -> None:
    rows = [{"user": user.name, **each._asdict()} for user, each in zip(users, found, strict=True)]
    with atomic_file(part) as file:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file)


def _join(parts: Path, target: Path, users: int) -> None:
    with atomic_file(target) as file, pq.ParquetWriter(file, SCHEMA) as writer:
        for number in range(math.ceil(users / PART)):
            writer.write_table(pq.read_table(_part(parts, number)))
    shutil.rmtree(parts)
