"""How the ops page looks, in both themes and on a phone, and what it is to who does not see it."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.bridge.status.browser import DOCUMENT, PHONE, Stage, Visit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # Chromium may have to be unpacked

LONG = "A" * 70
# Keeps what the first row that is new looks like: [text, background, animation].
LIT = """() => new MutationObserver(() => {
    const row = document.querySelector("#feed-rows tr.new");
    const style = row && getComputedStyle(row);
    window.lit ??= row && [row.textContent, style.backgroundColor, style.animationName];
}).observe(document.body, { subtree: true, childList: true, attributes: true })"""
# The contrast of every text that is seen, least first: [ratio, text].
CONTRASTS = """(grey) => {
    const parse = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => {
        if (grey) r = g = b = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        const [x, y, z] = [r, g, b].map((part) => part / 255).map((part) =>
            part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const color = parse(getComputedStyle(each).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility()) continue;
        const sides = [parse(getComputedStyle(element).color), behind(element)].map(luminance);
        const [low, high] = sides.sort((a, b) => a - b);
        found.push([(high + 0.05) / (low + 0.05), node.data.trim()]);
    }
    return found.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", ["ACTIVE", "REDUCING", "DISABLED", "HALTED"])
def test_contrast(browser: Browser, stage: Stage, theme: Any, state: str) -> None:
    """Every text stands out from what is behind it, 4.5 to 1 at least, in both themes."""
    bad = {"exec": "down", "market": "down", "control": "down"}
    stage.show(state={"state": state, "latched": "a", "flag": False}, link=bad)
    with Visit(browser, stage.url, color_scheme=theme, reduced_motion="reduce") as visit:
        expect(visit.until_live().page.locator("#word")).to_have_text(state)
        visit.page.get_by_role("button", name="1 lot").click()
        found = visit.page.evaluate(CONTRASTS, False)
        dark = visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")

    assert len(found) > 100
    assert found[0][0] >= 4.5, found[:5]
    assert dark == (theme == "dark")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_silence_is_told(browser: Browser, stage: Stage, theme: Any) -> None:
    """Three seconds without a document: the page says since when and goes grey, still readable,
    though the connection stands; the next document ends it."""
    with Visit(browser, stage.url, color_scheme=theme, reduced_motion="reduce") as visit:
        page = visit.until_live().page
        stage.show_exactly(None)
        lost = page.get_by_role("alert").filter(has_text="Not connected since")
        expect(lost).to_be_visible(timeout=15_000)
        expect(page).to_have_title("not connected · live · Nautilus bridge")
        expect(page.locator("#connection")).to_have_text("not connected")
        assert "grayscale" in page.locator("main").evaluate("each => getComputedStyle(each).filter")
        found = page.evaluate(CONTRASTS, True)
        stage.show(state={"state": "HALTED"})
        expect(lost).to_be_hidden(timeout=15_000)
        expect(page).to_have_title("HALTED · live · Nautilus bridge")

    assert found[0][0] >= 4.5, found[:5]


def test_halted_is_seen_everywhere(stage: Stage, visit: Visit) -> None:
    """In the title, in the tab's mark, in the color of the state, with the reason, to readers of
    the screen at once."""
    page = visit.page
    mark = page.locator("#mark").get_attribute("href")
    stage.show(state={"state": "HALTED", "cause": "mode", "reason": "mode is halt"})

    expect(page).to_have_title("HALTED · live · Nautilus bridge")
    expect(page.locator("#mark")).to_have_attribute("href", re.compile("^data:image/svg.*rect"))
    assert page.locator("#mark").get_attribute("href") != mark
    expect(page.locator("#state")).to_have_css("background-color", "rgb(174, 22, 32)")
    spoken = page.get_by_role("status").filter(has_text="HALTED")
    expect(spoken).to_have_attribute("aria-live", "assertive")
    expect(spoken).to_contain_text("mode: mode is halt")


@pytest.mark.parametrize("width", [1280, 768, 360])
def test_no_sideways_scroll(browser: Browser, stage: Stage, width: int) -> None:
    """Neither the page nor a table in it is wider than its frame, even with long names."""
    long = {"symbol": LONG, "account": LONG, "reason": LONG, "cl_ord_id": LONG, "qty": "9" * 40}
    stage.show(
        producer=LONG,
        redis=LONG,
        state={"reason": LONG, "flag_key": LONG, "latched": LONG, "mode": LONG},
        link={"exec": LONG},
        feed=[each | long for each in DOCUMENT["feed"]],
        positions=[each | long for each in DOCUMENT["positions"]],
        control=[each | long for each in DOCUMENT["control"]],
        audit={"text": LONG},
    )
    with Visit(browser, stage.url, viewport=PHONE | {"width": width}) as visit:
        page = visit.until_live().page
        page.get_by_role("button", name="1 lot").click()
        wider = page.evaluate(
            "[document.documentElement, ...document.querySelectorAll('.card, td, th, dd, li')]"
            ".filter((each) => each.scrollWidth > each.clientWidth + 1 && each.clientWidth)"
            ".map((each) => each.outerHTML.slice(0, 200))"
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert wider == []


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 900}, PHONE])
def test_names_and_roles(browser: Browser, stage: Stage, viewport: Any) -> None:
    """Who does not see the page finds its parts by role and name, on a phone as well."""
    with Visit(browser, stage.url, viewport=viewport) as visit:
        page = visit.until_live().page
        for name in ("Overview", "Rates and latencies", "Open positions", "Checks"):
            expect(page.get_by_role("region", name=name).first).to_be_visible()
        tables = {"Open positions with their lots": 6, "Orders and fills, newest first": 8}
        for name, columns in (tables | {"Readers of the execution streams": 4}).items():
            table = page.get_by_role("table", name=name)
            expect(table.get_by_role("columnheader")).to_have_count(columns)
            assert table.get_by_role("row").count() > 1
        expect(page.get_by_role("rowheader", name="ledger")).to_be_visible()
        images = page.get_by_role("img")
        expect(images).to_have_count(6)
        expect(images.nth(2)).to_have_accessible_name(
            "Publish, p99: 1.2 ms, p50 0.3 ms, peak 1.2 ms"
        )
        expect(page.get_by_role("meter")).to_have_accessible_name("Journal, used")
        assert page.locator("html").get_attribute("lang") == "en"


def test_by_keyboard(stage: Stage, visit: Visit) -> None:
    """Tab reaches the lots, the lists that scroll and the links; Enter opens the lots, and they
    stay open while documents come."""
    page = visit.page
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 4)"))
        if reached[-1] == "1 lo":
            page.keyboard.press("Enter")
    stage.show(feed=DOCUMENT["feed"][:1])
    expect(page.locator("#feed-rows tr")).to_have_count(1)

    assert reached[1] == "1 lo"
    assert reached[-2:] == ["metr", "heal"]
    expect(page.get_by_role("button", name="1 lot")).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("table", name="Lots", exact=True)).to_be_visible()


def test_rows_that_arrive_are_lit(browser: Browser, stage: Stage) -> None:
    """A new row is lit until the next document, without an animation, and not for who wants less
    motion."""
    for motion, color in (("no-preference", "rgb(255, 246, 207)"), ("reduce", "rgba(0, 0, 0, 0)")):
        stage.show()
        with Visit(browser, stage.url, reduced_motion=motion) as visit:
            page = visit.until_live().page
            expect(page.locator("#feed-rows tr")).to_have_count(2)
            page.evaluate(LIT)
            stage.show(feed=[DOCUMENT["feed"][0] | {"cl_ord_id": "O-3"}, *DOCUMENT["feed"]])
            lit = page.wait_for_function("() => window.lit").json_value()
            assert ("O-3" in lit[0], lit[1:]) == (True, [color, "none"])
            expect(page.locator("#feed-rows tr.new")).to_have_count(0)
            expect(page.locator("#feed-rows tr").first).to_contain_text("O-3")
