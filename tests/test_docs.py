"""README, docs/ and environment.yml say what the code knows: commands, variables, names, links, packages."""

from __future__ import annotations

import re
import shlex
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import models
from benchmarks import experiments
from benchmarks.__main__ import _parser as benchmarks_parser
from benchmarks.training.fit import Fit
from data_prep import amazon2023
from data_prep.__main__ import _parser as data_parser
from data_prep.own_corpus import given
from grbench.__main__ import _parser as grbench_parser
from leaderboards.__main__ import _parser as leaderboards_parser
from models.api import Recommender
from tests.test_makefile import make

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [page.name for page in PAGES]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
# Of the reader's own.
MINE = "mine"
PARSERS = {
    "benchmarks": benchmarks_parser,
    "data_prep": data_parser,
    "grbench": grbench_parser,
    "leaderboards": leaderboards_parser,
}


def known() -> dict[str, set[str]]:
    """The variables of every target, by its help."""
    lines = re.findall(r"^([a-z-]+):.*?## (.*)", (ROOT / "Makefile").read_text(), flags=re.M)
    return {target: set(re.findall(r"\b([A-Z]{2,})=", said)) for target, said in lines}


def commands(text: str) -> list[list[str]]:
    """The words from `make` on, of each command of blocks and code spans."""
    lines = "\n".join(FENCED.findall(text)).replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|=\S+ |(\"))(make [a-z].*)", span) for span in [*lines, *re.findall(r"`([^`\n]+)`", text)]]
    # Within quotes up to their end; outside up to a comment.
    calls = [re.split('"' if match[1] else r"\s#\s", match[2])[0] for match in found if match]
    return [shlex.split(call) for call in calls]


def called(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Targets and variables of a command."""
    targets = list(takewhile(re.compile(r"[a-z-]+$").match, words[1:]))
    return targets, dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_their_variables_are_known(page: Path) -> None:
    for words in commands(page.read_text()):
        targets, variables = called(words)
        assert targets, words
        assert known().keys() >= set(targets), words
        assert set(variables) - {"PYTHON"} <= set().union(*(known()[target] for target in targets)), words


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_of_blocks_are_what_the_programs_take(page: Path) -> None:
    """Their options, and the names of models and corpora; nothing is run."""
    blocks = "\n".join(FENCED.findall(page.read_text()))
    for words in commands(f"```\n{blocks}```"):
        targets, variables = called(words)
        assert experiments_of(variables) <= {*experiments.names(), MINE}, words
        assert given(variables.get("CORPUS", "planted")) or variables.get("CORPUS", "planted") in amazon2023.names(), (
            words
        )
        said = make(*targets, *(f"{name}={value}" for name, value in variables.items()))
        assert said.returncode == 0, said.stderr
        for package, arguments in re.findall(r"-m (benchmarks|data_prep|grbench|leaderboards) (.*)", said.stdout):
            PARSERS[package]().parse_args(shlex.split(arguments))


def experiments_of(variables: dict[str, str]) -> set[str]:
    names = f"{variables.get('MODELS', '')} {variables.get('MODEL', '')}".split()
    return {name.removesuffix(experiments.UNSEEN) for name in names}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """As a page's headings are linked to."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = README.read_text()
    assert all(f"(docs/{page.name})" in index for page in (ROOT / "docs").glob("*.md"))


def test_the_model_of_the_readme_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_memory: Fit) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.M | re.S)
    (code,) = (block for block in blocks if "class Config" in block)
    (tmp_path / "readme_model.py").write_text(code)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    model = models.load("readme_model")
    corpus = in_memory.corpus
    recommender = model.train(model.Config(epochs=2), corpus.without_test(), in_memory)
    assert isinstance(recommender, Recommender)
    ranking = recommender.rank(torch.tensor([[1, 2, 0], [5, 0, 0]]), 5)
    assert ranking.items.shape == (2, 5)
    assert ranking.certified.all()
    assert experiments.complete("readme_model", "planted").config == model.SMALL


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name: citation[name] for name in ("version", "license")} == {
        name: project[name] for name in ("version", "license")
    }


def test_the_environment_is_the_locked_one() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (python,) = [word for word in environment["dependencies"] if str(word).startswith("python=")]
    assert f"Programming Language :: Python :: {python.removeprefix('python=')}" in project["classifiers"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["--requirement requirements.lock", "--editable ."]


def test_the_lock_has_what_the_project_asks_for() -> None:
    """In the ranges it asks for; of the extras all but `text`, which the lock's header does not name."""
    text = (ROOT / "requirements.lock").read_text()
    locked = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.M)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"grbench\[([\w,]+)\]", text)
    assert set(extras.split(",")) == project["optional-dependencies"].keys() - {"text"}
    wanted = [
        *project["dependencies"],
        *(line for name in extras.split(",") for line in project["optional-dependencies"][name]),
    ]
    for requirement in map(Requirement, wanted):
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement
