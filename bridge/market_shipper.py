"""How the market lane travels: many chunks in flight, each reply belongs to its entry.

What Redis refuses is counted and lost; what a lost connection leaves unanswered goes again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from bridge.core import resp
from bridge.core.lanes import Chunk, MarketLane
from bridge.core.resp import ProtocolError, Reply, ReplyError
from bridge.link import Link
from bridge.metrics import EVENT_TYPE_OF, Metrics
from bridge.refusals import PASSING, RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, Silence, remedy_of

log = structlog.get_logger("nautilus_bridge.market")

# A loop turn encodes at most this many chunks, so that the trading loop never waits long for us.
CHUNKS_PER_TURN_MAX: Final = 4


def _are_ids(replies: Sequence[Reply]) -> bool:
    """Return whether all replies look like stream ids, in two calls for all of them together."""
    try:
        return b"".join(replies).count(b"-") == len(replies)  # type: ignore[arg-type]
    except TypeError:
        return False


def _errors_in(replies: Sequence[Reply]) -> list[tuple[int, ReplyError]]:
    """Return the errors and their places. Raises ProtocolError for what is neither error nor id."""
    errors = []
    for index, reply in enumerate(replies):
        if isinstance(reply, ReplyError):
            errors.append((index, reply))
        elif not resp.is_id(reply):
            raise ProtocolError("Redis answered an entry with what is no receipt")
    return errors


class MarketShipper:
    """Sends the market lane."""

    def __init__(self, lane: MarketLane, metrics: Metrics, *, in_flight_max: int) -> None:
        self.lane = lane
        self.link: Link
        self.wake: Callable[[], None]
        self.in_flight = 0
        self._metrics = metrics
        self._in_flight_max = in_flight_max
        self._sent: deque[Chunk] = deque()
        self._silence = Silence()
        self._answered = 0
        self._paused = False
        self._retry_seconds = RETRY_SECONDS_MIN
        self._flagged: set[str] = set()

    def flush(self) -> bool:
        """Send up to a loop turn's worth; return whether more could be sent right away."""
        for _ in range(CHUNKS_PER_TURN_MAX):
            if self._paused or not self.link.is_up or self.in_flight >= self._in_flight_max:
                return False
            chunk = self.lane.take()
            if chunk is None:
                return False
            if not chunk.events:  # all of them were refused: work enough for a turn's quarter
                continue
            self._silence.on_write(first=not self._sent)
            self.in_flight += len(chunk.events)
            self._sent.append(chunk)
            self.link.write(chunk.data)
        return True

    async def prepare(self) -> None:
        """Have nothing to arrange: a connection is ready as it is."""

    def on_down(self) -> None:
        """Put what was not confirmed back: it goes again, possibly for the second time."""
        if self._sent:
            first = self._sent.popleft()
            self._sent.appendleft(replace(first, events=first.events[self._answered :]))
        self.lane.put_back(self._sent)
        self._sent.clear()
        self.in_flight = self._answered = 0

    def on_replies(self, replies: Sequence[Reply]) -> None:
        """Count the replies off against the chunks in flight, oldest first."""
        self._silence.on_answer()
        position, total = 0, len(replies)
        while position < total:
            if not self._sent:
                raise ProtocolError("Redis answered what was not asked")
            chunk = self._sent[0]
            due = len(chunk.events) - self._answered
            part = replies[position : position + due]
            self._check(chunk, part)
            position += len(part)
            self._answered += len(part)
            if self._answered == len(chunk.events):
                self._acknowledge(chunk)
        self.in_flight -= total

    @property
    def silent_seconds(self) -> float:
        """For how long Redis has owed an answer, 0 when it owes none."""
        return self._silence.seconds if self._sent else 0.0

    def _acknowledge(self, chunk: Chunk) -> None:
        self._sent.popleft()
        self._answered = 0
        seconds = (time.monotonic_ns() - chunk.opened_ns) / 1e9
        self._metrics.publish_latency_seconds["market"].observe(seconds)

    def _check(self, chunk: Chunk, part: Sequence[Reply]) -> None:
        kind = chunk.channel.kind
        errors = [] if _are_ids(part) else _errors_in(part)
        self._metrics.events_processed[EVENT_TYPE_OF[kind]].inc(len(part))
        self._metrics.market_published[kind].inc(len(part) - len(errors))
        if not errors:
            if self._retry_seconds > RETRY_SECONDS_MIN:
                self._recovered()
            return
        for index, error in errors:
            self._metrics.redis_errors[error.kind].inc()
            reason = "wrongtype" if error.kind == "wrongtype" else "refused"
            self._metrics.market_dropped[kind, reason].inc()
            stream = str(chunk.channel.stream_of(chunk.events[self._answered + index]))
            self._flag(stream, error)
        kinds = {error.kind for _, error in errors}
        if kinds & PASSING:
            self._pause()
        if any(error.is_elsewhere for _, error in errors):
            self.link.drop()  # the name may lead to the new primary by now

    def _flag(self, stream: str, error: ReplyError) -> None:
        """Say once a stream and kind what is wrong; the counter tells how often."""
        subject = error.kind if error.kind in PASSING else f"{stream} {error.kind}"
        if subject not in self._flagged:
            self._flagged.add(subject)
            remedy = remedy_of(error.kind)
            log.error(
                "market.refused", stream=stream, problem=error.message, dropped=True, remedy=remedy
            )

    def _pause(self) -> None:
        """Leave Redis alone for a moment; what waits conflates. A refused entry is not sent
        again: behind it newer ones of its stream may have been accepted."""
        if self._paused:
            return
        self._paused = True
        asyncio.get_running_loop().call_later(self._retry_seconds, self._resume)
        self._retry_seconds = min(self._retry_seconds * 2, RETRY_SECONDS_MAX)

    def _resume(self) -> None:
        self._paused = False
        self.wake()

    def _recovered(self) -> None:
        log.info("market.resumed")
        self._retry_seconds = RETRY_SECONDS_MIN
        self._flagged -= PASSING
