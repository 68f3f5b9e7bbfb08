"""The papers' tables: nothing lost, nothing ascribed to an experiment that there is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import data_prep
from benchmarks import experiments
from leaderboards.published import METRICS, published, rows, stated

INSTRUMENTS = "musical_instruments"


def test_each_number_is_stated_once() -> None:
    frame = published()
    assert len(frame) == 486 + 768 + 24 + 12 + 160 + 84, (
        "five papers, others, DECOR and TIGER again, re-runs, what users ran, TIGER's baselines"
    )
    assert not frame.duplicated(["paper", "table", "corpus", "model", "metric"]).any()
    assert set(frame["metric"]) == set(METRICS)
    assert set(frame["kind"]) == {"main", "ablation", "reproduction"}
    assert not (frame[["paper", "table", "model"]] == "").any(axis=None)


def test_numbers_are_in_the_order_of_their_definitions() -> None:
    """A longer list finds no less, and NDCG is at most recall: what a slip of the pen would break."""
    wide = published().pivot_table("value", ["paper", "table", "corpus", "model"], "metric")
    assert len(wide) == 407
    complete = wide.dropna()
    assert len(complete) == 364
    without_recall = wide.index[wide["recall@10"].isna()].get_level_values("paper")
    assert list(without_recall.str.partition(" (").get_level_values(0)) == 8 * ["Ding et al."], "others lack those at 5"
    assert (complete["recall@5"] <= complete["recall@10"]).all()
    assert (complete["ndcg@5"] <= complete["ndcg@10"]).all()
    assert not (wide["ndcg@10"] > wide["recall@10"]).any()
    assert np.nanmin(wide.to_numpy()) > 0
    assert np.nanmax(wide.to_numpy()) < 0.14


def test_corpora_and_experiments_are_ours() -> None:
    frame = published()
    assert set(frame["corpus"]) <= set(data_prep.names())
    assert set(" ".join(frame["experiment"]).split()) <= set(experiments.names())
    # Within a paper, a model of one name is one experiment on every corpus.
    ours = frame.groupby(["paper", "model"])["experiment"].nunique()
    assert (ours == 1).all()


def test_what_is_ours_in_one_paper_is_so_in_all() -> None:
    """A model that came after its papers' numbers is easily left without them."""
    frame = published()
    known = set(frame.loc[frame["experiment"] != "", "model"])
    left_out = frame[(frame["experiment"] == "") & frame["model"].isin(known)]
    assert set(left_out["model"]) == {"SASRec"}
    assert left_out["note"].str.contains("loss not known").all()


QUOTED = ["DECOR (arXiv 2509.10468v1)", "ETEGRec (SIGIR 2025, arXiv 2409.05546v3)"]


@pytest.mark.parametrize(
    ("experiment", "numbers"),
    [
        ("caser", [[0.0242, 0.0392, 0.0154, 0.0202]]),
        ("gru4rec", [[0.0345, 0.0537, 0.0220, 0.0281]]),
        ("bert4rec", [[0.0305, 0.0483, 0.0196, 0.0253]]),
        ("hgn", [[0.0319, 0.0515, 0.0202, 0.0265]]),
        ("fmlp_rec", [[0.0328, 0.0529, 0.0206, 0.0271]]),
        ("fdsa", [[0.0364, 0.0557, 0.0233, 0.0295]]),
        ("s3rec", [[0.0340, 0.0538, 0.0218, 0.0282]]),
        ("sasrec", [[0.0341, 0.0530, 0.0217, 0.0277]]),
        ("tiger", [[0.0368, 0.0574, 0.0242, 0.0308]]),
        ("tiger-sas", [[0.0375, 0.0576, 0.0242, 0.0306]]),
        ("p5_sid", [[0.0319, 0.0437, 0.0237, 0.0275], [0.0319, 0.0438, 0.0237, 0.0275]]),
        ("p5_cid", [[0.0352, 0.0507, 0.0234, 0.0285]]),
        ("cost", [[0.0366, 0.0570, 0.0242, 0.0306]]),
        ("letter", [[0.0372, 0.0581, 0.0243, 0.0310]]),
        ("etegrec", [[0.0387, 0.0609, 0.0251, 0.0323], [0.0402, 0.0624, 0.0260, 0.0331]]),
        ("etegrec-no-sia", [[0.0396, 0.0614, 0.0255, 0.0325]]),
        ("etegrec-no-psa", [[0.0389, 0.0609, 0.0250, 0.0321]]),
        ("etegrec-no-alignment", [[0.0379, 0.0601, 0.0245, 0.0317]]),
        ("etegrec-joint", [[0.0337, 0.0529, 0.0215, 0.0277]]),
        ("etegrec-frozen", [[0.0388, 0.0600, 0.0252, 0.0320]]),
        ("decor", [[0.0399, 0.0610, 0.0266, 0.0333], [0.0409, 0.0617, 0.0272, 0.0339]]),
        ("decor-base", [[0.0368, 0.0574, 0.0242, 0.0308]]),
        ("decor-composition", [[0.0385, 0.0583, 0.0261, 0.0321], [0.0385, 0.0595, 0.0261, 0.0321]]),
        ("decor-composition-bos", [[0.0374, 0.0585, 0.0246, 0.0313], [0.0397, 0.0605, 0.0263, 0.0329]]),
        ("decor-fusion", [[0.0382, 0.0595, 0.0254, 0.0323], [0.0382, 0.0583, 0.0254, 0.0323]]),
        ("decor-fusion-composition", [[0.0388, 0.0598, 0.0257, 0.0324]]),
        ("pit", []),
        ("popularity", []),
        ("tiger-unseen-users", []),
        ("", []),
    ],
)
def test_what_two_papers_state_on_musical_instruments(experiment: str, numbers: list[list[float]]) -> None:
    """Typed from ETEGRec's tables 3 and 4 and DECOR's tables 1 and 2; second rows of DECOR from its SIGIR paper."""
    lines = stated(experiment, INSTRUMENTS)
    theirs = lines["papers"].map(lambda names: names[0].startswith(("DECOR", "ETEGRec")))
    assert lines[theirs.astype(bool)][list(METRICS)].to_numpy().tolist() == numbers


@pytest.mark.parametrize(
    ("experiment", "corpus", "paper", "recall", "ndcg"),
    [
        ("pit", "beauty_2014", "PIT", 0.0783, 0.0403),
        ("pit", "sports_2014", "PIT", 0.0462, 0.0243),
        ("pit", "toys_2014", "PIT", 0.0839, 0.0432),
        ("pit-no-csa", "toys_2014", "PIT", 0.0771, 0.0397),
        ("pit-no-mls", "toys_2014", "PIT", 0.0798, 0.0405),
        ("pit-no-beam-index", "toys_2014", "PIT", 0.0622, 0.0321),
        ("pit-no-mls-no-beam-index", "toys_2014", "PIT", 0.0498, 0.0252),
        ("rearec", "beauty_2014", "PIT", 0.0741, 0.0344),
        ("rearec-ensemble", "toys_2014", "PIT", 0.0771, 0.0357),
        ("esasrec", "beauty_2014", "eSASRec", 0.0928, 0.0523),
        ("esasrec", "toys_2014", "eSASRec", 0.0939, 0.0538),
        ("esasrec-no-ligr", "beauty_2014", "eSASRec", 0.0921, 0.0531),
        ("esasrec-no-ligr", "toys_2014", "eSASRec", 0.0970, 0.0580),
        ("sasrec-bce", "beauty_2014", "PIT", 0.0592, 0.0327),
        ("sasrec-bce", "beauty_2014", "S3-Rec's baselines", 0.0605, 0.0318),
        ("s3rec", "beauty_2014", "S3-Rec's baselines", 0.0647, 0.0327),
        ("tiger", "beauty_2014", "PIT", 0.0648, 0.0336),
        ("tiger-paper", "toys_2014", "TIGER", 0.0712, 0.0432),
        ("gru4rec", "beauty_2014", "S3-Rec's baselines", 0.0283, 0.0137),
        ("caser", "beauty_2014", "S3-Rec's baselines", 0.0347, 0.0176),
        ("bert4rec", "sports_2014", "S3-Rec's baselines", 0.0191, 0.0099),
        ("hgn", "toys_2014", "S3-Rec's baselines", 0.0497, 0.0277),
        ("fdsa", "toys_2014", "S3-Rec's baselines", 0.0381, 0.0189),
        ("tiger-grid", "beauty_2014", "STAMP", 0.0645, 0.0353),
        ("tiger-paischer", "beauty_2014", "cornac", 0.0634, 0.0338),
        ("letter-authors-codes", "beauty_2014", "LETTER", 0.0672, 0.0364),
        ("letter-authors-codes", "beauty_2014", "cornac", 0.0670, 0.0360),
        ("etegrec", "beauty_2014", "PIT", 0.0657, 0.0344),
        ("decor", "industrial_and_scientific", "DECOR (SIGIR", 0.0469, 0.0257),
    ],
)
def test_what_one_paper_states(experiment: str, corpus: str, paper: str, recall: float, ndcg: float) -> None:
    """Typed from the papers' tables and the specification of the reproduction, each number once."""
    lines = stated(experiment, corpus).explode("papers")
    theirs = lines[lines["papers"].str.startswith(paper)]
    assert theirs[["recall@10", "ndcg@10"]].to_numpy().tolist().count([recall, ndcg]) == 1


def test_a_number_may_be_of_several_experiments() -> None:
    """The base row of DECOR's ablation is TIGER, in DECOR's own setting."""
    base = rows("decor-base")
    assert set(base["model"]) == {"Base (TIGER)"}
    assert len(base) == 12
    assert base.index.isin(rows("tiger").index).all()


def test_equal_numbers_are_one_row_of_several_papers() -> None:
    names = [list(papers) for papers in stated("tiger", INSTRUMENTS)["papers"]]
    assert names[0] == QUOTED
    assert all(len(papers) == 1 for papers in names[1:])
    assert [len(papers) for papers in stated("etegrec", INSTRUMENTS)["papers"]] == [1, 1]


def test_a_missing_number_is_nan() -> None:
    first = stated("sasrec", "sports_2014")[list(METRICS)].to_numpy()[0]
    np.testing.assert_array_equal(first, [np.nan, 0.0480, np.nan, 0.0227])


def test_part_of_a_papers_row_is_no_row_of_its_own() -> None:
    """PIT's table 3 repeats two of the four numbers of its table 2."""
    said = rows("pit", "beauty_2014")
    assert (set(said["table"]), len(said)) == ({"2", "3"}, 6)
    assert stated("pit", "beauty_2014")[list(METRICS)].to_numpy().tolist() == [[0.0479, 0.0783, 0.0305, 0.0403]]


def test_rows_of_one_corpus_and_of_all() -> None:
    assert set(rows("tiger-sas")["corpus"]) == {"musical_instruments", "industrial_and_scientific", "video_games"}
    parts = [rows("tiger-sas", name) for name in data_prep.names()]
    assert sum(len(part) for part in parts) == len(rows("tiger-sas")) == 24
    assert all(set(part["corpus"]) <= {name} for part, name in zip(parts, data_prep.names(), strict=True))
    pairs = itertools.pairwise(rows("tiger-sas").index)
    assert all(one < other for one, other in pairs), "in the papers' order"
