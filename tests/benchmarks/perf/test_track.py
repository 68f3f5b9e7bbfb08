"""The pair measures the same passes with tracking and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.hardware import Hardware
from benchmarks.perf import track, train
from benchmarks.perf.train import Setting
from benchmarks.tracking import wandb_run
from data_prep.corpus import Corpus
from models.parts.seq2seq import T5Sizes
from models.tiger import Config

SIZES = T5Sizes(width=16, inner=16, heads=2, head_width=8, encoder_layers=1, decoder_layers=1)


@pytest.fixture
def setting(tiny_corpus: Corpus) -> Setting:
    return Setting(tiny_corpus, Hardware("cpu"), 2, Config(batch_size=8, t5=SIZES))


@pytest.mark.slow
def test_both_sides_train_and_wandb_took_its_part(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def counted(*given: Any) -> None:
        passes.append(len(given))
        train.ours(*given)

    monkeypatch.setattr(track, "ours", counted)
    by_clock, by_processor, by_hooks = track.track_cpu(setting, repeats=2)
    # Two passes to warm up, then in turn: with watchers, without.
    assert passes == [4, 4, 4, 3, 3, 4]
    assert (by_clock.name, by_clock.unit) == ("track_cpu", "samples/s")
    assert by_clock.ratio == pytest.approx(by_clock.ours / by_clock.baseline)
    assert by_processor.ratio == pytest.approx(by_processor.baseline / by_processor.ours)
    assert 0 < by_hooks.baseline < by_hooks.ours
    assert torch.get_num_threads() == 1


def test_a_wandb_that_fails_is_no_measurement(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "about", lambda folder: {"name": "perf", "mode": "offline", "root": "/dev/null/nowhere"})
    monkeypatch.setattr(wandb_run, "END_SECONDS", 10.0)
    with pytest.raises(ValueError, match="wandb failed while it was measured"):
        track.track_cpu(setting, repeats=1)
