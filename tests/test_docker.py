"""The Dockerfile: it has what it copies, what it copies is enough, and it runs as nobody special."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
# An instruction and the rest of its line; none of ours has a second line.
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.*)", (ROOT / "Dockerfile").read_text(), flags=re.M)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [pattern.removesuffix("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def copies() -> list[tuple[str, str]]:
    """Source and target of every file and folder."""
    told = [rest.split() for rest in of("COPY")]
    return [(source, target) for *sources, target in told for source in sources]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as /opt/grbench is after the copies, without what .dockerignore keeps out."""
    place = tmp_path_factory.mktemp("image")
    for source, target in copies():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place / target)
        else:
            shutil.copy(ROOT / source, place / target)
    for pattern in IGNORED[1:]:
        for path in list(place.glob(pattern)) if not pattern.startswith("!") else []:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return place


def python(*arguments: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python with the modules of a folder, and not those of this checkout."""
    environment = os.environ | {"PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_base_is_a_python_that_the_project_is_tested_on() -> None:
    (base,) = of("FROM")
    version = re.fullmatch(r"python:(3\.\d+)-slim", base)
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["project"]["classifiers"]


def test_what_is_copied_is_there_and_let_through() -> None:
    sources = [source for source, _ in copies()]
    assert {*PACKAGES, PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} < set(sources)
    assert all((ROOT / source).exists() for source in sources)
    assert IGNORED[0] == "*"
    assert sorted(line[1:] for line in IGNORED if line.startswith("!")) == sorted(sources)


def test_the_packages_are_the_locked_ones_and_come_before_the_code() -> None:
    steps = [f"{instruction} {rest}" for instruction, rest in INSTRUCTIONS]
    lock = steps.index("COPY requirements.lock ./")
    locked = steps.index("RUN python -m pip install --requirement requirements.lock")
    code = steps.index("COPY benchmarks ./benchmarks")
    own = steps.index("RUN python -m pip install --no-build-isolation --no-deps --editable .")
    assert lock < locked < code < own
    # What builds it has no network, and no package of its own.
    (build,) = PROJECT["build-system"]["requires"]
    assert f"\n{Requirement(build).name}==" in (ROOT / "requirements.lock").read_text()


def test_it_runs_the_command_as_a_user_who_may_do_nothing_else() -> None:
    steps = [instruction for instruction, _ in INSTRUCTIONS]
    (user,), (entry,) = of("USER"), of("ENTRYPOINT")
    assert int(user) > 0
    assert f"--uid {user} " in " ".join(of("RUN"))
    # Nothing is installed or copied any more.
    assert not {"RUN", "COPY"} & set(steps[steps.index("USER") :])
    assert json.loads(entry) == list(PROJECT["project"]["scripts"])


def test_it_names_no_host() -> None:
    assert "://" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.slow
def test_what_is_copied_can_be_installed(image: Path, tmp_path: Path) -> None:
    """As pip asks for it: an editable install builds a wheel that points at the folder."""
    build = "import sys; from setuptools import build_meta; print(build_meta.build_editable(sys.argv[1]))"
    done = python("-c", build, str(tmp_path), cwd=image, path=image)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.splitlines()[-1]).is_file()


@pytest.mark.slow
def test_what_is_copied_is_enough(image: Path, tmp_path: Path, with_corpora: Callable[[Path], Path]) -> None:
    """Work is done in another folder than that of the code, as in the image."""
    with_corpora(tmp_path / "runs")
    origins = f"from importlib.util import find_spec\nfor name in {PACKAGES}: print(find_spec(name).origin)"
    found = python("-c", origins, cwd=tmp_path, path=image)
    assert found.stdout.splitlines() == [str(image / name / "__init__.py") for name in PACKAGES]
    said = python("-m", "grbench", "--help", cwd=tmp_path, path=image)
    assert (said.returncode, said.stdout[:14]) == (0, "usage: grbench")
    done = python("-m", "grbench", "bench", "--models", "popularity", "--track", "off", cwd=tmp_path, path=image)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("leaderboards/v2/planted/popularity/*/seed-0.json")
    told = json.loads(record.read_bytes())["provenance"]
    assert len(told["lock_sha256"]) == 64
    assert not list(image.glob("leaderboards/v*/*/*"))
