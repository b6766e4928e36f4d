"""The ops page of a running demo, in a real Chromium: live, after a restart, at a halt."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from bridge.embedded_redis import find_redis_server
from bridge.status.page import assets
from tests.bridge.processes import ROOT, Daemon, environment
from tests.bridge.status.browser import Visit, fields_of
from tests.servers import RedisServer, free_port, server_or_exit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # Chromium may have to be unpacked

PICTURE = ROOT / "ops" / "pictures" / "page.png"
PICTURE_BYTES_MAX = 200_000
# Set by `make picture`: the seconds for which the charts of the picture are to fill.
PICTURE_SECONDS = float(os.environ.get("PICTURE_SECONDS") or 0)
HALTS = 3
CHARTED = re.compile(r'"((?:rates|latency_ms|journal)\.\w+)"')

type Start = Callable[..., Daemon]


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    """Of a demo of the test's own, on the Redis that tests share, with a verdict to show."""
    return {
        "redis__url": redis_server.url,
        "state__directory": str(tmp_path / "state"),
        "status__port": str(free_port()),
        "status__acceptance": str(ROOT / "tests" / "acceptance" / "snapshots" / "passing.json"),
    }


@pytest.fixture
def daemon(start: Start, settings: dict[str, str]) -> Daemon:
    return start(**settings).until_running()


def redis_cli(server: RedisServer, *words: str) -> None:
    """Do what an operator types."""
    command = server_or_exit(find_redis_server()).with_name("redis-cli")
    subprocess.run([command, "-p", str(server.port), *words], check=True, capture_output=True)


def test_it_is_live(browser: Browser, daemon: Daemon) -> None:
    """Fills come in by themselves, with their position, its lots, and what the charts draw."""
    with Visit(browser, daemon.url) as visit:
        page = visit.until_live().page
        expect(page).to_have_title("ACTIVE · demo · Nautilus bridge")
        fills = page.locator("#feed-rows .fill")
        expect(fills.nth(2)).to_be_visible(timeout=20_000)
        expect(page.locator("[data-field='link.exec']")).to_have_text("up")
        expect(page.locator("#last-fill")).to_have_text(re.compile(r"^(BUY|SELL) [\d.]+ \w+"))
        expect(page.get_by_role("button", name="1 lot").first).to_be_visible(timeout=30_000)
        expect(page.locator("#reader-rows tr")).to_have_count(2)
        line = page.locator("#charts svg .first").first
        expect(line).to_have_attribute("d", re.compile(r"(L[\d.]+,[\d.]+){2}"))
        total = page.locator("[data-field='rates.fills_total']")
        expect(total).to_have_text(re.compile(r"^[1-9]"))
        assert visit.troubles == []


def test_every_field_is_sent(daemon: Daemon) -> None:
    """What the page names is in the document, so that nothing is unknown by a slip of the pen."""
    with urllib.request.urlopen(f"{daemon.url}/events", timeout=10) as stream:
        line = next(line for line in stream if line.startswith(b"data: "))
    document = json.loads(line.removeprefix(b"data: "))
    page = assets()
    named = fields_of(page["/"].body.decode())
    named |= set(CHARTED.findall(page["/page.charts.js"].body.decode()))

    assert len(named) > 30
    for path in sorted(named):
        section, _, name = path.partition(".")
        assert section in document, path
        if name and document[section] is not None:
            assert name in document[section], path


def test_a_halt_shows_within_a_second(
    browser: Browser, daemon: Daemon, redis_server: RedisServer
) -> None:
    """From the operator's SET to the word on the page, in the title, and in the history; the least
    of a few halts, as the others may have waited for the machine."""
    with Visit(browser, daemon.url) as visit:
        page = visit.until_live().page
        expect(page.locator("#word")).to_have_text("ACTIVE")
        page.evaluate(
            "new MutationObserver(() => {"
            " if (document.getElementById('word').textContent === 'HALTED')"
            " document.documentElement.dataset.halted ??= Date.now() / 1000;"
            "}).observe(document.body, { subtree: true, childList: true, characterData: true })"
        )
        seconds = []
        for _ in range(HALTS):
            page.evaluate("delete document.documentElement.dataset.halted")
            typed_at = time.time()
            redis_cli(redis_server, "set", "mode", "halt")
            expect(page.locator("#word")).to_have_text("HALTED", timeout=10_000)
            expect(page).to_have_title("HALTED · demo · Nautilus bridge")
            told = page.locator("#control li", has_text="HALTED was ACTIVE").first
            expect(told).to_contain_text("mode is halt")
            shown_at = float(page.evaluate("document.documentElement.dataset.halted"))
            seconds.append(shown_at - typed_at)
            redis_cli(redis_server, "set", "mode", "normal")
            expect(page.locator("#word")).to_have_text("ACTIVE", timeout=10_000)
        assert visit.troubles == []

    assert 0 < min(seconds) < 1, seconds


def test_it_comes_back_after_a_restart(
    browser: Browser, start: Start, daemon: Daemon, settings: dict[str, str]
) -> None:
    """The daemon is killed: the page says so. It starts again on its port: the page is live again,
    without a hand, and knows the fills from before."""
    with Visit(browser, daemon.url) as visit:
        page = visit.until_live().page
        expect(page.locator("#feed-rows .fill").first).to_be_visible(timeout=20_000)
        fill = page.locator("#feed-rows .fill .id").last.inner_text()
        daemon.send(signal.SIGKILL)
        daemon.ended()
        lost = page.get_by_role("alert").filter(has_text="Not connected since")
        expect(lost).to_be_visible(timeout=15_000)
        start(**settings).until_running()
        expect(lost).to_be_hidden(timeout=20_000)
        expect(page.locator("#word")).to_have_text("ACTIVE", timeout=10_000)
        expect(page.locator("#feed-rows .fill .id", has_text=fill).first).to_be_attached()
        expect(page.locator("#connection")).to_contain_text("live")
        # What the browser itself says of a port on which nobody listened for a while.
        assert [each for each in visit.troubles if "net::ERR_" not in each] == []


def test_verdicts_and_picture(
    browser: Browser, daemon: Daemon, settings: dict[str, str], tmp_path: Path
) -> None:
    """An audit's verdict comes to the page when it is typed; that of acceptance stands there. The
    README's picture is of such a page; with PICTURE_SECONDS in the environment it is made anew."""
    taken = PICTURE if PICTURE_SECONDS else tmp_path / "page.png"
    looks = {"viewport": {"width": 1280, "height": 980}, "reduced_motion": "reduce"}
    with Visit(browser, daemon.url, **looks) as visit:
        page = visit.until_live().page
        expect(page.locator("#feed-rows .fill").first).to_be_visible(timeout=20_000)
        page.wait_for_timeout(PICTURE_SECONDS * 1000)
        audit = [sys.executable, "-m", "bridge", "audit"]
        subprocess.run(audit, cwd=ROOT, env=environment(settings), check=True, capture_output=True)
        expect(page.locator("#audit")).to_have_text("agree", timeout=30_000)
        expect(page.locator("#acceptance")).to_have_text("pass")
        taken.parent.mkdir(exist_ok=True)
        page.screenshot(path=taken)
        assert visit.troubles == []

    assert taken.read_bytes().startswith(b"\x89PNG")
    assert PICTURE.stat().st_size < PICTURE_BYTES_MAX
