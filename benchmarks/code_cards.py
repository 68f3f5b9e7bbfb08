"""One experiment's tokenizer under one seed -> one code card."""

from __future__ import annotations

from pathlib import Path

import models
from benchmarks import provenance, record_fields
from benchmarks.experiments import Experiment
from benchmarks.resolved_row import published_config, resolve
from benchmarks.run import check_writable
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from leaderboards import codes
from leaderboards.record import Stage
from models.api import Tokenizing


def tokenizing(experiment: Experiment) -> Tokenizing:
    """The model, whose tokenizer can be trained alone.

    Raises:
        ValueError: it has none that is finished before its recommender is trained; or the experiment keeps users from
            the model, which a tokenizer of items knows nothing of.
    """
    if experiment.unseen_users:
        raise ValueError(f"{experiment.name} is graded on unseen users, of whom a code card says nothing")
    model = models.load(experiment.model)
    if not isinstance(model, Tokenizing):
        possible = ", ".join(name for name in models.names() if isinstance(models.load(name), Tokenizing))
        raise ValueError(f"{experiment.model} has no tokenizer of its own to make a card of; possible: {possible}")
    return model


def card(bench: Bench, corpus: Corpus, experiment: Experiment, seed: int) -> Path:
    """Trains the tokenizer alone and writes its card; a card that exists is left as it is. Raises as `tokenizing`."""
    model, row = tokenizing(experiment), resolve(bench, corpus, experiment)
    target = codes.path(bench.board, corpus.name, experiment.name, row.key, seed)
    if target.exists():
        return target
    check_writable(target, "code cards (BOARD=, --board)")
    bench.hardware.set_num_threads()
    origin = provenance.of(bench.hardware, bench.board)
    fit = row.fit(seed)
    given = row.inputs(fit)
    index = model.tokenize(experiment.config, given, fit)
    made = codes.CodeCard(
        corpus=record_fields.corpus_info(corpus),
        model=experiment.model,
        experiment=experiment.name,
        seed=seed,
        key=row.key,
        config=published_config(experiment),
        vectors=record_fields.vectors_info(given.vectors),
        collaborative=record_fields.vectors_info(given.collaborative),
        notes=record_fields.notes(experiment, corpus, given.vectors),
        card=codes.Facts(**index.card()),
        stages=[Stage(**stage.model_dump()) for stage in fit.stages],
        provenance=origin,
    )
    return codes.write(bench.board, made)
