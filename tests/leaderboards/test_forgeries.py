"""The forging kit: false rows that agree with themselves in every number and hash, and what finds them.

Here are those that `make verify BASE=...` finds; those that only a training can tell are in
tests/benchmarks/test_reproduce.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from leaderboards import claims, codes, store
from leaderboards.__main__ import main
from leaderboards.claims import serves
from leaderboards.history import gone
from leaderboards.metrics import metrics
from leaderboards.record import Record
from leaderboards.store import Run
from leaderboards.verify import verify
from tests.leaderboards.project import CORPUS, OPEN_NOTE, STAND_IN_NOTE, VECTORS, Project, git, project, with_facts
from tests.leaderboards.test_codes import card_of

pytestmark = pytest.mark.slow

STUDY = "sasrec-all_beauty-0123456789ab"
TUNED_NOTE = f"tuned with 3 trials (study {STUDY})"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = project(tmp_path_factory.mktemp("honest"))
    pruned = trial(2, {"width": 256}) | {"state": "pruned"}
    trials = [trial(0, {"width": 64}), trial(1, {"width": 128}), pruned]
    study = {"study": STUDY, "corpus": CORPUS, "model": "sasrec", "trials": trials}
    sweeps = made.board / f"{CORPUS}.sweeps"
    sweeps.mkdir()
    (sweeps / f"{STUDY}.json").write_text(json.dumps(study))
    git(made.root, "checkout", "--quiet", "main")
    made.add(made.run(0, draw=50, config={"width": 128}, notes=[TUNED_NOTE]))
    git(made.root, "checkout", "--quiet", "-B", "change")
    return made


@pytest.fixture
def forger(honest: Project, tmp_path: Path) -> Project:
    """A copy to work on."""
    shutil.copytree(honest.root, tmp_path / "copy", symlinks=True)
    return honest._replace(root=tmp_path / "copy")


def trial(number: int, params: dict[str, Any]) -> dict[str, Any]:
    return {"number": number, "state": "complete", "value": 0.1 * (number + 1), "params": params}


def test_an_honest_board(honest: Project) -> None:
    assert verify(honest.board, base="main") == ([], 6)
    assert verify(honest.board, row="seed-1")[0] == []


# What a new row is made with, beside what is honest.
OTHER: dict[str, Any] = {"config": {"width": 32}}


def a_better_rank(forger: Project) -> None:
    """In a row that was released; metrics, hashes and tables follow."""
    target = first(forger, "sasrec", "seed-0")
    record, ranks = store.read_run(forger.board, target)
    for file in target.parent.glob("seed-0.*"):
        file.unlink()
    better = pa.array((ranks["rank"].to_numpy() > 0).astype(np.uint8))
    for name in ("rank", "rank_unseen"):
        place = ranks.schema.get_field_index(name)
        ranks = ranks.set_column(place, ranks.schema.field(place), better)
    forger.add(rewritten(record, ranks))


def rewritten(record: Record, ranks: pa.Table) -> Run:
    """The record of these ranks."""
    content = record.model_dump(mode="json")
    content["test"] = metrics(ranks["rank"].to_numpy(), ranks["rank_unseen"].to_numpy())
    return Run(Record.model_validate(content | {"ranks_sha256": store.content_sha256(ranks)}), ranks)


def first(forger: Project, model: str, name: str) -> Path:
    return next(forger.board.glob(f"{CORPUS}/{model}/*/{name}.json"))


def a_bad_seed_removed(forger: Project) -> None:
    for file in first(forger, "tiger", "seed-1").parent.glob("seed-1.*"):
        file.unlink()
    forger.seal()


def chosen_seeds(forger: Project) -> None:
    forger.add(*(forger.run(seed, draw=60 + seed, **OTHER) for seed in (1, 4)))


def ranks_of_another_row(forger: Project) -> None:
    forger.add(forger.run(0, draw=1, **OTHER))


def a_date_to_come(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, provenance={"started_at": "9999-01-01T00:00:00Z"}))


def another_protocol(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, protocol="v3"))


def no_commit(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, provenance={"git_commit": "unknown"}))


def a_commit_that_is_not_there(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, provenance={"git_commit": "d" * 40}))


def changed_code_that_git_was_told_to_overlook(forger: Project) -> None:
    git(forger.root, "update-index", "--assume-unchanged", "models/sasrec.py")
    (forger.root / "models/sasrec.py").write_text("cheat = True\n")
    forger.add(forger.run(0, draw=60, **OTHER))


def a_model_that_the_commit_does_not_have(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, model="wonder", experiment="wonder"))


def an_easier_corpus(forger: Project) -> None:
    """Prepared in another way, under the same name."""
    forger.add(forger.run(0, draw=60, corpus={"fingerprint": "b" * 64}))


def fewer_items_than_the_card_has(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, corpus={"items": 100}))


def stand_in_vectors_without_a_note(forger: Project) -> None:
    forger.add(forger.tiger(0, notes=[OPEN_NOTE], config={"width": 32}))


def stand_in_vectors_called_the_papers(forger: Project) -> None:
    vectors = VECTORS | {"stand_in": False}
    forger.add(forger.tiger(0, notes=[OPEN_NOTE], vectors=vectors, config={"width": 32}))


def what_the_paper_leaves_open_not_told(forger: Project) -> None:
    forger.add(forger.tiger(0, notes=[STAND_IN_NOTE], config={"width": 32}))


def tuned_by_a_sweep_that_never_was(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, notes=["tuned with 30 trials (study sasrec-all_beauty-none)"]))


def tuned_with_settings_that_no_trial_had(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, notes=[TUNED_NOTE]))


def tuned_with_a_trial_that_lost(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, config={"width": 64}, notes=[TUNED_NOTE]))


def a_trial_of_a_sweep_taken_away(forger: Project) -> None:
    file = forger.board / f"{CORPUS}.sweeps/{STUDY}.json"
    study = json.loads(file.read_text())
    file.write_text(json.dumps(study | {"trials": study["trials"][1:]}))
    forger.seal()


def a_default_that_hides_a_sweep(forger: Project) -> None:
    """So that the best of its trials would need no note."""
    file = forger.board / f"{CORPUS}.sweeps/{STUDY}.json"
    study = json.loads(file.read_text())
    file.write_text(json.dumps(study | {"default": trial(0, {"width": 128})}))
    forger.add(forger.run(0, draw=60, config={"width": 128, "depth": 1}))


def a_sweep_of_another_model(forger: Project) -> None:
    file = forger.board / f"{CORPUS}.sweeps/{STUDY}.json"
    study = json.loads(file.read_text())
    file.write_text(json.dumps(study | {"model": "tiger"}))
    forger.seal()


def lists_that_are_not_exact(forger: Project) -> None:
    search = {"certified_share": 0.98, "mean_expansions": 3.0, "max_expansions": 9}
    forger.add(forger.run(0, draw=60, **OTHER, search=search))


def easier_targets(forger: Project) -> None:
    """Ranks of other users and targets than the board's."""
    users = with_facts(253, 0).num_rows
    facts = with_facts(users, 60)
    place = facts.schema.get_field_index("history_length")
    longer = pa.array(facts["history_length"].to_numpy() + 1)
    forger.add(forger.run(0, ranks=facts.set_column(place, facts.schema.field(place), longer), **OTHER))


def a_floors_ranks_for_a_training(forger: Project) -> None:
    """In a row that is read before the floor's."""
    nothing = forger.run(0).record.cost.model_dump(mode="json") | {"stages": [], "train_seconds": 0.0}
    ranks = with_facts(253, 77)
    forger.add(forger.run(0, ranks=ranks, **OTHER), forger.run(0, ranks=ranks, model="tiger", cost=nothing))


def no_places_among_unseen_items(forger: Project) -> None:
    ranks = with_facts(253, 60)
    for name in ("rank_unseen", "valid_rank_unseen"):
        place = ranks.schema.get_field_index(name)
        ranks = ranks.set_column(place, ranks.schema.field(place), pa.array(np.zeros(253, np.uint8)))
    forger.add(forger.run(0, ranks=ranks, **OTHER))


def with_stage(forger: Project, **changes: Any) -> None:
    run = forger.run(0, draw=60, **OTHER)
    cost = run.record.cost.model_dump(mode="json")
    forger.add(forger.run(0, draw=60, **OTHER, cost=cost | {"stages": [cost["stages"][0] | changes]}))


def an_epoch_that_was_not_the_best(forger: Project) -> None:
    with_stage(forger, quality=[0.9, 0.001])


def an_epoch_that_was_never_looked_at(forger: Project) -> None:
    with_stage(forger, quality=[0.001], checked=[1])


def a_quality_that_validation_has_not(forger: Project) -> None:
    with_stage(forger, quality=[0.1, 0.9])


def hours_that_no_stage_took(forger: Project) -> None:
    with_stage(forger, seconds=3)


def more_validation_than_users(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER, valid_users=10**9))


def with_fact(forger: Project, name: str, value: int, users: np.ndarray) -> None:
    """Some users are told otherwise."""
    ranks = with_facts(253, 60)
    place = ranks.schema.get_field_index(name)
    values = pa.array(np.where(users, value, ranks[name].to_numpy()).astype(np.int32))
    forger.add(forger.run(0, ranks=ranks.set_column(place, ranks.schema.field(place), values), **OTHER))


def missed() -> np.ndarray:
    """Users with no target near the top, so that nothing but its sum is said of their histories."""
    ranks = with_facts(253, 60)
    return (ranks["rank"].to_numpy() == 0) & (ranks["valid_rank"].to_numpy() == 0)


def fewer_items_before_the_targets(forger: Project) -> None:
    with_fact(forger, "history_length", 2, missed())


def a_user_with_nothing_to_train_on(forger: Project) -> None:
    with_fact(forger, "history_length", 1, missed())


def a_transition_to_what_nobody_had(forger: Project) -> None:
    with_fact(forger, "target_count", 0, with_facts(253, 60)["transition_seen"].to_numpy())


def tuned_by_a_sweep_of_another_corpus(forger: Project) -> None:
    study = json.loads((forger.board / f"{CORPUS}.sweeps/{STUDY}.json").read_text())
    other = forger.board / "toys_2014.sweeps/sasrec-toys_2014-0123456789ab.json"
    other.parent.mkdir()
    other.write_text(json.dumps(study | {"study": other.stem, "corpus": "toys_2014"}))
    note = f"tuned with 3 trials (study {other.stem})"
    forger.add(forger.run(0, draw=60, config={"width": 128, "depth": 1}, notes=[note]))


def a_sweep_that_is_not_told(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, config={"width": 128, "depth": 1}))


def a_table_edited_by_hand(forger: Project) -> None:
    table = forger.board / f"{CORPUS}.md"
    table.write_text(table.read_text().replace("sasrec", "wonder", 1))
    forger.commit_all()


def a_link_to_ranks_elsewhere(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER))
    file = first(forger, "sasrec", "seed-0").parent.parent / store_key(forger) / "seed-0.ranks.parquet"
    shutil.move(file, forger.root / "elsewhere")
    file.symlink_to(forger.root / "elsewhere")
    forger.commit_all()


def store_key(forger: Project) -> str:
    return forger.run(0, draw=60, **OTHER).record.key


def curves_of_another_training(forger: Project) -> None:
    forger.add(forger.run(0, draw=60, **OTHER))
    file = forger.board / CORPUS / "sasrec" / store_key(forger) / "seed-0.curves.csv"
    file.write_text(file.read_text().replace("5.5", "3.5"))
    forger.seal()


def a_winner_that_no_trial_was(forger: Project) -> None:
    file = forger.root / f"benchmarks/best/{CORPUS}/sasrec.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'study = "{STUDY}"\ntrial = 1\nvalue = 0.9\n[params]\nwidth = 128\n')
    forger.commit_all()


def a_page_that_was_never_rendered(forger: Project) -> None:
    (forger.board / f"{CORPUS}.html").write_text("<b>wonder: .9</b>")
    git(forger.root, "add", "--force", str(forger.board / f"{CORPUS}.html"))
    forger.commit_all()


def rules_changed(forger: Project) -> None:
    (forger.board / "protocol.toml").write_text('version = "v2"\nreleased = false\n')
    forger.add(forger.run(0, draw=60, **OTHER, provenance={"git_commit": "unknown"}))


KIT: dict[Callable[[Project], None], str] = {
    a_better_rank: "seed-0.ranks.parquet was changed since",
    a_bad_seed_removed: "seed-1.json was removed since",
    chosen_seeds: "has the seeds 1, 4; expected 0 to 1",
    ranks_of_another_row: "a training has its own",
    a_date_to_come: "which has not come yet",
    another_protocol: "protocol is v3; this board is that of v2",
    no_commit: "its commit is unknown",
    a_commit_that_is_not_there: "dddd is not in this repository",
    changed_code_that_git_was_told_to_overlook: "the code that ran has the hash",
    a_model_that_the_commit_does_not_have: "its commit has no models/wonder.py",
    an_easier_corpus: "its corpus has the fingerprint bbbb",
    fewer_items_than_the_card_has: "its corpus has 253 users, 100 items, 2,535 interactions; the card of all_beauty",
    stand_in_vectors_without_a_note: "no note says that its item vectors, tfidf-256, are a stand-in",
    stand_in_vectors_called_the_papers: "no note says that its item vectors, tfidf-256, are a stand-in",
    what_the_paper_leaves_open_not_told: "no note says what models/tiger.py says is open in its paper",
    tuned_by_a_sweep_that_never_was: "and no such study lies on the board",
    tuned_with_settings_that_no_trial_had: "and no trial that was the study's best by then has its settings",
    tuned_with_a_trial_that_lost: "and no trial that was the study's best by then has its settings",
    a_trial_of_a_sweep_taken_away: "no longer has trial 0 as it was in",
    a_default_that_hides_a_sweep: f"the default of study {STUDY}, trial 0, is none of its trials",
    a_sweep_of_another_model: "has another model than in",
    lists_that_are_not_exact: "certified_share is 0.98",
    easier_targets: "tell other facts of users and targets",
    a_floors_ranks_for_a_training: "a training has its own",
    no_places_among_unseen_items: "and in rank_unseen nowhere, where another run has a place for them",
    an_epoch_that_was_not_the_best: "stage fit kept epoch 2, which has 0.001, another one 0.9",
    an_epoch_that_was_never_looked_at: "stage fit kept epoch 2, which was never looked at",
    a_quality_that_validation_has_not: "; the kept epoch had 0.9",
    hours_that_no_stage_took: "train_seconds is 30.0; its stages took 3.0",
    more_validation_than_users: "valid_users is 1000000000, of 253 users",
    fewer_items_before_the_targets: "interactions by their histories; its corpus has 2535",
    a_user_with_nothing_to_train_on: "a user has a history of 1; leave-one-out needs 2",
    a_transition_to_what_nobody_had: "a target that is in no training part followed an item in one",
    tuned_by_a_sweep_of_another_corpus: "and no such study lies on the board",
    a_sweep_that_is_not_told: f"it has the settings of the best trial of study {STUDY}, and no note says so",
    a_table_edited_by_hand: "is not what the records give",
    a_link_to_ranks_elsewhere: "is a link, or no regular file",
    curves_of_another_training: "does not hold the curves of",
    a_winner_that_no_trial_was: f"sasrec.toml is of trial 1 of study {STUDY}; no board has such a trial",
    a_page_that_was_never_rendered: "all_beauty.html is a page, which anyone can render",
    rules_changed: "protocol.toml was changed since",
}


@pytest.mark.parametrize(("forge", "said"), KIT.items(), ids=[forge.__name__ for forge in KIT])
def test_verify_finds_it(forge: Callable[[Project], None], said: str, forger: Project) -> None:
    forge(forger)
    problems, _ = verify(forger.board, base="main")
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("swept", "corpus", "is_for_it"),
    [
        ("toys", "toys", True),
        ("toys", "toys_cold_items", True),
        ("toys", "toys_unseen_users", True),
        ("toys_cold_items", "toys", False),
        ("toys", "toyshop", False),
        ("toys", "books", False),
    ],
)
def test_a_sweep_is_for_its_corpus_and_what_was_cut_from_it(swept: str, corpus: str, is_for_it: bool) -> None:
    assert serves(swept, corpus) == is_for_it


def test_more_may_have_validated_than_are_graded(forger: Project) -> None:
    """As of a corpus that is cut in time; its note says so, and the kept epoch has what those gave."""
    note = "graded on the users who go on after the cut; validation during training on all 900 users"
    forger.add(forger.run(0, draw=60, **OTHER, valid_users=900, notes=[note]))
    assert verify(forger.board, base="main")[0] == []


def test_what_a_tuned_row_overrides_is_no_trials(forger: Project) -> None:
    notes = [TUNED_NOTE, "overridden: width=64"]
    forger.add(forger.run(0, draw=60, config={"width": 64}, notes=notes))
    assert verify(forger.board, base="main")[0] == []


def test_of_two_boards_one_that_is_gone_is_missed_at_the_other(
    forger: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    git(forger.root, "checkout", "--quiet", "main")
    shutil.copytree(forger.board, other := forger.board.parent / "v9")
    forger.commit_all()
    git(forger.root, "checkout", "--quiet", "-B", "change")
    shutil.rmtree(other)
    forger.commit_all()
    assert main(["verify", "--board", str(forger.board), "--base", "main"]) == 1
    assert "leaderboards/v9 was a released board" in capsys.readouterr().out


def test_a_problem_is_one_line_whatever_a_file_is_called(forger: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (forger.board / CORPUS / "x\n::error::no\n.txt").touch()
    assert main(["verify", "--board", str(forger.board)]) == 1
    assert all(line.startswith(("wrong: ", "6 records")) for line in capsys.readouterr().out.splitlines())


def test_a_file_is_listed_once(forger: Project) -> None:
    file = forger.board / f"{CORPUS}.sha256"
    first, *_ = file.read_text().splitlines()
    file.write_text(f"{'0' * 64}{first[64:]}\n{file.read_text()}")
    problems = verify(forger.board)[0]
    assert any(" lists 'all_beauty" in problem and "again; expected each" in problem for problem in problems), problems
    file.write_bytes(b"".join(line + b"\r\n" for line in file.read_bytes().splitlines()[1:]))
    assert any("is missing" in problem or "no evidence" in problem for problem in verify(forger.board)[0])


def test_a_released_board_that_is_gone(forger: Project) -> None:
    assert list(gone(forger.board.parent, "main")) == []
    shutil.rmtree(forger.board)
    (forger.board.parent / "published.csv").write_text("paper\n")
    forger.commit_all()
    (said,) = gone(forger.board.parent, "main")
    assert said.startswith("leaderboards/v2 was a released board in ")


@pytest.mark.parametrize("folders", [[CORPUS], [CORPUS, f"{CORPUS}.sweeps"]])
def test_a_corpus_that_is_gone(forger: Project, folders: list[str]) -> None:
    """Its ledger and tables are still there."""
    for folder in folders:
        shutil.rmtree(forger.board / folder)
    problems, records = verify(forger.board)
    assert records == 0
    assert sum(f"is missing; {CORPUS}.sha256 lists it" in problem for problem in problems) > 10


def test_a_ledger_cut_short_hides_no_other_problem(forger: Project) -> None:
    a_bad_seed_removed(forger)
    file = forger.board / f"{CORPUS}.sweeps/{STUDY}.json"
    file.write_bytes(file.read_bytes()[:-5])
    problems, _ = verify(forger.board, base="main")
    for said in (f"{STUDY}.json is no ledger of a sweep: ", "seed-1.json was removed since"):
        assert any(said in problem for problem in problems), problems


def test_a_sweep_that_goes_on_is_no_forgery(forger: Project) -> None:
    file = forger.board / f"{CORPUS}.sweeps/{STUDY}.json"
    study = json.loads(file.read_text())
    file.write_text(json.dumps(study | {"trials": [*study["trials"], trial(3, {"width": 32})]}))
    changed = verify(forger.board, base="main")[0]
    assert any(f"{STUDY}.json has changed: its SHA-256" in problem for problem in changed)
    forger.seal()
    assert verify(forger.board, base="main")[0] == []


def test_a_winner_of_a_trial_is_no_forgery(forger: Project) -> None:
    a_winner_that_no_trial_was(forger)
    file = forger.root / f"benchmarks/best/{CORPUS}/sasrec.toml"
    file.write_text(file.read_text().replace("0.9", "0.2"))
    assert verify(forger.board)[0] == []


@pytest.mark.parametrize("content", ['{"study": 1}', "{}", "[]"])
def test_what_is_no_ledger_of_a_sweep(forger: Project, content: str) -> None:
    (forger.board / f"{CORPUS}.sweeps/{STUDY}.json").write_text(content)
    forger.seal()
    assert any("is no ledger of a sweep" in problem for problem in verify(forger.board)[0])
    assert any(problem.endswith("it has no list of trials") for problem in verify(forger.board, base="main")[0])


def test_a_shallow_checkout_says_that_commits_are_not_looked_up(honest: Project, tmp_path: Path) -> None:
    from leaderboards.claims import unchecked

    git(honest.root, "clone", "--quiet", "--depth", "1", f"file://{honest.root}", str(tmp_path / "shallow"))
    board = honest._replace(root=tmp_path / "shallow").board
    assert verify(board)[0] == []
    assert "git fetch --unshallow" in (unchecked(board) or "")
    assert unchecked(honest.board) is None


def test_the_code_of_a_code_card_is_that_of_its_commit(forger: Project) -> None:
    origin = card_of("tiger").provenance.model_dump(mode="json")
    target = codes.write(forger.board, card_of("tiger", provenance=origin | {"git_commit": forger.commit}))
    told = list(claims.problems(forger.board, [], whole=True))
    assert any(each.startswith(f"{target}: the code that ran has the hash cccc") for each in told), told


def test_no_places_of_validation_among_unseen_items(forger: Project) -> None:
    ranks = with_facts(253, 60)
    place = ranks.schema.get_field_index("valid_rank_unseen")
    none = pa.array(np.zeros(253, np.uint8))
    forger.add(forger.run(0, ranks=ranks.set_column(place, ranks.schema.field(place), none), **OTHER))
    problems, _ = verify(forger.board, base="main")
    assert any("targets in valid_rank among the first 10 and in valid_rank_unseen nowhere" in each for each in problems)
