"""Both sides of the training pairs compute the same loss, of the same pairs; the pairs say what was measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.hardware import Hardware
from benchmarks.perf import Turns, seconds, train
from benchmarks.perf.train import (
    Setting,
    Spread,
    at_once,
    bucketed,
    compare,
    ours,
    pad,
    plain_loop,
    tiger,
    transformers_t5,
)
from benchmarks.provenance import ROOT
from data_prep.batches import Batches
from data_prep.corpus import Batch, Corpus
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import TokenizerConfig, suffixed
from models.tiger import Config, Tiger
from tests.factories import shaken

CONFIG = Config(
    tokenizer=TokenizerConfig(codes=16),
    t5=T5Sizes(width=16, inner=32, heads=2, head_width=8, encoder_layers=2, decoder_layers=2),
    history=6,
    batch_size=10,
)


@pytest.fixture
def setting(tiny_corpus: Corpus) -> Setting:
    return Setting(tiny_corpus, Hardware("cpu"), 3, CONFIG)


@pytest.mark.parametrize("count", [1, 3, 5, 1000])
def test_a_spread_is_an_even_share_of_an_epoch(setting: Setting, count: int) -> None:
    examples = setting.corpus.examples("train")
    epoch = list(Batches(examples, 10, 6))
    spread = Spread(setting, count)
    targets = [batch.target.tolist() for batch in spread]
    places = [place for place, batch in enumerate(epoch) if batch.target.tolist() in targets]
    assert len(targets) == len(places) == len(spread) == min(count, len(epoch))
    assert spread.samples == sum(map(len, targets))
    # As many batches are left out between two chosen ones, and half of that before the first and after the last.
    between = len(epoch) / len(spread)
    assert np.abs(np.diff(places) - between).max(initial=0) < 1
    assert abs(places[0] - (len(epoch) - 1 - places[-1])) <= 1


def test_padded_by_hand(setting: Setting) -> None:
    module = tiger(setting)
    batch = Batch(torch.tensor([0, 1]), torch.tensor([[5, 0], [7, 9]]), torch.tensor([2, 3]))
    padded = pad(module, batch)
    five, seven, nine = (module.generator.item_tokens(torch.tensor(item)).tolist() for item in (5, 7, 9))
    assert padded.input_ids.tolist() == [[*five, 65, *[0] * 20], [*seven, *nine, 65, *[0] * 16]]
    assert padded.attention_mask.tolist() == [[1] * 5 + [0] * 20, [1] * 9 + [0] * 16]
    assert padded.labels.tolist() == module.generator.item_tokens(batch.target).tolist()


def test_inputs_are_as_wide_as_their_own_codes_ask(setting: Setting) -> None:
    module = Tiger(CONFIG, suffixed(torch.randint(16, (setting.corpus.items, 5)), 16))
    padded = pad(module, Batch(torch.tensor([0]), torch.arange(1, 7)[None], torch.tensor([7])))
    assert padded.attention_mask.tolist() == [[1] * (6 * 6 + 1)]


def test_both_sides_compute_one_loss(setting: Setting) -> None:
    module = tiger(setting).eval()
    shaken(module, 0.1)
    t5 = transformers_t5(CONFIG.t5, module.generator.end + 1).eval()
    assert not t5.load_state_dict(module.generator.transformer.state_dict(), strict=False).unexpected_keys
    t5.get_parameter("shared.weight").data.copy_(module.generator.token.weight)
    for batch in Spread(setting, 3):
        loss = t5(**pad(module, batch)._asdict()).loss
        torch.testing.assert_close(module.training_step(batch, 0), loss, rtol=1e-5, atol=1e-5)
        assert loss > 1


@pytest.mark.slow
def test_both_sides_train_on_every_batch(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    module, batches = tiger(setting), Spread(setting, 3)
    seen, step = [], module.training_step

    def recorded(batch: Batch, batch_idx: int) -> Tensor:
        seen.append(batch.target.tolist())
        return step(batch, batch_idx)

    monkeypatch.setattr(module, "training_step", recorded)
    before = module.generator.token.weight.detach().clone()
    ours(module, batches, setting.hardware)
    assert seen == [batch.target.tolist() for batch in batches]
    assert not torch.equal(module.generator.token.weight, before)

    t5, padded = transformers_t5(CONFIG.t5, module.generator.end + 1), [pad(module, batch) for batch in batches]
    optimizer = torch.optim.AdamW(t5.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        with torch.no_grad():
            losses.append(float(t5.eval()(**padded[0]._asdict()).loss))
        plain_loop(t5, optimizer, padded, bf16=False)
    assert losses[-1] < 0.8 * losses[0]
    assert optimizer.state[t5.get_parameter("shared.weight")]["step"] == 20 * len(padded)


def test_mixed_batches_hold_the_same_pairs_at_random(setting: Setting) -> None:
    spread, mixed = Spread(setting, 3), Spread(setting, 3, mixed=True)
    assert torch.equal(torch.cat(spread.rows()).sort().values, torch.cat(mixed.rows()).sort().values)
    assert [len(rows) for rows in mixed.rows()] == [len(rows) for rows in spread.rows()]
    assert mixed.samples == spread.samples
    widths = [[batch.history.shape[1] for batch in batches] for batches in (spread, mixed)]
    assert sum(widths[1]) > sum(widths[0])


def test_cut_is_as_wide_as_the_longest(setting: Setting) -> None:
    module = tiger(setting)
    for batch in Spread(setting, 3):
        padded = pad(module, batch)
        cut = padded.cut()
        width = 4 * batch.history.shape[1] + 1
        assert cut.input_ids.shape == cut.attention_mask.shape == (len(batch.target), width)
        assert cut.attention_mask.sum() == padded.attention_mask.sum()
        assert torch.equal(cut.labels, padded.labels)


def test_the_pairs_of_the_cpu(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "load", lambda name: tiny_corpus)
    monkeypatch.setattr(train, "choose", lambda *_, **__: "bf16-mixed")
    monkeypatch.setattr(train, "compare", lambda setting, baseline: Turns([2.0], [8.0]))
    rates = {"bf16-mixed": 30.0, "32-true": 10.0}
    monkeypatch.setattr(train, "at_once", lambda setting, seeds: rates[setting.hardware.precision])
    *found, epoch = train.train_cpu()
    samples = len(tiny_corpus.examples("train"))  # one batch of the default size holds them all
    assert [one.name for one in found] == ["train_cpu", "train_cpu_expert", "train_cpu_32"]
    for one in found:
        assert (one.unit, one.ratio) == ("samples/s", 4.0)
        assert (one.ours, one.baseline) == (samples / 2, samples / 8)
        assert "of tiny " in one.note
        assert "bf16-mixed" in one.note
    assert "81 tokens" in found[0].note
    assert (epoch.unit, epoch.ours, epoch.baseline) == ("s", samples / 30, samples / 10)


def test_pages_are_those_that_make_asks_for(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "load", lambda name: tiny_corpus)
    rates = {train.HUGE_PAGES: 30.0, "": 20.0}
    monkeypatch.setattr(train, "at_once", lambda setting, seeds: rates[os.environ[train.TUNABLES]] * seeds)
    monkeypatch.setenv(train.TUNABLES, "glibc.malloc.check=1")
    (found,) = train.huge_pages()
    assert (found.unit, found.ours, found.baseline, found.ratio) == ("samples/s", 30.0, 20.0, 1.5)
    assert os.environ[train.TUNABLES] == "glibc.malloc.check=1"
    assert f"export {train.TUNABLES} ?= {train.HUGE_PAGES}\n" in (ROOT / "Makefile").read_text()


def test_the_pairs_of_a_gpu(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "load", lambda name: tiny_corpus)
    monkeypatch.setattr(train, "Setting", lambda corpus, hardware, batches: Setting(corpus, Hardware("cpu"), 3, CONFIG))
    monkeypatch.setattr(train, "CUDA_BATCHES", 3)
    monkeypatch.setattr(train, "compare", lambda setting, baseline: Turns([2.0], [6.0]))
    monkeypatch.setattr(train, "at_once", lambda setting, seeds: 10.0 * (seeds + 1))
    epoch, seeds = train.train_cuda()
    assert (epoch.name, epoch.unit) == ("train_cuda", "s")
    assert epoch.ratio == pytest.approx(3.0)
    assert epoch.ours == pytest.approx(2.0 * len(tiny_corpus.examples("train")) / 30)  # three batches of ten took 2 s
    assert (seeds.unit, seeds.ours, seeds.baseline, seeds.ratio) == ("samples/s", 60.0, 20.0, 3.0)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [train.padded, bucketed, train.trained])
def test_sides_take_turns(setting: Setting, baseline: train.Side) -> None:
    turns = compare(setting, baseline)
    assert len(turns.ours) == len(turns.baseline) == train.REPEATS
    assert min(turns.ours + turns.baseline) > 0


@pytest.mark.slow
def test_seeds_train_at_once(setting: Setting) -> None:
    rates = []
    elapsed = seconds(lambda: rates.append(at_once(setting, 2)))
    assert rates[0] > 2 * Spread(setting, 3).samples / elapsed, "what comes before training is not in the rate"


def test_without_real_data_the_planted_corpus_stands_in(
    planted_corpus: Corpus, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("GRBENCH_DATA", str(tmp_path))
    assert train.load("musical_instruments").fingerprint == planted_corpus.fingerprint
    monkeypatch.delenv("GRBENCH_DATA")
    assert train.load("musical_instruments").name == "planted"
