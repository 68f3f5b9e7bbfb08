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
        ("u\ta b c\n\ta b c\n", "line 2: the user is ''; expected an id"),
        ("nan\ta b c\n", "line 1: the user is 'nan'; expected an id"),
        ("u 1\ta b c\n", "line 1: the user is 'u 1'"),
        ("u\ta b  c\n", "line 1: an item is ''"),
        ("u\ta b None\n", "line 1: an item is 'None'"),
        ("u\ta\tb\tc\n", r"line 1: an item is 'a\\tb\\tc'"),
        ("u\ta b c\x00\n", r"line 1: an item is 'c\\x00'"),
        ("u\ta b c\xa0d\n", r"line 1: an item is 'c\\xa0d'"),
        ("u\t[a, b, c]\n", "line 1: an item is '.a,'"),
        ("u\t1.0 2.0 3.0\n", "line 1: an item is '1.0'"),
        (f"u\ta b {'c' * 10_000_000}\n", "line 1: an item is 'cc"),
        (f"{'u' * 10_000_000}\ta b\n", "line 1: the user is 'uu"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "s.tsv"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_sequences(path)
    assert "s.tsv" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_lines_that_end_with_a_return_alone_are_not_one_user(tmp_path: Path) -> None:
    path = tmp_path / "s.tsv"
    path.write_bytes(b"u\ta b c\rv\ta b c\r")
    with pytest.raises(ValueError, match=r"line 1: an item is 'c\\rv\\ta'"):
        read_sequences(path)


def test_byte_order_mark_returns_and_blanks_at_the_end_are_no_part_of_an_id(tmp_path: Path) -> None:
    path = tmp_path / "s.tsv"
    path.write_bytes(b"\xef\xbb\xbf0\t-1 0 99999999999 \r\nv\ta b c\r\n")
    result = read_sequences(path)
    assert (result.user_ids.to_pylist(), len(result.flat)) == (["0", "v"], 6)
    assert result.item_ids.to_pylist() == ["-1", "0", "99999999999", "a", "b", "c"], "numbers are text, of any size"
