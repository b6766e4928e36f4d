"""A real Chromium for tests of the ops page, and a status server that shows what a test says."""

import asyncio
import contextlib
import copy
import json
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Self

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from bridge.metrics import Metrics
from bridge.status.server import StatusServer
from bridge.status_settings import StatusSettings
from tests.bridge.processes import ROOT, eventually

UNPACK_SECONDS_MAX = 300
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
LOTS = [{"qty": "0.010", "price": "64012.10", "ts_ns": 1_790_000_000_123_456_789}]
DOCUMENT: dict[str, Any] = {
    "v": 2,
    "role": "live",
    "version": "0.5.0",
    "producer": "LIVE-001.9f2c11ab.1",
    "prefix": "",
    "redis": "redis://127.0.0.1:6379/0",
    "state": {
        "state": "ACTIVE", "cause": "clear", "reason": "", "flag": True,
        "flag_key": "features:nautilus_live_exec", "mode": "normal", "latched": "",
        "since_ns": 1_790_000_000_000_000_000,
    },
    "link": {"exec": "up", "market": "up", "control": "up", "control_via": "push"},
    "node": {"ready": True, "problem": "", "status": "running", "uptime_seconds": 7380},
    "rates": {
        "market_per_s": 420.5, "exec_per_s": 3.25, "orders_total": 18234, "fills_total": 9120,
        "errors_total": 0, "dropped_total": 12, "conflated_total": 48211,
    },
    "latency_ms": {"publish_p50": 0.3, "publish_p99": 1.2, "journal_p99": 0.1, "loop_p99": None},
    "journal": {"unacknowledged": 3, "bytes": 48_211_004, "bytes_max": 1 << 30},
    "feed": [
        {
            "kind": "fill", "ts_ns": 1_790_000_000_123_456_789, "symbol": "BTCUSDT-PERP",
            "side": "BUY", "qty": "0.010", "price": "64012.10", "status": "", "reason": "",
            "cl_ord_id": "O-1", "fee": "0.25604840", "fee_ccy": "USDT",
        },
        {
            "kind": "order", "ts_ns": 1_790_000_000_000_000_000, "symbol": "BTCUSDT-PERP",
            "side": "SELL", "qty": "0.010", "price": "", "status": "denied",
            "reason": "the flag is off", "cl_ord_id": "O-2", "fee": "", "fee_ccy": "",
        },
    ],
    "positions": [
        {
            "account": "BINANCE_FUTURES-001", "venue": "BINANCE", "symbol": "BTCUSDT-PERP",
            "side": "LONG", "qty": "0.010", "avg_px": "64012.10", "realized_pnl": "12.40391",
            "unrealized_pnl": "-1.20", "ccy": "USDT", "lots_total": 1, "lots": LOTS,
        }
    ],
    "books": {
        "reader": "inside", "read_ns": 1_790_000_000_000_000_000,
        "booked_ns": 1_790_000_000_123_456_789, "behind": 0, "late": False, "problem": "",
        "positions_total": 1,
    },
    "pnl": {"realized_day": [{"amount": "12.40391", "ccy": "USD"}]},
    "readers": [{"name": "ledger", "state": "reads", "lag_entries": 0, "gaps": 0}],
    "audit": {"verdict": "agree", "ts_ns": 1_790_000_000_000_000_000, "text": "all agree"},
    "control": [
        {
            "ts_ns": 1_790_000_000_000_000_000, "state": "ACTIVE", "was": "HALTED",
            "cause": "resume", "reason": "by an operator", "canceled": "2", "refused": "0",
            "positions_left": "1",
        }
    ],
    "acceptance": {
        "verdict": "pass", "tier": "full", "ts_ns": 1_790_000_000_000_000_000, "text": "gates: 24",
    },
}  # fmt: skip
DOCUMENT["last_fill"] = DOCUMENT["feed"][0]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium. Skips the test, and says why, where there is none."""
    command = [ROOT / "ops" / "find-chromium"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=UNPACK_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        pytest.skip(f"ops/find-chromium had none within {UNPACK_SECONDS_MAX} s")
    if done.returncode:
        pytest.skip(done.stderr)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=done.stdout.strip(), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


class Visit:
    """A page in a browser window of its own. `troubles` are the console's errors and warnings,
    and the exceptions of scripts. `options` are those of `Browser.new_context`."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self._context = browser.new_context(**{"viewport": WIDE} | options)
        self.page: Page = self._context.new_page()
        self.troubles: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.goto(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def until_live(self) -> Self:
        """Wait for the first document, and until the page shows it."""
        expect(self.page.locator("#connection")).to_contain_text("live", timeout=10_000)
        return self

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(message.text)


class Stage:
    """The status server, whose document is what `show` was told last. Use as a context manager."""

    def __init__(self, **settings: Any) -> None:
        self.document: dict[str, Any] | None = None
        self._shown = 0
        feed: Any = SimpleNamespace(
            document=self._told,
            state=lambda: self._shown,
            measures=SimpleNamespace(late_seconds=deque(maxlen=1)),
        )
        given = StatusSettings.model_validate({"host": "127.0.0.1", "port": 0} | settings)
        self._server = StatusServer(given, feed, Metrics(), lambda: None)
        self._server.bind()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.run()))
        self.show()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        eventually(lambda: self._server._server.started, "the server runs")
        self._server.stop()
        self._thread.join()

    @property
    def url(self) -> str:
        return self._server.url

    def show(self, **parts: Any) -> None:
        """Show the document with these parts in place of its own, those of a dict one by one."""
        told = copy.deepcopy(DOCUMENT)
        for name, part in parts.items():
            both = isinstance(part, dict) and isinstance(told.get(name), dict)
            told[name] = told[name] | part if both else part
        self.show_exactly(told)

    def show_exactly(self, document: dict[str, Any] | None) -> None:
        """Show a document as it is; None: it cannot be made, and nothing is sent."""
        self.document = document
        self._shown += 1

    def _told(self) -> bytes:
        if self.document is None:
            raise RuntimeError("the test shows no document")
        return json.dumps({"ts_ns": time.time_ns()} | self.document).encode()


def fields_of(html: str) -> set[str]:
    """Return the paths of the document that the page's elements name."""
    return set(re.findall(r'data-(?:field|time)="([^"]+)"', html))
