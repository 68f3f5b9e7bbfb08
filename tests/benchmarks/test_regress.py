"""The gate: a real defect is red, a change of nothing and another seed are green, and new references are told of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import models
import models.popularity
import models.sasrec
from benchmarks import provenance
from benchmarks.__main__ import main
from benchmarks.checks import regress
from benchmarks.checks.regress import BANK, COMPARED, Answer, accept, bank, evaluation, gated, note
from benchmarks.checks.rerank import platform
from benchmarks.experiments import DEFAULT
from data_prep.atomic import own
from data_prep.batches import Batches
from data_prep.corpus import Batch, Corpus
from leaderboards.store import Run
from models.api import Ranking
from models.hgn import Hgn
from models.parts.optim import adamw
from models.parts.ranking import rank_scores

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("saved_as_usual")]

# A model that trains in a second.
CHEAP = "hgn"


@pytest.fixture(autouse=True)
def _in_the_workplace(workplace: Path, planted_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded corpus is prepared once for all tests."""
    monkeypatch.chdir(workplace)


@pytest.fixture
def work(tmp_path: Path, with_corpora: Callable[[Path], Path]) -> Path:
    """A folder for a gate to work in, and that of its trainings within it; the corpus is prepared in both."""
    place = with_corpora(tmp_path / "work")
    with_corpora(place / "regress")
    return place


def only(answers: list[Answer], question: str) -> Answer:
    (answer,) = [answer for answer in answers if answer.question == question]
    return answer


def without_the_latest(batch: Callable[..., Batch]) -> Callable[..., Batch]:
    """The defect of an off-by-one in the history: the model does not see the item before the target."""

    def patched(self: Batches, rows: Tensor) -> Batch:
        user, history, target = batch(self, rows)
        length = (history > 0).sum(1, keepdim=True)
        latest = torch.arange(history.shape[1]) == length - 1
        return Batch(user, history.masked_fill(latest & (length > 1), 0), target)

    return patched


def with_ties_to_the_larger_id(scores: Float[Tensor, "B N"], k: int) -> Ranking:
    mirrored = rank_scores(scores.flip(1), k)
    return mirrored._replace(items=scores.shape[1] + 1 - mirrored.items)


def test_what_a_bench_runs_by_default_has_references() -> None:
    assert set(DEFAULT) <= set(gated()) <= set(models.names())
    for name in gated():
        runs = bank(name)
        assert [run.record.seed for run in runs] == list(range(BANK))
        assert {run.record.provenance.git_dirty_sha256 for run in runs} == {None}


@pytest.mark.parametrize("name", gated())
def test_committed_weights_rank_as_they_did(name: str, work: Path) -> None:
    answer = evaluation(work, name, bank(name))
    assert answer.good, answer.says


def test_weights_that_no_longer_fit_the_model_are_red(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Hgn.__init__

    def wider(self: Any, *given: Any) -> None:
        build(self, *given)
        self.extra = torch.nn.Linear(2, 2)

    monkeypatch.setattr(Hgn, "__init__", wider)
    answer = evaluation(work, CHEAP, bank(CHEAP))
    assert not answer.good
    assert "the committed weights cannot be ranked with: " in answer.says
    assert "extra.weight" in answer.says


def test_an_off_by_one_in_the_history_is_red(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batches, "batch", without_the_latest(Batches.batch))
    answer = evaluation(work, "sasrec", bank("sasrec"))
    assert not answer.good
    assert "look at history" in answer.says


def test_a_wrong_tie_rule_is_red(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.popularity, "rank_scores", with_ties_to_the_larger_id)
    answer = evaluation(work, "popularity", bank("popularity"))
    assert not answer.good
    assert "must rank alike" in answer.says


def test_another_platform_may_swap_a_few_users_only(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = bank("sasrec")
    ranks = reference[0].ranks["rank"].to_numpy().copy()
    ranks[:10] = (ranks[:10] + 1) % 50
    column = reference[0].ranks.schema.get_field_index("rank")
    field = reference[0].ranks.schema.field("rank")
    moved = reference[0]._replace(ranks=reference[0].ranks.set_column(column, field, [ranks]))
    here = reference[0].record.provenance
    monkeypatch.setattr(provenance, "of", lambda hardware: here)
    assert not evaluation(work, "sasrec", [moved]).good
    monkeypatch.setattr(provenance, "of", lambda hardware: here.model_copy(update={"device": "another"}))
    assert evaluation(work, "sasrec", [moved]).good
    ranks[:11] = (ranks[:11] + 1) % 50
    moved = moved._replace(ranks=reference[0].ranks.set_column(column, field, [ranks]))
    assert not evaluation(work, "sasrec", [moved]).good, "at most 10 of 2,000"


def test_the_gate_is_of_a_cpu_where_there_is_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    here = platform(provenance.of(regress.HARDWARE))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert platform(provenance.of(regress.HARDWARE)) == here
    assert (provenance.of(regress.HARDWARE).precision, regress.HARDWARE.device) == ("32-true", torch.device("cpu"))


def test_no_change_is_green(work: Path) -> None:
    answers = regress.regress(work, [CHEAP], jobs=1)
    assert [answer.good for answer in answers] == [True, True], answers
    here = platform(provenance.of(regress.HARDWARE))
    if here == platform(bank(CHEAP)[0].record.provenance):
        assert f"{COMPARED} runs equal to the bit" in only(answers, "training").says


def test_other_seeds_are_green(work: Path) -> None:
    answer = only(regress.regress(work, [CHEAP], range(100, 100 + COMPARED), jobs=1), "training")
    assert answer.good, answer.says
    assert "p of a difference beyond the margin" in answer.says


def test_half_the_learning_rate_is_red(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = adamw
    monkeypatch.setattr(models.sasrec, "adamw", lambda module, lr, *rest: whole(module, lr / 2, *rest))
    answers = regress.regress(work, ["sasrec"], jobs=1)
    assert only(answers, "evaluation").good, "the weights are the committed ones"
    training = only(answers, "training")
    assert not training.good
    assert "make regress ACCEPT=1" in training.says


def test_runs_that_spread_too_much_prove_nothing(tmp_path: Path) -> None:
    # Popularity's hits are so few that the test detects nothing below half of them.
    runs = bank("popularity")
    rng = torch.Generator().manual_seed(0)
    fresh = []
    for run in runs[:COMPARED]:
        order = torch.randperm(len(run.ranks), generator=rng).numpy()
        column = run.ranks.schema.get_field_index("rank")
        ranks = run.ranks.set_column(column, run.ranks.schema.field("rank"), run.ranks["rank"].take(order))
        fresh.append(run._replace(record=run.record.model_copy(update={"ranks_sha256": "0" * 64}), ranks=ranks))
    answer = regress.training("popularity", fresh, runs)
    assert not answer.good
    assert "runs spread so much" in answer.says


def test_a_changed_config_is_named() -> None:
    runs = bank("sasrec")
    changed = runs[0].record.model_copy(update={"key": "0" * 12, "config": {**runs[0].record.config, "lr": 0.5}})
    answer = regress.training("sasrec", [runs[0]._replace(record=changed)], runs)
    assert not answer.good
    assert "its config has changed: lr 0.002 -> 0.5;" in answer.says


@pytest.fixture
def small_gate(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """References of little trainings, in a folder of the test."""
    monkeypatch.setattr(regress, "BANK", 2)
    monkeypatch.setitem(regress.QUICK, "sasrec", ["width=16", "inner=16", "layers=1", "epochs=1"])
    return work.with_name("references")


def test_accept_writes_references_that_the_next_check_reads(
    small_gate: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = regress._keep_weights

    def alone(work: Path, run: Run, folder: Path) -> None:
        assert own(work) is None, "no other gate takes the weights away"
        keep(work, run, folder)

    monkeypatch.setattr(regress, "_keep_weights", alone)
    names = ["popularity", "sasrec"]
    lines = accept(work, names, "the first", jobs=1, references=small_gate)
    assert [line.split("ndcg")[0] for line in lines] == [
        "- References of `popularity` on the quick board: ",
        "- References of `sasrec` on the quick board: ",
    ]
    assert all(": ndcg@10 none -> 0." in line and line.endswith("; the first") for line in lines)
    for name in names:
        assert [run.record.seed for run in bank(name, small_gate)] == [0, 1]
        assert evaluation(work, name, bank(name, small_gate), small_gate).good
    weights = sorted(path.name for path in (small_gate / "weights/sasrec").iterdir())
    assert weights == ["0-recommender.safetensors"]
    again = accept(work, names[:1], "again", jobs=1, references=small_gate)
    assert "none" not in again[0]
    (damaged,) = (small_gate / "planted/popularity").glob("*/seed-1.json")
    damaged.write_text("{}")
    again = accept(work, names[:1], "again", jobs=1, references=small_gate)
    assert "ndcg@10 unreadable ones -> 0." in again[0]
    assert len(bank("popularity", small_gate)) == 2
    damaged.unlink()
    with pytest.raises(ValueError, match=r"has seeds 0 of popularity, of 1 configs; expected 0 to 1 of one; `make reg"):
        bank("popularity", small_gate)


def test_two_gates_do_not_take_each_others_runs(work: Path) -> None:
    folder = work / "regress"
    lock = own(folder)
    assert lock is not None
    for ask in (
        lambda: regress.regress(work, ["popularity"]),
        lambda: accept(work, ["popularity"], "why", references=work.with_name("references")),
    ):
        with pytest.raises(OSError, match=f"another process makes runs of the quick board in {folder}"):
            ask()
    os.close(lock)
    assert regress.regress(work, ["popularity"], jobs=1)[0].good


def test_the_changelog_says_why(tmp_path: Path) -> None:
    file = tmp_path / "CHANGELOG.md"
    file.write_text("# Changelog\n\n### Changes numbers\n\n- Old.\n")
    note(["- New."], file)
    assert file.read_text() == "# Changelog\n\n### Changes numbers\n\n- New.\n- Old.\n"
    file.write_text("# Changelog\n")
    with pytest.raises(ValueError, match="has no line '### Changes numbers'"):
        note(["- New."], file)
    assert file.read_text() == "# Changelog\n"


def test_a_model_without_references_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run of mine; `make regress ACCEPT=1 MODELS=mine` makes them"):
        bank("mine")


def test_a_gate_without_references_is_not_green(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regress", "--references", str(tmp_path), "--work", str(tmp_path / "work")]) == 2
    assert f"error: {tmp_path} has no references; expected planted/<model>/" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sasrec-bce", "sasrek"])
def test_what_is_no_model_is_told_before_a_training(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regress, "made", lambda *arguments: pytest.fail("trained"))
    for ask in (
        lambda: accept(tmp_path, [name], "why", references=tmp_path),
        lambda: regress.regress(tmp_path, [name]),
    ):
        with pytest.raises(ValueError, match=f"no model '{name}'; did you mean 'sasrec'"):
            ask()


def test_command_line(
    small_gate: Path,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*options: str) -> int:
        path = ("--work", str(work), "--references", str(small_gate))
        return main(["regress", "--models", "popularity", "--jobs", "1", *path, *options])

    monkeypatch.chdir(tmp_path)
    assert call("--accept", "--first-seed", "7") == call("--why", "a reason") == 2
    told = capsys.readouterr().err
    assert "--first-seed is given with --accept" in told
    assert "--why is given without --accept" in told
    assert call() == 2
    assert "make regress ACCEPT=1 MODELS=popularity" in capsys.readouterr().err
    assert call("--accept", "--why", "a reason") == 2
    assert f"{tmp_path / 'CHANGELOG.md'} has no line '### Changes numbers'" in capsys.readouterr().err
    assert not (small_gate / "planted/popularity").exists(), "nothing is made before it can be told"
    (tmp_path / "CHANGELOG.md").write_text("### Changes numbers\n\n")
    assert call("--accept", "--why", "a reason") == 0
    assert (tmp_path / "CHANGELOG.md").read_text().endswith("; a reason\n")
    capsys.readouterr()
    assert call() == 0
    assert "all 2 are green" in capsys.readouterr().out
    monkeypatch.setattr(models.popularity, "rank_scores", with_ties_to_the_larger_id)
    assert call() == 1
    said = capsys.readouterr().out
    assert "RED   popularity evaluation" in said
    assert "1 of 2 are red: popularity evaluation" in said, "on average nobody gains by another order of equals"


def test_what_an_earlier_gate_has_trained_is_trained_again(small_gate: Path, work: Path) -> None:
    for _ in range(2):
        (run,) = regress.made(work / "regress", ["sasrec"], range(1), jobs=1)["sasrec"]
        assert [stage.reused for stage in run.record.cost.stages] == [False]


def without(run: Run, column: str) -> Run:
    """The run with no target in this column."""
    place = run.ranks.schema.get_field_index(column)
    none = pa.array(np.zeros(len(run.ranks), np.uint8))
    ranks = run.ranks.set_column(place, run.ranks.schema.field(place), none)
    return Run(run.record.model_copy(update={"ranks_sha256": "0" * 64}), ranks)


def test_one_run_that_is_equal_to_the_bit_does_not_stand_for_the_others() -> None:
    runs = bank("popularity")
    fresh = [without(run, "rank") for run in runs[:COMPARED]]
    answer = regress.training("popularity", [runs[0], *fresh[1:]], runs)
    assert (answer.good, "equal to the bit" in answer.says) == (False, False)


def test_a_fall_among_unseen_items_alone_is_red() -> None:
    runs = bank("popularity")
    fresh = [without(run, "rank_unseen") for run in runs[:COMPARED]]
    answer = regress.training("popularity", fresh, runs)
    assert (answer.good, "; ndcg@10_unseen 0.0000, " in answer.says) == (False, True)


def test_new_references_take_the_place_of_all_old_ones(
    small_gate: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(work, ["sasrec"], "the first", jobs=1, references=small_gate)
    (small_gate / "weights/sasrec/1-gone.safetensors").touch()
    monkeypatch.setitem(regress.QUICK, "sasrec", ["width=16", "inner=16", "layers=1", "epochs=2"])
    accept(work, ["sasrec"], "longer", jobs=1, references=small_gate)
    assert [run.record.config["epochs"] for run in bank("sasrec", small_gate)] == [2, 2]
    assert [file.name for file in (small_gate / "weights/sasrec").iterdir()] == ["0-recommender.safetensors"]


def test_runs_that_do_not_spread_at_all_have_a_margin_too() -> None:
    runs = bank("popularity")
    other = [run._replace(record=run.record.model_copy(update={"ranks_sha256": "0" * 64})) for run in runs]
    assert regress.training("popularity", other[: regress.COMPARED], runs).good
