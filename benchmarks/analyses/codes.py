"""How codes are used (PIT's figure 4), and what its one-to-many index looks like after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.analyses import Finding, Lab
from benchmarks.evaluate import BATCH
from benchmarks.facts import BEAMS
from data_prep.batches import Batches
from leaderboards.plots import panels
from models.pit import Pit

TOKENIZERS = {"tiger": "RQ-VAE (tiger)", "pit-no-i2i": "RQ-k-means (pit-no-i2i)", "pit": "PIT's warm start (pit)"}


def entropy(lab: Lab) -> Finding:
    """Codeword distribution of each level and its entropy, of tokenizers as they are before any recommender."""
    names = lab.names or tuple(TOKENIZERS)
    usage = {TOKENIZERS.get(name, name): lab.index(name).usage() for name in names}
    # A level that only some have, TIGER's suffix for one, quantises nothing.
    levels = min(map(len, usage.values()))
    rows = []
    for title, counts in usage.items():
        nats = [_entropy(count) for count in counts[:levels]]
        row: dict[str, Any] = {"Tokenizer": title}
        row |= {f"Entropy {level}": value for level, value in enumerate(nats, 1)}
        in_use = [f"{int((count > 0).sum())}" for count in counts[:levels]]
        rows.append(row | {"Average": float(np.mean(nats)), "Codes in use": ", ".join(in_use)})
    table = pd.DataFrame(rows)
    figure, (*curves, bars) = panels(*(f"Level {level + 1}" for level in range(levels)), "Average entropy", width=3.4)
    for level, axis in enumerate(curves):
        for title, counts in usage.items():
            share = counts[level].sort(descending=True).values / counts[level].sum()
            axis.plot(np.arange(1, len(share) + 1), share, label=title)
        axis.set(xlabel="code, most frequent first", yscale="log")
    curves[0].set_ylabel("share of items")
    bars.bar(np.arange(len(table)), table["Average"], color=[f"C{place}" for place in range(len(table))])
    most = np.log(len(next(iter(usage.values()))[0]))
    bars.axhline(most, color="grey", linewidth=0.8, linestyle=":")
    bars.set(ylabel="nats", xticks=[])
    figure.legend(*curves[0].get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=3)
    says = (
        f"Use of codes by tokenizers, seed {lab.seed}, before any recommender is trained. Entropy: of the codes of a "
        f"level over items, in nats, at most the log of the codebook's size ({most:.3f}); average: over the levels. "
        "Codes in use: per level."
    )
    return Finding(table, figure, says)


def index(lab: Lab) -> Finding:
    """Edges of the trained index, its churn while it evolved, and the different items on a beam's list."""
    names = lab.names or ("pit", "pit-coevolving")
    figure, (per_item, per_sequence, churned) = panels("Sequences per item", "Items per sequence", "Churn")
    rows = []
    for place, name in enumerate(names):
        model = _pit(lab, name)
        held = (model.codes[1:, :, 0] >= 0).sum(1).cpu()
        named = model.codes[model.codes[..., 0] >= 0].unique(dim=0, return_counts=True)[1].cpu()
        churn = model.churn[model.churn >= 0].cpu()
        row: dict[str, Any] = {"Experiment": name, "Sequences per item": float(held.float().mean())}
        row |= {"Items per sequence": float(named.float().mean()), "Most": int(named.max())}
        row["Average entropy"] = float(np.mean([_entropy(count) for count in model.generator.index.usage()]))
        row["Churn, first and last"] = ", ".join(f"{float(churn[end]):.1%}" for end in (0, -1))
        row |= {f"Different items, beam {width}": _different(lab, model, width) for width in BEAMS}
        rows.append(row)
        _histogram(per_item, held, place, len(names), name)
        _histogram(per_sequence, named, place, len(names), name)
        churned.plot(np.arange(1, len(churn) + 1), churn, marker=".", label=name)
    per_item.set(xlabel="sequences", ylabel="items")
    per_sequence.set(xlabel="items", ylabel="sequences", yscale="log")
    churned.set(xlabel="epoch", ylabel="items with another heaviest sequence", ylim=(0, None))
    churned.legend(fontsize=8, frameon=False)
    says = (
        f"The beam index after training, seed {lab.seed}. Most: items that one sequence names. Churn: share of items "
        "whose heaviest sequence was another than before, per epoch of the co-evolution up to the chosen one. "
        "Different items: on the list of a beam with the trie, mean over test users."
    )
    return Finding(pd.DataFrame(rows), figure, says)


def _entropy(count: Tensor) -> float:
    return float(torch.special.entr(count / count.sum()).sum())


@torch.inference_mode()
def _different(lab: Lab, model: Pit, width: int) -> float:
    histories = Batches(lab.corpus.examples("test"), BATCH, model.history_length, model.device)
    found = [(model.generator.beam(batch.history, width, width).items > 0).sum(1) for batch in histories]
    return float(torch.cat(found).float().mean())


def _histogram(axis: Any, values: Tensor, place: int, of: int, label: str) -> None:
    count = values.bincount().numpy()
    axis.bar(np.arange(len(count)) + (place - of / 2 + 0.5) * 0.8 / of, count, 0.8 / of, label=label)


def _pit(lab: Lab, name: str) -> Pit:
    model = lab.recommender(name)
    if not isinstance(model, Pit):
        raise ValueError(f"{name} has no beam index; expected an experiment of pit")
    return model.eval()
