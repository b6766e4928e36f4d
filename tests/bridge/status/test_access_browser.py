"""Who may look, as a real Chromium has it: what pages of other sites can do, and what not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.bridge.processes import eventually
from tests.bridge.status.browser import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # Chromium may have to be unpacked

TOKEN = "0123456789abcdef"


class Elsewhere(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        """Answer any request."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><body>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere(browser: Browser) -> Iterator[Page]:
    """A page of another site, in a browser that knows nobody yet."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        with browser.new_context() as context:
            page = context.new_page()
            # By its name it is a site of its own.
            page.goto(f"http://localhost:{server.server_port}/")
            yield page
        server.shutdown()


def follow(elsewhere: Page, link: str) -> Page:
    """Click a link on a page of another site; return what it opens."""
    elsewhere.evaluate(
        """(href) => {
            const link = Object.assign(document.createElement("a"), { href, target: "_blank" });
            link.textContent = "the page";
            document.body.replaceChildren(link);
        }""",
        link,
    )
    with elsewhere.expect_popup() as opened:
        elsewhere.get_by_text("the page").click()
    return opened.value


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_contain_text("live", timeout=10_000)


def test_links_of_another_site_lead_to_the_page(elsewhere: Page) -> None:
    """A first one with the token logs in; a reload and a plain link find who has logged in."""
    with Stage(token=TOKEN) as stage:
        expect(follow(elsewhere, stage.url).get_by_role("heading")).to_have_text(
            "A token is needed"
        )
        page = follow(elsewhere, f"{stage.url}/?token={TOKEN}")
        is_live(page)
        assert page.url == f"{stage.url}/"
        page.reload()
        is_live(page)
        is_live(follow(elsewhere, stage.url))


def test_another_site_takes_no_stream(elsewhere: Page, stage: Stage) -> None:
    """It asks over and over, by all means that need no answer; no place is taken."""
    refused_before = stage._server._server.server_state.total_requests
    elsewhere.evaluate(
        """async (url) => {
            for (let round = 0; round < 5; round++) {
                await new Promise((done) => { new EventSource(url).onerror = done; });
                await fetch(url, { mode: "no-cors" }).catch(() => null);
                await new Promise((done) => {
                    Object.assign(new Image(), { onerror: done, src: url });
                });
            }
        }""",
        f"{stage.url}/events",
    )

    # Streams that somebody leaves do not count there. The last one does behind its answer.
    state = stage._server._server.server_state
    eventually(lambda: state.total_requests == refused_before + 15, "15 requests are refused")
