"""Server-sent events: the page's document to everybody who looks on, made once for all of them.

Nothing is made while nobody looks on. Who is slow misses documents, and takes no memory for them.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

import structlog
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

log = structlog.get_logger("nautilus_bridge.status")

CLIENTS_MAX: Final = 16
# Between two looks at whether something has changed, and between two documents.
LOOK_SECONDS: Final = 0.05
EVENT_SECONDS: Final = 1.0
RETRY_MS: Final = 500
HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # a proxy is to pass them on at once
]


class Events:
    """An ASGI endpoint. `document` makes what is sent, `state` what is sent at once when it is
    another one than before, `on_late` is told how late the loop came to each look."""

    def __init__(
        self,
        document: Callable[[], bytes],
        state: Callable[[], object],
        on_late: Callable[[float], object],
    ) -> None:
        self._document = document
        self._state = state
        self._on_late = on_late
        self._clients = 0
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._number = 0
        self._event = b""
        self._made_at = -math.inf
        self._seen: object = None
        self._is_closed = False
        self._has_failed = False

    async def run(self) -> None:
        """Make documents until canceled, while somebody looks on."""
        clock = asyncio.get_running_loop().time
        while True:
            if not self._clients:
                self._wanted.clear()
                await self._wanted.wait()
            due = clock() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._on_late(max(0.0, clock() - due))
            is_due = clock() - self._made_at >= EVENT_SECONDS
            if self._clients and (is_due or self._has_changed()):
                self._make()

    def close(self) -> None:
        """End all streams, each behind the event it is at."""
        self._is_closed = True
        self._tell()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: with a stream, or 503 when there are too many.

        Who has a place keeps it. Were the oldest to make room, its page would come again and take
        the next one's, and so on without end.
        """
        if self._clients >= CLIENTS_MAX or self._is_closed:
            said = f"{CLIENTS_MAX} pages look on already; close one\n"
            refusal = PlainTextResponse(said, 503, headers={"retry-after": "5"})
            await refusal(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b""})
            return
        self._clients += 1
        gone = asyncio.create_task(_gone(receive))
        try:
            await self._stream(send, gone)
        finally:
            self._clients -= 1
            gone.cancel()

    async def _stream(self, send: Send, gone: asyncio.Task[None]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        if asyncio.get_running_loop().time() - self._made_at >= LOOK_SECONDS:
            self._make()  # however often somebody comes and goes
        self._wanted.set()
        known, event = 0, b"retry: %d\n\n" % RETRY_MS
        while not (gone.done() or self._is_closed):
            if self._number != known:
                known, event = self._number, event + self._event
            await send({"type": "http.response.body", "body": event, "more_body": True})
            event = b""
            if self._number == known:
                await self._news.wait()
        await send({"type": "http.response.body", "body": b""})

    def _has_changed(self) -> bool:
        try:
            return self._state() != self._seen
        except Exception:  # noqa: BLE001 - `_make` tells of it within a second
            return False

    def _make(self) -> None:
        """Make the next event; a comment, which keeps a proxy from hanging up, when it fails."""
        self._made_at = asyncio.get_running_loop().time()
        try:
            self._seen = self._state()
            text = self._document()
            self._number += 1
            self._event = b"id: %d\ndata: %b\n\n" % (self._number, text)
        except Exception:
            self._number += 1
            self._event = b": heartbeat\n\n"
            if not self._has_failed:
                log.exception("status.document_failed")
            self._has_failed = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


async def _gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
