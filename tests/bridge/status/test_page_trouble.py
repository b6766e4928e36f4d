"""What is wrong is told on the ops page in words, once, and without pushing the rest away."""

from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.bridge.status.browser import DOCUMENT, Stage, Visit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # Chromium may have to be unpacked

START_NS = 1_790_000_000_000_000_000
REFUSED = (
    "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', 6379); it was there"
)
OUTAGE: dict[str, Any] = {
    "state": {"state": "HALTED", "cause": "link", "reason": f"no connection: {REFUSED}"},
    "link": dict.fromkeys(("exec", "market", "control"), REFUSED),
    "node": {"ready": False, "problem": f"no connection to Redis: {REFUSED}"},
}
READER = DOCUMENT["readers"][0]


def test_books_that_are_late(stage: Stage, visit: Visit) -> None:
    """By the table stands when they were read; when they lack fills, how many, and since when."""
    page, trouble = visit.page, visit.page.locator("#books-trouble")
    expect(page.locator("#books-read")).to_contain_text("as of 21 Sept")
    expect(trouble).to_be_hidden()
    stage.show(books={"behind": 2})
    expect(page.locator("#connection")).to_contain_text("live")
    expect(trouble).to_be_hidden()
    stage.show(books={"behind": 12, "late": True})
    expect(trouble).to_contain_text("are behind: 12 fills are not in them yet")
    expect(trouble).to_contain_text("unrealized is left out")
    expect(page.locator("#books-read")).to_be_hidden()
    stage.show(books={"late": True, "problem": "disk I/O error"})
    expect(trouble).to_contain_text("The books cannot be read: disk I/O error.")
    stage.show(books={"read_ns": None, "problem": "no ledger is there"})
    expect(trouble).to_have_text("There are no books: no ledger is there")
    expect(page.locator("#books-read")).to_be_hidden()


def test_there_is_no_ledger(stage: Stage, visit: Visit) -> None:
    """That there are no lots is told."""
    off = {"reader": "off", "read_ns": None, "booked_ns": None, "behind": None}
    stage.show(books=off, pnl={"realized_day": None})

    expect(visit.page.locator("#books-off")).to_contain_text("There are no lots")
    expect(visit.page.locator("#realized")).to_have_text("no ledger")
    expect(visit.page.locator("#books-trouble")).to_be_hidden()


def test_more_positions_than_are_shown(stage: Stage, visit: Visit) -> None:
    """How many there are stands above them; they scroll in a box of their own."""
    held = DOCUMENT["positions"][0]
    stage.show(
        positions=[held | {"symbol": f"S{number}"} for number in range(100)],
        books={"positions_total": 153},
    )

    expect(visit.page.locator("#positions-count")).to_have_text("100 of 153")
    box = visit.page.locator(".scroll", has=visit.page.locator("#positions"))
    assert box.evaluate("each => each.scrollHeight > each.clientHeight && each.clientHeight < 450")
    visit.page.emulate_media(media="print")
    assert box.evaluate("each => each.scrollHeight <= each.clientHeight")


def test_an_outage_is_told_once(stage: Stage, visit: Visit) -> None:
    """In full as what the state is owed to; elsewhere in a word that opens. The first row grows no
    higher, and what was read before is told from what is so now."""
    page = visit.page
    height = page.locator("#overview").bounding_box()
    stage.show(**OUTAGE)

    expect(page.locator("#word")).to_have_text("HALTED")
    spoken = page.locator("#spoken").inner_text()
    assert page.locator("main").inner_text().replace(spoken, "", 1).count(REFUSED) == 1
    expect(page.locator("#why")).to_contain_text(REFUSED)
    for name in ("exec", "market", "control"):
        expect(page.locator(f"[data-field='link.{name}'] summary")).to_have_text("down")
    expect(page.locator("[data-field='node.status']")).to_have_text("running")
    expect(page.locator("#control-age")).to_have_text("as last read")
    expect(page.locator("#via")).to_be_hidden()
    after = page.locator("#overview").bounding_box()
    assert height and after and after["height"] <= height["height"] + 1
    page.locator("[data-field='link.exec'] summary").click()
    expect(page.locator("[data-field='link.exec']").get_by_text(REFUSED)).to_be_visible()
    stage.show()
    expect(page.locator("[data-field='link.exec']")).to_have_text("up")
    expect(page.locator("#control-age")).to_have_text("")
    expect(page.locator("#via")).to_be_visible()


def test_silence_is_no_connection(stage: Stage, visit: Visit) -> None:
    """A lane whose Redis does not answer is not green."""
    stage.show(link={"exec": "silent: no answer for 4 s"})

    field = visit.page.locator("[data-field='link.exec']")
    expect(field).to_have_text("silent: no answer for 4 s")
    expect(field).to_have_class("bad")


def test_readers_that_do_not_read(stage: Stage, visit: Visit) -> None:
    """It is told in words and color, with the reason behind it."""
    stage.show(readers=[READER | {"state": "disk I/O error"}])

    cell = visit.page.locator("#reader-rows td").first
    expect(cell.locator("summary")).to_have_text("does not read")
    expect(cell).to_have_class("bad")
    cell.locator("summary").click()
    expect(cell.get_by_text("disk I/O error")).to_be_visible()


def test_what_does_not_fall_is_marked(stage: Stage, visit: Visit) -> None:
    """Entries that wait are as it should be while they get fewer now and then."""
    page = visit.page
    lag = page.locator("#reader-rows tr").first.locator("td").nth(1)
    chart = page.locator("#charts figure").nth(5)
    for seconds, waiting, trouble in ((0, 5, ""), (4, 4, ""), (8, 9, ""), (10, 9, "6 s")):
        told = {"ts_ns": START_NS + seconds * 10**9, "role": str(seconds)}
        readers = [READER | {"lag_entries": waiting}]
        stage.show(**told, readers=readers, journal={"unacknowledged": waiting})
        expect(page.locator("[data-field=role]")).to_have_text(str(seconds))
        words = f"not falling for {trouble}" if trouble else ""
        expect(lag).to_have_text(f"{waiting} ({words})" if words else f"{waiting}")
        expect(chart.locator("b")).to_have_text(f"{waiting}")
        assert words in chart.inner_text()
        assert ("falling" in chart.inner_text()) == bool(words)
    expect(lag).to_have_class("n warn")


def test_a_journal_that_is_nearly_full(stage: Stage, visit: Visit) -> None:
    """It is told in a word, and the meter knows what is much."""
    page = visit.page
    expect(page.locator("#journal-full")).to_have_text("")
    stage.show(journal={"bytes": 900, "bytes_max": 1000})

    expect(page.locator("#journal-full")).to_have_text("nearly full")
    levels = "each => [each.low, each.high, each.optimum]"
    assert page.get_by_role("meter").evaluate(levels) == [500, 800, 0]


def test_a_long_reason_opens(stage: Stage, visit: Visit) -> None:
    """Its beginning is shown, all of it when it is opened; who hears the page is told the
    beginning, and nothing more by opening it."""
    page = visit.page
    reason = " ".join([f"word{number}" for number in range(200)])
    stage.show(
        state={"state": "HALTED", "cause": "breach", "reason": reason},
        feed=[DOCUMENT["feed"][1] | {"reason": reason}],
    )
    expect(page.locator("#word")).to_have_text("HALTED")
    for place in ("#why", "#feed-rows .reason"):
        assert len(page.locator(place).inner_text()) < 200
        page.locator(place).locator("summary").click()
        assert page.locator(place).inner_text().split()[-200:][1:] == reason.split()[1:]
    spoken = page.get_by_role("status").filter(has_text="HALTED")
    expect(spoken).to_contain_text("HALTED: breach: word0")
    assert len(spoken.inner_text()) < 200


def test_what_turns_writing_around_is_seen(stage: Stage, visit: Visit) -> None:
    """Characters that would show a text in another order stand as what they are."""
    turned = "a\u202eb\u2066c"
    stage.show(role=turned, feed=[DOCUMENT["feed"][0] | {"symbol": turned}])

    expect(visit.page.locator("#feed-rows td").nth(3)).to_have_text(r"a\u202eb\u2066c")
    expect(visit.page.locator("[data-field=role]")).to_have_text(r"a\u202eb\u2066c")
    expect(visit.page).to_have_title(r"ACTIVE · a\u202eb\u2066c · Nautilus bridge")


def test_words_of_a_quiet_day(browser: Browser, stage: Stage) -> None:
    """What all is well with is said as such."""
    stage.show(state={"mode": "missing"})
    with Visit(browser, stage.url) as visit:
        page = visit.until_live().page
        expect(page.locator("#why")).to_have_text("nothing restrains it")
        expect(page.locator("[data-field='state.mode']")).to_have_text("missing (normal)")
        expect(page.get_by_text("Order entries")).to_be_visible()
        expect(page.get_by_text("exec, last minute")).to_be_visible()
        expect(page.get_by_text("(UTC)")).to_be_visible()
