"""The house's floors: who may import whom, and how long a function may be, read from the source without running it."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Package -> those of ours it may import besides itself.
ARROWS = {
    "data_prep": set[str](),
    "models": {"data_prep"},
    "leaderboards": set[str](),
    "benchmarks": {"data_prep", "models", "leaderboards"},
    "grbench": {"data_prep", "models", "leaderboards", "benchmarks"},
}
HEAVY = {"torch", "lightning", "pytorch_lightning", "transformers"}
SHARED_BY_MODELS = {"api", "parts"}
# What a model may know of data; anything else could load a corpus with its test part.
DATA_OF_MODELS = "data_prep.corpus"
# The one file that crosses floors: how any file is written whole, in the standard library alone.
WRITER = "data_prep.atomic"
GIT_LIBRARIES = {"git", "pygit2", "dulwich"}
GIT_READERS = {"benchmarks/provenance.py", "leaderboards/git.py"}
# Lines of a function. Its complexity is ruff's to check; a file may be as long as its subject.
LONGEST = 50
# W&B's libraries -> the one file that knows each.
TRACKERS = {"wandb": "benchmarks/tracking/wandb_run.py", "wandb_workspaces": "benchmarks/tracking/wandb_dashboards.py"}


def imported(tree: ast.Module, file: PurePosixPath) -> Iterator[str]:
    """Dotted names that a module imports anywhere in its text, `from a import b` as `a.b`."""
    package = file.parts[:-1]
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                base = [*package[: len(package) - node.level + 1]] if node.level else []
                prefix = ".".join([*base, *([node.module] if node.module else [])])
                yield from (f"{prefix}.{alias.name}" for alias in node.names)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                yield from (
                    arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                )


def calls_git(tree: ast.Module) -> bool:
    """A command that starts with `git`, as a list, a tuple, or one string given to a function."""
    for node in ast.walk(tree):
        match node:
            case ast.List(elts=[ast.Constant(value="git"), *_]) | ast.Tuple(elts=[ast.Constant(value="git"), *_]):
                return True
            case ast.Call(args=[ast.Constant(value=str(text)), *_]) if text.split()[:1] == ["git"]:
                return True
    return False


def violations(name: str, source: str) -> list[str]:
    """What the module `name` (its path in the project) does that its floor forbids, one sentence each."""
    file, tree = PurePosixPath(name), ast.parse(source)
    package = file.parts[0]
    found = []
    for target in imported(tree, file):
        top, second = (*target.split("."), "")[:2]
        writes = package == "leaderboards" and f"{target}.".startswith(f"{WRITER}.")
        if top in ARROWS and top != package and top not in ARROWS[package] and not writes:
            found.append(
                f"{name} imports {target}: {package} may import {sorted(ARROWS[package]) or 'nothing of ours'}"
            )
        if top == package == "models" and second not in SHARED_BY_MODELS:
            found.append(f"{name} imports {target}: models share only models/api.py and models/parts")
        if package == "models" and top == "data_prep" and not f"{target}.".startswith(f"{DATA_OF_MODELS}."):
            found.append(f"{name} imports {target}: of data_prep models may import {DATA_OF_MODELS} alone")
        if package == "leaderboards" and top in HEAVY:
            found.append(f"{name} imports {target}: leaderboards work without {top}")
        if name != TRACKERS.get(top, name):
            found.append(f"{name} imports {top}: only {TRACKERS[top]} may")
        if top in GIT_LIBRARIES and name not in GIT_READERS:
            found.append(f"{name} imports {target}: only {sorted(GIT_READERS)} read git")
    if calls_git(tree) and name not in GIT_READERS:
        found.append(f"{name} calls git: only {sorted(GIT_READERS)} may")
    return found


def too_long(name: str, source: str) -> list[str]:
    """Functions of the module `name` with more lines than allowed, decorators not counted, one sentence each."""
    return [
        f"{name}, line {node.lineno}: {node.name} has {lines} lines; expected at most {LONGEST}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST
    ]


def sources() -> list[str]:
    return sorted(file.relative_to(ROOT).as_posix() for package in ARROWS for file in (ROOT / package).rglob("*.py"))


def circle(modules: dict[str, str]) -> list[str]:
    """Modules of which each imports the next, at the top or in a function, and the last the first; empty if none.

    Args:
        modules: dotted name -> source.
    """
    graph = dict[str, set[str]]()
    for name, source in modules.items():
        places = (target.rpartition(".")[0] if target not in modules else target for target in _targets(name, source))
        graph[name] = {place for place in places if place in modules and place != name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def _targets(name: str, source: str) -> Iterator[str]:
    return imported(ast.parse(source), PurePosixPath(name.replace(".", "/") + ".py"))


def test_no_file_imports_one_that_imports_it() -> None:
    files = {name: PurePosixPath(name).with_suffix("") for name in sources()}
    modules = {
        ".".join(file.parts).removesuffix(".__init__"): (ROOT / name).read_text() for name, file in files.items()
    }
    assert circle(modules) == []


def test_a_circle_is_seen() -> None:
    modules = {"benchmarks.a": "def f():\n    from benchmarks import b", "benchmarks.b": "from benchmarks.c import x"}
    assert circle(modules | {"benchmarks.c": "import torch"}) == []
    found = circle(modules | {"benchmarks.c": "from benchmarks.a import f"})
    assert set(found) == {"benchmarks.a", "benchmarks.b", "benchmarks.c"}


def test_a_file_is_known_by_its_name() -> None:
    names = [PurePosixPath(name).name for name in sources()]
    twice = {name for name in names if names.count(name) > 1 and not name.startswith("__")}
    assert twice == set()


def test_every_package_is_looked_at() -> None:
    assert {name.split("/")[0] for name in sources()} == set(ARROWS)


@pytest.mark.parametrize("name", sources())
def test_floor(name: str) -> None:
    assert violations(name, (ROOT / name).read_text()) == []


@pytest.mark.parametrize("name", sources())
def test_no_function_is_too_long(name: str) -> None:
    assert too_long(name, (ROOT / name).read_text()) == []


def test_a_function_that_is_too_long_is_seen() -> None:
    head = "class A:\n    @staticmethod\n    async def f():\n"
    assert too_long("a.py", head + "        g()\n" * 49) == []
    assert too_long("a.py", head + "        g()\n" * 50) == ["a.py, line 3: f has 51 lines; expected at most 50"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data_prep/a.py", "import models.api"),
        ("data_prep/a.py", "def f():\n    from leaderboards import record"),
        ("models/a.py", "from benchmarks.run import run"),
        ("models/a.py", "from leaderboards.metrics import ndcg"),
        ("leaderboards/a.py", "from benchmarks import provenance"),
        ("leaderboards/a.py", "from data_prep.corpus import Corpus"),
        ("leaderboards/a.py", "from data_prep.atomic_corpus import Corpus"),
        ("models/a.py", "from data_prep.atomic import write_text"),
        ("leaderboards/a.py", "import numpy, torch.nn as nn"),
        ("leaderboards/a.py", "def f():\n    import pytorch_lightning as pl"),
        ("leaderboards/a.py", "import importlib\nimportlib.import_module('transformers')"),
        ("models/tiger.py", "from models.sasrec import Config"),
        ("models/tiger.py", "from models import sasrec"),
        ("models/tiger.py", "from . import sasrec"),
        ("models/tiger.py", "from .sasrec import Config"),
        ("models/tiger.py", "import data_prep"),
        ("models/tiger.py", "def f():\n    from data_prep import load"),
        ("models/tiger.py", "from data_prep.corpus_of_all import Corpus"),
        ("models/parts/search.py", "from models import tiger"),
        ("models/parts/search.py", "from ..tiger import Config"),
        ("models/api.py", "import models.tiger"),
        ("benchmarks/run.py", "import wandb"),
        ("benchmarks/tracking/wandb_dashboards.py", "import wandb"),
        ("benchmarks/tracking/wandb_run.py", "from wandb_workspaces import workspaces"),
        ("models/tiger.py", "def f():\n    from wandb.sdk import init"),
        ("benchmarks/run.py", "import subprocess\nsubprocess.run(['git', 'status'])"),
        ("benchmarks/run.py", "import os\nos.system('git status')"),
        ("data_prep/a.py", "import pygit2"),
    ],
)
def test_a_breach_is_seen(name: str, source: str) -> None:
    assert len(violations(name, source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (
            "benchmarks/run.py",
            "from models import tiger\nfrom leaderboards.record import write\nimport data_prep, torch",
        ),
        ("benchmarks/tracking/wandb_run.py", "import wandb"),
        ("benchmarks/tracking/wandb_dashboards.py", "def f():\n    import wandb_workspaces.workspaces as ws"),
        ("benchmarks/provenance.py", "import subprocess\nsubprocess.run(['git', 'status'])"),
        (
            "models/tiger.py",
            "from models.api import Ranking\nfrom models.parts.search import beam\n"
            "from data_prep import corpus\nfrom data_prep.corpus import Corpus",
        ),
        ("models/tiger.py", "from .parts import index\nfrom . import api"),
        ("models/parts/search.py", "from . import index\nfrom .index import ItemIndex\nfrom models.api import Ranking"),
        ("models/tiger.py", "print('models.sasrec', 'git')"),
        (
            "leaderboards/board_table.py",
            "from leaderboards.record import read\nfrom data_prep.atomic import write_text",
        ),
    ],
)
def test_what_is_allowed(name: str, source: str) -> None:
    assert violations(name, source) == []


def test_the_writer_of_all_floors_needs_the_standard_library_alone() -> None:
    file = PurePosixPath(WRITER.replace(".", "/") + ".py")
    tops = {target.split(".")[0] for target in imported(ast.parse((ROOT / file).read_text()), file)}
    assert tops <= sys.stdlib_module_names


def test_leaderboards_run_without_torch() -> None:
    script = (
        f"import importlib, pkgutil, sys, leaderboards\nheavy = {sorted(HEAVY)!r}\n"
        "for module in pkgutil.iter_modules(leaderboards.__path__):\n"
        "    importlib.import_module(f'leaderboards.{module.name}')\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_help_and_the_study_of_a_sweep_do_not_wait_for_torch() -> None:
    slow = "import sys, benchmarks.__main__, benchmarks.sweeps.local_workers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", slow], cwd=ROOT, check=True)
