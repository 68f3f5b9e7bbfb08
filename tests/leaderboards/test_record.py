"""Records: their key, their files, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboards import record as records
from leaderboards.metrics import metrics
from leaderboards.record import RANKS_SCHEMA, Record, config_key
from leaderboards.store import Run, content_sha256, path, read, read_board, write

FINGERPRINT = "a" * 64


def ranks_of(users: int, seed: int, hit_share: float = 0.3) -> pa.Table:
    rng = np.random.default_rng(seed)
    hits = [rng.integers(1, 51, users) * (rng.random(users) < hit_share) for _ in range(2)]
    columns = {
        "user": np.arange(users, dtype=np.int32),
        "rank": hits[0].astype(np.uint8),
        "valid_rank": hits[1].astype(np.uint8),
        "target_count": rng.zipf(1.5, users).clip(0, 3000).astype(np.int32),
        "history_length": (4 + rng.geometric(0.2, users)).astype(np.int32),
        "transition_seen": rng.random(users) < 0.2,
    }
    return pa.table(columns, schema=RANKS_SCHEMA)


def run_of(seed: int = 0, ranks: pa.Table | None = None, **changes: Any) -> Run:
    """A run of SASRec on 200 users; `changes` are fields of the record, `corpus` those of its corpus."""
    table = ranks_of(200, seed) if ranks is None else ranks
    corpus = {"name": "toys", "fingerprint": FINGERPRINT, "users": len(table), "items": 90, "interactions": 1500}
    content: dict[str, Any] = {
        "protocol": "v1",
        "model": "sasrec",
        "experiment": "sasrec",
        "seed": seed,
        "config": {"width": 64, "rate": 1e-3, "loss": "ce"},
        "vectors": None,
        "notes": [],
        "valid": metrics(table["valid_rank"].to_numpy()),
        "test": metrics(table["rank"].to_numpy()),
        "valid_users": len(table),
        "diagnostics": {"beam20/free": {"recall@10": 0.1, "invalid_share": 0.02}},
        "search": {"certified_share": 1.0, "mean_expansions": None, "max_expansions": None},
        "code_card": None,
        "cost": {
            "train_seconds": 30.0,
            "stages": [
                {"name": "fit", "epochs": 2, "best_epoch": 1, "seconds": 30, "quality": [0.1, 0.2], "reused": False}
            ],
            "evaluate_users_per_second": 20.0,
            "peak_memory_bytes": 10**9,
            "parameters": 12345,
            "energy_joules": None,
        },
        "provenance": {
            "git_commit": "unknown",
            "git_dirty_sha256": None,
            "lock_sha256": "b" * 64,
            "source_sha256": "c" * 64,
            "versions": {"torch": "2.13.0"},
            "python": "3.11.7",
            "platform": "Linux",
            "device": "cpu",
            "threads": 2,
            "precision": "32-true",
            "evaluation_batch": 256,
            "started_at": f"2026-01-0{seed + 1}T00:00:00Z",
            "command": "python -m benchmarks run",
        },
        "ranks_sha256": content_sha256(table),
    } | changes
    content["corpus"] = corpus | {"source": "official files"} | changes.get("corpus", {})
    vectors = content["vectors"]["sha256"] if content["vectors"] else None
    key = config_key(content["protocol"], content["corpus"]["fingerprint"], content["config"], vectors)
    return Run(Record.model_validate({"key": key} | content), table)


def stored(board: Path, run: Run) -> Path:
    return write(board, *run)


def test_written_and_read_again(tmp_path: Path) -> None:
    run = run_of(seed=3, config={"sizes": (256, 256), "rate": 0.1, "none": None})
    target = stored(tmp_path, run)
    assert target == tmp_path / "toys" / "sasrec" / run.record.key / "seed-3.json"
    assert read(target) == run.record
    assert read(target).config["sizes"] == [256, 256]
    [again] = read_board(tmp_path, "toys")
    assert again.record == run.record
    assert again.ranks.equals(run.ranks)
    assert sorted(file.name for file in target.parent.iterdir()) == ["seed-3.json", "seed-3.ranks.parquet"]


def test_ranks_of_a_large_corpus_are_small(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of(ranks=ranks_of(57_439, 0)))
    assert target.with_suffix(".ranks.parquet").stat().st_size < 250_000


def test_files_have_the_permissions_of_any_other(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    (tmp_path / "other").touch()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode


@given(st.permutations([("width", 64), ("rate", 0.001), ("loss", "ce"), ("levels", [1, 2])]))
def test_key_does_not_depend_on_order(items: list[tuple[str, Any]]) -> None:
    expected = config_key("v1", FINGERPRINT, {"levels": (1, 2), "loss": "ce", "rate": 1e-3, "width": 64}, None)
    assert config_key("v1", FINGERPRINT, dict(items), None) == expected


def test_key_depends_on_everything_that_decides_the_numbers() -> None:
    config = {"width": 64, "nested": {"rate": 0.1}}
    keys = {
        config_key("v1", FINGERPRINT, config, None),
        config_key("v2", FINGERPRINT, config, None),
        config_key("v1", "b" * 64, config, None),
        config_key("v1", FINGERPRINT, config | {"width": 65}, None),
        config_key("v1", FINGERPRINT, config | {"nested": {"rate": 0.2}}, None),
        config_key("v1", FINGERPRINT, config | {"new_default": False}, None),
        config_key("v1", FINGERPRINT, config, "c" * 64),
        config_key("v1", FINGERPRINT, config, None, "c" * 64),
        config_key("v1", FINGERPRINT, config, "c" * 64, "d" * 64),
        config_key("v1", FINGERPRINT, config, "d" * 64, "c" * 64),
    }
    assert len(keys) == 10
    assert all(len(key) == 12 and int(key, 16) >= 0 for key in keys)


def test_key_is_the_documented_hash() -> None:
    # printf '["v1","f",{"a":1,"b":[0.5]},null]' | sha256sum
    assert config_key("v1", "f", {"b": (0.5,), "a": 1}, None) == "5b8a92f4228e"


def test_a_second_kind_of_vectors_is_hashed_behind_the_first() -> None:
    # printf '["v1","f",{},"c","d"]' | sha256sum
    assert config_key("v1", "f", {}, "c", "d") == "742b9821407e"
    # printf '["v1","f",{},"c"]' | sha256sum: rows from before there was a second kind keep their keys.
    assert config_key("v1", "f", {}, "c", None) == "df26bbf66498"


def test_the_collaborative_vectors_must_fit_the_key() -> None:
    vectors = {"kind": "sasrec-32", "name": "SASRec", "sha256": "d" * 64, "stand_in": False}
    plain = run_of().record
    key = config_key("v1", FINGERPRINT, plain.config, None, "d" * 64)
    assert run_of(collaborative=vectors, key=key).record.collaborative is not None
    with pytest.raises(ValueError, match=f"key is '{plain.key}', but .* give '{key}'"):
        run_of(collaborative=vectors)


def test_config_with_nan_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        config_key("v1", FINGERPRINT, {"rate": float("nan")}, None)


def test_a_repeated_run_changes_nothing(tmp_path: Path) -> None:
    run = run_of()
    target = stored(tmp_path, run)
    before = target.read_bytes(), target.stat().st_mtime_ns
    slower = run.record.cost.model_copy(update={"train_seconds": 99.0})
    later = run.record.provenance.model_copy(update={"git_commit": "f" * 40})
    repeated = run.record.model_copy(update={"cost": slower, "provenance": later})
    assert write(tmp_path, repeated, run.ranks) == target
    assert (target.read_bytes(), target.stat().st_mtime_ns) == before


def test_rounding_is_no_other_result(tmp_path: Path) -> None:
    def searched(mean: float) -> Run:
        return run_of(search={"certified_share": 1.0, "mean_expansions": mean, "max_expansions": 90})

    target = stored(tmp_path, searched(76.123456789))
    assert stored(tmp_path, searched(76.123456790)) == target
    with pytest.raises(ValueError, match=r"search.mean_expansions is 76.123456789 stored, 76.2 given"):
        stored(tmp_path, searched(76.2))


def test_another_result_is_refused_and_named(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    before = target.read_bytes(), target.with_suffix(".ranks.parquet").read_bytes()
    with pytest.raises(ValueError, match=r"seed-0.json already exists with another result: .*test.* stored, .* given"):
        stored(tmp_path, run_of(ranks=ranks_of(200, seed=9)))
    with pytest.raises(ValueError, match=r"notes is \[\] stored, \['stand-in'\] given"):
        stored(tmp_path, run_of(notes=["stand-in"]))
    assert (target.read_bytes(), target.with_suffix(".ranks.parquet").read_bytes()) == before


def test_ranks_left_by_a_killed_run_are_replaced(tmp_path: Path) -> None:
    killed = stored(tmp_path, run_of(ranks=ranks_of(200, seed=9)))
    killed.unlink()
    run = run_of()
    stored(tmp_path, run)
    assert read_board(tmp_path, "toys")[0].ranks.equals(run.ranks)


def test_what_a_killed_run_left_half_written_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    target.unlink()
    left, living = (target.with_name(f".{target.name}.{number:08x}") for number in (1, 2))
    left.touch()
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        stored(tmp_path, run_of())
        assert living.exists()
        assert not left.exists()
    stored(tmp_path, run_of(seed=1))
    target.unlink()
    stored(tmp_path, run_of())
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("fails", ["parquet", "json"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    sync = os.fsync
    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == {"parquet": 1, "json": 2}[fails]:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    run = run_of()
    with pytest.raises(OSError, match="No space left"):
        stored(tmp_path, run)
    left = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert left == ([] if fails == "parquet" else ["seed-0.ranks.parquet"])


def edited(target: Path, **changes: Any) -> None:
    target.write_text(json.dumps(json.loads(target.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, r"seed-0.json does not fit the schema at seed: .*greater than or equal to 0"),
        ({"surprise": 1}, r"at surprise: Extra inputs are not permitted"),
        ({"test": {"recall@10": 0.1}}, r"at test: .*metrics are \['recall@10'\]; expected \["),
        ({"config": {"width": 65}}, r"key is '.*', but protocol, corpus, config and vectors give"),
        ({"search": {"certified_share": 2, "mean_expansions": 1, "max_expansions": 1}}, r"at search.certified_share"),
    ],
)
def test_a_record_that_does_not_fit_the_schema(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    target = stored(tmp_path, run_of())
    edited(target, **changes)
    with pytest.raises(ValueError, match=message):
        read(target)


def test_a_record_of_a_newer_schema(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    edited(target, schema_version=2, surprise=1)
    with pytest.raises(ValueError, match=r"seed-0.json is of schema version 2, .*; update the checkout"):
        read_board(tmp_path, "toys")


def test_energy_is_unknown_rather_than_zero() -> None:
    cost = run_of().record.cost.model_dump() | {"energy_joules": 0.0}
    with pytest.raises(ValueError, match=r"cost.energy_joules"):
        run_of(cost=cost)


def test_a_damaged_record(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    target.write_bytes(target.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"seed-0.json does not fit the schema at the file as a whole: Invalid JSON"):
        read(target)
    target.unlink()
    with pytest.raises(FileNotFoundError, match=r"seed-0.json"):
        read(target)


def test_damaged_ranks(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    beside = target.with_suffix(".ranks.parquet")
    beside.write_bytes(beside.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"seed-0.ranks.parquet are no readable Parquet file"):
        read_board(tmp_path, "toys")
    pq.write_table(ranks_of(200, seed=5), beside)
    with pytest.raises(ValueError, match=r"ranks of .*seed-0.json have the hash"):
        read_board(tmp_path, "toys")
    beside.unlink()
    with pytest.raises(FileNotFoundError, match=r"seed-0.ranks.parquet"):
        read_board(tmp_path, "toys")


def test_ranks_that_do_not_fit(tmp_path: Path) -> None:
    run = run_of()
    wide = run.ranks.set_column(1, "rank", run.ranks["rank"].cast(pa.int64()))
    with pytest.raises(ValueError, match=r"columns user: int32, rank: int64\?.*; expected user: int32, rank: uint8"):
        write(tmp_path, run.record, wide)
    with pytest.raises(ValueError, match=r"not those of users 0..199 in order"):
        write(tmp_path, run.record, run.ranks.slice(0, 100))
    assert not list(tmp_path.rglob("*.json"))


def test_metrics_must_come_out_of_the_ranks(tmp_path: Path) -> None:
    run = run_of()
    better = run.record.model_copy(update={"test": run.record.test | {"ndcg@10": 0.9}})
    with pytest.raises(ValueError, match=r"not those of its ranks: test.ndcg@10 is 0.9 stored"):
        write(tmp_path, better, run.ranks)


def test_a_moved_record(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    target.rename(target.with_name("seed-7.json"))
    with pytest.raises(ValueError, match=r"seed-7.json is of toys/sasrec/[0-9a-f]{12}, seed 0"):
        read_board(tmp_path, "toys")


def test_a_board_without_the_corpus(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no record of a run on 'books'"):
        read_board(tmp_path, "books")


def test_names_cannot_leave_the_board() -> None:
    with pytest.raises(ValueError, match=r"corpus\.name"):
        run_of(corpus={"name": "../elsewhere"})


def test_hash_of_ranks_sees_every_column() -> None:
    table = ranks_of(50, 0)
    hashes = {content_sha256(table)}
    for index, field in enumerate(RANKS_SCHEMA):
        column = table[field.name].to_numpy().copy()
        column[7] = ~column[7] if column.dtype == bool else column[7] + 1
        hashes.add(content_sha256(table.set_column(index, field, pa.array(column, field.type))))
    assert len(hashes) == 1 + len(RANKS_SCHEMA)
    assert content_sha256(pa.concat_tables([table.slice(0, 20), table.slice(20)])) == content_sha256(table)


def test_path() -> None:
    assert path(Path("b"), "toys", "tiger", "0123456789ab", 4) == Path("b/toys/tiger/0123456789ab/seed-4.json")
    assert len(run_of().record.key) == records.KEY_LENGTH
