"""Distributed training: two processes on the CPU give the numbers of one with the same batches, and hold the same."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.utilities import rank_zero_only

from benchmarks import provenance
from benchmarks.__main__ import main
from benchmarks.experiments import complete
from benchmarks.hardware import Hardware
from benchmarks.run import check_processes, run
from benchmarks.settings import Bench
from benchmarks.training.fit import Fit
from data_prep.corpus import Corpus
from models.api import Budget
from models.sasrec import Config, SasRec
from tests import scripts
from tests.scripts.toy_distributed import trained

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

NAMES = ("tiger", "letter", "letter-no-cf", "pit-coevolving")

Lines = dict[str, list[list[Any]]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Lines]:
    """What each of two processes wrote down."""
    folder = tmp_path_factory.mktemp("two")
    command = scripts.command("toy_distributed", folder, 2, *NAMES)
    # One that pytest-xdist started would be taken for a process of its own distributed training.
    plain = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{process}.json").read_text()) for process in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """What this process found by itself, as JSON gives it back."""
    folder = tmp_path_factory.mktemp("one")
    found = {name: trained(folder, name, Hardware("cpu")) for name in ("tiger", "letter")}
    lines: Lines = json.loads(json.dumps(found))
    return lines


@pytest.mark.parametrize("name", ["tiger", "letter"])
def test_two_processes_give_the_numbers_of_one(name: str, alone: Lines, together: list[Lines]) -> None:
    """TIGER's loss is a mean over examples; LETTER's alignment and its even codes are of the batch of both."""
    one, two = ([(stage, quality) for stage, quality, _ in lines[name]] for lines in (alone, together[0]))
    assert [stage for stage, _ in two] == ["tokenizer", "tokenizer", "recommender", "recommender"]
    assert [stage for stage, _ in one] == [stage for stage, _ in two]
    assert [quality for _, quality in one] == pytest.approx([quality for _, quality in two], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_processes_never_drift_apart(name: str, together: list[Lines]) -> None:
    """Nor do weights that selections move (PIT), nor the groups of codes that diversity draws (LETTER)."""
    one, other = (lines[name] for lines in together)
    assert one == other
    assert len({state for _, _, state in one}) == len(one)


def test_a_loss_that_looks_across_the_batch_is_not_shared_out(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """As one that compares the different targets of a batch: of those, shares have unequal numbers."""

    def build() -> SasRec:
        module = SasRec(Config(width=16, heads=1), tiny_corpus.items, positions=20.0)
        object.__setattr__(module, "batch_wide_loss", True)
        return module

    fit = Fit(tiny_corpus, 0, tmp_path, "ragged seed 0", Hardware("cpu", devices=2))
    said = (
        r"^stage together of ragged seed 0 has a loss that looks across the whole batch, of which each of 2 processes "
        r"would see its share alone; run it with --devices 1 --nodes 1$"
    )
    with pytest.raises(ValueError, match=said):
        fit("together", build, Budget(1, 20))
    assert replace(fit, hardware=Hardware("cpu"))("together", build, Budget(1, 20)).history_length


def test_a_batch_that_cannot_be_shared(tiny_corpus: Corpus, tmp_path: Path) -> None:
    fit = Fit(tiny_corpus, 0, tmp_path, "test", Hardware("cpu", devices=2))
    with pytest.raises(
        ValueError, match=r"^stage recommender of test has batches of 21, which 2 processes cannot share evenly$"
    ):
        fit("recommender", lambda: SasRec(Config(width=16, heads=1), tiny_corpus.items, 1.0), Budget(1, 21))


@pytest.mark.parametrize(("options", "named"), [(["--jobs", "2"], "--jobs"), (["--cluster", "auto"], "--cluster")])
def test_processes_within_processes(options: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--models", "popularity", "--devices", "2", *options]) == 2
    said = "is given with --devices or --nodes; distributed training runs a cell at a time"
    assert capsys.readouterr().err == f"error: {named} {said}\n"


@pytest.mark.parametrize("command", [["bench", "--models", "popularity"], ["plan", "benchmarks/plans/smoke.toml"]])
def test_a_cluster_has_its_own_number_of_jobs(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--jobs", "3", "--cluster", "auto"]) == 2
    assert capsys.readouterr().err.startswith("error: --jobs is given with --cluster; Ray runs as many cells")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("etegrec", [], "^etegrec has a loss that looks across the whole batch"),
        ("tiger", ["batch_size=255"], "^tiger, option batch_size, has batches of 255, which 2 processes cannot share"),
    ],
)
def test_what_cannot_be_shared_is_told_before_anything_is_trained(
    name: str, settings: list[str], said: str, tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fit, "_train", lambda *given: pytest.fail("trained"))
    bench = Bench(tmp_path / "board", tmp_path / "work", None, Hardware("cpu", devices=2))
    with pytest.raises(ValueError, match=said):
        run(bench, tiny_corpus, complete(name, tiny_corpus, settings, tuned=False), 0)


@pytest.mark.parametrize(
    ("name", "settings", "processes"),
    [
        ("tiger-grid", ["batch_size=255"], 3),  # k-means trains no stage, which tokenizer_batch would be of
        ("pit", ["batch_size=255", "tokenizer_batch=1023"], 3),  # pretraining_batch is rq-kmeans' alone
    ],
)
def test_batches_of_no_stage_may_be_of_any_size(name: str, settings: list[str], processes: int) -> None:
    check_processes(complete(name, "beauty_2014", settings, tuned=False), Hardware("cpu", devices=processes))


@pytest.mark.parametrize("strategy", ["ddp_notebook", "ddp_spawn", "ddp_fork"])
def test_processes_that_keep_what_they_find_are_refused(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"^strategy is {strategy}, whose processes end with a training"):
        Hardware("cpu", devices=2, strategy=strategy)


def test_a_schedulers_rank_is_none_of_one_process(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    bench = Bench(tmp_path / "board", tmp_path / "work")
    assert run(bench, tiny_corpus, complete("popularity", tiny_corpus, tuned=False), 0).exists()


def test_nodes_need_a_starter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert main(["bench", "--models", "popularity", "--nodes", "2"]) == 2
    assert capsys.readouterr().err.startswith("error: --nodes is 2; torchrun or srun starts each process")


def test_a_record_says_how_many() -> None:
    one = provenance.of(Hardware("cpu")).device
    assert provenance.of(Hardware("cpu", devices=2, nodes=3)).device == f"6 x {one}"
