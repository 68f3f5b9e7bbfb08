"""Training of TIGER: ours, through the harness's pieces, beside loops over transformers' T5, on the same pairs.

Items get random codes: speed does not depend on which they are, and no tokenizer has to be trained first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks.commands.options import WORK
from benchmarks.execution import worker_process
from benchmarks.execution.cell import silence_lightning
from benchmarks.hardware import Hardware
from benchmarks.perf import Pair, Turns, in_turn, pair, seconds
from benchmarks.settings import prepared
from benchmarks.training.bf16_plugin import Bf16
from benchmarks.training.checkpoint_callback import Watcher
from benchmarks.training_precision import choose
from data_prep.batches import Batches
from data_prep.corpus import Batch, Corpus
from models.letter import Letter
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import suffixed
from models.tiger import Config, Tiger

# Batches of a repetition, out of an epoch in order of length. On Musical_Instruments eight have the epoch's mean length
# within 2%.
CPU_BATCHES, CUDA_BATCHES = 8, 128
WARM_UP = 2
REPEATS = 3
SEEDS = 5
# How long a process waits for the others to load.
PATIENCE_SECONDS = 600
LEVELS = 4
CLIP = 1.0
CPU = torch.device("cpu")
# The models whose recommender is T5 and nothing else.
Plain = Tiger | Letter
# What the Makefile asks of glibc: memory in large pages.
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"


@dataclass(frozen=True)
class Setting:
    """What is trained, where, and for how many batches."""

    corpus: Corpus
    hardware: Hardware
    batches: int
    config: Config = field(default_factory=Config)


class Spread(Batches):
    """`count` batches of an epoch in order of length, evenly spread: all lengths in their shares. Where `mixed`, their
    pairs in batches at random, as we train on them."""

    def __init__(self, setting: Setting, count: int, history: int | None = None, mixed: bool = False) -> None:
        config = setting.config
        examples = setting.corpus.examples("train")
        super().__init__(examples, config.batch_size, history or config.history, setting.hardware.device)
        self.count, self.mixed = min(count, super().__len__()), mixed

    def __len__(self) -> int:
        return self.count

    def rows(self) -> list[Int[Tensor, "_"]]:
        rows = super().rows()
        spread = [rows[(2 * place + 1) * len(rows) // (2 * self.count)] for place in range(self.count)]
        if not self.mixed:
            return spread
        pairs = torch.cat(spread)
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
        return list(pairs[order].tensor_split(self.count))

    @property
    def samples(self) -> int:
        return sum(map(len, self.rows()))


class Padded(NamedTuple):
    """Tokens `[B, S]` and mask `[B, S]`, as wide as the longest possible input, and labels `[B, L]`."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def cut(self) -> Padded:
        """As wide as the longest of its own inputs."""
        width = int(self.attention_mask.sum(1).max())
        return Padded(self.input_ids[:, :width], self.attention_mask[:, :width], self.labels)


# A side of a pair: made for a setting and warmed up, it trains on the setting's pairs once.
Side = Callable[[Setting], Callable[[], object]]


def train_cpu() -> list[Pair]:
    """Samples per second of training on this machine's CPU, and seconds of an epoch of trainings on all its cores."""
    setting = Setting(load("beauty_2014"), fast(Hardware("cpu")), CPU_BATCHES)
    exact, samples = replace(setting, hardware=Hardware("cpu")), Spread(setting, CPU_BATCHES, mixed=True).samples
    found = []
    for name, baseline, note in (
        ("train_cpu", padded, _plain(setting)),
        ("train_cpu_expert", bucketed, "loop over transformers' T5 in bf16, batches of inputs of similar length"),
        ("train_cpu_32", lambda _: trained(exact), "ours in float32"),
    ):
        turns = compare(setting, baseline)
        rates = Turns(*([samples / value for value in side] for side in turns))
        found.append(pair(name, rates, "samples/s", f"{note}; {_note(setting)}"))
    pairs, cores = len(setting.corpus.examples("train")), len(os.sched_getaffinity(0))
    epochs = in_turn(lambda: pairs / at_once(setting, cores), lambda: pairs / at_once(exact, cores), 1)
    note = f"ours in float32; an epoch of {setting.corpus.name} at the rate of {cores} trainings at once"
    return [*found, pair("train_cpu_epoch", epochs, "s", note)]


def huge_pages() -> list[Pair]:
    """Samples per second of training in memory of large pages, as `make` has it, and without."""
    setting = Setting(load("beauty_2014"), fast(Hardware("cpu")), CPU_BATCHES)
    turns = in_turn(partial(_tuned, setting, HUGE_PAGES), partial(_tuned, setting, ""), REPEATS)
    return [pair("huge_pages", turns, "samples/s", f"ours without {TUNABLES}={HUGE_PAGES}; {_note(setting)}")]


def _tuned(setting: Setting, tunables: str) -> float:
    """Samples per second of a process that begins under such tunables: glibc reads them at its start alone."""
    before = os.environ.get(TUNABLES, "")
    os.environ[TUNABLES] = tunables
    try:
        return at_once(setting, 1)
    finally:
        os.environ[TUNABLES] = before


def train_cuda() -> list[Pair]:
    """Seconds of an epoch on the GPU, and samples per second of five seeds trained there at once."""
    setting = Setting(load("musical_instruments"), fast(Hardware()), CUDA_BATCHES)
    epoch = len(setting.corpus.examples("train")) / Spread(setting, CUDA_BATCHES, mixed=True).samples
    epochs = Turns(*([value * epoch for value in side] for side in compare(setting, padded)))
    together = in_turn(lambda: at_once(setting, SEEDS), lambda: at_once(setting, 1), REPEATS)
    return [
        pair("train_cuda", epochs, "s", f"{_plain(setting)}, in bf16; {_note(setting)}, scaled to an epoch"),
        pair("train_cuda_seeds", together, "samples/s", f"one seed alone, against {SEEDS} seeds in as many processes"),
    ]


def fast(hardware: Hardware) -> Hardware:
    """In the precision that a bench chooses there at the papers' sizes."""
    return replace(hardware, precision=choose("auto", hardware.device, small=False))


def load(corpus: str) -> Corpus:
    """A corpus where GRBENCH_DATA has it, else the planted one."""
    try:
        return prepared(WORK, corpus, "local")
    except FileNotFoundError:
        return prepared(WORK, "planted", "auto")


def compare(setting: Setting, baseline: Side) -> Turns:
    """Seconds that both sides take for the same pairs."""
    first, second = trained(setting), baseline(setting)
    return in_turn(partial(seconds, first), partial(seconds, second), REPEATS)


def trained(setting: Setting) -> Callable[[], object]:
    """Ours."""
    module = tiger(setting)
    ours(module, Spread(setting, WARM_UP, mixed=True), setting.hardware)
    return lambda: ours(module, Spread(setting, setting.batches, mixed=True), setting.hardware)


def padded(setting: Setting) -> Callable[[], object]:
    """A plain loop; in bf16 on a GPU alone."""
    return _looping(setting, lambda batch: batch, bf16=setting.hardware.device != CPU)


def bucketed(setting: Setting) -> Callable[[], object]:
    """The loop of somebody who knows how, but for batches at random."""
    return _looping(setting, Padded.cut, bf16=True)


def _looping(setting: Setting, form: Callable[[Padded], Padded], bf16: bool) -> Callable[[], object]:
    device, module = setting.hardware.device, tiger(setting)
    t5 = transformers_t5(setting.config.t5, module.generator.end + 1).to(device)
    optimizer = torch.optim.AdamW(t5.parameters(), lr=setting.config.lr)
    on_cpu = Spread(replace(setting, hardware=Hardware("cpu")), setting.batches)
    batches = [Padded(*(tensor.to(device) for tensor in form(pad(module, batch)))) for batch in on_cpu]
    plain_loop(t5, optimizer, batches[:WARM_UP], bf16)
    return lambda: plain_loop(t5, optimizer, batches, bf16)


def ours(module: Tiger, batches: Batches, hardware: Hardware, watchers: Sequence[Watcher] = ()) -> None:
    """One pass of Lightning's Trainer over batches, with the options of `benchmarks.training.fit`."""
    trainer = pl.Trainer(
        accelerator=hardware.accelerator,
        devices=1,
        plugins=[Bf16(hardware.device.type)] if hardware.precision == "bf16-mixed" else [],
        max_epochs=1,
        gradient_clip_val=CLIP,
        callbacks=[*watchers],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, batches)


def plain_loop(t5: nn.Module, optimizer: torch.optim.Optimizer, batches: list[Padded], bf16: bool) -> None:
    """One pass as the libraries' documentation has it."""
    t5.train()
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast(batch.labels.device.type, torch.bfloat16, enabled=bf16):
            loss = t5(**batch._asdict()).loss
        loss.backward()
        nn.utils.clip_grad_norm_(t5.parameters(), CLIP)
        optimizer.step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def tiger(setting: Setting) -> Tiger:
    """A fresh model over random codes."""
    torch.manual_seed(0)
    size = setting.config.tokenizer.codes
    return Tiger(setting.config, suffixed(torch.randint(size, (setting.corpus.items, LEVELS - 1)), size))


def transformers_t5(sizes: T5Sizes, tokens: int) -> nn.Module:
    """The library's model of the same sizes."""
    config: dict[str, Any] = {
        "vocab_size": tokens,
        "d_model": sizes.width,
        "d_ff": sizes.inner,
        "d_kv": sizes.head_width,
        "num_heads": sizes.heads,
        "num_layers": sizes.encoder_layers,
        "num_decoder_layers": sizes.decoder_layers,
        "dropout_rate": sizes.dropout,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "eos_token_id": tokens - 1,
    }
    return T5ForConditionalGeneration(T5Config(**config))


def pad(module: Plain, batch: Batch) -> Padded:
    """The pairs of a batch as tokens, as wide as any batch can be."""
    tokens = module.generator.item_tokens(batch.history).flatten(1)
    longest = module.history_length * module.generator.index.levels + 1
    tokens = F.pad(tokens, (0, longest - tokens.shape[1]))
    tokens = tokens.scatter(1, (tokens > 0).sum(1, keepdim=True), module.generator.end)
    return Padded(tokens, (tokens > 0).long(), module.generator.item_tokens(batch.target))


def at_once(setting: Setting, seeds: int) -> float:
    """Samples per second of so many trainings together, each in a process of its own."""
    context = get_context("spawn")
    barrier = context.Barrier(seeds)
    with ProcessPoolExecutor(seeds, context, initializer=_meet_at, initargs=(barrier,)) as pool:
        spans = list(pool.map(_train_one, [setting] * seeds))
    samples, starts, stops = zip(*spans, strict=True)
    return sum(samples) / (max(stops) - min(starts))


# Where the processes of `at_once` wait for one another; set in each of them.
_barrier: Any = None


def _meet_at(barrier: Any) -> None:
    global _barrier
    _barrier = barrier
    worker_process.end_with_parent()
    silence_lightning()


def _train_one(setting: Setting) -> tuple[int, float, float]:
    """Samples, and when they began and ended, by the clock that all processes of a machine share."""
    setting.hardware.set_num_threads()
    module, chosen = tiger(setting), Spread(setting, setting.batches, mixed=True)
    ours(module, Spread(setting, WARM_UP, mixed=True), setting.hardware)
    _barrier.wait(PATIENCE_SECONDS)
    start = time.perf_counter()
    ours(module, chosen, setting.hardware)
    return chosen.samples, start, time.perf_counter()


def _plain(setting: Setting) -> str:
    return f"plain loop over transformers' T5 with every input padded to {setting.config.history * LEVELS + 1} tokens"


def _note(setting: Setting) -> str:
    return (
        f"TIGER of default sizes, {setting.batches} batches of {setting.config.batch_size} pairs of "
        f"{setting.corpus.name} spread over all lengths, random codes; ours in {setting.hardware.precision} and in "
        "random batches"
    )
