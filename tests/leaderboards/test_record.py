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
from pydantic import ValidationError

from leaderboards import record as records
from leaderboards import store
from leaderboards.metrics import UNSEEN_NAMES, metrics
from leaderboards.record import RANKS_SCHEMA, RANKS_SCHEMA_V1, Record, Stage, config_key, config_key_v1
from leaderboards.store import Run, content_sha256, path, read, read_board, write

FINGERPRINT = "a" * 64


def ranks_of(users: int, seed: int, hit_share: float = 0.3) -> pa.Table:
    rng = np.random.default_rng(seed)
    hits = [rng.integers(1, 51, users) * (rng.random(users) < hit_share) for _ in range(2)]
    # Every fourth item before the target is one of the history.
    unseen = [np.where((hit > 0) & (hit - hit // 4 <= 10), hit - hit // 4, 0) for hit in hits]
    columns = {
        "user": np.arange(users, dtype=np.int32),
        "rank": hits[0].astype(np.uint8),
        "valid_rank": hits[1].astype(np.uint8),
        "rank_unseen": unseen[0].astype(np.uint8),
        "valid_rank_unseen": unseen[1].astype(np.uint8),
        "target_count": rng.zipf(1.5, users).clip(0, 3000).astype(np.int32),
        "history_length": (4 + rng.geometric(0.2, users)).astype(np.int32),
        "transition_seen": rng.random(users) < 0.2,
    }
    return pa.table(columns, schema=RANKS_SCHEMA)


def run_of(seed: int = 0, ranks: pa.Table | None = None, **changes: Any) -> Run:
    """A run of SASRec on 200 users; `changes` are fields of the record, `corpus` those of its corpus."""
    table = ranks_of(200, seed) if ranks is None else ranks
    interactions = int(table["history_length"].to_numpy().sum()) + len(table)
    corpus = {"name": "toys", "fingerprint": FINGERPRINT, "users": len(table), "items": 90}
    corpus |= {"interactions": interactions}
    valid = metrics(table["valid_rank"].to_numpy(), table["valid_rank_unseen"].to_numpy())
    content: dict[str, Any] = {
        "protocol": "v2",
        "model": "sasrec",
        "experiment": "sasrec",
        "seed": seed,
        "precision": "32",
        "config": {"width": 64, "rate": 1e-3, "loss": "ce"},
        "vectors": None,
        "notes": [],
        "valid": valid,
        "test": metrics(table["rank"].to_numpy(), table["rank_unseen"].to_numpy()),
        "valid_users": len(table),
        "diagnostics": {"beam20/free": {"recall@10": 0.1, "invalid_share": 0.02}},
        "search": {"certified_share": 1.0, "mean_expansions": None, "max_expansions": None},
        "code_card": None,
        "cost": {
            "train_seconds": 30.0,
            "stages": [
                {
                    "name": "fit",
                    "epochs": 2,
                    "best_epoch": 2,
                    "seconds": 30,
                    "quality": [valid["ndcg@10"] / 2, valid["ndcg@10"]],
                    "reused": False,
                    "losses": [5.5, 4.25],
                    "checked": [1, 2],
                }
            ],
            "evaluate_users_per_second": 20.0,
            "peak_memory_bytes": 10**9,
            "parameters": 12345,
            "energy_joules": None,
        },
        "provenance": {
            "git_commit": "d" * 40,
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
    key = key_of(
        **{name: content[name] for name in ("protocol", "model", "precision", "config", "vectors")},
        **{
            "fingerprint": content["corpus"]["fingerprint"],
        },
    )
    return Run(Record.model_validate({"key": key} | content), table)


def key_of(
    protocol: str = "v2",
    model: str = "sasrec",
    fingerprint: str = FINGERPRINT,
    precision: str = "32",
    config: Any = None,
    vectors: Any = None,
    collaborative: Any = None,
) -> str:
    given = {"vectors": vectors, "collaborative": collaborative}
    inputs = {name: info["recipe"] if info else None for name, info in given.items()}
    return config_key(protocol, model, fingerprint, precision, {} if config is None else config, inputs)


def run_of_v1(seed: int = 0, **changes: Any) -> Run:
    """The same run as protocol v1 recorded it."""
    record, ranks = run_of(seed, **changes)
    table = ranks.select(RANKS_SCHEMA_V1.names)
    content = record.model_dump(mode="json", exclude={"precision", "codes", "key"})
    for part in ("valid", "test"):
        content[part] = {name: value for name, value in content[part].items() if name not in UNSEEN_NAMES}
    content |= {"protocol": "v1", "schema_version": 1, "ranks_sha256": content_sha256(table)}
    key = config_key_v1(record.corpus.fingerprint, record.config, None)
    return Run(Record.model_validate({"key": key} | content), table)


def stored(board: Path, run: Run) -> Path:
    return write(board, *run)


def at_first(name: str, users: set[int], column: str = "rank") -> Run:
    """A run whose targets of these users are at the first place, those of others nowhere."""
    ranks = ranks_of(2_000, 0, 0.0)
    for each in {column, "rank_unseen"}:
        place = ranks.schema.get_field_index(each)
        values = pa.array(np.isin(np.arange(2_000), list(users)).astype(np.uint8))
        ranks = ranks.set_column(place, ranks.schema.field(place), values)
    return run_of(0, ranks, experiment=name, config={"of": name})


def test_written_and_read_again(tmp_path: Path) -> None:
    run = run_of(seed=3, config={"sizes": (256, 256), "rate": 0.1, "none": None})
    target = stored(tmp_path, run)
    assert target == tmp_path / "toys" / "sasrec" / run.record.key / "seed-3.json"
    assert read(target) == run.record
    assert read(target).config["sizes"] == [256, 256]
    [again] = read_board(tmp_path, "toys")
    assert again.record == run.record
    assert again.ranks.equals(run.ranks)
    files = [f"seed-3.{kind}" for kind in ("curves.csv", "json", "ranks.parquet")]
    assert sorted(file.name for file in target.parent.iterdir()) == files


def test_ranks_of_a_large_corpus_are_small(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of(ranks=ranks_of(57_439, 0)))
    assert target.with_suffix(".ranks.parquet").stat().st_size < 250_000


def test_files_have_the_permissions_of_any_other(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    (tmp_path / "other").touch()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode


@given(st.permutations([("width", 64), ("rate", 0.001), ("loss", "ce"), ("levels", [1, 2])]))
def test_key_does_not_depend_on_order(items: list[tuple[str, Any]]) -> None:
    expected = key_of(config={"levels": (1, 2), "loss": "ce", "rate": 1e-3, "width": 64})
    assert key_of(config=dict(items)) == expected


def test_key_depends_on_everything_that_decides_the_numbers() -> None:
    config, vectors = {"width": 64, "nested": {"rate": 0.1}}, {"recipe": {"kind": "tfidf"}}
    keys = {
        key_of(config=config),
        key_of(config=config, protocol="v3"),
        key_of(config=config, model="mine"),
        key_of(config=config, fingerprint="b" * 64),
        key_of(config=config, precision="bf16"),
        key_of(config=config | {"width": 65}),
        key_of(config=config | {"nested": {"rate": 0.2}}),
        key_of(config=config | {"new_default": False}),
        key_of(config=config, vectors=vectors),
        key_of(config=config, collaborative=vectors),
        key_of(config=config, vectors=vectors, collaborative=vectors),
        key_of(config=config, vectors={"recipe": {"kind": "npz"}}),
    }
    assert len(keys) == 12
    assert all(len(key) == 12 and int(key, 16) >= 0 for key in keys)


def test_key_is_the_documented_hash() -> None:
    # printf '{"config":{"a":1,"b":[0.5]},"corpus":"f","inputs":{"vectors":{"kind":"npz"}},"model":"sasrec",
    # "precision":"32","protocol":"v2"}' | sha256sum, on one line
    found = key_of(fingerprint="f", config={"b": (0.5,), "a": 1}, vectors={"recipe": {"kind": "npz"}})
    assert found == "db651a62269b"
    # printf '["v1","f",{"a":1,"b":[0.5]},null]' | sha256sum
    assert config_key_v1("f", {"b": (0.5,), "a": 1}, None) == "5b8a92f4228e"
    # printf '["v1","f",{},"c","d"]' | sha256sum, and without "d", from before there was a second kind.
    assert config_key_v1("f", {}, "c", "d") == "742b9821407e"
    assert config_key_v1("f", {}, "c", None) == "df26bbf66498"


def vectors_info(**changes: Any) -> dict[str, Any]:
    info = {"kind": "tfidf", "name": "TF-IDF", "sha256": "d" * 64, "stand_in": True, "recipe": {"width": 256}}
    return info | changes


def test_other_last_digits_of_vectors_make_no_other_key() -> None:
    here, there = run_of(vectors=vectors_info()), run_of(vectors=vectors_info(sha256="e" * 64))
    assert here.record.vectors != there.record.vectors
    assert here.record.key == there.record.key


def test_the_collaborative_vectors_must_fit_the_key() -> None:
    vectors = vectors_info(kind="sasrec-32")
    plain = run_of().record
    key = key_of(config=plain.config, collaborative=vectors)
    assert run_of(collaborative=vectors, key=key).record.collaborative is not None
    with pytest.raises(ValueError, match=f"key is '{plain.key}', but .* gives '{key}'"):
        run_of(collaborative=vectors)


def test_what_the_key_needs_must_be_there() -> None:
    with pytest.raises(ValueError, match="precision, or the recipe of its vectors, is missing"):
        run_of(vectors=vectors_info(), collaborative=vectors_info(recipe=None))


def test_records_of_the_first_protocol_are_read(tmp_path: Path) -> None:
    run = run_of_v1(seed=2)
    target = stored(tmp_path, run)
    [again] = read_board(tmp_path, "toys")
    assert (again.record, again.ranks) == run
    assert "ndcg@10_unseen" not in again.record.test
    edited(target, schema_version=2)
    with pytest.raises(ValueError, match="schema version 2 is not that of protocol v1"):
        read(target)


def test_an_experiment_has_a_name() -> None:
    with pytest.raises(ValueError, match="experiment\n  String should have at least 1 character"):
        run_of(experiment="")


def test_stages_have_names_of_their_own() -> None:
    stage = run_of().record.cost.stages[0].model_dump()
    with pytest.raises(ValueError, match="stages are fit, fit; expected each name once"):
        run_of(cost=run_of().record.cost.model_dump() | {"stages": [stage, stage]})


def test_a_target_is_not_lower_among_fewer_items(tmp_path: Path) -> None:
    ranks = ranks_of(200, 0)
    unseen = ranks["rank_unseen"].to_numpy().copy()
    user = int(np.flatnonzero((unseen > 0) & (unseen < 9))[0])
    unseen[user] = ranks["rank"].to_numpy()[user] + 1
    ranks = ranks.set_column(3, RANKS_SCHEMA.field("rank_unseen"), pa.array(unseen))
    with pytest.raises(ValueError, match="test: a target has a lower place among unseen items than among all"):
        stored(tmp_path, run_of(ranks=ranks))


@pytest.mark.parametrize(("part", "place"), [("test", 3), ("valid", 4)])
def test_no_more_items_stand_before_a_target_than_the_history_holds(tmp_path: Path, part: str, place: int) -> None:
    """A validation history is one item shorter."""
    ranks = ranks_of(200, 0)
    length = ranks["history_length"].to_numpy() - (part == "valid")
    user = int(np.flatnonzero((length >= 45) | (length <= 30))[0])
    name = RANKS_SCHEMA.names[place]
    for before, wrong in ((length[user], False), (length[user] + 1, True)):
        every, unseen = (ranks[column].to_numpy().copy() for column in (name.removesuffix("_unseen"), name))
        every[user], unseen[user] = 1 + before, 1
        moved = ranks.set_column(place - 2, RANKS_SCHEMA.field(place - 2), pa.array(every))
        moved = moved.set_column(place, RANKS_SCHEMA.field(place), pa.array(unseen))
        if wrong:
            with pytest.raises(ValueError, match=f"{part}: more items stand before a target among all than"):
                stored(tmp_path / "wrong", run_of(ranks=moved))
        else:
            assert stored(tmp_path / "right", run_of(ranks=moved)).exists()


@pytest.mark.parametrize(
    "changes", [{"best_epoch": 3}, {"checked": [2, 1]}, {"checked": [1, 1]}, {"checked": [1, 3]}], ids=str
)
def test_epochs_that_a_stage_did_not_have(changes: dict[str, Any]) -> None:
    stage = run_of().record.cost.stages[0].model_dump() | changes
    with pytest.raises(ValueError, match=r"stage fit of 2 epochs has \d as its best and checked .* in order"):
        run_of(cost=run_of().record.cost.model_dump() | {"stages": [stage]})


def test_config_with_nan_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of(config={"rate": float("nan")})


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


def test_rounding_within_a_list_is_no_other_result(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of(code_card={"entropy": [2.5, 0.1]}))
    assert stored(tmp_path, run_of(code_card={"entropy": [2.5, 0.1 + 1e-16]})) == target
    with pytest.raises(ValueError, match=r"code_card.entropy\[1\] is 0.1 stored, 0.2 given"):
        stored(tmp_path, run_of(code_card={"entropy": [2.5, 0.2]}))
    with pytest.raises(ValueError, match=r"code_card.entropy is \[2.5, 0.1\] stored, \[2.5\] given"):
        stored(tmp_path, run_of(code_card={"entropy": [2.5]}))


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
    with pytest.raises(OSError, match=r"the disk is full while writing .*seed-0"):
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
        ({"test": {"recall@10": 0.1}}, r"metrics are \['recall@10'\]; expected \["),
        ({"config": {"width": 65}}, r"key is '.*', but what it is the hash of gives"),
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
    edited(target, schema_version=3, surprise=1)
    with pytest.raises(ValueError, match=r"seed-0.json is of schema version 3, .*; update the checkout"):
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
    with pytest.raises(FileNotFoundError, match=r"seed-0.json has no ranks; expected seed-0.ranks.parquet beside it: "):
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


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"seed-3.json is missing; expected a record, <corpus>/<model>/"):
        read(tmp_path / "seed-3.json")


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        ("bf16-mixed", "precision is 32, but what ran was in bf16-mixed"),
        ("junk", "Input should be '32-true' or 'bf16-mixed'"),
    ],
)
def test_the_precision_of_a_key_is_that_of_the_training(ran: str, said: str) -> None:
    origin = run_of().record.provenance.model_dump(mode="json") | {"precision": ran}
    with pytest.raises(ValueError, match=said):
        run_of(provenance=origin)


def test_a_moved_record(tmp_path: Path) -> None:
    target = stored(tmp_path, run_of())
    target.rename(target.with_name("seed-7.json"))
    with pytest.raises(
        ValueError, match=r"seed-7.json is of toys/sasrec/(\w{12}), seed 0; expected it as toys/sasrec/\1/seed-0.json"
    ):
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


@pytest.mark.parametrize("name", ["main", "HEAD", "HEAD~1", "d" * 39, "--output=x", "D" * 40])
def test_a_commit_is_a_whole_hash(name: str) -> None:
    origin = run_of().record.provenance.model_dump(mode="json")
    with pytest.raises(ValidationError, match="git_commit"):
        run_of(provenance=origin | {"git_commit": name})


def test_a_metric_may_differ_by_rounding_alone() -> None:
    assert not list(store.differences({"ndcg@10": 0.05}, {"ndcg@10": 0.05 * (1 + 5e-7)}))
    assert list(store.differences({"ndcg@10": 0.05}, {"ndcg@10": 0.05 * (1 + 5e-6)}))


def test_ranks_stand_in_the_order_of_users(tmp_path: Path) -> None:
    """The hash, and every metric, are those of the swapped ones."""
    users = np.arange(200, dtype=np.int32)
    users[[3, 5]] = [5, 3]
    ranks = ranks_of(200, 0)
    with pytest.raises(ValueError, match=r"are not those of users 0..199 in order"):
        store.write(tmp_path, *run_of(0, ranks.set_column(0, ranks.schema.field(0), pa.array(users))))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_no_number_of_a_record_is_none(value: str) -> None:
    text = run_of().record.model_dump_json()
    assert text.count("[5.5,4.25]") == 1
    with pytest.raises(ValidationError, match="finite number"):
        Record.model_validate_json(text.replace("[5.5,4.25]", f"[5.5,{value}]"))


def test_every_look_at_quality_has_its_epoch() -> None:
    with pytest.raises(ValidationError, match="1 qualities of 2 checked epochs; expected one of each"):
        Stage.begun("fit", epochs=2, best_epoch=2, losses=[5.5, 4.25], checked=[1, 2], quality=[0.1])
