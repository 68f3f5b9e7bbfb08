"""How codes are used (PIT's figure 4), before training and after it, and what PIT's one-to-many index looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.analyses import Finding, Lab
from benchmarks.analyses.ladder_gradings import tokenizer_codes
from benchmarks.hardware import BATCH
from benchmarks.record_fields import BEAMS
from data_prep.batches import Batches
from leaderboards.plots import grouped, panels
from models.parts.index import ItemIndex
from models.pit import Pit

# What the analyses of PIT are about.
BEAM_INDEX = ("pit", "beam index")

# An RQ-VAE, that from which PIT starts, and residual k-means of item-to-item vectors.
TOKENIZERS = ("tiger", "pit", "pit-rq-kmeans")


def entropy(lab: Lab) -> Finding:
    """Codeword distribution of each level and its entropy, of tokenizers as they are before any recommender."""
    usage = {name: _quantised(lab.index(name)) for name in lab.chosen(*TOKENIZERS)}
    levels = max(map(len, usage.values()))
    rows = []
    for title, counts in usage.items():
        nats = [_entropy(count) for count in counts]
        row: dict[str, Any] = {"Tokenizer": title}
        lacking = [np.nan] * (levels - len(counts))
        row |= {f"Entropy {level}": value for level, value in enumerate(nats + lacking, 1)}
        in_use = [f"{int((count > 0).sum())}" for count in counts]
        rows.append(row | {"Average": float(np.mean(nats)), "Codes in use": ", ".join(in_use)})
    table = pd.DataFrame(rows)
    figure, (*curves, bars) = panels(*(f"Level {level + 1}" for level in range(levels)), "Average entropy", width=3.4)
    for level, axis in enumerate(curves):
        for title, counts in usage.items():
            if level >= len(counts):
                continue
            share = counts[level].sort(descending=True).values / counts[level].sum()
            axis.plot(np.arange(1, len(share) + 1), share, label=title)
        axis.set(xlabel="code, most frequent first", yscale="log")
    curves[0].set_ylabel("share of items")
    bars.bar(np.arange(len(table)), table["Average"], color=[f"C{place}" for place in range(len(table))])
    most = np.log(max(len(count) for counts in usage.values() for count in counts))
    bars.axhline(most, color="grey", linewidth=0.8, linestyle=":")
    bars.set(ylabel="nats", xticks=[])
    figure.legend(*curves[0].get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=3)
    says = (
        f"Use of codes by tokenizers, seed {lab.seed}, before any recommender is trained. Entropy: of the codes of a "
        f"level over items, in nats, at most the log of the largest codebook's size ({most:.3f}); average: over a "
        "tokenizer's levels. Codes in use: per level. A suffix that tells items of equal codes apart is no level."
    )
    return Finding(table, figure, says)


def density(lab: Lab) -> Finding:
    """Codes in use and their entropy, level by level: the static codes that PIT starts from, and its index at the end.

    Raises:
        ValueError: an experiment is not of PIT, or has other levels than another.
    """
    names = lab.chosen("pit")
    lab.check_model(names, *BEAM_INDEX)
    several = {name: lab.experiment(name).config.tokenizer.levels for name in names}
    if len(set(several.values())) > 1:
        raise ValueError(f"the experiments have other numbers of levels ({several}); expected one, for one picture")
    rows: list[dict[str, Any]] = []
    in_use, bits = dict[str, list[float]](), dict[str, list[float]]()
    for name in names:
        model = _pit(lab, name)
        final = model.generator.index
        static = [codes.bincount(minlength=size) for codes, size in zip(_static(model).T, final.sizes, strict=True)]
        for title, counts in ((f"{name}, static", static), (f"{name}, dynamic", final.usage())):
            in_use[title] = [float((count > 0).float().mean()) for count in counts]
            bits[title] = [_entropy(count) / np.log(2) for count in counts]
            row = {"Index": title, **{f"In use {level}": share for level, share in enumerate(in_use[title], 1)}}
            row |= {f"Bits {level}": value for level, value in enumerate(bits[title], 1)}
            rows.append(row | {"Mean bits": float(np.mean(bits[title]))})
    levels = np.arange(1, len(final.sizes) + 1)
    figure, (bars, curves) = panels("Codes in use", "Entropy of codes")
    grouped(bars, levels, in_use)
    for values in bits.values():
        curves.plot(levels, values, marker="o")
    curves.plot(levels, np.log2(final.sizes), color="grey", linewidth=0.8, linestyle=":")
    for axis, label in ((bars, "share of codes"), (curves, "bits")):
        axis.set(xlabel="level", ylabel=label, xticks=levels)
    figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=4)
    says = (
        f"Codes of items in the static index from which PIT starts and in the dynamic one that it has after training, "
        f"seed {lab.seed}. In use: share of a level's codes that a sequence has. Bits: entropy of the codes of a level "
        "over all sequences; dotted: the most that is possible."
    )
    return Finding(pd.DataFrame(rows), figure, says)


def index(lab: Lab) -> Finding:
    """Edges of the trained index, its churn while it evolved, and the different items on a beam's list.

    Raises:
        ValueError: an experiment is not of PIT.
    """
    names = lab.chosen("pit", "pit-coevolving")
    lab.check_model(names, *BEAM_INDEX)
    figure, (per_item, per_sequence, churned) = panels("Sequences per item", "Items per sequence", "Churn")
    rows, of_items, of_sequences = [], dict[str, Tensor](), dict[str, Tensor]()
    for name in names:
        model = _pit(lab, name)
        codes, churn = model.generator.index.codes.cpu(), _churn(model)
        held = (codes[1:, :, 0] >= 0).sum(1)
        named = codes[codes[..., 0] >= 0].unique(dim=0, return_counts=True)[1]
        row: dict[str, Any] = {"Experiment": name, "Sequences per item": float(held.float().mean())}
        row |= {"Items per sequence": float(named.float().mean()), "Most": int(named.max())}
        row["Average entropy"] = float(np.mean([_entropy(count) for count in model.generator.index.usage()]))
        row["Churn, first and last"] = ", ".join(f"{float(churn[end]):.1%}" for end in (0, -1))
        row |= {f"Different items, beam {width}": _different(lab, model, width) for width in BEAMS}
        rows.append(row)
        of_items[name], of_sequences[name] = held, named
        churned.plot(np.arange(1, len(churn) + 1), churn, marker=".", label=name)
    _histograms(per_item, of_items)
    _histograms(per_sequence, of_sequences)
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


def _quantised(index: ItemIndex) -> list[Float[Tensor, "_"]]:
    """How many items have each code, of each level that quantises something."""
    return index.usage()[: tokenizer_codes(index).shape[1]]


def _entropy(count: Tensor) -> float:
    return float(torch.special.entr(count / count.sum()).sum())


@torch.inference_mode()
def _different(lab: Lab, model: Pit, width: int) -> float:
    histories = Batches(lab.corpus.examples("test"), BATCH, model.history_length, model.device)
    found = [(model.generator.beam(batch.history, width, width).items > 0).sum(1) for batch in histories]
    return float(torch.cat(found).float().mean())


def _histograms(axis: Any, values: dict[str, Tensor]) -> None:
    places = np.arange(1 + max(int(each.max()) for each in values.values()))
    grouped(axis, places, {label: each.bincount(minlength=len(places)).numpy() for label, each in values.items()})


def _static(model: Pit) -> Int[Tensor, "N L"]:
    """The codes of the static tokenizer, one sequence per item."""
    return model.get_buffer("start_codes")[1:].cpu()


def _churn(model: Pit) -> Float[Tensor, "_"]:
    """Share of items whose heaviest sequence was another than before, of each epoch of the chosen state."""
    return model.churn[model.churn >= 0].cpu()


def _pit(lab: Lab, name: str) -> Pit:
    model = lab.recommender(name)
    assert isinstance(model, Pit)
    return model.eval()
