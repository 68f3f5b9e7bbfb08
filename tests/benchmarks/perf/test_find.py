"""What the pair times is finding: it trains once and never again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.perf.find import Setting, found, stage_overhead
from benchmarks.training import stage_key
from data_prep.corpus import Corpus
from data_prep.files import content_sha256
from models.sasrec import Config

SMALL = Config(width=8, inner=8, layers=1, batch_size=16, epochs=1)


def test_it_is_trained_once(tiny_corpus: Corpus, tmp_path: Path) -> None:
    setting = Setting(tiny_corpus, SMALL)
    assert [found(setting, tmp_path).stages[0].reused for _ in range(3)] == [False, True, True]


def test_everything_that_decides_it_is_hashed_each_time(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process makes these hashes once; the pair is about one that has not made them."""
    files, digests = list[Path](), list[str]()
    of_file, of_corpus = content_sha256, Corpus._digest

    def file(path: Path) -> str:
        files.append(path)
        return of_file(path)

    def digest(corpus: Corpus, *given: Any) -> str:
        digests.append(corpus.name)
        return of_corpus(corpus, *given)

    setting = Setting(tiny_corpus, SMALL)
    found(setting, tmp_path)
    monkeypatch.setattr(stage_key, "content_sha256", file)
    monkeypatch.setattr(Corpus, "_digest", digest)
    assert found(setting, tmp_path).stages[0].reused
    assert len(files) > 50
    assert digests


def test_both_sides_take_time(tiny_corpus: Corpus) -> None:
    (made,) = stage_overhead(Setting(tiny_corpus, SMALL))
    assert (made.name, made.unit) == ("stage_overhead", "s")
    assert made.ours > 0
    assert made.baseline > 0
    assert "tiny, 40 items" in made.note
