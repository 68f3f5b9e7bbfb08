"""The cost of a search does not grow with the catalogue."""

from __future__ import annotations

from benchmarks.perf.catalogue import USERS, expansions


def test_a_larger_catalogue_costs_no_more() -> None:
    """`expansions` itself compares each list with the law's own order."""
    small, large = expansions(1_000), expansions(20_000)
    assert small.shape == large.shape == (USERS,)
    # 1,000 items hold the whole law in their first places: they are sharper. Twenty times the items cost far less.
    assert 49 <= float(small.double().mean()) <= float(large.double().mean()) < 100
