"""Experiments: what a config becomes, and what is said of a setting that cannot be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import models
from benchmarks import best_config, config, experiments
from benchmarks.execution.cell import Cell
from benchmarks.experiments import complete
from benchmarks.resolved_row import published_config
from benchmarks.sweeps.search_space import space_of
from data_prep.corpus import Corpus
from models import decor, etegrec, letter, pit, sasrec, tiger
from models.api import later
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import TokenizerConfig


def test_every_model_is_an_experiment_and_every_variant_too() -> None:
    assert experiments.names() == sorted({*models.names(), *experiments.VARIANTS})
    assert len(experiments.names()) == len(models.names()) + len(experiments.VARIANTS)


def test_a_bench_is_asked_for_names_for_every_model_or_for_nothing() -> None:
    assert experiments.chosen(["tiger", "pit-no-csa"]) == ["tiger", "pit-no-csa"]
    assert experiments.chosen(["all"]) == models.names()
    assert experiments.chosen(None) == list(experiments.DEFAULT)
    assert set(experiments.DEFAULT) <= set(models.names())


@pytest.mark.parametrize("name", experiments.names())
@pytest.mark.parametrize("corpus", ["all_beauty", "musical_instruments"])
def test_every_experiment_is_complete(name: str, corpus: str) -> None:
    experiment = complete(name, corpus)
    assert experiment.name == name
    assert type(experiment.config) is models.load(experiment.model).Config


def test_a_model_has_its_papers_config_but_on_small_corpora() -> None:
    assert complete("tiger", "musical_instruments").config == tiger.Config()
    assert [complete("tiger", name).config for name in ("all_beauty", "planted", "planted_noise")] == [tiger.SMALL] * 3


def test_a_variant_changes_its_fields_only() -> None:
    bce = complete("sasrec-bce", "musical_instruments")
    assert (bce.model, bce.config) == ("sasrec", sasrec.Config(loss="bce"))
    sas = complete("tiger-sas", "planted")
    assert (sas.model, sas.config.vectors, sas.config.t5) == ("tiger", "sasrec-128", tiger.SMALL.t5)
    # As in the table that has its numbers.
    instruments = [complete(name, "musical_instruments").config.history for name in ("tiger-sas", "etegrec")]
    assert instruments == [50, 50]


def test_a_later_field_is_in_no_record_while_it_says_what_was_before() -> None:
    """So that rows of before it stay rows of the config."""
    before, after = (published_config(complete("gru4rec", "beauty_2014", loss)) for loss in (["loss=ce"], ["loss=bpr"]))
    assert after == {**before, "loss": "bpr"}
    assert "loss" not in before
    assert published_config(complete("sasrec", "beauty_2014"))["loss"] == "ce"


def test_a_part_has_later_fields_too() -> None:
    @dataclasses.dataclass(frozen=True)
    class Part:
        width: int = 8
        rotary: bool = later(False)

    @dataclasses.dataclass(frozen=True)
    class Config:
        part: Part = dataclasses.field(default_factory=Part)
        loss: str = later("ce")

    assert config.recorded(Config()) == {"part": {"width": 8}}
    assert config.recorded(Config(Part(rotary=True), "bpr")) == {"part": {"width": 8, "rotary": True}, "loss": "bpr"}


@pytest.mark.parametrize("number", [0.5, 0.6, 0.8, 0.9, 1.1, 1.2])
def test_letters_temperatures(number: float) -> None:
    experiment = complete(f"letter-tau-{number}", "musical_instruments")
    assert (experiment.model, experiment.config) == ("letter", letter.Config(temperature=number))


LETTERS = letter.TokenizerConfig


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("letter-plain-ce", letter.Config(temperature=1.0)),
        ("letter-no-cf", letter.Config(collaborative=None)),
        ("letter-no-diversity", letter.Config(tokenizer=LETTERS(diversity=0.0))),
        ("etegrec-no-sia", etegrec.Config(sia_weight=0.0)),
        ("etegrec-no-psa", etegrec.Config(psa_weight=0.0)),
        ("etegrec-no-alignment", etegrec.Config(sia_weight=0.0, psa_weight=0.0)),
        ("etegrec-joint", etegrec.Config(training="joint")),
        ("etegrec-frozen", etegrec.Config(training="retrained")),
        (
            "etegrec-paper-sia",
            etegrec.Config(
                sia_sign="nearest",
                sia_levels="sum",
                tokenizer=dataclasses.replace(etegrec.Config().tokenizer, residual_gradient="all"),
            ),
        ),
        ("decor-base", decor.Config(fusion=False, alpha=0.0, bos_queries=0)),
        ("decor-composition", decor.Config(fusion=False, bos_queries=0)),
        ("decor-composition-bos", decor.Config(fusion=False)),
        ("decor-fusion", decor.Config(alpha=0.0, bos_queries=0)),
        ("decor-fusion-composition", decor.Config(bos_queries=0)),
        ("pit-no-csa", pit.Config(csa_weight=0.0)),
        ("pit-no-mls", pit.Config(selection="random")),
        ("pit-no-beam-index", pit.Config(beam_index=False, candidates="proposed")),
        ("pit-no-mls-no-beam-index", pit.Config(beam=1)),
        ("pit-best-sequence", pit.Config(served="best")),
        ("pit-coevolving", pit.Config(coevolving=True)),
        ("pit-rq-kmeans", pit.Config(start="rq-kmeans")),
        ("pit-all-proposals", pit.Config(candidates="proposed")),
    ],
)
def test_ablations(name: str, config: Any) -> None:
    assert complete(name, "musical_instruments").config == config


def test_what_a_paper_sets_otherwise_on_a_corpus() -> None:
    """DECOR's table 5, ETEGRec's figure on its weights; a variant and a setting win over it."""
    found = complete("decor", "industrial_and_scientific").config
    assert (found.alpha, found.bos_queries, found.patience) == (0.25, 32, 20)
    assert complete("decor", "video_games").config == decor.Config(patience=10)
    assert complete("tiger", "toys_2014").config == tiger.Config(steps=100_000)
    # What others trained is no longer or shorter on it.
    for recipe in ("tiger-grid", "tiger-paischer", "tiger-genrec"):
        assert complete(recipe, "toys_2014").config == complete(recipe, "beauty_2014").config
    assert complete("decor-fusion", "industrial_and_scientific").config == decor.Config(alpha=0.0, bos_queries=0)
    assert complete("decor", "industrial_and_scientific", ["alpha=0.4"]).config.alpha == 0.4
    assert complete("decor", "industrial_and_scientific_unseen_users").config == found
    assert complete("etegrec", "video_games").config == etegrec.Config(sia_weight=1e-3)


# What makes `tiger-grid` the recipe that it is, on a corpus of any size.
GRIDS: dict[str, Any] = {"output": "level", "tied_head": False, "starts": "any", "decoupled_decay": False, "clip": 0.0}


def test_a_recipe_has_its_sizes_on_corpora_of_the_papers_size_alone() -> None:
    """GRID's settings; on planted the small model with the recipe's tokenizer, output, histories and optimizer."""
    full, few = complete("tiger-grid", "beauty_2014").config, complete("tiger-grid", "planted").config
    tokenizer = dataclasses.replace(tiger.SMALL.tokenizer, method="rq-kmeans", normalised_residuals=True)
    assert few == dataclasses.replace(tiger.SMALL, tokenizer=tokenizer, **GRIDS)
    assert full == tiger.Config(
        tokenizer=TokenizerConfig(method="rq-kmeans", normalised_residuals=True),
        t5=T5Sizes(dropout=0.15),
        history=29,
        lr=1e-3,
        schedule="constant",
        warmup=0,
        weight_decay=2.5e-5,
        batch_size=512,
        accumulate=16,
        patience=9,
        **GRIDS,
    )


def test_a_recipe_on_the_code_of_another_model() -> None:
    """TIGER on LETTER's code: LETTER without what it adds to an RQ-VAE and to cross-entropy."""
    found = complete("tiger-discrec", "beauty_2014")
    config = letter.Config(
        collaborative=None, tokenizer=letter.TokenizerConfig(diversity=0.0), temperature=1.0, batch_size=256
    )
    assert (found.model, found.config) == ("letter", config)


def test_the_papers_own_optimiser() -> None:
    config = complete("tiger-paper", "beauty_2014").config
    assert (config.tokenizer.optimizer, config.tokenizer.lr, config.tokenizer_epochs) == ("adagrad", 0.4, 20_000)
    assert (config.lr, config.schedule, config.warmup, config.steps, config.batch_size) == (
        1e-2, "hold", 10_000, 200_000, 256,
    )  # fmt: skip


@pytest.mark.parametrize("name", experiments.RECIPES)
def test_a_recipe_says_where_it_is_from_and_what_it_reached(name: str) -> None:
    assert "Beauty_2014" in experiments.variant(name).description


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments.VARIANTS)
@pytest.mark.parametrize("corpus", ["planted", "musical_instruments"])
def test_no_variant_is_another_under_a_second_name(name: str, corpus: str) -> None:
    """Such rows would share a key."""
    model, config = complete(name, corpus).model, complete(name, corpus).config
    same = [other for other in experiments.names() if experiments.variant(other).model == model]
    assert [other for other in same if complete(other, corpus).config == config] == [name]


@pytest.mark.parametrize("name", experiments.names())
def test_any_name_may_end_in_unseen_users(name: str) -> None:
    for corpus in ("planted", "musical_instruments"):
        whole, unseen = complete(name, corpus), complete(f"{name}-unseen-users", corpus)
        assert not whole.unseen_users
        assert unseen == dataclasses.replace(whole, name=f"{name}-unseen-users", unseen_users=True)


def test_unseen_users_of_a_small_corpus_are_one() -> None:
    assert [experiments.small(name) for name in ("all_beauty_unseen_users", "planted_noise")] == [True, True]
    assert [experiments.small(name) for name in ("toys_unseen_users", "all_beauty_2", "all")] == [False] * 3
    assert complete("tiger", "all_beauty_unseen_users").config == tiger.SMALL


@pytest.mark.slow
def test_a_described_variant_can_be_typed() -> None:
    for name in experiments.VARIANTS:
        found = experiments.variant(name)
        for corpus in ("musical_instruments", "planted"):
            typed = config.described(found.changes(experiments.small(corpus))).split()
            assert complete(found.model, corpus, typed).config == complete(name, corpus).config
    assert config.described({"loss": "bce", "t5.dropout": 0.5, "sizes": [1, 2], "none": None}) == (
        "loss=bce t5.dropout=0.5 sizes=[1,2] none=null"
    )


def test_settings() -> None:
    settings = ["lr=3e-4", "tokenizer.codes=64", "tokenizer.hidden=[64,32]", "t5.dropout=0", "schedule=constant"]
    config = complete(
        "tiger", "musical_instruments", [*settings, "vectors=sentence-t5-base", "valid_users=5000"]
    ).config
    assert config.tokenizer == TokenizerConfig(codes=64, hidden=(64, 32))
    assert config.t5 == T5Sizes(dropout=0.0)
    assert (config.lr, config.schedule, config.vectors, config.valid_users) == (
        3e-4, "constant", "sentence-t5-base", 5000,
    )  # fmt: skip
    whole = complete("tiger", "musical_instruments", ["valid_users=null"]).config
    assert whole == dataclasses.replace(tiger.Config(), valid_users=None)


def test_a_later_setting_wins_and_a_value_may_hold_an_equals_sign() -> None:
    assert complete("sasrec", "planted", ["width=16", "width=32"]).config.width == 32
    with pytest.raises(ValueError, match=r"tiger option vectors is 'a=b': .*'npz'"):
        complete("tiger", "planted", ["vectors=a=b"])


def test_settings_win_over_the_variant() -> None:
    assert complete("sasrec-bce", "planted", ["loss=ce"]).config == sasrec.SMALL


@pytest.mark.parametrize(
    ("name", "settings", "overrides"),
    [
        ("sasrec", [], ()),
        ("sasrec", ["epochs=3"], ("epochs=3",)),
        # By name, so that the order of typing makes no other title; the last of two wins.
        ("sasrec", ["width=32", "lr=1e-4", "dropout=0", "lr=3e-4"], ("dropout=0.0", "lr=0.0003", "width=32")),
        # What the experiment has without being told is no override, nor is another spelling of it.
        ("sasrec", ["lr=1e-3", "valid_users=null", "loss=ce"], ()),
        ("sasrec-bce", ["loss=bce"], ()),
        ("sasrec-bce", ["loss=ce"], ("loss=ce",)),
        ("tiger", ["tokenizer.hidden=[64,32]", "t5.heads=2"], ("t5.heads=2", "tokenizer.hidden=[64,32]")),
        ("decor-unseen-users", ["alpha=0.4"], ("alpha=0.4",)),
    ],
)
def test_what_is_overridden(name: str, settings: list[str], overrides: tuple[str, ...]) -> None:
    experiment = complete(name, "musical_instruments", settings)
    assert experiment.overrides == overrides
    again = complete(name, "musical_instruments", overrides)
    assert (again.config, again.overrides) == (experiment.config, overrides)


def test_yes_and_no_are_no_numbers() -> None:
    with pytest.raises(ValueError, match=r"sasrec option epochs is True; expected a number"):
        complete("sasrec", "planted", ["epochs=true"])
    with pytest.raises(ValueError, match=r"letter option steps is True; expected a number"):
        complete("letter", "beauty_2014", ["steps=true"])
    with pytest.raises(ValueError, match=r"letter option tokenizer.hidden.0 is True; expected a number"):
        complete("letter", "beauty_2014", ["tokenizer.hidden=[true,64]"])
    assert complete("tiger", "planted", ["tied_head=false"]).config.tied_head is False


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("tiger", ["codes=mine.tsv", "vectors=sasrec-128"], "codes=mine.tsv leave nothing that reads vectors"),
        ("letter", ["codes=mine.tsv"], "codes=mine.tsv leave nothing that reads vectors"),
        (
            "letter-authors-codes",
            ["codes=a/mine"],
            "option codes is 'a/mine'; expected a file with an ending, as mine.tsv",
        ),
        ("decor", ["vectors=sasrec-64", "tokenizer.method=rq-kmeans"], r"code vectors of width 64 .* and t5.width 128"),
        ("letter", ["collaborative=sasrec-64"], "collaborative is sasrec-64 and tokenizer.width 32; expected equal"),
        ("letter", ["tokenizer.epsilon=0.001"], "epsilon is 0.001; expected 0 or at least 0.003"),
        ("pit", ["tokenizer.levels=1000000000000000000"], r"codes have more sequences than an index can number, 2\^63"),
        (
            "decor",
            ["vectors=sasrec-128", "tokenizer.width=64"],
            r"code vectors of width 64 .* and t5.width 128; expected",
        ),
        ("letter", ["vectors=null"], "vectors and codes are null; expected item vectors, or a file of codes"),
        ("tiger", ["vectors=null"], "vectors and codes are null; expected item vectors, or a file of codes"),
        ("etegrec", ["tokenizer.codes=2048"], "tokenizer.codes is 2048 and tokenizer.kmeans_items 1024; expected as"),
        ("tiger", ["tokenizer.kmeans_items=100"], "tokenizer.codes is 256 and tokenizer.kmeans_items 100; expected as"),
        ("pit", ["tokenizer.levels=8"], r"8 levels of 256 codes have more sequences than an index can number, 2\^63"),
    ],
)
def test_settings_that_do_not_go_together_are_told_before_item_vectors_are_trained(
    name: str, settings: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        complete(name, "beauty_2014", settings)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("letter-authors-codes", "tokenizer.alignment=0.1"),
        ("letter-authors-codes", "tokenizer_epochs=5"),
        ("tiger-grid", "tokenizer.commitment=0.5"),
        ("tiger-grid", "tokenizer_epochs=5"),
        ("tiger-grid", "tokenizer.components=64"),
        ("tiger", "tokenizer.normalised_residuals=true"),
        ("letter-no-cf", "tokenizer.alignment=0.1"),
        ("pit", "pretraining_epochs=5"),
        ("pit-rq-kmeans", "tokenizer.commitment=0.5"),
        ("decor-genrec", "tokenizer_batch=64"),
        ("tiger", "decoupled_decay=false"),
        ("tiger-paper", "tokenizer.schedule=cosine"),
        ("tiger-paper", "tokenizer.warmup=5"),
        ("letter-no-diversity", "tokenizer.clusters=5"),
        ("tiger-discrec", "tokenizer.cluster_restarts=5"),
        ("etegrec-joint", "cycle=4"),
        ("etegrec-frozen", "finish_epochs=5"),
        ("etegrec-no-sia", "sia_sign=nearest"),
        ("etegrec-no-psa", "psa_temperature=0.1"),
        ("etegrec-no-alignment", "warm_epochs=5"),
        ("decor-composition", "projection=after-norm"),
        ("decor-fusion", "context_mlp=false"),
        ("decor-fusion", "detached_candidates=true"),
        ("pit", "kl_weight=0.5"),
        ("pit", "sure=50"),
        ("pit-no-csa", "negatives=8"),
        ("pit-no-beam-index", "lease=3"),
        ("pit-no-beam-index", "served=best"),
        ("rearec", "divergence=0.01"),
        ("rearec-ensemble", "alpha=2.0"),
        ("rearec-ensemble", "noise=0.1"),
        ("rearec-ensemble", "contrastive=0.5"),
        ("esasrec-no-ligr", "inner=2"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(name: str, setting: str) -> None:
    option = setting.partition("=")[0]
    with pytest.raises(ValueError, match=f"^{name} option {option} is set, but nothing reads it beside the other"):
        complete(name, "beauty_2014", [setting])
    assert complete(name, "beauty_2014", ["lr=0.02"]).overrides
    if name != "tiger-grid":  # which leaves nothing to search
        assert option not in space_of(complete(name, "beauty_2014"))


def test_of_one_sequence_nothing_is_selected() -> None:
    assert "selection" in pit.Config(beam=1, candidates="proposed").unread
    assert "selection" not in pit.Config(beam=2, candidates="proposed").unread


def test_as_many_sequences_as_can_be_numbered() -> None:
    assert complete("pit", "beauty_2014", ["tokenizer.levels=7", "tokenizer.codes=512"]).overrides


@pytest.mark.parametrize(("name", "option"), [("letter", "epochs"), ("decor", "epochs"), ("pit", "warm_epochs")])
def test_epochs_beside_steps_are_refused(name: str, option: str) -> None:
    """A small corpus's configs count steps."""
    with pytest.raises(ValueError, match=f"^{name} option {option} is set, but nothing reads it"):
        complete(name, "planted", [f"{option}=3"])
    steps = option.replace("epochs", "steps")
    assert complete(name, "planted", [f"{option}=3", f"{steps}=null"]).overrides


def test_a_file_of_codes_has_books_of_its_own(tiny_corpus: Corpus) -> None:
    """On a corpus of fewer items than a codebook's codes."""
    found = complete("letter-authors-codes", tiny_corpus, tuned=False)
    assert found.overrides == ()


def test_no_folder_of_a_setting_is_published() -> None:
    for codes in ("../anna/mine.tsv", "/home/anna/mine.tsv"):
        found = complete("letter", "beauty_2014", [f"codes={codes}", "vectors=null", "collaborative=null"])
        assert "codes=mine.tsv" in found.overrides


def test_with_none_of_what_a_sweep_has_found_nothing_is_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it set what all of its trials had."""
    monkeypatch.setattr(best_config, "BEST", tmp_path)
    params: dict[str, bool | int | float | str] = {"lr": 0.0001, "dropout": 0.4}
    winner = best_config.TunedConfig(study="s", trial=1, trials=3, value=0.1, settings=["patience=4"], params=params)
    best_config.write(best_config.path("musical_instruments", "sasrec"), winner)
    tuned, half, none = (
        complete("sasrec", "musical_instruments", settings)
        for settings in ([], ["lr=0.01"], ["lr=0.01", "dropout=0.5"])
    )
    assert tuned.tuned_config == half.tuned_config == winner
    assert len({Cell(tuned, 0), Cell(half, 0)}) == 2, "cells of a cluster are told apart by their hashes"
    assert (tuned.config.patience, half.config.patience) == (4, 4)
    assert none.tuned_config is None
    assert none.config == complete("sasrec", "musical_instruments", ["lr=0.01", "dropout=0.5"], tuned=False).config


def test_what_a_paper_sets_on_a_corpus_is_no_override() -> None:
    assert complete("decor", "industrial_and_scientific", ["alpha=0.25"]).overrides == ()
    assert complete("decor", "musical_instruments", ["alpha=0.25"]).overrides == (
        () if decor.Config().alpha == 0.25 else ("alpha=0.25",)
    )
    assert complete("decor", "industrial_and_scientific", ["patience=10"]).overrides == ("patience=10",)


def test_no_folder_of_this_machine_is_told(tmp_path: Path) -> None:
    assert experiments.last_part(str(tmp_path / "codes.tsv")) == "codes.tsv"
    assert experiments.last_part("../anna/codes.tsv") == "codes.tsv"
    assert experiments.last_part("letter") == "letter"
    assert experiments.last_part(3) == 3


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("sasrek", [], "no model or experiment 'sasrek'; did you mean 'sasrec'? possible: "),
        ("tiger-sass", [], "did you mean 'tiger-sas'?"),
        ("letter-tau-0.55", [], "did you mean 'letter-tau-0.5'?"),
        (
            "tigre-unseen-users",
            [],
            "no model .*'tigre-unseen-users'; did you mean 'tiger-unseen-users'? possible: ",
        ),
        ("tiger-unseen-user", [], "did you mean 'tiger-unseen-users'?"),
        ("tiger-unseen-users-unseen-users", [], "no model or experiment 'tiger-unseen-users-unseen-users'"),
        ("-unseen-users", [], "no model or experiment '-unseen-users'"),
        ("sasrec", ["widht=3"], "sasrec has no option 'widht'; did you mean 'width'? possible: batch_size, "),
        ("tiger", ["tokenizer.code=3"], "did you mean 'tokenizer.codes'?"),
        ("tiger", ["tokenizer=3"], "tiger has no option 'tokenizer'"),
        ("tiger-sas", ["widht=3"], "tiger has no option 'widht'"),
        ("popularity", ["width=3"], "popularity has no option 'width'"),
        ("sasrec", ["width=wide"], "sasrec option width is 'wide': .*integer"),
        ("sasrec", ["width=1.5"], "sasrec option width is 1.5: .*integer"),
        ("sasrec", ["loss=hinge"], "sasrec option loss is 'hinge': .*'ce', 'bce', 'bpr' or 'sampled'"),
        ("tiger", ["tokenizer.lr=fast"], "tiger option tokenizer.lr is 'fast': .*number"),
        ("tiger", ["tokenizer.hidden=128"], "tiger option tokenizer.hidden is 128: .*tuple"),
        ("sasrec", ["valid_users=4999"], "sasrec option valid_users is 4999; expected null or at least 5000"),
        ("tiger", ["batch_size=0"], "tiger option batch_size is 0; expected at least 1"),
        ("letter", ["tokenizer_batch=-1"], "letter option tokenizer_batch is -1; expected at least 1"),
        ("sasrec", ["heads=3"], "sasrec options width 128 is no multiple of heads 3"),
        ("sasrec", ["layers=0"], "sasrec option layers is 0; expected at least 1"),
        ("sasrec", ["lr=NaN"], "sasrec option lr is nan; expected a finite number"),
        ("sasrec", ["lr=0"], "sasrec option lr is 0; expected more than 0"),
        ("tiger", ["t5.dropout=1"], "tiger option t5.dropout is 1; expected less than 1"),
        ("letter", ["tokenizer.codes=1"], "letter option tokenizer.codes is 1; expected at least 2"),
        ("etegrec", ["cycle=1"], "etegrec option cycle is 1; expected at least 2"),
        ("pit", ["i2t.heads=3"], "pit options i2t: width 64 is no multiple of heads 3"),
        ("sasrec", ["width"], "setting 'width' is not of the form key=value"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(name: str, settings: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")) as error:
        complete(name, "musical_instruments", settings)
    assert "\n" not in str(error.value)


MINE = """
from dataclasses import dataclass
from typing import Any

@dataclass(frozen=True)
class Config:
    {field}

SMALL = Config()

def train(config, corpus, fit): ...
"""


def write_model(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, field: str = "epochs: int = 3") -> None:
    """A model of a name that no other test's has, since modules stay imported."""
    (folder / f"{name}.py").write_text(MINE.format(field=field))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder)])


@pytest.mark.parametrize(
    ("number", "field", "said"),
    [
        (
            1,
            "codes: int = 256",
            "codes is 256; expected null or a string, for a field codes is reserved to name a file of item codes",
        ),
        (
            2,
            "vectors: bool = True",
            "vectors is True; expected null or a string, for a field vectors is reserved to name item vectors",
        ),
        (
            3,
            "collaborative: Any = ()",
            r"collaborative is \(\); expected null or a string, .* reserved to name a SASRec's item vectors",
        ),
    ],
)
def test_a_reserved_field_of_another_meaning_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, field: str, said: str
) -> None:
    write_model(tmp_path, monkeypatch, f"reserved_{number}", field)
    with pytest.raises(ValueError, match=f"^reserved_{number} option {said}$"):
        complete(f"reserved_{number}", "planted")


@pytest.mark.parametrize("field", ["codes: Any = 'mine.tsv'", "vectors: Any = None", "tokens: int = 256"])
def test_a_field_that_names_an_input_or_nothing_is_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    name = f"allowed_{field.split(':')[0]}"
    write_model(tmp_path, monkeypatch, name, field)
    assert complete(name, "planted").config == models.load(name).SMALL


@pytest.mark.parametrize("name", ["my-model", "tiger-paper", "letter-tau-0.5", "2024"])
def test_a_models_file_with_no_name_for_a_module_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_model(tmp_path, monkeypatch, name)
    for ask in (models.names, experiments.names, lambda: models.load("tiger"), lambda: complete(name, "planted")):
        with pytest.raises(ValueError, match=f"^models/{name}.py names no model; expected a letter of ASCII"):
            ask()


@pytest.mark.parametrize("name", ["all", "plain"])
def test_a_models_file_with_a_name_that_is_taken_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_model(tmp_path, monkeypatch, name)
    monkeypatch.setitem(experiments.VARIANTS, "plain", experiments.Variant("sasrec", {"loss": "bce"}))
    with pytest.raises(ValueError, match=f"^models/{name}.py has a name that benchmarks/experiments.py has taken; exp"):
        complete("sasrec", "planted")


@pytest.mark.parametrize("name", models.names())
def test_every_number_has_a_range(name: str) -> None:
    """A new field of a model has one, too."""
    numbers = [(key, value) for key, value in leaves(dataclasses.asdict(models.load(name).Config())) if number(value)]
    for key, value in numbers:
        for wrong in ("-1", *(["NaN"] if isinstance(value, float) else [])):
            with pytest.raises(ValueError, match=f"{name} option {key} is {wrong.lower()}; expected ") as error:
                complete(name, "planted", [f"{key}={wrong}"])
            assert "\n" not in str(error.value)


def number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("name", experiments.names())
def test_a_config_survives_json(name: str) -> None:
    """A record holds the config; whoever repeats the row must get the same one from it."""
    config = complete(name, "planted").config
    flat: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    settings = [f"{key}={json.dumps(value)}" for key, value in leaves(flat)]
    assert complete(name, "musical_instruments", settings).config == config


def leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for key, value in values.items():
        pairs += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return pairs


def test_no_weight_is_less_than_none() -> None:
    plain, signed = (complete("sasrec", "beauty_2014", settings) for settings in ([], ["weight_decay=-0.0"]))
    assert str(signed.config.weight_decay) == "0.0"
    assert signed.overrides == plain.overrides == ()
