"""Workflows: what they run of others is pinned by commit, and evidence is judged by the base branch's code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=[file.stem for file in WORKFLOWS])
def test_actions_are_pinned_by_commit(file: Path) -> None:
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    used = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used), used


def test_what_a_change_of_evidence_is_judged_by() -> None:
    rows = yaml.safe_load((ROOT / ".github/workflows/rows.yml").read_text())
    said = "\n".join(step.get("run", "") for step in rows["jobs"]["verify"]["steps"])
    targets = re.findall(r"make (?:-C (\S+) )?(\w+)", said)
    assert {name for _, name in targets} >= {"setup", "verify", "board"}
    assert {folder for folder, _ in targets} == {"base"}


def test_a_change_of_what_judges_is_named() -> None:
    """All that the base's verifier and the trainings of the other job read of this project."""
    workflow = (ROOT / ".github/workflows/rows.yml").read_text()
    (named,) = re.findall(r"judges=\((.*)\)", workflow)
    asked = "import sys, benchmarks.checks.reproduce, benchmarks.commands.check_commands, leaderboards.__main__\n"
    asked += "print(*(module.__file__ for module in sys.modules.values() if getattr(module, '__file__', None)))"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    read = [Path(file).relative_to(ROOT) for file in done.stdout.split() if Path(file).is_relative_to(ROOT)]
    own = [file for file in read if ".venv" not in file.parts]
    assert len(own) > 50
    judges = named.split()
    unnamed = [file for file in own if not any(file.match(judge) or Path(judge) in file.parents for judge in judges)]
    assert unnamed == []
