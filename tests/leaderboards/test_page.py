"""The page: one file that needs no network, says what the records say, and takes nothing in them for markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from leaderboards import plots
from leaderboards.__main__ import main
from leaderboards.page import html
from leaderboards.rows import Board, pairs, rows_of
from leaderboards.statistics import interval
from leaderboards.store import Run, write
from tests.leaderboards.test_record import ranks_of, run_of

EVIL = 'a "quoted" <b>$name$</b> & </script><script>alert(1)</script>'
VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """What a browser would find: attributes by tag, text by element, and that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def of(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]

    def comparisons(self) -> dict[str, list[Any]]:
        place = self.texts.index(next(pair for pair in self.texts if pair[0] == "script"))
        found: dict[str, list[Any]] = json.loads(self.texts[place][1])
        return found


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    names = [("strong", 0.6), ("weak", 0.2)]
    return [
        run_of(seed, ranks_of(2_000, seed, hits), experiment=name, config={"of": name})
        for name, hits in names
        for seed in range(3)
    ]


@pytest.fixture(scope="module")
def page(runs: list[Run]) -> Page:
    return Page(html(Board(runs)))


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    outside = [
        (tag, name, value)
        for tag, found in page.tags
        for name, value in found.items()
        if name in ("src", "href", "xlink:href", "action", "srcset") and not (value or "").startswith("#")
    ]
    assert outside == []
    assert page.of("link") == []
    styles = " ".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in styles
    assert "@import" not in styles


def test_links_and_ids(page: Page) -> None:
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids)), "an id is there once"
    links = [found["href"] for found in page.of("a")]
    assert len(links) == 2
    assert {str(link).removeprefix("#") for link in links} <= set(ids)


def test_a_comparison_is_that_of_the_rows(page: Page, runs: list[Run]) -> None:
    ((pair, *_), (told, *_)) = pairs(rows_of(runs)), page.comparisons()["pairs"]
    assert told["difference"] == pytest.approx(pair.found.difference)
    assert (told["low"], told["high"]) == pytest.approx(tuple(pair.found.interval))
    assert told["differs"] is True
    gains = [row.gains for row in rows_of(runs)]
    lengths = runs[0].ranks["transition_seen"].to_numpy()
    names = page.comparisons()["slices"]
    (place,) = [i for i, line in enumerate(names) if "a transition seen" in line[0] and line[1] == lengths.sum()]
    seen = told["slices"][place]
    assert len(names) == len(told["slices"])
    expected = (gains[0] - gains[1])[:, lengths].mean()
    assert seen[0] == pytest.approx(expected, abs=1e-5)
    assert seen[1] < expected < seen[2]


def test_slices_have_the_intervals_of_their_users(page: Page, runs: list[Run]) -> None:
    cells = [text for tag, text in page.texts if tag == "td"]
    users = ~runs[0].ranks["transition_seen"].to_numpy()
    values = rows_of(runs)[0].gains[:, users]
    place = next(
        i for i, text in enumerate(cells) if text == f"{users.sum():,}" and f"{values.mean():.4f}" in cells[i + 1]
    )
    low, high = interval(values)
    assert cells[place + 2] == f"{low:.4f}-{high:.4f}"


def test_a_screen_reader_has_names_for_all(page: Page) -> None:
    pictures = page.of("svg")
    assert len(pictures) == 1 + 2 * 3
    assert all(found.get("role") == "img" and found.get("aria-label") for found in pictures)
    regions = page.of("div", role="region")
    assert regions
    assert all(found.get("aria-label") and found.get("tabindex") == "0" for found in regions)
    labels = {found["for"] for found in page.of("label")}
    assert labels == {found["id"] for found in page.of("select")}
    assert page.of("html", lang="en")
    assert all(found.get("scope") for found in page.of("th"))


def test_records_are_text_and_not_markup() -> None:
    notes = ["</li><img src=x onerror=alert(2)>"]
    page = Page(
        html(
            Board(
                [
                    run_of(0, ranks_of(300, 0), experiment=EVIL, notes=notes, config={"text": EVIL}),
                    run_of(1, ranks_of(300, 1)),
                ]
            )
        )
    )
    assert page.of("img") == []
    assert not [text for tag, text in page.texts if tag == "script" and "alert" in text and "const" not in text]
    assert page.of("b") == []
    assert any(EVIL in (found.get("aria-label") or "") for found in page.of("svg"))
    assert (("a", EVIL)) in page.texts
    (drawn,) = [text for tag, text in page.texts if tag == "text" and "quoted" in text]
    assert drawn == EVIL, "the name is no formula"


@pytest.mark.slow
def test_rows_of_another_corpus_are_apart(runs: list[Run]) -> None:
    foreign = run_of(0, ranks_of(2_000, 5, 0.9), experiment="foreign", corpus={"fingerprint": "e" * 64})
    page = Page(html(Board([*runs, foreign])))
    assert len(page.comparisons()["pairs"]) == 1, "it is compared with none"
    assert not [text for tag, text in page.texts if tag == "option" and "foreign" in text]
    assert ("h3", "Not comparable with the rows above") in page.texts
    text = html(Board([*runs, foreign]))
    assert text.index("Not comparable with the rows above") < text.index(">foreign<")


def test_a_row_alone_is_compared_with_none(runs: list[Run]) -> None:
    page = Page(html(Board(runs[:1])))
    assert page.of("select") == []
    assert page.comparisons()["pairs"] == []


def test_pictures_are_the_same_again_and_have_ids_of_their_own(runs: list[Run]) -> None:
    row = rows_of(runs)[0]
    one, again = (plots.inlined(plots.ranks(row), "one", "says") for _ in range(2))
    other = plots.inlined(plots.ranks(row), "other", "says")
    assert one == again
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text in (one, other):
        ElementTree.fromstring(text)
        assert set(re.findall(r"(?:url\(|href=\")#([^\")]+)", text)) <= set(re.findall(r'\bid="([^"]+)"', text))
    assert "currentColor" in one


def test_bars_are_the_shares_of_users(runs: list[Run]) -> None:
    row = rows_of(runs)[0]
    (axis,) = plots.ranks(row).axes
    heights = np.array([bar.get_height() for bar in axis.patches])  # type: ignore[attr-defined]
    third = np.mean([(run.ranks["rank"].to_numpy() == 3).mean() for run in row.runs])
    assert heights[2] == pytest.approx(100 * third)
    beyond = np.mean([(run.ranks["rank"].to_numpy() == 0).mean() for run in row.runs])
    assert heights.sum() == pytest.approx(100 * (1 - beyond))
    assert f"beyond 50: {100 * beyond:.0f}% of users" in axis.get_title()


@pytest.mark.slow
def test_command_line(tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs:
        write(tmp_path, *run)
    assert main(["board", "--board", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "strong" in said
    assert "No paper states numbers of these rows." in said
    assert (tmp_path / "toys.html").read_text() == html(Board(runs))
