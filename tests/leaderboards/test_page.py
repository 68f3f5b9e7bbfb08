"""The page: one file that needs no network, says what the records say, and takes nothing in them for markup."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from leaderboards import charts, formats, plots
from leaderboards.__main__ import main
from leaderboards.page import Links, html
from leaderboards.record import BOARD, Stage
from leaderboards.rows import Board, rows_of, titles
from leaderboards.statistics import Interval, interval
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
        if tag != "a"
        and name in ("src", "href", "xlink:href", "action", "srcset")
        and not (value or "").startswith("#")
    ]
    assert outside == []
    assert page.of("link") == []
    styles = " ".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in styles
    assert "@import" not in styles


def test_links_and_ids(page: Page, runs: list[Run]) -> None:
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids)), "an id is there once"
    links = [str(found["href"]) for found in page.of("a")]
    within = [link.removeprefix("#") for link in links if link.startswith("#")]
    assert len(within) == 3, "each row, and the best one in the answer"
    assert set(within) <= set(ids)
    records = {f"toys/sasrec/{run.record.key}/seed-{run.record.seed}.json" for run in runs}
    assert {link for link in links if not link.startswith("#")} == records


def test_links_to_other_pages(runs: list[Run]) -> None:
    tuned = [
        run._replace(record=run.record.model_copy(update={"notes": ["tuned with 9 trials (study s-1)"]}))
        for run in runs[:3]
    ]
    links = Links(BOARD, "index.html", {"books": "books.md", "toys": "toys.html"}, {"s-1": "toys.sweeps/s-1.html"})
    page = Page(html(Board(tuned), links))
    found = {found["href"]: found for found in page.of("a")}
    assert {"index.html", "books.md", "toys.html", "toys.sweeps/s-1.html"} <= found.keys()
    assert found["toys.html"].get("aria-current") == "page"
    assert ("a", "its sweep") in page.texts


def test_the_answer_stands_before_the_table(page: Page) -> None:
    strings = [text for _, text in page.texts]
    assert strings.index("Best row") < strings.index("Is the difference real?") < strings.index("Filter rows")
    assert ("a", "strong") in page.texts
    assert any(text.startswith("Yes: it differs from every other row.") for text in strings)


def test_columns_that_answer_come_first_and_the_best_is_bold(page: Page) -> None:
    titles = [text for tag, text in page.texts if tag == "button" and text != "copy"]
    assert titles[:5] == ["Row", "NDCG@10", "To best row", "Cost", "Seeds"], "no paper states numbers of these rows"
    assert ("th", "Evidence") in page.texts, "which has no order"
    assert ("th", "Command") in page.texts
    strong = [found for found in page.of("td") if "best" in str(found.get("class")).split()]
    assert len(strong) == 6, "each metric, of the better row"


def test_every_row_has_a_command(page: Page, runs: list[Run]) -> None:
    commands = [text for tag, text in page.texts if tag == "code" and text.startswith("make ")]
    for key in {run.record.key for run in runs}:
        assert commands.count(f"make reproduce ROW=toys/sasrec/{key}/") == 2, "in the table and in the row in full"
    assert "make bench CORPUS=toys MODELS=strong SEEDS=3 PRECISION=32 ARGS=--untuned" in commands
    said = [text for tag, text in page.texts if tag == "p" and text.endswith(": ") and text != "Records: "]
    assert said == 2 * ["Again, by the code of its commit: ", "The experiment by the code and the defaults of now: "]


def test_a_comparison_is_that_of_the_rows(page: Page, runs: list[Run]) -> None:
    ((pair, *_), told) = Board(runs).pairs, page.comparisons()
    [(difference, low, high, p, differs, effect, detectable, methods, ends)] = told["pairs"]
    assert (difference, effect) == pytest.approx((pair.found.difference, pair.found.effect), abs=1e-3)
    assert (low, high, detectable) == pytest.approx((*pair.interval, pair.detectable), abs=1e-6)
    assert (p, differs, methods) == (formats.p_is(pair.p), 1, 1)
    gains = [row.gains for row in rows_of(runs)]
    seen = runs[0].ranks["transition_seen"].to_numpy()
    names, unit = told["slices"], float(told["unit"])  # type: ignore[arg-type]
    (place,) = [i for i, line in enumerate(names) if "a transition seen" in line[0] and line[1] == seen.sum()]
    assert len(names) == len(told["means"][0]) == len(ends) / 2
    expected = (gains[0] - gains[1])[:, seen].mean()
    assert (told["means"][0][place] - told["means"][1][place]) * unit == pytest.approx(expected, abs=2e-5)
    assert ends[2 * place] * unit < expected < ends[2 * place + 1] * unit


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
    named = [found for found in pictures if found.get("role") == "img"]
    assert len(named) == 1 + 2 * 2, "cost; ranks and a curve of each row"
    assert all(found.get("aria-label") for found in named)
    assert all(found.get("aria-hidden") == "true" for found in pictures if found not in named)
    regions = page.of("div", role="region")
    assert regions
    assert all(found.get("aria-label") and found.get("tabindex") == "0" for found in regions)
    labels = {found["for"] for found in page.of("label")}
    assert labels == {found["id"] for found in [*page.of("select"), *page.of("input")]}
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
    drawn = [text for tag, text in page.texts if tag == "text" and "quoted" in text]
    assert drawn == [EVIL[:39] + "…"], "the name is no formula"


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
    rows = rows_of(runs)
    one, again = (plots.inlined(plots.cost(rows), "one", "says") for _ in range(2))
    other = plots.inlined(plots.cost(rows), "other", "says")
    assert one == again
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text in (one, other):
        ElementTree.fromstring(text)
        assert set(re.findall(r"(?:url\(|href=\")#([^\")]+)", text)) <= set(re.findall(r'\bid="([^"]+)"', text))
    assert "currentColor" in one


@pytest.mark.parametrize("count", [2, 12, 40])
def test_no_name_in_the_picture_of_costs_covers_another(count: int) -> None:
    """Rows of nearly the same cost and quality, boxes by matplotlib's renderer."""
    runs = [
        run_of(
            0, ranks_of(200, 0, 0.5 + place / 200), experiment=f"experiment-{place}-of-some-length", config={"n": place}
        )
        for place in range(count)
    ]
    rows = rows_of(runs)
    figure = plots.cost(rows)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    (axis,) = figure.axes
    # A line that leads from a name to its point is an empty text of its own.
    names = [text for text in axis.texts if text.get_text()]
    assert sorted(text.get_text() for text in names) == sorted(titles(rows)), "none is left out"
    boxes = [text.get_window_extent(renderer) for text in names]
    frame = axis.get_window_extent(renderer)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        assert not any(box.contains(*axis.transData.transform((40.0, row.gains.mean()))) for row in rows)


def page_of_forty_rows() -> str:
    """Of three seeds each, with learning curves of two stages of many epochs."""
    cost = run_of().record.cost.model_dump(mode="json")
    epochs = list(range(1, 201))
    stage = cost["stages"][0] | {"epochs": 200, "best_epoch": 180, "losses": [9 / epoch for epoch in epochs]}
    stage |= {"checked": epochs, "quality": [epoch / 300 for epoch in epochs]}
    long = cost | {"stages": [stage | {"name": name} for name in ("tokenizer", "recommender")]}
    runs = []
    for place, seed in itertools.product(range(40), range(3)):
        own = {"experiment": f"experiment-{place}", "config": {"of": place}, "notes": ["small sizes"], "cost": long}
        runs.append(run_of(seed, ranks_of(600, seed, 0.1 + place / 60), **own))
    return html(Board(runs), Links(BOARD, "index.html", {"toys": "toys.html"}, {}))


@pytest.mark.slow
def test_a_page_of_forty_rows_is_small() -> None:
    assert len(page_of_forty_rows().encode()) < 1_000_000


def test_bars_are_the_shares_of_users(runs: list[Run]) -> None:
    row = rows_of(runs)[0]
    shares, beyond = charts.rank_shares(row)
    third = np.mean([(run.ranks["rank"].to_numpy() == 3).mean() for run in row.runs])
    assert shares[2] == pytest.approx(100 * third)
    assert beyond == pytest.approx(100 * np.mean([(run.ranks["rank"].to_numpy() == 0).mean() for run in row.runs]))
    assert shares.sum() == pytest.approx(100 - beyond)
    drawn = ElementTree.fromstring(charts.ranks(row))
    (bars,) = [found.attrib["d"] for found in drawn.iter("path") if found.get("class") == "bar"]
    heights = [float(foot) - float(top) for foot, top in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", bars)]
    assert np.array(heights) / max(heights) == pytest.approx(shares / shares.max(), abs=0.002)
    assert f"beyond 50: {beyond:.0f}% of users" in "".join(drawn.itertext())


def test_a_curve_is_drawn_where_its_values_are(runs: list[Run]) -> None:
    (stage,) = runs[0].record.cost.stages
    drawn = ElementTree.fromstring(charts.curve("strong", stage))
    paths = {str(found.get("class")): found.attrib["d"] for found in drawn.iter("path")}
    left, right, top, foot = charts.LEFT, charts.WIDTH - charts.RIGHT, charts.TOP, charts.HEIGHT - charts.BENEATH
    # Losses 5.5 and 4.25, selected by 0.1 and 0.2: from top to foot, and from foot to top.
    assert paths["ink"] == f"M{left} {top}L{right} {foot}"
    assert paths["curve"] == f"M{left} {foot}L{right} {top}"
    assert paths["dotted"] == f"M{right} {top}V{foot}"


def test_a_scale_has_round_numbers() -> None:
    assert charts.Scale(0, 0.83, 100, 0).ticks == pytest.approx([0, 0.5])
    assert charts.Scale(1, 120, 0, 100).ticks == pytest.approx([50, 100])
    assert charts.Scale(0.21, 0.24, 0, 1).ticks == pytest.approx([0.21, 0.22, 0.23, 0.24])
    assert charts.Scale(3, 3, 0, 100).ticks == [3]
    assert charts.Scale(0, 10, 100, 0)(2.5) == "75"


def test_an_interval_in_a_slice_is_drawn_from_end_to_end() -> None:
    drawn = charts.span(0.5, Interval(0.25, 1.0), 1.0)
    assert 'd="M31.5 7H117"' in drawn
    assert 'cx="60"' in drawn


@pytest.mark.slow
def test_command_line(tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs:
        write(tmp_path, *run)
    assert main(["board", "--board", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "strong" in said
    assert "No paper states numbers of these rows." in said
    links = Links(tmp_path, "index.html", {"toys": "toys.html"}, {})
    assert (tmp_path / "toys.html").read_text() == html(Board(runs), links)


@pytest.mark.parametrize("losses", [[1e308, -1e308], [0.0, 5e-324], [1e-320, 3e-320]])
def test_a_scale_of_extremes(losses: list[float]) -> None:
    stage = Stage(name="s", epochs=2, best_epoch=2, seconds=1, quality=[], reused=False, losses=losses, checked=[])
    assert "nan" not in charts.curve("title", stage)
