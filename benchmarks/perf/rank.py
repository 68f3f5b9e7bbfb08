"""Ranking by TIGER: certified exact top-10 beside transformers' `generate` and beside our own beam; and the places of
targets, which are all that a row needs, beside the whole lists in which they stand.

All sides have the same weights and users. A beam costs the same for any weights; an exact search costs the more the
more even a model's probabilities are. Hours of training do not fit into a benchmark, so the weights come of a brief one
and are then sharpened by a factor on the logits, to where the search expands as many prefixes as it would under the
probabilities of a converged recommender. `rank_cpu_flat` has the weights without that factor, hardly better than
popularity: the worst case. `rank_row` has the weights of a row, as its whole training left them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from benchmarks.checks.rerank import recall_by_hash
from benchmarks.commands.options import WORK
from benchmarks.evaluate import target_ranks
from benchmarks.hardware import Hardware
from benchmarks.perf import Pair, Turns, in_turn, pair
from benchmarks.perf.train import Plain, load, pad, transformers_t5
from benchmarks.settings import Bench
from benchmarks.training.fit import Fit
from data_prep.batches import Batches
from data_prep.corpus import Batch, Corpus
from data_prep.embed import item_vectors
from leaderboards import store
from leaderboards.metrics import MAX_RANK
from models.api import Budget
from models.decor import Config as DecorConfig
from models.decor import Contextual, Decor
from models.parts.quantize import ResidualQuantizer, kmeans
from models.parts.tokenizer import TokenizerConfig as DecorTokenizer
from models.parts.tokenizer import suffixed
from models.tiger import Config, Tiger

K, WIDTH = 10, 50
USERS_CPU, USERS_CUDA = 256, 4096
BATCH_CPU, BATCH_CUDA = 32, 256
REPEATS = 3
# The training: so many pairs; a corpus that has fewer is gone through more than once.
SAMPLES = 51_200
CONFIG = Config(lr=1e-3, schedule="constant", warmup=100, weight_decay=0.01)
# Expansions per user for the exact top-10 on Musical_Instruments if the probabilities of codes like these were those of
# the board's SASRec there (sums over the items below a prefix); the tenth best item has 0.5% then.
EXPANSIONS = 116
# Part of a composed vector that all but leaves the learned one as it is.
FAINT = 1e-3

BRIEFLY = f"TIGER of default sizes after {SAMPLES:,} pairs"
WITH_TRIE = f"transformers' generate, beam {WIDTH}, prefix_allowed_tokens_fn"

Lists = Int[Tensor, "U K"]


def rank_cpu() -> list[Pair]:
    """Users per second on this machine's CPU."""
    return _compare("rank_cpu", Hardware("cpu", threads=torch.get_num_threads()), USERS_CPU, BATCH_CPU)


def rank_cuda() -> list[Pair]:
    """Users per second on the GPU."""
    return _compare("rank_cuda", Hardware(), USERS_CUDA, BATCH_CUDA)


def rank_row(row: Path, vectors_path: Path | None = None) -> list[Pair]:
    """Users per second with the weights of a row, on this machine's CPU.

    Args:
        row: a record of TIGER's or LETTER's whose weights are in the folder of trainings.
        vectors_path: the item vectors that it was given, where they came from a file or a folder.

    Raises:
        FileNotFoundError: the weights are not there.
        ValueError: it is another model's, which transformers' T5 cannot be.
    """
    hardware = Hardware("cpu", threads=torch.get_num_threads())
    found = recall_by_hash(Bench(store.board_of(row), WORK, vectors_path, hardware), store.read(row))
    model = found.recommender.eval()
    if not isinstance(model, Plain) or model.generator.head is not None or model.generator.style != "vocabulary":
        raise ValueError(
            f"{row} is of {type(model).__name__}; expected TIGER with a tied head, or LETTER, codes competing with all "
            "tokens"
        )
    sides = Sides(found.eval_corpus, hardware, model, USERS_CPU, BATCH_CPU)
    sides.exact()  # warm up
    return _against("rank_row", sides, f"weights of {'/'.join(row.parts[-3:])}")


def rank_decor_cpu() -> list[Pair]:
    """Users per second of DECOR beside TIGER's, both exact, on this machine's CPU."""
    hardware = Hardware("cpu", threads=torch.get_num_threads())
    tiger = _brief(hardware, USERS_CPU, BATCH_CPU)
    decor = Exact(tiger.corpus, hardware, decor_around(tiger.model), USERS_CPU, BATCH_CPU)
    for side in (tiger, decor):
        side.sharpen()
    turns = in_turn(decor.exact, tiger.exact, REPEATS)
    spent = f"{decor.expansions:.0f} expansions for each user, TIGER's {tiger.expansions:.0f}"
    note = f"TIGER of the same sizes, both certified exact top-{K} of {len(decor.lists)} users of {tiger.corpus.name}"
    made = pair("rank_decor_cpu", turns, "users/s", f"{note}; {spent}")
    return [replace(made, note=f"{1 / made.ratio:.2f} times the cost of {made.note}")]


def _compare(name: str, hardware: Hardware, users: int, batch: int) -> list[Pair]:
    """Exact search beside `generate` with and without a trie, and beside our beam of the same width."""
    sides = _brief(hardware, users, batch)
    sides.exact()  # warm up
    flat = in_turn(sides.exact, sides.generate, 1)
    worst = pair(f"{name}_flat", flat, "users/s", sides.note(f"{BRIEFLY}, against {WITH_TRIE}"))
    factor = sides.sharpen()
    return [*_against(name, sides, f"{BRIEFLY}, logits x{factor:.2f}"), worst]


def _brief(hardware: Hardware, users: int, batch: int) -> Sides:
    corpus = load("musical_instruments")
    return Sides(corpus, hardware, trained(corpus, hardware), users, batch)


def _against(name: str, sides: Sides, weights: str) -> list[Pair]:
    baselines = {
        name: (sides.generate, WITH_TRIE),
        f"{name}_free": (sides.generate_free, f"transformers' generate, beam {WIDTH}, without a trie"),
        f"{name}_beam": (sides.beam, f"our own beam {WIDTH} with the trie"),
    }
    found = []
    for title, (baseline, what) in baselines.items():
        turns = in_turn(sides.exact, baseline, REPEATS)
        found.append(pair(title, turns, "users/s", sides.note(f"{weights}, against {what}")))
    whole = f"{weights}, the rank of the target alone, against the exact top-{MAX_RANK} in which it stands"
    return [*found, pair(f"{name}_place", sides.places(), "users/s", whole)]


class Exact:
    """Certified lists of a model. A method that ranks all users leaves their `lists` and returns users per second."""

    def __init__(self, corpus: Corpus, hardware: Hardware, model: Plain | Decor, users: int, batch: int) -> None:
        self.corpus, self.model = corpus, model
        self.norms = [model.generator.transformer.decoder.final_layer_norm]
        examples = corpus.examples("test")
        chosen = np.random.default_rng(0).choice(len(examples), min(users, len(examples)), replace=False)
        examples = examples.take(np.sort(chosen))
        # As the harness works: users in order of length, and ours with batches side by side on a core each, as by JOBS.
        self.batches = Batches(examples, batch, model.history_length, hardware.device)
        self.jobs = torch.get_num_threads() if hardware.device.type == "cpu" else 1

    def exact(self) -> float:
        spent: list[int] = []

        def certified(batch: Batch) -> Lists:
            items, _, proven, expansions = self.model.generator.rank(batch.history, K)
            if expansions is None or not proven.all():
                raise ValueError(f"{int((~proven).sum())} of {len(items)} lists are not certified; expected none")
            spent.append(int(expansions.sum()))
            return items

        rate = self._rank(self.jobs, certified)
        self.expected, self.expansions = self.lists, sum(spent) / len(self.lists)
        return rate

    def places(self) -> Turns:
        """Users per second whose targets are ranked, without and with whole lists.

        Raises:
            ValueError: the two find another rank.
        """
        generator, found = self.model.generator, list[Lists]()

        def placed(batch: Batch) -> Lists:
            items = generator.place(batch.history, MAX_RANK, batch.target).items
            return target_ranks(items, batch.target)[:, None].long()

        def listed(batch: Batch) -> Lists:
            items = generator.rank(batch.history, MAX_RANK).items
            return target_ranks(items, batch.target)[:, None].long()

        def rate(rank: Callable[[Batch], Lists]) -> float:
            users_per_second = self._rank(self.jobs, rank)
            found.append(self.lists)
            return users_per_second

        turns = in_turn(partial(rate, placed), partial(rate, listed), REPEATS)
        if any(not torch.equal(found[0], ranks) for ranks in found):
            raise ValueError("a target has another rank in the whole list; expected the same")
        return turns

    def sharpen(self) -> float:
        """Scales the logits until the search expands `EXPANSIONS` prefixes per user, if it takes more.

        Returns:
            The factor.
        """
        weights = [norm.weight.detach().clone() for norm in self.norms]
        low, factor, high = 1.0, 1.0, 4.0
        for _ in range(8):
            self.exact()
            if factor == 1.0 and self.expansions <= EXPANSIONS:
                break
            low, high = (factor, high) if self.expansions > EXPANSIONS else (low, factor)
            factor = (low + high) / 2
            for norm, weight in zip(self.norms, weights, strict=True):
                norm.weight.data = weight * factor
        return factor

    def _rank(self, jobs: int, rank: Callable[[Batch], Lists]) -> float:
        rows, threads = self.batches.rows(), torch.get_num_threads()

        def one(some: Int[Tensor, "B"]) -> Lists:
            with torch.inference_mode():
                return rank(self.batches.batch(some)).cpu()

        torch.set_num_threads(threads // jobs)
        with ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(threads // jobs,)) as pool:
            start = time.perf_counter()
            found = list(pool.map(one, rows))
            took = time.perf_counter() - start
        torch.set_num_threads(threads)
        self.lists = torch.cat(found)[torch.cat(rows).argsort()]
        return len(self.lists) / took


class Sides(Exact):
    """What is compared: TIGER here, and in transformers with the same weights."""

    model: Plain

    def __init__(self, corpus: Corpus, hardware: Hardware, model: Plain, users: int, batch: int) -> None:
        super().__init__(corpus, hardware, model.to(hardware.device), users, batch)
        self.library, self.trie = library_model(self.model), Trie(self.model)
        self.norms.append(self.library.decoder.final_layer_norm)

    def beam(self) -> float:
        beam = self.model.generator.beam
        return self._rank(self.jobs, lambda batch: beam(batch.history, K, WIDTH).items)

    def generate(self) -> float:
        # A plain loop has all threads for one batch.
        return self._rank(1, lambda batch: generate(self.library, self.model, batch, self.trie))

    def generate_free(self) -> float:
        return self._rank(1, lambda batch: generate(self.library, self.model, batch, None))

    def note(self, what: str) -> str:
        """About the last two that ran: an exact search and a baseline."""
        missed = (self.expected[:, :, None] != self.lists[:, None]).all(2).sum(1).double().mean()
        return (
            f"certified exact top-{K} of {len(self.lists)} users of {self.corpus.name}, {self.expansions:.0f} "
            f"expansions each, {self.jobs} batches side by side, {what}, which misses {missed:.2f} of the {K} items"
        )


def trained(corpus: Corpus, hardware: Hardware) -> Tiger:
    """TIGER over residual k-means codes of the items' vectors, after a brief training."""
    vectors = item_vectors(corpus, "npz" if corpus.item_text is None else "tfidf", cache=WORK / "vectors").values
    tokenizer = CONFIG.tokenizer
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(tokenizer.levels, tokenizer.codes, vectors.shape[1])
    rows = torch.from_numpy(vectors[1:])
    quantizer.start_from(rows, kmeans)
    index = suffixed(quantizer(rows).codes, tokenizer.codes)
    fit = Fit(corpus, 0, WORK / "fits", "perf", hardware)
    examples = fit.corpus.examples("train")
    chosen = np.random.default_rng(0).permutation(len(examples))[:SAMPLES]
    epochs = math.ceil(SAMPLES / len(chosen))
    budget = Budget(epochs, CONFIG.batch_size, check_every=epochs)
    return fit("recommender", lambda: Tiger(CONFIG, index), budget, examples.take(np.sort(chosen)), lambda _: 0.0)


def decor_around(model: Plain) -> Decor:
    """DECOR with TIGER's transformer, and its token vectors as the collaborative ones, that all but pass the fusion.

    What is composed hardly counts, and all learned queries are TIGER's start token, so that the search has as much to
    expand as TIGER's. It costs what a trained DECOR's does at the same number of expansions.
    """
    torch.manual_seed(0)
    t5, sizes = model.config.t5, model.generator.index.sizes
    config = DecorConfig(t5=t5, tokenizer=DecorTokenizer(width=t5.width), alpha=FAINT)
    width = config.t5.width
    decor = Decor(config, model.generator.index, torch.randn(len(sizes) - 1, sizes[0], width))
    decor.generator.transformer.load_state_dict(model.generator.transformer.state_dict())
    stored = dict(decor.generator.token.named_parameters())
    with torch.no_grad():
        stored["parametrizations.weight.original"].copy_(model.generator.token.weight)
        stored["parametrizations.weight.0.of_collaborative.0.weight"].copy_(torch.eye(width))
        fuse = stored["parametrizations.weight.0.fuse.weight"]
        fuse.copy_(torch.cat([torch.zeros(width, width), torch.eye(width)], 1))
        for part in decor.modules():
            if isinstance(part, Contextual) and part.bos is not None:
                part.bos.copy_(decor.generator.token.weight[:1].expand_as(part.bos))
    return decor.eval().to(model.device)


class Trie:
    """A `prefix_allowed_tokens_fn`: the tokens that may follow a decoder input, from a dictionary of prefixes."""

    def __init__(self, model: Plain) -> None:
        following: dict[tuple[int, ...], set[int]] = {}
        every = torch.arange(1, len(model.generator.index.codes), device=model.device)
        for tokens in model.generator.item_tokens(every).tolist():
            for length, token in enumerate(tokens):
                following.setdefault(tuple(tokens[:length]), set()).add(token)
        self.following = {prefix: sorted(tokens) for prefix, tokens in following.items()}

    def __call__(self, batch_id: int, input_ids: Tensor) -> list[int]:
        return self.following[tuple(input_ids[1:].tolist())]


def library_model(model: Plain) -> Any:
    """transformers' T5 with the weights of ours."""
    t5: Any = transformers_t5(model.config.t5, model.generator.end + 1)
    loaded = t5.load_state_dict(model.generator.transformer.state_dict(), strict=False)
    if loaded.unexpected_keys:
        raise ValueError(f"transformers' T5 has no weights {loaded.unexpected_keys}")
    with torch.no_grad():
        t5.get_input_embeddings().weight.copy_(model.generator.token.weight)
    return t5.eval().to(model.device)


def generate(t5: Any, model: Plain, batch: Batch, trie: Trie | None) -> Lists:
    """Beam search as transformers documents it; 0 for a sequence that names no item."""
    inputs = pad(model, batch)
    longest = int(inputs.attention_mask.sum(1).max())
    sequences = t5.generate(
        input_ids=inputs.input_ids[:, :longest],
        attention_mask=inputs.attention_mask[:, :longest],
        num_beams=WIDTH,
        num_return_sequences=K,
        max_new_tokens=model.generator.index.levels,
        do_sample=False,
        prefix_allowed_tokens_fn=trie,
    )
    return items_of(model, sequences[:, 1:]).view(len(batch.user), K)


def items_of(model: Plain, tokens: Int[Tensor, "Q L"]) -> Int[Tensor, "Q"]:
    """The item that a sequence of tokens names, 0 where there is none."""
    tokens = F.pad(tokens, (0, model.generator.index.levels - tokens.shape[1]))  # a free beam may end early
    node = torch.zeros_like(tokens[:, 0])
    for level, size in enumerate(model.generator.index.sizes):
        code = tokens[:, level] - model.generator.first_token[level]
        node = torch.where((code >= 0) & (code < size), model.generator.index.child(level, node, code), -1)
    return model.generator.index.items_at(node)[:, 0]
