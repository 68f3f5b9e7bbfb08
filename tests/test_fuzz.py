"""Damaged input of every kind: a sentence or a counted skip, never another exception, a hang or half a file.

A thousand inputs are damaged by a seeded mutator, so that each can be made again: the `CASES` of
a kind are numbered from 0. `GRBENCH_FUZZ=20000` asks for that many; what a longer run found stays in `FOUND`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import best_config
from benchmarks.best_config import TunedConfig
from benchmarks.experiments import complete
from benchmarks.training import checkpoint_io
from benchmarks.training.checkpoint_callback import BEST, DONE, LAST
from data_prep.corpus import Corpus
from data_prep.corpus_files import TIMES
from data_prep.embed import item_vectors
from data_prep.own_corpus import OwnFile, prepare, reopen, source_of
from data_prep.prepare import load
from leaderboards import codes, ledger, tables
from leaderboards.record import Stage
from leaderboards.store import read_board
from leaderboards.verify import verify
from tests import damage
from tests.leaderboards.test_codes import card_of
from tests.leaderboards.test_record import ranks_of, run_of
from tests.leaderboards.test_record import stored as store_run

SECONDS, LONGEST = 10, 2_000
CATEGORY = "Gift_Cards"

ODD: tuple[bytes, ...] = (
    b"\x00", b"\xff\xfe", b"\xc3", b"9" * 400, b"-1", b"1e999", b"NaN", b"[" * 3000, b'{"a":' * 3000, b"null", b'"',
    b"\\ud800", b"\n", b"\r", b"\t", b",", b"\n\n\n", b"../../etc/passwd", b"<script>", b"%s%n", b"\xef\xbb\xbf",
    b"9223372036854775808",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, 1e308, -0.0, "", " ", "\x00", "../../x", "é" * 300, "<b>&", [], {},
    [[]], {"a": {}}, [None], "2026-99-99", "[" * 50, "\ud800", "a\nb",
)  # fmt: skip


def flip(content: bytes, draw: random.Random) -> bytes:
    return damage.flipped(content, draw.randrange(len(content)), draw.randrange(8))


def cut(content: bytes, draw: random.Random) -> bytes:
    return damage.cut(content, draw.randrange(len(content)))


def take_out(content: bytes, draw: random.Random) -> bytes:
    first, last = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + content[min(last, first + 40) :]


def put_in(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(ODD) + content[place:]


def repeat(content: bytes, draw: random.Random) -> bytes:
    first, last = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:last] + content[first:]


def swap_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def change_value(content: bytes, draw: random.Random) -> bytes:
    """Another value, or none, somewhere in a line of JSON or in the whole file."""
    lines = content.split(b"\n")
    place = draw.randrange(len(lines))
    for piece in (content, lines[place]):
        try:
            value = json.loads(piece)
        except (ValueError, RecursionError):
            continue
        changed = json.dumps(_changed(value, draw)).encode()
        return changed if piece is content else b"\n".join([*lines[:place], changed, *lines[place + 1 :]])
    return put_in(content, draw)


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.1:
            return {name: one for name, one in value.items() if name != key}
        return value | {key: _changed(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    return draw.choice(VALUES)


MUTATIONS = (flip, cut, take_out, put_in, repeat, swap_lines, change_value, change_value)


def mutated(content: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        content = draw.choice(MUTATIONS)(content, draw) if content else draw.choice(ODD)
    return content


@dataclass(frozen=True)
class Kind:
    """Attributes: folder, of whole files; names, of those that are damaged; use, what reads them."""

    folder: Path
    names: tuple[str, ...]
    use: Callable[[Path], object]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Corpus) -> dict[str, Kind]:
    root = tmp_path_factory.mktemp("whole")
    return {
        **_data_kinds(root, tiny_corpus),
        **_board_kinds(root),
        "npz": _npz_kind(root / "npz", tiny_corpus),
        "vectors cache": _cache_kind(root / "cache", tiny_corpus),
        "stage": _stage_kind(root / "stage"),
        "settings": _settings_kind(root / "settings"),
        "winner": _winner_kind(root / "winner"),
    }


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _data_kinds(root: Path, corpus: Corpus) -> dict[str, Kind]:
    rows = [
        (str(user), str(corpus.item_ids[item - 1]), 1_000 * number)
        for user, first, end in zip(corpus.user_ids, corpus.offsets[:-1], corpus.offsets[1:], strict=True)
        for number, item in enumerate(corpus.flat[first:end])
    ]
    fields = ("user_id", "parent_asin", "timestamp")
    raw = _lines(json.dumps(dict(zip(fields, row, strict=True)) | {"rating": 5.0}) for row in rows)
    csv = _lines(["user_id,parent_asin,rating,timestamp", *(f"{user},{item},5.0,{time}" for user, item, time in rows)])
    details = {"store": "Shop", "categories": ["A", "B"], "features": [], "details": '{"Brand": "X"}'}
    items = zip(corpus.item_ids, corpus.item_text or (), strict=True)
    metadata = _lines(json.dumps({"parent_asin": item, "title": text} | details) for item, text in items)
    histories: dict[str, list[str]] = {}
    for user, item, _ in rows:
        histories.setdefault(user, []).append(item)
    sequences = _lines(f"{user}\t{' '.join(history)}" for user, history in histories.items())
    parts = {f"5core/last_out_w_his/{CATEGORY}.{part}.csv": _part(rows, part) for part in ("train", "valid", "test")}
    reviews, items_file = f"raw/review_categories/{CATEGORY}.jsonl", f"raw/meta_categories/meta_{CATEGORY}.jsonl"
    ratings = f"5core/rating_only/{CATEGORY}.csv"
    all_files = {
        "raw": ({reviews: raw, items_file: metadata}, (reviews,)),
        "raw, packed": ({f"{reviews}.gz": gzip.compress(raw, mtime=0)}, (f"{reviews}.gz",)),
        "metadata": ({reviews: raw, items_file: metadata}, (items_file,)),
        "csv": ({ratings: csv}, (ratings,)),
        "histories": (parts, tuple(parts)),
        "sequences": ({f"sequences/{CATEGORY}.tsv": sequences}, (f"sequences/{CATEGORY}.tsv",)),
    }
    table = io.BytesIO()
    pq.write_table(pa.table(dict(zip(fields, zip(*rows, strict=True), strict=True))), table)
    own_files = {"csv": csv, "jsonl": raw, "parquet": table.getvalue(), "sequences": sequences}
    return {
        **{
            kind: Kind(written(root / kind, files), names, lambda folder: _prepared(folder))
            for kind, (files, names) in all_files.items()
        },
        **{f"own {form}": _own_kind(root / f"own {form}", content) for form, content in own_files.items()},
        "own items": _own_kind(
            root / "own items", csv, b"id,title,genres\n" + _lines(f"{i},A,B|C" for i in corpus.item_ids)
        ),
        "prepared": _prepared_kind(root / "kept", sequences),
    }


def _part(rows: list[tuple[str, str, int]], part: str) -> bytes:
    by_user: dict[str, list[tuple[str, int]]] = {}
    for user, item, time in rows:
        by_user.setdefault(user, []).append((item, time))
    lines = ["user_id,parent_asin,rating,timestamp,history"]
    for user, events in by_user.items():
        places = {"train": range(len(events) - 2), "valid": [len(events) - 2], "test": [len(events) - 1]}[part]
        lines += [
            f"{user},{events[place][0]},5.0,{events[place][1]},{' '.join(item for item, _ in events[:place])}"
            for place in places
        ]
    return _lines(lines)


def _lines(lines: Any) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _prepared(folder: Path) -> None:
    """Loads twice: what the first call left must be whole, or nothing."""
    corpora = []
    try:
        for _ in range(2):
            corpora.append(load(CATEGORY.lower(), "local", folder / "cache", folder))
    finally:
        for prepared in (folder / "cache" / CATEGORY.lower()).glob("*"):
            # Sequences have no times.
            assert sorted({file.name for file in prepared.iterdir()} - {TIMES}) == [
                "card.json", "flat.arrow", "hashes.json", "items.arrow", "offsets.arrow", "users.arrow",
            ]  # fmt: skip
    assert corpora[0].fingerprint == corpora[1].fingerprint


def _own_kind(folder: Path, interactions: bytes, items: bytes = b"") -> Kind:
    written(folder, {"mine": interactions, **({"items": items} if items else {})})

    def use(place: Path) -> None:
        own = OwnFile(place / "mine", items=place / "items" if items else None, core=1)
        corpus = prepare(own, place / "cache")
        assert reopen("mine", source_of(corpus), place / "cache").fingerprint == corpus.fingerprint

    return Kind(folder, ("items" if items else "mine",), use)


def _prepared_kind(folder: Path, sequences: bytes) -> Kind:
    written(folder, {f"sequences/{CATEGORY}.tsv": sequences})

    def use(place: Path) -> None:
        corpus = load(CATEGORY.lower(), "local", place / "cache", place)
        assert corpus.fingerprint
        corpus.examples("test").sha256()

    use(folder)
    return Kind(folder, tuple(sorted(str(file.relative_to(folder)) for file in folder.rglob("cache/**/*.*"))), use)


def _board_kinds(root: Path) -> dict[str, Kind]:
    board = root / "board"
    for seed in (0, 1):
        target = store_run(board, run_of(seed, ranks_of(50, seed)))
    codes.write(board, card_of("tiger"))
    tables.render(board, "toys")

    def use(place: Path) -> None:
        problems, _ = verify(place)
        assert all("\n" not in problem for problem in problems), problems
        assert list(ledger.listed(place, "toys"))
        codes.read_all(place, "toys")
        read_board(place, "toys")

    record = str(target.relative_to(board))
    card = str(next((board / "toys/codes").iterdir()).relative_to(board))
    names = {
        "record": record,
        "ranks": record.replace(".json", ".ranks.parquet"),
        "code card": card,
        "ledger": "toys.sha256",
    }
    return {kind: Kind(board, (name,), use) for kind, name in names.items()}


def _npz_kind(folder: Path, corpus: Corpus) -> Kind:
    packed, plain = io.BytesIO(), io.BytesIO()
    values = np.random.default_rng(0).normal(size=(corpus.items, 4)).astype(np.float32)
    np.savez_compressed(packed, parent_asin=np.array(corpus.item_ids), vectors=values)
    np.savez(plain, parent_asin=np.array(corpus.item_ids), vectors=values)
    written(folder, {"a.npz": packed.getvalue(), "b.npz": plain.getvalue()})

    def use(place: Path) -> None:
        for name in ("a.npz", "b.npz"):
            assert np.isfinite(item_vectors(corpus, "npz", place / name).values).all()

    return Kind(folder, ("a.npz", "b.npz"), use)


def _cache_kind(folder: Path, corpus: Corpus) -> Kind:
    item_vectors(corpus, "tfidf", cache=folder)
    (file,) = folder.rglob("*.sealed")
    return Kind(folder, (str(file.relative_to(folder)),), lambda place: item_vectors(corpus, "tfidf", cache=place))


def _stage_kind(folder: Path) -> Kind:
    import torch

    folder.mkdir()
    done = Stage.begun("fit", epochs=2, best_epoch=1, seconds=3.5, quality=[0.1, 0.2])
    checkpoint_io.finish(folder, done, {"weight": torch.arange(6.0)})
    for epoch in (1, 2):
        checkpoint_io.Checkpoints().save_checkpoint({"epoch": epoch, "state": {"a": torch.ones(3)}}, folder / LAST)
    whole = {name: (folder / name).read_bytes() for name in (BEST, DONE, LAST, checkpoint_io.BEFORE)}

    def use(place: Path) -> None:
        said: list[str] = []
        damaged = {name for name, content in whole.items() if (place / name).read_bytes() != content}
        outcome = checkpoint_io.finished(place, said.append)
        # A log with a space more says the same.
        assert outcome in (None, done), "a damaged outcome is never believed"
        assert outcome is None or BEST not in damaged
        found = checkpoint_io.newest(place, said.append)
        expected = next((name for name in (LAST, checkpoint_io.BEFORE) if name not in damaged), None)
        assert (found.name if found else None) == expected
        assert all("\n" not in line for line in said)

    return Kind(folder, tuple(whole), use)


def _settings_kind(folder: Path) -> Kind:
    settings = b"lr=0.01\ntokenizer.codes=32\nt5.width=16\nschedule=cosine\ntokenizer.hidden=[16]\nvalid_users=null"
    written(folder, {"settings": settings})

    def use(place: Path) -> None:
        lines = (place / "settings").read_text(errors="surrogateescape").split("\n")
        complete("tiger", "planted", lines)

    return Kind(folder, ("settings",), use)


def _winner_kind(folder: Path) -> Kind:
    params: dict[str, bool | int | float | str] = {
        "lr": 0.01,
        "tokenizer.commitment": 0.5,
        "t5.dropout": 0.25,
        "weight_decay": 0.0,
    }
    winner = TunedConfig(study="s-1", trial=3, trials=30, value=0.125, settings=["steps=600"], params=params)
    best_config.write(best_config.path("planted", "tiger", folder), winner)

    def use(place: Path) -> None:
        with mock.patch.object(best_config, "BEST", place):
            assert complete("tiger", "planted").tuned_config

    return Kind(folder, ("planted/tiger.toml",), use)


KINDS = (
    "raw", "raw, packed", "metadata", "csv", "histories", "sequences", "prepared", "record", "ranks", "code card",
    "ledger", "npz", "vectors cache", "stage", "settings", "winner", "own csv", "own jsonl", "own parquet",
    "own sequences", "own items",
)  # fmt: skip
TOTAL = int(os.environ.get("GRBENCH_FUZZ", "1000"))
CASES = -(-TOTAL // len(KINDS))
# Cases beyond the first thousand that were once wrong: kind and number.
FOUND = (
    ("raw", 1323), ("metadata", 462), ("csv", 474), ("csv", 1025), ("histories", 134), ("code card", 829), ("npz", 597),
    ("settings", 82), ("settings", 214), ("settings", 336), ("settings", 393), ("winner", 1134),
)  # fmt: skip


class HangError(Exception):
    """A case took too long."""


@contextmanager
def limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise HangError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(kind: Kind, label: str, number: int, place: Path) -> str:
    """What a case comes to: `fine`, `told`, or what it should not."""
    draw = random.Random(f"{label} {number}")
    shutil.copytree(kind.folder, place)
    name = draw.choice(kind.names)
    (place / name).write_bytes(mutated((kind.folder / name).read_bytes(), draw))
    try:
        with limited():
            kind.use(place)
    except (ValueError, OSError) as error:
        sentence = str(error)
        bad = not sentence or any(sign in sentence for sign in "\n\r") or len(sentence) > LONGEST
        said = f"no sentence: {sentence[:300]!r}" if bad else "told"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:300]
    else:
        said = "fine"
    left = [str(file.relative_to(place)) for file in place.rglob(".*")]
    shutil.rmtree(place)
    return f"left behind: {left}" if left else said


@pytest.mark.slow
@pytest.mark.parametrize("label", KINDS)
def test_damaged_input_is_told_in_a_sentence(kinds: dict[str, Kind], label: str, tmp_path: Path) -> None:
    assert sorted(kinds) == sorted(KINDS)
    kinds[label].use(shutil.copytree(kinds[label].folder, tmp_path / "whole"))
    numbers = [*range(CASES), *(number for kind, number in FOUND if kind == label)]
    counts: Counter[str] = Counter()
    wrong: dict[int, str] = {}
    for number in numbers:
        said = outcome(kinds[label], label, number, tmp_path / "case")
        counts[said if said in ("fine", "told") else "wrong"] += 1
        if said not in ("fine", "told"):
            wrong[number] = said
    print(f"{label}: {dict(counts)}")
    assert not wrong, f"{len(wrong)} of {len(numbers)}: {dict(list(wrong.items())[:8])}"
    # What can be made again is made again.
    assert counts["told"] > 0 or label in ("prepared", "vectors cache", "stage")


def test_the_mutator_repeats_itself(kinds: dict[str, Kind]) -> None:
    content = (kinds["record"].folder / kinds["record"].names[0]).read_bytes()
    one, again = ([mutated(content, random.Random(f"x {n}")) for n in range(50)] for _ in range(2))
    assert one == again
    assert len(set(one)) > 45
    assert pq.ParquetFile(pa.BufferReader((kinds["ranks"].folder / kinds["ranks"].names[0]).read_bytes())).read()
