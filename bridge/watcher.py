"""Redis -> the controller: flags, mode and limits, seen within a millisecond of their SET.

One connection of its own. Redis pushes the names of changed keys (`CLIENT TRACKING`, else keyspace
events), then all keys are read, in one order, in one go; beside that they are polled, and read at
every connect. The same connection writes `bridge:state:<role>` once a second: what Redis accepts
there is the proof that it is alive, and no replica.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from bridge.controller import Controller
from bridge.core import control, resp
from bridge.core.control import MODE_KEY, WRONG_TYPE, Raw
from bridge.core.resp import ProtocolError, Push, Reply, ReplyError
from bridge.link import Link, RedisRefused, Target
from bridge.metrics import Metrics
from bridge.role_settings import ControlSettings

log = structlog.get_logger("nautilus_bridge.watcher")

# Where Redis pushes nothing.
PUSHLESS_POLL_SECONDS: Final = 0.01
BEAT_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 0.25
SILENT_SECONDS_MAX: Final = 5.0


class Watcher:
    """Keeps a controller told; `symbols` are those whose own position limits are read."""

    def __init__(
        self,
        target: Target,
        role: str,
        controller: Controller,
        metrics: Metrics,
        settings: ControlSettings,
        *,
        symbols: Sequence[str],
        backoff_seconds_max: float,
    ) -> None:
        self.via = "nothing yet"
        self._db = target.db
        self._probe_key = f"bridge:probe:{role}"
        self._controller = controller
        self._metrics = metrics
        self._settings = settings
        self._keys = (*controller.keys.reads, *control.limit_keys(symbols))
        self._read_command = b"".join([resp.command("GET", key) for key in self._keys])
        # Changes of what this process writes itself are no news.
        self._prefixes = (MODE_KEY, "features:", "risk:", *controller.keys[1:4])
        self._link = Link(
            target,
            name="control",
            backoff_seconds_max=backoff_seconds_max,
            prepare=self._prepare,
            on_up=lambda: None,
            on_replies=self._on_replies,
            on_down=self._on_down,
            on_error=lambda kind: metrics.redis_errors[kind].inc(),
        )
        self._due: deque[Callable[[Reply], None]] = deque()
        self._pushed = asyncio.Event()
        self._is_ready = False
        self._read: list[Reply] = []
        self._is_reading = self._reads_again = False
        self._asked_at = self._beat_at = 0.0
        self._clock = asyncio.get_running_loop().time
        self._fresh_at: float | None = None
        self._problem = ""
        self._beat_seconds = min(BEAT_SECONDS, settings.link_timeout_seconds / 3)
        controller.on_change = self._write_soon

    async def run(self) -> None:
        """Watch until cancelled. Raises what the controller ends with."""
        tasks = [asyncio.create_task(self._link.run()), asyncio.create_task(self._tick())]
        try:
            await asyncio.gather(*tasks, self._controller.failure)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # The connection.

    async def _prepare(self) -> None:
        """Find out how Redis tells of changes, then read. Raises RedisRefused."""
        was, self.via = self.via, await self._subscribe()
        self._metrics.control_pushed.set(self.via != "poll")
        if self.via != was:
            log.info("control.watching", via=self.via, poll_seconds=self._poll_seconds)
        self._is_ready = True
        self._ask_all()

    async def _subscribe(self) -> str:
        """Return how changes are heard of: `tracking`, `keyspace` or `poll`, by trying."""
        try:
            await self._ask("HELLO", "3")
        except RedisRefused:
            return "poll"
        prefixes = [word for prefix in self._prefixes for word in ("PREFIX", prefix)]
        try:
            await self._ask("CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP", *prefixes)
            return "tracking"
        except RedisRefused as refused:
            log.info("control.no_tracking", problem=str(refused))
        return "keyspace" if await self._hears_keyspace() else "poll"

    async def _hears_keyspace(self) -> bool:
        """Subscribe to keyspace events, and return whether one arrives."""
        keys = (*[f"{prefix}*" for prefix in self._prefixes], self._probe_key)
        self._link.write(
            resp.command("PSUBSCRIBE", *[f"__keyspace@{self._db}__:{key}" for key in keys])
        )
        self._pushed.clear()
        try:
            await self._ask("SET", self._probe_key, "1", "PX", "1000")
            async with asyncio.timeout(PROBE_SECONDS):
                await self._pushed.wait()
        except (RedisRefused, TimeoutError):
            return False
        return True

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
        self._is_ready = self._is_reading = self._reads_again = False

    def _on_replies(self, replies: Sequence[Reply]) -> None:
        is_news = False
        for reply in replies:
            if not isinstance(reply, Push):
                if not self._due:
                    raise ProtocolError("Redis answered what was not asked")
                self._due.popleft()(reply)
            elif reply and reply[0] in (b"invalidate", b"pmessage"):
                is_news = True
                self._pushed.set()
        if is_news and self._is_ready:
            self._ask_all()

    # Reading.

    def _ask_all(self) -> None:
        """Read every key, now or right behind the read that is under way."""
        if self._is_reading:
            self._reads_again = True
            return
        self._is_reading = True
        self._asked_at = self._clock()
        self._read = []
        self._due.extend([self._read.append] * (len(self._keys) - 1))
        self._due.append(self._take)
        self._link.write(self._read_command)

    def _take(self, last: Reply) -> None:
        """Hand a whole read on, then write what comes of it."""
        self._read.append(last)
        self._is_reading = False
        refused = [each for each in self._read if _is_refusal(each)]
        if refused:
            assert isinstance(refused[0], ReplyError)
            self._problem = refused[0].message
        else:
            self._controller.take(dict(zip(self._keys, map(_raw, self._read), strict=True)))
            if self._controller.puts:
                self._put()
                return
        if self._reads_again:
            self._reads_again = False
            self._ask_all()
        elif self._controller.is_dirty or self._clock() - self._beat_at >= self._beat_seconds:
            self._write(proves=not refused)

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
            self._write(proves=False)
        else:
            self._ask_all()

    def _note(self, reply: Reply) -> None:
        if isinstance(reply, ReplyError):
            self._problem = reply.message
            if reply.kind == "readonly":
                self._link.drop()  # the name may lead to the new primary by now

    def _write_soon(self) -> None:
        if self._is_ready and not self._is_reading:
            self._write(proves=False)

    def _write(self, *, proves: bool) -> None:
        """Write the state. `proves`: with a read right before it, Redis can be relied on."""
        controller = self._controller
        controller.is_dirty = False
        sent_at = self._beat_at = self._clock()

        def settle(reply: Reply) -> None:
            self._note(reply)
            if proves and not isinstance(reply, ReplyError):
                self._fresh_at = sent_at
                self._problem = ""
                controller.link(None)
                if controller.is_dirty:
                    self._write(proves=False)

        self._due.append(settle)
        self._link.write(resp.command("HSET", controller.keys.state, *controller.fields()))

    # Time.

    @property
    def _poll_seconds(self) -> float:
        seconds = self._settings.poll_seconds
        return min(seconds, PUSHLESS_POLL_SECONDS) if self.via == "poll" else seconds

    async def _tick(self) -> None:
        """Poll, and close the gates when Redis has accepted nothing for too long."""
        timeout = self._settings.link_timeout_seconds
        while True:
            pause = self._poll_seconds
            if self._fresh_at is not None:
                pause = min(pause, max(0.001, self._fresh_at + timeout - self._clock()))
            await asyncio.sleep(pause)
            now = self._clock()
            if self._fresh_at is not None and now - self._fresh_at >= timeout:
                self._fresh_at = None
                why = self._link.problem or self._problem or "it does not answer"
                self._controller.link(f"no write accepted by Redis for {timeout:g} s: {why}")
            if not self._is_ready:
                continue
            if self._is_reading and now - self._asked_at > SILENT_SECONDS_MAX:
                self._link.drop()
            elif not self._is_reading:
                self._ask_all()


def _is_refusal(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and reply.code != "WRONGTYPE"


def _raw(reply: Reply) -> Raw:
    return reply if isinstance(reply, bytes) or reply is None else WRONG_TYPE
