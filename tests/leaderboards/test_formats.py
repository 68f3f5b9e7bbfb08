"""Numbers as they are printed."""

from __future__ import annotations

import pytest

from leaderboards import formats
from leaderboards.statistics import Interval


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (-0.00004, "0.0000", "+0.0000"),
        (-0.0, "0.0000", "+0.0000"),
        (0.00004, "0.0000", "+0.0000"),
        (-0.00006, "-0.0001", "-0.0001"),
        (0.12345, "0.1235", "+0.1235"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(value: float, plain: str, signed: str) -> None:
    assert (formats.plain(value), formats.signed(value)) == (plain, signed)


def test_intervals() -> None:
    assert formats.interval(Interval(0.01, 0.02)) == "0.0100-0.0200"
    assert formats.signed_interval(Interval(-0.00001, 0.02)) == "+0.0000 to +0.0200"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "p < .001"), (0.0421, "p = 0.042"), (0.04996, "p = 0.049"), (0.05, "p = 0.050"), (1.0, "p = 1.000")],
)
def test_p_below_five_percent_reads_so(p: float, text: str) -> None:
    assert formats.p_is(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.005, "< 0.1 s"), (5.83, "5.8 s"), (99.0, "99 s"), (127.4, "2.1 min"), (2513.0, "42 min"), (8000.0, "2.2 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text
