"""Ranking by TIGER: certified exact top-10 beside transformers' `generate` and beside our own beam.

All sides have the same weights and users. The weights come of a brief training: no longer even, but far from sharp, so
that an exact search has more to expand than it would have for a row of a board.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import T5ForConditionalGeneration

from benchmarks.evaluate import beam, exact
from benchmarks.fit import Fit, Hardware
from benchmarks.perf import Pair, in_turn, pair, seconds
from benchmarks.perf.train import load, pad, transformers_t5
from data_prep.batches import Batches
from data_prep.corpus import Batch, Corpus
from data_prep.embed import item_vectors
from models.api import Budget
from models.parts.index import ItemIndex, with_suffix
from models.parts.quantize import ResidualQuantizer
from models.parts.search import CAP
from models.tiger import Config, Tiger

K, WIDTH = 10, 50
USERS_CPU, USERS_CUDA = 128, 4096
# Users at once; `generate` copies all that it knows of a user for every beam.
BATCH, GENERATE_BATCH = 64, 32
REPEATS = 3
# The training: pairs, each once.
SAMPLES = 200_000
CONFIG = Config(lr=2e-3, schedule="cosine", warmup=200, weight_decay=0.01, batch_size=64)

Lists = Int[Tensor, "U K"]


def rank_cpu() -> list[Pair]:
    """Users per second on this machine's CPU."""
    return _compare("rank_cpu", Hardware("cpu", threads=torch.get_num_threads()), USERS_CPU)


def rank_cuda() -> list[Pair]:
    """Users per second on the GPU."""
    return _compare("rank_cuda", Hardware(), USERS_CUDA)


def _compare(name: str, hardware: Hardware, users: int) -> list[Pair]:
    """Exact search beside `generate` with and without a trie, and beside our beam of the same width."""
    corpus = load()
    model = trained(corpus, hardware).to(hardware.device)
    library = library_model(model)
    examples = corpus.examples("test")
    chosen = np.sort(np.random.default_rng(0).choice(len(examples), min(users, len(examples)), replace=False))
    lists: dict[str, Lists] = {}
    spent: list[float] = []

    def timed(side: str, size: int, rank: Callable[[Batch], Lists]) -> Callable[[], float]:
        batches = Batches(examples.take(chosen), size, model.history_length, hardware.device)

        def once() -> float:
            return len(chosen) / seconds(lambda: lists.update({side: ranked(batches, rank)}))

        return once

    ours = timed("exact", BATCH, lambda batch: certified(model, batch, spent))
    trie = Trie(model)
    sides: dict[str, tuple[str, Callable[[], float]]] = {
        name: (
            f"transformers' generate, beam {WIDTH}, prefix_allowed_tokens_fn",
            timed(name, GENERATE_BATCH, lambda batch: generate(library, model, batch, trie)),
        ),
        f"{name}_free": (
            f"transformers' generate, beam {WIDTH}, without a trie",
            timed(f"{name}_free", GENERATE_BATCH, lambda batch: generate(library, model, batch, None)),
        ),
        f"{name}_beam": (
            f"our own beam {WIDTH} with the trie",
            timed(f"{name}_beam", BATCH, lambda batch: beam(model, WIDTH, True)(batch.history, K).items),
        ),
    }
    ours()  # warm up
    found = []
    for side, (what, baseline) in sides.items():
        turns = in_turn(ours, baseline, REPEATS)
        note = (
            f"certified exact top-{K} of {len(chosen)} users of {corpus.name} ({np.mean(spent):.0f} expansions each; "
            f"TIGER of default sizes after {SAMPLES:,} pairs) against {what}, which misses "
            f"{missed(lists['exact'], lists[side]):.2f} of the {K} items"
        )
        found.append(pair(side, turns, "users/s", note))
    return found


def certified(model: Tiger, batch: Batch, spent: list[float]) -> Lists:
    """The exact lists; adds the expansions of each user to `spent`.

    Raises:
        ValueError: a list is not certified, so that it may not be the full ranking.
    """
    with torch.inference_mode():
        items, _, proven, expansions = exact(model, CAP)(batch.history, K)
    if expansions is None or not proven.all():
        raise ValueError(f"{int((~proven).sum())} of {len(items)} lists are not certified; expected none")
    spent += expansions.tolist()
    return items


def trained(corpus: Corpus, hardware: Hardware) -> Tiger:
    """TIGER over residual k-means codes of the items' vectors, after one pass over a sample of the training pairs."""
    vectors = item_vectors(corpus, "npz" if corpus.item_text is None else "tfidf").values
    tokenizer = CONFIG.tokenizer
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(tokenizer.levels, tokenizer.codes, vectors.shape[1])
    rows = torch.from_numpy(vectors[1:])
    quantizer.start_from_kmeans(rows)
    codes = with_suffix(quantizer(rows).codes, tokenizer.codes)
    index = ItemIndex(codes, (*quantizer.sizes, tokenizer.codes))
    examples = corpus.examples("train")
    chosen = np.random.default_rng(0).permutation(len(examples))[:SAMPLES]
    fit = Fit(corpus, 0, Path("runs/fits"), "perf", hardware)
    budget = Budget(1, CONFIG.batch_size)
    return fit("recommender", lambda: Tiger(CONFIG, index), budget, examples.take(np.sort(chosen)), lambda _: 0.0)


def ranked(batches: Batches, rank: Callable[[Batch], Lists]) -> Lists:
    """The lists of all users, in their order."""
    rows = batches.rows()
    lists = torch.cat([rank(batches.batch(some)).cpu() for some in rows])
    return lists[torch.cat(rows).argsort()]


def missed(exact: Lists, found: Lists) -> float:
    """How many items of an exact list another list lacks, per user."""
    return float((exact[:, :, None] != found[:, None]).all(2).sum(1).double().mean())


class Trie:
    """A `prefix_allowed_tokens_fn`: the tokens that may follow a decoder input, from a dictionary of prefixes."""

    def __init__(self, model: Tiger) -> None:
        following: dict[tuple[int, ...], set[int]] = {}
        every = torch.arange(1, len(model.index.codes), device=model.device)
        for tokens in model.item_tokens(every).tolist():
            for length, token in enumerate(tokens):
                following.setdefault(tuple(tokens[:length]), set()).add(token)
        self.following = {prefix: sorted(tokens) for prefix, tokens in following.items()}

    def __call__(self, batch_id: int, input_ids: Tensor) -> list[int]:
        return self.following[tuple(input_ids[1:].tolist())]


def library_model(model: Tiger) -> T5ForConditionalGeneration:
    """transformers' T5 with the weights of ours."""
    t5 = transformers_t5(model.config, model.end + 1)
    loaded = t5.load_state_dict(model.transformer.state_dict(), strict=False)
    if loaded.unexpected_keys:
        raise ValueError(f"transformers' T5 has no weights {loaded.unexpected_keys}")
    with torch.no_grad():
        t5.get_input_embeddings().weight.copy_(model.token.weight)
    return t5.eval().to(model.device)


def generate(t5: T5ForConditionalGeneration, model: Tiger, batch: Batch, trie: Trie | None) -> Lists:
    """Beam search as transformers documents it; 0 for a sequence that names no item."""
    inputs = pad(model, batch)
    longest = int(inputs.attention_mask.sum(1).max())
    sequences = t5.generate(
        input_ids=inputs.input_ids[:, :longest],
        attention_mask=inputs.attention_mask[:, :longest],
        num_beams=WIDTH,
        num_return_sequences=K,
        max_new_tokens=model.index.levels,
        do_sample=False,
        prefix_allowed_tokens_fn=trie,
    )
    return items_of(model, sequences[:, 1:]).view(len(batch.user), K)


def items_of(model: Tiger, tokens: Int[Tensor, "Q L"]) -> Int[Tensor, "Q"]:
    """The item that a sequence of tokens names, 0 where there is none."""
    node = torch.zeros_like(tokens[:, 0])
    for level, size in enumerate(model.index.sizes):
        code = tokens[:, level] - model.first_token[level]
        node = torch.where((code >= 0) & (code < size), model.index.child(level, node, code), -1)
    return model.index.items_at(node)[:, 0]
