"""ETEGRec's preference-semantic alignment, with and without it (figure 3).

It has two sides (Eq. 16): the preference of a history, the decoder's first state taken to the space of item vectors,
and the semantic representation of an item, its reconstruction by the tokenizer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeCV
from torch import Tensor
from torch.nn import functional as F

from benchmarks.analyses import Finding, Lab
from benchmarks.analyses.plane import plane
from benchmarks.hardware import BATCH
from data_prep.batches import Batches
from data_prep.corpus import Examples
from leaderboards.plots import panels
from models.etegrec import Etegrec

EXPERIMENTS = ("etegrec", "etegrec-no-psa")
# Test users at most of whom the numbers are.
USERS = 2_000
# In the picture, as in the paper's: ten items, eighty histories before them.
ITEMS, HISTORIES = 10, 8
NEAREST = 10
# Cosines so close are one.
TIE = 1e-6


class Heard(NamedTuple):
    """Histories and the items that come next. Attributes: state, the decoder's first; target."""

    state: Float[Tensor, "B D"]
    target: Int[Tensor, "B"]


def alignment(lab: Lab) -> Finding:
    """Cosines and neighbours across the two sides, and a picture of both.

    Raises:
        ValueError: an experiment is not of ETEGRec.
    """
    names = lab.chosen(*EXPERIMENTS)
    lab.check_model(names, "etegrec", "preference-semantic alignment")
    users = np.sort(np.random.default_rng(0).permutation(lab.corpus.users)[:USERS])
    valid, test = (lab.corpus.examples(part).take(users) for part in ("valid", "test"))
    drawn = _often(lab.corpus.examples("test"))
    figure, axes = panels(*names)
    rows: list[dict[str, Any]] = []
    for name, axis in zip(names, axes, strict=True):
        model = _etegrec(lab, name)
        semantic = _semantic(model)
        heard, before = _heard(model, test), _heard(model, valid)
        projections = {"its own": _own(model, heard.state), "fitted": _fitted(before, semantic, heard.state)}
        for title, preference in projections.items():
            rows.append({"Experiment": name, "Projection": title, **closeness(preference, semantic, heard.target)})
        picture = _heard(model, drawn)
        _draw(axis, _own(model, picture.state), semantic, picture.target)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    says = (
        f"Preferences of histories and semantic representations of items, seed {lab.seed}. Numbers: mean cosine of "
        f"{len(users):,} test histories to the item that comes next and to the {lab.corpus.items - 1:,} others, and "
        f"the share of the histories that have it among the {NEAREST} nearest items ({NEAREST / lab.corpus.items:.2g} "
        "by chance). A preference is the decoder's first state behind the model's own projection, which nothing trains "
        "where the alignment is off, or behind one that ridge regression fits to the validation items of the same "
        "users: what the state tells either way. The picture "
        f"has the {ITEMS} items that most test users come to and up to {HISTORIES} histories before each, behind the "
        "own projection, as t-SNE by cosine; colours are items."
    )
    return Finding(pd.DataFrame(rows), figure, says)


def closeness(
    preference: Float[Tensor, "B F"], semantic: Float[Tensor, "N F"], target: Int[Tensor, "B"]
) -> dict[str, float]:
    """How close preferences are to the representations of items 1..N: of their target, and of the others."""
    cosine = F.normalize(preference, dim=1) @ F.normalize(semantic, dim=1).T
    own = cosine.gather(1, target[:, None] - 1)
    others = (cosine.sum(1, keepdim=True) - own) / (len(semantic) - 1)
    # Items of the same codes share a representation: which of them are among the nearest is then left to chance.
    ahead, beside = (cosine > own + TIE).sum(1), ((cosine - own).abs() <= TIE).sum(1)
    found = ((NEAREST - ahead) / beside).clamp(0, 1)
    return {
        "Cosine to the target": float(own.mean()),
        "to the others": float(others.mean()),
        f"Target among the nearest {NEAREST}": float(found.mean()),
    }


@torch.inference_mode()
def _heard(model: Etegrec, examples: Examples) -> Heard:
    states, targets = [], []
    for batch in Batches(examples, BATCH, model.history_length, model.device):
        # The first state comes before any code of the target.
        start = torch.zeros_like(batch.target)[:, None]
        states.append(model.generator.states(start, model.generator.read(batch.history))[:, 0])
        targets.append(batch.target)
    return Heard(torch.cat(states), torch.cat(targets))


@torch.inference_mode()
def _semantic(model: Etegrec) -> Float[Tensor, "N F"]:
    every = torch.arange(1, len(model.tokenizer.vectors), device=model.device)
    return model.tokenizer(every)[1]


@torch.inference_mode()
def _own(model: Etegrec, state: Float[Tensor, "B D"]) -> Float[Tensor, "B F"]:
    return model.to_semantic(state)


def _fitted(before: Heard, semantic: Float[Tensor, "N F"], state: Float[Tensor, "B D"]) -> Float[Tensor, "B F"]:
    """States taken to the space of item vectors by what fits the histories `before` and their targets best."""
    known, wanted, asked = (part.cpu().numpy() for part in (before.state, semantic[before.target - 1], state))
    return torch.from_numpy(RidgeCV(np.logspace(-3, 3, 7)).fit(known, wanted).predict(asked)).to(semantic)


def _often(test: Examples) -> Examples:
    """Those of the test examples that the picture has."""
    distinct, count = np.unique(test.target, return_counts=True)
    items = distinct[np.argsort(-count, kind="stable")[:ITEMS]]
    return test.take(np.concatenate([np.flatnonzero(test.target == item)[:HISTORIES] for item in items]))


def _draw(
    axis: Any, preference: Float[Tensor, "B F"], semantic: Float[Tensor, "N F"], target: Int[Tensor, "B"]
) -> None:
    items, colour = target.unique(return_inverse=True)
    points, stars = plane(preference, semantic[items - 1])
    colours = [f"C{place}" for place in range(len(items))]
    axis.scatter(*points.T, c=[colours[place] for place in colour], s=14, alpha=0.7, label="preference of a history")
    edges: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.6}
    axis.scatter(*stars.T, c=colours, marker="*", s=150, label="item that comes next", **edges)
    axis.set(xticks=[], yticks=[])


def _etegrec(lab: Lab, name: str) -> Etegrec:
    model = lab.recommender(name)
    assert isinstance(model, Etegrec)
    return model.eval()
