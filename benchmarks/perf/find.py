"""What a finished training costs to find: everything that decides it is hashed, its weights are checked and loaded."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.hardware import Hardware
from benchmarks.perf import Pair, in_turn, pair, seconds
from benchmarks.perf.train import REPEATS, load
from benchmarks.training import checkpoint_io, stage_key
from benchmarks.training.checkpoint_callback import BEST
from benchmarks.training.fit import Fit
from data_prep.corpus import Corpus
from models import sasrec


@dataclass(frozen=True)
class Setting:
    """What is trained for an epoch and then found."""

    corpus: Corpus
    config: sasrec.Config


def stage_overhead(setting: Setting | None = None) -> list[Pair]:
    """Seconds to find a finished SASRec, beside building it and reading its weights."""
    setting = setting or Setting(load("beauty_2014"), sasrec.Config(epochs=1, valid_users=1))
    with TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        found(setting, Path(folder))
        (file,) = Path(folder).rglob(BEST)
        turns = in_turn(
            lambda: seconds(lambda: found(setting, Path(folder))),
            lambda: seconds(lambda: built(setting, file)),
            REPEATS,
        )
    items, pairs = setting.corpus.items, len(setting.corpus.examples("train"))
    note = f"building it and reading its weights; SASRec on {setting.corpus.name}, {items:,} items, {pairs:,} pairs"
    return [pair("stage_overhead", turns, "s", note)]


def found(setting: Setting, folder: Path) -> Fit:
    """Trains it in a folder, or finds it there. Hashes of code and corpus, made once in a process, are made again."""
    stage_key._contents.cache_clear()
    fit = Fit(replace(setting.corpus), 0, folder, "find", Hardware("cpu"))
    sasrec.train(setting.config, fit.corpus, fit)
    return fit


def built(setting: Setting, file: Path) -> None:
    """The least that one can do."""
    module = sasrec.SasRec(setting.config, setting.corpus.items, positions=1.0)
    module.load_state_dict(checkpoint_io.weights(file))
