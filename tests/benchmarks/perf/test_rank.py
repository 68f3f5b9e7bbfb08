"""Both sides of the ranking pairs do the same task: the same weights, users and lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from benchmarks.checks.rerank import Recalled
from benchmarks.hardware import Hardware
from benchmarks.perf import Pair, rank, run
from benchmarks.perf.rank import Exact, Sides, Trie, decor_around, items_of
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from models.api import Recommender
from models.parts import search
from models.parts.index import ItemIndex, with_suffix
from models.parts.seq2seq import T5Sizes
from models.popularity import Config, Popularity
from models.tiger import SMALL, Tiger
from tests.factories import shaken
from tests.models.test_contract import same

T5 = T5Sizes(width=16, inner=16, heads=2, head_width=8, encoder_layers=1, decoder_layers=1)


def untrained(corpus: Corpus, hardware: Hardware) -> Tiger:
    torch.manual_seed(0)
    codes = with_suffix(torch.randint(16, (corpus.items, 2)), 8)
    model = Tiger(replace(SMALL, t5=T5), ItemIndex(codes, (16, 16, 8))).eval()
    return shaken(model, 0.1)


@pytest.fixture
def sides(tiny_corpus: Corpus) -> Sides:
    return Sides(tiny_corpus, Hardware("cpu"), untrained(tiny_corpus, Hardware("cpu")), users=12, batch=5)


def test_a_wide_beam_of_the_library_finds_the_exact_lists(sides: Sides) -> None:
    """50 beams hold all 40 items, so that `generate` with the trie must give the full ranking too."""
    sides.exact()
    expected = sides.expected.clone()
    assert (expected > 0).all()
    for side in (sides.generate, sides.beam):
        assert side() > 0
        assert torch.equal(sides.lists, expected)
    assert "misses 0.00 of the 10 items" in sides.note("against a beam")
    sides.generate_free()
    assert sides.lists.shape == expected.shape


def test_sharpening_changes_both_models_alike(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WIDTH", 1)  # so that the first beam does not expand all there is
    sides.exact()
    before = sides.expansions
    monkeypatch.setattr(rank, "EXPANSIONS", before - 1)
    factor = sides.sharpen()
    assert factor > 1
    sides.exact()
    assert sides.expansions < before
    sides.generate()
    assert torch.equal(sides.lists, sides.expected)


def test_what_is_sharp_enough_stays_as_it_is(sides: Sides) -> None:
    weight = sides.model.generator.transformer.decoder.final_layer_norm.weight.clone()
    assert sides.sharpen() == 1.0
    assert torch.equal(sides.model.generator.transformer.decoder.final_layer_norm.weight, weight)


def test_the_trie_by_hand() -> None:
    model = Tiger(replace(SMALL, t5=T5), ItemIndex(torch.tensor([[-1, -1], [1, 0], [1, 2], [0, 2]]), (2, 3)))
    trie = Trie(model)

    def allowed(*tokens: int) -> list[int]:
        return trie(0, torch.tensor([0, *tokens]))

    assert (allowed(), allowed(1), allowed(2)) == ([1, 2], [5], [3, 5])
    sequences: Tensor = torch.tensor([[2, 5], [1, 3], [1, 5], [6, 0], [2, 1]])
    assert items_of(model, sequences).tolist() == [2, 0, 3, 0, 0]
    assert items_of(model, sequences[:, :1]).tolist() == [0] * 5


@pytest.fixture
def row(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Callable[[Recommender], list[Pair]]:
    """Times the row of a recommender, on a few users."""
    path = Path("board/tiny/tiger/default-0/seed-0.json")

    def times(recommender: Recommender) -> list[Pair]:
        monkeypatch.setattr(rank, "recall_by_hash", lambda *_: Recalled(recommender, tiny_corpus, Mock()))
        return rank.rank_row(path)

    monkeypatch.setattr("leaderboards.store.read", lambda found: Mock() if found == path else None)
    monkeypatch.setattr(rank, "USERS_CPU", 12)
    return times


def test_a_rows_item_vectors_are_where_one_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[Path | None] = []

    def recalled(bench: Bench, _: object) -> Recalled:
        given.append(bench.vectors_path)
        raise FileNotFoundError("no weights")

    monkeypatch.setattr("leaderboards.store.read", lambda _: Mock())
    monkeypatch.setattr(rank, "recall_by_hash", recalled)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    with pytest.raises(FileNotFoundError, match="no weights"):
        run([], tmp_path / "pairs.json", Path("board/tiny/tiger/default-0/seed-0.json"), tmp_path / "encoder")
    assert given == [tmp_path / "encoder"]


def test_a_row_is_timed_with_its_own_weights(
    row: Callable[[Recommender], list[Pair]], tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Exact, "sharpen", lambda _: pytest.fail("the weights of a row are those it was graded with"))
    found = row(untrained(tiny_corpus, Hardware("cpu")))
    assert [one.name for one in found] == ["rank_row", "rank_row_free", "rank_row_beam", "rank_row_place"]
    for one in found:
        assert one.unit == "users/s"
        assert min(one.ours, one.baseline) > 0
        assert "weights of tiger/default-0/seed-0.json" in one.note
    assert all("certified exact top-10 of 12 users of tiny" in one.note for one in found[:3])
    assert "the rank of the target alone, against the exact top-50" in found[3].note


def test_a_target_that_is_placed_elsewhere_ends_the_comparison(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(map(min, sides.places())) > 0
    whole = sides.model.generator.rank
    monkeypatch.setattr(sides.model.generator, "rank", lambda history, k: whole(history.flip(0), k))
    with pytest.raises(ValueError, match="a target has another rank in the whole list"):
        sides.places()


def test_a_row_that_is_no_plain_t5_is_not_timed(row: Callable[[Recommender], list[Pair]], tiny_corpus: Corpus) -> None:
    index = untrained(tiny_corpus, Hardware("cpu")).generator.index
    untied = Tiger(replace(SMALL, t5=T5, tied_head=False), index)
    by_level = Tiger(replace(SMALL, t5=T5, output="level"), index)
    for model in (untied, by_level, Popularity(Config(), torch.zeros(tiny_corpus.items))):
        with pytest.raises(ValueError, match=f"is of {type(model).__name__}; expected TIGER with a tied head, or"):
            row(model)


def test_a_decor_has_tigers_weights_around_its_own(tiny_corpus: Corpus) -> None:
    model = untrained(tiny_corpus, Hardware("cpu"))
    decor = decor_around(model)
    assert same(decor.generator.transformer.state_dict(), model.generator.transformer.state_dict())
    vectors = model.generator.token.weight
    normed = torch.nn.functional.layer_norm(vectors, vectors.shape[1:])
    torch.testing.assert_close(decor.generator.token.weight, normed)
    # Composed inputs, all the same: it is DECOR that is timed.
    history = torch.tensor([[1, 2, 0], [3, 4, 5]])
    composition = decor.generator.read(history).composition
    assert composition is not None
    start = composition.added[:, 0]
    torch.testing.assert_close(start, decor.generator.token.weight[:1].expand_as(start))
    found = Exact(tiny_corpus, Hardware("cpu"), decor, users=12, batch=5)
    assert found.exact() > 0
    assert (found.lists > 0).all()
