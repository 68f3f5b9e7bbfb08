"""Training that is tracked beside training that is not: what watching costs. TIGER of default sizes, random codes."""

from __future__ import annotations

import resource
import tempfile
from dataclasses import replace
from itertools import count

from benchmarks import tracking
from benchmarks.fit import Hardware
from benchmarks.keeper import Stage
from benchmarks.perf import Pair, Turns, in_turn, pair, seconds
from benchmarks.perf.train import Setting, Spread, load, ours, tiger

BATCHES, REPEATS = 4, 9


def track_cpu(setting: Setting | None = None, repeats: int = REPEATS) -> list[Pair]:
    """Samples per second on the CPU, with W&B's offline files and without; each pass ends in a look at quality."""
    setting = setting or Setting(load(), Hardware("cpu"), BATCHES)
    module, batches = tiger(setting), Spread(setting, setting.batches)
    with tempfile.TemporaryDirectory() as folder:
        tracker = tracking.tracker_of(about(folder))
        epochs = count(1)

        def tracked() -> None:
            watchers = tracker.watch("recommender")
            ours(module, batches, setting.hardware, watchers)
            for watcher in watchers:
                watcher.checked(Stage("recommender", next(epochs), quality=[0.0]), module)

        # wandb has started when the first message has been taken; the measured passes are not beside its start.
        tracked()
        tracked()
        turns = in_turn(
            lambda: seconds(tracked), lambda: seconds(lambda: ours(module, batches, setting.hardware)), repeats
        )
        tracker.summary({"done": 1.0})
        tracker.close()
        if tracker.scribe is None or not tracker.scribe.on:
            raise ValueError("wandb failed while it was measured")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    rates = Turns(*([batches.samples / value for value in side] for side in turns))
    made = pair(
        "track_cpu", rates, "samples/s", f"the same training untracked, {setting.batches} batches of TIGER a pass"
    )
    return [
        replace(
            made, note=f"{made.note}; wandb's own process: {spent.ru_utime + spent.ru_stime:.1f} CPU-seconds in all"
        )
    ]


def about(folder: str) -> dict[str, object]:
    """A run that is nobody's."""
    return {"name": "perf", "id": "perf", "mode": "offline", "root": folder, "call_seconds": 60, "server_seconds": 1}
