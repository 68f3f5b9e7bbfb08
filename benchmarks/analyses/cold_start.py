"""Items that no model has seen, under a quota of the list (TIGER's section 4.3 and figure 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from benchmarks.analyses import Finding, Lab, proven
from benchmarks.evaluate import Grader, target_ranks
from benchmarks.hardware import users_at_once
from data_prep.batches import Batches
from data_prep.corpus import Corpus
from leaderboards.metrics import MAX_RANK, per_user
from leaderboards.plots import panels
from models.api import Batch, Recommender, generator_of
from models.parts.generator import CodeGenerator
from models.parts.index import ItemIndex
from models.parts.search import exact_search
from models.pit import Config as PitConfig

MODELS = ("tiger", "last_item_vectors")
# Lengths K of the list, and the share of it, TIGER's epsilon, that is kept for cold items.
LENGTHS = (10, 20, MAX_RANK)
SHARES = (0.1, 0.2, 0.5, 1.0)
WHOLE, CHANCE = "no quota", "by chance"


def cold_start(lab: Lab) -> Finding:
    """Recall of cold targets where a share of the list is for cold items.

    Raises:
        ValueError: a model that generates codes has several sequences of an item, or sequences of one code.
    """
    names = lab.chosen(*MODELS)
    for name in names:
        config = lab.experiment(name).config
        if isinstance(config, PitConfig) and config.beam_index and config.beam > 1 and config.served == "all":
            raise ValueError(f"{name} names an item by several code sequences; expected a model of one")
    lab = replace(lab, corpus=lab.corpus.cold_items())
    cold = np.unique(lab.corpus.examples("test").target)
    rows = []
    for name in names:
        recommender = lab.recommender(name).eval()
        ranks = proven(Grader(lab.corpus, "test")(recommender)).ranks
        place = places(recommender, lab.corpus)
        for length in LENGTHS:
            whole = float(per_user(f"recall@{length}", ranks).mean())
            found = {quota: float(((place > 0) & (place <= quota)).mean()) for quota in _quotas(length)}
            rows.append(_row(name, length, whole, found))
    rows += [_row(CHANCE, length, np.nan, {n: min(1.0, n / len(cold)) for n in _quotas(length)}) for length in LENGTHS]
    table = pd.DataFrame(rows)
    figure, (by_share, by_length) = panels(f"Recall@{LENGTHS[0]}", f"Recall@K, epsilon {SHARES[0]}")
    for title, of in table.groupby("Experiment", sort=False):
        by_share.plot(SHARES, of[[_column(share) for share in SHARES]].iloc[0], "o-", label=str(title))
        by_length.plot(of["K"], of[_column(SHARES[0])], "o-")
    by_share.set(xlabel="epsilon, share of the list for cold items", ylabel="recall of cold targets")
    by_length.set(xlabel="K")
    figure.legend(*by_share.get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=3)
    trained = lab.corpus.trained_on
    says = (
        f"Recall of the {lab.corpus.users:,} test targets that are among {len(cold):,} items which left all training, "
        f"seed {lab.seed}; learned from {trained.users:,} users. Of a list of K items a share epsilon, rounded down, "
        "is for cold items: a model that generates codes takes those whose codes but the last are likeliest, found by "
        "exact search, any other those that it ranks best. Which item of equal codes comes first is its id's affair. "
        f"{WHOLE.capitalize()}: the place among all items. The item vectors, and a tokenizer unless "
        "`tokenizer.fitted_on` says otherwise, know the cold items' text."
    )
    return Finding(table, figure, says)


def _quotas(length: int) -> list[int]:
    """Places for cold items of a list, for each of `SHARES`; rounded first, for .1 * 20 may come out below 2."""
    return [int(round(share * length, 6)) for share in SHARES]


def _row(name: str, length: int, whole: float, found: dict[int, float]) -> dict[str, Any]:
    by_share = {_column(share): found[quota] for share, quota in zip(SHARES, _quotas(length), strict=True)}
    return {"Experiment": name, "K": length, WHOLE: whole, **by_share}


def _column(share: float) -> str:
    return f"epsilon {share:g}"


def places(recommender: Recommender, corpus: Corpus) -> Int[np.ndarray, "U"]:
    """Where each test target stands among all test targets, from 1; 0 beyond `MAX_RANK`."""
    examples = corpus.examples("test")
    cold = torch.from_numpy(np.unique(examples.target)).long().to(recommender.device)
    generator = generator_of(recommender)
    place = np.zeros(corpus.users, dtype=np.int64)
    size = users_at_once(recommender.device)
    with torch.inference_mode():
        for batch in Batches(examples, size, recommender.history_length, recommender.device):
            if isinstance(generator, CodeGenerator):
                found = _by_codes(generator, batch, cold)
            else:
                found = _by_rank(recommender, batch, cold, corpus.items)
            place[batch.user.cpu().numpy()] = found.cpu().numpy()
    return place


def _by_codes(generator: CodeGenerator, batch: Batch, cold: Int[Tensor, "C"]) -> Int[Tensor, "B"]:
    """By the probability of the codes but the last, which only tells apart what has the others in common."""
    _, sequences, levels = generator.index.codes.shape
    if sequences > 1 or levels == 1:
        raise ValueError(
            "cold items are found by all codes but the last; expected one code sequence per item, of two codes at "
            f"least, not up to {sequences} of {levels}"
        )
    codes = generator.index.codes[cold, 0, :-1]
    index = ItemIndex(F.pad(codes, (0, 0, 1, 0), value=-1), generator.index.sizes[:-1]).to(codes.device)
    target = 1 + torch.searchsorted(cold, batch.target)
    k = min(MAX_RANK, len(cold))
    ranking = proven(exact_search(generator.steps(batch.history), len(target), index, k, target=target))
    return target_ranks(ranking.items[:, :k], target)


def _by_rank(recommender: Recommender, batch: Batch, cold: Int[Tensor, "C"], items: int) -> Int[Tensor, "B"]:
    ranked = proven(recommender.rank(batch.history, items)).items
    place = (torch.isin(ranked, cold).cumsum(1) * (ranked == batch.target[:, None])).sum(1)
    return torch.where(place <= MAX_RANK, place, 0)
