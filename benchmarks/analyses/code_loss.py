"""What a generative model has learned of the codes of the next item, level by level, beside popularity.

Ranks say how good a model is, and not why it is no better. A loss that is as high on the training part as on the others
is that of a model that has trained too little; one that is far lower there, of one that has learned by heart. A level
that popularity predicts better is one at which the model does not know yet which codes follow one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.analyses import Finding, Lab
from benchmarks.analyses.ladder_gradings import loss_temperature
from benchmarks.hardware import BATCH
from data_prep.batches import Batches
from data_prep.corpus import Examples, Part
from leaderboards.plots import grouped, panels
from models.api import Recommender, generator_of
from models.parts.generator import CodeGenerator

PARTS: tuple[Part, ...] = ("train", "valid", "test")
# Examples of each part at most.
SAMPLE = 5_000
POPULARITY = "popularity"


def code_loss(lab: Lab) -> Finding:
    """Cross-entropy of each code of the next item given those before it, in nats, on every part.

    Raises:
        FileNotFoundError: the weights of the row are not there.
        ValueError: a model does not generate one code sequence for each item; of a row, as `Lab.recalled`.
    """
    if lab.row is None:
        generators = {name: _coded(name, lab.recommender(name)) for name in lab.chosen("tiger")}
    else:
        run, recommender = lab.recalled(lab.row)
        generators = {run.record.experiment: _coded(run.record.experiment, recommender)}
    counts = torch.from_numpy(lab.corpus.training_counts()[1:])
    rows: list[dict[str, Any]] = []
    for name, (recommender, generator) in generators.items():
        popular = popularity_loss(generator.index.codes[1:, 0].cpu(), counts)
        for part in PARTS:
            examples = _sample(lab.corpus.examples(part))
            target = torch.from_numpy(examples.target.astype(np.int64))
            rows.append(_line(name, part, learned_loss(recommender, generator, examples)))
            rows.append(_line(f"{POPULARITY}, codes of {name}", part, popular[target - 1].mean(0)))
    table = pd.DataFrame(rows)
    figure, axes = panels(*PARTS)
    levels = [column for column in table.columns if column.startswith("Code ")]
    for axis, part in zip(axes, PARTS, strict=True):
        of_part = table[table["Part"] == part]
        bars = {line["Experiment"]: [line[level] for level in levels] for line in of_part.to_dict("records")}
        grouped(axis, np.arange(len(levels)), bars)
        axis.set_xticks(np.arange(len(levels)), levels)
    axes[0].set_ylabel("nats")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    says = (
        "Cross-entropy of each code of the next item, given the history and the codes before it, in nats, by teacher "
        f"forcing, on {SAMPLE:,} examples of each part at most, LETTER's under the temperature of its training; all "
        f"codes: their sum. {POPULARITY.capitalize()} knows "
        "how often items occur in training, with one added, and the codes of all of them: below it at a level is who "
        "knows more than that."
    )
    return Finding(table, figure, says, next(iter(generators)) if len(generators) == 1 else "")


def _coded(name: str, recommender: Recommender) -> tuple[Recommender, CodeGenerator]:
    generator = generator_of(recommender)
    if not isinstance(generator, CodeGenerator) or generator.index.codes.shape[1] > 1:
        raise ValueError(f"{name} does not generate one code sequence for each item, as expected")
    return recommender, generator


def _sample(examples: Examples) -> Examples:
    return examples.take(np.random.default_rng(0).permutation(len(examples))[:SAMPLE])


@torch.inference_mode()
def learned_loss(recommender: Recommender, generator: CodeGenerator, examples: Examples) -> Float[Tensor, "L"]:
    """Of each level, the mean over examples, under the temperature by which the model has learned: LETTER's own."""
    recommender.eval()
    temperature, losses = loss_temperature(recommender), []
    for batch in Batches(examples, BATCH, recommender.history_length, recommender.device):
        labels = generator.item_tokens(batch.target)
        states = generator.states(labels, generator.read(batch.history))
        losses.append(-generator.chosen(states, labels, temperature))
    return torch.cat(losses).mean(0)


def popularity_loss(codes: Int[Tensor, "N L"], counts: Int[Tensor, "N"]) -> Float[Tensor, "N L"]:
    """Of each item's codes, when items are drawn in proportion to `counts` + 1."""
    share = (counts + 1).double() / (counts + 1).sum()
    losses, before = [], torch.ones_like(share)
    for level in range(codes.shape[1]):
        _, prefix = codes[:, : level + 1].unique(dim=0, return_inverse=True)
        of_prefix = torch.zeros_like(share).index_add_(0, prefix, share)[prefix]
        losses.append((before / of_prefix).log())
        before = of_prefix
    return torch.stack(losses, 1).float()


def _line(name: str, part: Part, losses: Float[Tensor, "L"]) -> dict[str, Any]:
    levels = {f"Code {level}": value for level, value in enumerate(losses.tolist(), 1)}
    return {"Experiment": name, "Part": part, **levels, "All codes": float(losses.sum())}
