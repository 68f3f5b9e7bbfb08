"""Trains a SASRec and kills itself in a step: a pickled file of `kill_at`, `corpus`, `folder`, `config`, `budget`."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.training.fit import Fit
from data_prep.corpus import Batch
from models.sasrec import SasRec

torch.set_num_threads(1)
given = pickle.loads(Path(sys.argv[1]).read_bytes())
steps, step = iter(range(1, 1000)), SasRec.training_step


def training_step(self: SasRec, batch: Batch, number: int) -> Tensor:
    if next(steps) == given["kill_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, number)


SasRec.training_step = training_step  # type: ignore[assignment, method-assign]
fit = Fit(given["corpus"], 0, given["folder"], "child")
corpus = fit.corpus
users = corpus.examples("train").longest_per_user()
fit("recommender", lambda: SasRec(given["config"], corpus.items, 1.0), given["budget"], users)
