"""Small models trained by one process or several, which each write down what they had after every check.

python -m tests.scripts.toy_distributed FOLDER PROCESSES NAME...
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

import models
from benchmarks.execution.cell import silence_lightning
from benchmarks.experiments import complete
from benchmarks.hardware import Hardware
from benchmarks.training.checkpoint_callback import Watcher
from benchmarks.training.fit import Fit, process_rank
from data_prep.corpus import ItemVectors
from data_prep.embed import item_vectors
from leaderboards.record import Stage
from models.letter import LetterTokenizer
from tests.factories import tiny

# 60 users have 240 examples, so no batch is short; without dropout nothing but the share of a batch is a process's own.
COMMON = ("batch_size=20", "history=5", "t5.width=16", "t5.inner=16", "t5.encoder_layers=1", "t5.decoder_layers=1")
TOKENIZER = ("tokenizer_epochs=2", "tokenizer_check=1", "tokenizer_batch=20", "tokenizer.codes=16")
SETTINGS = {
    "tiger": (*TOKENIZER, "steps=24"),
    # The partner that diversity draws a code to is each process's own.
    "letter": (*TOKENIZER, "collaborative=sasrec-32", "tokenizer.diversity=0", "steps=24"),
    "letter-no-cf": (*TOKENIZER, "tokenizer.diversity=0.1", "steps=12"),
    "pit-coevolving": (*TOKENIZER, "i2t.layers=1", "i2t.dropout=0", "sure=0", "warm_steps=6", "steps=18"),
}


class Recorder(Watcher):
    """Adds the quality of a stage after each check and a hash of all that the module then holds."""

    def __init__(self, lines: list[list[Any]]) -> None:
        self.lines = lines

    def checked(self, stage: Stage, module: pl.LightningModule) -> None:
        digest = hashlib.sha256()
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        if isinstance(module, LetterTokenizer):
            digest.update(module.cluster.numpy().tobytes())
        self.lines.append([stage.name, stage.quality[-1], digest.hexdigest()])


def trained(folder: Path, name: str, hardware: Hardware) -> list[list[Any]]:
    """Stage, quality and hash after every check."""
    corpus = replace(tiny(), name="all_beauty")
    config = complete(name, corpus.name, (*COMMON, "t5.dropout=0", *SETTINGS[name]), tuned=False).config
    collaborative = np.random.default_rng(0).normal(size=(corpus.items + 1, 32)).astype(np.float32)
    known = replace(
        corpus,
        vectors=item_vectors(corpus, "tfidf", None, folder / "vectors"),
        collaborative=ItemVectors(collaborative, "sasrec-32", "random", "0" * 64, stand_in=False),
    )
    lines: list[list[Any]] = []
    fit = Fit(known, 0, folder / "fits", name, hardware, watch=lambda stage: [Recorder(lines)])
    models.load(name.split("-")[0]).train(config, fit.corpus, fit)
    return lines


def main() -> None:
    folder, processes, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    silence_lightning()
    torch.set_num_threads(1)
    found = {name: trained(folder, name, Hardware("cpu", processes)) for name in names}
    (folder / f"{process_rank(Hardware('cpu', processes))}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
