"""Named, complete experiments: a model, and every field of its config.

A model's own name is its paper's configuration, with what the paper sets otherwise on a corpus (`ON_CORPUS`); on
corpora of a few thousand users it is the model's `SMALL` one. A variant changes a few fields of that. A recipe's sizes,
rates and lengths are for corpora of the papers' size: on the small ones it keeps only what makes it the recipe that it
is, with the model's small sizes. Any name may end in `-unseen-users`: the users with the least history are then kept
from the model, and the row says how it ranks for them. People write this file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import models
from benchmarks import best_config
from benchmarks.best_config import TunedConfig
from benchmarks.config import changed, described, flat, near, setting, unread
from data_prep.codes_file import NAME
from data_prep.corpus import Corpus, source_name
from data_prep.own_corpus import OWN


class Variant(NamedTuple):
    """
    Attributes:
        settings: what it changes of its model's config on every corpus.
        description: where it is from and what was published of it, for `python -m benchmarks list`.
        at_full_size: what it changes besides, but for the small corpora.
    """

    model: str
    settings: Mapping[str, Any]
    description: str = ""
    at_full_size: Mapping[str, Any] = {}

    def changes(self, small: bool = False) -> dict[str, Any]:
        """What it changes on a corpus that is `small` or not."""
        return {**self.settings, **({} if small else self.at_full_size)}


# Whitened principal components in residual k-means, fitted on what occurs in training: the code family's default.
GENREC_TOKENIZER = {
    "tokenizer.method": "rq-kmeans",
    "tokenizer.inputs": "whitened",
    "tokenizer.components": 64,
    "tokenizer.fitted_on": "training-items",
}

# Recipes by which TIGER was trained on Beauty_2014, with R@10 / N@10; beams are the diagnostics' affair.
RECIPES = {
    "tiger-paper": Variant(
        "tiger",
        # Codebooks of the paper's size everywhere: too many items share their codes for a small book of suffixes.
        {"tokenizer.optimizer": "adagrad", "tokenizer.lr": 0.4, "tokenizer.codes": 256, "schedule": "hold"},
        "TIGER's own rates (arXiv 2305.05065): .0648 / .0384 on Beauty_2014",
        {"tokenizer_epochs": 20_000, "tokenizer_check": 500, "lr": 1e-2},
    ),
    # A batch of its code is up to 512 of all contiguous histories of 32 users, and a step takes 16. Here a batch is of
    # the histories of all users, so the 5% of them that have most give 63% and not 49%. It validates every 100 steps,
    # with a patience of 10: here 9 epochs of 120 steps.
    "tiger-grid": Variant(
        "tiger",
        {
            **{"tokenizer.method": "rq-kmeans", "tokenizer.normalised_residuals": True},
            **{"output": "level", "tied_head": False, "starts": "any", "decoupled_decay": False, "clip": 0.0},
        },
        "GRID, 5 seeds (arXiv 2604.05329): .0645 +- .0019 / .0353 +- .0013 on Beauty_2014; here without its second "
        "hidden layer, its separators between items and its start from torch's own weights, and with more of the "
        "histories of users who have many",
        {
            **{"t5.dropout": 0.15, "history": 29, "lr": 1e-3, "schedule": "constant", "warmup": 0},
            # Its loss is a sum over four levels, here a mean: 1e-4 in its gradients is a quarter of that in these.
            **{"weight_decay": 2.5e-5, "batch_size": 512, "accumulate": 16, "patience": 9},
            "steps": 200_000,
        },
    ),
    # The recommender is cornac's, which has a head for each level. The tokenizer's dropout is Paischer et al.'s; cornac
    # has a hidden layer of 768 more, and sums the terms of the codebooks over levels, where they are averaged here.
    "tiger-paischer": Variant(
        "tiger",
        {
            **{"tokenizer.inputs": "standardised", "tokenizer.dropout": 0.1, "tokenizer.reduction": "mean"},
            **{"output": "level", "tied_head": False, "clip": 0.0},
        },
        "Paischer et al.'s recipe in cornac: .0634 / .0338 on Beauty_2014; here batches of 256 in place of 64, a "
        "tokenizer with a layer less that starts from 1,024 items in place of all, its gradients clipped, and no "
        "restart of codes that no item has",
        {
            **{"tokenizer.hidden": (512, 256), "tokenizer.width": 128, "tokenizer.weight_decay": 0.1},
            **{"tokenizer_batch": 2048, "tokenizer_epochs": 8_000},
            **{"t5.encoder_layers": 6, "t5.decoder_layers": 6, "t5.dropout": 0.2},
            **{"lr": 3e-4, "schedule": "cosine", "weight_decay": 0.035, "patience": 15, "steps": 200_000},
        },
    ),
    "tiger-genrec": Variant(
        "tiger",
        {**GENREC_TOKENIZER},
        "Ding et al. (KDD 2026, arXiv 2603.19809) on genrec's code: NDCG@10 .0383 on Beauty_2014 by vectors of "
        "sentence-t5-base",
        {"tokenizer.components": 128, "lr": 3e-3, "schedule": "cosine", "weight_decay": 0.05, "steps": 154_200},
    ),
    "tiger-discrec": Variant(
        "letter",
        {"collaborative": None, "tokenizer.diversity": 0.0, "temperature": 1.0},
        "LETTER's code without its terms, by DiscRec's settings but for its gradients, which it does not clip, and its "
        "tokenizer's epoch, the last; its log is of its own model on such codes, DCSM-T: .0656 / .0348 on Beauty_2014",
        {"batch_size": 256},
    ),
}

VARIANTS = {
    "transitions-bigram": Variant(
        "transitions",
        {"two_hops": False},
        "one hop, then popularity; by others .0659 / .0427 (R@10 / N@10, Beauty_2014)",
    ),
    "transitions-undirected": Variant(
        "transitions", {"directed": False}, "what came directly before counts as what came directly after"
    ),
    "sasrec-bce": Variant("sasrec", {"loss": "bce"}),
    "sasrec-sampled": Variant("sasrec", {"loss": "sampled"}, "softmax over the next item and 256 others, as eSASRec's"),
    "esasrec-no-ligr": Variant(
        "esasrec",
        {"block": "sasrec"},
        "SASRec+SS of eSASRec's table: .0921 / .0531 (R@10 / N@10, Beauty_2014)",
    ),
    "rearec-ensemble": Variant(
        "rearec", {"learning": "ensemble"}, "ensemble reasoning learning; `rearec` learns progressively"
    ),
    "tiger-sas": Variant("tiger", {"vectors": "sasrec-128"}, "TIGER in ETEGRec's table 3", {"history": 50}),
    **RECIPES,
    "tiger-short": Variant(
        "tiger",
        {"tokenizer.method": "rq-kmeans", "tokenizer.normalised_residuals": True},
        "what two hours of two cores allow on Beauty_2014, 35 epochs: GRID's codes, LETTER's rate and batches, and a "
        "rate that stays until it falls over the last fifth",
        {"lr": 5e-4, "schedule": "trapezoid", "warmup": 250, "weight_decay": 0.01, "steps": 17_990},
    ),
    # The temperature of the generation loss; LETTER's own is .7, plain cross-entropy has 1.
    "letter-tau-0.5": Variant("letter", {"temperature": 0.5}),
    "letter-tau-0.6": Variant("letter", {"temperature": 0.6}),
    "letter-tau-0.8": Variant("letter", {"temperature": 0.8}),
    "letter-tau-0.9": Variant("letter", {"temperature": 0.9}),
    "letter-plain-ce": Variant("letter", {"temperature": 1.0}),
    "letter-tau-1.1": Variant("letter", {"temperature": 1.1}),
    "letter-tau-1.2": Variant("letter", {"temperature": 1.2}),
    "letter-authors-codes": Variant(
        "letter",
        {"codes": "letter", "vectors": None, "collaborative": None},
        "the paper .0672 / .0364 (R@10 / N@10, Beauty_2014), another lab with these codes at a temperature of 1 "
        ".0670 / .0360",
    ),
    "letter-no-cf": Variant("letter", {"collaborative": None}),
    "letter-no-diversity": Variant("letter", {"tokenizer.diversity": 0.0}),
    # The ablations of ETEGRec's table 4.
    "etegrec-no-sia": Variant("etegrec", {"sia_weight": 0.0}),
    "etegrec-no-psa": Variant("etegrec", {"psa_weight": 0.0}),
    "etegrec-no-alignment": Variant("etegrec", {"sia_weight": 0.0, "psa_weight": 0.0}),
    "etegrec-joint": Variant("etegrec", {"training": "joint"}),
    "etegrec-frozen": Variant("etegrec", {"training": "retrained"}),
    # The paper's formula instead of the official code's, in which the encoder learns from the first level alone.
    "etegrec-paper-sia": Variant(
        "etegrec", {"sia_sign": "nearest", "sia_levels": "sum", "tokenizer.residual_gradient": "all"}
    ),
    # The rows of DECOR's table 2, by what is on; its base row, TIGER, in DECOR's own setting.
    "decor-base": Variant(
        "decor",
        {"fusion": False, "alpha": 0.0, "bos_queries": 0},
        "the base row of the paper's table 2: TIGER in DECOR's setting",
    ),
    "decor-composition": Variant("decor", {"fusion": False, "bos_queries": 0}),
    "decor-composition-bos": Variant("decor", {"fusion": False}),
    "decor-fusion": Variant("decor", {"alpha": 0.0, "bos_queries": 0}),
    "decor-fusion-composition": Variant("decor", {"bos_queries": 0}),
    "decor-genrec": Variant(
        "decor",
        GENREC_TOKENIZER,
        "DECOR on the tokenizer that its code family, genrec, has by default",
        {"tokenizer.components": 128},
    ),
    # The rows of PIT's table 3, with R@10 / N@10 on Beauty and on Toys; its own are .0783 / .0403 and .0839 / .0432.
    # .0738 / .0379, .0771 / .0397
    "pit-no-csa": Variant("pit", {"csa_weight": 0.0}),
    # .0742 / .0387, .0798 / .0405: a random candidate instead of minimum-loss selection.
    "pit-no-mls": Variant("pit", {"selection": "random"}),
    # .0666 / .0349, .0622 / .0321: one sequence per item, and with it none to say whose a proposed one is.
    "pit-no-beam-index": Variant("pit", {"beam_index": False, "candidates": "proposed"}),
    # .0606 / .0317, .0498 / .0252: I2T as a static tokenizer.
    "pit-no-mls-no-beam-index": Variant("pit", {"beam": 1}),
    # Appendix A.2.2, index reuse: an item is found by its heaviest sequence alone.
    "pit-best-sequence": Variant("pit", {"served": "best"}),
    # Its online system: I2T learns on under the reference regulariser (eq. 14-16); where its codes start (figure 5).
    "pit-coevolving": Variant("pit", {"coevolving": True}),
    "pit-rq-kmeans": Variant("pit", {"start": "rq-kmeans"}),
    # Eq. 9 to the letter: a target may be learned by what the index gives to another item.
    "pit-all-proposals": Variant("pit", {"candidates": "proposed"}),
}

# What a paper sets otherwise on one of its corpora.
ON_CORPUS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("decor", "industrial_and_scientific"): {"alpha": 0.25, "bos_queries": 32},
    ("decor", "video_games"): {"patience": 10},
    ("esasrec", "sports_2014"): {"inner": 2},
    ("esasrec", "toys_2014"): {"inner": 1},
    ("etegrec", "video_games"): {"sia_weight": 1e-3},
    ("tiger", "toys_2014"): {"steps": 100_000},
}

# What a bench runs where nothing was chosen: floors, SASRec and the five papers, within twelve minutes on planted.
DEFAULT = (
    *("popularity", "transitions", "transitions_text", "item_knn", "last_item_vectors", "sasrec"),
    *("tiger", "letter", "etegrec", "decor", "pit"),
)
# Reserved fields of a config: a string in one, or None, says what `benchmarks/model_inputs.py` is to give the model.
INPUTS = {
    "vectors": "item vectors",
    "collaborative": "a SASRec's item vectors",
    "codes": "a file of item codes",
}
# Stands for every model, where experiments are chosen.
ALL = "all"
# Ends the name of any experiment.
UNSEEN = "-unseen-users"
# Of an experiment: files have it in their names.
NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# A smaller sample of users would choose a row's epoch by chance.
FEWEST_VALID_USERS = 5_000

# Too small for the papers' sizes: a paper-size model has more weights than they have interactions. These are ours;
# a user's own corpus is small with fewer items or interactions than this, and so would be each of these and, of all
# that have a card, no other.
SMALL_CORPORA = ("all_beauty", "planted", "planted_noise")
FULL_ITEMS, FULL_INTERACTIONS = 1_000, 100_000
# Codes of a book of the tokenizer, in the models that have one.
CODES = "tokenizer.codes"


@dataclass(frozen=True)
class Experiment:
    """What a run is made from, but for the corpus and the seed.

    Attributes:
        name: as on the board.
        model: a file of `models/`.
        config: complete.
        unseen_users: the model is graded on users that were kept from it, those with the least history.
        tuned_config: of the sweep that some of the config is from.
        overrides: settings that differ from what the experiment has without them, `key=value`.
    """

    name: str
    model: str
    config: Any
    unseen_users: bool = False
    tuned_config: TunedConfig | None = dataclasses.field(default=None, hash=False)
    overrides: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """The name of the same experiment on all users."""
        return self.name.removesuffix(UNSEEN)


def names() -> list[str]:
    """
    Raises:
        ValueError: a model's file has a name that stands for something else, and would never be run; a variant has a
            name that no file can have, or that stands for unseen users.
    """
    for name in VARIANTS:
        if not NAMED.fullmatch(name) or name.endswith(UNSEEN):
            raise ValueError(
                f"benchmarks/experiments.py: an experiment has a name {name!r}; expected letters, digits, _, . and -, "
                f"a letter or digit first, and no {UNSEEN} behind them"
            )
    found = models.names()
    if taken := {*VARIANTS, ALL}.intersection(found):
        raise ValueError(
            f"models/{min(taken)}.py has a name that benchmarks/experiments.py has taken; expected another"
        )
    return sorted([*found, *VARIANTS])


def chosen(given: Sequence[str] | None) -> list[str]:
    """The names that a bench was asked for."""
    asked = [models.names() if name == ALL else [name] for name in given or DEFAULT]
    return list(dict.fromkeys(chain.from_iterable(asked)))


def variant(name: str) -> Variant:
    """What a name of `names` stands for; a model's own name changes nothing."""
    return VARIANTS.get(name, Variant(name, {}))


def small(corpus: str | Corpus) -> bool:
    """Whether a corpus is too small for the papers' sizes; some of its users, or none of its test part, are as small
    as the whole of it. The name is enough of ours, but not of a user's own."""
    if isinstance(corpus, Corpus) and corpus.card.get("origin") == OWN:
        whole = corpus.card["steps"][-1]
        return few(whole["items"], whole["interactions"])
    return _name(corpus) in SMALL_CORPORA


def few(items: int, interactions: int) -> bool:
    """Whether a corpus of so many is small."""
    return items < FULL_ITEMS or interactions < FULL_INTERACTIONS


def _name(corpus: str | Corpus) -> str:
    """Of the whole corpus, as it was read."""
    return source_name(corpus if isinstance(corpus, str) else corpus.name)


def complete(name: str, corpus: str | Corpus, settings: Iterable[str] = (), tuned: bool = True) -> Experiment:
    """The experiment `name` on a corpus, with `key=value` settings applied.

    Values are JSON where they parse as JSON, else strings; keys of nested fields are dotted (`tokenizer.lr=0.001`).
    What a sweep has found for the experiment, or for its model, takes the place of defaults, unless not `tuned`.

    A codebook is never larger than the number of items: where it would be, `tokenizer.codes` is that number, an
    override like those that are given. Only the corpus itself tells, and whether a user's own is small.

    Raises:
        ValueError: unknown experiment or key (with a suggestion), a value of the wrong type, more codes than items,
            a reserved field (`INPUTS`) with another meaning, a setting that nothing reads.
    """
    whole = name.removesuffix(UNSEEN)
    if whole not in names():
        close = near(name, [*names(), *(known + UNSEEN for known in names())])
        raise ValueError(
            f"no model or experiment {name!r}; {close}possible: {', '.join(names())}, each also with {UNSEEN}"
        )
    model, made_of = variant(whole).model, layers(whole, corpus, settings, tuned)
    named = changed(made_of.base, made_of.named(), model)
    config = changed(made_of.base, {**made_of.named(), **made_of.settings}, model)
    overrides = _overrides(named, config, made_of.settings)
    _check_inputs(name, config)
    # Who repeats a row sets all of its options.
    if not made_of.settings.keys() >= dict(flat(dataclasses.asdict(config))).keys():
        for option in (override.partition("=")[0] for override in overrides):
            if unread(config, option):
                raise ValueError(f"{name} option {option} is set, but nothing reads it beside the other options")
    sample = getattr(config, "valid_users", None)
    if sample is not None and not (isinstance(sample, int) and sample >= FEWEST_VALID_USERS):
        raise ValueError(f"{name} option valid_users is {sample!r}; expected null or at least {FEWEST_VALID_USERS}")
    return Experiment(name, model, config, name.endswith(UNSEEN), made_of.found.tuned_config, overrides)


def _check_inputs(name: str, config: Any) -> None:
    for field, meaning in INPUTS.items():
        value = getattr(config, field, None)
        if not isinstance(value, str | None):
            raise ValueError(
                f"{name} option {field} is {value!r:.200}; expected null or a string, for a field {field} is "
                f"reserved to name {meaning}"
            )
    # A row has the last part of a path, which is not to be taken for a name.
    codes = getattr(config, "codes", None)
    if codes is not None and not NAME.fullmatch(codes) and NAME.fullmatch(Path(codes).name):
        raise ValueError(
            f"{name} option codes is {codes!r:.200}; expected a file with an ending, as {Path(codes).name}.tsv"
        )


def _overrides(before: Any, after: Any, keys: Iterable[str]) -> tuple[str, ...]:
    """What of `keys` a config has otherwise than it had, as one would type it; of a path its last part."""
    was, now = (dict(flat(dataclasses.asdict(config))) for config in (before, after))
    told = {key: last_part(now[key]) for key in sorted(keys) if now[key] != was[key]}
    return tuple(described({key: value}) for key, value in told.items())


def last_part(value: Any) -> Any:
    """No machine's folders are published."""
    return Path(value).name if isinstance(value, str) and "/" in value else value


class Layers(NamedTuple):
    """What a config is made of: a base, and changes of it by dotted option, each of which wins over those before it.

    Attributes:
        base: the model's `SMALL` config, or its paper's.
        papers: `ON_CORPUS`.
        found: by a sweep.
        variant: of a named experiment.
        settings: given with the command.
    """

    base: Any
    papers: Mapping[str, Any]
    found: Found
    variant: Mapping[str, Any]
    settings: Mapping[str, Any]

    def named(self) -> dict[str, Any]:
        """Changes by the name alone, without what was given with the command."""
        return {**self.papers, **self.found.changes, **self.variant}


def layers(whole: str, corpus: str | Corpus, settings: Iterable[str] = (), tuned: bool = True) -> Layers:
    """What the config of one of `names` on a corpus is made of; arguments are those of `complete`."""
    chosen, known = variant(whole), _name(corpus)
    model = models.load(chosen.model)
    base = model.SMALL if small(corpus) else model.Config()
    found = _found(whole, chosen.model, _swept(corpus), base) if tuned else Found()
    own, given = chosen.changes(small(corpus)), dict(setting(text) for text in settings)
    if found.tuned_config and not found.tuned_config.params.keys() - {**own, **given}.keys():
        found = Found()
    made_of = Layers(base, ON_CORPUS.get((chosen.model, known), {}), found, own, given)
    return made_of if isinstance(corpus, str) else _with_fewer_codes(made_of, corpus)


def _with_fewer_codes(made_of: Layers, corpus: Corpus) -> Layers:
    """No more codes in a book than items."""
    options = {**dict(flat(dataclasses.asdict(made_of.base))), **made_of.named(), **made_of.settings}
    codes = options.get(CODES)
    # A value of another type is told of with those of all options.
    if options.get("codes") or not isinstance(codes, int) or codes <= corpus.items:
        return made_of
    if corpus.items < 2:
        raise ValueError(f"corpus {corpus.name} has {corpus.items} item; expected at least 2, to tell apart by codes")
    if CODES in made_of.settings:
        raise ValueError(f"option {CODES} is {codes}; expected at most {corpus.items}, the items of {corpus.name}")
    return made_of._replace(settings={**made_of.settings, CODES: corpus.items})


class Found(NamedTuple):
    """Attributes: tuned_config, of a sweep; changes, what it sets."""

    tuned_config: TunedConfig | None = None
    changes: Mapping[str, Any] = {}


def _swept(corpus: str | Corpus) -> list[str]:
    """The folders of what sweeps have found: on the corpus itself, else on the whole one that it was made from."""
    if isinstance(corpus, str):
        return [corpus, _name(corpus)]
    return [best_config.folder_of(name, corpus.fingerprint) for name in (corpus.name, _name(corpus))]


def _found(experiment: str, model: str, folders: Sequence[str], base: Any) -> Found:
    """What a sweep has found for the experiment, else for its model."""
    files = (best_config.path(folder, name) for folder in folders for name in (experiment, model))
    file = next((file for file in files if file.exists()), None)
    if file is None:
        return Found()
    tuned_config = best_config.read(file)
    changes = {**dict(setting(text) for text in tuned_config.settings), **tuned_config.params}
    # Tells of a wrong key or value where it stands.
    changed(base, changes, str(file))
    return Found(tuned_config, changes)
