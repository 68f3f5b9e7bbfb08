"""The files of a stage: a damaged one is told in a line and never used, and a stranger's is never executed."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from benchmarks.training import checkpoint_io
from benchmarks.training import fit as fit_module
from benchmarks.training.checkpoint_callback import BEST, DONE, LAST, CheckpointCallback
from benchmarks.training.checkpoint_io import BEFORE, Checkpoints
from benchmarks.training.fit import Fit, NotTrainedError
from data_prep.corpus import Corpus
from leaderboards.record import Stage
from models.api import Budget
from models.sasrec import Config, SasRec
from tests.damage import DAMAGE, flipped

SMALL = Config(width=16, inner=16, layers=1, heads=1, history=8)
BUDGET = Budget(epochs=4, batch_size=30)
KILLED_AFTER = 3


class StopError(Exception):
    """Stands for a kill."""


class Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.write_text, (self.mark, "executed")


def sasrec(fit: Fit) -> dict[str, Tensor]:
    users = fit.corpus.examples("train").longest_per_user()
    return fit("recommender", lambda: SasRec(SMALL, fit.corpus.items, 1.0), BUDGET, users).state_dict()


def sealed(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


@pytest.fixture
def straight(tiny_corpus: Corpus, tmp_path: Path) -> tuple[dict[str, Tensor], Stage]:
    fit = Fit(tiny_corpus, 0, tmp_path / "straight", "test")
    return sasrec(fit), fit.stages[0]


@pytest.fixture
def killed(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stage that was killed after its third epoch."""
    whole = CheckpointCallback.on_train_epoch_start

    def ending(self: CheckpointCallback, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == KILLED_AFTER:
            raise StopError
        whole(self, trainer, module)

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointCallback, "on_train_epoch_start", ending)
        with pytest.raises(StopError):
            sasrec(Fit(tiny_corpus, 0, tmp_path / "fits", "test"))
    (folder,) = (tmp_path / "fits").iterdir()
    return folder


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the epochs that are trained from here on."""
    begun: list[int] = []
    whole = CheckpointCallback.on_train_epoch_start

    def noted(self: CheckpointCallback, trainer: Any, module: Any) -> None:
        begun.append(trainer.current_epoch)
        whole(self, trainer, module)

    monkeypatch.setattr(CheckpointCallback, "on_train_epoch_start", noted)
    return begun


def same(fit: Fit, straight: tuple[dict[str, Tensor], Stage]) -> bool:
    """Trains or goes on, and holds what comes out against an uninterrupted training."""
    expected, stage = straight
    found = sasrec(fit)
    equal = all(torch.equal(found[name], expected[name]) for name in expected)
    return equal and fit.stages[-1].model_copy(update={"seconds": 0.0, "reused": False}) == stage.model_copy(
        update={"seconds": 0.0}
    )


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_state_falls_back_to_the_one_before(
    tiny_corpus: Corpus,
    straight: tuple[dict[str, Tensor], Stage],
    killed: Path,
    epochs: list[int],
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    (killed / LAST).write_bytes(DAMAGE[how]((killed / LAST).read_bytes()))
    assert same(Fit(tiny_corpus, 0, killed.parent, "test"), straight)
    assert epochs == [2, 3]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert said.startswith(f"test {killed / LAST} is damaged")
    assert said.endswith("; the training goes on from the state before it, or from the beginning")
    assert sorted(file.name for file in killed.iterdir()) == sorted([BEST, DONE, "lock-0"])


def test_where_both_states_are_damaged_the_stage_begins_again(
    tiny_corpus: Corpus,
    straight: tuple[dict[str, Tensor], Stage],
    killed: Path,
    epochs: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in (LAST, BEFORE):
        (killed / name).write_bytes(flipped((killed / name).read_bytes()))
    assert same(Fit(tiny_corpus, 0, killed.parent, "test"), straight)
    assert epochs == [0, 1, 2, 3]
    assert capsys.readouterr().err.count("is damaged") == 2


def test_a_kill_between_the_two_states_loses_an_epoch_at_most(
    tiny_corpus: Corpus, straight: tuple[dict[str, Tensor], Stage], killed: Path, epochs: list[int]
) -> None:
    (killed / LAST).replace(killed / BEFORE)
    assert same(Fit(tiny_corpus, 0, killed.parent, "test"), straight)
    assert epochs == [3]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_executed(
    tiny_corpus: Corpus,
    straight: tuple[dict[str, Tensor], Stage],
    killed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    legacy: bool,
) -> None:
    mark = tmp_path / "mark"
    content = io.BytesIO()
    torch.save({"state_dict": Bomb(mark)}, content)
    bomb = pickle.dumps(Bomb(mark)) if legacy else content.getvalue()
    # As a stranger's file, and as that of somebody who knows how ours begin.
    (killed / LAST).write_bytes(sealed(bomb))
    (killed / BEFORE).write_bytes(bomb)
    assert same(Fit(tiny_corpus, 0, killed.parent, "test"), straight)
    said = capsys.readouterr().err
    assert f"{killed / LAST} was not written here: it holds more than tensors and plain values" in said
    assert f"{killed / BEFORE} is damaged" in said
    assert not mark.exists()
    # The bomb is live.
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


@pytest.mark.parametrize("name", [BEST, DONE])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_outcome_is_trained_again(
    tiny_corpus: Corpus,
    straight: tuple[dict[str, Tensor], Stage],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    how: str,
) -> None:
    (folder,) = (tmp_path / "straight").iterdir()
    (folder / name).write_bytes(DAMAGE[how]((folder / name).read_bytes()))
    with pytest.raises(NotTrainedError):
        sasrec(Fit(tiny_corpus, 0, folder.parent, "test", trains=False))
    capsys.readouterr()
    fit = Fit(tiny_corpus, 0, folder.parent, "test")
    assert same(fit, straight)
    assert not fit.stages[0].reused
    assert capsys.readouterr().err.count("damaged: the hashes in it are not theirs; the stage is trained again") == 1
    assert same(fit, straight)
    assert fit.stages[1].reused


def test_every_digit_of_a_log_counts(
    tiny_corpus: Corpus, straight: tuple[dict[str, Tensor], Stage], tmp_path: Path
) -> None:
    (path,) = (tmp_path / "straight").rglob(DONE)
    log = json.loads(path.read_text())
    log["stage"]["quality"][0] += 1e-9
    path.write_text(json.dumps(log))
    assert checkpoint_io.finished(path.parent, print) is None
    path.write_text("[" * 100_000)
    assert checkpoint_io.finished(path.parent, print) is None


def test_weights_without_a_log_are_written_again(
    tiny_corpus: Corpus, straight: tuple[dict[str, Tensor], Stage], tmp_path: Path
) -> None:
    (path,) = (tmp_path / "straight").rglob(DONE)
    path.unlink()
    assert same(Fit(tiny_corpus, 0, tmp_path / "straight", "test"), straight)


def test_weights_that_are_no_safetensors_are_named(tmp_path: Path) -> None:
    module = SasRec(SMALL, 40, 1.0)
    safetensors.torch.save_file(dict(module.state_dict()), tmp_path / BEST)
    fit_module.with_weights(SasRec(SMALL, 40, 1.0), tmp_path / BEST)
    (tmp_path / BEST).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    with pytest.raises(ValueError, match=r"best.safetensors is damaged, or no safetensors file"):
        fit_module.with_weights(module, tmp_path / BEST)
    assert not (tmp_path / "mark").exists()


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    states: list[dict[str, Any]] = [{"epoch": epoch, "weights": torch.full((2,), epoch)} for epoch in (1, 2, 3)]
    for state in states:
        Checkpoints().save_checkpoint(state, tmp_path / LAST)
    assert checkpoint_io.newest(tmp_path, print) == tmp_path / LAST
    for name, epoch in ((LAST, 3), (BEFORE, 2)):
        found = Checkpoints().load_checkpoint(tmp_path / name)
        assert found["epoch"] == epoch
        assert torch.equal(found["weights"], states[epoch - 1]["weights"])
