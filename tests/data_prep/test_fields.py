"""What names a user or an item, and what is a time."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from data_prep.fields import ID, LONGEST_ID, TIME, check_id, fit, is_id, is_time

HALF = "\ud83c"
GOOD = ["AE22EWZDAJX4OCIUX7AGJ5QPLCLQ", "0", "-1", "99999999999", "B00-1_x", "a.b", "é", "nano", "x" * LONGEST_ID]
BAD = [
    *("", " ", " a", "a\n", "a\tb", "a\0b", HALF, "\ufeffa", "a\u200bb", "a\u2028", "x" * (LONGEST_ID + 1)),
    *("nan", "NaN", "None", "NULL", "<NA>", "true", "[1]", '{"a"', "a,b", "1.0", "-1.5e12", ".5"),
    *(None, 3, 1.5, float("nan"), True, b"a", ["a"], {"a": 1}),
]


@pytest.mark.parametrize("value", GOOD)
def test_ids(value: str) -> None:
    assert is_id(value)
    check_id("the user", value, "here")


@pytest.mark.parametrize("value", BAD, ids=ascii)
def test_what_is_no_id_is_told_on_one_short_line(value: object) -> None:
    assert not is_id(value)
    with pytest.raises(ValueError, match=r"^here: the user is .*; expected an id \(text of 1 to 256") as caught:
        check_id("the user", value, "here")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_times() -> None:
    assert all(map(is_time, (0, 1_600_000_000_000, 2**63 - 1)))
    assert not any(map(is_time, (-1, 2**63, 1.6e12, "1600000000000", "2014-05-01", None, True, float("nan"))))


@pytest.mark.parametrize(
    "value", [*GOOD, *(value for value in BAD if isinstance(value, str) and value != HALF)], ids=ascii
)
def test_a_table_fits_where_each_id_does(value: str) -> None:
    ids = pa.array(["AE22EWZDAJX4OCIUX7AGJ5QPLCLQ", value]).dictionary_encode()
    assert fit(pa.table({"id": ids}), {"id": ID}) == is_id(value)


def test_a_table_fits_where_all_of_its_values_do() -> None:
    def table(ids: Sequence[str | None], times: Sequence[int | None]) -> pa.Table:
        return pa.table({"id": pa.array(ids, pa.string()).dictionary_encode(), "time": pa.array(times, pa.int64())})

    fields = {"id": ID, "time": TIME}
    assert fit(table(["a", "b", "a"], [5, 0, 9]), fields)
    assert fit(pa.concat_tables([table(["a"], [1]), table(["b"], [2])]), fields)
    for ids, times in ((["a", ""], [1, 2]), (["a", None], [1, 2]), (["a", "b"], [1, None]), (["a", "b"], [2, -1])):
        assert not fit(table(ids, times), fields)
        assert not fit(pa.concat_tables([table(["a"], [1]), table(ids, times)]), fields)
