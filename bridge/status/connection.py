"""One HTTP connection of the status server, which nobody can hold open or fill without limit, nor
keep the loop busy with: trading runs in it."""

import asyncio
import re
from collections import deque
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX: Final = 64
# For a whole request to arrive, from its connection or the answer before; for an answer to be
# taken, once its buffer is full.
SECONDS_MAX: Final = 10.0
STREAMS: Final = ("/events",)

# What is parsed in one turn, and the time from one turn to the next, of all connections together.
TURN_BYTES: Final = 4096
TURN_SECONDS: Final = 0.002
HEAD_BYTES_MAX: Final = 1 << 14
HEAD_LINES_MAX: Final = 100
BLANK_LINE: Final = re.compile(rb"\n\r?\n")
# A target as clients send it to proxies: the authority, and the path with the query.
ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)


class Turns:
    """Lets connections go on one after the other, the first at once, however many want to."""

    def __init__(self) -> None:
        self._waiting: deque[Connection] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, connection: "Connection") -> None:
        """Call `take_turn` of a connection when it is its turn."""
        self._waiting.append(connection)
        if self._timer is None:
            self._next()

    def leave(self, connection: "Connection") -> None:
        """Forget that a connection asked."""
        self._waiting.remove(connection)

    def _next(self) -> None:
        self._timer = None
        if self._waiting:
            connection = self._waiting.popleft()
            self._timer = connection.loop.call_later(TURN_SECONDS, self._next)
            connection.take_turn()


class Requests(h11.Connection):
    """A parser of requests with nothing behind their heads: no request here has a body."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what the client says. Raises RemoteProtocolError, before any of a body is read."""
        if self.their_state is h11.IDLE:
            head, *_ = BLANK_LINE.split(self.trailing_data[0], maxsplit=1)
            if head.count(b"\n") > HEAD_LINES_MAX:
                raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
        event = super().next_event()
        if isinstance(event, h11.Request):
            told = dict(event.headers)  # of either there is one at most
            if b"transfer-encoding" in told or told.get(b"content-length", b"").strip(b"0"):
                raise h11.RemoteProtocolError("a body", error_status_hint=413)
            return _in_origin_form(event)
        return event


def _in_origin_form(request: h11.Request) -> h11.Request:
    """Return the request with a path as its target. An absolute one names the host: RFC 9112,
    section 3.2.2."""
    absolute = ABSOLUTE.fullmatch(request.target)
    if absolute is None:
        return request
    authority, target = absolute.groups()
    return h11.Request(
        method=request.method,
        target=target if target.startswith(b"/") else b"/" + target,
        headers=[(b"host", authority)] + [each for each in request.headers if each[0] != b"host"],
        http_version=request.http_version,
    )


class Connection(H11Protocol):
    """uvicorn's, with what it lacks: time limits, and bounds.

    Beyond CONNECTIONS_MAX the one that has been without a new request for the longest makes room: a
    probe is answered, however many hold connections open. Streams have a bound of their own.
    What arrives is parsed in turns, which connections `turns` gives.
    """

    _limit: asyncio.TimerHandle | None = None
    _since = 0.0
    _is_waiting = False

    def __init__(self, turns: Turns, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = Requests(h11.SERVER, HEAD_BYTES_MAX)
        self._turns = turns
        self._unread = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the first request has to follow."""
        super().connection_made(transport)
        self._await_request()
        others = [cast(Connection, each) for each in self.connections if each is not self]
        if len(others) >= CONNECTIONS_MAX:
            idle = [each for each in others if not each.is_streaming]
            min(idle or others, key=lambda each: each._since).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        if self._is_waiting:
            self._turns.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Keep what the client sends, and take no more until all of it was parsed."""
        self._unset_keepalive_if_required()
        self._unread += data
        self.flow.pause_reading()
        if not self.is_answering:
            self.handle_events()

    def handle_events(self) -> None:
        """Go on with what has arrived, when it is this one's turn."""
        if not self._is_waiting:
            self._is_waiting = True
            self._turns.ask(self)

    def take_turn(self) -> None:
        """Parse a little; answer a whole request."""
        self._is_waiting = False
        if self.transport.is_closing():
            return
        # Requests that came together are in the parser already.
        if self._unread and len(self.conn.trailing_data[0]) <= HEAD_BYTES_MAX:
            self.conn.receive_data(bytes(self._unread[:TURN_BYTES]))
            del self._unread[:TURN_BYTES]
        super().handle_events()
        if self.is_answering and not self.flow.write_paused:
            self._stop_waiting()
        if not self._unread:
            self.flow.resume_reading()
        elif not self.is_answering:
            self.handle_events()

    def on_response_complete(self) -> None:
        """Wait for the next request, and for the client to take this answer."""
        self._await_request()
        super().on_response_complete()
        if self._unread:
            self.flow.pause_reading()

    def pause_writing(self) -> None:
        """Give a client that reads too slowly some time."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self.is_answering:
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request to this server, and hang up."""
        super().send_400_response("no request, or one that is too long or has a body\n")

    @property
    def is_answering(self) -> bool:
        """Whether a request has arrived that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_streaming(self) -> bool:
        """Whether events are sent on it."""
        return self.is_answering and self.scope["path"] in STREAMS

    def abort(self) -> None:
        """Hang up, whatever was not sent yet."""
        self.connections.discard(self)
        self.transport.abort()

    def _await_request(self) -> None:
        self._since = self.loop.time()
        self._wait()

    def _wait(self) -> None:
        self._stop_waiting()
        self._limit = self.loop.call_later(SECONDS_MAX, self.abort)

    def _stop_waiting(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
