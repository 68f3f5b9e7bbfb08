"""What the step pairs time is training: weights move, in ETEGRec those of the turn alone."""

from __future__ import annotations

import pytest
import torch

from benchmarks.hardware import Hardware
from benchmarks.perf import step
from benchmarks.perf.train import Setting, Spread
from data_prep.corpus import Corpus
from models.api import Recommender
from models.etegrec import Etegrec
from models.tiger import Config

BATCHES = 2


@pytest.fixture
def setting(tiny_corpus: Corpus) -> Setting:
    return Setting(tiny_corpus, Hardware("cpu"), BATCHES, Config(batch_size=8))


def moved(module: Recommender, setting: Setting) -> set[str]:
    """Top-level parts whose weights a pass changes."""
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    step.timer(module, setting)()
    return {name.split(".")[0] for name, weight in module.named_parameters() if not torch.equal(before[name], weight)}


@pytest.fixture
def modules(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> dict[str, Recommender]:
    # The codebooks of paper size start from k-means of more vectors than this corpus has items.
    quantizer = "models.parts.quantize.ResidualQuantizer.start_from"
    monkeypatch.setattr(quantizer, lambda self, latents, cluster: None)
    return step.contenders(setting)


@pytest.mark.slow
def test_each_turn_trains_its_own_weights(setting: Setting, modules: dict[str, Recommender]) -> None:
    assert moved(modules["step_letter_cpu"], setting) == {"generator"}
    assert moved(modules["step_etegrec_recommender_cpu"], setting) == {"generator", "to_latent", "to_semantic"}
    assert moved(modules["step_etegrec_tokenizer_cpu"], setting) == {"tokenizer"}
    assert moved(modules["step_decor_cpu"], setting) == {"generator"}
    assert moved(modules["step_pit_cpu"], setting) == {"generator", "items", "din"}
    learning = {"generator", "items", "din", "tokenizer", "reference"}
    assert moved(modules["step_pit_coevolving_cpu"], setting) == learning


def test_a_step_is_a_pass_divided_by_its_batches(
    setting: Setting, modules: dict[str, Recommender], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def passed(module: Recommender, optimizer: object, batches: list[object]) -> None:
        passes.append(len(batches))

    monkeypatch.setattr(step, "steps", passed)
    monkeypatch.setattr(step, "seconds", lambda work: (work(), 6.0)[1])
    module = modules["step_etegrec_recommender_cpu"]
    assert isinstance(module, Etegrec)
    time = step.timer(module, setting)
    assert time() == 6.0 / BATCHES
    assert passes == [BATCHES, BATCHES]
    # ETEGRec reads longer histories than the TIGER beside it.
    longest = max(batch.history.shape[1] for batch in Spread(setting, BATCHES, module.history_length))
    assert longest <= module.history_length


def test_the_note_states_the_cost(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"Letter": 3.0, "Tiger": 2.0}
    monkeypatch.setattr(step, "timer", lambda module, setting: lambda: costs[type(module).__name__])
    everything = step.contenders
    monkeypatch.setattr("models.parts.quantize.ResidualQuantizer.start_from", lambda self, latents, cluster: None)
    monkeypatch.setattr(step, "contenders", lambda setting: dict(list(everything(setting).items())[:1]))
    (made,) = step.step_cpu(setting)
    assert (made.name, made.ours, made.baseline) == ("step_letter_cpu", 3.0, 2.0)
    assert made.note.startswith("1.50 times the cost of TIGER's")
