"""A training step of the other code models beside TIGER's, on the same pairs: default sizes, batches of one size.

Items get random codes and vectors: the cost of a step does not depend on which they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from benchmarks.hardware import Hardware
from benchmarks.perf import Pair, in_turn, pair, seconds
from benchmarks.perf.train import CLIP, CPU_BATCHES, REPEATS, WARM_UP, Setting, Spread, load, tiger
from data_prep.corpus import Batch
from models import decor, etegrec, letter, pit
from models.api import Recommender
from models.parts.index import ItemIndex
from models.parts.rqvae import RqVae

# Width of the vectors that ETEGRec is given.
VECTORS = 256


def step_cpu(setting: Setting | None = None) -> list[Pair]:
    """Seconds per step on the CPU, of forward and backward pass, clipping and AdamW."""
    setting = setting or Setting(load("musical_instruments"), Hardware("cpu"), CPU_BATCHES)
    baseline = timer(tiger(setting), setting)
    described = f"TIGER's, batches of {setting.config.batch_size} pairs of {setting.corpus.name}, default sizes"
    found = []
    for name, module in contenders(setting).items():
        turns = in_turn(timer(module, setting), baseline, REPEATS)
        made = pair(name, turns, "s", described)
        found.append(replace(made, note=f"{1 / made.ratio:.2f} times the cost of {made.note}"))
    return found


def contenders(setting: Setting) -> dict[str, Recommender]:
    """Fresh models; ETEGRec in each turn of its alternation, PIT after its warm-up, with I2T frozen and learning."""
    torch.manual_seed(0)
    items, config = setting.corpus.items, letter.Config()
    codes = torch.randint(config.tokenizer.codes, (items + 1, config.tokenizer.levels))
    codes[0] = -1
    index = ItemIndex(codes, (config.tokenizer.codes,) * config.tokenizer.levels)
    # Of few dimensions in truth: a tokenizer that has only started from k-means gives others too few codes.
    vectors = torch.randn(items + 1, 8) @ torch.randn(8, VECTORS)
    found: dict[str, Recommender] = {"step_letter_cpu": letter.Letter(config, index)}
    for turn in ("recommender", "tokenizer"):
        end_to_end = etegrec.Config()
        module = etegrec.Etegrec(end_to_end, RqVae(end_to_end.tokenizer, vectors))
        module.set_trainable(etegrec.TrainableParts(turn == "tokenizer", turn == "recommender", aligned=True))
        found[f"step_etegrec_{turn}_cpu"] = module
    sizes = decor.Config()
    found["step_decor_cpu"] = decor.Decor(sizes, index, torch.randn(3, sizes.tokenizer.codes, sizes.t5.width))
    for name, learns in (("step_pit_cpu", False), ("step_pit_coevolving_cpu", True)):
        found[name] = pit.Pit(pit.Config(coevolving=learns), index, vectors).evolve(1)
    return found


def timer(module: Recommender, setting: Setting) -> Callable[[], float]:
    """Warms up; what it returns takes the mean seconds of a step."""
    optimizer = torch.optim.AdamW([weight for weight in module.parameters() if weight.requires_grad], fused=True)
    spread = Spread(setting, setting.batches, module.history_length)
    batches = list(spread)
    steps(module, optimizer, batches[:WARM_UP])
    return lambda: seconds(lambda: steps(module, optimizer, batches)) / len(batches)


def steps(module: Recommender, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> None:
    """One pass over batches."""
    module.train()
    for number, batch in enumerate(batches):
        optimizer.zero_grad()
        loss = module.training_step(batch, number)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
