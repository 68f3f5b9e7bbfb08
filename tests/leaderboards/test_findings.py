"""The page of findings: its tables are those of the boards, and the committed ones are up to date."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leaderboards import findings, published
from leaderboards.__main__ import main
from leaderboards.findings import filled, read
from leaderboards.record import BOARD
from leaderboards.rows import Board
from leaderboards.store import Run
from tests.leaderboards.test_record import run_of, run_of_v1
from tests.leaderboards.test_verdicts import INSTRUMENTS, row_with_recall

ROOT = Path(__file__).resolve().parents[2]
PAGE = "before\n<!-- table: {} -->\nold\n<!-- end of table -->\nafter\n"

UNTRAINED = run_of().record.cost.model_dump() | {"stages": []}


def run(name: str, recall: float, unseen_recall: float = 0.0, **changes: Any) -> Run:
    return row_with_recall(recall, unseen_recall=unseen_recall, model=name, experiment=name, **changes).runs[0]


@pytest.fixture
def boards() -> dict[str, Board]:
    beams = {"beam20/trie": {"ndcg@10": 0.0145}, "seen_users": {"ndcg@10": 0.5}}
    return {
        INSTRUMENTS: Board(
            [
                run("sasrec", 0.053, 0.02),
                run("gru4rec", 0.049, 0.03, diagnostics=beams),
                run("transitions", 0.06, 0.01, cost=UNTRAINED),
                run("popularity", 0.01, 0.04, cost=UNTRAINED),
            ]
        )
    }


@pytest.mark.parametrize(
    "page",
    [
        "<!-- table: order -->\nold\n\nwhat people wrote\n\n" + PAGE.format("cost"),
        PAGE.format("order") + "<!-- table: cost -->\nold\n",
        PAGE.format("order") + "<!-- table : cost -->\nold\n<!-- end of table -->\n",
    ],
)
def test_a_place_without_its_end_is_told(page: str, boards: dict[str, Board]) -> None:
    with pytest.raises(
        ValueError, match=r"the page has \d beginnings and \d ends of tables, 1 of them together; expected <!-- table"
    ):
        filled(page, boards)


def table(name: str, boards: dict[str, Board]) -> list[list[str]]:
    text = filled(PAGE.format(name), boards)
    assert text.startswith(f"before\n<!-- table: {name} -->\n")
    assert text.endswith("\n<!-- end of table -->\nafter\n")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set(row[0]) <= {"-", ":"}]


def test_published_numbers_beside_ours(boards: dict[str, Board]) -> None:
    head, *rows = table("published", boards)
    found = [dict(zip(head, row, strict=True)) for row in rows]
    (sasrec,) = [
        row for row in found
        if row["Experiment"] == "sasrec" and row["Metric"] == "recall@10" and row["Paper"].startswith("ETEGRec")
    ]  # fmt: skip
    assert (sasrec["Published"], sasrec["Ours"], sasrec["Verdict"]) == ("0.0530", "0.0530", "reproduced")
    low, high = map(float, sasrec["95% interval"].split("-"))
    assert low < 0.053 < high


def test_a_papers_order_and_ours(boards: dict[str, Board]) -> None:
    head, *rows = table("order", boards)
    found = [dict(zip(head, row, strict=True)) for row in rows]
    (etegrec,) = [row for row in found if row["Paper"].startswith("ETEGRec")]
    # NDCG@10 of its table 3: .0281 and .0277. Ours are at rank 10 each: .053 and .049 over log2(11).
    assert etegrec["Its order"] == "gru4rec before sasrec"
    assert etegrec["By"] == "+0.0004"
    assert float(etegrec["Ours"]) == pytest.approx((0.049 - 0.053) / 3.4594, abs=5e-5)
    assert etegrec["Ours say"] == "the other way"
    # Among unseen items they are at rank 1 each.
    assert (etegrec["Unseen"], etegrec["Unseen say"], etegrec["Seeds"]) == ("+0.0100", "the same", "1, 1")


def test_of_several_rows_of_an_experiment_the_best_on_validation_is_in_the_order(boards: dict[str, Board]) -> None:
    valid = run_of().record.valid
    for better, expected in ((0.0, "-0.0012"), (0.9, "-0.0087")):
        other = run("gru4rec", 0.023, config={"width": 8}, valid=valid | {"ndcg@10": better})
        head, *rows = table("order", {INSTRUMENTS: Board([*boards[INSTRUMENTS].runs, other])})
        found = [dict(zip(head, row, strict=True)) for row in rows]
        (etegrec,) = [row for row in found if row["Paper"].startswith("ETEGRec")]
        assert etegrec["Ours"] == expected


def test_losses_beside_the_softmax_of_a_model_that_is_otherwise_the_same() -> None:
    runs = [
        run("gru4rec", 0.05, 0.02, config={"width": 8}),
        run("gru4rec", 0.03, 0.03, config={"width": 8, "loss": "bce"}),
        run("gru4rec", 0.02, config={"width": 9, "loss": "bce"}),
        run("sasrec", 0.04, config={"width": 8, "loss": "ce"}),
        run("hgn", 0.04, config={"width": 8, "loss": "bpr"}),
    ]
    head, *rows = table("losses", {INSTRUMENTS: Board(runs)})
    softmax, binary = (dict(zip(head, row, strict=True)) for row in rows)
    assert [(row["Model"], row["Loss"], row["Recall@10"]) for row in (softmax, binary)] == [
        ("gru4rec", "ce", "0.0500"),
        ("gru4rec", "bce", "0.0300"),
    ]
    assert (softmax["Difference"], softmax["95% interval, unseen"]) == ("", "")
    assert float(binary["Difference"]) == pytest.approx(-0.02 / 3.4594, abs=5e-5)
    assert (binary["NDCG@10, unseen"], binary["Difference, unseen"]) == ("0.0300", "+0.0100")


def test_losses_are_held_beside_rows_of_the_same_precision_and_inputs() -> None:
    origin = run_of().record.provenance.model_dump() | {"precision": "bf16-mixed"}
    bf16: dict[str, Any] = {"precision": "bf16", "provenance": origin}
    given = {"kind": "tfidf", "name": "TF-IDF", "sha256": "e" * 64, "stand_in": True, "recipe": {"kind": "tfidf"}}
    runs = [
        run("sasrec", 0.06, config={"loss": "ce"}),
        run("sasrec", 0.05, config={"loss": "ce"}, **bf16),
        run("sasrec", 0.03, config={"loss": "bce"}, **bf16),
        run("sasrec", 0.02, config={"loss": "bpr"}, vectors=given),
    ]
    head, *rows = table("losses", {INSTRUMENTS: Board(runs)})
    found = {(row[2], row[3]): dict(zip(head, row, strict=True)) for row in rows}
    assert found.keys() == {("ce", "32"), ("ce", "bf16"), ("bce", "bf16")}
    assert float(found["bce", "bf16"]["Difference"]) == pytest.approx((0.03 - 0.05) / 3.4594, abs=5e-5)


def test_trained_rows_beside_the_best_floor_of_either_rank(boards: dict[str, Board]) -> None:
    head, *rows = table("floors", boards)
    sasrec, gru4rec = (dict(zip(head, row, strict=True)) for row in rows)
    assert [row["Experiment"] for row in (sasrec, gru4rec)] == ["sasrec", "gru4rec"]
    assert sasrec["Best floor"] == "transitions"
    assert float(sasrec["Difference"]) == pytest.approx((0.053 - 0.06) / 3.4594, abs=5e-5)
    of_unseen = [sasrec[f"{name}, unseen"] for name in ("NDCG@10", "Best floor", "Difference")]
    assert of_unseen == ["0.0200", "popularity", "-0.0200"]


def with_known_transitions(run: Run, share: float) -> Run:
    """The first users' last items were followed by their targets in training."""
    known = np.arange(run.ranks.num_rows) < share * run.ranks.num_rows
    place = run.ranks.schema.get_field_index("transition_seen")
    return run._replace(ranks=run.ranks.set_column(place, "transition_seen", [known]))


def test_transitions_that_training_has_and_new_ones_beside_sasrec() -> None:
    runs = [run("sasrec", 0.2), run("gru4rec", 0.15, 0.25), run("transitions", 0.1, cost=UNTRAINED)]
    board = Board([with_known_transitions(each, 0.1) for each in runs])
    head, *rows = table("transitions", {INSTRUMENTS: board})
    # A run of another content of the corpus, all of whose transitions are known, hides nothing.
    record, ranks = run("hgn", 0.1)
    content = record.corpus.model_copy(update={"fingerprint": "f" * 64})
    other = Run(record.model_copy(update={"corpus": content}), ranks)
    assert table("transitions", {INSTRUMENTS: Board([*board.runs, other])}) == [head, *rows]
    sasrec, gru4rec, counted = (dict(zip(head, row, strict=True)) for row in rows)
    assert [row["Experiment"] for row in (sasrec, gru4rec, counted)] == ["sasrec", "gru4rec", "transitions"]
    # All known ones are at rank 10, of the nine tenths of the users that are left a ninth, an eighteenth, and none.
    assert [float(row["NDCG@10, known"]) for row in (sasrec, gru4rec, counted)] == pytest.approx([0.2891] * 3)
    found = [float(row["NDCG@10, new"]) for row in (sasrec, gru4rec, counted)]
    assert found == pytest.approx([0.2891 / 9, 0.2891 / 18, 0], abs=5e-5)
    assert (sasrec["Difference, new"], gru4rec["Difference, known"]) == ("", "+0.0000")
    assert float(gru4rec["Difference, new"]) == pytest.approx(-0.2891 / 18, abs=5e-5)
    # Among unseen items a quarter of the users is at rank 1, of the others a sixth.
    assert (gru4rec["NDCG@10, new, unseen"], gru4rec["Difference, new, unseen"]) == ("0.1667", "+0.1667")


def test_no_transitions_without_sasrec_or_where_all_are_known(boards: dict[str, Board]) -> None:
    assert findings.NONE in filled(PAGE.format("transitions"), boards)
    others = [with_known_transitions(run(name, 0.1), 0.5) for name in ("hgn", "gru4rec")]
    assert findings.NONE in filled(PAGE.format("transitions"), {INSTRUMENTS: Board(others)})


def of_seeds(name: str, recalls: Sequence[float], **changes: Any) -> Iterator[Run]:
    for seed, recall in enumerate(recalls):
        record, ranks = run(name, recall, **changes)
        yield Run(record.model_copy(update={"seed": seed}), ranks)


def test_what_sasrec_has_not_among_its_first_ten() -> None:
    """The targets that are found are those of the first users: whoever finds more finds all that another does."""
    others = [run("gru4rec", 0.07, 0.02), run("hgn", 0.03)]
    head, *rows = table("complements", {INSTRUMENTS: Board([*of_seeds("sasrec", (0.04, 0.06)), *others])})
    gru4rec, sasrec, hgn = (dict(zip(head, row, strict=True)) for row in rows)
    assert [row["Recall@10"] for row in (gru4rec, sasrec, hgn)] == ["0.0700", "0.0500", "0.0300"]
    # .03 beyond one seed and .01 beyond the other; the second seed has .02 beyond the first, and that nothing.
    assert [row["Beyond SASRec"] for row in (gru4rec, sasrec, hgn)] == ["0.0200", "0.0100", "0.0000"]
    assert [row["Beyond SASRec, unseen"] for row in (gru4rec, sasrec, hgn)] == ["0.0200", "0.0000", "0.0000"]
    low, high = map(float, gru4rec["95% interval, unseen"].split("-"))
    assert 0.015 < low < 0.02 < high < 0.025
    alone = Board([*of_seeds("sasrec", (0.04,)), *others])
    assert [row[1] for row in table("complements", {INSTRUMENTS: alone})[1:]] == ["gru4rec", "hgn"]
    assert findings.NONE in filled(PAGE.format("complements"), {INSTRUMENTS: Board(others)})


def test_what_sasrec_has_not_is_as_uncertain_as_the_seeds_of_both() -> None:
    """Parts of a row's seed and of the other's seed, beside which users hardly matter: variances by hand."""
    first, second = np.array([0.1, 0.2, 0.4]), np.array([0.05, 0.3, 0.35, 0.2])
    users = np.random.default_rng(0).normal(0, 1e-3, 5_000)
    by_users = users.var(ddof=1) / 5_000
    both = findings._of_pairs(first[:, None, None] + second[:, None] + users)
    assert both.per_user.mean() == pytest.approx(first.mean() + second.mean() + users.mean())
    assert both.seed_variance.estimate == pytest.approx(first.var(ddof=1) / 3 + second.var(ddof=1) / 4, rel=1e-6)
    # Beside itself each seed is in two places: the mean is that of twice its part.
    pairs = (first[:, None, None] + first[:, None] + users) * ~np.eye(3, dtype=bool)[..., None]
    own = findings._of_own_pairs(pairs)
    assert own.per_user.mean() == pytest.approx(2 * first.mean() + users.mean())
    assert own.seed_variance.estimate == pytest.approx((2 * first).var(ddof=1) / 3, rel=1e-6)
    assert own.per_user.var(ddof=1) / 5_000 == pytest.approx(by_users)


def test_of_several_sasrecs_the_best_on_validation_is_what_others_are_held_against() -> None:
    valid = run("sasrec", 0.05).record.valid
    chosen = run("sasrec", 0.04, config={"width": 8}, valid=valid | {"ndcg@10": 0.9})
    better_on_test = run("sasrec", 0.06, config={"width": 9}, valid=valid | {"ndcg@10": 0.1})
    board = Board([better_on_test, chosen, run("gru4rec", 0.05)])
    found = findings.beside(board)
    assert found is not None
    assert found.record is chosen.record
    names = [row[1] for row in table("cost", {INSTRUMENTS: board})[1:]]
    assert sorted(names) == ["gru4rec", *sorted(f"sasrec ({one.record.key})" for one in (chosen, better_on_test))]


def test_seeds_that_find_nothing_have_no_spread() -> None:
    board = Board(list(of_seeds("sasrec", (0.0, 0.0, 0.0))))
    assert findings.NONE in filled(PAGE.format("seeds"), {INSTRUMENTS: board})


def test_seeds_beside_one_another_and_beside_users() -> None:
    seeds, two = of_seeds("sasrec", (0.04, 0.05, 0.06)), of_seeds("gru4rec", (0.04, 0.05))
    floor = of_seeds("popularity", (0.01, 0.02, 0.03), cost=UNTRAINED)
    head, row = table("seeds", {INSTRUMENTS: Board([*seeds, *two, *floor])})
    found = dict(zip(head, row, strict=True))
    assert (found["Experiment"], found["Seeds"], found["Recall@10"]) == ("sasrec", "3", "0.0400 to 0.0600")
    assert found["Recall@10, seeds"] == found["NDCG@10, seeds"] == "20.0%"
    # The standard error of a share p of 40,000 users: the root of p (1 - p) / 39,999.
    users = np.mean([np.sqrt(p * (1 - p) / 39_999) for p in (0.04, 0.05, 0.06)]) / 0.05
    assert found["Recall@10, users"] == f"{users:.1%}"


def test_steps_from_a_model_to_the_next_of_a_papers_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        *(("one", "1", "main", "a", "ndcg@10", value) for value in (0.100, 0.104, 0.052)),
        *(("one", "1", "main", "a", "ndcg@5", value) for value in (0.1, 0.2, 0.3)),
        *(("two", "1", "main", "a", "ndcg@10", value) for value in (0.1, 0.101)),
        *(("two", "2", "main", "a", "ndcg@10", value) for value in (0.3, 0.2, 0.1)),
        *(("two", "3", "ablation", "a", "recall@10", value) for value in (0.1, 0.12, 0.12)),
        *(("two", "3", "reproduction", "a", "recall@10", value) for value in (0.1, 0.2, 0.3)),
    ]
    frame = pd.DataFrame(rows, columns=["paper", "table", "kind", "corpus", "metric", "value"])
    monkeypatch.setattr(published, "published", lambda: frame)
    head, *lines = table("steps", {})
    assert head == ["Tables", "Metric", "Papers", "Steps", "Median", "Below 2%", "Below 5%", "Below 10%"]
    # Of 4, 92, 50 and 100%; of 0 and 20%.
    assert sorted(lines) == [
        ["ablation", "recall@10", "1", "2", "10.0%", "50%", "50%", "50%"],
        ["main", "ndcg@10", "2", "4", "71.2%", "0%", "25%", "25%"],
    ]


def test_without_ranks_among_unseen_items_there_are_no_columns_of_them() -> None:
    floor = run_of_v1(corpus={"name": INSTRUMENTS}, cost=UNTRAINED, model="popularity", experiment="popularity")
    of_v1 = Board([run_of_v1(corpus={"name": INSTRUMENTS}), floor])
    assert of_v1.among_unseen() is None
    assert table("floors", {INSTRUMENTS: of_v1})[0][-1] == "95% interval"


def test_only_searches_are_beams(boards: dict[str, Board]) -> None:
    head, *rows = table("beams", boards)
    assert head == ["Corpus", "Experiment", "Seeds", "NDCG@10, exact", "beam20/trie"]
    exact = 0.049 / 3.4594
    assert rows == [[INSTRUMENTS, "gru4rec", "1", f"{exact:.4f}", f"{0.0145 - exact:+.4f}"]]


def test_what_is_not_proven_is_not_called_exact(boards: dict[str, Board]) -> None:
    half = {"certified_share": 0.5, "mean_expansions": 7.0, "max_expansions": 9}
    unproven = run("gru4rec", 0.049, diagnostics={"beam20/trie": {"ndcg@10": 0.0145}}, search=half)
    assert findings.NONE in filled(PAGE.format("beams"), {INSTRUMENTS: Board([unproven])})


def test_a_beam_that_a_seed_lacks_has_no_mean(boards: dict[str, Board]) -> None:
    (one,) = [row.runs[0] for row in boards[INSTRUMENTS].rows if row.name == "gru4rec"]
    more = one._replace(record=one.record.model_copy(update={"seed": 1, "diagnostics": {}}))
    assert findings.NONE in filled(PAGE.format("beams"), {INSTRUMENTS: Board([one, more])})


def test_costs_are_of_what_was_trained(boards: dict[str, Board]) -> None:
    assert [row[1] for row in table("cost", boards)[1:]] == [
        row.title for row in boards[INSTRUMENTS].ranked if not row.is_floor
    ]


def test_what_records_say_is_text_and_a_page_fills_again() -> None:
    evil = "<img src=x onerror=alert(1)> [a](http://b.c) | y <!-- end of table -->"
    beams = {"beam20/trie": {"ndcg@10": 0.0145}, f"beam {evil}": {"ndcg@10": 0.01}}
    runs = [
        run("sasrec", 0.053, diagnostics=beams),
        run("sasrec", 0.05, config={"loss": evil}),
        run("popularity", 0.06, cost=UNTRAINED, notes=[f"overridden: {evil}"]),
    ]
    found = {INSTRUMENTS: Board(runs)}
    for name in ("losses", "beams", "floors"):
        text = filled(PAGE.format(name), found)
        assert "&lt;img" in text
        assert "<img" not in text
        assert filled(text, found) == text


def test_a_table_without_rows_says_so() -> None:
    assert findings.NONE in filled(PAGE.format("order"), {})


@pytest.mark.parametrize(("page", "said"), [("no place\n", "no table"), (PAGE.format("ordre"), "a table 'ordre'")])
def test_a_page_without_places(page: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"the page asks for {said}; possible: .*published, order, losses, beams"):
        filled(page, {})


@pytest.mark.slow
def test_the_committed_page_is_up_to_date(tmp_path: Path) -> None:
    """Of the rows that are committed: a bench leaves others beside them."""
    listed = subprocess.run(["git", "ls-files", str(BOARD)], cwd=ROOT, capture_output=True, text=True)
    if not listed.stdout:
        pytest.skip("there is no git to say which rows are committed")
    for name in listed.stdout.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    page = (ROOT / "docs/findings.md").read_text()
    assert filled(page, read(tmp_path / BOARD)) == page, "make findings makes it again"


def test_a_folder_without_rows_leaves_the_page_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "findings.md"
    page.write_text(PAGE.format("cost"))
    assert main(["findings", "--board", str(tmp_path / "typo"), "--page", str(page)]) == 2
    assert "no record of a run on a corpus that is not generated in" in capsys.readouterr().err
    assert page.read_text() == PAGE.format("cost")


def test_a_page_that_is_no_text_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "findings.md"
    page.write_bytes(b"a\xff")
    assert main(["findings", "--board", str(tmp_path), "--page", str(page)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {page}: ")
    assert said.endswith("position 1: invalid start byte; expected UTF-8\n")
    assert page.read_bytes() == b"a\xff"
