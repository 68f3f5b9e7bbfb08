"""Show: whose every value of a config is, on configs that have values of all kinds."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import best_config, experiments
from benchmarks.__main__ import main
from benchmarks.config import flat
from benchmarks.experiments import complete, layers
from benchmarks.show import WIDTH, Option, field_docs, options, shown
from models import etegrec, tiger
from models.parts.rqvae import RqVaeConfig


def of(name: str, corpus: str, *settings: str, tuned: bool = True) -> dict[str, Option]:
    experiment = complete(name, corpus, settings, tuned)
    found = options(experiment, layers(experiment.whole, corpus, settings, tuned))
    return {option.name: option for option in found}


@pytest.mark.parametrize("name", [*experiments.names(), "decor-unseen-users"])
@pytest.mark.parametrize("corpus", ["planted", "video_games"])
def test_every_value_is_there_and_fits_the_terminal(name: str, corpus: str) -> None:
    config = dict(flat(dataclasses.asdict(complete(name, corpus).config)))
    assert {option: row.value for option, row in of(name, corpus).items()} == config
    lines = shown(name, corpus).splitlines()
    assert lines[0].startswith(f"{name} on {corpus}: {len(config)} options of models/")
    assert max(map(len, lines)) <= WIDTH
    assert {line.split()[0] for line in lines if line[:1].strip()} >= config.keys()


def test_defaults_and_what_is_said_of_them() -> None:
    found = of("sasrec", "musical_instruments")
    assert {row.source for row in found.values()} == {"default"}
    assert all(row.value == row.default for row in found.values())
    history = "Longest history, in items; longer ones keep their last items."
    assert found["history"] == Option("history", 50, "default", 50, history)
    assert of("decor", "planted")["tokenizer.hidden"].says == field_docs(RqVaeConfig)["hidden"]


def test_small_sizes() -> None:
    found, small, paper = of("tiger", "planted"), tiger.SMALL, tiger.Config()
    assert found["steps"][1:4] == (small.steps, "small", paper.steps)
    assert found["tokenizer.codes"][1:4] == (small.tokenizer.codes, "small", paper.tokenizer.codes)
    assert small.tokenizer.levels == paper.tokenizer.levels
    assert found["tokenizer.levels"].source == "default"


def test_the_papers_setting_on_a_corpus_and_what_wins_over_it() -> None:
    corpus = "industrial_and_scientific"
    assert of("decor", corpus)["alpha"][1:4] == (0.25, "paper", 0.55)
    assert of("decor-fusion-composition", corpus)["bos_queries"][1:4] == (0, "variant", 64)
    found = of("decor-fusion", corpus, "bos_queries=8", "t5.dropout=0.2")
    assert [found[name].source for name in ("alpha", "bos_queries", "t5.dropout", "lr")] == [
        "variant", "--set", "--set", "default",
    ]  # fmt: skip
    legend = shown("decor-fusion", corpus, ["bos_queries=8", "t5.dropout=0.2"]).split("\n\n")[0].splitlines()
    assert legend[2:] == ["variant: decor-fusion, alpha=0.0 bos_queries=0", "--set: bos_queries=8 t5.dropout=0.2"]


def test_a_sweeps_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_config, "BEST", tmp_path)
    params: dict[str, Any] = {"lr": 0.02, "t5.dropout": 0.1}
    winner = best_config.TunedConfig(study="s", trial=7, trials=30, value=0.1, settings=["steps=900"], params=params)
    best_config.write(best_config.path("planted", "tiger"), winner)
    found = of("tiger-sas", "planted", "t5.dropout=0.3")
    assert found["lr"][1:4] == (0.02, "sweep", tiger.Config().lr)
    assert found["steps"][1:4] == (900, "sweep", tiger.Config().steps)
    assert (found["t5.dropout"].source, found["vectors"].source) == ("--set", "variant")
    assert "\nsweep: tuned with 30 trials under steps=900 (study s), trial 7\n" in shown("tiger-sas", "planted")
    assert of("tiger", "planted", tuned=False)["lr"].source == "small"
    assert "sweep" not in shown("tiger", "planted", tuned=False)


def test_a_parts_own_defaults_are_not_the_models() -> None:
    """ETEGRec's tokenizer is not TIGER's, whose class it is of."""
    row = of("etegrec", "musical_instruments")["tokenizer.width"]
    assert row[1:4] == (etegrec.PRETRAINED.width, "default", etegrec.PRETRAINED.width)
    assert row.value != RqVaeConfig().width
    assert shown("etegrec", "musical_instruments").splitlines()[-1] == "t5: T5 sizes; the defaults are TIGER's."


@dataclass(frozen=True)
class Toy:
    """Of its own."""

    first: int = 1
    second: str = "a"
    """One line."""
    third: tuple[int, ...] = (1, 2)
    """Two
    lines."""


def test_docstrings_of_fields() -> None:
    assert field_docs(Toy) == {"second": "One line.", "third": "Two lines."}


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "sasrec-bce", "all_beauty", "--set", "width=32", "--untuned"]) == 0
    printed = capsys.readouterr().out
    assert printed == shown("sasrec-bce", "all_beauty", ["width=32"], tuned=False) + "\n"
    rows = [line.split()[:4] for line in printed.splitlines()]
    assert ["width", "32", "--set", "128"] in rows
    assert ["loss", "bce", "variant", "ce"] in rows
    assert main(["show", "popularity", "planted"]) == 0
    assert capsys.readouterr().out.endswith("0 options of models/popularity.py\n\npopularity: Nothing to set.\n")
    for arguments, said in (
        (["sasrek", "planted"], "no model or experiment 'sasrek'"),
        (["sasrec", "plante"], "no corpus 'plante'; did you mean 'planted'?"),
        (["sasrec", "planted", "--set", "widht=3"], "sasrec has no option 'widht'"),
    ):
        assert main(["show", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_a_value_can_be_typed_back() -> None:
    """What the table prints of a short value is what --set takes."""
    for row in of("letter", "planted").values():
        text = row.value if isinstance(row.value, str) else json.dumps(row.value)
        assert of("letter", "video_games", f"{row.name}={text}")[row.name].value == row.value
