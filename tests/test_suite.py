"""The suite itself: what all its tests have in common."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import settings

TESTS = Path(__file__).parent


def test_no_test_has_a_deadline() -> None:
    """Nor sets one of its own: what takes 200 ms on a busy machine would fail for it."""
    assert settings().deadline is None
    for file in TESTS.rglob("*.py"):
        keywords = [node.arg for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.keyword)]
        assert file.name == "conftest.py" or "deadline" not in keywords, file
