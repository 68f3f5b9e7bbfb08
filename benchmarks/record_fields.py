"""What a record says of its run beside the metrics: corpus, item vectors, users, search, beams, notes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

import models
from benchmarks.evaluate import Graded, Grader
from benchmarks.experiments import Experiment, small
from benchmarks.training.fit import Fit
from data_prep import planted
from data_prep.corpus import COLD_ITEMS, Corpus, Examples, ItemCodes, ItemVectors
from data_prep.own_corpus import OWN
from leaderboards.metrics import metrics
from leaderboards.record import (
    OPEN,
    OWN_QUALITY,
    RANKS_SCHEMA,
    SMALL_SIZES,
    STAND_IN,
    VALIDATION,
    CodesInfo,
    CorpusInfo,
    Search,
    VectorsInfo,
)
from leaderboards.rows import OVERRIDDEN
from models.api import Recommender, generator_of

BEAMS = (20, 50)


def search(test: Graded) -> Search:
    """What the exact search of the test part spent, and for how many users it is proven."""
    spent = test.expansions
    return Search(
        certified_share=float(test.certified.mean()),
        mean_expansions=None if spent is None else float(spent.mean()),
        max_expansions=None if spent is None else int(spent.max()),
    )


def diagnostics(train_corpus: Corpus, eval_corpus: Corpus, recommender: Recommender) -> dict[str, dict[str, float]]:
    """What the same weights score under the beams that papers use, with the trie and free, and on the seen users."""
    found = {}
    generator = generator_of(recommender)
    if generator:
        grader = Grader(eval_corpus, "test", k=10)
        for width in BEAMS:
            for constrained in (True, False):
                by_beam = grader(recommender, partial(generator.beam, width=width, constrained=constrained))
                name = f"beam{width}/{'trie' if constrained else 'free'}"
                found[name] = _at_10(by_beam) | {"invalid": by_beam.invalid}
    if eval_corpus.seen_users:
        found["seen_users"] = _at_10(Grader(train_corpus, "test", k=10)(recommender))
    return found


def _at_10(graded: Graded) -> dict[str, float]:
    scores = metrics(graded.ranks)
    return {name: scores[name] for name in ("recall@10", "ndcg@10")}


def rank_table(train_corpus: Corpus, eval_corpus: Corpus, valid: Graded, test: Graded) -> pa.Table:
    """Per user: both ranks, and the facts about the target by which a board can be sliced later."""
    examples = eval_corpus.examples("test")
    return pa.Table.from_arrays(
        [
            pa.array(examples.user, pa.int32()),
            pa.array(test.ranks),
            pa.array(valid.ranks),
            pa.array(test.unseen_ranks),
            pa.array(valid.unseen_ranks),
            pa.array(train_corpus.training_counts()[examples.target], pa.int32()),
            pa.array(examples.length, pa.int32()),
            pa.array(_seen_in_training(train_corpus, examples)),
        ],
        schema=RANKS_SCHEMA,
    )


def _seen_in_training(train_corpus: Corpus, test: Examples) -> np.ndarray:
    """`[U]` whether some user's training part goes straight from the test history's last item to the test target."""
    width, train = train_corpus.items + 1, train_corpus.examples("train")
    pairs = train.last_item.astype(np.int64) * width + train.target
    return np.isin(test.last_item.astype(np.int64) * width + test.target, pairs)


def valid_users(fit: Fit) -> int:
    """On how many users epochs were chosen."""
    sample = fit.chosen.users if fit.chosen else None
    return min(sample or fit.corpus.users, fit.corpus.users)


def choice_notes(fit: Fit) -> list[str]:
    """That the epoch was not chosen as the protocol has it; empty where it was."""
    return [f"{OWN_QUALITY}, not by NDCG@10 on validation"] if fit.chosen and fit.chosen.own else []


def corpus_info(corpus: Corpus) -> CorpusInfo:
    """Name, content hash and counts; the best score that can be expected, where the corpus is generated."""
    origin = corpus.card["origin"]
    return CorpusInfo(
        name=corpus.name,
        fingerprint=corpus.fingerprint,
        users=corpus.users,
        items=corpus.items,
        interactions=corpus.interactions,
        source=f"{origin}: {corpus.card['layout']}" + (f", {corpus.card['k']}-core" if origin == OWN else ""),
        ceiling=planted.ceiling(corpus) if origin == "generated" else None,
    )


def vectors_info(vectors: ItemVectors | None) -> VectorsInfo | None:
    """What item vectors are; None where there are none."""
    if vectors is None:
        return None
    names = ("kind", "name", "sha256", "stand_in", "recipe")
    return VectorsInfo(**{name: getattr(vectors, name) for name in names})


def codes_info(codes: ItemCodes | None) -> CodesInfo | None:
    """Which file item codes are from; None where a tokenizer makes them."""
    return CodesInfo(name=codes.name, sha256=codes.sha256) if codes else None


def notes(experiment: Experiment, corpus: Corpus, vectors: ItemVectors | None) -> list[str]:
    """What a reader of the row must know: what its paper leaves open, small sizes, overrides, a sweep, a stand-in."""
    model = models.load(experiment.model)
    left_open = getattr(model, "OPEN", None)
    notes = [f"{OPEN} {left_open}"] if left_open else []
    if small(corpus) and experiment.config != model.Config():
        notes.append(SMALL_SIZES)
    if experiment.overrides:
        notes.append(f"{OVERRIDDEN} {' '.join(experiment.overrides)}")
    if experiment.tuned_config:
        notes.append(experiment.tuned_config.note())
    if vectors is not None and vectors.stand_in:
        notes.append(f"{STAND_IN} {vectors.name}")
    return notes


def user_notes(fit: Fit, train_corpus: Corpus, eval_corpus: Corpus) -> list[str]:
    """That the graded users are not those of the training; empty where they are."""
    if train_corpus is eval_corpus:
        return []
    # The board's own note compares with the users of its corpus, who did not validate here.
    validation = f"{VALIDATION} {valid_users(fit):,} of"
    if eval_corpus.seen_users:
        others = f"{validation} the {train_corpus.users:,} others"
        return [f"users with the least history, whom the model never saw; {others}"]
    everybody = f"{validation} all {train_corpus.users:,} users"
    if eval_corpus.name.endswith(COLD_ITEMS):
        return [f"graded on the users whose test target is an item that no model has seen; {everybody}"]
    return [
        f"graded on the users who went on after the cut, on their first item then; {everybody} that were active before"
    ]
