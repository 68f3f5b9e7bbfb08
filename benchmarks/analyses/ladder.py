"""The protocol ladder: one model, one recipe, and what each convention of published code is worth.

A rung changes one thing of the protocol of the boards. Most grade the same weights otherwise (`ladder_gradings`), some
need a training of their own (`ladder_trainings`), and options of the model that papers set differently are ordinary
rows. Each is compared on the same users; then those that raise the number are put one on the other. A rung that is
wrong is called so, and nothing but the ordinary rows can come to a board.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analyses import Finding, Lab
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
        codes: it is about models that generate codes.
        dear: only told of a sample of the users.
    """

    name: str
    rungs: tuple[Rung, ...]
    verdict: str
    codes: bool = False
    dear: bool = False


STEPS = (
    Step("seen items masked", (gradings.masked,), f"{CHOICE}: another task, to be said"),
    Step("beam 20", (gradings.BEAM_20,), APPROXIMATE, codes=True),
    Step("beam 50", (gradings.BEAM_50,), APPROXIMATE, codes=True),
    Step("beam 500", (gradings.BEAM_500,), APPROXIMATE, codes=True, dear=True),
    Step("free beam 20", (gradings.FREE_20,), f"{APPROXIMATE}: codes that name no item miss", codes=True),
    Step(
        "free beam 20, invalid dropped",
        (gradings.FREE_20, gradings.without_invalid),
        f"{WRONG}: what was generated is not counted",
        codes=True,
    ),
    Step(
        "hits on code sequences", (gradings.codes_hit,), f"{WRONG}: an item is recommended, not its codes", codes=True
    ),
    Step(
        "hits on code sequences, duplicates kept",
        (gradings.codes_hit_repeatedly,),
        f"{WRONG}: any item of the same codes counts",
        codes=True,
    ),
    Step("ties in the target's favour", (gradings.ties_in_favour,), f"{WRONG}: equal scores win", dear=True),
    Step(
        "100 sampled negatives",
        (gradings.among_sampled,),
        f"{WRONG}: not consistent with the full ranking (Krichene and Rendle, KDD 2020)",
        dear=True,
    ),
)
# What raises numbers, in the order in which one is put on the other; codes only where a model has them.
TOGETHER = ("hits on code sequences", "seen items masked", "ties in the target's favour", "100 sampled negatives")
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
    """The rungs of one experiment.

    Raises:
        ValueError: several were given, the model chooses epochs in several stages, or a training failed.
    """
    experiment = _asked(lab)
    protocol = chosen_on_test(lab, experiment)
    learned = with_validation_items(lab, experiment, protocol.epoch)
    base, table = _single(lab, experiment, protocol, learned)
    steps = _cumulative(lab, protocol, learned)
    figure, (effects, falls) = panels(
        "one change at a time", "one on the other", width=5.6, height=0.8 + 0.3 * len(table)
    )
    _draw_effects(effects, table)
    _draw_waterfall(falls, steps)
    named = [experiment.name, *experiment.overrides]
    says = (
        f"What conventions of published code are worth: {', '.join(named)}, seed {lab.seed}, {METRIC.upper()} "
        f"{base.gains().mean():.4f} under the protocol of the boards, test part of {lab.corpus.name}. Effect: of one "
        "change, paired on the same users, with its 95% interval; of training rungs, whose weights are others, it is "
        f"about this seed alone. {SAMPLE:,} users at most where a rung is dear, and in the right picture, where each "
        "bar is what a change adds to those above it. On the validation items the model trains as many epochs as "
        f"validation chose without them ({protocol.epoch}); chosen on test, epoch {protocol.watched_epoch}, and with "
        f"both, epoch {learned.epoch}. Rungs called wrong are here to be measured, and come to no board."
    )
    return Finding(table, figure, says, subject=experiment.name)


def _asked(lab: Lab) -> Experiment:
    names = lab.names or ("sasrec",)
    if len(names) > 1:
        raise ValueError(f"a ladder is of one model; {len(names)} were given: {', '.join(names)}")
    experiment = lab.experiment(names[0])
    if experiment.unseen_users:
        raise ValueError(f"{experiment.name} has no ladder; expected an experiment on all users")
    return experiment


def _single(lab: Lab, experiment: Experiment, protocol: Trained, learned: Trained) -> tuple[Graded, pd.DataFrame]:
    """The protocol's grade, and a line for each change of it."""
    grader = Grader(lab.corpus, "test")
    whole, sample = np.arange(lab.corpus.users), _sample(lab, SAMPLE)
    weights = Weights(protocol.chosen, lab.corpus.items)
    steps = [step for step in STEPS if weights.generator is not None or not step.codes]
    most = lab.corpus.users if weights.generator is None else CODED_SAMPLE
    cheap = _graded(lab, weights, _sample(lab, most), _rungs(steps, dear=False))
    dear = _graded(lab, weights, sample, _rungs(steps, dear=True), dear=True)
    base = Graded(grader(protocol.chosen).ranks, whole)
    lines = [_line(PROTOCOL, "", base, base)]
    for name, change in _trainings(lab, experiment, grader, protocol, learned).items():
        lines.append(_line(name, change.verdict, change.graded, base))
    for step in steps:
        of = dear if step.dear else cheap
        lines.append(_line(step.name, step.verdict, of[step.name], of[PROTOCOL]))
    uneven = Graded(base.ranks, whole, gradings.batch_weights(len(whole), BATCH_SIZE))
    lines.append(_line(BATCHES, f"{WRONG}: users of the last batch weigh more", uneven, base))
    return base, pd.DataFrame(lines)


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
        found[name] = Change(Graded(grader(recommender).ranks, users), verdict)
    options = _options(experiment)
    runs = lab.runs([Cell(lab.experiment(experiment.whole, option), lab.seed) for option in options])
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


def _cumulative(lab: Lab, protocol: Trained, learned: Trained) -> dict[str, Graded]:
    """The protocol, then one change put on the other, on a sample of the users."""
    users = _sample(lab, SAMPLE)
    weights = [Weights(each, lab.corpus.items) for each in (protocol.chosen, learned.watched, learned.chosen)]
    names = (PROTOCOL, LEARNED, ON_TEST)
    steps = {name: _graded(lab, each, users, _rungs())[PROTOCOL] for name, each in zip(names, weights, strict=True)}
    known = {step.name: step for step in STEPS}
    done: tuple[Rung, ...] = ()
    rungs = dict[str, Sequence[Rung]]()
    for name in TOGETHER:
        if weights[-1].generator is not None or not known[name].codes:
            done += known[name].rungs
            rungs[name] = done
    return steps | _graded(lab, weights[-1], users, rungs, dear=True)


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
