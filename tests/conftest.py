"""Corpora that many tests share, made once per run, and the harness's side of training in a folder of the test."""

from __future__ import annotations

import importlib
import json
import logging
import os
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import pytest
from hypothesis import settings

# The fixtures import what needs torch themselves: the process that hands out the tests does not wait for it.
if TYPE_CHECKING:
    from benchmarks.training.fit import Fit
    from data_prep.corpus import Corpus

SERVER = Path(__file__).with_name("postgres.sh")

# A busy machine is no wrong result.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure() -> None:
    if os.environ.get("GRBENCH_DATA"):
        # Tests change the folder that they work in.
        os.environ["GRBENCH_DATA"] = str(Path(os.environ["GRBENCH_DATA"]).resolve())
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


def pytest_collectstart() -> None:
    """Large libraries, from the files into which pip has compiled them: within a module whose shapes are checked,
    Python looks for others, and compiles the libraries for every process anew where it may not write them."""
    for name in ("matplotlib.pyplot", "pandas", "pytorch_lightning", "scipy.stats", "sklearn.cluster", "transformers"):
        importlib.import_module(name)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums then come out the same in every process, and the tests leave the other cores alone."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _states_after_every_look() -> Iterator[None]:
    """Trainings of tests take seconds, and those that are killed must have something to go on from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRBENCH_SAVE_SECONDS", "0")
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """No file of a test outlives a loss of power, and ten thousand waits are half a minute. Processes of their own do
    wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def saved_as_usual() -> Iterator[None]:
    """A state a minute, for files that train much and kill nothing: a third of a short training goes into states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GRBENCH_SAVE_SECONDS")
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Shapes and types of calls are checked by the quick tests; in a training they take a tenth of the time."""
    jaxtyping.config.update("jaxtyping_disable", item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session", autouse=True)
def _no_winners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What sweeps have found on real corpora changes no test."""
    from benchmarks import best_config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_config, "BEST", tmp_path_factory.mktemp("best"))
        yield


@pytest.fixture(scope="session")
def tiny_corpus() -> Corpus:
    from tests.factories import tiny

    return tiny()


@pytest.fixture
def loaded(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Commands of this process find the tiny corpus, under a name that they know."""
    corpus = replace(tiny_corpus, name="all_beauty")
    monkeypatch.setattr("data_prep.load", lambda name, source, cache: corpus)
    return corpus


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to run commands in: prepared corpora are kept where the command line looks for them."""
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def planted_corpus(workplace: Path) -> Corpus:
    import data_prep

    return data_prep.load("planted", cache=workplace / "runs/corpora")


@pytest.fixture(scope="session")
def noise_corpus(workplace: Path) -> Corpus:
    import data_prep

    return data_prep.load("planted_noise", cache=workplace / "runs/corpora")


@pytest.fixture(scope="session")
def with_corpora(workplace: Path, planted_corpus: Corpus) -> Callable[[Path], Path]:
    """Gives a folder of trainings what is prepared already; returns it."""

    def lent(work: Path) -> Path:
        work.mkdir(parents=True)
        (work / "corpora").symlink_to(workplace / "runs/corpora")
        return work

    return lent


@pytest.fixture(scope="session")
def tiny_files(tiny_corpus: Corpus) -> Callable[[Path], Path]:
    """Writes a folder of data beneath another: the tiny corpus, as All_Beauty in another lab's files."""
    ends = zip(tiny_corpus.offsets[:-1], tiny_corpus.offsets[1:], strict=True)
    lines = [
        f"{user}\t{' '.join(tiny_corpus.item_ids[item - 1] for item in tiny_corpus.flat[first:end])}"
        for user, (first, end) in zip(tiny_corpus.user_ids, ends, strict=True)
    ]
    items = [
        json.dumps({"parent_asin": item, "title": text})
        for item, text in zip(tiny_corpus.item_ids, tiny_corpus.item_text or (), strict=True)
    ]

    def written(place: Path) -> Path:
        folder = place / "data/sequences"
        folder.mkdir(parents=True)
        (folder / "All_Beauty.tsv").write_text("\n".join(lines) + "\n")
        (folder / "All_Beauty.items.jsonl").write_text("\n".join(items) + "\n")
        return folder.parent

    return written


@pytest.fixture
def tiny_data(tiny_files: Callable[[Path], Path], tmp_path: Path) -> Path:
    """The folder of `tiny_files`, of one test."""
    return tiny_files(tmp_path)


@pytest.fixture
def in_memory(tiny_corpus: Corpus, tmp_path: Path) -> Fit:
    """The harness's `Fit` on the tiny corpus, in a folder that no other test knows."""
    from benchmarks.training.fit import Fit

    return Fit(tiny_corpus, 0, tmp_path / "fits", "test")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, laid out as the official downloads are."""
    if "GRBENCH_DATA" not in os.environ:
        pytest.skip("GRBENCH_DATA names no folder of real data")
    return Path(os.environ["GRBENCH_DATA"])


@pytest.fixture
def own_postgres() -> Iterator[tuple[str, Callable[[str], None]]]:
    """URL of a PostgreSQL of the test's own, and what does `start` and `stop` to it."""
    with _server() as served:
        yield served


@contextmanager
def _server() -> Iterator[tuple[str, Callable[[str], None]]]:
    # Not beneath pytest's folder, into which the server's own user may not look.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        # A test may stand in a folder of pytest's, which the server's user cannot enter.
        begun = subprocess.run([SERVER, "start", folder, port], capture_output=True, text=True, cwd="/")
        if begun.returncode:
            pytest.skip(f"no PostgreSQL to test with: {begun.stderr.strip()}")

        def do(what: str) -> None:
            more = [port] if what == "start" else []
            subprocess.run([SERVER, what, folder, *more], check=True, stdout=subprocess.DEVNULL, cwd="/")

        yield begun.stdout.strip(), do
        do("stop")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL: that of GRBENCH_POSTGRES, else one of this machine's binaries on loopback, ended with the
    tests."""
    if "GRBENCH_POSTGRES" in os.environ:
        yield os.environ["GRBENCH_POSTGRES"]
        return
    with _server() as (url, _):
        yield url
