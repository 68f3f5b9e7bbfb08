"""DECOR's token composition: which codes take part in it (table 3), and what it makes of a prefix (figure 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmarks.analyses import Finding, Lab
from benchmarks.analyses.plane import plane
from benchmarks.hardware import BATCH
from data_prep.batches import Batches
from leaderboards.plots import grouped, panels
from leaderboards.published import utilisation as stated
from models.decor import Config, Decor

# Of the prefixes that most items share: those in the table, and the histories at most by which each is composed.
PREFIXES, CONTEXTS = 8, 300
# Next codes that have a colour of their own.
COLOURS = 8
LENGTH = 2


def utilisation(lab: Lab) -> Finding:
    """Share of the codes of each level that an item has, or that a test history composes with at least 1/V."""
    name = lab.one("decor")
    model = _decor(lab, name)
    histories = Batches(lab.corpus.examples("test"), BATCH, model.history_length, model.device)
    with torch.inference_mode():
        per_batch = [model.composition_weights(batch.history) for batch in histories]
    assigned = model.generator.index.usage()
    rows, shares = [], []
    for level, weights in enumerate(torch.cat(parts).double().cpu() for parts in zip(*per_batch, strict=True)):
        uniform = 1 / weights.shape[1]
        by_level = {
            "assigned to an item": assigned[level] > 0,
            "composed for some user": weights.amax(0) >= uniform,
            "composed on average": weights.mean(0) >= uniform,
        }
        rows.append({"Level": level + 1, **{title: float(used.float().mean()) for title, used in by_level.items()}})
        shares.append(weights.mean(0).sort(descending=True).values / uniform)
    published = {title: pd.Series(shares) for title, shares in stated(lab.corpus.name).items()}
    table = pd.DataFrame(rows).assign(**published)
    figure, (bars, curves) = panels("Codes in use", "Mean composition weight, codes in order")
    titles = list(table.columns[1:])
    grouped(bars, table["Level"], {title: table[title] for title in titles})
    bars.set_xticks(table["Level"])
    bars.set(xlabel="level", ylabel="share of codes")
    figure.legend(titles, loc="outside lower left", fontsize=8, frameon=False, ncols=len(titles))
    for level, share in enumerate(shares, 1):
        curves.plot(np.arange(1, len(share) + 1), share, label=f"level {level}")
    curves.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    curves.set(xlabel="code, heaviest first", ylabel="weight x V (uniform: 1)", yscale="log")
    curves.legend(fontsize=8, frameon=False)
    says = (
        f"Utilisation of token embeddings by {name}, seed {lab.seed}. A code is in use by assignment, as in TIGER, "
        "where an item has it; by composition where its weight (Eq. 16) is at least uniform, 1/V, for at least one "
        "test history, or in the mean over all of them. The paper (table 3) filters out codes whose weight stays below "
        "uniform and does not say over which histories."
    )
    return Finding(table, figure, says)


def prefixes(lab: Lab) -> Finding:
    """Prefixes of two codes that many items share: their decoder inputs, static and composed, beside the next codes."""
    name = lab.one("decor")
    levels = _config(lab, name).tokenizer.levels
    if levels < LENGTH:
        raise ValueError(
            f"{name} has codes of {levels} level and a suffix; expected a code behind prefixes of {LENGTH}"
        )
    model = _decor(lab, name)
    codes = model.generator.index.codes[1:, 0].cpu()
    distinct, of_item, count = codes[:, :LENGTH].unique(dim=0, return_inverse=True, return_counts=True)
    examples = lab.corpus.examples("train")
    rows, drawn = [], None
    for prefix in count.argsort(descending=True, stable=True)[:PREFIXES].tolist():
        chosen = np.flatnonzero((of_item[examples.target - 1] == prefix).numpy())
        if not len(chosen):
            continue
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:CONTEXTS])
        some = examples.take(chosen)
        (batch,) = Batches(some, len(some), model.history_length, model.device)
        static, composed = _prefix_vectors(model, batch.history, distinct[prefix].to(model.device))
        legal, true = codes[of_item == prefix][:, LENGTH].unique(), codes[batch.target.cpu() - 1, LENGTH]
        following = model.generator.vectors()[LENGTH][legal.to(model.device)].detach()
        right = (legal == true[:, None]).to(model.device)
        row: dict[str, Any] = {"Prefix": str(tuple(distinct[prefix].tolist())), "Items": int(count[prefix])}
        row |= {"Next codes": len(legal), "Histories": len(true)}
        for title, vectors in (("static", static.expand_as(composed)), ("composed", composed)):
            cosine = F.cosine_similarity(vectors[:, None], following[None], dim=2)
            row[f"{title}: cosine to the true next code"] = float(cosine[right].mean())
            row[f"{title}: to the others"] = float(cosine[~right].mean())
            nearest = right.gather(1, cosine.argmax(1, keepdim=True))
            row[f"{title}: true one nearest"] = float(nearest.float().mean())
        rows.append(row)
        drawn = drawn or (row["Prefix"], static, composed, following, legal, true)
    if drawn is None:
        raise ValueError(f"no training pair of {lab.corpus.name} has a target under a shared prefix; expected some")
    says = (
        f"Prefixes of {LENGTH} codes that most items share, as decoder inputs of {name}, seed {lab.seed}. A prefix's "
        "vector is the mean of its codes' vectors: one for all users where it is static, one per history where it is "
        f"composed (Eq. 18). Histories: at most {CONTEXTS} training pairs whose target has the prefix. The picture has "
        "the first prefix, as t-SNE by cosine of all that it shows; colours are true next codes."
    )
    return Finding(pd.DataFrame(rows), _scatter(*drawn), says)


@torch.no_grad()
def _prefix_vectors(
    model: Decor, history: Int[Tensor, "B T"], prefix: Int[Tensor, "l"]
) -> tuple[Float[Tensor, "1 D"], Float[Tensor, "B D"]]:
    """A prefix as the decoder reads it: static, and composed by each history."""
    composition = model.generator.read(history).composition
    assert composition is not None
    own = torch.stack([vectors[code] for vectors, code in zip(model.generator.vectors(), prefix, strict=False)])
    inner = slice(1, 1 + len(prefix))
    composed = composition.keep[inner, None] * own + composition.added[:, inner]
    return own.mean(0, keepdim=True), composed.mean(1)


def _scatter(title: str, static: Tensor, composed: Tensor, following: Tensor, legal: Tensor, true: Tensor) -> Any:
    star, points, triangles = plane(static, composed, following)
    figure, axes = panels(f"Prefix {title}, static", f"Prefix {title}, composed by history")
    often = true.unique(return_counts=True)
    shown = often[0][often[1].argsort(descending=True, stable=True)][:COLOURS].tolist()
    colours = [f"C{shown.index(code)}" if code in shown else "lightgrey" for code in true.tolist()]
    marks = [f"C{shown.index(code)}" if code in shown else "grey" for code in legal.tolist()]
    edges: dict[str, Any] = {"marker": "^", "s": 45, "edgecolors": "black", "linewidths": 0.5}
    for axis in axes:
        axis.scatter(triangles[:, 0], triangles[:, 1], c=marks, label="next code", **edges)
        axis.set(xticks=[], yticks=[])
    axes[1].sharex(axes[0])
    axes[1].sharey(axes[0])
    axes[0].scatter(star[:, 0], star[:, 1], c="black", marker="*", s=140, label="prefix")
    axes[1].scatter(points[:, 0], points[:, 1], c=colours, s=9, alpha=0.7, label="prefix of a history")
    for axis in axes:
        axis.legend(fontsize=8, frameon=False)
    return figure


def _config(lab: Lab, name: str) -> Config:
    config = lab.experiment(name).config
    if not isinstance(config, Config) or not config.alpha:
        raise ValueError(f"{name} composes no tokens; expected an experiment of decor with alpha above 0")
    return config


def _decor(lab: Lab, name: str) -> Decor:
    _config(lab, name)
    model = lab.recommender(name)
    assert isinstance(model, Decor)
    return model.eval()
