"""The page's connection, in a real Chromium: lost, refused, and given back while nobody looks."""

import contextlib
import re
import urllib.request

import pytest
from playwright.sync_api import Browser, Page, expect

from bridge.status.events import CLIENTS_MAX
from tests.bridge.status.browser import DOCUMENT, Stage, Visit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # Chromium may have to be unpacked

HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
# Counts the streams that are open.
COUNT = """{
    const Real = EventSource;
    window.streams = 0;
    window.EventSource = class extends Real {
        constructor(...given) { super(...given); window.streams += 1; }
        close() { if (this.readyState !== Real.CLOSED) window.streams -= 1; super.close(); }
    };
}"""


def lost(page: Page) -> str:
    expect(page.locator("#lost")).to_be_visible(timeout=15_000)
    return page.locator("#lost").inner_text()


def test_what_cannot_be_shown_is_not_live(browser: Browser, stage: Stage) -> None:
    """Where showing a document fails, the page does not call itself live; the next one that can be
    shown ends that."""
    with Visit(browser, stage.url) as visit:
        page = visit.until_live().page
        stage.show(feed=[None])
        assert "cannot show what it was told: TypeError" in lost(page)
        expect(page.locator("#connection")).to_have_text("not connected")
        expect(page).to_have_title(re.compile("^not connected"))
        stage.show()
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#connection")).to_contain_text("live")
        assert visit.troubles and all("TypeError" in each for each in visit.troubles)


@pytest.mark.parametrize("ts_ns", [int("9" * 22), 1e300, -1, "1790000000000000000", True])
def test_what_is_no_time(stage: Stage, visit: Visit, ts_ns: object) -> None:
    """It is not known; all else is shown."""
    stage.show(feed=[DOCUMENT["feed"][0] | {"ts_ns": ts_ns}], state={"since_ns": ts_ns})

    expect(visit.page.locator("#feed-rows tr")).to_have_count(1)
    expect(visit.page.locator("#feed-rows time")).to_have_text("not known")
    expect(visit.page.locator("#connection")).to_contain_text("live")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the token is not accepted any more, open /?token=..."),
        (403, "this address may not look, see status.trusted_proxy"),
        (503, "16 pages look on already, close one"),
    ],
)
def test_a_refusal_says_why(browser: Browser, stage: Stage, status: int, said: str) -> None:
    """An EventSource does not tell what was answered: the page asks, and tells."""
    with Visit(browser, stage.url) as visit:
        page = visit.until_live().page
        page.route("**/events", lambda route: route.fulfill(status=status))
        stage.show_exactly(None)
        told = page.get_by_role("alert").filter(has_text=said)
        expect(told).to_be_visible(timeout=15_000)
        expect(told).to_contain_text("Not connected since")
        page.unroute("**/events")
        stage.show()
        expect(told).to_be_hidden(timeout=15_000)


def test_the_bridge_refuses(browser: Browser) -> None:
    """What it really answers to the seventeenth page, and to a cookie that is worth nothing."""
    token = "0123456789abcdef"
    with Stage(token=token) as stage, contextlib.ExitStack() as opened:
        for _ in range(CLIENTS_MAX):
            asked = urllib.request.Request(f"{stage.url}/events")
            asked.add_header("Authorization", f"Bearer {token}")
            opened.enter_context(urllib.request.urlopen(asked, timeout=10))
        with Visit(browser, f"{stage.url}/?token={token}") as visit:
            page = visit.page
            expect(page.locator("#lost")).to_contain_text("16 pages look on", timeout=15_000)
            opened.close()
            visit.until_live()
            page.context.clear_cookies()
            stage.show_exactly(None)
            expect(page.locator("#lost")).to_contain_text("the token is not", timeout=15_000)


def test_who_is_not_seen_gives_the_connection_back(browser: Browser, stage: Stage) -> None:
    """A page that is hidden for a minute has no stream, and says so in its title; seen again, it is
    live again."""
    with Visit(browser, stage.url) as visit:
        page = visit.page
        page.add_init_script(COUNT)
        page.clock.install()
        page.reload()
        visit.until_live()
        page.evaluate(HIDE, True)
        page.clock.fast_forward(50_000)
        assert page.evaluate("window.streams") == 1
        page.clock.fast_forward(11_000)
        expect(page).to_have_title("not watching · live · Nautilus bridge")
        assert page.evaluate("window.streams") == 0
        stage.show(state={"state": "HALTED"})
        page.evaluate(HIDE, False)
        expect(page).to_have_title("HALTED · live · Nautilus bridge")
        expect(page.locator("#lost")).to_be_hidden()
        assert page.evaluate("window.streams") == 1
        visit.until_live()


def test_a_new_day_gives_times_their_day(browser: Browser, stage: Stage) -> None:
    """What was today's when it was shown is yesterday's behind midnight, without a new row; the
    zone of all times stands beside the last one."""
    with Visit(browser, stage.url, timezone_id="Asia/Kolkata") as visit:
        page = visit.page
        page.clock.install(time="2026-09-21T23:59:00+05:30")
        page.reload()
        visit.until_live()
        time = page.locator("#feed-rows time").first
        expect(time).to_have_text("19:43:20")
        expect(page.locator("#heard")).to_have_text(re.compile(r"live, \d\d:\d\d:\d\d GMT\+5:30"))
        expect(page.locator("#heard")).to_have_attribute("title", re.compile("UTC$"))
        page.clock.fast_forward(61_000)
        expect(time).to_have_text("21 Sept 19:43:20")
