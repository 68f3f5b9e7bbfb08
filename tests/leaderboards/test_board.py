"""Tables: every number recomputed from the rank files, and what a reader sees."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from leaderboards import cards
from leaderboards.__main__ import main
from leaderboards.board_table import console, corpora, markdown, table
from leaderboards.page import html as page_html
from leaderboards.paper import latex
from leaderboards.rows import Board, titles
from leaderboards.rows import rows_of as made_rows
from leaderboards.statistics import interval
from leaderboards.store import write
from leaderboards.tables import render
from tests.leaderboards.test_record import ranks_of, run_of, run_of_v1

CEILING = {"recall@5": 0.5, "ndcg@5": 0.4, "recall@10": 0.7, "ndcg@10": 0.45}


def rows_of(text: str) -> list[list[str]]:
    """Cells of the rows above the first section, headers and rules left out."""
    above = text.split("\n## ")[0]
    lines = [
        line for line in above.splitlines() if line.startswith("|") and "---" not in line and "Experiment" not in line
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_rendered_numbers_are_those_of_the_rank_files(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path, *run_of(seed))
    assert [target.name for target in render(tmp_path, "toys")] == ["toys.md", "toys.csv", "toys.tex", "toys.sha256"]

    ranks = np.stack([pq.read_table(file)["rank"].to_numpy() for file in sorted(tmp_path.rglob("*.parquet"))])
    gains = np.where((ranks > 0) & (ranks <= 10), 1 / np.log2(1.0 + np.maximum(ranks, 1)), 0)
    recall_5 = ((ranks > 0) & (ranks <= 5)).mean()
    frame = pd.read_csv(tmp_path / "toys.csv")
    [row] = frame.to_dict("records")
    assert row["recall@5"] == pytest.approx(recall_5, abs=1e-6)
    assert row["ndcg@10"] == pytest.approx(gains.mean(), abs=1e-6)
    low, high = interval(gains)
    assert (row["ndcg@10_low"], row["ndcg@10_high"]) == pytest.approx((low, high), abs=1e-6)
    # 30 s of training, 200 users at 20 a second.
    assert (row["seeds"], row["seconds"], row["certified_share"]) == (2, 40, 1)
    [cells] = rows_of((tmp_path / "toys.md").read_text())
    assert cells[2] == f"{recall_5:.4f}"
    unseen = np.stack([pq.read_table(file)["rank_unseen"].to_numpy() for file in sorted(tmp_path.rglob("*.parquet"))])
    unseen_gains = np.where(unseen > 0, 1 / np.log2(1.0 + np.maximum(unseen, 1)), 0)
    assert row["ndcg@10_unseen"] == pytest.approx(unseen_gains.mean(), abs=1e-6)
    assert cells[5:8] == [f"{gains.mean():.4f}", f"{(unseen > 0).mean():.4f}", f"{unseen_gains.mean():.4f}"]
    assert cells[8:12] == [f"{low:.4f}-{high:.4f}", "2", "40", "100%"]


def test_a_board_of_the_first_protocol_has_no_ranks_among_unseen_items() -> None:
    assert "unseen" in markdown(Board([run_of()])).split("Means over seeds")[0]
    first = markdown(Board([run_of_v1()]))
    assert "unseen" not in first.split("Means over seeds")[0]
    assert not [name for name in table(Board([run_of_v1()])).columns if "unseen" in name]


def test_rendering_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        write(tmp_path, *run_of(seed, notes=["a", "b"]))
    files = render(tmp_path, "toys")
    before = [file.read_bytes() for file in files]
    render(tmp_path, "toys")
    assert [file.read_bytes() for file in files] == before


def test_standard_deviation_from_three_seeds_on() -> None:
    runs = [run_of(seed) for seed in range(3)]
    assert math.isnan(table(Board(runs[:2]))["ndcg@10_std"].item())
    values = [run.record.test["ndcg@10"] for run in runs]
    expected = math.sqrt(sum((value - sum(values) / 3) ** 2 for value in values) / 2)
    frame = table(Board(runs))
    assert frame["ndcg@10_std"].item() == pytest.approx(expected)
    assert f"{sum(values) / 3:.4f} ± {expected:.4f}" in console(frame)


def test_best_row_first_beneath_the_ceiling() -> None:
    weak = run_of(
        experiment="weak", config={"width": 1}, corpus={"ceiling": CEILING}, ranks=ranks_of(200, 1, hit_share=0.1)
    )
    strong = run_of(experiment="strong", corpus={"ceiling": CEILING}, ranks=ranks_of(200, 1, hit_share=0.9))
    frame = table(Board([weak, strong]))
    assert frame["experiment"].tolist() == ["ceiling", "strong", "weak"]
    lines = console(frame).splitlines()
    assert lines[2].split() == ["ceiling", "0.5000", "0.4000", "0.7000", "0.4500"]
    assert [line.split()[0] for line in lines[2:]] == ["ceiling", "strong", "weak"]


def test_configs_of_one_experiment_are_rows_of_their_own() -> None:
    frame = table(Board([run_of(0), run_of(1), run_of(0, config={"width": 128})]))
    assert frame["seeds"].tolist() in ([2, 1], [1, 2])
    assert frame["key"].nunique() == 2


@pytest.mark.parametrize("other", [{"corpus": {"fingerprint": "e" * 64}}, {"protocol": "v0"}])
def test_rows_of_another_corpus_or_protocol_are_listed_apart(other: dict[str, Any]) -> None:
    # The foreign row scores best and is the latest, of more seeds than ours; ours are more, or were there first.
    strong = ranks_of(200, 1, hit_share=0.9)
    foreign = [run_of(seed, experiment="foreign", ranks=strong, **other) for seed in (1, 2, 3)]
    ours = run_of(0, experiment="ours", ranks=ranks_of(200, 1, hit_share=0.1))
    more = run_of(0, experiment="more", ranks=ranks_of(200, 1, hit_share=0.05), config={"width": 128})
    for known in ([ours], [ours, more]):
        frame = table(Board([*foreign, *known]))
        assert frame["experiment"].tolist()[-2:] == [known[-1].record.experiment, "foreign"]
        assert frame["standing"].tolist() == ["ranked"] * len(known) + ["not comparable"]
    ranked, apart = console(frame).split("Set apart")
    assert "foreign" not in ranked
    assert f"foreign {foreign[0].record.key} ({foreign[0].record.protocol}, " in apart
    above, beneath = markdown(Board([*foreign, ours])).split("Not comparable")
    assert ("foreign" in above, "foreign" in beneath) == (False, True)


def test_a_tuned_row_says_so_in_its_name() -> None:
    tuned = run_of(0, notes=["small sizes", "tuned with 30 trials (study s-1)"])
    for text in (console(table(Board([tuned]))), markdown(Board([tuned]))):
        assert f"{tuned.record.experiment}, tuned" in text
    assert ", tuned" not in console(table(Board([run_of(0, notes=["small sizes"])])))


def test_an_overridden_row_says_what_and_is_not_called_tuned() -> None:
    notes = ["small sizes", "overridden: epochs=3 t5.heads=2", "tuned with 30 trials (study s-1)"]
    changed, plain = run_of(0, notes=notes, config={"epochs": 3}), run_of(0)
    name = plain.record.experiment
    assert sorted(titles(made_rows([changed, plain]))) == [name, f"{name}, epochs=3 t5.heads=2"]
    for text in (console(table(Board([changed, plain]))), markdown(Board([changed, plain]))):
        assert f"{name}, epochs=3 t5.heads=2" in text
        assert ", tuned" not in text


def test_a_seed_of_another_name_gives_a_row_no_title() -> None:
    first = run_of(0, experiment="short", config={"epochs": 3})
    second = run_of(1, experiment="sasrec", config={"epochs": 3}, notes=["overridden: epochs=3"])
    board = Board([first, second])
    assert titles(board.rows) == ["short"]
    for text in (console(table(board)), markdown(board)):
        assert "short" in text
        assert "epochs=3" not in text


def test_a_title_of_two_lines_is_one_row_of_a_table(tmp_path: Path) -> None:
    for name in ("a\rb", "c\nd"):
        ranks = ranks_of(200, ord(name[0]))
        write(tmp_path, *run_of(0, ranks, experiment=name, model=name[0], corpus={"interactions": 1500}))
    assert main(["board", "--board", str(tmp_path)]) == 0
    assert list(pd.read_csv(tmp_path / "toys.csv")["experiment"]) == ["a b", "c d"]


def test_rows_of_one_title_are_told_apart_by_their_keys() -> None:
    """Epochs of the untuned and of the tuned experiment were set alike."""
    runs = [run_of(0, notes=["overridden: epochs=3"], config={"lr": lr}) for lr in (0.1, 0.2)]
    name, keys = runs[0].record.experiment, [run.record.key for run in runs]
    assert sorted(titles(made_rows(runs))) == sorted(f"{name}, epochs=3 ({key})" for key in keys)
    assert all(f"{name}, epochs=3 ({key})" in latex(Board(runs)) for key in keys)


def test_notes_are_footnotes_and_stand_ins_are_named() -> None:
    vectors = {"kind": "npz", "name": "codes.npz", "sha256": "d" * 64, "stand_in": True, "recipe": {}}
    plain = run_of(0, experiment="plain", notes=["shared"], ranks=ranks_of(200, 1, hit_share=0.9))
    special = run_of(0, experiment="special", notes=["own", "shared"], vectors=vectors, valid_users=150)
    text = markdown(Board([plain, special]))
    assert [cells[-2:] for cells in rows_of(text)] == [["", "1"], ["npz (stand-in)", "2, 1, 3"]]
    assert re.findall(r"^\d+\. .*$", text, flags=re.MULTILINE) == [
        "1. shared",
        "2. own",
        "3. validation during training on 150 of 200 users",
    ]


def test_vectors_of_another_processor_are_told_and_trained_ones_are_not() -> None:
    def row(recipe: dict[str, str]) -> list[str]:
        hashes = ("d" * 64, "e" * 64, "d" * 64)
        infos = [{"kind": "tfidf", "name": "any", "sha256": digest, "stand_in": False} for digest in hashes]
        runs = [run_of(seed, vectors=info | {"recipe": recipe}) for seed, info in enumerate(infos)]
        notes: list[str] = table(Board(runs))["notes"].item()
        return notes

    (note,) = row({"kind": "tfidf"})
    assert note.endswith("with other last digits: dddddddddddd, seed 0 2; eeeeeeeeeeee, seed 1")
    assert row({"kind": "sasrec-32", "model": "sasrec"}) == []


@pytest.mark.parametrize(
    ("origin", "note"),
    [
        ({"git_dirty_sha256": "9" * 64}, "run from a checkout with uncommitted changes"),
        ({"git_commit_told": True}, "run outside a checkout; its commit was told, not read"),
    ],
)
def test_code_that_is_not_that_of_a_clean_checkout_is_written_down(origin: dict[str, Any], note: str) -> None:
    run = run_of()
    changed = run.record.provenance.model_copy(update=origin)
    frame = table(Board([run._replace(record=run.record.model_copy(update={"provenance": changed}))]))
    assert frame["notes"].item() == [note]


def test_all_users_is_said_of_all_users_only() -> None:
    share = {"certified_share": 0.99996, "mean_expansions": 70.0, "max_expansions": 900}
    assert console(table(Board([run_of(search=share)]))).split()[-1] == "99.9%"


def test_a_row_says_what_its_search_expanded_and_what_a_beam_misses() -> None:
    runs = []
    for seed, (mean, gap) in enumerate([(70.0, -0.002), (80.0, -0.001)]):
        run = run_of(seed, search={"certified_share": 1.0, "mean_expansions": mean, "max_expansions": 900})
        beam = {"beam20/trie": {"ndcg@10": run.record.test["ndcg@10"] + gap}}
        runs.append(run._replace(record=run.record.model_copy(update={"diagnostics": beam})))
    [row] = table(Board(runs)).to_dict("records")
    assert (row["expansions"], row["beam20_gap"]) == pytest.approx((75, -0.0015))
    [cells] = rows_of(markdown(Board(runs)))
    assert cells[12:14] == ["75", "-0.0015"]
    [plain] = rows_of(markdown(Board([run_of()])))
    assert plain[12:14] == ["", ""]


def test_nothing_is_printed_as_less_than_zero_that_is_zero() -> None:
    """A beam that misses 0.00002, beside a row of other seeds with the same ranks."""
    run = run_of(0, experiment="one", search={"certified_share": 1.0, "mean_expansions": 7.0, "max_expansions": 9})
    beam = {"beam20/trie": {"ndcg@10": run.record.test["ndcg@10"] - 0.00002}}
    near = run._replace(record=run.record.model_copy(update={"diagnostics": beam}))
    board = Board([near, run_of(0, run.ranks, experiment="other", config={"width": 1})])
    for text in (markdown(board), latex(board), console(table(board)), page_html(board)):
        # A hyphen after a digit is that of an interval.
        assert not re.search(r"(?<!\d)-0?\.0000", text)
    assert "| +0.0000 |" in re.sub(" +", " ", markdown(board))


def test_a_table_of_nothing() -> None:
    with pytest.raises(ValueError, match="no runs to make a table of"):
        table(Board([]))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *run_of())
    write(tmp_path, *run_of(corpus={"name": "books"}))
    assert corpora(tmp_path) == ["books", "toys"]
    assert main(["board", "--board", str(tmp_path)]) == 0
    written = re.findall(r"^written: (.*)$", capsys.readouterr().out, flags=re.MULTILINE)
    endings = ("md", "csv", "tex", "sha256", "html")
    assert [[Path(name).name for name in line.split()] for line in written] == [
        [f"{corpus}.{ending}" for ending in endings] for corpus in ("books", "toys")
    ]
    assert (tmp_path / "index.html").is_file()
    assert "Do not edit" in (tmp_path / "toys.md").read_text().splitlines()[0]


def test_command_line_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "--board", str(tmp_path)]) == 2
    assert main(["board", "--board", str(tmp_path), "--corpus", "toys"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: no record of a run") for line in lines)


def test_a_board_says_what_decides_scores_before_any_model() -> None:
    run = run_of(corpus={"name": "planted"})
    said = cards.diagnostics("planted")
    assert said["order of a user's items"] == "timestamps"
    text = markdown(Board([run]))
    assert "\n".join(f"- {label}: {fact}" for label, fact in said.items()) in text
    assert "## The corpus" not in markdown(Board([run_of(corpus={"name": "toys"})])), "its card says nothing"
    assert "## The corpus" not in markdown(Board([run_of_v1(0, corpus={"name": "planted"})])), "it stays as it was"


def test_differences_to_the_best_row_are_below_zero_with_their_interval_and_effect() -> None:
    strong = run_of(experiment="strong", ranks=ranks_of(2_000, 1, 0.9), config={"of": 1})
    weak = run_of(experiment="weak", ranks=ranks_of(2_000, 1, 0.1), config={"of": 2})
    board = Board([strong, weak])
    (pair,) = board.pairs
    (line,) = [line for line in markdown(board).split("## Differences")[1].splitlines() if line.startswith("| weak")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    low, high = (float(text) for text in cells[3].split(" to "))
    assert low < float(cells[2]) < high < 0
    assert (cells[2], cells[5]) == (f"-{pair.found.difference:.4f}", f"-{pair.found.effect:.2f}")


def test_certified_is_the_mean_over_seeds() -> None:
    shares = [{"certified_share": share, "mean_expansions": 7.0, "max_expansions": 9} for share in (1.0, 0.5)]
    frame = table(Board([run_of(seed, search=share) for seed, share in enumerate(shares)]))
    assert frame["certified_share"].item() == 0.75
