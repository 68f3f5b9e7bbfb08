"""Ordered-sequence files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.sequences import read_sequences


def test_order_and_repeats_stay_and_ids_are_ranks(tmp_path: Path) -> None:
    path = tmp_path / "s.tsv"
    path.write_text("10\tC A B\n2\tB B D A\n")
    result = read_sequences(path)
    assert result.user_ids.to_pylist() == ["10", "2"], "ids are text: ascending as text"
    assert result.item_ids.to_pylist() == ["A", "B", "C", "D"]
    np.testing.assert_array_equal(result.flat, [3, 1, 2, 2, 2, 4, 1])
    np.testing.assert_array_equal(result.offsets, [0, 3, 7])
    assert result.steps == [{"step": "sequences read", "users": 2, "items": 4, "interactions": 7}]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("u\ta b c\nv\ta b\n", "line 2: user v has 2 interactions; expected at least 3"),
        ("u\n", "line 1 has no tab; expected user<TAB>item"),
        ("u\ta b c\n\nu\ta b d\n", "line 3: user u has a line already"),
        ("\n\n", "has no user"),
        ("", "is empty"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "s.tsv"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_sequences(path)
    assert "s.tsv" in str(caught.value)
