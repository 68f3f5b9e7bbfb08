"""What a page says in sentences, links and commands, of boards whose truth is known."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_prep import own_corpus
from data_prep.corpus import UNSEEN_USERS
from leaderboards import commands, index_page, ledger, site
from leaderboards.__main__ import main
from leaderboards.answer import answer
from leaderboards.board_table import seconds
from leaderboards.board_table import table as frame_of
from leaderboards.page_table import table
from leaderboards.published import papers
from leaderboards.record import BOARD, TUNED
from leaderboards.rows import Board, rows_of
from leaderboards.store import Run, write
from leaderboards.tables import render
from leaderboards.verdicts import verdicts
from tests.leaderboards.test_record import ranks_of, run_of


def floor(run: Run) -> Run:
    cost = run.record.cost.model_copy(update={"stages": []})
    return run._replace(record=run.record.model_copy(update={"cost": cost}))


def made(name: str, hits: float, **changes: Any) -> Run:
    config = {"of": name, "loss": changes.pop("loss", "ce")}
    return run_of(0, ranks_of(2_000, 0, hits), experiment=name, config=config, **changes)


def said(board: Board) -> dict[str, str]:
    found = answer(board, verdicts(board.rows))
    return {name: " ".join(getattr(found, name)) for name in ("quality", "real", "papers", "cost")}


def test_a_best_row_that_differs_from_all() -> None:
    told = said(Board([made("strong", 0.6), floor(made("floor", 0.3)), made("weak", 0.1)]))
    assert told["real"].startswith(
        "Yes: it differs from every other row. Over the next row, floor (the best floor): +0.0"
    )
    assert "Fewer than 3 seeds of strong: about these weights" in told["real"]
    assert told["cost"] == "2.2 min a seed on cpu, 2 threads; 12,345 parameters."


def test_a_best_row_that_is_not_alone() -> None:
    cheap = made("near", 0.58, cost=run_of().record.cost.model_dump(mode="json") | {"evaluate_users_per_second": 1e6})
    told = said(Board([made("strong", 0.6), cheap, made("weak", 0.1)]))
    assert told["real"].startswith("Not from all: of 2 other rows 1 not shown to be worse, near.")
    assert "No row here trains nothing" in told["real"]
    assert "Cheapest that is not shown to be worse: near, 30 s." in told["cost"]


def test_a_best_row_that_trains_nothing() -> None:
    told = said(Board([floor(made("floor", 0.6)), floor(made("second", 0.5)), made("trained", 0.3)]))
    assert "; nothing is trained. The best trained row, trained: 0.0" in told["quality"]
    assert "Over the best trained row, trained: +0.0" in told["real"]
    assert "The best trained row, trained: 2.2 min a seed." in told["cost"]


def test_a_row_alone() -> None:
    assert said(Board([made("one", 0.5)]))["real"] == "It is the only row: there is nothing to set it against."


def test_papers_are_counted_and_linked() -> None:
    """Three sources state two numbers each of SASRec with BCE; a row that finds next to nothing is below all."""
    corpus = {"name": "toys_2014"}
    board = Board([made("sasrec-bce", 0.01, corpus=corpus, loss="bce"), floor(made("floor", 0.3, corpus=corpus))])
    assert said(board)["papers"] == "None states a number of floor. All rows: beside 6 numbers ours is 6 x below."
    first, second = table(board, frame_of(board), verdicts(board.rows), BOARD, {}).ranked
    assert first.cells["Paper"].text == ""
    cell = second.cells["Paper"]
    assert cell.text == "below"
    s3rec = ("S3-Rec's baselines", "https://arxiv.org/abs/2305.05065")
    assert cell.links == (s3rec, ("PIT", "https://arxiv.org/abs/2602.08530v1"), ("NonameUntitled/tiger", None))


def test_a_paper_is_found_by_the_number_in_its_name() -> None:
    by_name = {paper.short: paper.url for paper in papers().values()}
    assert by_name["ETEGRec"] == "https://arxiv.org/abs/2409.05546v3"
    assert papers()["DECOR (SIGIR 2026, doi 10.1145/3805712.3809578)"].url == "https://doi.org/10.1145/3805712.3809578"
    assert by_name["cornac"] is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "make reproduce ROW=toys/sasrec/{key}/ BOARD=runs/mine"),
        ({"git_commit": "unknown"}, None),
        ({"git_dirty_sha256": "9" * 64}, None),
        ({"device": "2 x AMD EPYC"}, "make reproduce ROW=toys/sasrec/{key}/ BOARD=runs/mine"),
    ],
)
def test_a_row_is_reproduced_where_a_commit_holds_its_code(changes: dict[str, Any], expected: str | None) -> None:
    run = run_of(0, notes=["overridden: epochs=3 t5.heads=2"])
    origin = run.record.provenance.model_copy(update=changes)
    (row,) = rows_of([run._replace(record=run.record.model_copy(update={"provenance": origin}))])
    board = Path("runs/mine")
    assert commands.reproduce(row, board) == (expected and expected.format(key=row.record.key))
    again = "make bench CORPUS=toys MODELS=sasrec SEEDS=1 {}SET='epochs=3 t5.heads=2' PRECISION=32 ARGS=--untuned"
    assert commands.bench(row, board) == again.format("BOARD=runs/mine ")
    assert commands.bench(row, BOARD) == again.format("")


def test_a_row_of_unseen_users_is_made_of_the_whole_corpus() -> None:
    name = f"toys{UNSEEN_USERS}"
    (row,) = rows_of([run_of(0, experiment="sasrec-unseen-users", corpus={"name": name})])
    once = "make bench CORPUS=toys MODELS=sasrec-unseen-users SEEDS=1 PRECISION=32 ARGS=--untuned"
    assert commands.bench(row, BOARD) == once


def test_a_row_of_a_sweep_is_made_as_one() -> None:
    (row,) = rows_of([run_of(0, notes=[f"{TUNED} toys-sasrec-0123456789ab"])])
    assert commands.bench(row, BOARD) == "make bench CORPUS=toys MODELS=sasrec SEEDS=1 PRECISION=32"


def test_where_a_file_of_ones_own_lies_no_command_can_tell() -> None:
    own = run_of(0, corpus={"source": f"{own_corpus.OWN}: csv, 5-core"})
    dirty = own.record.model_copy(
        update={"provenance": own.record.provenance.model_copy(update={"git_commit": "unknown"})}
    )
    (row,) = rows_of([own])
    assert commands.bench(row, BOARD) is None
    assert commands.reproduce(row, BOARD) == f"make reproduce ROW=toys/sasrec/{row.record.key}/"
    board = Board([own._replace(record=dirty)])
    (line,) = table(board, frame_of(board), [], BOARD, {}).ranked
    assert (line.cells["Command"].text, line.cells["Command"].mark) == ("", ""), "nothing is there to be copied"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("folder", "all-MiniLM-L6-v2 (sha256 0123456789ab), 384-d", " VECTORS=all-MiniLM-L6-v2"),
        ("npz", "my vectors.npz", " VECTORS='my vectors.npz'"),
        ("npz", "Toys.item_vectors.npz of GRBENCH_DATA", ""),
        ("tfidf", "TF-IDF + SVD, 256-d", ""),
    ],
)
def test_item_vectors_of_a_path_are_named(kind: str, name: str, said: str) -> None:
    vectors = {"kind": kind, "name": name, "sha256": "e" * 64, "stand_in": True, "recipe": {"kind": kind}}
    (row,) = rows_of([run_of(0, vectors=vectors)])
    assert commands.reproduce(row, BOARD) == f"make reproduce ROW=toys/sasrec/{row.record.key}/{said}"
    again = f"make bench CORPUS=toys MODELS=sasrec SEEDS=1{said} PRECISION=32 ARGS=--untuned"
    assert commands.bench(row, BOARD) == again


def test_where_codes_of_a_path_lie_no_command_can_tell() -> None:
    rows = rows_of([run_of(0, config={"codes": named}) for named in ("letter", "mine.index.json")])
    assert sorted(commands.bench(row, BOARD) is not None for row in rows) == [False, True]


@pytest.mark.parametrize("name", ["null", "nan", "None"])
def test_a_name_that_tables_take_for_nothing(tmp_path: Path, name: str) -> None:
    write(tmp_path, *run_of(0, model=name, experiment=name))
    render(tmp_path, "toys")
    page = index_page.html(tmp_path, {"toys": "toys.html"})
    assert re.search(rf'href="toys.html#{name}-[0-9a-f]{{12}}"', page)
    assert f">{name}<" in page


def test_the_index_has_the_best_row_of_each_model(tmp_path: Path) -> None:
    for config, hits in ((1, 0.2), (2, 0.9)):
        write(tmp_path, *run_of(0, ranks_of(200, 0, hits), config={"n": config}))
    write(tmp_path, *run_of(0, ranks_of(200, 0, 0.5), experiment="other", config={"n": 3}))
    write(tmp_path, *run_of(0, corpus={"name": "books"}))
    for corpus in ("books", "toys"):
        render(tmp_path, corpus)
    (tmp_path / "toys.html").touch()
    text = site.write_index(tmp_path).read_text()
    best = pd.read_csv(tmp_path / "toys.csv").iloc[0]
    assert f'<td class="number best"><a href="toys.html#sasrec-{best["key"]}">{best["ndcg@10"]:.4f}</a>' in text
    assert text.index(">sasrec</th>") < text.index(">other</th>"), "it is on more corpora"
    assert '<a href="books.md">books</a>' in text, "nobody has rendered its page"
    assert index_page.NAME == "index.html"


def test_of_equal_rows_the_index_has_all_in_bold(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(tmp_path, *run_of(0, ranks_of(200, 1), model=name, experiment=name))
    write(tmp_path, *run_of(0, ranks_of(200, 1, 0.1)))
    render(tmp_path, "toys")
    assert index_page.html(tmp_path, {"toys": "toys.html"}).count('class="number best"') == 2


@pytest.mark.parametrize("form", [r"\d+", r"\d+e\d+"])
def test_a_key_of_digits_is_no_number(form: str, tmp_path: Path) -> None:
    runs = (run_of(config={"n": n}) for n in itertools.count())
    run = next(run for run in runs if re.fullmatch(form, run.record.key))
    write(tmp_path, *run)
    render(tmp_path, "toys")
    assert f'href="toys.md#sasrec-{run.record.key}"' in site.write_index(tmp_path).read_text()


def test_a_damaged_ledger_of_a_sweep_is_named_and_not_listed(tmp_path: Path) -> None:
    write(tmp_path, *run_of())
    (tmp_path / "toys.sweeps").mkdir()
    (tmp_path / "toys.sweeps/s-1.json").write_text("[]")
    with pytest.raises(ValueError, match=r"s-1\.json is no ledger of a sweep"):
        site.write_page(tmp_path, "toys", Board([run_of()]))
    assert main(["board", "--board", str(tmp_path)]) == 2
    assert not ledger.path(tmp_path, "toys").exists()


def test_a_rows_cost_is_that_of_a_seed() -> None:
    """30 s of training, 200 users at 20 a second, in each of two runs."""
    (row,) = rows_of([run_of(0), run_of(1)])
    assert seconds(row) == 40


def test_few_seeds_of_the_next_row_are_told_too() -> None:
    strong = [
        run_of(seed, ranks_of(2_000, seed, 0.6), experiment="strong", config={"of": "strong"}) for seed in range(3)
    ]
    assert "Fewer than 3 seeds of next: about these weights" in said(Board([*strong, made("next", 0.3)]))["real"]


def test_a_cheaper_row_that_is_worse_is_no_bargain() -> None:
    cost = run_of().record.cost.model_dump(mode="json") | {"evaluate_users_per_second": 1e6}
    assert "Cheapest" not in said(Board([made("strong", 0.6), made("weak", 0.1, cost=cost)]))["cost"]
