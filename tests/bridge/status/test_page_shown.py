"""What the ops page makes of a document, in a real Chromium and behind the real server."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.bridge.status.browser import DOCUMENT, Stage, Visit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # Chromium may have to be unpacked

# What is left out where nothing is known of it.
NO_DETAIL = "".join([f":not([data-as='{kind}'])" for kind in ("detail", "long", "problem")])
HOSTILE = "<img src=x onerror=alert(1)></td><script>alert(2)</script>"


def row(page: Page, table: str) -> list[str]:
    """Return what the first row of a table says, cell by cell."""
    cells = page.get_by_role("table", name=table, exact=True).locator("tbody > tr").first
    return [text.strip() for text in cells.locator("> *").all_inner_texts()]


def test_amounts_stand_as_they_were_sent(stage: Stage, visit: Visit) -> None:
    """No digit is lost or added, however long an amount is."""
    qty, price, pnl = "0.100000000000000000001", "12345678901234567890.10", "-0.000000000000000010"
    trade = DOCUMENT["feed"][0] | {"qty": qty, "price": price, "fee": "1e-9"}
    lot = {"qty": qty, "price": price, "ts_ns": 1}
    held = {"qty": qty, "avg_px": price, "realized_pnl": pnl, "unrealized_pnl": "+7", "lots": [lot]}
    stage.show(
        feed=[trade],
        positions=[DOCUMENT["positions"][0] | held],
        pnl={"realized_day": [{"amount": pnl, "ccy": "USD"}, {"amount": "+1e-9", "ccy": "BTC"}]},
    )

    page = visit.page
    sums = page.locator("#realized .money")
    expect(sums).to_have_text([f"{pnl} USD,", "+1e-9 BTC"])
    expect(sums.nth(0)).to_have_class(re.compile("bad"))
    expect(sums.nth(1)).to_have_class(re.compile("good"))
    assert row(page, "Orders and fills, newest first")[4:7] == [qty, price, "1e-9 USDT"]
    assert row(page, "Open positions with their lots")[2:] == [qty, price, f"{pnl} USDT", "+7 USDT"]
    page.get_by_role("button", name="1 lot of BTCUSDT-PERP").click()
    assert row(page, "Lots")[:2] == [qty, price]


def hostile(part: Any) -> Any:
    """Return the same with markup in place of every text."""
    if isinstance(part, dict):
        return {name: hostile(each) for name, each in part.items()}
    if isinstance(part, list):
        return [hostile(each) for each in part]
    return HOSTILE if isinstance(part, str) else part


def test_markup_stays_text(stage: Stage, visit: Visit) -> None:
    """Names, states and reasons made of markup are shown letter by letter, and do nothing."""
    asked: list[str] = []
    visit.page.on("dialog", lambda dialog: asked.append(dialog.message))
    stage.show_exactly(hostile(DOCUMENT))

    page = visit.page
    expect(page.locator("#word")).to_have_text(HOSTILE)
    expect(page.locator("#feed-rows tr").first).to_contain_text(HOSTILE)
    expect(page.locator("#positions tbody").first).to_contain_text(HOSTILE)
    expect(page.locator("#control li").first).to_contain_text(HOSTILE)
    expect(page.locator("#reader-rows tr").first).to_contain_text(HOSTILE)
    assert page.locator("img, script:not([src])").count() == 0
    assert HOSTILE in page.title()
    assert asked == []


def test_any_part_may_be_missing(stage: Stage, visit: Visit) -> None:
    """Each part alone, and all of them: the rest is shown, and what is missing is not known."""
    page = visit.page
    lists = {name: f"#{name}-none" for name in ("feed", "positions", "readers", "control")}
    every = [name for name in DOCUMENT if name != "v"]
    for missing in [*([name] for name in every), every]:
        stage.show_exactly(DOCUMENT | dict.fromkeys(missing))
        is_known = "state" not in missing
        expect(page.locator("#word")).to_have_text("ACTIVE" if is_known else "not known")
        for name, place in lists.items():
            expect(page.locator(place)).to_have_text("not known" if name in missing else "")
        for name in missing:
            fields = f"[data-field='{name}'], [data-field^='{name}.']"
            for field in page.locator(f":is({fields}){NO_DETAIL}").all():
                expect(field).to_have_text("not known")


def test_nothing_yet(stage: Stage, visit: Visit) -> None:
    """Empty lists are said to be empty, not unknown."""
    stage.show(feed=[], positions=[], readers=[], control=[], last_fill=None, audit=None)
    stage.show_exactly((stage.document or {}) | {"acceptance": None})

    for id_, words in {
        "feed-none": "No order and no fill yet.",
        "positions-none": "No open position.",
        "readers-none": "No reader has said anything yet.",
        "control-none": "Nothing has changed yet.",
        "last-fill": "none yet",
        "audit": "no audit yet",
        "acceptance": "none yet: make accept",
    }.items():
        expect(visit.page.locator(f"#{id_}")).to_have_text(words)


def test_a_refused_stream_is_asked_for_again(browser: Browser, stage: Stage) -> None:
    """Where EventSource gives up, as after a 503, the page does not."""
    with Visit(browser, stage.url) as visit:
        visit.page.route("**/events", lambda route: route.fulfill(status=503))
        visit.page.reload()
        lost = visit.page.get_by_role("alert").filter(has_text="16 pages look on already")
        expect(lost).to_be_visible(timeout=15_000)
        visit.page.unroute("**/events")
        visit.until_live()
        expect(lost).to_be_hidden()


@pytest.mark.parametrize(("zone", "shown"), [("UTC", "14:13:20"), ("Asia/Kolkata", "19:43:20")])
def test_times_are_the_viewers(browser: Browser, stage: Stage, zone: str, shown: str) -> None:
    """A time is told in the viewer's zone, with its day as it is not today; UTC is its title."""
    with Visit(browser, stage.url, timezone_id=zone) as visit:
        time = visit.until_live().page.locator("#feed-rows time").first
        expect(time).to_have_text(f"21 Sept {shown}")
        expect(time).to_have_attribute("title", "2026-09-21 14:13:20.123 UTC")


def test_charts_keep_five_minutes(stage: Stage, visit: Visit) -> None:
    """What is older leaves the chart; a silence is a gap, and not a line across it."""
    start = 1_790_000_000_000_000_000
    area = visit.page.locator("#charts svg").nth(5).locator(".first")
    for seconds, stretches in ((0, 1), (1, 1), (100, 2), (302, 2), (303, 2), (290, 1)):
        stage.show_exactly(DOCUMENT | {"ts_ns": start + seconds * 10**9, "v": 2, "role": seconds})
        expect(visit.page.locator("[data-field=role]")).to_have_text(str(seconds))
        assert (area.get_attribute("d") or "").count("M") == stretches, seconds


def test_behind_a_token(browser: Browser) -> None:
    """Opened once with the token, the page gets its scripts and its events by the cookie, and the
    token is no longer in the address."""
    token = "0123456789abcdef"
    with Stage(token=token) as stage, Visit(browser, f"{stage.url}/?token={token}") as visit:
        expect(visit.until_live().page.locator("#word")).to_have_text("ACTIVE")
        assert token not in visit.page.url
        assert visit.troubles == []


def test_another_version(stage: Stage, visit: Visit) -> None:
    """A document of a later version is not taken for this one: the page asks to be loaded anew."""
    stage.show(v=3)

    told = visit.page.get_by_role("alert").filter(has_text="cannot read version 3: reload it")
    expect(told).to_be_visible()
