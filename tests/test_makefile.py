"""The Makefile: values arrive as they were given, and a mistyped variable starts nothing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


# What a make that runs these tests hands to the makes it starts.
FROM_A_MAKE_ABOVE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS"}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What make would run; it runs nothing."""
    own = {name: value for name, value in os.environ.items() if name not in FROM_A_MAKE_ABOVE}
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, env=own)


def words(*arguments: str) -> list[str]:
    """The last command, as the shell would split it."""
    done = make(*arguments)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.splitlines()[-1])


def test_options_of_a_bench() -> None:
    found = words("bench", "MODELS=sasrec tiger", "SET=epochs=3 lr=0.1", "SEEDS=2", "UNTUNED=1")
    assert found[1:5] == ["-m", "benchmarks", "bench", "--corpus"]
    assert found[5:] == [
        *["planted", "--models", "sasrec", "tiger", "--seeds", "2", "--set", "epochs=3", "lr=0.1", "--untuned"]
    ]


@pytest.mark.parametrize(
    "value", ["my board", "a;b", "a&b", "a'b", 'a"b', "$(shell touch x)", "`touch x`", "$HOME", "a,b"]
)
def test_a_value_arrives_as_it_was_given(value: str) -> None:
    assert words("bench", f"BOARD={value}")[-2:] == ["--board", value]


def test_a_card_is_written_where_it_is_asked_for() -> None:
    assert words("data", "CORPUS=books", "SOURCE=hub", "CARD=1")[3:] == ["books", "--source", "hub", "--card"]
    assert "--card" not in words("data", "CORPUS=books")


def test_the_boards_of_all_corpora_unless_one_is_named() -> None:
    assert "--corpus" not in words("board")
    assert words("board", "CORPUS=toys_2014")[-2:] == ["--corpus", "toys_2014"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "SEED=5"], "make bench knows no SEED; expected any of: BOARD CLUSTER CORPUS"),
        (["bench", "MODEL=tiger"], "make bench knows no MODEL; expected any of: .* MODELS "),
        (["sweep", "MODELS=tiger"], "make sweep knows no MODELS; expected any of: .* MODEL "),
        (["test", "FAST=1"], "make test knows no FAST"),
    ],
)
def test_a_mistyped_variable_is_told(arguments: list[str], said: str) -> None:
    done = make(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert re.search(said, done.stderr)


def test_no_password_is_printed() -> None:
    recipes = (ROOT / "Makefile").read_text().split("\n\n")
    with_storage = [recipe for recipe in recipes if "STORAGE)" in recipe]
    assert len(with_storage) == 2
    assert all("\n\t@$(RUN)" in recipe for recipe in with_storage)


def test_the_help_of_a_target_names_what_its_recipe_reads() -> None:
    recipes = re.findall(r"^([a-z-]+): .*?## (.*)\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.M)
    assert len(recipes) > 15
    own = {"RUN", "READY", "VENV", "PYTHON", "ONE", "MAKEFILE"}
    for target, said, recipe in recipes:
        read = set(re.findall(r"(?:value |,)([A-Z]{2,})\)", recipe)) - own
        assert read | ({"CORPUS"} if "$(ONE)" in recipe else set()) == set(re.findall(r"\b([A-Z]{2,})=", said)), target
