"""Regress: does the code still give the numbers it gave? The check that changes are gated on.

The quick board is the embedded corpus with every model at a size that trains in seconds. `references/` holds a bank of
its runs on a CPU, `BANK` seeds each, and the weights of the first. Two questions are asked of a model, on a CPU too:

- Evaluation: do the committed weights rank every user as they did? To the bit on the platform of the reference; on
  another one a few users may swap neighbours whose scores are nearly equal.
- Training: are `COMPARED` fresh runs equivalent to the bank, by two one-sided paired tests on the same users? The bank
  has twice as many runs as are compared, as MLPerf's reference convergence points do. The margin is at least what the
  test can detect, so that noise alone hardly ever fails it; runs that are equal to the bit need no test.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import models
from benchmarks import provenance
from benchmarks.checks.rerank import platform, recall, rerank
from benchmarks.config import flat
from benchmarks.execution.cell import Cell
from benchmarks.execution.local import run_all
from benchmarks.experiments import Experiment, complete
from benchmarks.hardware import Hardware
from benchmarks.settings import Bench
from benchmarks.training.checkpoint_callback import BEST
from benchmarks.training.fit import weights_of
from data_prep.atomic import owned, write_text
from leaderboards import formats
from leaderboards.metrics import UNSEEN
from leaderboards.record import Record
from leaderboards.rows import RANKED_BY, Row
from leaderboards.statistics import Comparison, compare, equivalence
from leaderboards.store import Run, read_run, write

CORPUS = "planted"
HARDWARE = Hardware("cpu")
REFERENCES = Path(__file__).resolve().parents[1] / "references"
WEIGHTS = "weights"
COMPARED, BANK = 3, 6
# Where the weights were made on another platform: share of users that may come out at another rank.
TOLERATED = 0.005
# The margin of equivalence: so many times what the test detects, and at least this share of the reference's mean.
MARGIN, FLOOR = 1.5, 0.05
# A margin above this share of the reference's mean could not fail.
BLIND = 0.5
SIGNIFICANT = 0.05
# Line of the changelog beneath which changed references are told.
SECTION = "### Changes numbers\n\n"

# Settings of the quick board: a minute of training at most, still on the steep part of the curve, where a slower or a
# wrong training shows.
_T5 = [
    "t5.width=32",
    "t5.inner=64",
    "t5.heads=2",
    "t5.encoder_layers=1",
    "t5.decoder_layers=1",
    "history=5",
    "lr=0.006",
]
_RQVAE = ["tokenizer_epochs=40", "tokenizer_check=20"]
QUICK: Mapping[str, list[str]] = {
    "sasrec": [
        "width=32",
        "inner=64",
        "layers=1",
        "batch_size=128",
        "epochs=12",
        "history=10",
        "dropout=0.2",
        "lr=0.002",
    ],
    "gru4rec": ["width=32", "hidden=32", "history=10", "dropout=0.2", "lr=0.005", "epochs=14"],
    "caser": ["width=32", "horizontal=4", "history=5", "dropout=0.1", "lr=0.003", "epochs=24"],
    "bert4rec": ["width=32", "inner=64", "history=10", "dropout=0.0", "masked=0.4", "lr=0.003", "epochs=36"],
    "esasrec": ["width=32", "inner=2", "negatives=128", "history=10", "lr=0.005", "epochs=32"],
    "hgn": ["history=5", "lr=0.005", "epochs=12"],
    "fmlp_rec": ["width=32", "inner=64", "layers=1", "history=10", "lr=0.005", "epochs=8"],
    "fdsa": ["width=32", "inner=64", "layers=1", "history=10", "lr=0.002", "epochs=5"],
    "s3rec": ["width=32", "inner=64", "layers=1", "history=10", "lr=0.003", "pretraining_epochs=5", "epochs=12"],
    "hstu": ["width=32", "layers=1", "heads=2", "history=10", "epochs=10"],
    "rearec": [
        "width=32",
        "inner=64",
        "layers=1",
        "history=10",
        "dropout=0.1",
        "temperature=0.5",
        "lr=0.003",
        "epochs=10",
    ],
    "tiger": [*_T5, *_RQVAE, "steps=1080", "warmup=60"],
    "p5_sid": [*_T5, "steps=1080", "warmup=60"],
    "p5_cid": [*_T5, "steps=1080", "warmup=60"],
    "cost": [*_T5, *_RQVAE, "steps=1080", "warmup=60"],
    "letter": [*_T5, "tokenizer_epochs=100", "steps=1080"],
    "etegrec": [*_T5, *_RQVAE, "warm_epochs=2", "steps=360", "warmup=60", "finish_epochs=2"],
    "decor": [*_T5, *_RQVAE, "tokenizer.width=32", "steps=1080", "warmup=60", "bos_queries=4"],
    "pit": [
        *_T5,
        *_RQVAE,
        *["i2t.width=32", "i2t.layers=1", "i2t.heads=2", "i2t.inner=64"],
        *["warm_steps=360", "steps=270"],
    ],
}


@dataclass(frozen=True)
class Answer:
    """Attributes: model; question, evaluation or training; good; says, how far and what to do."""

    model: str
    question: str
    good: bool
    says: str


def experiment(model: str) -> Experiment:
    """The model's run on the quick board."""
    return complete(model, CORPUS, QUICK.get(model, []), tuned=False)


def gated(references: Path = REFERENCES) -> list[str]:
    """The models that have references.

    Raises:
        FileNotFoundError: none has: a gate that asks nothing would be green.
    """
    found = sorted(folder.name for folder in (references / CORPUS).glob("*") if folder.is_dir())
    if not found:
        raise FileNotFoundError(f"{references} has no references; expected {CORPUS}/<model>/<key>/seed-<n>.json in it")
    return found


def regress(
    work: Path,
    names: Sequence[str],
    seeds: Sequence[int] = range(COMPARED),
    jobs: int = 2,
    references: Path = REFERENCES,
) -> list[Answer]:
    """Asks both questions of each model; trains in a fresh folder beneath `work`.

    Raises:
        FileNotFoundError: a model has no reference.
        ValueError: there is no such model, or a run failed.
        OSError: another process makes runs there.
    """
    _check_models(names)
    banks = {name: bank(name, references) for name in names}
    folder = work / "regress"
    with owned(folder, _at_work(folder)):
        answers = [evaluation(folder, name, banks[name], references) for name in names]
        fresh = made(folder, names, seeds, jobs)
        return answers + [training(name, fresh[name], banks[name]) for name in names]


def _at_work(folder: Path) -> OSError:
    return OSError(f"another process makes runs of the quick board in {folder}; expected one at a time (--work)")


def _check_models(names: Iterable[str]) -> None:
    """References are of models, not of named experiments: raises what `models.load` does, before a training."""
    for name in names:
        models.load(name)


def bank(name: str, references: Path = REFERENCES) -> list[Run]:
    """The committed runs of a model on the quick board.

    Raises:
        FileNotFoundError: there are none.
        ValueError: one is damaged, or they are not `BANK` seeds of one config.
    """
    targets = sorted((references / CORPUS / name).glob("*/seed-*.json"))
    if not targets:
        raise FileNotFoundError(f"{references} has no run of {name}; `make regress ACCEPT=1 MODELS={name}` makes them")
    runs = [read_run(references, target) for target in targets]
    keys, seeds = {run.record.key for run in runs}, sorted(run.record.seed for run in runs)
    if len(keys) > 1 or seeds != list(range(BANK)):
        raise ValueError(
            f"{references} has seeds {', '.join(map(str, seeds))} of {name}, of {len(keys)} configs; expected 0 to "
            f"{BANK - 1} of one; `make regress ACCEPT=1 MODELS={name}` makes them"
        )
    return runs


def made(folder: Path, names: Sequence[str], seeds: Sequence[int], jobs: int) -> dict[str, list[Run]]:
    """Fresh runs of the quick board, by model; of earlier ones in the folder corpora and item vectors stay.

    Raises:
        ValueError: one failed.
    """
    for old in ("board", "fits"):
        shutil.rmtree(folder / old, ignore_errors=True)
    setting = Bench(folder / "board", folder, hardware=HARDWARE)
    cells = [Cell(experiment(name), seed) for seed in seeds for name in names]
    failed = run_all(setting, CORPUS, "auto", cells, jobs)
    if failed:
        raise ValueError(f"{len(failed)} of {len(cells)} runs of the quick board failed: {', '.join(map(str, failed))}")
    return {
        name: [read_run(setting.board, target) for target in sorted((setting.board / CORPUS / name).glob("*/*.json"))]
        for name in names
    }


def evaluation(work: Path, name: str, reference: Sequence[Run], references: Path = REFERENCES) -> Answer:
    """Ranks all users with the committed weights."""
    first = reference[0]
    try:
        again = rerank(Bench(references, work, hardware=HARDWARE), first, weights=references / WEIGHTS / name)
    except (ValueError, OSError) as error:
        return Answer(name, "evaluation", False, f"the committed weights cannot be ranked with: {error}; {WANTED}")
    same = platform(first.record.provenance) == platform(provenance.of(HARDWARE))
    good = again.different <= (0 if same else TOLERATED * again.users)
    where = "on the reference's platform" if same else f"on another platform than {platform(first.record.provenance)}"
    says = f"{again.different} of {again.users:,} users come out at another rank, {where}"
    if not good:
        says += "; the same weights must rank alike: look at history, search, ties and grading"
    return Answer(name, "evaluation", good, says)


def training(name: str, fresh: Sequence[Run], reference: Sequence[Run]) -> Answer:
    """Holds fresh runs against the bank."""
    new, old = Row(list(fresh), ranked=True), Row(list(reference), ranked=True)
    if new.record.key != old.record.key:
        return Answer(name, "training", False, f"its config has changed: {_changes(old.record, new.record)}; {WANTED}")
    known = {run.record.seed: run.record.ranks_sha256 for run in reference}
    if all(known.get(run.record.seed) == run.record.ranks_sha256 for run in fresh):
        return Answer(name, "training", True, f"{len(fresh)} runs equal to the bit, {RANKED_BY} {new.gains.mean():.4f}")
    answers = [_of_metric(metric, new, old) for metric in (RANKED_BY, f"{RANKED_BY}{UNSEEN}")]
    says = "; ".join(said for _, said in answers)
    return Answer(name, "training", all(good for good, _ in answers), says)


def _of_metric(metric: str, new: Row, old: Row) -> tuple[bool, str]:
    """Whether two rows are equivalent by a metric, and how far apart they are."""
    found, margin, p = held(new, old, metric)
    ours, mean = float(new.values(metric).mean()), float(old.values(metric).mean())
    equivalent, blind = p < SIGNIFICANT, margin > BLIND * mean
    share = formats.signed(100 * found.difference / mean if mean else 0.0, 0)
    says = (
        f"{metric} {ours:.4f}, {len(old.runs)} references {mean:.4f}: "
        f"{formats.signed(found.difference)} ({share}%), margin {margin:.4f}, "
        f"detectable {found.detectable:.4f}, p of a difference beyond the margin {p:.3f}"
    )
    if blind:
        says += f"; runs spread so much that a fall by {BLIND:.0%} would pass: steadier runs are needed, or more"
    if not equivalent:
        says += f"; {WANTED}"
    return equivalent and not blind, says


class Held(NamedTuple):
    """Attributes: found, the comparison; margin, of equivalence; p, of a difference beyond the margin."""

    found: Comparison
    margin: float
    p: float


def held(new: Row, old: Row, metric: str = RANKED_BY) -> Held:
    """Whether two rows are equal within what runs of such spread can tell."""
    ours, theirs = new.values(metric), old.values(metric)
    found = compare(ours, theirs)
    margin = max(MARGIN * found.detectable, FLOOR * float(theirs.mean()))
    return Held(found, margin, equivalence(found, margin))


WANTED = "if this is wanted, `make regress ACCEPT=1 WHY=...` makes new references and says so in CHANGELOG.md"


def accept(work: Path, names: Sequence[str], why: str, jobs: int = 2, references: Path = REFERENCES) -> list[str]:
    """Makes new references, and says so in the changelog.

    Args:
        why: the reason, for the changelog.

    Returns:
        What changed, a line per model, as in the changelog.

    Raises:
        ValueError: there is no such model, or a run failed.
        OSError: another process makes runs there.
    """
    _check_models(names)
    before = {name: _before(name, references) for name in names}
    folder = work / "regress"
    with owned(folder, _at_work(folder)):
        fresh = made(folder, names, range(BANK), jobs)
        for name in names:
            shutil.rmtree(references / CORPUS / name, ignore_errors=True)
            for run in fresh[name]:
                write(references, run.record, run.ranks)
            _keep_weights(folder, fresh[name][0], references / WEIGHTS / name)
    return [
        f"- References of `{name}` on the quick board: {RANKED_BY} {before[name]} -> {_mean(fresh[name])}; {why}"
        for name in names
    ]


def _before(name: str, references: Path) -> str:
    """What new references of a model take the place of."""
    try:
        return _mean(bank(name, references))
    except FileNotFoundError:
        return "none"
    except (ValueError, OSError):
        return "unreadable ones"


def check_changelog(changelog: Path) -> None:
    """Said before references are made, not after it.

    Raises:
        ValueError: it has no section on changed numbers, or is not there.
    """
    if not changelog.is_file() or SECTION not in changelog.read_text(encoding="utf-8"):
        raise ValueError(f"{changelog.absolute()} has no line {SECTION.strip()!r}; expected one under [Unreleased]")


def note(lines: Sequence[str], changelog: Path) -> None:
    """Adds lines at the top of the changelog's section on changed numbers.

    Raises:
        ValueError: it has no such section.
    """
    check_changelog(changelog)
    text = changelog.read_text(encoding="utf-8")
    before, title, after = text.partition(SECTION)
    write_text(changelog, before + title + "\n".join(lines) + "\n" + after)


def _mean(runs: Sequence[Run]) -> str:
    return f"{Row(list(runs), ranked=True).gains.mean():.4f}"


def _keep_weights(work: Path, run: Run, folder: Path) -> None:
    """Copies the weights of each stage of a run that was just made."""
    fit = recall(Bench(work / "board", work, hardware=HARDWARE), run.record).fit
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (stage, place) in enumerate(zip(fit.stages, fit.folders, strict=True)):
        shutil.copyfile(place / BEST, weights_of(folder, number, stage.name))


def _changes(old: Record, new: Record) -> str:
    before, after = (dict(flat(record.config)) for record in (old, new))
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    told = [f"{name} {before.get(name)!r} -> {after.get(name)!r}" for name in names]
    return ", ".join(told) or "corpus, protocol or item vectors differ, not the config"
