"""The Makefile: values arrive as they were given, and a mistyped variable starts nothing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from leaderboards import commands
from leaderboards.record import BOARD
from leaderboards.rows import rows_of
from tests.leaderboards.test_record import run_of

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


# What a make that runs these tests hands to the makes it starts.
FROM_A_MAKE_ABOVE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS", "ARGS", "FAST"}


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What make would run; it runs nothing."""
    own = {name: value for name, value in os.environ.items() if name not in FROM_A_MAKE_ABOVE} | environment
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, env=own)


def words(*arguments: str) -> list[str]:
    """The last command, as the shell would split it."""
    done = make(*arguments)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.splitlines()[-1])


def test_options_of_a_bench() -> None:
    found = words("bench", "MODELS=sasrec tiger", "SET=epochs=3 lr=0.1", "SEEDS=2", "ARGS=--untuned --threads 2")
    assert found[1:5] == ["-m", "benchmarks", "bench", "--corpus"]
    assert found[5:] == [
        *["planted", "--models", "sasrec", "tiger", "--seeds", "2", "--set", "epochs=3", "lr=0.1"],
        *["--untuned", "--threads", "2"],
    ]


@pytest.mark.parametrize(
    "value", ["my board", "a;b", "a&b", "a'b", 'a"b', "$(shell touch x)", "`touch x`", "$HOME", "a,b"]
)
def test_a_value_arrives_as_it_was_given(value: str) -> None:
    assert words("bench", f"BOARD={value}")[-2:] == ["--board", value]
    assert words("bench", f"ARGS=--work {value}")[-1 - len(value.split()) :] == ["--work", *value.split()]


@pytest.mark.parametrize(("kind", "name"), [("folder", "m (sha256 0123456789ab), 384-d"), ("npz", "my v.npz")])
def test_make_knows_the_commands_of_a_page(kind: str, name: str) -> None:
    vectors = {"kind": kind, "name": name, "sha256": "e" * 64, "stand_in": True, "recipe": {"kind": kind}}
    (row,) = rows_of([run_of(0, vectors=vectors)])
    for command in (commands.reproduce(row, BOARD), commands.bench(row, BOARD)):
        assert command is not None
        found = words(*shlex.split(command)[1:])
        assert found[found.index("--vectors-path") + 1] == name.partition(" (")[0]


def test_what_is_told_of_a_file_of_ones_own() -> None:
    told = ["CORPUS=my data/x.csv", "COLUMNS=user=u time=when", "ITEMS=my data/i.csv", "CORE=3"]
    expected = ["my data/x.csv", "--columns", "user=u", "time=when", "--items", "my data/i.csv", "--core", "3"]
    assert words("data", *told)[3:] == expected
    assert words("bench", *told)[5:] == expected


def test_the_width_of_a_terminal_is_no_column() -> None:
    assert "--columns" not in make("bench", COLUMNS="80").stdout


def test_a_hosts_name_is_no_analysis() -> None:
    """Windows' Linux has it in NAME."""
    assert words("analyse", "NAME=entropy")[4] == "entropy"
    assert shlex.split(make("analyse", NAME="host").stdout.splitlines()[-1])[4] == "utilisation"


def test_the_environment_sends_nothing_to_others() -> None:
    asked = ["export", "ROW=r.json", "DIR=d"]
    assert words(*asked, "HUB=owner/name")[3:] == ["export", "r.json", "d", "--push-to-hub", "owner/name"]
    assert "--push-to-hub" not in make(*asked, HUB="owner/name").stdout


@pytest.mark.parametrize(
    "target",
    [
        *("test FAST", "data CARD", "plan STATE", "sweep REPLACE", "verify DEEP", "predict UNSEEN", "regress ACCEPT"),
        "dashboards DRY",
    ],
)
def test_a_flag_is_1_or_not_given(target: str) -> None:
    goal, flag = target.split()
    assert make(goal, f"{flag}=1").stdout != make(goal).stdout
    for value in ("0", "no", "1 0"):
        done = make(goal, f"{flag}={value}")
        assert done.returncode == 2
        assert f"*** {flag} is {value}; expected 1, or nothing." in done.stderr


@pytest.mark.parametrize(("goal", "flag"), [("sweep", "REPLACE"), ("regress", "ACCEPT")])
def test_the_environment_replaces_nothing(goal: str, flag: str) -> None:
    assert make(goal, **{flag: "1"}).stdout == make(goal).stdout


def test_a_file_of_a_targets_name_does_not_stand_for_it() -> None:
    targets = (ROOT / "Makefile").read_text()
    phony = next(line for line in targets.splitlines() if line.startswith(".PHONY"))
    goals = re.findall(r"^([a-z-]+):.*##", targets, flags=re.MULTILINE)
    assert set(goals) == set(phony.split()[1:])


def test_a_card_is_written_where_it_is_asked_for() -> None:
    assert words("data", "CORPUS=books", "SOURCE=hub", "CARD=1")[3:] == ["books", "--source", "hub", "--card"]
    assert "--card" not in words("data", "CORPUS=books")


def test_the_boards_of_all_corpora_unless_one_is_named() -> None:
    assert "--corpus" not in words("board")
    assert words("board", "CORPUS=toys_2014")[-2:] == ["--corpus", "toys_2014"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "SEED=5"], "make bench knows no SEED; did you mean SEEDS? possible: ARGS BOARD COLUMNS CORE CORPUS"),
        (["bench", "MODEL=tiger"], "make bench knows no MODEL; did you mean MODELS?"),
        (["sweep", "MODELS=tiger"], "make sweep knows no MODELS; did you mean MODEL?"),
        (["bench", "CORPSU=books"], "make bench knows no CORPSU; did you mean CORPUS?"),
        (["bench", "THREADS=2"], ' SET SOURCE TRACK VECTORS; other options go through ARGS="--option value".'),
        (["test", "QUICK=1"], "make test knows no QUICK"),
        (["lint", "MODELS=tiger"], "make lint knows no MODELS; expected no variable"),
    ],
)
def test_a_mistyped_variable_is_told(arguments: list[str], said: str) -> None:
    done = make(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert said in done.stderr


def test_a_mistyped_variable_of_the_environment_is_told() -> None:
    done = make("bench", MODEL="tiger")
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "make bench knows no MODEL; did you mean MODELS?" in done.stderr


def test_other_programs_variables_are_nobodys_affair() -> None:
    assert make("bench", STUDY="mine", NAMES="others").returncode == 0
    assert make("bench", MODELS="tiger").stdout.count("--models 'tiger'") == 1


def test_the_fast_tests_are_those_not_marked_slow() -> None:
    assert words("test", "FAST=1")[-2:] == ["-m", "not slow"]
    assert words("test").count("-m") == 1


def test_no_password_is_printed() -> None:
    recipes = (ROOT / "Makefile").read_text().split("\n\n")
    with_storage = [recipe for recipe in recipes if "STORAGE)" in recipe]
    assert len(with_storage) == 2
    assert all("\n\t@$(RUN)" in recipe for recipe in with_storage)


def test_the_help_of_a_target_names_what_its_recipe_reads() -> None:
    recipes = re.findall(r"^([a-z-]+): .*?## (.*)\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.M)
    assert len(recipes) > 15
    own = {"RUN", "READY", "VENV", "PYTHON", "ONE", "MAKEFILE"}
    behind = {"$(ONE)": {"CORPUS"}, "$(MORE)": {"ARGS"}, "$(OWN)": {"COLUMNS", "ITEMS", "CORE"}, "$(SENT)": {"HUB"}}
    for target, said, recipe in recipes:
        read = set(re.findall(r"(?:value |,)([A-Z]{2,})\)", recipe)) - own
        read = read.union(*(names for used, names in behind.items() if used in recipe))
        assert read == set(re.findall(r"\b([A-Z]{2,})=", said)), target


@pytest.mark.parametrize("name", ["BOARD", "ROW", "GRBENCH_DATA"])
def test_no_value_is_run_by_make_itself(name: str, tmp_path: Path) -> None:
    """Which it would to fill its commands' environment; here it runs one, of a Python that prints what it is given."""
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$GRBENCH_DATA"\n')
    python.chmod(0o755)
    for file in ("Makefile", "requirements.lock", "pyproject.toml", ".venv/.ready"):
        shutil.copy(ROOT / "Makefile", tmp_path / file)
    own = {key: value for key, value in os.environ.items() if key not in FROM_A_MAKE_ABOVE}
    for value in ("$(shell touch run)", "v3$(", "$(info x)/v2"):
        command = ["make", "verify", f"{name}={value}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=own)
        assert (done.returncode, value in done.stdout) == (0, True), done.stderr
    assert not (tmp_path / "run").exists()


def test_a_name_within_another_is_unknown() -> None:
    """The help of the tests names GRBENCH_DATA, and no DATA."""
    assert "make test knows no DATA" in make("test", "DATA=x").stderr
