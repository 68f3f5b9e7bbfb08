"""Numbers as all tables print them. What rounds to zero has no sign of its own: `-0.0000` says nothing."""

from __future__ import annotations

from leaderboards.statistics import SIGNIFICANT, Interval


def plain(value: float, digits: int = 4) -> str:
    """`0.0123`; thousands have commas."""
    return f"{_rounded(value, digits):,.{digits}f}"


def signed(value: float, digits: int = 4) -> str:
    """`+0.0123`, `-0.0123`, `+0.0000`."""
    return f"{_rounded(value, digits):+,.{digits}f}"


def interval(bounds: Interval) -> str:
    """`0.0123-0.0234`, of what is never below 0."""
    return f"{plain(bounds.low)}-{plain(bounds.high)}"


def signed_interval(bounds: Interval) -> str:
    """`-0.0012 to +0.0023`"""
    return f"{signed(bounds.low)} to {signed(bounds.high)}"


def p_value(p: float) -> str:
    """`< .001` or three digits; what is below 5% never reads as 5%."""
    if p < 0.001:
        return "< .001"
    return f"{min(round(p, 3), SIGNIFICANT - 0.001) if p < SIGNIFICANT else p:.3f}"


def p_is(p: float) -> str:
    """`p < .001` or `p = 0.123`"""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def amount(value: float) -> str:
    """Of seconds and the like: one digit below 10, none above."""
    return plain(value, 1 if value < 10 else 0)


def duration(seconds: float) -> str:
    """`5.8 s`, `42 min`, `1.1 h`: two digits are enough to compare costs."""
    if seconds < 0.05:
        return "< 0.1 s"
    if seconds < 100:
        return f"{amount(seconds)} s"
    return f"{amount(seconds / 60)} min" if seconds < 6000 else f"{amount(seconds / 3600)} h"


def _rounded(value: float, digits: int) -> float:
    # The sum of -0.0 and 0.0 is 0.0.
    return round(value, digits) + 0.0
