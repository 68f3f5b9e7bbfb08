"""The page as a reader has it: in Chromium without a window, from a file, at the width of a desk and of a hand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboards.index_page import NAME
from leaderboards.rows import Board
from leaderboards.site import write_index, write_page
from leaderboards.store import Run, read_board, write
from leaderboards.tables import render
from tests.leaderboards.test_page import page_of_forty_rows
from tests.leaderboards.test_record import ranks_of, run_of

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (CONTRIBUTING: Set-up)")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not on the PATH"),
]
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
DESK, HAND = (1400, 900), (390, 844)
# What of a page can be seen without being scrolled, by its CSS selector.
SEEN = """
return [...document.querySelectorAll(arguments[0])].filter((found) => {
  const box = found.getBoundingClientRect();
  return box.width && box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
}).map((found) => found.innerText);
"""
OVERLAPS = """
const boxes = [...document.querySelectorAll(arguments[0])].filter((text) => text.textContent.trim())
  .map((text) => [text.textContent, text.getBoundingClientRect()]);
const found = [];
boxes.forEach(([one, a], place) => boxes.slice(place + 1).forEach(([other, b]) => {
  const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (wide > 1 && high > 1) found.push([one, other]);
}));
return found;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def run(name: str, seed: int, hits: float, **changes: Any) -> Run:
    return run_of(seed, ranks_of(600, seed, hits), experiment=name, config={"of": name}, **changes)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of six rows, one of which trains nothing, another corpus, and the index."""
    folder, hits = tmp_path_factory.mktemp("board"), {"strong": 0.8, "near": 0.78, "floor": 0.4, "weak": 0.1}
    for name, share in hits.items():
        for seed in range(3):
            made = run(name, seed, share, notes=["small sizes"] if name == "near" else [])
            if name == "floor":
                cost = made.record.cost.model_copy(update={"stages": []})
                made = made._replace(record=made.record.model_copy(update={"cost": cost}))
            write(folder, *made)
    write(folder, *run("strong", 0, 0.5, corpus={"name": "books"}))
    for corpus in ("books", "toys"):
        render(folder, corpus)
        write_page(folder, corpus, Board(read_board(folder, corpus)))
    write_index(folder)
    return folder


def opened(browser: Any, file: Path, size: tuple[int, int], scheme: str = "light") -> Any:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    browser.get(file.as_uri())
    return browser


def find(browser: Any, selector: str) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", selector)
    return found


@pytest.mark.parametrize("size", [DESK, HAND])
def test_the_first_screen_answers(browser: Any, pages: Path, size: tuple[int, int]) -> None:
    opened(browser, pages / "toys.html", size)
    told = " ".join(" ".join(browser.execute_script(SEEN, ".answer section")).split())
    for part in ("Best row strong", "Over the next row, near: +0.", "No paper that we know", "a seed on cpu"):
        assert part in told
    assert "Over the best floor, floor: +0." in told
    assert " to +0." in told
    assert ", p = " in told or ", p < " in told
    heads = browser.execute_script(SEEN, "#board thead th")
    assert heads[:2] == ["Row", "NDCG@10"]
    assert heads[2:6] == ["To best row", "Over best floor", "Paper", "Cost"] or size == HAND
    assert browser.execute_script(SEEN, "#board tbody th")[0].startswith("strong")
    bold = browser.execute_script("return getComputedStyle(document.querySelector('#board td.best')).fontWeight")
    assert int(bold) >= 700
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), "no page scrolls aside"


@pytest.mark.parametrize("size", [DESK, HAND])
def test_names_stay_where_numbers_are_scrolled(browser: Any, pages: Path, size: tuple[int, int]) -> None:
    opened(browser, pages / "toys.html", size)
    before = browser.execute_script(SEEN, "#board tbody th")
    browser.execute_script("document.querySelector('.board').scrollLeft = 100000")
    assert browser.execute_script("return document.querySelector('.board').scrollLeft") > 100
    assert browser.execute_script(SEEN, "#board tbody th") == before != []
    wide = browser.execute_script("return document.querySelector('#board tbody th').getBoundingClientRect().width")
    assert wide < 0.35 * size[0]


def test_rows_are_filtered_by_name_and_note(browser: Any, pages: Path) -> None:
    opened(browser, pages / "toys.html", DESK)
    (box,) = find(browser, "#filter")
    box.send_keys("small SIZES")
    shown = [line.text.splitlines()[0] for line in find(browser, "#board tbody th") if line.is_displayed()]
    assert shown == ["near"]
    assert find(browser, "#shown")[0].text == "1 of 4 rows"
    box.clear()
    box.send_keys(" ")
    assert len([line for line in find(browser, "#board tbody tr") if line.is_displayed()]) == 4


def test_columns_are_sorted_by_keyboard(browser: Any, pages: Path) -> None:
    opened(browser, pages / "toys.html", DESK)
    (head,) = [head for head in find(browser, "#board thead th") if head.text.startswith("Over best floor")]
    head.find_element("css selector", "button").send_keys("\n")
    assert head.get_attribute("aria-sort") == "descending"
    names = [line.text.splitlines()[0] for line in find(browser, "#board tbody th")]
    assert names == ["strong", "near", "weak", "floor"], "what has no number comes last"


def test_a_command_is_copied(browser: Any, pages: Path) -> None:
    opened(browser, pages / "toys.html", DESK)
    button = find(browser, "#board tbody tr:first-child .copy button")[0]
    browser.execute_script("arguments[0].scrollIntoView(); arguments[0].click()", button)
    time.sleep(0.2)
    assert button.text in ("copied", "selected")
    selected = browser.execute_script("return getSelection().toString()")
    assert selected.startswith("make reproduce ROW=toys/sasrec/")
    assert f"BOARD={pages}" in selected


def test_two_rows_are_compared_either_way_round(browser: Any, pages: Path) -> None:
    opened(browser, pages / "toys.html", DESK)
    straight = find(browser, "#found p")[0].text
    assert straight.startswith("NDCG@10: +0.")
    for name, row in (("first", "1"), ("second", "0")):
        browser.execute_script(
            "const box = document.getElementById(arguments[0]); box.value = arguments[1];"
            "box.dispatchEvent(new Event('change'))",
            name,
            row,
        )
    turned = find(browser, "#found p")[0].text
    assert turned.split(",")[0] == straight.split(",")[0].replace("+", "-")
    low, high = straight.split("interval ")[1].split(";")[0].split(" to ")
    swapped = str.maketrans("+-", "-+")
    assert turned.split("interval ")[1].split(";")[0] == f"{high.translate(swapped)} to {low.translate(swapped)}"
    assert len(find(browser, "#found tbody tr")) > 5


def test_a_link_to_a_row_opens_it(browser: Any, pages: Path) -> None:
    opened(browser, pages / NAME, DESK)
    (link,) = [found for found in find(browser, "tbody a") if ".html#" in str(found.get_attribute("href"))][:1]
    link.click()
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 1


def test_the_index_has_models_by_corpora(browser: Any, pages: Path) -> None:
    opened(browser, pages / NAME, HAND)
    lines = [line.text.split() for line in find(browser, "tr")]
    assert lines[0] == ["Model", "books", "toys"]
    assert [line[0] for line in lines[1:]] == ["strong", "near", "floor", "weak"]
    assert lines[2][1] == "-", "near has no row of books"
    assert len(find(browser, "td.best")) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(browser: Any, pages: Path, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2, 1.4.3), of the smallest letters as well."""
    opened(browser, pages / "toys.html", DESK, scheme)
    for selector in ("body", ".mute", "a", "#board td small", "#board .badge", ".answer h2", "#board tr.first small"):
        ratio = browser.execute_script(CONTRAST, selector)
        assert ratio >= 4.5, f"{selector}: {ratio:.2f}"


CONTRAST = """
const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => part / 255)
  .map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const found = document.querySelector(arguments[0]);
let ground = found;
while (ground.parentElement && /, 0\\)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
const [ink, paper] = [light(getComputedStyle(found).color), light(getComputedStyle(ground).backgroundColor)];
return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
"""


@pytest.fixture(scope="module")
def forty() -> str:
    return page_of_forty_rows()


def test_a_page_of_forty_rows_is_quick(browser: Any, forty: str, tmp_path: Path) -> None:
    """In the processor's time of the page's own thread: a busy machine makes no page heavier."""
    file = tmp_path / "toys.html"
    file.write_text(forty)
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    begun = spent(browser)
    opened(browser, file, DESK)
    assert len(find(browser, "#board tbody tr")) == 40
    needed = spent(browser) - begun
    loaded = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"{file.stat().st_size:,} bytes, {1000 * needed:.0f} ms of processor time, loaded after {loaded:.0f} ms")
    assert 0 < needed < 1


def spent(browser: Any) -> float:
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float({metric["name"]: metric["value"] for metric in metrics}["TaskDuration"])


def test_no_labels_of_forty_rows_overlap(browser: Any, forty: str, tmp_path: Path) -> None:
    """In the browser's own letters, which are not those that the picture was laid out with."""
    file = tmp_path / "toys.html"
    file.write_text(forty)
    opened(browser, file, DESK)
    browser.execute_script("document.querySelector('details').open = true")
    assert browser.execute_script(OVERLAPS, ".cost svg text") == []
    for place in (1, 2, 3):
        assert browser.execute_script(OVERLAPS, f"details[open] .chart:nth-of-type({place}) text") == []
