"""The thread that waits for the disk, so that the trading loop does not."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bridge.core.lanes import CannotRecord
from bridge.journal import Journal


class Disk:
    """Has a journal made durable on a thread of its own, one request at a time."""

    def __init__(self, journal: Journal, on_synced: Callable[[], None]) -> None:
        self._journal = journal
        self._on_synced = on_synced
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bridge.journal")
        # The loop that waits for an answer. One that ended before it came waits no more.
        self._asking: asyncio.AbstractEventLoop | None = None

    def sync_soon(self) -> None:
        """Have what is written made durable, and a used-up reserve replaced."""
        if self._journal.needs_sync or self._journal.reserve_is_due:
            loop = asyncio.get_running_loop()
            if self._asking is not loop:
                self._asking = loop
                self._thread.submit(self._run, loop)

    def _work(self) -> None:
        """Both in one go: under load there is always something to sync."""
        if self._journal.needs_sync:
            self._journal.sync()
        if self._journal.reserve_is_due:
            self._journal.make_reserve()

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._work()
        except CannotRecord:
            pass  # the journal has told it
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended; another one may follow
                loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self._asking = None
        self._on_synced()
