"""A bridge's folder and the Redis behind it, with real fills in it, and the commands upon them."""

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

import uvloop

from bridge.__main__ import main
from bridge.audit_command import Audit
from bridge.core import contract
from bridge.daemon import STOP_SIGNALS
from bridge.metrics import Metrics
from bridge.readers import READERS, Feed, Places
from bridge.reading import Item
from tests.bridge.fills import as_dict, fill, funding
from tests.bridge.journal_rig import JournalRig, Session
from tests.bridge.processes import Ended, environment
from tests.proxies import NAMES
from tests.servers import RedisServer

FILLS: Final = NAMES.key("fills")
ORDERS: Final = NAMES.key("orders")
CONTROL: Final = NAMES.key("control")
HEADS: Final = NAMES.key("archive")
SEGMENT_BYTES: Final = 1 << 14


class Kept:
    """Journal, Redis, ledger and archive of one bridge. `settings` are sections of its settings."""

    def __init__(self, folder: Path, server: RedisServer, **settings: dict[str, Any]) -> None:
        self.server = server
        self.client = server.client
        self.fills = 0
        # The producer of the latest process.
        self.producer = ""
        given = {
            "streams": {"prefix": NAMES.prefix},
            "readers": {"linger_seconds": 0.01},
            "archive": {"segment_bytes": SEGMENT_BYTES},
        }
        self.rig = JournalRig(folder, **given | settings)
        self.places = Places(self.rig.config, server.url, folder)
        self.metrics = Metrics()

    def put(self, session: Session, count: int) -> None:
        """Append so many fills with their orders, and a payment of funding."""
        self.producer = session.producer
        for _ in range(count):
            self.fills += 1
            side = "BUY" if self.fills % 3 else "SELL"
            session.append("orders")
            session.lane.append(entry_of(fill(self.fills, side=side, qty="2", fee="0.1")))
        session.lane.append(entry_of(funding(self.fills)))

    def trade(self, count: int = 5) -> None:
        """Have one process of the bridge publish so many fills."""

        async def run() -> None:
            async with self.rig.running(self.server.port) as session:
                self.put(session, count)
                await session.drained()

        uvloop.run(run())

    def offline(self, count: int = 2) -> None:
        """Have a process of the bridge record so many fills that has no Redis."""
        self.rig.offline(lambda session: self.put(session, count))

    def read(self, *names: str) -> None:
        """Have the readers take all there is."""
        stopped = threading.Event()
        stopped.set()
        for name in names or READERS:
            Feed(name, self.places, self.metrics).read(stopped)

    def audit(
        self, seconds_max: float = 0.0, tell: Callable[[str], object] = lambda _: None
    ) -> Audit:
        """Run the audit in this process."""
        audit = Audit(self.places, seconds_max=seconds_max, tell=tell)
        audit.run()
        return audit

    def wrong(self) -> dict[str, tuple[int, int]]:
        """Return what an audit finds wrong in single entries: how many, and the first number."""
        found = {}
        for row in self.audit().rows:
            for name, count in row._asdict().items():
                if getattr(count, "number", 0):
                    found[f"{row.kind} {name}"] = count.number, count.first
        return found

    @property
    def settings(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {
            "state__directory": str(self.rig.folder),
            "streams__prefix": NAMES.prefix,
            "redis__url": self.server.url,
            "archive__segment_bytes": str(SEGMENT_BYTES),
            "readers__linger_seconds": "0.01",
        }


def typed(*words: object, **settings: str) -> Ended:
    """Run a command in this process: what it says and its exit code are the same."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with (
        mock.patch.dict(os.environ, environment(settings), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main([*map(str, words)])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return Ended(code, out.getvalue(), err.getvalue())


def entry_of(item: Item) -> Any:
    return contract.entry(item.kind, as_dict(item))
