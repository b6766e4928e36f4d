"""Redis -> the controller: flags, mode and limits, seen within a millisecond of their SET.

One connection of its own. Redis pushes the names of changed keys (`CLIENT TRACKING`, else keyspace
events), then all keys are read, in one order, in one go; beside that they are polled, and read at
every connect. The same connection writes `bridge:state:<role>` once a second: what Redis accepts
there is the proof that it is alive, and no replica. Each node of a Cluster where a key that is read
lies has to accept a key of its own beside it, `bridge:state:<role>:{<key>}`.
"""

import asyncio
import functools
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from bridge.cluster_link import link_to
from bridge.controller import STATE_SECONDS_MAX, Controller
from bridge.core import control, resp
from bridge.core.control import MODE_KEY, WRONG_TYPE, Raw
from bridge.core.resp import ProtocolError, Push, Reply, ReplyError
from bridge.endpoints import Cluster, Endpoint
from bridge.former import FormerPrimary, Left, Said
from bridge.link import RedisRefused
from bridge.metrics import Metrics
from bridge.role_settings import ControlSettings
from bridge.target import Target

log = structlog.get_logger("nautilus_bridge.watcher")

# Where Redis pushes nothing.
PUSHLESS_POLL_SECONDS: Final = 0.01
BEAT_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 0.25
TRIES_MAX: Final = 3
SILENT_SECONDS_MAX: Final = 5.0


class Watcher:
    """Keeps a controller told; `symbols` are those whose own position limits are read."""

    def __init__(
        self,
        endpoint: Endpoint,
        role: str,
        controller: Controller,
        metrics: Metrics,
        settings: ControlSettings,
        *,
        symbols: Sequence[str],
        backoff_seconds_max: float,
    ) -> None:
        self.via = "nothing yet"
        self._db = endpoint.db
        self._probe_key = f"bridge:probe:{role}"
        self._controller = controller
        self._metrics = metrics
        self._settings = settings
        self._keys = (*controller.keys.reads, *control.limit_keys(symbols))
        self._watched = frozenset([key.encode() for key in self._keys])
        # That of the latch is that of the mode.
        self._tags = self._keys[1:]
        self._read_command = b"".join([resp.command("GET", key) for key in self._keys])
        # Changes of what this process writes itself are no news.
        self._prefixes = (MODE_KEY, "features:", "risk:", *controller.keys[1:4])
        self._link = link_to(
            endpoint,
            name="control",
            backoff_seconds_max=backoff_seconds_max,
            prepare=self._prepare,
            on_up=lambda: None,
            on_replies=self._on_replies,
            on_down=self._on_down,
            on_error=lambda kind: metrics.redis_errors[kind].inc(),
        )
        self._former = FormerPrimary(self._take_former)
        self._primary: Target | None = None
        self._due: deque[Callable[[Reply], None]] = deque()
        self._probed = asyncio.Event()
        self._written = asyncio.Event()
        self._tries: Counter[str] = Counter()
        if isinstance(endpoint, Cluster):  # of whose nodes some may tell, and others not
            self._tries["keyspace"] = TRIES_MAX
        self._is_ready = False
        self._read: list[Reply] = []
        # The last read of this primary that was not refused in part.
        self._whole: list[Reply] = [None] * len(self._keys)
        # From a read to what is written because of it; what happens meanwhile is read behind that.
        self._is_busy = self._asks_again = False
        self._asked_at = 0.0
        self._beat_at = -math.inf
        self._clock = asyncio.get_running_loop().time
        self._fresh_at: float | None = None
        self._problem = ""
        self._logged: set[str] = set()
        self._beat_seconds = min(BEAT_SECONDS, settings.link_timeout_seconds / 3)
        controller.on_change = self._ask_soon

    async def run(self) -> None:
        """Watch until cancelled. Raises what the controller ends with."""
        parts = (self._link.run(), self._tick(), self._former.run())
        tasks = [asyncio.create_task(each) for each in parts]
        try:
            await asyncio.gather(*tasks, self._controller.failure)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # The connection.

    async def _prepare(self) -> None:
        """Find out how Redis tells of changes, then read, and write: a replica refuses that.

        Raises RedisRefused.
        """
        self._note_primary()
        was, self.via = self.via, await self._subscribe()
        self._metrics.control_pushed.set(self.via != "poll")
        if self.via != was:
            log.info("control.watching", via=self.via, poll_seconds=self._poll_seconds)
        self._written.clear()
        self._is_ready = True
        self._ask_all()
        await self._written.wait()

    def _note_primary(self) -> None:
        """Where another one is the primary now, hear who halts at the one before."""
        was, self._primary = self._primary, self._link.target
        if was is not None and was != self._primary:
            said = dict(zip(self._keys, self._whole, strict=True))
            halts = (MODE_KEY, self._controller.keys.halt)
            self._former.leave(Left(was, {key: said[key] for key in halts}))
            self._whole = [None] * len(self._keys)

    def _take_former(self, target: Target, said: Said) -> None:
        """Take what is stricter at a primary that others have replaced."""
        log.warning("control.former", redis=target.where, changed=sorted(said))
        self._controller.take_part({key: _raw(x) for key, x in said.items() if not _is_refusal(x)})
        self._ask_soon()

    async def _subscribe(self) -> str:
        """Return how changes are heard of: `tracking`, `keyspace` or `poll`, by trying."""
        prefixes = [word for prefix in self._prefixes for word in ("PREFIX", prefix)]
        tracking = ("CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP", *prefixes)
        if not await self._can("RESP3", lambda: self._ask("HELLO", "3")):
            return "poll"
        if await self._can("tracking", lambda: self._ask(*tracking)):
            return "tracking"
        return "keyspace" if await self._can("keyspace", self._hear_keyspace) else "poll"

    async def _can(self, what: str, attempt: Callable[[], Awaitable[object]]) -> bool:
        """Return whether Redis does something. What it refuses, or hangs up on time and again, it
        is not asked for any more."""
        if self._tries[what] == TRIES_MAX:
            return False
        self._tries[what] += 1
        try:
            await attempt()
        except (RedisRefused, TimeoutError) as error:
            self._tries[what] = TRIES_MAX
            log.info("control.cannot", what=what, problem=str(error) or "nothing was heard")
            return False
        self._tries[what] = 0
        return True

    async def _hear_keyspace(self) -> None:
        """Subscribe to keyspace events. Raises RedisRefused; TimeoutError when none arrives."""
        self._probed.clear()
        for key in (*self._keys, self._probe_key):
            await self._ask("SUBSCRIBE", f"__keyspace@{self._db}__:{key}")
        await self._ask("SET", self._probe_key, "1", "PX", "1000")
        async with asyncio.timeout(PROBE_SECONDS):
            await self._probed.wait()

    async def _ask(self, *words: str) -> Reply:
        """Send a command and return its answer. Raises RedisRefused for an error."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def settle(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        self._due.append(settle)
        self._link.write(resp.command(*words))
        reply = await future
        if isinstance(reply, ReplyError):
            raise RedisRefused(reply)
        return reply

    def _on_down(self) -> None:
        self._due.clear()
        self._is_ready = self._is_busy = self._asks_again = False
        self._beat_at = -math.inf
        self._logged.clear()

    def _on_replies(self, replies: Sequence[Reply]) -> None:
        is_news = False
        for reply in replies:
            # The answer to SUBSCRIBE is a push, too.
            if isinstance(reply, Push) and reply[:1] != [b"subscribe"]:
                is_news = self._is_news(reply) or is_news
            elif self._due:
                self._due.popleft()(reply)
            else:
                raise ProtocolError("Redis answered what was not asked")
        if is_news:
            self._ask_soon()

    def _is_news(self, push: Push) -> bool:
        """Return whether a push is of a key that is read: others may change all the time."""
        match push:
            case [b"invalidate", [*keys]]:
                return not self._watched.isdisjoint(keys)
            case [b"invalidate", None]:  # FLUSHALL
                return True
            case [b"message", bytes() as channel, _]:
                key = channel.partition(b":")[2]
                if key == self._probe_key.encode():
                    self._probed.set()
                return key in self._watched
        return False

    # Reading.

    def _ask_soon(self) -> None:
        if self._is_ready:
            self._ask_all()

    def _ask_all(self) -> None:
        """Read every key, now or right behind the read that is under way."""
        if self._is_busy:
            self._asks_again = True
            return
        self._is_busy = True
        self._asked_at = self._clock()
        self._read_all()

    def _read_all(self) -> None:
        self._read = []
        self._due.extend([self._read.append] * (len(self._keys) - 1))
        self._due.append(self._take)
        self._link.write(self._read_command)

    def _take(self, last: Reply) -> None:
        """Hand a read on, then write what comes of it."""
        self._read.append(last)
        if any(map(_is_refusal, self._read)):
            self._take_part()
            return
        self._whole = self._read
        self._controller.take(dict(zip(self._keys, map(_raw, self._read), strict=True)))
        self._proceed(proves=True)

    def _take_part(self) -> None:
        """Hand on what came of a read of which some was refused, then seek the rest where the
        Cluster moves it to: each key of a slot that moves is refused as soon as it is not here."""
        read = dict(zip(self._keys, self._read, strict=True))
        refused = {key: each for key, each in read.items() if _is_refusal(each)}
        self._controller.take_part({k: _raw(each) for k, each in read.items() if k not in refused})
        asked = [key for key, each in refused.items() if self._link.seek(key, each)]
        for key in asked:
            self._due.append(self._note)  # of ASKING
            is_last = key == asked[-1]
            self._due.append(functools.partial(self._take_found, refused, key, is_last))
        if not asked:
            self._end_part(refused)

    def _take_found(self, refused: dict[str, Reply], key: str, is_last: bool, found: Reply) -> None:
        """Hand on what a key has become where it moves to."""
        if not _is_refusal(found):
            del refused[key]
            self._controller.take_part({key: _raw(found)})
        if is_last:
            self._end_part(refused)

    def _end_part(self, refused: Mapping[str, Reply]) -> None:
        """Close the gates where that which halts could not be read."""
        unread = [
            key
            for key in self._controller.keys.stops
            if key in refused and _is_moving(refused[key])
        ]
        if unread:
            self._fresh_at = None
            self._controller.link(f"Redis moves {', '.join(unread)} at this moment")
        for each in refused.values():
            self._note(each)
        self._proceed(proves=False)

    def _proceed(self, *, proves: bool) -> None:
        if self._controller.puts:
            self._put()
        else:
            self._end(proves=proves)

    def _end(self, *, proves: bool) -> None:
        """Write the state if it is time to, and read again if something has happened meanwhile."""
        self._is_busy = False
        # A timer may be early by a rounding.
        is_due = self._asked_at - self._beat_at >= 0.9 * self._beat_seconds
        if self._controller.is_dirty or is_due:
            self._write(proves=proves)
        if self._asks_again:
            self._asks_again = False
            self._ask_all()

    # Writing.

    def _put(self) -> None:
        """Write what the controller wants kept, then read again: the state that is told has to be
        that of a Redis that holds it."""
        puts, self._controller.puts = self._controller.puts, []
        self._due.extend([self._note] * (len(puts) - 1))
        self._due.append(self._put_done)
        self._link.write(b"".join([resp.command(*words) for words in puts]))

    def _put_done(self, reply: Reply) -> None:
        self._note(reply)
        if isinstance(reply, ReplyError):
            self._end(proves=False)
        else:
            self._read_all()

    def _note(self, reply: Reply) -> None:
        if not isinstance(reply, ReplyError):
            return
        self._problem = reply.message
        if reply.is_elsewhere:
            self._link.fail(RedisRefused(reply))  # the name may lead to the new primary by now
        elif reply.message not in self._logged:
            self._logged.add(reply.message)
            self._metrics.redis_errors[reply.kind].inc()
            log.error("control.refused", kind=reply.kind, problem=reply.message)

    def _write(self, *, proves: bool) -> None:
        """Write the state. `proves`: behind the read before it, Redis can be relied on."""
        controller = self._controller
        controller.is_dirty = False
        self._beat_at = asked_at = self._asked_at

        answers: list[Reply] = []

        def settle(reply: Reply) -> None:
            """Take Redis's answer to the last of the writes."""
            answers.append(reply)
            for each in answers:
                self._note(each)
            self._written.set()
            is_refused = any(isinstance(each, ReplyError) for each in answers)
            # What was read so long ago may not hold any more, whatever was written since.
            is_late = self._clock() - asked_at >= self._timeout_seconds
            if not proves or is_late or is_refused:
                return
            self._fresh_at = asked_at
            self._problem = ""
            controller.link(None)
            if controller.is_dirty:
                self._ask_soon()

        key, began = controller.keys.state, time.time()
        # A node that others have replaced may let read for ever, but it takes no writes.
        beats = [f"{key}:{{{each}}}" for each in self._link.one_of_each_node(self._tags)]
        lasts_ms = round(STATE_SECONDS_MAX * 1000)
        for beat in beats:
            self._due.extend((answers.append, self._note))
            self._link.write(
                resp.command("HSET", beat, "heartbeat_ns", time.time_ns())
                + resp.command("PEXPIRE", beat, lasts_ms)
            )
        self._due.extend((settle, self._note, lambda reply: self._compare_clocks(began, reply)))
        self._link.write(
            resp.command("HSET", key, *controller.fields())
            + resp.command("PEXPIRE", key, lasts_ms)
            + resp.command("TIME")
        )

    def _compare_clocks(self, began: float, reply: Reply) -> None:
        """Take Redis's clock, which numbers the streams, as read halfway: Cristian's method.

        A user that may not call TIME goes without.
        """
        match reply:
            case [bytes() as seconds, bytes() as micros]:
                halfway = (began + time.time()) / 2
                self._metrics.redis_clock_ahead.set(int(seconds) + int(micros) / 1e6 - halfway)

    # Time.

    @property
    def _timeout_seconds(self) -> float:
        return self._settings.link_timeout_seconds

    @property
    def _poll_seconds(self) -> float:
        seconds = min(self._settings.poll_seconds, self._beat_seconds)
        return min(seconds, PUSHLESS_POLL_SECONDS) if self.via == "poll" else seconds

    async def _tick(self) -> None:
        """Poll, and close the gates when Redis has accepted nothing for too long."""
        timeout = self._timeout_seconds
        while True:
            # Until it is known how Redis tells of changes a poll may be needed soon.
            pause = self._poll_seconds if self._is_ready else PUSHLESS_POLL_SECONDS
            if self._fresh_at is not None:
                pause = min(pause, max(0.001, self._fresh_at + timeout - self._clock()))
            await asyncio.sleep(pause)
            now = self._clock()
            if self._fresh_at is not None and now - self._fresh_at >= timeout:
                self._fresh_at = None
                why = self._link.problem or self._problem or "it does not answer"
                self._controller.link(f"no write accepted by Redis for {timeout:g} s: {why}")
            if not self._is_busy:
                self._ask_soon()
            elif now - self._asked_at > SILENT_SECONDS_MAX:
                self._link.drop()


def _is_refusal(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and reply.code != "WRONGTYPE"


def _is_moving(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and reply.code in ("ASK", "TRYAGAIN")


def _raw(reply: Reply) -> Raw:
    return reply if isinstance(reply, bytes) or reply is None else WRONG_TYPE
