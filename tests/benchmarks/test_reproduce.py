"""Reproduced: a true row comes out again, and what only a training can tell of a false one is told.

The rows here agree with themselves in every number, so that `verify` finds nothing; those that it finds are in
tests/leaderboards/test_forgeries.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks import provenance
from benchmarks.__main__ import main
from benchmarks.checks import reproduce, train_again
from benchmarks.checks.reproduce import drawn, expected, held
from benchmarks.checks.rerank import NotHereError
from benchmarks.experiments import complete
from benchmarks.resolved_row import published_config
from benchmarks.run import run
from benchmarks.settings import Bench
from data_prep.atomic import own
from data_prep.corpus import Corpus
from leaderboards import ledger, store
from leaderboards.record import CodesInfo, Record
from leaderboards.rows import OVERRIDDEN, Row, rows_of
from leaderboards.store import Run, read_run
from tests.leaderboards.test_forgeries import rewritten
from tests.leaderboards.test_record import run_of

SASREC = ("width=16", "inner=16", "layers=1")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("reproduce")
    return Bench(folder / "board", folder / "work")


@pytest.fixture(scope="module")
def true(bench: Bench, workplace: Path, planted_corpus: Corpus) -> Run:
    return read_run(bench.board, run(bench, planted_corpus, complete("sasrec", "planted", [*SASREC, "epochs=1"]), 0))


def changed(made: Run, **changes: Any) -> Run:
    """The same run, with another word on it."""
    return Run(Record.model_validate(made.record.model_dump(mode="json") | changes), made.ranks)


def better(made: Run, users: int) -> Run:
    """The same run with the targets of some users at the first place."""
    ranks = made.ranks
    for name in ("rank", "rank_unseen"):
        place, values = ranks.schema.get_field_index(name), ranks[name].to_numpy().copy()
        values[:users] = 1
        ranks = ranks.set_column(place, ranks.schema.field(place), pa.array(values))
    return rewritten(made.record, ranks)


def elsewhere(made: Run) -> Run:
    """The same run, made on another platform."""
    origin = made.record.provenance.model_dump(mode="json") | {"device": "another processor"}
    return changed(made, provenance=origin)


@pytest.mark.slow
def test_a_true_row(true: Run) -> None:
    good, says = held(true, true, rows_of([true]))
    assert (good, says.startswith("equal to the bit, on ")) == (True, True)


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda true: better(true, 1), "ranks_sha256 is"),
        (lambda true: changed(true, valid_users=2_001), "valid_users is 2001 stored, 2000 given"),
        (lambda true: changed(true, diagnostics={"beam20/free": {"recall@10": 0.5}}), "diagnostics.beam20/free is"),
        (lambda true: changed(true, code_card={"levels": 3}), "code_card is"),
        (lambda true: changed(true, experiment="wonder"), "experiment is 'wonder' stored, 'sasrec' given"),
        (lambda true: changed(true, notes=true.record.notes[:1]), "it lacks the note 'overridden: epochs=1"),
        (lambda true: changed(true, notes=[]), "it lacks the note 'small sizes'"),
    ],
)
def test_a_false_row(true: Run, forge: Any, said: str) -> None:
    """Each agrees with itself in all that `verify` sees."""
    false = forge(true)
    good, says = held(false, true, rows_of([false]))
    assert (good, said in says) == (False, True), says


@pytest.mark.slow
def test_a_row_of_another_config(bench: Bench, true: Run, planted_corpus: Corpus) -> None:
    """Ranks of a longer training under the name and key of a shorter one."""
    longer = complete("sasrec", "planted", [*SASREC, "epochs=2"])
    other = read_run(bench.board, run(bench, planted_corpus, longer, 0))
    false = rewritten(true.record, other.ranks)
    good, says = held(false, true, rows_of([false]))
    assert (good, "it comes out otherwise on its own platform" in says) == (False, True)
    good, says = held(other, true, rows_of([other]))
    assert (good, f"gives its config the key {true.record.key}, not {other.record.key}" in says) == (False, True)


@pytest.mark.parametrize("settings", [[], ["loss=bpr"], ["epochs=3", "loss=sampled"]])
def test_a_config_without_its_later_fields_is_known_again(settings: list[str]) -> None:
    asked = complete("gru4rec", "planted", settings, tuned=False)
    told = {"experiment": "gru4rec", "corpus": {"name": "planted"}, "config": published_config(asked), "notes": []}
    assert train_again.experiment(told).config == asked.config


def test_a_file_of_codes_with_a_blank_in_its_name_is_known_again() -> None:
    asked = complete("letter", "planted", ["codes=my codes.tsv", "vectors=null", "collaborative=null"], tuned=False)
    notes = [f"{OVERRIDDEN} {' '.join(asked.overrides)}"]
    config = json.loads(json.dumps(published_config(asked)))
    told = {"experiment": "letter", "corpus": {"name": "planted"}, "config": config, "notes": notes}
    assert train_again.experiment(told).config == asked.config


def asked(record: Path, folder: Path) -> list[str]:
    """What `train_again.py` is started with."""
    folders = [text for name in ("board", "work", "prepared") for text in (f"--{name}", str(folder / name))]
    return ["train_again.py", str(record), *folders, "--accelerator=cpu", "--source=auto"]


def test_a_config_that_its_commit_cannot_have_is_told(
    true: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = true.record.model_dump(mode="json")
    record = tmp_path / "seed-0.json"
    record.write_text(json.dumps(told | {"config": {**told["config"], "magic": 1}}))
    monkeypatch.setattr(sys, "argv", asked(record, tmp_path))
    with pytest.raises(SystemExit, match="error: sasrec has no option 'magic'"):
        train_again.main()


def test_codes_lie_where_the_config_has_them(true: Run, tmp_path: Path) -> None:
    file, sha256 = tmp_path / "work/codes" / ("a" * 64) / "mine.tsv", "a" * 64
    codes = CodesInfo(name="mine.tsv", sha256=sha256)
    told = true.record.model_copy(update={"config": {"codes": "mine.tsv"}, "codes": codes})
    tree = tmp_path / "tree"
    tree.mkdir()
    with pytest.raises(NotHereError, match=rf"its codes are of the file mine.tsv, SHA-256 {sha256}; expected it as"):
        reproduce._lay_codes(Bench(tmp_path, tmp_path / "work"), told, tree)
    file.parent.mkdir(parents=True)
    file.write_text("B01\t0 1\n")
    reproduce._lay_codes(Bench(tmp_path, tmp_path / "work"), told, tree)
    assert (tree / "mine.tsv").read_text() == "B01\t0 1\n"


def simulated(*recalls: float) -> Row:
    """A row of runs that hit the first place for such shares of 200 users."""
    runs = []
    for seed, share in enumerate(recalls):
        base = run_of(seed)
        hits = (np.arange(200) < round(share * 200)).astype(np.uint8)
        ranks = base.ranks
        for name in ("rank", "rank_unseen"):
            place = ranks.schema.get_field_index(name)
            ranks = ranks.set_column(place, ranks.schema.field(place), pa.array(hits))
        runs.append(rewritten(base.record, ranks))
    return Row(runs, ranked=True)


def test_where_a_new_run_is_expected() -> None:
    """t of two degrees of freedom at .995 is 9.925; the deviation of .1, .2, .3 is .1."""
    low, high = expected(simulated(0.1, 0.2, 0.3), [])
    assert (low, high) == pytest.approx(
        (0.2 - 9.925 * 0.1 * (4 / 3) ** 0.5, 0.2 + 9.925 * 0.1 * (4 / 3) ** 0.5), rel=1e-4
    )
    # One seed: deviations of the others' shares of their means, .5 with two degrees of freedom.
    low, high = expected(simulated(0.4), [simulated(0.4), simulated(0.1, 0.2, 0.3)])
    assert high - 0.4 == pytest.approx(9.925 * 0.5 * 0.4 * 2**0.5, rel=1e-4)
    with pytest.raises(ValueError, match="has two seeds; nothing tells what noise is"):
        expected(simulated(0.4), [simulated(0.4)])


def test_what_is_not_trained_tells_nothing_of_noise() -> None:
    floor = simulated(0.3, 0.3, 0.3)
    untrained = floor.record.cost.model_dump(mode="json") | {"stages": []}
    floor = Row([changed(run, cost=untrained) for run in floor.runs], ranked=True)
    one, others = simulated(0.4), [simulated(0.4), simulated(0.1, 0.2, 0.3)]
    assert expected(one, [*others, floor]) == expected(one, others)


def trained_by(made: Run, processes: int, **changes: Any) -> Run:
    """The same run, which says that so many processes have trained it together."""
    origin = made.record.provenance.model_dump(mode="json")
    return changed(made, provenance=origin | {"device": f"{processes} x {origin['device']}"} | changes)


def test_what_more_gpus_have_trained_than_are_here_is_not_made_again(
    true: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: true.record.provenance.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert reproduce._hardware(trained_by(true, 2).record.provenance).devices == 2
    with pytest.raises(NotHereError, match=r"^3 GPUs have trained it together; this machine has 2$"):
        reproduce._hardware(trained_by(true, 3).record.provenance)


def test_elsewhere_the_rows_own_noise_is_allowed() -> None:
    row = simulated(0.20, 0.21, 0.22)
    for value, good in ((0.23, True), (0.40, False)):
        again = elsewhere(simulated(value).runs[0])
        found, says = held(row.runs[0], again, [row])
        assert (found, f"ndcg@10 {value:.4f} again, 0.2000 stated" in says) == (good, True)


def test_without_a_second_seed_nothing_is_proven() -> None:
    (stated,) = simulated(0.20).runs
    good, says = held(stated, elsewhere(stated), [Row([stated], ranked=True)])
    assert not good
    assert says.startswith("ndcg@10 0.2000 again, 0.2000 stated")
    assert "nothing tells what noise is" in says


def test_what_is_not_trained_has_no_noise() -> None:
    row = simulated(0.20, 0.21, 0.22)
    cost = row.record.cost.model_dump(mode="json") | {"stages": []}
    stated, other = (changed(run, cost=cost) for run in row.runs[:2])
    assert held(stated, elsewhere(stated), [Row([stated], ranked=True)])[0]
    assert not held(stated, elsewhere(other), [Row([stated], ranked=True)])[0]


def test_what_no_commit_holds_cannot_be_made_again(
    true: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lack in ({"git_commit": "unknown"}, {"git_dirty_sha256": "a" * 64}):
        origin = true.record.provenance.model_dump(mode="json") | {"git_commit": "a" * 40, **lack}
        target = store.write(tmp_path / str(len(lack)) / next(iter(lack)), *changed(true, provenance=origin))
        assert main(["reproduce", "--row", "seed-0", "--board", str(target.parents[3])]) == 1
        assert "cannot be made again: it" in capsys.readouterr().out.splitlines()[-1]


def test_a_record_that_cannot_be_read_does_not_keep_the_others(
    true: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = true.record.provenance.model_dump(mode="json") | {"git_commit": "unknown"}
    for seed in (0, 1):
        target = store.write(tmp_path, *changed(true, provenance=origin, seed=seed))
    ranks = target.with_suffix(".ranks.parquet")
    for spoil, named in ((ranks.unlink, ranks.name), (lambda: target.write_text("{"), target.name)):
        spoil()
        assert len(drawn(tmp_path, None, None, 1.0, None)) == 2
        assert main(["reproduce", "--row", "seed-", "--board", str(tmp_path)]) == 1
        first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: "))
        assert "its commit is unknown" in first
        assert named in second


class TestTrainedElsewhere:
    """The training itself is left out: what came of it is the true row."""

    @pytest.fixture
    def target(self, true: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        def train(bench: Bench, target: Path, tree: Path, folder: Path, source: str) -> Path:
            return store.write(folder / "board", *true)

        monkeypatch.setattr(reproduce, "_train", train)
        monkeypatch.setattr(reproduce, "_work_tree", lambda folder, commit: nullcontext(tmp_path))
        origin = true.record.provenance.model_dump(mode="json") | {"git_commit": "a" * 40, "git_dirty_sha256": None}
        return store.write(tmp_path / "rows", *changed(true, provenance=origin))

    def test_a_damaged_neighbour_makes_no_row_false(self, target: Path, tmp_path: Path) -> None:
        target.with_name("seed-1.json").write_text("{")
        verdict = reproduce.reproduce(Bench(tmp_path / "rows", tmp_path / "work"), target)
        assert (verdict.good, verdict.says.startswith("equal to the bit, on ")) == (True, True)

    def test_what_an_earlier_time_left_is_not_taken_for_this_ones(
        self, target: Path, true: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record, left = true.record, list[bool]()
        folder = tmp_path / f"work/reproduce/{record.model}-{record.key}-{record.seed}"
        stale = store.write(folder / "board", *true)

        def train(bench: Bench, target: Path, tree: Path, folder: Path, source: str) -> Path:
            left.append(stale.exists())
            return store.write(folder / "board", *true)

        monkeypatch.setattr(reproduce, "_train", train)
        assert reproduce.reproduce(Bench(tmp_path / "rows", tmp_path / "work"), target).good
        assert left == [False]

    def test_a_folder_that_cannot_be_removed_makes_no_row_false(
        self, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a file system that keeps what is open."""
        rmtree = shutil.rmtree

        def refuse(path: Path, ignore_errors: bool = False) -> None:
            if not ignore_errors:
                raise OSError(39, "Directory not empty", str(path))
            rmtree(path, ignore_errors=True)

        monkeypatch.setattr(shutil, "rmtree", refuse)
        assert reproduce.reproduce(Bench(tmp_path / "rows", tmp_path / "work"), target).good

    def test_two_do_not_make_one_run_again_at_once(self, target: Path, true: Run, tmp_path: Path) -> None:
        record = true.record
        folder = tmp_path / f"work/reproduce/{record.model}-{record.key}-{record.seed}"
        folder.mkdir(parents=True)
        bench, lock = Bench(tmp_path / "rows", tmp_path / "work"), own(folder)
        assert lock is not None
        verdict = reproduce.reproduce(bench, target)
        assert verdict == (target, None, f"another process makes it again, in {folder}")
        os.close(lock)
        assert reproduce.reproduce(bench, target).good
        assert not folder.exists()


def test_without_its_data_a_row_is_not_made_again_and_not_wrong(
    true: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GRBENCH_DATA", raising=False)
    (record, *_) = sorted((provenance.ROOT / "leaderboards/v2/toys_2014/popularity").glob("*/seed-0.json"))
    monkeypatch.setattr(sys, "argv", asked(record, tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        train_again.main()
    assert ended.value.code == train_again.ABSENT
    assert capsys.readouterr().err.startswith("error: toys_2014 has no Amazon-2023 download; set GRBENCH_DATA")
    # What such a script says of a row.
    script = tmp_path / "absent.py"
    script.write_text(f"raise SystemExit({train_again.ABSENT})")
    monkeypatch.setattr(reproduce, "SCRIPT", script)
    monkeypatch.setattr(reproduce, "_work_tree", lambda folder, commit: nullcontext(tmp_path))
    origin = true.record.provenance.model_dump(mode="json") | {"git_commit": "a" * 40, "git_dirty_sha256": None}
    board = store.write(tmp_path / "rows", *changed(true, provenance=origin)).parents[3]
    assert main(["reproduce", "--row", "seed-0", "--board", str(board), "--work", str(tmp_path / "work")]) == 1
    said = capsys.readouterr().out
    assert "not made again: its corpus is not here" in said
    assert "wrong" not in said


class TestFromTheCommit:
    """With this checkout's commit, in a work tree."""

    @pytest.fixture
    def commit(self, tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
        """What a row says that this checkout's commit made."""
        commit = provenance.git_commit(provenance.ROOT)
        if commit == "unknown":
            pytest.skip("this is no git checkout, so there is no commit to make a row again from")
        monkeypatch.chdir(workplace)
        yield {"git_commit": commit, "git_dirty_sha256": None}
        assert str(tmp_path) not in trees()

    @pytest.mark.slow
    def test_it_comes_out_again(
        self, commit: dict[str, Any], tmp_path: Path, planted_corpus: Corpus, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A row of item vectors made from text."""
        made = Bench(tmp_path / "made", tmp_path / "work")
        nearest = complete("last_item_vectors", "planted", ["vectors=tfidf"])
        record, ranks = read_run(made.board, run(made, planted_corpus, nearest, 0))
        origin = record.provenance.model_dump(mode="json") | commit
        store.write(tmp_path / "board", *changed(Run(record, ranks), provenance=origin))
        options = ["--board", str(tmp_path / "board"), "--work", str(tmp_path / "again")]
        # What other rows of a board need, this one is not given.
        options += ["--vectors-path", str(tmp_path / "encoder")]
        assert main(["reproduce", "--row", "last_item_vectors", *options]) == 0
        assert "equal to the bit" in capsys.readouterr().out.splitlines()[-1]

    @pytest.mark.slow
    def test_what_two_processes_have_trained_two_train_again(
        self, commit: dict[str, Any], true: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = list[Run]()

        def note(stated: Run, again: Run, rows: list[Row]) -> tuple[bool, str]:
            found.append(again)
            return True, ""

        monkeypatch.setattr(reproduce, "held", note)
        # Of a training in this process, whose processes these would be.
        for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        bench = Bench(tmp_path / "board", tmp_path / "again")
        target = store.write(bench.board, *trained_by(true, 2, **commit))
        assert reproduce.reproduce(bench, target) == (target, True, "")
        (again,) = found
        assert again.record.provenance.device == f"2 x {true.record.provenance.device}"
        # Dropout draws otherwise in two processes.
        assert again.record.test["recall@10"] == pytest.approx(true.record.test["recall@10"], rel=0.2)


def test_item_vectors_that_are_not_the_records_are_not_here(
    planted_corpus: Corpus, with_corpora: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRBENCH_DATA", raising=False)
    files = [tmp_path / name for name in ("own.npz", "others.npz")]
    for number, file in enumerate(files):
        vectors = np.random.default_rng(number).normal(size=(planted_corpus.items, 8)).astype(np.float32)
        np.savez(file, parent_asin=np.array(planted_corpus.item_ids.to_pylist()), vectors=vectors)
    work = with_corpora(tmp_path / "work")
    nearest = complete("last_item_vectors", "planted", ["vectors=npz"])
    given = Bench(tmp_path / "board", work, files[0])
    record = read_run(given.board, run(given, planted_corpus, nearest, 0)).record
    reproduce._check_vectors(given, record, "auto")
    for path, said in ((None, "need a path"), (files[1], "others than the record's: they differ in file_sha256")):
        with pytest.raises(NotHereError, match=said):
            reproduce._check_vectors(replace(given, vectors_path=path), record, "auto")


@pytest.mark.parametrize("kind", ["sentence-t5-base", "folder"])
def test_an_encoder_that_is_not_installed_makes_no_row_false(
    kind: str, true: Run, with_corpora: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder/modules.json").write_text("[]")
    here = Bench(tmp_path / "board", with_corpora(tmp_path / "work"), tmp_path / "encoder")
    record = true.record.model_copy(update={"config": {"vectors": kind}})
    with pytest.raises(NotHereError, match="sentence-transformers"):
        reproduce._check_vectors(here, record, "auto")


def test_a_made_up_recipe_of_text_is_no_excuse(planted_corpus: Corpus, with_corpora: Any, tmp_path: Path) -> None:
    here = Bench(tmp_path / "board", with_corpora(tmp_path / "work"))
    made = run(here, planted_corpus, complete("last_item_vectors", "planted", ["vectors=tfidf"]), 0)
    record = read_run(here.board, made).record
    assert record.vectors is not None
    false = record.vectors.model_copy(update={"recipe": {"kind": "tfidf", "n_iter": 9}})
    reproduce._check_vectors(here, record.model_copy(update={"vectors": false}), "auto")


def test_text_that_is_encoded_already_is_lent_and_stays(tmp_path: Path) -> None:
    kept, place = tmp_path / "vectors/folder", tmp_path / "again/work/vectors/folder"
    reproduce._lend(kept, place)
    assert not place.exists(), "nothing is encoded yet"
    kept.mkdir(parents=True)
    (kept / "of.sealed").write_bytes(b"rows")
    for _ in range(2):
        reproduce._lend(kept, place)
        assert (place / "of.sealed").read_bytes() == b"rows"
    (place / "by_the_commit.sealed").write_bytes(b"others")
    assert [file.name for file in kept.iterdir()] == ["of.sealed"]


def trees() -> str:
    found = subprocess.run(["git", "worktree", "list"], cwd=provenance.ROOT, capture_output=True, text=True)
    return found.stdout


def test_which_rows_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.leaderboards.project import project

    made = project(tmp_path)
    every = drawn(made.board, None, None, None, None)
    assert len(every) == 5
    assert len(drawn(made.board, "seed-1", None, None, None)) == 2
    three = drawn(made.board, None, 3, None, None)
    assert (len(set(three)), three) == (3, drawn(made.board, None, 3, None, None))
    new = made.run(0, draw=60, config={"width": 32})
    made.add(new)
    assert new.record.key in str(drawn(made.board, None, 1, None, "main")[0])
    # They say that they were trained in half a minute.
    assert len(drawn(made.board, None, None, 0.5, None)) == 6
    with pytest.raises(
        FileNotFoundError, match=r"no record in .* whose path holds 'seed' that was trained in 0.4 minutes"
    ):
        drawn(made.board, "seed", None, 0.4, None)
    assert main(["reproduce", "--board", str(made.board)]) == 2
    assert "neither --row nor --sample is given" in capsys.readouterr().err
    assert main(["reproduce", "--row", "seed", "--base", "main", "--board", str(made.board)]) == 2
    assert "--base is given without --sample" in capsys.readouterr().err


def test_the_boards_own_folder_is_no_part_of_a_row(tmp_path: Path) -> None:
    board = tmp_path / "all_beauty_again"
    for corpus in ("all_beauty", "toys_2014"):
        file = board / corpus / "sasrec" / ("a" * 12) / "seed-0.json"
        file.parent.mkdir(parents=True)
        file.write_text("{")
    (one,) = ledger.records(board, "all_beauty")
    assert len(ledger.records(board)) == 2
    # As the shell completes it, from a folder above, and with the slashes that tell a corpus from another's ending.
    for row in (str(one), "again/all_beauty/sasrec", "/all_beauty/sasrec/", "sasrec/aaa"):
        assert one in ledger.records(board, row), row
    assert ledger.records(board, "again") == ledger.records(board, "x" * 500) == []


def test_a_row_in_the_place_of_another_is_new(tmp_path: Path) -> None:
    """Git takes it for the same file under another name."""
    from tests.leaderboards.project import project

    made = project(tmp_path)
    old = drawn(made.board, None, None, None, None)[0]
    for file in old.parent.glob("seed-0.*"):
        file.unlink()
    new = made.run(0, draw=60, config={"width": 32})
    made.add(new)
    assert new.record.key in str(drawn(made.board, None, 1, None, "main")[0])


def test_rows_of_another_content_tell_nothing_of_noise() -> None:
    one, apart = simulated(0.4), Row(simulated(0.1, 0.2, 0.3).runs, ranked=False)
    with pytest.raises(ValueError, match="has two seeds; nothing tells what noise is"):
        expected(one, [one, apart])
