"""Learning curves beside records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leaderboards import curves, page
from leaderboards.record import Stage
from leaderboards.rows import Board
from leaderboards.store import Run, write
from leaderboards.tables import render
from leaderboards.verify import verify
from tests.leaderboards.test_record import run_of

LOOKED_AT = {
    "name": "fit",
    "epochs": 3,
    "best_epoch": 2,
    "seconds": 30,
    "quality": [0.1, 0.05],
    "reused": False,
    "losses": [5.5, 4.25, 4.0],
    "checked": [2, 3],
}


def of_stages(*stages: dict[str, Any]) -> Run:
    run = run_of()
    told = [Stage(**stage) for stage in stages]
    cost = run.record.cost.model_copy(update={"stages": told, "train_seconds": sum(stage.seconds for stage in told)})
    # Of another number of users, so that no quality is what the record says of validation.
    return Run(run.record.model_copy(update={"cost": cost, "valid_users": 100}), run.ranks)


def test_a_line_for_every_epoch_and_quality_where_somebody_looked() -> None:
    other = LOOKED_AT | {
        "name": "more",
        "epochs": 1,
        "best_epoch": 1,
        "losses": [1.0],
        "quality": [-1.0],
        "checked": [1],
    }
    assert curves.table(of_stages(LOOKED_AT, other).record) == (
        "stage,epoch,loss,quality\nfit,1,5.5,\nfit,2,4.25,0.1\nfit,3,4.0,0.05\nmore,1,1.0,-1.0\n"
    )


def test_they_lie_beside_the_record_and_are_verified(tmp_path: Path) -> None:
    run = of_stages(LOOKED_AT)
    file = curves.path(write(tmp_path, *run))
    render(tmp_path, "toys")
    assert file.read_text() == curves.table(run.record)
    assert file.name in (tmp_path / "toys.sha256").read_text()
    assert verify(tmp_path) == ([], 1)
    file.write_text(file.read_text().replace("5.5", "3.5"))
    (tmp_path / "toys.sha256").unlink()
    render(tmp_path, "toys")
    assert verify(tmp_path) == ([f"{file} does not hold the curves of seed-0.json"], 1)


def test_a_record_from_before_they_were_kept_has_none(tmp_path: Path) -> None:
    run = of_stages({name: value for name, value in LOOKED_AT.items() if name not in ("losses", "checked")})
    target = write(tmp_path, *run)
    assert curves.table(run.record) is None
    assert not curves.path(target).exists()
    assert "Learning curves" not in page.html(Board([run]))


def test_the_page_shows_them() -> None:
    text = page.html(Board([of_stages(LOOKED_AT)]))
    assert "Learning curves, seed 0" in text
    assert "training loss and validation by epoch" in text


@pytest.mark.parametrize("wrong", [{"losses": [5.5]}, {"checked": [3]}])
def test_curves_of_other_lengths_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected one of each"):
        Stage(**LOOKED_AT | wrong)
