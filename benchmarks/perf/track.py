"""Training that is tracked beside training that is not: what watching costs. TIGER of default sizes, random codes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.hardware import Hardware
from benchmarks.perf import Pair, Turns, in_turn, pair, seconds
from benchmarks.perf.train import Setting, Spread, load, ours, tiger
from benchmarks.tracking import wandb_run
from benchmarks.training.checkpoint_callback import Watcher
from leaderboards.record import Stage

BATCHES, REPEATS = 2, 20


def track_cpu(setting: Setting | None = None, repeats: int = REPEATS) -> list[Pair]:
    """Training on the CPU with W&B's offline files and without, by the clock and by the processor's time; and the same
    tracked passes with and without what they spent in the hooks, which a machine whose pace changes blurs less.

    A look at quality and codes comes once an epoch, which has a thousand batches: its seconds are in a note.
    """
    setting = setting or Setting(load("musical_instruments"), Hardware("cpu"), BATCHES)
    module, batches = tiger(setting), Spread(setting, setting.batches)
    spent, passes = Turns([], []), Turns([], [])
    with tempfile.TemporaryDirectory() as folder:
        tracker = wandb_run.tracker_of(about(folder))
        watchers: Sequence[Watcher] = ()

        def tracked() -> None:
            nonlocal watchers
            watchers, hooks = tracker.watch("recommender"), list[float]()
            for watcher in watchers:
                clocked(watcher, hooks)
            took = seconds(lambda: ours(module, batches, setting.hardware, watchers))
            passes.ours.append(took)
            passes.baseline.append(took - sum(hooks))

        def plain() -> None:
            ours(module, batches, setting.hardware)

        def look() -> None:
            for watcher in watchers:
                watcher.checked(Stage.begun("recommender", epochs=1, quality=[0.0]), module)

        # wandb starts with the first message; what is measured is not beside its start.
        tracked()
        tracked()
        passes.ours.clear()
        passes.baseline.clear()
        turns = in_turn(lambda: timed(tracked, spent.ours), lambda: timed(plain, spent.baseline), repeats)
        looks = statistics.median(seconds(look) for _ in range(3))
        tracker.summary({"done": 1.0})
        tracker.close()
        if tracker.logger is None or not tracker.logger.is_on:
            raise ValueError("wandb failed while it was measured")
    rates = Turns(*([batches.samples / value for value in side] for side in turns))
    note = f"the same training untracked, {setting.batches} batches of TIGER on {setting.corpus.name} a pass"
    beside = "; what wandb's own process took is not in it"
    apart = f"the tracked passes without what they spent in hooks; a look at quality and codes takes {looks:.2g} s"
    return [
        pair("track_cpu", rates, "samples/s", note),
        pair("track_cpu_time", spent, "CPU-seconds", note + beside),
        pair("track_cpu_hooks", passes, "s", apart),
    ]


def clocked(watcher: Watcher, spent: list[float]) -> None:
    """Has the seconds of every call of the watcher's hooks added to `spent`."""

    def clock(hook: Callable[..., None]) -> Callable[..., None]:
        def called(*given: Any, **named: Any) -> None:
            spent.append(seconds(lambda: hook(*given, **named)))

        return called

    for name in vars(type(watcher)):
        if name.startswith("on_"):
            setattr(watcher, name, clock(getattr(watcher, name)))


def timed(work: Callable[[], None], spent: list[float]) -> float:
    """Wall time of one call; the processor's, of all threads of this process, goes to `spent`."""
    start = time.process_time()
    wall = seconds(work)
    spent.append(time.process_time() - start)
    return wall


def about(folder: str) -> dict[str, object]:
    """A run that is nobody's."""
    return {"name": "perf", "id": "perf", "mode": "offline", "root": folder}
