"""The protocol ladder: one model, one recipe, and what each convention of published code is worth.

A rung changes one thing of the protocol of the boards. Most grade the same weights otherwise (`ladder_gradings`), some
need a training of their own (`ladder_trainings`), and options of the model that papers set differently are ordinary
rows. Each is compared on the same users; then those that raise the number are put one on the other. A rung that is
wrong is called so, and nothing but the ordinary rows can come to a board.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analyses import Finding, Lab, proven, proven_run
from benchmarks.analyses import ladder_gradings as gradings
from benchmarks.analyses.ladder_gradings import Rung, Weights
from benchmarks.analyses.ladder_trainings import Trained, chosen_on_test, with_validation_items
from benchmarks.evaluate import Grader
from benchmarks.execution.cell import Cell
from benchmarks.experiments import Experiment
from leaderboards.metrics import per_user
from leaderboards.plots import panels
from leaderboards.statistics import compare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC, OTHER = "ndcg@10", "recall@10"
# Test users at most of whom dear rungs are told, and the ladder as a whole; and those whose codes are searched for in
# several ways: all rungs then take less than ten minutes of two cores at TIGER's sizes.
SAMPLE, CODED_SAMPLE = 2_000, 5_000
HISTORIES = (20, 50)

CHOICE, APPROXIMATE, WRONG = "a choice", "an approximation", "wrong"


class Step(NamedTuple):
    """A rung that grades the same weights otherwise.

    Attributes:
        name: as papers would say it.
        rungs: one after the other.
        verdict: whether it is a choice, approximates the protocol or is wrong, and why.
        of: the weights that it is about.
        dear: only told of a sample of the users.
    """

    name: str
    rungs: tuple[Rung, ...]
    verdict: str
    of: Callable[[Weights], bool] = lambda weights: True
    dear: bool = False


def _of_codes(weights: Weights) -> bool:
    return weights.generator is not None


STEPS = (
    Step("seen items masked", (gradings.masked,), f"{CHOICE}: another task, to be said"),
    Step(
        "ranked at the loss's temperature",
        (gradings.at_loss_temperature,),
        f"{CHOICE}: published code ranks at 1",
        of=lambda weights: gradings.loss_temperature(weights.recommender) != 1,
    ),
    Step("beam 20", (gradings.BEAM_20,), APPROXIMATE, of=_of_codes),
    Step("beam 50", (gradings.BEAM_50,), APPROXIMATE, of=_of_codes),
    Step("beam 500", (gradings.BEAM_500,), APPROXIMATE, of=_of_codes, dear=True),
    Step("free beam 20", (gradings.FREE_20,), f"{APPROXIMATE}: codes that name no item miss", of=_of_codes),
    Step(
        "free beam 20, invalid dropped",
        (gradings.FREE_20, gradings.without_invalid),
        f"{WRONG}: what was generated is not counted",
        of=_of_codes,
    ),
    Step(
        "hits on code sequences", (gradings.codes_hit,), f"{WRONG}: an item is recommended, not its codes", of=_of_codes
    ),
    Step(
        "hits on code sequences, duplicates kept",
        (gradings.codes_hit_repeatedly,),
        f"{WRONG}: any item of the same codes counts",
        of=_of_codes,
    ),
    Step("ties in the target's favour", (gradings.ties_in_favour,), f"{WRONG}: equal scores win", dear=True),
    Step(
        "100 sampled negatives",
        (gradings.among_sampled,),
        f"{WRONG}: not consistent with the full ranking (Krichene and Rendle, KDD 2020)",
        dear=True,
    ),
)
# What raises numbers, in the order in which one is put on the other; codes only where a model has them, and behind the
# mask: a place of codes stands for the first item that has them, with which the mask would take the place away.
TOGETHER = ("seen items masked", "hits on code sequences", "ties in the target's favour", "100 sampled negatives")
PROTOCOL, LEARNED, ON_TEST = "protocol", "validation items trained on", "best epoch on test"
BATCHES = "metric averaged over batches"
BATCH_SIZE = 256


@dataclass(frozen=True)
class Graded:
    """What the users of a rung gain by it. Attributes: ranks, `[U]`; users, places in the test part; weights, `[U]`."""

    ranks: np.ndarray
    users: np.ndarray
    weights: np.ndarray | float = 1.0

    def gains(self, metric: str = METRIC) -> np.ndarray:
        return per_user(metric, self.ranks) * self.weights


def ladder(lab: Lab) -> Finding:
    """The rungs of one experiment, or of `lab.row` those that need no training.

    Raises:
        FileNotFoundError: the weights of the row are not there.
        ValueError: several were given, the model chooses epochs in several stages, or a training failed; the row is of
            another corpus, or a model or settings are given beside it.
    """
    return _of_experiment(lab, lab.experiment(lab.one("sasrec"))) if lab.row is None else _of_row(lab, lab.row)


def _of_experiment(lab: Lab, experiment: Experiment) -> Finding:
    protocol = chosen_on_test(lab, experiment)
    learned = with_validation_items(lab, experiment, protocol.epoch)
    grader, items = Grader(lab.corpus, "test"), lab.corpus.items
    base = Graded(proven(grader(protocol.chosen)).ranks, np.arange(lab.corpus.users))
    changes = _trainings(lab, experiment, grader, protocol, learned)
    lines = [_line(name, change.verdict, change.graded, base) for name, change in changes.items()]
    lines += _gradings(lab, Weights(protocol.chosen, items), base)
    together = {PROTOCOL: protocol.chosen, LEARNED: learned.watched, ON_TEST: learned.chosen}
    says = (
        "Effects of training rungs, whose weights are others, are about this seed alone. On the validation items the "
        f"model trains as many epochs as validation chose without them ({protocol.epoch}); chosen on test, epoch "
        f"{protocol.watched_epoch}, and with both, epoch {learned.epoch}."
    )
    named = [experiment.name, *experiment.overrides, f"seed {lab.seed}"]
    return _finding(lab, named, base, lines, {name: Weights(each, items) for name, each in together.items()}, says)


def _of_row(lab: Lab, file: Path) -> Finding:
    run, recommender = lab.recalled(file)
    proven_run(run)
    weights = Weights(recommender, lab.corpus.items)
    base = Graded(run.ranks["rank"].to_numpy(), np.arange(lab.corpus.users))
    named = [run.record.experiment, f"seed {run.record.seed}"]
    says = f"All rungs grade the weights of the row {'/'.join(file.parts[-4:])}; none is trained."
    return _finding(lab, named, base, _gradings(lab, weights, base), {PROTOCOL: weights}, says)


def _finding(
    lab: Lab, named: list[str], base: Graded, lines: list[dict[str, Any]], together: dict[str, Weights], says: str
) -> Finding:
    """
    Args:
        together: weights, each with one training rung more, to which the rungs that raise a number come.
    """
    table = pd.DataFrame([_line(PROTOCOL, "", base, base), *lines])
    figure, (effects, falls) = panels(
        "one change at a time", "one on the other", width=5.6, height=0.8 + 0.3 * len(table)
    )
    _draw_effects(effects, table)
    _draw_waterfall(falls, _cumulative(lab, together))
    says = (
        f"What conventions of published code are worth: {', '.join(named)}, {METRIC.upper()} "
        f"{base.gains().mean():.4f} under the protocol of the boards, test part of {lab.corpus.name}. Effect: of one "
        "change, paired on the same users, with its 95% interval, each for itself. "
        f"{SAMPLE:,} users at most where a rung is dear, and in the right picture, where each "
        f"bar is what a change adds to those above it; {CODED_SAMPLE:,} at most of a model that generates codes, "
        f"beside the same users under the protocol. {says} Rungs called wrong are here to be measured, and come to "
        "no board."
    )
    return Finding(table, figure, says, subject=named[0])


def _gradings(lab: Lab, weights: Weights, base: Graded) -> list[dict[str, Any]]:
    """A line for each rung that grades the same weights otherwise."""
    steps = [step for step in STEPS if step.of(weights)]
    most = lab.corpus.users if weights.generator is None else CODED_SAMPLE
    cheap = _graded(lab, weights, _sample(lab, most), _rungs(steps, dear=False))
    dear = _graded(lab, weights, _sample(lab, SAMPLE), _rungs(steps, dear=True), dear=True)
    lines = []
    for step in steps:
        of = dear if step.dear else cheap
        lines.append(_line(step.name, step.verdict, of[step.name], of[PROTOCOL]))
    uneven = Graded(base.ranks, base.users, gradings.batch_weights(len(base.users), BATCH_SIZE))
    return [*lines, _line(BATCHES, f"{WRONG}: users of the last batch weigh more", uneven, base)]


class Change(NamedTuple):
    """Attributes: graded, users by other weights; verdict, as of `Step`."""

    graded: Graded
    verdict: str


def _trainings(
    lab: Lab, experiment: Experiment, grader: Grader, protocol: Trained, learned: Trained
) -> dict[str, Change]:
    """Changes of what is trained, and of what is chosen."""
    users, found = np.arange(lab.corpus.users), dict[str, Change]()
    for name, recommender, verdict in (
        (LEARNED, learned.watched, f"{CHOICE}: more data than others have, to be said"),
        (ON_TEST, protocol.watched, f"{WRONG}: the test part chooses"),
        ("both of these", learned.chosen, WRONG),
    ):
        found[name] = Change(Graded(proven(grader(recommender)).ranks, users), verdict)
    options = _options(experiment)
    runs = lab.runs([Cell(lab.experiment(experiment.name, option), lab.seed) for option in options])
    for option, run in zip(options, runs, strict=True):
        found[option] = Change(Graded(run.ranks["rank"].to_numpy(), users), f"{CHOICE}: an ordinary row")
    return found


def _options(experiment: Experiment) -> list[str]:
    """Settings of the model in which papers differ: length of the history, and the loss."""
    config = experiment.config
    found = [f"history={length}" for length in HISTORIES if length != getattr(config, "history", length)]
    hints = typing.get_type_hints(type(config))
    if any(each.name == "loss" for each in fields(config)):
        found += [f"loss={loss}" for loss in typing.get_args(hints["loss"]) if loss != config.loss]
    return found


def _cumulative(lab: Lab, together: dict[str, Weights]) -> dict[str, Graded]:
    """The protocol, then one change put on the other, on a sample of the users."""
    users = _sample(lab, SAMPLE)
    *others, (begins, last) = together.items()
    steps = {name: _graded(lab, weights, users, _rungs())[PROTOCOL] for name, weights in others}
    known = {step.name: step for step in STEPS}
    done: tuple[Rung, ...] = ()
    rungs: dict[str, Sequence[Rung]] = {begins: done}
    for name in TOGETHER:
        if known[name].of(last):
            done += known[name].rungs
            # Drawn first: what the others do to a list is done to that of the drawn items.
            rungs[name] = sorted(done, key=lambda rung: rung is not gradings.among_sampled)
    return steps | _graded(lab, last, users, rungs, dear=True)


def _graded(
    lab: Lab, weights: Weights, users: np.ndarray, rungs: dict[str, Sequence[Rung]], dear: bool = False
) -> dict[str, Graded]:
    found = gradings.grade(weights, lab.corpus.examples("test").take(users), rungs, dear, lab.jobs)
    return {name: Graded(ranks, users) for name, ranks in found.items()}


def _rungs(steps: Sequence[Step] = (), dear: bool = False) -> dict[str, Sequence[Rung]]:
    """Those that are dear, or those that are not, and the protocol itself."""
    return {PROTOCOL: (), **{step.name: step.rungs for step in steps if step.dear == dear}}


def _sample(lab: Lab, most: int) -> np.ndarray:
    drawn = np.random.default_rng(0).permutation(lab.corpus.users)[:most]
    return np.sort(drawn)


def _line(name: str, verdict: str, graded: Graded, base: Graded) -> dict[str, Any]:
    found = compare(graded.gains()[None], base.gains()[None])
    return {
        "Rung": name,
        "Users": len(graded.users),
        "NDCG@10": float(graded.gains().mean()),
        "Recall@10": float(graded.gains(OTHER).mean()),
        "Effect": found.difference,
        "Low": found.interval.low,
        "High": found.interval.high,
        "p": found.p,
        "It is": verdict,
    }


def _draw_effects(axis: Axes, table: pd.DataFrame) -> None:
    places = np.arange(len(table))
    spread = np.stack([table["Effect"] - table["Low"], table["High"] - table["Effect"]]).clip(min=0)
    axis.errorbar(table["Effect"], places, xerr=spread, fmt="o", capsize=3)
    axis.axvline(0, color="grey", linewidth=0.8, linestyle=":")
    axis.set_yticks(places, table["Rung"])
    axis.invert_yaxis()
    axis.set_xscale("symlog", linthresh=0.01)
    axis.set_xlabel(f"difference of {METRIC.upper()}")


def _draw_waterfall(axis: Axes, steps: dict[str, Graded]) -> None:
    means = [float(graded.gains().mean()) for graded in steps.values()]
    starts = [0.0, *means[:-1]]
    places = np.arange(len(means))
    axis.barh(places, np.subtract(means, starts), left=starts)
    for place, (start, mean) in enumerate(zip(starts, means, strict=True)):
        text = f"{mean:.4f}" if not place else f"{mean - start:+.4f}"
        axis.annotate(text, (max(start, mean), place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(places, list(steps))
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.set_xlabel(METRIC.upper())
